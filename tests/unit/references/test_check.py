import json

import pytest

from mentor_pl.cli.references import main
from mentor_pl.errors import DataFileError, UsageError
from mentor_pl.references.check import check_references
from mentor_pl.rewards.correct import Correct

SPEC = {
    "name": "add",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
        "required": ["a", "b"],
    },
}


def row(n, **changes):
    call = {"name": "add", "arguments": {"a": n, "b": 100}}
    base = {"id": f"r{n}", "prompt": f"{n} + 100?", "answer": n + 100, "tools": [SPEC], "tool_calls": [call]}
    return {**base, **changes}


def checked(tmp_path, *rows, **options):
    path = tmp_path / "refs.jsonl"
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return check_references(path, **options)


def counts(findings):
    return {kind: finding.count for kind, finding in findings.items()}


def test_statistics_of_a_sound_file(tmp_path):
    twice = row(2, tool_calls=row(2)["tool_calls"] * 2, teacher="oracle", domain="sums")
    report = checked(tmp_path, row(1), twice, row(3, id="r2b", prompt="2 + 100?", answer=102))
    assert report.ok
    assert (report.references, report.prompts) == (3, 2)
    assert report.calls_per_reference == {1: 2, 2: 1}
    assert report.called == {"add": 4}
    assert report.used_in == {"add": 3}
    assert report.offered == {"add": 3}
    assert report.teachers == {"not named": 2, "oracle": 1}
    assert report.domains == {"not named": 2, "sums": 1}
    assert counts(report.warnings) == {}


@pytest.mark.parametrize(
    ("second", "kind"),
    [
        ("{", "unreadable line"),
        ({"id": "x"}, "unreadable line"),
        (row(2, id="r1"), "an id stands twice"),
        (row(1, id="x", answer=7), "references of one prompt differ in answer or tools"),
        (row(1, id="x", tools=[SPEC, "ceil"]), "references of one prompt differ in answer or tools"),
        (row(2, tool_calls=["ceil"]), "a call names a tool that is not offered"),
        (
            row(2, tool_calls=[{"name": "add", "arguments": {"a": "two", "b": 1}}]),
            "arguments do not fit the tool's schema",
        ),
        (
            row(2, tools=[{"name": "add", "parameters": {"type": "dict"}}]),
            "a tool's parameters are no JSON Schema",
        ),
    ],
)
def test_faults_are_found(tmp_path, second, kind):
    report = checked(tmp_path, row(1), second)
    assert counts(report.faults) == {kind: 1}
    assert not report.ok


@pytest.mark.parametrize(
    ("second", "kind"),
    [
        (row(1, id="x"), "a solution stands twice"),
        (row(2, prompt="2 + 100 is 102, is it not?"), "the answer stands in the prompt"),
        (row(2, answer=""), "there is no answer: Correct and TextAnswer have nothing to compare with"),
        (row(2, tool_calls=[]), "the teacher calls no tool"),
    ],
)
def test_what_looks_odd_is_a_warning(tmp_path, second, kind):
    report = checked(tmp_path, row(1), second)
    assert counts(report.warnings) == {kind: 1}
    assert report.ok


@pytest.mark.parametrize("prompt", ["1102 + 100?", "1.102?", "102.5?", "a102?"])
def test_a_number_within_another_is_no_leak(tmp_path, prompt):
    assert counts(checked(tmp_path, row(2, prompt=prompt)).warnings) == {}


def test_prompts_of_the_evaluation_files_are_leaks_whatever_their_spacing(tmp_path):
    held_out = tmp_path / "eval.jsonl"
    held_out.write_text(json.dumps(row(2, prompt=" 2  + 100? ")) + "\n")
    report = checked(tmp_path, row(1), row(2), against=[held_out])
    assert counts(report.faults) == {"the prompt is one of the evaluation files' too": 1}


def test_solutions_are_judged_on_request(tmp_path):
    messages = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "\\boxed{3}"}]
    wrong = row(2, id="w", messages=messages, answer=2)
    del wrong["prompt"], wrong["tool_calls"]
    assert checked(tmp_path, row(1), wrong).ok
    assert counts(checked(tmp_path, row(1), wrong, judges=[Correct()]).faults) == {"replay: Correct does not hold": 1}


def test_the_command_prints_findings_and_exits_with_1(tmp_path, capsys):
    path = tmp_path / "refs.jsonl"
    path.write_text(json.dumps(row(1)) + "\n")
    main(["check", str(path)])
    assert "1 references of 1 prompts" in capsys.readouterr().out
    path.write_text(json.dumps(row(1)) + "\nbad\n")
    with pytest.raises(SystemExit) as exit_:
        main(["check", str(path)])
    assert exit_.value.code == 1
    out = capsys.readouterr().out
    assert "mend: unreadable line: 1" in out
    assert f"{path}:2: expected one JSON object" in out


def test_the_command_converts_by_name(tmp_path, capsys):
    source = tmp_path / "train.jsonl"
    source.write_text(json.dumps({"question": "1 + 2?", "answer": "<<1+2=3>>3\n#### 3"}) + "\n")
    main(["convert", "--from", "gsm8k", "--input", str(source), "--output", str(tmp_path / "refs.jsonl")])
    assert "1 references (100.0%) written" in capsys.readouterr().out
    main(["check", str(tmp_path / "refs.jsonl"), "--judge", "Correct"])
    with pytest.raises(UsageError, match="invalid choice: 'csv'"):
        main(["convert", "--from", "csv", "--input", str(source), "--output", str(tmp_path / "x.jsonl")])
    with pytest.raises(DataFileError, match="no-such.jsonl: cannot be read"):
        main(["convert", "--from", "gsm8k", "--input", "no-such.jsonl", "--output", str(tmp_path / "x.jsonl")])
