"""What can go wrong, one class per boundary that it crossed.

Three kinds of failure are never mixed. The *student's* (a malformed call, wrong arguments, code
that hangs) is data: it becomes a `ToolResult` with a `status`, is shown to the student and scored.
The *user's* (config, file, plugin) is a `MentorError`, raised before any model is loaded where that
is possible. The *infrastructure's* (a dead server, a full disk) is raised by its boundary.

Every message names the culprit, the value that was found, and the remedy.
"""

from __future__ import annotations


class MentorError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(MentorError):
    """A setting contradicts another one, or a value lies outside its range."""


class UsageError(ConfigError):
    """The command line or a config cannot be read: an unknown key or class, a value of the wrong type, a missing file."""


class DataFileError(MentorError):
    """A line of a reference or trajectory file cannot be used. The message starts with `path:line`."""


class PluginError(MentorError):
    """A plugin failed to load, has a duplicate name, or broke the contract of its plugin point."""


class RewardError(PluginError):
    """A reward component returned something that is not a score in [0, 1], or raised."""


class ToolBackendError(MentorError):
    """The infrastructure behind a tool failed: its worker cannot be started, its server does not answer."""


class EngineError(MentorError):
    """A rollout engine cannot serve this student, lost its server, or holds other weights than the trainer."""


class StudentError(MentorError):
    """The student cannot be loaded, or lacks what the method needs (a chat template, a pad token, context length)."""


class ChatFormatError(StudentError):
    """The student's chat template cannot render tools, or its tool-call format is not known."""
