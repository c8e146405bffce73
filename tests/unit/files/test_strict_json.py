import json

import pytest

from mentor_pl.files.strict_json import MAX_DEPTH, deeper_than, strict_loads


@pytest.mark.parametrize(
    "text", ["1e999", '{"a": [-1e999]}', "NaN", "[Infinity]", "[" * 65 + "]" * 65, "[" * 5000, "{", "9" * 5000]
)
def test_what_no_writer_survives_is_refused(text):
    with pytest.raises(ValueError, match="too large|is not JSON|deeper than 64|Expecting|integer string"):
        strict_loads(text)


def test_brackets_within_texts_are_no_depth():
    value = {"a": "[" * 200, "b": [[1.5, 1e308]], "c": "{" * 70 + "]" * 3}
    assert strict_loads(json.dumps(value)) == value


def test_depth_is_counted_in_lists_and_objects_alike():
    value = 1
    for level in range(MAX_DEPTH):
        value = [value] if level % 2 else {"k": value}
    assert not deeper_than(value, MAX_DEPTH)
    assert deeper_than([value], MAX_DEPTH)
    assert strict_loads(json.dumps(value)) == value
