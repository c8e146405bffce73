"""Every single-turn case that can be converted: loaded, laid out for SFT, rolled out, judged, measured, trained on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.engines.base import SamplingParams
from mentor_pl.engines.scripted import ScriptedEngine
from mentor_pl.evaluation.split import SplitMetrics
from mentor_pl.files import read_references, write_references
from mentor_pl.reference import Reference, group_by_prompt
from mentor_pl.references.converters import bfcl
from mentor_pl.rewards.program import RewardProgram, RewardTerm
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.rollout.runner import RolloutRunner
from mentor_pl.rollout.world import World
from mentor_pl.students.full import FullStudent
from mentor_pl.tools.declared import DeclaredTools
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.training.samples import sample_from_reference
from mentor_pl.trajectory import StopReason

pytest.importorskip("bfcl_eval")

from mentor_pl_bfcl.cases import SINGLE_TURN  # noqa: E402
from mentor_pl_bfcl.package import data_folder  # noqa: E402
from mentor_pl_bfcl.reward import BFCLCorrect  # noqa: E402

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

WRITTEN_AS_SOURCE = ("simple_java", "simple_javascript")
"""Where the checker wants values as source text, which no schema tells."""

FAULTY = "live_multiple_862-181-3"
"""Its expected call has an argument that its function lacks."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    converted = (one for category in SINGLE_TURN for one in bfcl(data_folder() / f"BFCL_v4_{category}.json"))
    path = tmp_path_factory.mktemp("bfcl") / "every_case.jsonl"
    assert write_references(path, (one for one in converted if isinstance(one, Reference))) == 3589
    return path


def test_every_case_is_imitated_and_solved_by_the_teachers_tokens(file: Path) -> None:
    prompts = group_by_prompt(one for one in read_references(file) if one.reference_id != FAULTY)
    protocol = ChatProtocol(FullStudent("embedded:student").load_tokenizer())
    toolbox = ToolBox([DeclaredTools()])
    limits = RolloutLimits(max_completion_tokens=4096)
    runner = RolloutRunner(protocol=protocol, world=World(toolbox=toolbox, limits=limits), max_context=100_000)
    samples = [sample_from_reference(prompt[0], protocol, runner.offered(prompt[0])) for prompt in prompts]
    spoken = {index: [sample.token_ids[sample.loss_mask].tolist()] for index, sample in enumerate(samples)}
    groups = runner.run(ScriptedEngine(spoken), prompts, sampling=SamplingParams(), group_size=1, seed=0)
    toolbox.close()

    stops = Counter((bool(group.references[0].tool_calls), group.trajectories[0].stop_reason) for group in groups)
    assert set(stops) == {(True, StopReason.CALLED), (False, StopReason.ANSWERED)}
    program = RewardProgram(terms=[RewardTerm(name="correct", component=BFCLCorrect(), weight=1.0)])
    wrong = Counter(group.references[0].domain for group in groups if program.score_group(group).rewards[0] != 1.0)
    assert {domain.removeprefix("BFCL_v4_") for domain in wrong if domain} <= set(WRITTEN_AS_SOURCE)

    metrics = SplitMetrics(sorted({tool.name for prompt in prompts for tool in prompt[0].tools}), program)
    metrics.update(groups)
    assert float(metrics.compute()["tool_match"]) == 1.0
    assert float(metrics.compute()["success"]) == pytest.approx(1 - sum(wrong.values()) / len(groups))


@pytest.mark.parametrize("kind", ["sft", "mentor"])
def test_a_run_trains_on_the_file_of_every_case(file: Path, tmp_path: Path, kind: str) -> None:
    """Two updates; the whole file is read, checked and rendered before the first."""
    reward = tmp_path / "reward.yaml"
    reward.write_text("terms: [{name: correct, component: BFCLCorrect, weight: 1.0, success: true}]\n")
    command = [sys.executable, "-m", "mentor_pl", "fit", f"--config={kind}", f"--run_dir={tmp_path / 'run'}"]
    command += [f"--data.references={file}", '--data.tools=[{"class_path": "DeclaredTools"}]']
    command += [f"--data.evaluation={{all: {file}}}", "--data.max_problems=4", f"--data.reward={reward}"]
    command += [
        "--data.prompts_per_round=4",
        "--data.reading.overlong_prompts=skip",
        "--data.limits.max_completion_tokens=16",
    ]
    command += ["--trainer.accelerator=cpu", "--trainer.max_epochs=-1", "--trainer.max_steps=2"]
    command += ["--trainer.check_val_every_n_epoch=1", "--trainer.enable_progress_bar=false"]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "summary.json").exists()
