"""
A gate through which a process's system calls pass, one at a time.

Rules of this file:

- The process closes the gate on itself (seccomp, user notification); who holds the
  listener then sees each call before it is made, and lets it pass, makes it fail with
  an errno, or kills the process instead. What was killed at a call has not made it.
- All threads pass one gate, so that the calls have one order and one number each.
  (strace counts in every thread anew, and so cannot reach some of them.)
- Nothing is slowed down but the calls named in `NUMBERS`; nothing has to be installed.
- Linux 5.5 and x86-64 only: `missing` tells why where it cannot work.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import struct
import sys

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


NUMBERS = {
    "read": 0,
    "write": 1,
    "open": 2,
    "close": 3,
    "fstat": 5,
    "pread64": 17,
    "pwrite64": 18,
    "writev": 20,
    "sendfile": 40,
    "connect": 42,
    "sendto": 44,
    "recvfrom": 45,
    "shutdown": 48,
    "fcntl": 72,
    "flock": 73,
    "fsync": 74,
    "fdatasync": 75,
    "truncate": 76,
    "ftruncate": 77,
    "rename": 82,
    "mkdir": 83,
    "rmdir": 84,
    "link": 86,
    "unlink": 87,
    "chmod": 90,
    "fchmod": 91,
    "fchown": 93,
    "statfs": 137,
    "fstatfs": 138,
    "getdents64": 217,
    "fadvise64": 221,
    "openat": 257,
    "mkdirat": 258,
    "newfstatat": 262,
    "unlinkat": 263,
    "renameat": 264,
    "linkat": 265,
    "sync_file_range": 277,
    "utimensat": 280,
    "fallocate": 285,
    "syncfs": 306,
    "renameat2": 316,
    "copy_file_range": 326,
}
"""The calls that pass the gate, with their numbers on x86-64 (asm/unistd_64.h)."""

NAMES = {number: name for name, number in NUMBERS.items()}

BY_PATH = {
    "open",
    "statfs",
    "truncate",
    "rename",
    "mkdir",
    "rmdir",
    "link",
    "unlink",
    "chmod",
}
"""Calls whose first argument is a path."""

AT_PATH = {
    "openat",
    "mkdirat",
    "newfstatat",
    "unlinkat",
    "renameat",
    "linkat",
    "utimensat",
    "renameat2",
}
"""Calls whose first arguments are an open folder and a path in it."""

SENDS = {"write", "sendto"}
"""Calls whose octets are of interest when they go to a server."""

LONGEST_PATH = 4096

AT_FDCWD = 0xFFFFFF9C

SECCOMP = 317
SET_MODE_FILTER = 1
NEW_LISTENER = 8
NO_NEW_PRIVS = 38
NOTIF_RECV = 0xC0502100
NOTIF_SEND = 0xC0182101
PASSES = 1
"""prctl(2), seccomp(2), seccomp_unotify(2)."""

ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
"""The three instructions of the filter (linux/filter.h)."""


class Instruction(ctypes.Structure):
    """
    One of the filter's (struct sock_filter).
    """

    _fields_ = (
        ("code", ctypes.c_ushort),
        ("if_true", ctypes.c_ubyte),
        ("if_false", ctypes.c_ubyte),
        ("value", ctypes.c_uint),
    )


class Program(ctypes.Structure):
    """
    The filter (struct sock_fprog).
    """

    _fields_ = (
        ("length", ctypes.c_ushort),
        ("instructions", ctypes.POINTER(Instruction)),
    )


def missing() -> str:
    """
    Tell why there can be no gate here, in one line; empty if there can.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the gate for system calls knows Linux on x86-64 only"
    child = os.fork()
    if child == 0:
        try:
            close_gate()
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return f"seccomp gives no listener here: {os.strerror(code)}" if code else ""


