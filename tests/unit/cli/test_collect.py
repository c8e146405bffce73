"""`collect` in an environment: its prompts, tools, user and reward."""

import json
import signal
import threading
from contextlib import closing

import pytest

from mentor_pl.cli.collect import collect
from mentor_pl.cli.main import main
from mentor_pl.environments import Environment
from mentor_pl.errors import ConfigError
from mentor_pl.files import read_references
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.references.collect import Sampling
from mentor_pl.references.openai_teacher import OpenAITeacher
from mentor_pl.references.prompts import prompts_of
from mentor_pl.rewards.call_match import CallMatch
from mentor_pl.rewards.program import RewardProgram, RewardTerm
from mentor_pl.rewards.text_answer import TextAnswer
from mentor_pl.rollout.user import User
from mentor_pl.rollout.world import World
from mentor_pl.tools.declared import DeclaredTools
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.replayed import ReplayedTools
from mentor_pl.tools.toolbox import ToolBox
from tests.unit.references import misbehaving_endpoint as bad

pytest.importorskip("openai")


class Doubter(User):
    """Says one word more to the first answer."""

    reads_fields = ("ask",)

    def reply(self, reference, messages):
        return "Are you sure?" if messages[-1].content == "I think so." else None


def says(content):
    return {"role": "assistant", "content": content}


@pytest.fixture
def prompts(tmp_path):
    rows = [
        {"id": "a", "prompt": "Which town?", "answer": "Paris", "tools": ["add"], "ask": "me"},
        {"id": "b", "prompt": "Which river?", "answer": "Seine", "tools": ["add"]},
        {"id": "b2", "prompt": "Which river?", "answer": "Seine", "tools": ["add"]},
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tools():
    return [PythonFunctions(module="mentor_pl.tools.arithmetic")]


def program():
    return RewardProgram(terms=[RewardTerm(name="town", component=TextAnswer(), weight=1.0, success=True)])


def test_what_the_environment_calls_success_is_kept(tmp_path, prompts, monkeypatch):
    output = tmp_path / "refs.jsonl"
    with bad.endpoint(lambda handler: handler.send(bad.completion(says("\\boxed{Paris}")))) as server:
        teacher = OpenAITeacher(model="m", base_url=server.url, api_key_env="")
        environment = Environment(references=str(prompts), tools=tools(), reward=program())
        collect(output, teacher, environment=environment, sampling=Sampling(concurrency=1))
        assert len(server.requests) == 2  # two prompts, though three references
    [kept] = read_references(output)
    assert (kept.reference_id, kept.answer, kept.fields) == ("a", "Paris", {"ask": "me"})


def test_the_environments_user_speaks_with_the_teacher(tmp_path, prompts):
    def act(handler):
        asked = handler.server.requests[-1]["messages"][-1]["content"]
        handler.send(bad.completion(says("\\boxed{Paris}" if asked == "Are you sure?" else "I think so.")))

    output = tmp_path / "refs.jsonl"
    with bad.endpoint(act) as server:
        teacher = OpenAITeacher(model="m", base_url=server.url, api_key_env="")
        environment = Environment(references=str(prompts), tools=tools(), reward=program(), user=Doubter())
        collect(output, teacher, environment=environment, sampling=Sampling(concurrency=1))
        assert len(server.requests) == 4
    [kept] = read_references(output)
    assert [message.content for message in kept.messages] == ["I think so.", "Are you sure?", "\\boxed{Paris}"]


def test_prompts_of_one_wording_are_several_where_the_user_wants_something_else():
    question = (Message(role="user", content="Help me."),)
    asked = [
        Reference(reference_id=name, prompt=question, answer="", tools=(), fields={"ask": wish})
        for name, wish in (("a", "a flat"), ("b", "a loan"), ("c", "a loan"))
    ]
    with closing(ToolBox([])) as toolbox:
        assert [r.reference_id for r in prompts_of(asked, World(toolbox=toolbox, user=Doubter()), source="s")] == [
            "a",
            "b",
        ]
        assert [r.reference_id for r in prompts_of(asked, World(toolbox=toolbox), source="s")] == ["a"]


def transcript(**more):
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"up": "Seine"}'}}
    tools = [{"name": "look", "parameters": {"type": "object", "properties": {"up": {"type": "string"}}}}]
    messages = [
        {"role": "user", "content": "How long is the Seine?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "777 km"},
        says("777 km"),
    ]
    return {"id": "t", "messages": messages, "tools": tools, **more}, call


@pytest.mark.parametrize(("backend", "ends"), [(ReplayedTools, 3), (DeclaredTools, 2)])
def test_recorded_results_and_expected_calls_are_the_earlier_teachers(tmp_path, backend, ends):
    row, call = transcript()
    path, output = tmp_path / "transcripts.jsonl", tmp_path / "refs.jsonl"
    path.write_text(json.dumps(row) + "\n")

    def act(handler):
        last = handler.server.requests[-1]["messages"][-1]
        done = {"role": "assistant", "content": f"It is {last['content']} long."}
        handler.send(bad.completion(done if last["role"] == "tool" else {**says(""), "tool_calls": [call]}))

    reward = RewardProgram(terms=[RewardTerm(name="calls", component=CallMatch(), weight=1.0, success=True)])
    with bad.endpoint(act) as server:
        teacher = OpenAITeacher(model="m", base_url=server.url, api_key_env="")
        environment = Environment(references=str(path), tools=[backend()], reward=reward)
        collect(output, teacher, environment=environment, sampling=Sampling(concurrency=1))
    [kept] = read_references(output)
    assert len(kept.messages) == ends
    if backend is ReplayedTools:
        assert [message.content for message in kept.messages[1:]] == ["777 km", "It is 777 km long."]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"prompts": "p"}, "collect: tools missing; give them, or an environment that has them"),
        ({}, "collect: prompts and tools missing"),
        ({"environment": Environment(references="r", tools=[]), "prompts": "p"}, "and prompts too; leave out one"),
        ({"environment": Environment(references="r")}, "collect: the environment r has no tools"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, arguments, said):
    teacher = OpenAITeacher(model="m", base_url="http://127.0.0.1:9/v1", api_key_env="")
    with pytest.raises(ConfigError, match=said):
        collect(tmp_path / "refs.jsonl", teacher, **arguments)


