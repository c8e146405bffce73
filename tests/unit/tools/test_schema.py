import json

import pytest

from mentor_pl.tools.schema import with_integers
from mentor_pl.tools.workers.serve import run_call
from mentor_pl.tools.workers.signatures import typed_function

INTEGER, NUMBER, TEXT = {"type": "integer"}, {"type": "number"}, {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "given", "wanted"),
    [
        (INTEGER, 2.0, "2"),
        (INTEGER, 2.5, "2.5"),
        (INTEGER, True, "True"),
        (INTEGER, "2", "'2'"),
        (INTEGER, float("inf"), "inf"),
        (NUMBER, 2.0, "2.0"),
        ({}, 2.0, "2.0"),
        ({"type": ["integer", "null"]}, 2.0, "2"),
        ({"type": ["integer", "number"]}, 2.0, "2.0"),
        ({"anyOf": [INTEGER, TEXT]}, 2.0, "2"),
        ({"anyOf": [INTEGER, NUMBER]}, 2.0, "2.0"),
        ({"type": "array", "items": INTEGER}, [1.0, 2], "[1, 2]"),
        ({"prefixItems": [NUMBER], "items": INTEGER}, [1.0, 2.0], "[1.0, 2]"),
        ({"properties": {"n": INTEGER}, "additionalProperties": NUMBER}, {"n": 1.0, "x": 1.0}, "{'n': 1, 'x': 1.0}"),
        ({"additionalProperties": INTEGER}, {"n": 1.0}, "{'n': 1}"),
        ({"anyOf": [{"properties": {"n": INTEGER}}, {"type": "null"}]}, {"n": 3.0}, "{'n': 3}"),
        ({"additionalProperties": False, "items": True}, {"n": [3.0]}, "{'n': [3.0]}"),
    ],
)
def test_whole_floats_are_integers_where_only_those_are_wanted(schema, given, wanted):
    assert repr(with_integers(given, schema)) == wanted


def repeat(text: str, times: int, at: list[int] | None = None) -> str:
    return text * times + str(at)


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        ({"text": "a", "times": 2.0}, ("ok", "aaNone")),
        ({"text": "a", "times": 1, "at": [3.0]}, ("ok", "a[3]")),
        ({"text": "a", "times": 2.5}, ("error", None)),
        ({"text": "a", "times": "2"}, ("error", None)),
        ({"text": "a", "times": True}, ("error", None)),
        ({"text": 2.0, "times": 1}, ("error", None)),
    ],
)
def test_a_python_function_takes_what_its_schema_takes(arguments, outcome):
    status, text = run_call(typed_function(repeat), json.dumps(arguments).encode(), None)
    assert status == outcome[0]
    assert outcome[1] in (None, text)
