"""Assistant texts as an untrained student writes them: near tool calls, far from them, and hostile ones."""

import random
from collections.abc import Iterator

_FRAGMENTS = (
    *("<tool_call>", "</tool_call>", "<tool_response>", "<think>", "</think>", "<|python_tag|>", "<|im_end|>"),
    *('{"name": "add", "arguments": {"a": 1, "b": 2}}', '{"name": "add", "parameters": {"a": 1}}', '"arguments": "{}"'),
    *(
        '{"name": "',
        '"add"',
        '"name": ',
        '"arguments": ',
        '"parameters": ',
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        '"',
        "'",
        ";",
        "\\",
    ),
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 5000, "1e-999", "-0", "null", "true", "0x1F", "١٢", "𝟙"),
    *('"\\ud800"', '"\\udfff\\ud800"', '"\\u0000"', "\x00", "\ufeff", "\ufffd", "é", "😀", "\n", "\t", " ", "\r\n"),
    *("[" * 2000, '{"a":' * 500, "[" * 500 + "]" * 500, '{"a":' * 900 + "1" + "}" * 900, "x" * 25_000),
    *("\\boxed{5}", "I will add.", "assistant", "```json", "\ue000", '\ue0000"0\ue001'),
)
_VALUES = (
    "1e999",
    "NaN",
    "-Infinity",
    '"\\ud800"',
    "1" * 5000,
    "[" * 100 + "]" * 100,
    "[" * 5000,
    "null",
    "{}",
    "-0.0",
    '"\\u0000"',
)
_VALID = (
    '<tool_call>\n{"name": "add", "arguments": {"a": 14, "b": 2.5}}\n</tool_call>',
    '<think>hm</think><tool_call>{"name": "sum_numbers", "arguments": {"numbers": [1, 2, 3]}}</tool_call>',
    '{"name": "add", "parameters": {"a": 14, "b": [null, {"c": "d"}]}}',
    '<|python_tag|>{"name": "add", "parameters": {}}; {"name": "sqrt", "parameters": {"x": 4}}',
)


def assistant_texts(count: int, seed: int) -> Iterator[str]:
    """Yield texts: half of them calls with a few characters or fragments changed, half of them loose fragments."""
    rng = random.Random(seed)
    for _ in range(count):
        if rng.random() < 0.5:
            text = rng.choice(_VALID)
            text = text.replace("14", rng.choice(("14", *_VALUES)))
            for _ in range(rng.randint(0, 4)):
                at, until = sorted(rng.randint(0, len(text)) for _ in range(2))
                until = min(until, at + rng.randint(0, 3))
                text = text[:at] + rng.choice(("", chr(rng.randrange(0xD800)), rng.choice(_FRAGMENTS))) + text[until:]
        else:
            text = "".join(rng.choice(_FRAGMENTS) for _ in range(rng.randint(0, 12)))
        yield text
