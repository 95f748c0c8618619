"""
`popfetchd fetch`, forked from a process that has imported it: a visit in a few
hundredths of a second, and no start of Python among its system calls.

Rules of this file:

- What runs is what `python -m popfetchd` runs, in a process of its own.
- It is forked by a process of one thread; whatever needs threads starts after `Visit`
  was made, and before `go`.
- Every wait is bounded. A visit that hangs is killed, and says so.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import tempfile

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

from popfetchd.cli import main
from tests.crash.calls import Call, Gate, close_gate


PATIENCE = 60.0
"""Seconds after which a visit is taken to hang; at the gate, seconds without a call."""

KILL = -1
"""A judge's verdict: the process dies before it makes the call."""

PASS = 0
"""A judge's verdict: the call is made. Any other is the errno it fails with."""

Judge = Callable[[Call], int]
"""Takes a call that waits at the gate; returns a verdict."""


@dataclass(frozen=True, slots=True)
class Ended:
    """
    How a visit ended: *code* is the exit code, negative for a signal.
    """

    code: int
    stdout: str
    stderr: str


class Visit:
    """
    A process that will run popfetchd with *arguments*, and does not before `go`.
    """

    def __init__(self, *arguments: str) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 -- `_text` closes it
        self._told = tempfile.TemporaryFile()  # noqa: SIM115
        self._ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            _run(arguments, theirs, self._said, self._told)
        theirs.close()

    def go(self, judge: Judge | None = None) -> Ended:
        """
        Run to the end, each system call as *judge* says; return how it ended.
        """
        self._ours.sendall(b"j" if judge else b"g")
        if judge is not None:
            _, (listener, *_), _, _ = socket.recv_fds(self._ours, 1, 1)
            self._attend(Gate(listener), judge)
        status = self._end()
        self._ours.close()
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, _text(self._said), _text(self._told))

    def _end(self) -> int:
        process = os.pidfd_open(self._pid)
        try:
            hangs = not select.select([process], [], [], PATIENCE)[0]
        finally:
            os.close(process)
        if hangs:
            os.kill(self._pid, signal.SIGKILL)
        status = os.waitpid(self._pid, 0)[1]
        if hangs:
            raise TimeoutError("a visit hangs")
        return status

    def _attend(self, gate: Gate, judge: Judge) -> None:
        try:
            while call := gate.next(PATIENCE):
                verdict = judge(call)
                if verdict == KILL:
                    os.kill(self._pid, signal.SIGKILL)
                    return
                if verdict == PASS:
                    gate.let(call)
                else:
                    gate.fail(call, verdict)
        except BaseException:  # also a TimeoutError: it hangs
            os.kill(self._pid, signal.SIGKILL)
            raise
        finally:
            gate.close()


def _run(
    arguments: tuple[str, ...],
    supervisor: socket.socket,
    stdout: BinaryIO,
    stderr: BinaryIO,
) -> NoReturn:
    # Never returns into the code that forked.
    code = 70
    try:
        os.dup2(stdout.fileno(), 1)
        os.dup2(stderr.fileno(), 2)
        if supervisor.recv(1) == b"j":
            listener = close_gate()
            socket.send_fds(supervisor, [b"l"], [listener])
            os.close(listener)
        code = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 70
    finally:
        os._exit(code)


def _text(file: BinaryIO) -> str:
    with file:
        file.seek(0)
        return file.read().decode("utf-8", "replace")
