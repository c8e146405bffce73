"""Which files the code may touch, enforced by the kernel (Landlock, https://docs.kernel.org/userspace-api/landlock.html)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable

from mentor_pl.tools.sandbox import kernel

_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_WRITE_FILE, _REMOVE_DIR, _REMOVE_FILE = 1 << 1, 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_FILE, _REFER, _TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
_READ = _READ_FILE | _READ_DIR
# No executing; no devices, sockets, pipes or symbolic links.
_READ_WRITE = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_FILE | _REFER | _TRUNCATE
_ON_FILES = _READ_FILE | _WRITE_FILE | _TRUNCATE

_RULE_PATH_BENEATH = 1
_CREATE_RULESET_VERSION = 1


def abi() -> int:
    """Return the kernel's Landlock version, at least 1."""
    return kernel.syscall("landlock_create_ruleset", None, 0, _CREATE_RULESET_VERSION)


def ruleset(readable: Iterable[str], writable: Iterable[str]) -> int:
    """Make a ruleset that denies every file except those beneath the given paths.

    It denies TCP ports, signals to others and abstract sockets too, where this kernel's Landlock
    knows of them.

    Args:
        readable: Files or directories; one that does not exist is left out.
        writable: Directories.

    Returns:
        A file descriptor for `enforce`.
    """
    version = abi()
    # All rights that this version knows are denied unless a rule grants them: bits 0-12 in ABI 1, then refer, truncate, ioctl.
    handled = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    network, scopes = 0b11, 0b11
    attributes = struct.pack("QQQ", handled, network, scopes)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = kernel.syscall("landlock_create_ruleset", attributes, len(attributes), 0)
    for path, rights in [*((p, _READ) for p in readable), *((p, _READ_WRITE) for p in writable)]:
        try:
            beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        granted = rights if os.path.isdir(path) else rights & _ON_FILES
        kernel.syscall(
            "landlock_add_rule", rules, _RULE_PATH_BENEATH, struct.pack("=Qi", granted & handled, beneath), 0
        )
        os.close(beneath)
    return rules


def enforce(rules: int) -> None:
    """Bind this thread, and whatever it starts, to a ruleset for good. Needs no-new-privileges."""
    kernel.syscall("landlock_restrict_self", rules, 0)
