"""Collecting from `transformers serve`: a real server of a real, small model that calls tools (needs fastapi and uvicorn)."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from mentor_pl.cli.collect import main
from mentor_pl.embedded import path
from mentor_pl.files import read_references
from mentor_pl.references.check import check_references
from mentor_pl.rewards.correct import Correct

pytest.importorskip("openai")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.integration

# How the server is to read this model's replies, in its own template language; for Qwen it knows it by itself.
RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": r"\s*<\|im_end\|>", "content": "text"},
    },
}


@pytest.fixture
def served(tmp_path):
    """The embedded student's folder and the address it is served at."""
    folder = tmp_path / "teacher"
    shutil.copytree(path("student"), folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "response_template": RESPONSE_TEMPLATE}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            assert process.poll() is None
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield folder, f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def test_references_from_a_served_model_hold(tmp_path, served, capsys):
    folder, url = served
    problems = read_references(path("eval/id.jsonl"))[:12]
    rows = [{"id": p.reference_id, "prompt": p.prompt[-1].content, "answer": p.answer} for p in problems]
    prompts, output = tmp_path / "prompts.jsonl", tmp_path / "refs.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    teacher = {
        "class_path": "OpenAITeacher",
        "init_args": {"model": str(folder), "base_url": url, "api_key_env": "", "max_completion_tokens": 60},
    }
    tools = [{"class_path": "PythonFunctions", "init_args": {"module": "mentor_pl.tools.arithmetic"}}]
    config = tmp_path / "collect.yaml"
    config.write_text(json.dumps({"teacher": teacher, "tools": tools, "sampling": {"concurrency": 2}}))
    main(["--config", str(config), "--prompts", str(prompts), "--output", str(output)])
    report = json.loads((tmp_path / "refs.report.json").read_text())
    assert report["prompts"] == 12
    assert report["solved"] == report["references"]
    assert report["spent"]["requests"] > 12  # it went on after tool results
    assert report["retried"] == {}
    journal = (tmp_path / "refs.journal.jsonl").read_text().splitlines()
    called = [row for row in map(json.loads, journal) if row["kind"] == "results"]
    assert any(result["status"] == "ok" for row in called for result in row["results"])
    assert check_references(output, judges=[Correct()]).faults == {}
