import json
from pathlib import Path
from typing import Any

import pytest

from mentor_pl.files import read_references
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.references.convert import convert
from mentor_pl.references.converters import CONVERTERS, Rejected, question_answer
from mentor_pl.rewards.correct import Correct
from mentor_pl.rewards.text_answer import TextAnswer
from mentor_pl.testing import trajectory
from mentor_pl.tools.search import Search
from mentor_pl.tools.toolbox import ToolBox


def one(tmp_path: Path, row: dict[str, Any]) -> Reference | Rejected:
    file = tmp_path / "aime24.jsonl"
    file.write_text(json.dumps(row) + "\n")
    (found,) = question_answer(file)
    return found


@pytest.mark.parametrize(
    ("row", "answers"),
    [
        ({"question": "Q", "answer": "They sell 2*3=<<2*3=6>>6.\n#### 1,200"}, ("1,200",)),  # GSM8K
        ({"problem": "Q", "solution": "So \\boxed{\\frac{1}{2}}.", "level": "Level 5"}, ("\\frac{1}{2}",)),  # MATH
        ({"problem": "Q", "answer": "025", "solution": "\\boxed{25}"}, ("025",)),  # AIME
        ({"problem": "Q", "answer": 142.0}, ("142",)),  # AMC
        ({"problem": "Q", "solution": "\\boxed{1} and \\boxed{2.4e-5}"}, ("2.4e-5",)),  # Minerva
        ({"problem": "Q", "answer": "$\\boxed{7}$", "domain": ["a"]}, ("7",)),
        ({"question": "Q", "golden_answers": ["USA", "United States", "USA"]}, ("USA", "United States")),  # FlashRAG
        ({"Question": "Q", "Answer": "Jane Doe"}, ("Jane Doe",)),  # Bamboogle
    ],
)
def test_answers_are_found(row: dict[str, Any], answers: tuple[str, ...], tmp_path: Path) -> None:
    reference = one(tmp_path, row)
    assert isinstance(reference, Reference)
    assert reference.answers == answers
    assert reference.prompt == (Message(role="user", content="Q\nPut the final answer in \\boxed{}."),)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"answer": "7"}, "there is no question"),
        ({"question": "Q", "answer": ""}, "there is no answer"),
        ({"question": "Q", "solution": "clear"}, "there is no answer"),
        ({"question": "Q", "answer": None, "golden_answers": []}, "there is no answer"),
    ],
)
def test_what_has_no_question_or_answer_is_counted(row: dict[str, Any], reason: str, tmp_path: Path) -> None:
    found = one(tmp_path, row)
    assert isinstance(found, Rejected)
    assert found.reason == reason


def test_hotpotqa_becomes_questions_for_a_search(tmp_path: Path) -> None:
    passages = [["Oslo", ["Oslo is the capital of Norway."]], ["Bergen", ["Bergen is a city in Norway."]]]
    rows = [{"_id": "h1", "question": "Capital of Norway?", "answer": "Oslo", "type": "bridge", "context": passages}]
    (source := tmp_path / "hotpot.json").write_text(json.dumps(rows))
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"title": t, "text": " ".join(s)}) + "\n" for t, s in passages))
    toolbox = ToolBox([Search(str(corpus))])
    output = tmp_path / "refs.jsonl"
    convert(CONVERTERS["question-answer"], source, output, judges=[Correct()], toolbox=toolbox)
    (reference,) = read_references(output)
    assert (reference.reference_id, reference.domain) == ("hotpot-h1", "bridge")
    assert [tool.name for tool in reference.tools] == ["search"]  # a prompt without tools is offered the backends'
    assert "context" not in reference.fields
    assert TextAnswer().score(trajectory("\\boxed{The Oslo}"), [reference]) == 1.0
    assert TextAnswer("f1").score(trajectory("\\boxed{Oslo, Norway}"), [reference]) == pytest.approx(2 / 3)
