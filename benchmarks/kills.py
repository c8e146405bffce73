"""70 runs, each killed at a random moment and resumed: does each end as the undisturbed run did?

    python -m benchmarks.kills [--folder DIR] [--only 0,3,5] [--table]

50 SIGKILLs and 20 SIGTERMs, over every phase of a run, in runs whose length is given in epochs, in steps and in time, in one process and
in two ranks (DDP). A run counted in time makes as many updates as it can; it is compared with an undisturbed run of so many steps. Where
it ends before the kill's moment, since the machine is busy, it is run again with twice the time. Each case is written to
`benchmarks/results/kills/`, and is not run again while its file is there and its moment came.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import kills_process
from benchmarks.kills_comparison import differences
from benchmarks.kills_process import PHASES, Kill
from mentor_pl.embedded import resolve

RESULTS = Path(__file__).parent / "results" / "kills"
_SIGKILLS, _SIGTERMS = 50, 20
_PROMPTS, _EPOCHS = 16, 2
_UPDATES = _PROMPTS // 4 * _EPOCHS
_LENGTHS = ("epochs", "steps", "time")
_IMPORT_S = 8.0
_RESUMES = 3
_TIMES_S = (6, 12, 24, 48)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kill.

    Attributes:
        number: Names the case, and seeds what is random in it.
        signal: "SIGKILL" or "SIGTERM".
        phase: When it comes; see `kills_process.PHASES`.
        length: What the run's length is given in.
        ranks: Number of processes.
        every_s: `checkpoint.last_every_s`.
    """

    number: int
    signal: str
    phase: str
    length: str
    ranks: int
    every_s: float


