"""The picture of a comparison: success of each arm, in domain and out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PARTS = ("in domain", "out of domain")


def draw(path: Path, summary: Mapping[str, Any], missing: Sequence[str]) -> bool:
    """Draw what has ended.

    Args:
        path: The PNG file.
        summary: Of `report.summarise`, by the arm's title.
        missing: What has not ended; the picture says how much.

    Returns:
        Whether it was drawn; it takes matplotlib.
    """
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is missing; `pip install mentor-pl[plot]`")
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    titles = list(summary)
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 0.45 * len(titles) + 1.6), sharey=True, sharex=True)
    for panel, part in zip(panels, PARTS, strict=True):
        for row, title in enumerate(titles):
            cell = summary[title][part]["success"]
            low, high = cell["interval"] or (cell["mean"], cell["mean"])
            panel.plot([low, high], [row, row], color="0.6", linewidth=2, zorder=1)
            panel.scatter(cell["values"], [row] * len(cell["values"]), color="0.6", s=14, zorder=2)
            panel.scatter([cell["mean"]], [row], color="black" if title == "start" else "tab:blue", s=46, zorder=3)
        panel.set(title=part, xlabel="success, with 95 % interval")
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(titles)), titles)
    panels[0].invert_yaxis()
    panels[0].set_xlim(left=0)
    if missing:
        figure.text(0.99, 0.01, f"partial: {len(missing)} runs are missing", ha="right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return True
