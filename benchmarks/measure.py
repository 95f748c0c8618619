"""
One run of a program: how long, how much of the processors, how much memory.

Rules of this file:

- Wall is from the start of the process to its end; CPU is user and system time of it
  and of all its descendants; the peak is that of the largest single process.
- A small process starts the program: what a process held before `exec` counts as its
  peak, and the harness is large. Peaks below the launcher's own, about 10 MB, cannot
  be told.
- Every run is bounded, and what hangs is ended by its own process group.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


LIMIT = 1200.0
"""Seconds that one run may take: the slowest peer at 100,000 messages needs half."""

LAUNCHER = """
import json, os, sys, time
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
actions = [(os.POSIX_SPAWN_DUP2, out, fd) for fd in (1, 2)]
began = time.perf_counter()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ, file_actions=actions)
_, status, used = os.wait4(pid, 0)
wall = time.perf_counter() - began
code = os.waitstatus_to_exitcode(status)
cpu = used.ru_utime + used.ru_stime
print(json.dumps([wall, cpu, used.ru_maxrss * 1024, code]))
"""


class Failed(Exception):
    """
    A program ended as it should not, or did not deliver what it should.
    """


@dataclass(frozen=True, slots=True)
class Figures:
    """
    What one run cost: seconds, octets, and round trips where a relay counted them.
    """

    wall: float
    cpu: float
    peak: int
    round_trips: int | None = None
    said: str = field(default="", repr=False)


def run(command: Sequence[str], folder: Path, well: Container[int] = (0,)) -> Figures:
    """
    Run *command* in *folder* to its end. Raises Failed unless its code is in *well*.
    """
    output = folder / "output"
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(output), *command]
    process = subprocess.Popen(
        launcher,
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        told, _ = process.communicate(timeout=LIMIT)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    said = output.read_text("utf-8", "replace")
    wall, cpu, peak, code = json.loads(told)
    if code not in well:
        raise Failed(f"{command[0]} ended with {code}: {said[-2000:]}")
    return Figures(wall, cpu, peak, said=said)


UNWANTED = ("COVERAGE_", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
"""Begin the variables that make a program do what no operator asks of it: measure its
coverage, compile its modules at each start."""


def environment(folder: Path) -> dict[str, str]:
    """
    Return the environment of a run: ours, without what is `UNWANTED`.
    """
    ours = {k: v for k, v in os.environ.items() if not k.startswith(UNWANTED)}
    root = str(Path(__file__).parent.parent)
    return ours | {"HOME": str(folder), "PYTHONPATH": root}


@dataclass(slots=True)
class Counted:
    """
    A relay's port, and after its end what it has counted.
    """

    port: int
    round_trips: int = 0


@contextmanager
def relay(port: int, round_trip: float, listen: int = 0) -> Iterator[Counted]:
    """
    Lend a relay to *port* at *round_trip* seconds, on port *listen* (0: any).
    """
    numbers = [str(port), str(round_trip), str(listen)]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.relay", *numbers],
        env=environment(Path.cwd()),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    try:
        counted = Counted(int(process.stdout.readline()))
        yield counted
        told, _ = process.communicate(timeout=10)
        counted.round_trips = json.loads(told)["round_trips"]
    finally:
        process.kill()
        process.wait()
