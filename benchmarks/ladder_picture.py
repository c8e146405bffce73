"""The picture of the ladder's methods: accuracy against similarity of tool use to the teacher, as in the paper's figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.ladder_table import IN_DOMAIN, Run, half_width, out_of_domain


def draw(path: Path, runs: Mapping[str, Sequence[Run]]) -> bool:
    """Draw means with their 95 % intervals over seeds, in domain and out of it.

    Args:
        path: The PNG file.
        runs: Of each arm, by its name.

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

    figure, panels = pyplot.subplots(1, 2, figsize=(11, 5), sharey=True)
    for panel, part in zip(panels, ("in domain", "out of domain"), strict=True):
        for name, of_seeds in runs.items():
            x, y = ([_value(run, metric, part) for run in of_seeds] for metric in ("tool_similarity", "accuracy"))
            panel.errorbar(
                *(fmean(x), fmean(y)), xerr=half_width(x), yerr=half_width(y), fmt="o", capsize=3, label=name
            )
        panel.set(title=part, xlabel="similarity of tool use to the teacher (1 - JSD, bits)")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy")
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="lower center", ncols=4)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return True


def _value(run: Run, metric: str, part: str) -> float:
    if part == "in domain":
        return float(run["after"][IN_DOMAIN][metric])
    return out_of_domain(run, metric)
