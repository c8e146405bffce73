from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
import torch

from mentor_pl.errors import ConfigError
from mentor_pl.training.checkpoint_file import read_checkpoint
from mentor_pl.training.checkpoint_io import DIGESTS, METADATA, AtomicCheckpointIO, file_digest
from mentor_pl.training.resume import RUN_KEY, check_same_optimizer, check_same_run


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"global_step": 3, "state_dict": {"w": torch.ones(5000)}}, path)
    return path


def test_a_whole_checkpoint_is_read(saved: Path) -> None:
    assert read_checkpoint(saved)["global_step"] == 3


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: b"", "is empty"),
        (lambda data: data[: len(data) // 2], "cut off, damaged or no checkpoint"),
        (lambda data: b"no checkpoint at all" * 100, "cut off, damaged or no checkpoint"),
        # Within the weights: torch itself would load it.
        (
            lambda data: data.replace(b"\x00\x00\x80\x3f" * 9, b"\x00\x00\x80\x3e" + b"\x00\x00\x80\x3f" * 8, 1),
            "checksum",
        ),
    ],
)
def test_a_damaged_one_is_refused(saved: Path, spoil, message: str) -> None:
    data = saved.read_bytes()
    spoilt = spoil(data)
    assert spoilt != data
    saved.write_bytes(spoilt)
    with pytest.raises(ConfigError, match=message):
        read_checkpoint(saved)


def test_a_flipped_bit_in_a_shard_is_refused_by_the_name_of_its_file(tmp_path: Path) -> None:
    shard = tmp_path / "__1_0.distcp"
    shard.write_bytes(b"weights")
    torch.save({"global_step": 3}, tmp_path / METADATA)
    assert read_checkpoint(tmp_path)["global_step"] == 3  # of an earlier version, without digests
    digests = {file.name: file_digest(file) for file in (shard, tmp_path / METADATA)}
    assert digests[shard.name] == f"{zlib.crc32(b'weights'):08x}"
    (tmp_path / DIGESTS).write_text(json.dumps(digests))
    assert read_checkpoint(tmp_path)["global_step"] == 3
    shard.write_bytes(b"weighus")
    with pytest.raises(ConfigError, match="is damaged: the checksum of its file '__1_0.distcp' is wrong"):
        read_checkpoint(tmp_path)
    assert read_checkpoint(tmp_path, check_digest=False)["global_step"] == 3
    shard.unlink()
    with pytest.raises(ConfigError, match="'__1_0.distcp'"):
        read_checkpoint(tmp_path)


def test_what_is_missing_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "none.ckpt")
    torch.save({"w": torch.ones(2)}, tmp_path / "weights.ckpt")
    with pytest.raises(ConfigError, match="is no checkpoint of a run"):
        read_checkpoint(tmp_path / "weights.ckpt")


RUN = {RUN_KEY: {"data": {"prompts_per_round": 4, "seed": 0}, "optimizers": ["AdamW"]}}


def test_a_position_under_other_settings_is_refused() -> None:
    check_same_run(RUN, {"prompts_per_round": 4, "seed": 0})
    with pytest.raises(ConfigError, match="data.prompts_per_round is 8, but the checkpoint was saved with 4"):
        check_same_run(RUN, {"prompts_per_round": 8, "seed": 0})
    with pytest.raises(ConfigError, match="holds no position of a run"):
        check_same_run({"global_step": 1}, {"seed": 0})


def test_another_optimisers_state_is_refused() -> None:
    check_same_optimizer(RUN, "AdamW")
    with pytest.raises(ConfigError, match="model.optimizer is SGD, but the checkpoint holds the state of AdamW"):
        check_same_optimizer(RUN, "SGD")
