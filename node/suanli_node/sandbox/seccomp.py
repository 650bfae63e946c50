"""The system calls that a job may not make: what no program that computes needs, and what exploits begin with.

Each answers EPERM, but clone3 and other replaceable calls ENOSYS, so that the C library falls back to the older call,
whose flags a filter can see. Anything of another architecture ends the process.
"""

from __future__ import annotations

import errno
import os
from functools import cache
from typing import Any

from suanli_protocol.errors import ConfigurationError

_FORBIDDEN = (
    # kernel, clock, devices
    "acct", "adjtimex", "bpf", "clock_adjtime", "clock_settime", "delete_module", "finit_module", "init_module",
    "ioperm", "iopl", "kexec_file_load", "kexec_load", "lookup_dcookie", "nfsservctl", "perf_event_open",
    "quotactl", "quotactl_fd", "reboot", "settimeofday", "stime", "swapoff", "swapon", "syslog", "sysfs",
    "uselib", "ustat", "vhangup",
    # file systems and namespaces
    "chroot", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "mount",
    "mount_setattr", "move_mount", "name_to_handle_at", "open_by_handle_at", "open_tree", "pivot_root", "setns",
    "umount", "umount2", "unshare",
    # other processes, the kernel's keys
    "add_key", "kcmp", "keyctl", "migrate_pages", "move_pages", "pidfd_getfd", "process_madvise",
    "process_vm_readv", "process_vm_writev", "ptrace", "request_key", "set_mempolicy",
    # large attack surface
    "modify_ldt", "userfaultfd", "vmsplice",
)  # fmt: skip
_ABSENT = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register", "memfd_secret")
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}, as clone's flags
_TERMINAL_INJECTION = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_SOCKET_FAMILIES = {1: 0, 2: 58, 10: 58, 16: 0}  # unix, inet, inet6, netlink, and the highest protocol of each:
# TCP, UDP and ping, none that loads a kernel module; of netlink only routes, which the C library asks for addresses
_SOCKET_FAMILY_MAX = 63
_SHARED_SEGMENT_BYTES = 4096  # of System V: no limit counts such memory while nobody has it mapped; /dev/shm is counted
_UNKNOWN_CALL = -1


@cache
def program() -> bytes:
    """The filter as BPF for `bwrap --seccomp`; ConfigurationError if libseccomp is missing."""
    try:
        import pyseccomp as seccomp
    except (ImportError, RuntimeError) as error:
        raise ConfigurationError(
            f"the system call filter cannot be built: {error}", hint="apt-get install libseccomp2"
        ) from None
    denied, absent = seccomp.ERRNO(errno.EPERM), seccomp.ERRNO(errno.ENOSYS)
    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    rules.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    for name in _FORBIDDEN:
        _add(rules, denied, name)
    for name in _ABSENT:
        _add(rules, absent, name)
    for bit in (1 << shift for shift in range(32) if _NEW_NAMESPACES >> shift & 1):
        _add(rules, denied, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, bit, bit))
    for request in _TERMINAL_INJECTION:
        _add(rules, denied, "ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, request))
    for family in range(_SOCKET_FAMILY_MAX + 1):
        which = [seccomp.Arg(0, seccomp.EQ, family)]
        if family in _SOCKET_FAMILIES:
            which.append(seccomp.Arg(2, seccomp.GT, _SOCKET_FAMILIES[family]))
        _add(rules, denied, "socket", *which)
    _add(rules, denied, "socket", seccomp.Arg(0, seccomp.GT, _SOCKET_FAMILY_MAX))
    _add(rules, denied, "shmget", seccomp.Arg(1, seccomp.GT, _SHARED_SEGMENT_BYTES))
    return _exported(rules)


def _add(rules: Any, action: int, name: str, *arguments: object) -> None:
    """Add a rule, unless this architecture or this library has no such call."""
    import pyseccomp as seccomp

    if seccomp.resolve_syscall(seccomp.system_arch(), name) == _UNKNOWN_CALL:
        return
    rules.add_rule(action, name, *arguments)


def _exported(rules: Any) -> bytes:
    with os.fdopen(os.memfd_create("seccomp"), "w+b") as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()
