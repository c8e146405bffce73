"""The embedded default: a task, its teachers' references and a tiny starting student, so that everything runs without a hub."""

from mentor_pl.embedded.location import EMBEDDED_PREFIX, path, resolve

__all__ = ["EMBEDDED_PREFIX", "path", "resolve"]
