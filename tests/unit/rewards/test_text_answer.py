import pytest

from mentor_pl.errors import ConfigError
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.rewards.text_answer import TextAnswer, normalised, token_f1
from mentor_pl.testing import check_reward_component, trajectory


def score(component: TextAnswer, text: str, *answers: str) -> float:
    prompt = (Message(role="user", content="?"),)
    references = [Reference(reference_id="r", prompt=prompt, answer=answer, tools=()) for answer in answers]
    return component.score(trajectory(text), references)


@pytest.mark.parametrize("component", [TextAnswer(), TextAnswer("f1", place="text"), TextAnswer("contains")])
def test_it_keeps_the_contract(component: TextAnswer) -> None:
    check_reward_component(component)


def test_texts_are_normalised_as_squad_does() -> None:
    assert normalised("  The Beatles' a  cat, an-d U.S.") == "beatles cat and us"


def test_f1_of_words() -> None:
    assert token_f1("the cat sat", "a cat sat down") == pytest.approx(2 * 2 / (2 + 3))
    assert token_f1("cat cat", "cat") == pytest.approx(2 / 3)
    assert token_f1("dog", "cat") == 0.0
    assert token_f1("yes it is", "yes") == 0.0  # HotpotQA: a closed answer shares nothing with an open one
    assert token_f1("Yes.", "yes") == 1.0


def test_the_best_accepted_answer_counts() -> None:
    assert score(TextAnswer(), "\\boxed{The USA}", "United States", "USA") == 1.0
    assert score(TextAnswer(), "\\boxed{Canada}", "United States", "USA") == 0.0
    assert score(TextAnswer("f1"), "\\boxed{United States of America}", "United States") == pytest.approx(4 / 6)
    assert score(TextAnswer("contains"), "\\boxed{in the USA, since 1950}", "USA") == 1.0
    assert score(TextAnswer("contains"), "\\boxed{Jerusalem}", "USA") == 0.0  # words, not letters


def test_further_answers_of_one_reference_count() -> None:
    prompt = (Message(role="user", content="?"),)
    reference = Reference(reference_id="r", prompt=prompt, answer="United States", other_answers=("USA",), tools=())
    assert TextAnswer().score(trajectory("\\boxed{USA}"), [reference]) == 1.0


def test_who_lists_everything_contains_nothing() -> None:
    assert score(TextAnswer("contains", place="text", max_words=5), "Paris Rome Oslo Bern Wien Prag", "Rome") == 0.0


def test_without_a_right_answer_nothing_is_right() -> None:
    assert score(TextAnswer(), "\\boxed{the}", "a") == 0.0  # nothing is left of it
    assert score(TextAnswer(), "\\boxed{x}", "") == 0.0


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="measure is 'bleu'"):
        TextAnswer("bleu")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="max_words is 0"):
        TextAnswer(max_words=0)
