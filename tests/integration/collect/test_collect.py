"""`mentor-pl collect` against a real HTTP server process that fails in every way that endpoints fail."""

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from mentor_pl.files import read_references

pytest.importorskip("openai")
pytestmark = pytest.mark.integration

KEY = "sk-test-0123456789abcdef"
ENDPOINT = Path(__file__).with_name("endpoint.py")


@contextmanager
def endpoint(log, *options):
    process = subprocess.Popen([sys.executable, str(ENDPOINT), str(log), *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
    finally:
        process.kill()
        process.wait()


def write_prompts(path, count, extra=()):
    prompts = [f"What is ({n} + {n + 1}) * {n % 7 + 2}?" for n in range(count)]
    answers = [(n + n + 1) * (n % 7 + 2) for n in range(count)]
    rows = [
        {"id": f"p{n}", "prompt": prompt, "answer": answer}
        for n, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
    ]
    rows += extra
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def start(folder, url, *arguments, teacher=None, **sections):
    config = {
        "teacher": {
            "class_path": "OpenAITeacher",
            "init_args": {
                "model": "sums",
                "base_url": url,
                "max_backoff_s": 0.02,
                "timeout_s": 4.0,  # from the first byte to the last; machines are shared
                **(teacher or {}),
            },
        },
        "tools": [{"class_path": "PythonFunctions", "init_args": {"module": "mentor_pl.tools.arithmetic"}}],
        **sections,
    }
    folder.mkdir(exist_ok=True)
    (folder / "collect.yaml").write_text(yaml.safe_dump(config))
    command = "import sys; from mentor_pl.cli.collect import main; main(sys.argv[1:])"
    files = ["--config", folder / "collect.yaml", "--output", folder / "refs.jsonl"]
    return subprocess.Popen(
        [sys.executable, "-c", command, *map(str, files), *map(str, arguments)],
        env={**os.environ, "OPENAI_API_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def collect(folder, url, prompts, **options):
    process = start(folder, url, "--prompts", prompts, **options)
    return process.communicate()[0], process.returncode


def log_rows(log):
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def paid(log):
    return Counter(row["digest"] for row in log_rows(log) if row["done"] == "paid")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Prompts, and the bytes of the references that an endpoint without faults gives."""
    folder = tmp_path_factory.mktemp("calm")
    prompts = write_prompts(folder / "prompts.jsonl", 40)
    with endpoint(folder / "log") as url:
        output, code = collect(folder / "run", url, prompts)
    assert code == 0, output
    assert len(read_references(folder / "run" / "refs.jsonl")) == 40
    return prompts, (folder / "run" / "refs.jsonl").read_bytes()


@pytest.mark.parametrize("bills_keys_once", [False, True])
def test_faults_and_kills_change_nothing_and_nothing_is_paid_for_twice(tmp_path, undisturbed, bills_keys_once):
    prompts, calm = undisturbed
    log, victim = tmp_path / "storm.log", tmp_path / "victim"
    storm = ["--fault-rate", "0.3", "--kill-at", "15,60,110", "--victim-file", str(victim)]
    codes = []
    with endpoint(log, *storm, *(["--bill-keys-once"] if bills_keys_once else [])) as url:
        while len(codes) < 10 and (not codes or codes[-1] != 0):
            process = start(tmp_path / "storm", url, "--prompts", prompts)
            victim.write_text(str(process.pid))
            output = process.communicate()[0]
            codes.append(process.returncode)
    assert codes == [-9, -9, -9, 0], output
    assert (tmp_path / "storm" / "refs.jsonl").read_bytes() == calm

    rows = log_rows(log)
    done = Counter(row["done"] for row in rows)
    for fault in ("429", "500", "503", "timeout", "cut", "garbage", "no_choices"):
        assert done[fault] > 0, done
    answered = done["paid"] + done["orphaned"] + done["known"]
    assert 0.2 < 1 - answered / done.total() < 0.4
    # What was delivered is never asked again. What was under way at a kill must be, and an endpoint that does not know
    # idempotency keys may bill it twice: at most one request for each of the 8 threads.
    conversations = 3 * 40  # two calls and an answer for each prompt
    assert set(paid(log).values()) == {1}
    assert 0 < done["orphaned"] <= 3 * 8
    if bills_keys_once:
        assert done["paid"] + done["orphaned"] == conversations
    else:
        assert len(paid(log)) == conversations


def test_a_request_that_is_sent_again_carries_the_same_key(tmp_path):
    prompts = write_prompts(tmp_path / "prompts.jsonl", 10)
    log = tmp_path / "log"
    with endpoint(log, "--fault-rate", "0.5") as url:
        output, code = collect(tmp_path / "run", url, prompts)
    assert code == 0, output
    keys: dict[str, set[str]] = {}
    for row in log_rows(log):
        keys.setdefault(row["digest"], set()).add(row["key"])
    assert len(keys) == 30
    assert all(len(found) == 1 for found in keys.values())
    assert len(set.union(*keys.values())) == 30


def test_retry_after_stops_every_thread(tmp_path):
    prompts = write_prompts(tmp_path / "prompts.jsonl", 1)
    log = tmp_path / "log"
    with endpoint(log, "--faulty-tries", "2", "--faults", "429", "--retry-after", "0.7") as url:
        output, code = collect(tmp_path / "run", url, prompts, teacher={"max_retries": 30})
    assert code == 0, output
    rows = log_rows(log)
    after = [b["time"] - a["time"] for a, b in zip(rows, rows[1:], strict=False) if a["done"] == "429"]
    assert after
    assert min(after) >= 0.7


def test_the_key_is_nowhere_but_in_the_environment(tmp_path):
    prompts = write_prompts(tmp_path / "prompts.jsonl", 2)
    with endpoint(tmp_path / "log", "--want-key", KEY) as url:
        output, code = collect(tmp_path / "run", url, prompts)
    assert code == 0, output
    with endpoint(tmp_path / "log", "--want-key", "another") as url:  # which repeats the key in its refusal
        refused, refused_code = collect(tmp_path / "other", url, prompts)
    assert refused_code == 1
    assert "teacher 'sums' answers HTTP 401: the key is not accepted" in refused
    texts = [output, refused, *(path.read_text() for path in tmp_path.rglob("*") if path.is_file())]
    assert len(texts) >= 8
    assert not any(KEY in text for text in texts)


def test_a_missing_key_is_named(tmp_path):
    prompts = write_prompts(tmp_path / "prompts.jsonl", 1)
    output, code = collect(tmp_path / "run", "http://127.0.0.1:9/v1", prompts, teacher={"api_key_env": "NO_SUCH_KEY"})
    assert code != 0
    assert "the environment variable NO_SUCH_KEY is not set" in " ".join(output.split())


def test_a_budget_holds_and_a_larger_one_goes_on(tmp_path):
    prompts = write_prompts(tmp_path / "prompts.jsonl", 8)
    log, run = tmp_path / "log", tmp_path / "run"
    with endpoint(log) as url:
        output, code = collect(run, url, prompts, budget={"max_requests": 10})
        assert code == 0, output
        assert paid(log).total() == 10
        report = json.loads((run / "refs.report.json").read_text())
        assert report["spent"]["requests"] == 10
        assert report["not_verified"]["the budget is spent"] == 8 - report["solved"]
        output, code = collect(run, url, prompts)
    assert code == 0, output
    assert paid(log).total() == 24
    assert set(paid(log).values()) == {1}
    assert len(read_references(run / "refs.jsonl")) == 8


def test_the_report_says_what_became_of_every_attempt(tmp_path):
    extra = [
        {"id": "wrong", "prompt": "What, badly, is (1 + 2) * 3?", "answer": 9},
        {"id": "unknown", "prompt": "With an unknown tool: (1 + 2) * 3?", "answer": 9},
        {"id": "malformed", "prompt": "With a malformed call: (1 + 2) * 3?", "answer": 9},
    ]
    prompts = write_prompts(tmp_path / "prompts.jsonl", 2, extra)
    with endpoint(tmp_path / "log") as url:
        output, code = collect(tmp_path / "run", url, prompts)
    assert code == 0, output
    report = json.loads((tmp_path / "run" / "refs.report.json").read_text())
    assert (report["prompts"], report["solved"], report["yield"]) == (5, 2, 0.4)
    assert report["not_verified"] == {
        "Correct does not hold": 1,
        "a call of a tool that is not offered": 1,
        "a malformed call": 1,
    }
    assert report["tool_calls"] == {"add": 2, "multiply": 2}
    assert report["spent"]["prompt_tokens"] == 100 * report["spent"]["requests"]
    assert "2 references of 2 of 5 prompts (40.0%)" in output
    first = read_references(tmp_path / "run" / "refs.jsonl")[0]
    assert [call.name for call in first.tool_calls] == ["add", "multiply"]
    assert [m.content for m in first.messages if m.role == "tool"] == ["1", "2"]
    assert first.teacher == "sums"


def test_several_samples_need_a_temperature(tmp_path):
    prompts = write_prompts(tmp_path / "prompts.jsonl", 1)
    output, code = collect(tmp_path / "run", "http://127.0.0.1:9/v1", prompts, sampling={"samples": 4})
    assert code == 1
    assert "sampling.samples is 4 but the teacher's temperature is 0" in output


def test_a_bad_prompt_costs_nothing(tmp_path):
    prompts = write_prompts(tmp_path / "prompts.jsonl", 3, [{"id": "p9", "prompt": "2 + 2?"}])
    log = tmp_path / "log"
    with endpoint(log) as url:
        output, code = collect(tmp_path / "run", url, prompts)
    assert code == 1
    assert "prompts.jsonl:4: field 'answer': expected a text or a number, found nothing" in output
    assert log_rows(log) == []


def test_an_endpoint_that_is_down_ends_the_collection_with_advice(tmp_path):
    prompts = write_prompts(tmp_path / "prompts.jsonl", 12)
    output, code = collect(tmp_path / "run", "http://127.0.0.1:9/v1", prompts, teacher={"max_retries": 1})
    assert code == 1
    assert "teacher 'sums' did not answer in 2 tries; the last: connection lost" in output
    assert "start again with the same journal" in output
    assert not (tmp_path / "run" / "refs.jsonl").exists()
