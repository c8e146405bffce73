from __future__ import annotations

from transformers import PreTrainedTokenizerFast

TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
TOOLS_BLOCK = (
    "\n\nYou may call functions. Each line inside <tools></tools> describes one function as JSON:\n<tools>\n"
    '{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}\n</tools>\n\n'
    "To call a function, write its name and arguments as a JSON object inside <tool_call></tool_call>:\n"
    '<tool_call>\n{"name": "the function", "arguments": {"an argument": "its value"}}\n</tool_call>\n'
    "The result comes back inside <tool_response></tool_response>."
)
USER = {"role": "user", "content": "1+2, 3+4?"}


def call(arguments: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": "add", "arguments": arguments}}


def test_tools_stand_in_the_system_turn(tokenizer: PreTrainedTokenizerFast) -> None:
    text = tokenizer.apply_chat_template([USER], tools=[TOOL], add_generation_prompt=True, tokenize=False)
    assert text == (
        f"<|im_start|>system\nYou are a helpful assistant.{TOOLS_BLOCK}<|im_end|>\n"
        "<|im_start|>user\n1+2, 3+4?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_parallel_calls_and_merged_results(tokenizer: PreTrainedTokenizerFast) -> None:
    conversation = [
        {"role": "system", "content": "Be brief."},
        USER,
        {"role": "assistant", "content": "Both.", "tool_calls": [call({"a": 1, "b": 2}), call('{"a": 3, "b": 4}')]},
        {"role": "tool", "content": "3"},
        {"role": "tool", "content": "7"},
        {"role": "assistant", "content": "", "tool_calls": [call({"a": "ü"})]},
        {"role": "tool", "content": "no"},
        {"role": "assistant", "content": "3 and 7"},
    ]
    assert tokenizer.apply_chat_template(conversation, tokenize=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n1+2, 3+4?<|im_end|>\n"
        '<|im_start|>assistant\nBoth.\n<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>\n'
        '<tool_call>\n{"name": "add", "arguments": {"a": 3, "b": 4}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n3\n</tool_response>\n<tool_response>\n7\n</tool_response><|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "add", "arguments": {"a": "ü"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nno\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n3 and 7<|im_end|>\n"
    )


def test_appending_a_turn_never_changes_what_stands_before_it(tokenizer: PreTrainedTokenizerFast) -> None:
    conversation = [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [call({"a": 1})]},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "3"},
    ]
    texts = [
        tokenizer.apply_chat_template(conversation[:n], tools=[TOOL], tokenize=False)
        for n in range(1, len(conversation) + 1)
    ]
    assert all(longer.startswith(shorter) for shorter, longer in zip(texts, texts[1:], strict=False))
