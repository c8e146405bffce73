import itertools
import os
import random
import resource
import signal
import time

import pytest
import torch

from mentor_pl.training.checkpoint_io import AtomicCheckpointIO


def checkpoint(value, size=100_000):
    return {"value": value, "state_dict": {"w": torch.full((size,), float(value))}}


def whole(path):
    """The number in a checkpoint, once all of it is seen to belong together."""
    loaded = AtomicCheckpointIO().load_checkpoint(path, weights_only=True)
    assert (loaded["state_dict"]["w"] == loaded["value"]).all()
    return loaded["value"]


def test_a_checkpoint_is_read_back(tmp_path):
    path = tmp_path / "new folder" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(checkpoint(1), path)
    AtomicCheckpointIO().save_checkpoint(checkpoint(2), str(path))
    assert whole(path) == 2
    assert os.listdir(path.parent) == ["last.ckpt"]


def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    io, rng = AtomicCheckpointIO(), random.Random(0)
    # Made before the fork: a forked child must not compute with threads that it does not have.
    checkpoints = [checkpoint(value) for value in range(100)]
    io.save_checkpoint(checkpoints[0], path)
    kills = cut_short = 0
    while kills < 20 or (not cut_short and kills < 500):
        if (child := os.fork()) == 0:
            for number in itertools.count():
                io.save_checkpoint(checkpoints[number % 100], path)
        time.sleep(rng.uniform(0.002, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert 0 <= whole(path) < 100
        kills += 1
        cut_short += any(name != "last.ckpt" for name in os.listdir(tmp_path))
    assert cut_short  # kills did hit the writing
    io.save_checkpoint(checkpoints[0], path)
    assert os.listdir(tmp_path) == ["last.ckpt"]  # what they left is swept


def test_a_full_disk_is_an_error_and_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(checkpoint(1), path)
    larger = checkpoint(2)
    if (child := os.fork()) == 0:
        status = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            AtomicCheckpointIO().save_checkpoint(larger, path)
        except OSError as error:
            status = 0 if "last.ckpt" in str(error) else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "an OSError that names the file was expected"
    assert whole(path) == 1
    assert os.listdir(tmp_path) == ["last.ckpt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_is_an_error(tmp_path):
    (tmp_path / "fixed").mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        AtomicCheckpointIO().save_checkpoint(checkpoint(1), tmp_path / "fixed" / "last.ckpt")
