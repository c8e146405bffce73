"""Linux system calls that the standard library does not wrap, on x86_64."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Any

_TABLE = """
read 0  write 1  close 3  stat 4  fstat 5  lstat 6  poll 7  lseek 8  mmap 9  mprotect 10  munmap 11  brk 12  rt_sigaction 13
rt_sigprocmask 14  rt_sigreturn 15  ioctl 16  pread64 17  pwrite64 18  readv 19  writev 20  access 21  pipe 22  select 23  sched_yield 24
mremap 25  madvise 28  dup 32  dup2 33  pause 34  nanosleep 35  getitimer 36  alarm 37  setitimer 38  getpid 39  clone 56
exit 60  wait4 61  kill 62  uname 63  fcntl 72  fsync 74  fdatasync 75  ftruncate 77  getdents 78  getcwd 79  chdir 80
fchdir 81  rename 82  mkdir 83  rmdir 84  unlink 87  readlink 89  umask 95  gettimeofday 96  getrlimit 97  getrusage 98  sysinfo 99
times 100  getuid 102  getgid 104  geteuid 107  getegid 108  getppid 110  getpgrp 111  getresuid 118  getresgid 120  getpgid 121
getsid 124  capset 126  rt_sigpending 127  rt_sigtimedwait 128  sigaltstack 131  statfs 137  fstatfs 138  arch_prctl 158  gettid 186
time 201  futex 202  sched_getaffinity 204  getdents64 217  set_tid_address 218  restart_syscall 219  clock_gettime 228  clock_getres 229
clock_nanosleep 230  exit_group 231  epoll_wait 232  epoll_ctl 233  tgkill 234  openat 257  mkdirat 258  newfstatat 262  unlinkat 263
renameat 264  readlinkat 267  faccessat 269  pselect6 270  ppoll 271  set_robust_list 273  epoll_pwait 281  eventfd2 290
epoll_create1 291  dup3 292  pipe2 293  preadv 295  pwritev 296  prlimit64 302  getcpu 309  renameat2 316  seccomp 317  getrandom 318
statx 332  rseq 334  clone3 435  close_range 436  faccessat2 439  landlock_create_ruleset 444  landlock_add_rule 445
landlock_restrict_self 446
"""
_words = _TABLE.split()
NUMBERS: dict[str, int] = dict(zip(_words[::2], map(int, _words[1::2]), strict=True))
"""System call numbers of x86_64 (arch/x86/entry/syscalls/syscall_64.tbl in the kernel's source)."""

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def call(function: str, *arguments: Any) -> int:
    """Call a libc function.

    Raises:
        OSError: It returned a negative number.
    """
    if (result := getattr(_libc, function)(*arguments)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), function)
    return result


def syscall(name: str, *arguments: Any) -> int:
    """Make a system call that libc does not wrap."""
    widened = [ctypes.c_long(a) if isinstance(a, int) else a for a in (NUMBERS[name], *arguments)]
    return call("syscall", *widened)


def drop_capabilities() -> None:
    """Give up every capability, for good."""
    version_3, no_capabilities = struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *[0] * 6)
    syscall("capset", version_3, no_capabilities)


def unsupported() -> str | None:
    """Say why this machine cannot confine code; None where it can."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return f"it is {sys.platform} on {os.uname().machine}, and only Linux on x86_64 is supported"
    try:
        syscall("landlock_create_ruleset", None, 0, 1)
    except OSError as refused:
        return f"the kernel offers no Landlock ({refused.strerror}); it needs Linux 5.13 with `landlock` among its security modules"
    return None
