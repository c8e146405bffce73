"""`mentor-pl chat` as users have it: in a pseudo-terminal, and with questions from a file."""

import io
import os
import pty
import re
import select
import shutil
import signal
import sys
import time
from contextlib import suppress

import pytest

from mentor_pl.cli.chat import main, settings_of_run
from mentor_pl.embedded import resolve
from mentor_pl.errors import ConfigError
from mentor_pl.files import iter_trajectories, read_references
from mentor_pl.interactive.terminal import _visible

QUESTION = "Tom has 21 cards. Tom splits it equally into 7 parts and keeps one. What is the number now?"


def chat(monkeypatch, capsys, lines, *arguments):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    main([*arguments])
    return capsys.readouterr().out


def test_questions_from_a_file(monkeypatch, capsys, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copytree(resolve("embedded:student"), run / "student")
    tools = "class_path: PythonFunctions, init_args: {module: mentor_pl.tools.arithmetic, functions: [divide, modulo]}"
    (run / "config.yaml").write_text(f"data: {{tools: [{{{tools}}}], limits: {{max_completion_tokens: 100}}}}")
    references, trajectories = tmp_path / "refs.jsonl", tmp_path / "tries.jsonl"
    references.write_text('{"id": "mine", "prompt": "1+1?", "answer": "2", "tools": [], "note": "kept"}')
    out = chat(
        monkeypatch,
        capsys,
        ["/save nothing.jsonl", "/tools", QUESTION, f"/save {references}", f"/save '{trajectories}' trajectory"]
        + ["/nonsense", "/reset", "/save nothing.jsonl", "/quit", "never read"],
        str(run / "student"),
    )
    assert "with the tools divide, modulo; /help" in out and "divide Return a divided by b." in out
    assert re.search(r"^  (divide|modulo)\(a=21, b=7\)$", out, re.M) and re.search(r"^  = \d+$", out, re.M)
    assert "there is no command '/nonsense'" in out and "never read" not in out
    assert out.count("nothing has been answered yet") == 2
    assert "\x1b" not in out  # colours are for terminals
    mine, saved = read_references(references)
    assert mine.reference_id == "mine" and '"note": "kept"' in references.read_text()
    assert [message.content for message in saved.prompt] == [QUESTION]
    assert [tool.name for tool in saved.tools] == ["divide", "modulo"]
    [trajectory] = iter_trajectories(trajectories)
    assert trajectory.messages() == saved.messages and trajectory.num_sampled_tokens > 10


def test_a_run_whose_tools_cannot_be_built_is_refused(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("data: {tools: [{class_path: NoSuchTool}]}")
    with pytest.raises(
        ConfigError, match=r"config.yaml: data: tools\[0\].*no ToolBackend 'NoSuchTool'.*installed are.*PythonFunctions"
    ):
        settings_of_run(config)


def test_without_a_run_there_are_the_arithmetic_tools(tmp_path):
    [tools] = settings_of_run(tmp_path / "config.yaml").tools
    assert len(tools.specs) == 12
    tools.close()


MIXTURE = """
data:
  tools: [DeclaredTools]
  final_tools: [submit]
  limits: {max_turns: 3}
  train:
    - {references: data/shop.jsonl, tools: null, limits: {max_turns: 7}}
    - class_path: mentor_pl.environments.Environment
      init_args: {references: a.jsonl, name: logs, tools: [ReplayedTools], reward: {terms: [{name: x, component: NeverMade, weight: 1}]}}
    - {class_path: tests.unit.testing.test_environments.Refunds, init_args: {}}
"""


def test_the_tools_of_one_of_several_environments(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(MIXTURE)
    with pytest.raises(ConfigError, match="the run has the environments shop, logs, Refunds; .*: --environment shop"):
        settings_of_run(config)
    with pytest.raises(ConfigError, match="no environment 'shp' in data.train; there are shop, logs, Refunds"):
        settings_of_run(config, "shp")
    shop, logs, refunds = (settings_of_run(config, name) for name in ("shop", "logs", "Refunds"))
    assert [type(one.tools[0]).__name__ for one in (shop, logs, refunds)] == [
        "DeclaredTools",
        "ReplayedTools",
        "DeclaredTools",
    ]
    assert [one.final_tools for one in (shop, logs, refunds)] == [["submit"], [], []]
    assert [one.limits.max_turns for one in (shop, logs, refunds)] == [7, 3, 3]


def test_nobody_but_us_steers_the_terminal():
    assert _visible("a\x1b[2Jb\x07\u202e\tc\n") == "a\ufffd[2Jb\ufffd\ufffd c\n"


class Terminal:
    """A program in a pseudo-terminal of its own."""

    def __init__(self, command):
        self.screen = ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background inherits "ignore"
            os.environ.update(TERM="xterm-256color", COLUMNS="120", LINES="40")
            os.execv(command[0], command)

    def type(self, text):
        os.write(self._fd, text.encode())

    def press_until(self, key, pattern):
        """Press a key until the pattern shows: readline misses a signal that comes between its prompt and its wait for input."""
        for _ in range(30):
            self.type(key)
            with suppress(AssertionError):
                return self.until(pattern, patience_s=4)
        return self.until(pattern)

    def until(self, pattern, patience_s=240):
        """Read until the pattern shows; return what came with it."""
        deadline = time.monotonic() + patience_s
        while (found := re.search(pattern, self.screen)) is None:
            ready, _, _ = select.select([self._fd], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"{pattern!r} did not come; the screen shows {self.screen[-2000:]!r}"
            self.screen += os.read(self._fd, 65536).decode(errors="replace")
        seen, self.screen = self.screen[: found.end()], self.screen[found.end() :]
        return seen

    def status(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.integration
def test_in_a_terminal():
    # Hot sampling goes on writing for long, so that there is time to stop it.
    options = ["--sampling.temperature=5", "--limits.max_completion_tokens=900", "--tokens_at_once=1"]
    terminal = Terminal([sys.executable, "-m", "mentor_pl", "chat", "embedded:student", *options])
    terminal.until("you> ")
    terminal.type(QUESTION + "\r")
    terminal.until("\x1b\\[2m.+")  # the first words, in grey
    terminal.type("\x03")
    terminal.until("stopped; the question is forgotten")
    terminal.until("you> ")
    terminal.press_until("\x03", "/quit or Ctrl-D leaves")
    terminal.type("/reset\r")
    terminal.until("the conversation begins anew")
    terminal.until("you> ")
    terminal.type("\x04")
    assert terminal.status() == 0
