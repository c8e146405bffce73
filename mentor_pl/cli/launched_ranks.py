"""Several processes of one run: where one of them refuses to start, all end soon, and one of them says why."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
import threading
import time
from datetime import timedelta

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from mentor_pl.errors import ConfigError, MentorError

_log = logging.getLogger(__name__)

_LAUNCHERS = (TorchElasticEnvironment, SLURMEnvironment, LSFEnvironment, MPIEnvironment)  # in Lightning's order
_ANOTHER_RANK_COMES_S = 1800.0
_CHILD_ENDS_S = 10.0
_POLL_S = 0.5
_REFUSED = "refused"
_runs_of_this_process = itertools.count()


class LaunchedRanks(Callback):
    """The ranks of a run, until each has begun its work.

    PyTorch waits half an hour for a rank that never comes, and a collective may wait for ever. So
    ranks started by torchrun, SLURM, LSF or MPI meet in a store at their launcher's address, which
    is the one that PyTorch's process group uses afterwards. A rank that refuses leaves a note
    there, and the others end when they see it. Ranks that Lightning starts are children of rank 0,
    which ends them itself, and ends when one of them has.

    Args:
        patience_s: How long a refusing rank waits for the others: for those that host the store or
            look at it, or, in a child of rank 0, for rank 0 to refuse the same.
    """

    def __init__(self, patience_s: float = 60.0) -> None:
        self._patience_s = patience_s
        self._begun = threading.Event()
        self._environment = _launcher()
        self._rank = 0 if self._environment is None else self._environment.global_rank()
        self._is_told = False
        self._store: TCPStore | None = None
        self._connected = threading.Event()
        restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._prefix = f"mentor_pl/{restart}/{next(_runs_of_this_process)}/"
        if self._environment is not None:
            threading.Thread(target=self._watch, args=(self._environment,), name="launched ranks", daemon=True).start()

    def refuse(self) -> bool:
        """Tell the other ranks that this one will not start, and return whether it should say why.

        It should where no other rank has done so, or where its work had begun already.
        """
        if self._begun.is_set():
            return True
        self._begun.set()  # nothing is watched any longer
        if self._is_told:
            return False
        if self._environment is None:
            if _is_child():  # rank 0 may refuse the same; then it says so, and ends this process
                time.sleep(min(self._patience_s, _CHILD_ENDS_S))
            return True
        if not self._connected.wait(self._patience_s) or self._store is None:
            return True
        try:
            mine = self._note(_REFUSED, str(self._rank))
            self._leave()
        except RuntimeError:  # the host is gone
            return True
        return mine

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch no longer: a run that has begun saves before it ends."""
        self._begun.set()

    on_sanity_check_start = on_validation_start = on_test_start = on_predict_start = on_train_start

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the ranks that Lightning has started, which may wait for this one for ever."""
        launcher = trainer.strategy.launcher
        if self._begun.is_set() or not isinstance(launcher, _SubprocessScriptLauncher):
            return
        if not isinstance(exception, MentorError):  # a child may have refused, and closed its connections
            deadline = time.monotonic() + _CHILD_ENDS_S
            while launcher.procs and time.monotonic() < deadline and not self._is_told:
                self._is_told = any(child.poll() for child in launcher.procs)
                time.sleep(_POLL_S / 5)
        launcher.kill(signal.SIGKILL)

    def _watch(self, environment: ClusterEnvironment) -> None:
        is_host = self._rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        try:
            self._store = TCPStore(
                environment.main_address,
                environment.main_port,
                is_master=is_host,
                timeout=timedelta(seconds=_ANOTHER_RANK_COMES_S),
                wait_for_workers=False,
                multi_tenant=True,  # the process group shares the server
            )
        except (RuntimeError, OSError, ValueError, KeyError) as failure:
            _log.debug("ranks cannot be watched: %s", failure)
            return
        finally:
            self._connected.set()
        while not self._begun.wait(_POLL_S):
            try:
                if not self._store.check([self._prefix + _REFUSED]):
                    continue
                self._leave()
            except RuntimeError:
                if self._begun.is_set():
                    return
                print(f"mentor-pl: rank 0 is gone; this process (rank {self._rank}) ends", file=sys.stderr)
            sys.stderr.flush()
            os._exit(1)  # the main thread may wait in a collective

    def _note(self, name: str, what: str) -> bool:
        """Leave a note, unless there is one; return whether it is ours."""
        assert self._store is not None
        return self._store.compare_set(self._prefix + name, "", what) == what.encode()

    def _leave(self) -> None:
        """Note that this rank goes; one that hosts the store stays until the others have read."""
        assert self._store is not None and self._environment is not None
        self._note(f"gone/{self._rank}", "gone")
        others = [f"{self._prefix}gone/{rank}" for rank in range(self._environment.world_size()) if rank != self._rank]
        deadline = time.monotonic() + (self._patience_s if self._rank == 0 else 0.0)
        while time.monotonic() < deadline and not self._store.check(others):
            time.sleep(_POLL_S / 5)


def check_launcher(trainer: Trainer) -> None:
    """Check that a launcher has started as many processes as the run is to have.

    Raises:
        ConfigError: It has not.
    """
    launcher = trainer.strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return
    try:
        launcher.cluster_environment.validate_settings(num_devices=trainer.num_devices, num_nodes=trainer.num_nodes)
    except ValueError as failure:
        raise ConfigError(
            f"trainer.devices is {trainer.num_devices} and trainer.num_nodes is {trainer.num_nodes}, which is not what the "
            f"launcher has started: {failure}"
        ) from None


def _launcher() -> ClusterEnvironment | None:
    """Return what started this process as one of several; None where nothing did, or Lightning."""
    for kind in _LAUNCHERS:
        if kind.detect():
            found = kind()
            return found if found.world_size() > 1 else None
    return None


def _is_child() -> bool:
    return os.environ.get("LOCAL_RANK", "0") != "0"