def close_gate() -> int:
    """
    Close the gate on this process, for good; return its listener.

    OSError when the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
    code = _filter()
    program = Program(len(code), code)
    by_reference = ctypes.byref(program)
    listener = libc.syscall(SECCOMP, SET_MODE_FILTER, NEW_LISTENER, by_reference)
    if listener < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(listener)


def _filter() -> ctypes.Array[Instruction]:
    # Load the call's number; if it is one of ours, jump to the last line: notify.
    numbers = list(NUMBERS.values())
    lines = [Instruction(LOAD, 0, 0, 0)]
    for left, number in zip(range(len(numbers), 0, -1), numbers, strict=True):
        lines.append(Instruction(JUMP_IF_EQUAL, left, 0, number))
    lines += [Instruction(RETURN, 0, 0, ALLOW), Instruction(RETURN, 0, 0, NOTIFY)]
    return (Instruction * len(lines))(*lines)


@dataclass(frozen=True, slots=True)
class Call:
    """
    A system call that waits at the gate.

    *path* is what it is about, `socket:[…]` for a socket; *sent* is what it sends
    there. *creates* tells that it is an open that will make a file.
    """

    id: int
    name: str
    path: str
    sent: bytes = b""
    creates: bool = False


class Gate:
    """
    The keeper's side. *listener* becomes its own.
    """

    def __init__(self, listener: int) -> None:
        self._listener = listener
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)

    def next(self, patience: float) -> Call | None:
        """
        Return the next call; None when no process is left behind the gate.

        TimeoutError when nothing comes in *patience* seconds.
        """
        while True:
            events = self._poll.poll(patience * 1000)
            if not events:
                raise TimeoutError
            if not events[0][1] & select.POLLIN:
                return None
            request = bytearray(80)
            try:
                fcntl.ioctl(self._listener, NOTIF_RECV, request)
                return _call(request)
            except FileNotFoundError:
                continue  # its thread has gone meanwhile

    def let(self, call: Call) -> None:
        """
        Let *call* be made.
        """
        self._answer(call, 0, PASSES)

    def fail(self, call: Call, number: int) -> None:
        """
        Make *call* fail with errno *number*, unmade.
        """
        self._answer(call, -number, 0)

    def close(self) -> None:
        """
        Leave the gate. A process still behind it finds its calls failing.
        """
        os.close(self._listener)

    def _answer(self, call: Call, error: int, flags: int) -> None:
        answer = struct.pack("<QqiI", call.id, 0, error, flags)
        with suppress(FileNotFoundError):  # its thread has gone meanwhile
            fcntl.ioctl(self._listener, NOTIF_SEND, answer)


def _call(request: bytearray) -> Call:
    # struct seccomp_notif: id, pid, flags; then struct seccomp_data: number,
    # architecture, instruction pointer, six arguments.
    number, thread, _, call, _, _ = struct.unpack_from("<QIIiIQ", request)
    first, second, third, *_ = struct.unpack_from("<6Q", request, 32)
    name = NAMES[call]
    if name in BY_PATH:
        return Call(number, name, _joined(thread, AT_FDCWD, first))
    if name in AT_PATH:
        path = _joined(thread, first, second)
        makes = name == "openat" and bool(third & os.O_CREAT)
        creates = makes and not os.path.lexists(path)
        return Call(number, name, path, creates=creates)
    path = _descriptor(thread, first)
    goes_out = name in SENDS and path.startswith("socket:")
    sent = _memory(thread, second, third) if goes_out else b""
    return Call(number, name, path, sent=sent)


def _joined(thread: int, folder: int, address: int) -> str:
    octets = _memory(thread, address, LONGEST_PATH) if address else b""
    path = os.fsdecode(octets.partition(b"\0")[0])
    if path.startswith("/"):
        return path
    inside = folder & 0xFFFFFFFF
    above = "/" if inside == AT_FDCWD else _descriptor(thread, inside)
    return f"{above}/{path}" if path else above


def _descriptor(thread: int, fd: int) -> str:
    try:
        return str(Path(f"/proc/{thread}/fd/{fd & 0xFFFFFFFF}").readlink())
    except OSError:
        return ""  # no such descriptor: the call will fail by itself


def _memory(thread: int, address: int, octets: int) -> bytes:
    try:
        memory = os.open(f"/proc/{thread}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(memory, octets, address)
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EFAULT):
            raise
        return b""
    finally:
        os.close(memory)
