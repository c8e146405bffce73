import os
import signal
import subprocess
import sys

import pytest

from mentor_pl.engines.vllm.exchange import ExchangeFolder

HOLD = """
import sys
from pathlib import Path
from mentor_pl.engines.vllm.exchange import ExchangeFolder
folder = ExchangeFolder(Path(sys.argv[1]))
(folder.path / "adapter").mkdir()
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process with a folder, until it is killed or its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith(str(tmp_path))
    yield process
    process.kill()
    process.communicate()


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_folder_goes_when_it_is_closed_and_only_then(tmp_path):
    first, second = ExchangeFolder(tmp_path), ExchangeFolder(tmp_path)
    (first.path / "weights").write_text("x")
    first.close()
    assert names(tmp_path) == [second.path.name, f"{second.path.name}.lock"]
    second.close()
    second.close()
    assert names(tmp_path) == []


def test_servers_of_another_user_may_read(tmp_path):
    before = os.umask(0o077)
    try:
        folder = ExchangeFolder(tmp_path)
    finally:
        os.umask(before)
    assert folder.path.stat().st_mode & 0o777 == 0o755
    folder.close()


def test_a_process_that_ends_takes_its_folder_along(tmp_path, other):
    other.communicate()
    assert names(tmp_path) == []


def test_the_folder_of_a_killed_process_goes_with_the_next_one_and_that_of_a_living_one_stays(tmp_path, other):
    theirs = names(tmp_path)
    ExchangeFolder(tmp_path).close()
    assert names(tmp_path) == theirs
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert names(tmp_path) == theirs
    ExchangeFolder(tmp_path).close()
    assert names(tmp_path) == []


def test_what_is_not_ours_stays(tmp_path):
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "mentor-pl-x.lock").symlink_to(tmp_path / "notes")
    (tmp_path / "mentor-pl-y").mkdir()
    ExchangeFolder(tmp_path).close()
    assert names(tmp_path) == ["mentor-pl-x.lock", "mentor-pl-y", "notes"]
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_place_that_does_not_exist(tmp_path):
    with pytest.raises(OSError, match="no folder .*nowhere"):
        ExchangeFolder(tmp_path / "nowhere")
    assert names(tmp_path) == []
