"""One comparison from its data to its tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.evidence.outcomes import Outcome, read_outcomes
from benchmarks.evidence.plan import Arm, Plan
from benchmarks.evidence.report import write_report
from benchmarks.evidence.runs import fit, predict
from mentor_pl.files.references import read_references, write_references

START = "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A plan and where it is carried out.

    Attributes:
        plan: What is compared.
        runs: Folder of the runs; a folder of the plan's name is made in it.
        results: Folder of the JSON files and tables of what has ended.
        only: Names of arms; None for all.
        seeds: Only the first so many; None for all.
        jobs: How many arms are trained at a time.
    """

    plan: Plan
    runs: Path
    results: Path
    only: Sequence[str] | None = None
    seeds: int | None = None
    jobs: int = 1
    _reporting: Lock = field(default_factory=Lock, init=False)

    @property
    def folder(self) -> Path:
        """Where the plan's runs are."""
        return self.runs / self.plan.name

    def run(self) -> None:
        """Do what is not done: first every arm with seed 0, then with seed 1, and so on."""
        self._write_data()
        if self.plan.warm_start:
            data = f"--data.references={self.folder}/data/warm_start.jsonl"
            fit(self.folder / "warm_start", self.plan.warm_start, [data, *self.plan.arguments])
        self._evaluate(START, 0, [])
        seeds = range(self.plan.seeds if self.seeds is None else min(self.seeds, self.plan.seeds))
        arms = [(arm, seed) for seed in seeds for arm in self._arms()]
        with ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(lambda one: self._run_arm(*one), arms))

    def _arms(self) -> list[Arm]:
        unknown = set(self.only or ()) - {arm.name for arm in self.plan.arms}
        if unknown:
            raise SystemExit(f"no such arm: {sorted(unknown)}; there are {[arm.name for arm in self.plan.arms]}")
        return [arm for arm in self.plan.arms if self.only is None or arm.name in self.only]

    def _run_arm(self, arm: Arm, seed: int) -> None:
        if self._result(arm.name, seed).exists():
            return
        folder = self.folder / arm.name / str(seed)
        fit(folder, arm.configs, [f"--seed_everything={seed}", *self._common])
        self._evaluate(arm.name, seed, [f"--ckpt_path={folder}/checkpoints/last.ckpt"])

    @property
    def _common(self) -> list[str]:
        start = f"{self.folder}/warm_start/student" if self.plan.warm_start else self.plan.start
        references = f"--data.references={self.folder}/data/train.jsonl"
        return [f"--model.student.init_args.path={start}", references, *self.plan.arguments]

    def _write_data(self) -> None:
        data = self.folder / "data"
        if not (data / "splits.json").exists():
            files = self.plan.references()
            # One file, so that all cases are decoded together: a batch costs what its longest row costs.
            evaluated = [one for split in self.plan.splits for one in files[split]]
            data.mkdir(parents=True, exist_ok=True)
            for name, references in {**files, "evaluation": evaluated}.items():
                write_references(data / f"{name}.jsonl", references)
            ids = {name: [one.reference_id for one in references] for name, references in files.items()}
            _write_json(data / "splits.json", ids)
        _write_json(self.results / f"{self.plan.name}_splits.json", json.loads((data / "splits.json").read_text()))

    # Evaluation -------------------------------------------------------------------------------------------------

    def _result(self, name: str, seed: int) -> Path:
        return self.results / f"{self.plan.name}_{name}_{seed}.json"

    def _evaluate(self, name: str, seed: int, weights: Sequence[str]) -> None:
        if self._result(name, seed).exists():
            return
        data = self.folder / "data"
        together = json.dumps({"all": f"{data}/evaluation.jsonl"})
        arguments = [*self._common, f"--data.evaluation={together}", *weights]
        trajectories = predict(self.folder / name / str(seed) / "evaluation", self.plan.evaluation, arguments)
        references = {split: read_references(data / f"{split}.jsonl") for split in self.plan.splits}
        outcomes = read_outcomes(trajectories, references, self.plan.judge())
        training = _training(self.folder / name / str(seed))
        _write_json(self._result(name, seed), {"training": training, "outcomes": _rows(outcomes)})
        print(f"{name}, seed {seed}: done", flush=True)
        self.report()

    # Reports ----------------------------------------------------------------------------------------------------

    def report(self) -> None:
        """Write the tables of what has ended, and say what is missing."""
        with self._reporting:
            results: dict[str, dict[int, Any]] = {}
            missing: list[str] = []
            for name, title, seeds in self._wanted():
                results[title] = {}
                for seed in range(seeds):
                    file = self._result(name, seed)
                    if file.exists():
                        results[title][seed] = json.loads(file.read_text())
                    else:
                        missing.append(f"{name} with seed {seed}")
            write_report(self.results, self.plan, results, missing)

    def _wanted(self) -> list[tuple[str, str, int]]:
        return [(START, "start", 1), *((arm.name, arm.title, self.plan.seeds) for arm in self.plan.arms)]


def _rows(outcomes: dict[str, dict[str, Outcome]]) -> dict[str, dict[str, Any]]:
    return {split: {one: asdict(outcome) for one, outcome in of.items()} for split, of in outcomes.items()}


def _training(folder: Path) -> dict[str, list[float]]:
    """Return the curves of a run by their names in `metrics.csv`; none where there was no training."""
    file = folder / "metrics.csv"
    if not file.exists():
        return {}
    curves: dict[str, list[float]] = {}
    with file.open(newline="") as rows:
        for row in csv.DictReader(rows):
            for name, value in row.items():
                if name.startswith("train/") and not _measures_time(name) and value:
                    curves.setdefault(name, []).append(round(float(value), 5))
    return curves


def _measures_time(name: str) -> bool:
    return "/time/" in name or name.endswith("_per_s")


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    part.replace(path)
