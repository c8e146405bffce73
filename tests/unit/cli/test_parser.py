"""An error of a constructor comes out as one line, also from within lists and optional arguments."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mentor_pl.cli.main import main
from mentor_pl.cli.parser import build, call
from mentor_pl.errors import ConfigError, UsageError


class Part:
    def __init__(self, size: int = 1, other: Part | None = None) -> None:
        if size < 0:
            raise ConfigError(f"Part: size is {size}; it must not be negative")
        self.share = 1 / size


class Inner:
    def __init__(self, parts: list[Part]) -> None: ...


def command(
    part: Part | None = None,
    parts: list[Part] | None = None,
    inner: Inner | None = None,
    make: Callable[[int], Part] | None = None,
) -> object:
    """Do nothing."""
    return make


HERE = f"{__name__}."
REFUSED = f'{{"class_path": "{HERE}Part", "init_args": {{"size": -1}}}}'
DIVIDES = REFUSED.replace("-1", "0")
NULL = REFUSED.replace("-1", "null")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (REFUSED, "Part: size is -1; it must not be negative"),
        (DIVIDES, "Part cannot be made: ZeroDivisionError: division by zero; size is 0; mend its arguments"),
        (NULL, "Part: size is null; expected an integer"),
    ],
)
@pytest.mark.parametrize(
    "place", ["--part={}", "--parts=[{}]", '--inner={{"class_path": "HERE.Inner", "init_args": {{"parts": [{}]}}}}']
)
def test_a_constructor_that_refuses(place: str, value: str, said: str) -> None:
    argument = place.format(value).replace("HERE.", HERE)
    with pytest.raises(ConfigError) as refused:
        call(command, [argument], prog="command")
    assert str(refused.value) == said
    assert not isinstance(refused.value, UsageError)


def test_an_object_that_is_made_later_refuses_later() -> None:
    make = call(command, [f'--make={{"class_path": "{HERE}Part"}}'], prog="command")
    assert make(2).share == 0.5
    with pytest.raises(ConfigError, match="Part: size is -2"):
        make(-2)


def test_a_part_of_a_config_is_made_or_refused_with_its_source() -> None:
    built = build(
        {"part": {"class_path": f"{HERE}Part", "init_args": {"size": 4}}}, {"part": Part, "parts": list}, "a.yaml"
    )
    assert built["part"].share == 0.25 and built.get("parts") is None
    with pytest.raises(
        ConfigError, match=r"^a.yaml: part.init_args.sise: Part takes no 'sise' \(did you mean 'size'\?\)"
    ):
        build({"part": {"class_path": f"{HERE}Part", "init_args": {"sise": 4}}}, {"part": Part}, "a.yaml")
    with pytest.raises(ConfigError, match=r"^a.yaml: Part: size is -1"):
        build({"part": {"class_path": f"{HERE}Part", "init_args": {"size": -1}}}, {"part": Part}, "a.yaml")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (
            ["fitt"],
            2,
            "mentor-pl: UsageError: there is no command 'fitt' (did you mean 'fit'?); the commands are fit, ",
        ),
        (["references", "chek"], 2, "mentor-pl: UsageError: references has no command 'chek' (did you mean 'check'?)"),
        (["references", "check"], 2, "mentor-pl: UsageError: the following arguments are required: path"),
        (["references", "check", "no/such.jsonl"], 1, "mentor-pl: DataFileError: no/such.jsonl"),
        (["plugins", "--door=x"], 2, "mentor-pl: UsageError: door: 'door' was renamed; write 'group'"),
        (["plugins", "--group=x"], 1, "mentor-pl: PluginError: unknown plugin group 'x'; the groups are "),
        (["report", "no/such"], 1, "mentor-pl: DataFileError: "),
        (
            ["export", "--checkpoint=a", "--output=b", "--merge=perhaps"],
            2,
            "merge is 'perhaps'; expected true or false",
        ),
        (["compare", "--configs={}"], 1, "mentor-pl: ConfigError: compare: 0 configs and 3 seeds leave nothing to run"),
        (["score", "--program=mentr"], 2, "mentor-pl: UsageError: config 'mentr': there is no such file"),
    ],
)
def test_every_command_says_it_in_one_form(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    captured = capsys.readouterr()
    assert stopped.value.code == status
    assert said in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_the_traceback_is_there_for_who_asks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MENTOR_PL_TRACEBACK", "1")
    with pytest.raises(SystemExit):
        main(["report", "no/such"])
    assert "Traceback" in capsys.readouterr().err