def cases() -> list[Case]:
    """Return all of them; phases, lengths and numbers of ranks come in all combinations."""
    found: list[Case] = []
    for name, count in (("SIGKILL", _SIGKILLS), ("SIGTERM", _SIGTERMS)):
        for index in range(count):
            found.append(
                Case(
                    number=len(found),
                    signal=name,
                    phase=PHASES[index % len(PHASES)],
                    length=_LENGTHS[index // len(PHASES) % 3],
                    ranks=1 + (index + index // len(PHASES)) % 2,
                    every_s=(60.0, 0.0)[index // 2 % 2],
                )
            )
    return found


class Bench:
    """Runs cases, and the undisturbed runs that they are compared with.

    Args:
        folder: Where runs are kept while they are needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = resolve("embedded:train.parallel.jsonl").read_text(encoding="utf-8").splitlines()[:_PROMPTS]
        self.references = self.folder / "references.jsonl"
        self.references.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def arguments(
        self, length: str, *, ranks: int, every_s: float = 60.0, steps: int = _UPDATES, time_s: int = _TIMES_S[0]
    ) -> list[str]:
        """Return the arguments of a run, which is about as small as one can be."""
        lengths = {
            "epochs": ["--trainer.max_epochs", str(_EPOCHS)],
            "steps": ["--trainer.max_epochs=-1", "--trainer.max_steps", str(steps)],
            "time": ["--trainer.max_epochs=-1", "--trainer.max_time", f"00:00:00:{time_s:02d}"],
        }
        return [
            *("fit", "--config", "mentor", "--run_dir", "run", *lengths[length]),
            *("--data.references", str(self.references), "--data.evaluation", "{id: 'embedded:eval/id.jsonl'}"),
            *("--data.max_problems", "4", "--data.prompts_per_round", "4", "--data.group_size", "4"),
            *("--trainer.accelerator", "cpu", "--trainer.devices", str(ranks)),
            *(("--trainer.strategy", "ddp") if ranks > 1 else ()),
            *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
            *("--checkpoint.last_every_s", str(every_s)),
        ]

    def undisturbed(self, length: str, *, ranks: int, steps: int = _UPDATES) -> Path:
        """Return the folder of the run that is left alone; it is made where it is missing."""
        folder = self.folder / f"undisturbed-{length}-{steps}-{ranks}"
        if not (folder / "durations.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            ended = kills_process.run(
                self.arguments(length, ranks=ranks, steps=steps), ranks=ranks, folder=folder, kill=None
            )
            if any(ended.statuses):
                raise SystemExit(f"the undisturbed run failed: {folder}/log.txt")
            (folder / "durations.json").write_text(json.dumps(ended.durations_s))
        return folder

    def run(self, case: Case) -> dict[str, Any]:
        """Kill a run, resume it to its end, and say what differs from the undisturbed one."""
        cpu_before, began = _cpu_s(), time.time()
        undisturbed = self.undisturbed("steps" if case.length == "time" else case.length, ranks=case.ranks)
        kill = _kill_of(case, json.loads((undisturbed / "durations.json").read_text()))
        folder = self.folder / f"case{case.number:02d}"
        for time_s in _TIMES_S if case.length == "time" else _TIMES_S[:1]:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            arguments = self.arguments(case.length, ranks=case.ranks, every_s=case.every_s, time_s=time_s)
            first = kills_process.run(arguments, ranks=case.ranks, folder=folder, kill=kill)
            if first.killed:
                break
        last, resumed_at = folder / "run" / "checkpoints" / "last.ckpt", []
        ended = first
        while not (folder / "run" / "finished.json").exists() and len(resumed_at) < _RESUMES:
            resumed_at.append(_step_of(last) if last.exists() else 0)
            resuming = ["--ckpt_path", str(last)] if last.exists() else []
            ended = kills_process.run([*arguments, *resuming], ranks=case.ranks, folder=folder, kill=None)
        finished = folder / "run" / "finished.json"
        steps = json.loads(finished.read_text())["steps"] if finished.exists() else None
        found = ["the run never ended"]
        if steps is not None:
            if case.length == "time":
                undisturbed = self.undisturbed("steps", ranks=case.ranks, steps=steps)
            found = differences(undisturbed / "run", folder / "run", ends_by_time=case.length == "time")
        if not first.killed:
            found.append("the kill's moment never came")
        if first.left_alone:
            found.append(f"ranks {first.left_alone} did not end by themselves")
        if not found:
            shutil.rmtree(folder)
        return {
            **dataclasses.asdict(case),
            "occurrence": kill.occurrence,
            "delay_s": round(kill.delay_s, 4),
            "ranks_killed": kill.ranks,
            "came_to_pass": first.killed,
            "statuses": first.statuses,
            "ended_s": first.ended_s,
            "resumed_at": resumed_at,
            "last_statuses": ended.statuses,
            "steps": steps,
            "differences": found,
            "cpu_s": round(_cpu_s() - cpu_before, 1),
            "wall_s": round(time.time() - began, 1),
        }


def _kill_of(case: Case, durations_s: dict[str, list[float]]) -> Kill:
    draw = random.Random(case.number)
    of_phase = durations_s.get(case.phase, [_IMPORT_S])
    occurrence = draw.randrange(len(of_phase))
    ranks = draw.choice([(0,), (1,), (0, 1)]) if case.ranks > 1 and case.phase != "import" else (0,)
    delay_s = draw.random() * of_phase[occurrence]
    number = signal.Signals[case.signal]
    return Kill(signal=number, phase=case.phase, occurrence=occurrence, delay_s=delay_s, ranks=ranks)


def _step_of(checkpoint: Path) -> int:
    import torch

    return int(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["global_step"])


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def table() -> str:
    """Lay the results out as Markdown, a row per phase."""
    rows = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("case*.json"))]
    lines = ["| phase | kills | identical | other |", "|---|---|---|---|"]
    for phase in PHASES:
        of_phase = [row for row in rows if row["phase"] == phase]
        bad = [f"case {row['number']}: {row['differences'][0]}" for row in of_phase if row["differences"]]
        lines.append(f"| {phase} | {len(of_phase)} | {len(of_phase) - len(bad)} | {'; '.join(bad)} |")
    whole = sum(not row["differences"] for row in rows)
    cpu_s = sum(row["cpu_s"] for row in rows)
    slowest_s = max((row["ended_s"] for row in rows if row["signal"] == "SIGTERM"), default=0.0)
    lines += ["", f"{whole} of {len(rows)} ended as the undisturbed run; {cpu_s:.0f} seconds of processor time."]
    lines += [f"The slowest end after SIGTERM took {slowest_s} s of wall-clock time."]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run from the command line; return 1 where any case differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mentor-pl-kills")
    parser.add_argument("--only", help="numbers of cases, separated by commas")
    parser.add_argument("--table", action="store_true", help="write kills.md from the results that are there")
    args = parser.parse_args(argv)
    if not args.table:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        kills_process.prepare()
        bench = Bench(args.folder)
        RESULTS.mkdir(parents=True, exist_ok=True)
        wanted = set(map(int, args.only.split(","))) if args.only else None
        for case in cases():
            file = RESULTS / f"case{case.number:02d}.json"
            if wanted is not None and case.number not in wanted:
                continue
            if file.exists() and json.loads(file.read_text())["came_to_pass"]:
                continue
            result = bench.run(case)
            file.write_text(json.dumps(result, indent=1) + "\n")
            print(json.dumps(result), flush=True)
    (RESULTS / "kills.md").write_text(table() + "\n")
    print(table())
    return int(any(json.loads(file.read_text())["differences"] for file in RESULTS.glob("case*.json")))


if __name__ == "__main__":
    sys.exit(main())
