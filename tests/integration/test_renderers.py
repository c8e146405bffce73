"""Prompts and what follows a turn, token for token beside the package `renderers`, which writes some families out by hand.

(https://pypi.org/project/renderers). The chat templates are TRL's.
"""

import importlib
import importlib.util
from pathlib import Path

import pytest

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec

renderers = pytest.importorskip("renderers", exc_type=ImportError)

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).parents[2] / "scripts" / "chat_templates.py"
_spec = importlib.util.spec_from_file_location("chat_templates", SCRIPT)
script = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)

TRL = {file.stem: file for file in script.trl_templates()}
FAMILIES = {
    "qwen3": ("Qwen3Renderer", "<s>"),
    "qwen3_5_think": ("Qwen35Renderer", "<s>"),
    "llama3_1": ("Llama3Renderer", "<|begin_of_text|>"),
    "gemma4_v5": ("Gemma4Renderer", "<bos>"),
    "glm4moe": ("GLM45Renderer", "<s>"),
    "nemotron_3_nano": ("Nemotron3Renderer", "<s>"),
}
"""TRL's chat templates; who renders the same by hand (gpt-oss would download a vocabulary), and the token that begins a text."""

TOOL = ToolSpec(
    name="look_up",
    description="Looks a thing up.",
    parameters={
        "type": "object",
        "properties": {"text": {"type": "string", "description": "What."}},
        "required": ["text"],
    },
)
PROMPT = (Message(role="system", content="Be brief."), Message(role="user", content="Where is 東京?"))
CALL = ToolCall(call_id="call_0", name="look_up", arguments={"text": "東京"})
TURN = Message(role="assistant", tool_calls=(CALL,))
RESULT = ToolResult(call_id="call_0", content='{"found": "in <Japan>"}')


@pytest.fixture(params=FAMILIES)
def pair(request):
    if request.param not in TRL:
        pytest.skip("no TRL is installed")
    name, bos = FAMILIES[request.param]
    kind, source, more = getattr(renderers, name), TRL[request.param].read_text(encoding="utf-8"), [bos]
    while len(more) < 40:
        tokenizer = script.tokenizer_for(source, request.param, more)
        tokenizer.bos_token = bos
        try:
            return ChatProtocol(tokenizer), kind(tokenizer)
        except AssertionError as missing:  # it asks for a special token that the template does not name
            more.append(str(missing).split("'")[1])
    raise AssertionError(f"it wants ever more tokens: {more}")


def openai(messages):
    return [message.to_openai() for message in messages]


def test_a_prompt_with_tools_and_what_follows_a_call(pair):
    protocol, renderer = pair
    tools = [TOOL.to_openai()]
    prompt = protocol.prompt_ids(PROMPT, (TOOL,))
    text = protocol.tokenizer.decode
    assert text(prompt) == text(renderer.render_ids(openai(PROMPT), tools=tools, add_generation_prompt=True))
    turn = protocol.assistant_ids(TURN)
    following = protocol.tool_result_ids([CALL], [RESULT])
    result = {"role": "tool", "content": RESULT.content, "tool_call_id": "call_0", "name": "look_up"}
    bridged = renderer.bridge_to_next_turn(list(prompt), list(turn), [result], tools=tools)
    assert text((*prompt, *turn, *following)) == text(bridged.token_ids)
    assert list((*prompt, *turn, *following)) == list(bridged.token_ids)
