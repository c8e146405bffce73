"""Where a run lies."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from mentor_pl.errors import ConfigError

_RUNS = Path("runs")

_RUN_DIR_ENV = "MENTOR_PL_RUN_DIR"
"""Tells the processes that Lightning launches for further ranks which folder the first one chose.

Whoever else inherits it, such as a second run of the same Python process, chooses its own.
"""


def choose_run_dir(chosen: str | None, subcommand: str) -> Path:
    """Return the folder of a run, the same one in all of its processes.

    Args:
        chosen: As `--run_dir` names it; without it, a new one under `runs/`.
        subcommand: Gives a new one its name, with the time or the job.

    Raises:
        ConfigError: torchrun gave its job no name.
    """
    if chosen is None:
        stamp = os.environ.get("TORCHELASTIC_RUN_ID") or os.environ.get("SLURM_JOB_ID")
        if stamp == "none":  # torchrun's default; every run would have the same folder
            raise ConfigError(
                "torchrun was given no name for the run; add --rdzv-id NAME or --standalone to it, or set --run_dir"
            )
        stamp = stamp or datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        launched = os.environ.get("LOCAL_RANK", "0") != "0"
        chosen = (launched and os.environ.get(_RUN_DIR_ENV)) or str(_RUNS / f"{subcommand}-{stamp}")
    run_dir = Path(chosen).resolve()  # runs/last is a link
    os.environ[_RUN_DIR_ENV] = str(run_dir)
    return run_dir


def point_last_to(run_dir: Path) -> None:
    """Make `runs/last` a link to a run that lies in `runs/`; beside a folder elsewhere nobody expects one."""
    run_dir.mkdir(parents=True, exist_ok=True)
    if run_dir.parent != _RUNS.resolve():
        return
    last = run_dir.parent / "last"
    if last.is_symlink() or not last.exists():
        partial = last.with_name(f".last.{os.getpid()}")
        partial.symlink_to(run_dir.name, target_is_directory=True)
        os.replace(partial, last)
