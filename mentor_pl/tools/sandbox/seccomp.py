"""Which system calls the code may make: an allow-list as a classic BPF program (`man 2 seccomp`)."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import struct
from collections.abc import Iterable, Iterator

from mentor_pl.tools.sandbox.kernel import NUMBERS, syscall

Instruction = tuple[int, int, int, int]
"""Operation, jump if true, jump if false (both relative), constant."""

_AUDIT_ARCH_X86_64 = 0xC000003E
_X32_BIT = 0x40000000
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_SET_MODE_FILTER = 1
_INSTRUCTION_BYTES = 8
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16

# No open, creat, truncate: openat does, and is looked at. No chmod, chown, utime, link, symlink: Landlock does not govern metadata.
# No kill: Landlock before ABI 6 does not govern signals. No socket, fork, exec, ptrace, mount, shared memory, io_uring, memfd.
_FREE = """
read write close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn pread64 pwrite64 readv
writev access pipe select sched_yield mremap madvise dup dup2 pause nanosleep getitimer alarm setitimer getpid exit wait4 uname fsync
fdatasync ftruncate getdents getcwd chdir fchdir rename mkdir rmdir unlink readlink umask gettimeofday getrlimit getrusage sysinfo times
getuid getgid geteuid getegid getppid getpgrp getresuid getresgid getpgid getsid rt_sigpending rt_sigtimedwait sigaltstack statfs
fstatfs arch_prctl gettid time futex sched_getaffinity getdents64 set_tid_address restart_syscall clock_gettime clock_getres
clock_nanosleep exit_group epoll_wait epoll_ctl mkdirat newfstatat unlinkat renameat readlinkat faccessat pselect6 ppoll set_robust_list
epoll_pwait eventfd2 epoll_create1 dup3 pipe2 preadv pwritev getcpu renameat2 getrandom statx rseq close_range faccessat2
""".split()

_CLONE_THREAD = 0x10000
_O_ACCMODE_TRUNC = os.O_ACCMODE | os.O_TRUNC
_F_DUPFD_CLOEXEC = 1030
_FIRST_FCNTL_REFUSED = (
    5  # F_GETLK; the locks, owners and signals from there on are not needed, and a signal to an owner kills
)
_TERMINAL_QUERIES = (
    0x5401,
    0x5413,
    0x541B,
    0x5421,
    0x5450,
    0x5451,
)  # TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX


def _load(offset: int) -> Instruction:
    return (0x20, 0, 0, offset)


def _argument(index: int, *, high: bool = False) -> Instruction:
    return _load(_ARGUMENTS_AT + 8 * index + 4 * high)


def _mask(bits: int) -> Instruction:
    return (0x54, 0, 0, bits)


def _return(action: int) -> Instruction:
    return (0x06, 0, 0, action)


def _refuse(error: int = errno.EPERM) -> Instruction:
    return _return(0x50000 | error)


def _skip_unless_equal(value: int, count: int) -> Instruction:
    return (0x15, 0, count, value)


def _skip_if_equal(value: int, count: int) -> Instruction:
    return (0x15, count, 0, value)


def _skip_unless_at_least(value: int, count: int) -> Instruction:
    return (0x35, 0, count, value)


def _skip_if_greater(value: int, count: int) -> Instruction:
    return (0x25, count, 0, value)


def _on(name: str, *body: Instruction) -> list[Instruction]:
    """Run `body`, which returns, where the system call is this one."""
    return [_skip_unless_equal(NUMBERS[name], len(body)), *body]


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Group numbers into runs of consecutive ones, as (first, last): the kernel walks the program once for every system call there is."""
    for _, run in itertools.groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        yield members[0], members[-1]


def program(*, threads: bool = True) -> bytes:
    """Assemble the filter.

    Args:
        threads: Whether threads may be started.
    """
    code: list[Instruction] = [
        _load(_ARCH_AT),
        _skip_if_equal(_AUDIT_ARCH_X86_64, 1),
        _return(_KILL),
        _load(_NUMBER_AT),
        _skip_unless_at_least(_X32_BIT, 1),
        _return(_KILL),
    ]
    for first, last in _runs(NUMBERS[name] for name in _FREE):
        code += [_skip_unless_at_least(first, 2), _skip_if_greater(last, 1), _return(_ALLOW)]
    # glibc falls back to clone where clone3 does not exist; what clone3 is asked for lies in memory, where a filter cannot look.
    code += _on("clone3", _refuse(errno.ENOSYS))
    if threads:
        code += _on("clone", _argument(0), (0x45, 0, 1, _CLONE_THREAD), _return(_ALLOW), _refuse())
    reading = [
        _argument(2),
        _skip_unless_equal(0, 3),
        _argument(2, high=True),
        _skip_unless_equal(0, 1),
        _return(_ALLOW),
        _refuse(),
    ]
    code += _on("prlimit64", *reading)
    code += _on(
        "fcntl",
        _argument(1),
        _skip_if_equal(_F_DUPFD_CLOEXEC, 2),
        _skip_unless_at_least(_FIRST_FCNTL_REFUSED, 1),
        *(_refuse(), _return(_ALLOW)),
    )
    # Read-only with O_TRUNC empties a file that Landlock before ABI 3 lets be read.
    truncating = _skip_unless_equal(os.O_RDONLY | os.O_TRUNC, 1)
    code += _on("openat", _argument(2), _mask(_O_ACCMODE_TRUNC), truncating, _refuse(), _return(_ALLOW))
    queries: list[Instruction] = []
    for request in _TERMINAL_QUERIES:
        queries += [_skip_unless_equal(request, 1), _return(_ALLOW)]
    code += _on("ioctl", _argument(1), *queries, _refuse())
    code.append(_refuse())
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


class Filter:
    """The assembled program, ready to be bound to: nothing is left to do after a fork that could be done before.

    Args:
        threads: Whether threads may be started.
    """

    def __init__(self, *, threads: bool) -> None:
        code = program(threads=threads)
        self._buffer = ctypes.create_string_buffer(code, len(code))
        pointer = struct.pack("HxxxxxxQ", len(code) // _INSTRUCTION_BYTES, ctypes.addressof(self._buffer))
        self._arguments = (_SET_MODE_FILTER, 0, ctypes.create_string_buffer(pointer, len(pointer)))

    def enforce(self) -> None:
        """Bind this thread, and whatever it starts, to the filter for good. Needs no-new-privileges."""
        syscall("seccomp", *self._arguments)
