"""Every shipped config parses and makes its objects, and what is misspelt is named before any student is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mentor_pl.callbacks.graceful_stop import GracefulStop
from mentor_pl.cli.main import main
from mentor_pl.cli.training import MentorCLI, SaveConfig, _Parser
from mentor_pl.students.base import StudentLoader
from mentor_pl.training.datamodule import MentorDataModule
from mentor_pl.training.module import MentorModule
from tests.unit.cli.one_parser import one_parser

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module", autouse=True)
def _one_parser() -> Iterator[None]:
    with one_parser():
        yield


def kind(path: Path) -> str:
    """What a file is for, by its keys: a new file must be one of these, and so is tested."""
    content = yaml.safe_load(path.read_text())
    keys = content.keys()
    if {"model", "data", "trainer"} <= keys:
        return "fit" if content["data"].keys() & {"references", "train"} else "evaluate"
    if keys <= {"model", "data", "trainer", "checkpoint", "seed_everything"}:
        return "overlay"
    return {"rewards": "reward"}.get(path.parent.name, path.stem)


FILES = {name: kind(CONFIGS / name) for name in sorted(str(p.relative_to(CONFIGS)) for p in CONFIGS.rglob("*.yaml"))}


def named(wanted: str) -> list[str]:
    return [name for name, what in FILES.items() if what == wanted]


def instantiate(*arguments: str) -> MentorCLI:
    cli = MentorCLI(
        MentorModule,
        MentorDataModule,
        args=list(arguments),
        run=False,
        parser_class=_Parser,
        save_config_callback=SaveConfig,
        save_config_kwargs={"save_to_log_dir": False},
        auto_configure_optimizers=False,
        seed_everything_default=0,
    )
    cli.datamodule.close()
    return cli


def test_every_file_is_of_a_known_kind() -> None:
    assert set(FILES.values()) <= {"fit", "evaluate", "overlay", "reward", "collect"}
    assert {"mentor.yaml", "sparse.yaml", "sft.yaml"} <= set(named("fit"))


pytestmark = pytest.mark.filterwarnings("ignore:LightningCLI.s args parameter")


@pytest.mark.parametrize("name", named("fit"))
def test_a_fit_config(name: str, tmp_path: Path) -> None:
    cli = instantiate(f"--config={CONFIGS / name}", f"--run_dir={tmp_path}")
    assert isinstance(cli.model, MentorModule) and cli.model.student is None
    assert isinstance(cli.model.loader, StudentLoader)
    assert cli.datamodule.splits.train[0].world.toolbox.specs
    assert cli.trainer.default_root_dir == str(tmp_path)
    assert {type(callback).__name__ for callback in cli.trainer.callbacks} >= {
        *(
            "GracefulStop",
            "RunCheckpoint",
            "TrajectoryRecorder",
            "RunSummary",
            "ExportStudent",
            "NonFiniteGuard",
            "CollapseGuard",
        ),
    }


@pytest.mark.parametrize("name", named("evaluate"))
def test_a_config_that_only_evaluates(name: str, tmp_path: Path) -> None:
    pytest.importorskip("bfcl_eval")
    cli = instantiate(f"--config={CONFIGS / name}", f"--run_dir={tmp_path}")
    assert not cli.datamodule.splits.train
    assert all(split.reward is not None for split in cli.datamodule.splits.evaluation)


def test_a_graceful_stop_of_ones_own_takes_the_place_of_the_usual_one(tmp_path: Path) -> None:
    stop = ("--trainer.callbacks+=mentor_pl.callbacks.graceful_stop.GracefulStop", "--trainer.callbacks.grace_s=30")
    cli = instantiate(f"--config={CONFIGS / 'mentor.yaml'}", f"--run_dir={tmp_path}", *stop)
    stops = [callback for callback in cli.trainer.callbacks if isinstance(callback, GracefulStop)]
    assert [stop.grace_s for stop in stops] == [30.0]


@pytest.mark.parametrize("name", named("overlay"))
def test_an_overlay_on_the_default(name: str, tmp_path: Path) -> None:
    cli = instantiate(f"--config={CONFIGS / 'mentor.yaml'}", f"--config={CONFIGS / name}", f"--run_dir={tmp_path}")
    overlay = yaml.safe_load((CONFIGS / name).read_text())
    made = cli.parser.dump(cli.config, skip_none=False)
    assert _contains(yaml.safe_load(made), overlay) == []


def _contains(config: Any, overlay: Any, path: str = "") -> list[str]:
    """Which settings of an overlay did not arrive."""
    if isinstance(overlay, dict):
        return [
            lost
            for key, value in overlay.items()
            for lost in (
                _lacks(config.get(key[:-1]), value, f"{path}.{key}")
                if key.endswith("+")
                else _contains(config.get(key), value, f"{path}.{key}")
            )
        ]
    if isinstance(config, dict) and str(overlay).endswith(".yaml"):  # a file, whose content it is
        return []
    if isinstance(config, dict) and isinstance(overlay, str):  # a class by its name alone
        config, path = config.get("class_path", ""), f"{path}.class_path"
    if path.endswith("class_path"):  # resolved from a plugin's name
        return [] if config.rpartition(".")[2] == overlay.rpartition(".")[2] else [path]
    if path.endswith(".reward") and isinstance(overlay, str):  # a file, beside the folder of the overlay
        wanted = yaml.safe_load((CONFIGS / "arms" / overlay).read_text())["terms"]
        return [] if [term["name"] for term in config["terms"]] == [term["name"] for term in wanted] else [path]
    return [] if config == overlay or str(config).startswith(str(overlay)) else [path]


def _lacks(configs: list[Any], appended: list[Any], path: str) -> list[str]:
    return [path for item in appended if all(_contains(config, item, path) for config in configs)]


def test_the_three_methods_differ_in_what_defines_them_only() -> None:
    mentor, sparse, sft = (
        yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) for name in ("mentor", "sparse", "sft")
    )
    assert (mentor["data"].pop("reward"), sparse["data"].pop("reward")) == (
        "rewards/mentor.yaml",
        "rewards/sparse.yaml",
    )
    assert mentor == sparse
    for key in ("references", "evaluation", "tools", "limits"):
        assert sft["data"][key] == mentor["data"][key]
    assert sft["model"]["student"] == mentor["model"]["student"]


@pytest.mark.parametrize(
    ("argument", "messages"),
    [
        ("--model.student=FulStudent", ["FulStudent", "did you mean 'FullStudent'", "LoraStudent", "mentor-pl 0"]),
        ("--model.engine=VllmEngin", ["VllmEngin", "AutoEngine", "HFGenerateEngine"]),
        ("--model.student.pth=x", ["pth"]),
        ("--model.loss.clip_hgh=0.3", ["clip_hgh"]),
        ("--model.loss=ClipedSurrogate", ["ClipedSurrogate"]),
        ("--data.group_sise=4", ["group_sise"]),
        ("--data.group_size=four", ["group_size", "four"]),
        ("--data.limits.max_trns=4", ["max_trns"]),
        ("--data.tools=[{class_path: PythonFunction, init_args: {module: x}}]", ["PythonFunction", "PythonFunctions"]),
        ("--data.tools=[{class_path: PythonFunctions, init_args: {modul: x}}]", ["modul", "timeout_s"]),
        ("--data.reward=rewards/mentr.yaml", ["mentr.yaml"]),
        ("--trainer.max_epohcs=1", ["max_epohcs"]),
    ],
)
def test_what_is_misspelt_is_named(
    argument: str,
    messages: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mentor_pl.students.pretrained.Pretrained.load_model", _refuse)
    with pytest.raises(SystemExit) as stopped:
        main(["fit", f"--config={CONFIGS / 'mentor.yaml'}", f"--run_dir={tmp_path}", argument])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    for message in messages:
        assert message in said


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("the student was loaded")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.group_size=1"], "mentor-pl: ConfigError: data.round.group_size is 1; trajectories are compared"),
        (["--data.sampling.temperature=-1"], "sampling.temperature is -1"),
        (["--data.limits.max_turns=0"], "limits.max_turns is 0; it must be positive"),
        (["--model.loss.clip_low=2"], "clip_low 2.0 must lie in (0, 1)"),
        (["--data.references=embedded:trian.jsonl"], "ConfigError: there is no embedded file 'trian.jsonl'; there are"),
        (["--data.references=nowhere.jsonl"], "mentor-pl: DataFileError: nowhere.jsonl"),
        (
            ["--model.student.path=no/such/folder"],
            "mentor-pl: StudentError: student 'no/such/folder': there is no such folder",
        ),
        (["--data.tools=[{class_path: PythonFunctions, init_args: {module: no_such_module}}]"], "no_such_module"),
    ],
)
def test_what_cannot_work_ends_with_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mentor_pl.students.pretrained.Pretrained.load_model", _refuse)
    with pytest.raises(SystemExit) as stopped:
        main(["fit", f"--config={CONFIGS / 'mentor.yaml'}", f"--run_dir={tmp_path}", *arguments])
    assert stopped.value.code in (1, 2)
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
