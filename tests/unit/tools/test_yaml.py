"""Backends as a config names them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from mentor_pl.messages import ToolCall
from mentor_pl.plugins import find_plugins
from mentor_pl.tools.base import ToolBackend
from mentor_pl.tools.toolbox import ToolBox

OVERLAYS = sorted((Path(__file__).parents[3] / "configs" / "tools").glob("*.yaml"))


def parser() -> ArgumentParser:
    find_plugins()  # imports every entry point, so that classes are known by their names alone
    built = ArgumentParser(exit_on_error=False)
    built.add_argument("--config", action="config")
    built.add_argument("--data.tools", type=list[ToolBackend])
    return built


def test_several_backends_are_named_and_offered_together(tmp_path: Path) -> None:
    config = f"""
    data:
      tools:
        - class_path: PythonFunctions
          init_args: {{module: mentor_pl.tools.arithmetic, functions: [add], timeout_s: 2}}
        - class_path: Recorded
          init_args:
            path: {tmp_path / "record.jsonl"}
            impure: [quote]
            backend:
              class_path: HTTP
              init_args:
                endpoints:
                  - name: quote
                    url: https://api.example.org/quotes/{{symbol}}
                    description: Say what a share costs.
                    parameters:
                      properties: {{symbol: {{type: string}}}}
                      required: [symbol]
    """
    parsed = parser()
    box = ToolBox(parsed.instantiate_classes(parsed.parse_args([f"--config={config}"])).data.tools)
    assert [spec.name for spec in box.specs] == ["add", "quote"]
    with box.session() as session:
        assert [session.is_slow(ToolCall(call_id="c", name=name)) for name in ("add", "quote")] == [False, True]
    box.close()


def test_a_misspelt_argument_is_refused_when_the_config_is_read() -> None:
    config = "data: {tools: [{class_path: PythonFunctions, init_args: {modul: mentor_pl.tools.arithmetic}}]}"
    with pytest.raises(Exception, match="modul"):
        parser().parse_args([f"--config={config}"])


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_every_shipped_overlay_parses(path: Path) -> None:
    base = yaml.safe_dump(
        {"data": {"tools": [{"class_path": "PythonFunctions", "init_args": {"module": "mentor_pl.tools.arithmetic"}}]}}
    )
    parsed = parser().parse_args([f"--config={base}", f"--config={path}"])
    assert len(parsed.data.tools) > 1  # it adds to what is there
