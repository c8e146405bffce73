from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.plugins.precision import DoublePrecision, FSDPPrecision, HalfPrecision, Precision
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, SingleDeviceStrategy
from torch import nn

from mentor_pl.errors import ConfigError
from mentor_pl.training.checkpoint_io import by_index, by_name
from mentor_pl.training.fsdp1 import FSDP1Strategy
from mentor_pl.training.fsdp2 import FSDP2Strategy, check_strategy, decoder_layers, gathered
from mentor_pl.training.sharded_checkpoints import _replace


def test_parameters_of_an_optimiser_state_are_numbered_in_its_own_order_and_named_again() -> None:
    named = {
        "state": {"b": {"step": 1}, "a": {"step": 2}},
        "param_groups": [{"lr": 0.1, "params": ["b"]}, {"lr": 0.2, "params": ["a", "c"]}],
    }
    numbered = {
        "state": {0: {"step": 1}, 1: {"step": 2}},
        "param_groups": [{"lr": 0.1, "params": [0]}, {"lr": 0.2, "params": [1, 2]}],
    }
    assert by_index(named) == numbered
    assert by_name(numbered, ["b", "a", "c"]) == named


def test_strategies_that_cannot_gather_are_refused() -> None:
    for strategy in (SingleDeviceStrategy(), DDPStrategy()):
        check_strategy(strategy)
    check_strategy(FSDP1Strategy())
    with pytest.raises(
        ConfigError, match=r"trainer\.strategy is Lightning's own FSDPStrategy, .*; take configs/strategy/fsdp1\.yaml"
    ):
        check_strategy(FSDPStrategy())


@pytest.mark.parametrize("plugin", [HalfPrecision("bf16-true"), DoublePrecision(), FSDPPrecision("16-true")])
def test_precisions_that_convert_batches_are_refused(plugin: Precision) -> None:
    strategy = FSDP1Strategy() if isinstance(plugin, FSDPPrecision) else SingleDeviceStrategy()
    strategy.precision_plugin = plugin
    with pytest.raises(ConfigError, match=rf"trainer\.precision is {plugin.precision}, .* bf16-mixed"):
        check_strategy(strategy)


def test_a_model_without_named_layers_is_not_sharded() -> None:
    with pytest.raises(ConfigError, match=r"Linear does not name its decoder layers .*ddp\.yaml"):
        decoder_layers(nn.Linear(2, 2))


def test_nothing_has_to_be_gathered_of_a_whole_model() -> None:
    model = nn.Linear(2, 2)
    with gathered(model) as whole:
        assert whole is model


def test_a_sharded_checkpoint_is_a_folder_by_default() -> None:
    assert FSDP2Strategy()._save_distributed_checkpoint


@pytest.mark.parametrize("older", ["none", "file", "folder", "link"])
def test_a_folder_takes_the_place_of_whatever_was_there(tmp_path: Path, older: str) -> None:
    target, fresh, other = tmp_path / "last.ckpt", tmp_path / ".partial", tmp_path / "step=1.ckpt"
    fresh.mkdir()
    (fresh / "new").touch()
    other.mkdir()
    (other / "kept").touch()
    if older == "file":
        target.touch()
    elif older == "folder":
        target.mkdir()
        (target / "old").touch()
    elif older == "link":
        target.symlink_to(other.name)
    _replace(fresh, target)
    assert [file.name for file in target.iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "step=1.ckpt"]
    assert (other / "kept").exists()
