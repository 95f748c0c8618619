"""
The kill matrix, a part of it: nothing lost, nothing twice, whatever call fails or dies.

Rules of this file:

- The matrix itself is a program (`syscalls`); `make crash` runs it whole. It runs here
  as there: in a process of one thread, which may fork.
- A harness that finds nothing proves nothing: it is shown mistakes first, each planted
  in its processes alone, and has to find them.
"""

from __future__ import annotations

import os
import subprocess
import sys

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash.cuts import DOWN, UP, Cut, cuts, encrypted
from tests.live.conftest import give_up
from tests.live.dovecot import missing
from tests.wire import unmeasured


ROOT = Path(__file__).parent.parent.parent

SAMPLE = os.environ.get("POPFETCHD_CRASH_SAMPLE", "2")
"""POPFETCHD_CRASH_SAMPLE=20 plays so many points of each line of the table. Two take a
minute or two, with all the mistakes three; more where others keep the machine busy."""

SEED = os.environ.get("POPFETCHD_CRASH_SEED", "1")

NOT_HERE = 2
"""The program's exit code where it cannot run."""

LIVE = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(480 + 60 * int(SAMPLE)),
]

RUN = """
import sys
from tests.crash.syscalls import main
sys.exit(main())
"""


@dataclass(frozen=True)
class Mistake:
    """
    How a mistake is *planted*, where it is looked for, and the *column* that tells it.
    """

    planted: str
    words: str
    column: str


MISTAKES = {
    "settle forgets what was published": Mistake(
        """
from popfetchd.archive.maildir import Maildir
Maildir.settle = lambda self, recorded: None
""",
        "--scene maildir-never-mending --harm kill --sample 2",
        "twice",
    ),
    "published by copying": Mistake(
        """
import popfetchd.archive.maildir
def copy(disk, source, name, target, to):
    octets = (source / name).read_bytes()
    with open(target / to, "xb", buffering=0) as file:
        while octets:
            octets = octets[file.write(octets[:8]):]
popfetchd.archive.maildir.publish = copy
""",
        "--scene maildir-never-fresh --harm kill --sample 20",
        "partial",
    ),
    "an mbox without its dot lock": Mistake(
        """
from popfetchd.archive.locking import MboxLock
MboxLock._dot_locked = lambda self, base: True
MboxLock._is_ours = lambda self: False
""",
        "--scene mbox-never-fresh --harm kill --sample 80",
        "partial",
    ),
    "spool files are never swept": Mistake(
        """
from popfetchd.archive.maildir import Maildir
Maildir.sweep = lambda self, open_bases: 0
""",
        "--scene maildir-never-fresh --harm kill --sample 20",
        "manual",
    ),
    "a failing write is ignored, and nothing is read back": Mistake(
        """
from popfetchd.archive import spool
from popfetchd.archive.durable import NewFile
from popfetchd.archive.proving import Prover
spool.PORTION = 16
def write(self, octets):
    try:
        self._put(octets, self._size)
    except OSError:
        pass
    self._size += len(octets)
NewFile.write = write
Prover.prove = lambda *arguments: None
""",
        "--scene maildir-verified-second --harm ENOSPC --sample 60",
        "lost",
    ),
}