def test_a_config_names_the_environment(tmp_path, prompts, capsys):
    with bad.endpoint(lambda handler: handler.send(bad.completion(says("\\boxed{Seine}")))) as server:
        config = {
            "teacher": {
                "class_path": "OpenAITeacher",
                "init_args": {"model": "m", "base_url": server.url, "api_key_env": ""},
            },
            "environment": {
                "class_path": "Environment",
                "init_args": {
                    "references": str(prompts),
                    "tools": [{"class_path": "PythonFunctions", "init_args": {"module": "mentor_pl.tools.arithmetic"}}],
                },
            },
            "judges": [{"class_path": "TextAnswer"}],
        }
        (tmp_path / "collect.yaml").write_text(json.dumps(config))
        main(["collect", f"--config={tmp_path}/collect.yaml", f"--output={tmp_path}/refs.jsonl"])
    assert [reference.reference_id for reference in read_references(tmp_path / "refs.jsonl")] == ["b"]


def test_ctrl_c_says_how_to_go_on_and_ends_with_130(tmp_path, prompts, monkeypatch, capsys):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell has it ignored

    once = threading.Lock()

    def act(handler):
        # every prompt asks: a second signal could come when the program has ended
        if once.acquire(blocking=False):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        handler.server.stop.wait(60)

    monkeypatch.setenv("OPENAI_API_KEY", "k")
    try:
        with bad.endpoint(act) as server, pytest.raises(SystemExit) as ended:
            main(
                f"collect --prompts {prompts} --output {tmp_path / 'refs.jsonl'} --teacher OpenAITeacher --teacher.model m "
                f"--teacher.base_url {server.url} --tools".split()
                + [
                    json.dumps(
                        [{"class_path": "PythonFunctions", "init_args": {"module": "mentor_pl.tools.arithmetic"}}]
                    )
                ]
            )
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == 130
    assert capsys.readouterr().err.endswith("mentor-pl: collect was stopped; the same command goes on where it was\n")
