"""`mentor-pl report`: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path

from mentor_pl.cli.parser import call
from mentor_pl.reporting.page import render_report
from mentor_pl.reporting.run import read_run


def report(run: Path, output: Path | None = None, max_trajectories: int = 400) -> None:
    """Write a self-contained page: curves, tables, and trajectories beside their teacher's solutions.

    Args:
        run: Folder of the run, for example runs/last; it may still be under way.
        output: The page; `report.html` in the run's folder by default.
        max_trajectories: Trajectories on the page, evenly over the run.
    """
    page = run / "report.html" if output is None else output
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render_report(read_run(run, max_trajectories=max_trajectories)), encoding="utf-8")
    print(f"The report is {page}")


def main(argv: list[str]) -> None:
    """Run `mentor-pl report`."""
    call(report, argv, prog="mentor-pl report", as_positional=True)
