"""Several questions to the embedded student, over its own tokens and tools."""

from contextlib import ExitStack, closing
from itertools import islice

import pytest

from mentor_pl.engines.base import SamplingParams
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.errors import ConfigError
from mentor_pl.files import reference_from_row, reference_to_row
from mentor_pl.interactive.conversation import AnswerEnded, Conversation, ToolAnswered, TurnEnded, TurnProgress
from mentor_pl.messages import Message
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.students.full import FullStudent
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import StopReason

QUESTION = "Tom has 21 cards. Tom splits it equally into 7 parts and keeps one. What is the number now?"
SECOND = "Sue has 22 coins. Sue loses 5. What is the number now?"


@pytest.fixture(scope="module")
def engine():
    engine = CascadeEngine(max_rows=1)
    engine.sync(FullStudent("embedded:student").load_model(), 0)
    return engine


@pytest.fixture(scope="module")
def toolbox():
    with closing(ToolBox([PythonFunctions(module="mentor_pl.tools.arithmetic", workers=1)])) as toolbox:
        yield toolbox


@pytest.fixture
def talk(engine, toolbox, protocol):
    with ExitStack() as stack:

        def begin(*, temperature=0.0, max_completion_tokens=200, max_context=1024, **options):
            session = stack.enter_context(
                engine.session(SamplingParams(temperature=temperature), protocol.stop_token_ids)
            )
            return Conversation(
                protocol=protocol,
                toolbox=toolbox,
                session=session,
                limits=RolloutLimits(max_completion_tokens=max_completion_tokens),
                max_context=max_context,
                **options,
            )

        yield begin


def answered(conversation, question):
    *_, ended = conversation.ask(question)
    assert isinstance(ended, AnswerEnded)
    return ended.trajectory


def tokens(trajectory):
    return tuple(t for turn in trajectory.turns for t in (*turn.prompt_ids, *turn.completion.token_ids))


def test_tokens_stay_as_sampled_over_questions(talk, protocol):
    conversation = talk()
    first = answered(conversation, QUESTION)
    second = answered(conversation, SECOND)
    kept = tokens(first)
    assert second.turns[0].prompt_ids == kept + protocol.user_message_ids(SECOND)
    roles = [message.role for message in conversation.messages]
    assert roles[0] == "user" and roles.count("user") == 2 and roles[-1] == "assistant"


def test_later_questions_cost_only_their_new_tokens(talk, protocol):
    conversation = talk()
    answered(conversation, QUESTION)
    before = conversation._session.statistics.prefill_tokens
    second = answered(conversation, SECOND)
    results = sum(len(turn.prompt_ids) for turn in second.turns[1:])
    pieces = sum(
        len(turn.completion.token_ids) // 8 + 1 for turn in second.turns
    )  # a continued row computes its last token
    spent = conversation._session.statistics.prefill_tokens - before
    assert spent <= len(protocol.user_message_ids(SECOND)) + results + pieces < len(second.turns[0].prompt_ids)


def test_pieces_do_not_change_what_is_sampled(talk):
    one, whole = (answered(talk(temperature=1.0, tokens_at_once=n), QUESTION) for n in (1, 1000))
    assert tokens(one) == tokens(whole)
    assert one.turns[0].completion.logprobs == pytest.approx(whole.turns[0].completion.logprobs, abs=1e-4)


def test_events_tell_the_turn_its_calls_and_their_results(talk):
    events = list(talk(tokens_at_once=4).ask(QUESTION))
    writing = [event.text for event in events if isinstance(event, TurnProgress)]
    assert writing and writing[1].startswith(writing[0])
    wrote = [event.message for event in events if isinstance(event, TurnEnded)]
    results = [event.result for event in events if isinstance(event, ToolAnswered)]
    assert len(results) == len(wrote[0].tool_calls) == 1  # the embedded student asks for one tool at a time here
    assert isinstance(events[-1], AnswerEnded) and events[-1].trajectory.tool_results == tuple(results)


def test_a_stopped_answer_leaves_no_trace(talk):
    conversation = talk()
    answered(conversation, QUESTION)
    before = conversation.messages, conversation.last
    events = conversation.ask("Ann has 5 pens. Ann gets 9 more. What is the number now?")
    list(islice(events, 1))
    events.close()
    assert (conversation.messages, conversation.last) == before
    undisturbed = talk()
    answered(undisturbed, QUESTION)
    assert tokens(answered(conversation, SECOND)) == tokens(answered(undisturbed, SECOND))


def test_a_reset_conversation_is_a_new_one(talk):
    conversation = talk(system="Be brief.")
    answered(conversation, QUESTION)
    conversation.reset()
    assert conversation.messages == (Message(role="system", content="Be brief."),) and conversation.last is None
    assert tokens(answered(conversation, SECOND)) == tokens(answered(talk(system="Be brief."), SECOND))


def test_a_cut_off_answer_is_closed_before_the_next_question(talk, protocol):
    conversation = talk(max_completion_tokens=3)
    first = answered(conversation, QUESTION)
    assert first.stop_reason is StopReason.MAX_COMPLETION_TOKENS
    second = answered(conversation, SECOND)
    stop = protocol.stop_token_ids[:1]
    assert second.turns[0].prompt_ids == tokens(first) + stop + protocol.user_message_ids(SECOND)
    with pytest.raises(ConfigError, match="max_completion_tokens.*save it as a trajectory"):
        conversation.last.as_reference("x")


def test_an_answer_is_a_reference_that_reads_back(talk, toolbox):
    conversation = talk()
    trajectory = answered(conversation, QUESTION)
    reference = conversation.last.as_reference("chat-1")
    assert reference.prompt == (Message(role="user", content=QUESTION),)
    assert reference.tools == toolbox.specs and reference.tool_calls == trajectory.tool_calls
    assert f"\\boxed{{{reference.answer}}}" in trajectory.final_text
    assert reference_from_row(reference_to_row(reference), "x:1") == reference


def test_a_full_context_is_said_and_a_new_conversation_possible(talk):
    conversation = talk(max_context=60)
    with pytest.raises(ConfigError, match="the student's context holds 60"):
        list(conversation.ask(QUESTION * 3))
    assert conversation.messages == ()
