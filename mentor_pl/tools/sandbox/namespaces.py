"""A world of its own where the host grants one: no network, no other processes, an empty disk that dies with its process."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from mentor_pl.tools.sandbox import kernel

_NEW_NS, _NEW_UTS, _NEW_IPC, _NEW_USER, _NEW_PID, _NEW_NET = (
    0x20000,
    0x4000000,
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_REC, _MS_PRIVATE = 1, 2, 4, 32, 0x4000, 0x40000
_MNT_DETACH = 2
_NOBODY = 65534
_FIRST_OWN_USER = 2_000_000_000
_PLACES = ("/tmp", "/mnt", "/media", "/srv", "/opt")


def become_nobody() -> bool:
    """Give up root for good, if the interpreter stays readable for others (one under /root is not); say whether that was done."""
    if os.getuid() != 0:
        return False
    os.seteuid(_NOBODY)
    readable = os.access(os.__file__, os.R_OK, effective_ids=True)
    os.seteuid(0)
    own = _FIRST_OWN_USER + os.getpid()
    if not readable:
        with suppress(OSError):  # a container that maps some users only
            os.setresuid(own, 0, 0)  # tasks are counted by the real user, and files asked for by the effective one
        return False
    with suppress(PermissionError):  # a container may deny it, and its supplementary groups then stay
        os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    try:
        os.setresuid(own, own, own)
    except OSError:
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    kernel.call("prctl", kernel.PR_SET_DUMPABLE, 1, 0, 0, 0)  # else /proc/self/uid_map stays root's
    return True


def has_own_user() -> bool:
    """Tell whether `become_nobody` took a real user that nobody else has."""
    return os.getuid() > _FIRST_OWN_USER


def place_for_disk(needed: Iterable[str]) -> str | None:
    """Choose a directory to mount the working directory over: one that hides none of the paths that the code needs."""
    covered = [f"{os.path.realpath(path)}/" for path in needed]
    for place in _PLACES:
        if os.path.isdir(place) and not any(path.startswith(f"{place}/") for path in covered):
            return place
    return None


def _enter(place: str) -> None:
    uid, gid = os.geteuid(), os.getegid()
    kernel.call("unshare", _NEW_USER | _NEW_NET | _NEW_PID | _NEW_IPC | _NEW_UTS | _NEW_NS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    kernel.call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    # Landlock's rule is on this outer file system, once and for all; each call's own is mounted within it and so covered by the rule.
    flags = _MS_NOSUID | _MS_NODEV
    kernel.call("mount", b"place", place.encode(), b"tmpfs", flags, b"size=4k,mode=755")
    os.mkdir(f"{place}/work")
    kernel.call("mount", None, place.encode(), None, flags | _MS_REMOUNT | _MS_RDONLY, None)
    mount_disk(f"{place}/work", 1 << 20)
    unmount_disk(f"{place}/work")


def enter(place: str) -> str | None:
    """Enter new user, network, process, IPC, host-name and mount namespaces; processes forked from now on live in them.

    Args:
        place: An existing directory, which an empty read-only file system with the directory `work`
            will hide.

    Returns:
        None where all of it worked; else why not, and then nothing has changed.
    """
    probe = os.fork()  # a half-entered namespace cannot be left again, so a throw-away child tries first
    if probe == 0:
        try:
            _enter(place)
            os._exit(0)
        except OSError as refused:
            os._exit(refused.errno or 1)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(probe, 0)[1])
    if status != 0:
        return os.strerror(status) if status > 0 else f"signal {-status}"
    _enter(place)
    return None


def mount_disk(directory: str, size_bytes: int) -> None:
    """Mount an empty file system over a directory."""
    options = f"size={size_bytes},nr_inodes=1024,mode=700".encode()
    kernel.call("mount", b"work", directory.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, options)


def unmount_disk(directory: str) -> None:
    """Drop a file system and everything on it."""
    kernel.call("umount2", directory.encode(), _MNT_DETACH)


def mount_own_disk(directory: str, size_bytes: int) -> None:
    """Mount an empty file system that only this process sees; it is gone when the process is."""
    kernel.call("unshare", _NEW_NS)
    mount_disk(directory, size_bytes)