def run(config, *words, planted=""):
    """
    Run the matrix in a process of its own.
    """
    if reason := missing():
        give_up(config, reason)
    done = subprocess.run(
        [sys.executable, "-c", planted + RUN, "--seed", SEED, *words],
        cwd=ROOT,
        env=unmeasured(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == NOT_HERE:
        give_up(config, done.stderr.strip())
    return done


def sums(table):
    """
    Return the last line of *table*, column by column.
    """
    lines = table.splitlines()
    heads = next(line for line in lines if line.startswith("configuration")).split()
    (last,) = [line for line in lines if line.startswith("all ")]
    return dict(zip(heads[2:], map(int, last.split()[1:]), strict=True))


class TestMatrix:
    pytestmark = LIVE

    def test_nothing_is_lost_or_doubled_at_any_instant(self, request, capsys):
        """
        A kill, an error or a cut at any of these instants costs one more visit, no more.
        """
        done = run(request.config, "--sample", SAMPLE)
        with capsys.disabled():
            sys.stdout.write(f"\n{done.stdout}{done.stderr}\n")
        assert 0 == done.returncode
        found = sums(done.stdout)
        assert found.pop("points") > 0
        assert {0} == set(found.values())

    @pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
    def test_a_planted_mistake_is_found(self, request, mistake):
        """
        The matrix tells a mistake in the column that it belongs to.
        """
        done = run(request.config, *mistake.words.split(), planted=mistake.planted)
        assert 1 == done.returncode, done.stdout + done.stderr
        assert sums(done.stdout)[mistake.column] > 0


# -- the instruments ------------------------------------------------------------------

GATED = """
import errno, os, sys, threading
from tests.crash.calls import Gate, close_gate, missing
from tests.crash.visits import KILL, PASS, Visit
from tests.crash import visits

if missing():
    sys.exit(2)

def writes(arguments):
    file = os.open(arguments[0], os.O_WRONLY | os.O_CREAT, 0o600)
    for number in range(3):
        thread = threading.Thread(target=write, args=(file, number))
        thread.start()
        thread.join()
    return 0

def write(file, number):
    try:
        os.pwrite(file, b"abc"[number:number + 1], number)
    except OSError as error:
        os.pwrite(file, b"!", number)

visits.main = writes
path, verdict = sys.argv[1], int(sys.argv[2])
calls = []

def judge(call):
    if call.name != "pwrite64" or call.path != path:
        return PASS
    calls.append(call)
    return verdict if len(calls) == 2 else PASS

ended = Visit(path).go(judge)
print(ended.code, len(calls), open(path).read())
"""
"""A process writes one octet in each of three threads; the second write is judged."""


@pytest.mark.parametrize(
    ("verdict", "said"), [(-1, "-9 2 a"), (0, "0 3 abc"), (5, "0 4 a!c")]
)
def test_a_gate_lets_pass_or_fails_or_kills(request, tmp_path, verdict, said):
    """
    All threads' calls are numbered in one order; what is struck is not made.
    """
    done = subprocess.run(
        [sys.executable, "-c", GATED, str(tmp_path / "file"), str(verdict)],
        cwd=ROOT,
        env=unmeasured(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == NOT_HERE:
        give_up(request.config, "there can be no gate for system calls here")
    assert said == done.stdout.strip(), done.stderr


UP_OCTETS = b"RETR 1\r\nDELE 1\r\nQUIT\r\n"
DOWN_OCTETS = b"+OK hi\r\n+OK\r\na\r\n..b\r\n.\r\n+OK\r\n+OK bye\r\n"


def test_cuts_have_their_names():
    """
    An instant of each class is named for what it stands in.
    """
    found = list(cuts(UP_OCTETS, DOWN_OCTETS))
    assert {
        Cut(UP, 10, "in DELE"),
        Cut(UP, 16, "before QUIT"),
        Cut(UP, 22, "after the last command"),
        Cut(DOWN, 0, "before the answer to greeting"),
        Cut(DOWN, 7, "in the CRLF of the answer to greeting"),
        Cut(DOWN, 17, "between the stuffed dots of RETR"),
        Cut(DOWN, 20, "in the last CRLF of RETR"),
        Cut(DOWN, 21, "before the terminator of RETR"),
        Cut(DOWN, 22, "in the terminator of RETR"),
        Cut(DOWN, 23, "in the terminator of RETR"),
        Cut(DOWN, 24, "before the answer to DELE"),
        Cut(DOWN, 29, "before the answer to QUIT"),
        Cut(DOWN, 38, "after the last answer"),
    } <= set(found)
    assert DOWN_OCTETS[20:].startswith(b"\n.\r\n")


def test_cuts_of_what_cannot_be_read():
    """
    An encrypted dialogue is cut at equal distances in both directions.
    """
    assert [
        Cut(UP, 0, "inside TLS"),
        Cut(UP, 5, "inside TLS"),
        Cut(DOWN, 0, "inside TLS"),
        Cut(DOWN, 10, "inside TLS"),
    ] == list(encrypted(bytes(10), bytes(20), 2))
