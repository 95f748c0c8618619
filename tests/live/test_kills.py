"""
`fetch` is killed (-9) at random instants, with removal: nothing is lost, nothing doubled.

Rules of this file:

- The instants are seeded, and spread over the time that a visit takes here. They count
  from its beginning, which its lock tells, and not from the start of Python.
- After a kill nothing is touched: what is looked at is a copy. One more run has to mend
  it all.
- What the kills hit is told in one line, for a kill that hits nothing proves nothing.
"""

from __future__ import annotations

import os
import random
import sys
import time

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from subprocess import Popen, TimeoutExpired

import pytest

from tests.letters import Letter, letters
from tests.live.dovecot import Dovecot, User
from tests.wire import PATIENCE, Installation


KILLS = int(os.environ.get("POPFETCHD_KILLS", "8"))
"""POPFETCHD_KILLS=50 looks harder."""

LETTERS = list(letters(400, seed=6))

LOOK_AGAIN = 0.002
"""Seconds between two looks at what a run does."""

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(PATIENCE + 20 * KILLS),  # on a busy machine
]


@dataclass(frozen=True)
class Case:
    """
    A maildrop of its own that holds *sent*, and an installation that is to empty it.
    """

    site: Installation
    user: User
    sent: Sequence[Letter]

    def kill(self, after: float, *, begun: Callable[[], bool] | None = None) -> str:
        """
        Start `fetch`; kill it *after* so many seconds; return what the kill hit.

        They count from the moment when *begun* is true: when the visit begins.
        """
        process = self.site.start()
        wait_until(process, begun or self.site.visiting)
        with suppress(TimeoutExpired):
            process.wait(after)
        process.kill()
        process.communicate()
        assert process.returncode in {0, -SIGKILL}
        return "ended before" if process.returncode == 0 else self._hit()

    def published(self) -> int:
        """
        Return how many messages are in new/.
        """
        return len(self.site.files("new"))

    def _hit(self) -> str:
        if not self.site.maildir().exists():
            return "before the archive"
        states = set(self.site.rows("state, marked"))
        if ("published", 1) in states:
            return "amid removal"
        if ("recorded", 0) in states:
            return "with open rows"
        if self.site.files("tmp"):
            return "with spool files"
        if ("removed", 0) in states:
            return "after removal"
        return "between two steps"

    def mend(self) -> None:
        """
        Run `fetch` once, and see that all is in the archive once and nothing left over.
        """
        done = self.site.fetch()
        assert (0, "") == (done.code, done.report["error"] or "")
        sent = Counter(letter.served for letter in self.sent)
        archived = Counter(self.site.archived())
        lost, twice = (sent - archived).total(), (archived - sent).total()
        assert (0, 0) == (lost, twice)
        assert [] == self.site.unfinished()
        assert {("removed",)} == set(self.site.rows("state"))
        assert 0 == self.user.count()


PHASES: dict[str, tuple[Callable[[Case], bool], float]] = {
    "making the ledger": (lambda case: case.site.ledger.exists(), 0.02),
    "publication": (lambda case: case.published() > 0, 0.02),
    "removal": (lambda case: case.published() == len(case.sent), 0.06),
}
"""What shows that a phase begins, and the seconds that it takes about."""


def wait_until(process: Popen[str], begun: Callable[[], bool]) -> None:
    """
    Return when *begun* is true, or *process* has ended.
    """
    end = time.monotonic() + PATIENCE
    while not begun() and time.monotonic() < end:
        with suppress(TimeoutExpired):
            process.wait(LOOK_AGAIN)
            return


def new_case(
    dovecot: Dovecot, directory: Path, sent: Sequence[Letter] = LETTERS
) -> Case:
    """
    Deliver *sent* to a new user, and configure its removal.
    """
    directory.mkdir()
    user, site = dovecot.add_user(), Installation(directory)
    user.deliver(letter.stored for letter in sent)
    account = site.account(
        user.name,
        user.password,
        dovecot.ports.pop3s,
        ca_file=dovecot.ca_file,
        delete_after="verified",
    )
    site.configure(account)
    return Case(site, user, sent)


@pytest.fixture(scope="module")
def span(dovecot, tmp_path_factory) -> float:
    """
    The seconds that a visit takes which nobody kills.
    """
    case = new_case(dovecot, tmp_path_factory.mktemp("whole") / "case")
    process = case.site.start()
    wait_until(process, case.site.visiting)
    began = time.monotonic()
    wait_until(process, lambda: not case.site.visiting())
    ended = time.monotonic()
    assert 0 == case.site.finish(process).code
    return ended - began


def instants(count: int, span: float, seed: int) -> Iterator[float]:
    """
    Yield *count* instants, one in each equal part of *span*.
    """
    chance = random.Random(seed)
    for number in range(count):
        yield span * (number + chance.random()) / count


def tell(capsys, what: str, hits: Counter[str]) -> None:
    """
    Say in one line, past pytest's capture, what was hit and came of it.
    """
    hit = ", ".join(f"{count} {name}" for name, count in hits.most_common())
    with capsys.disabled():
        line = f"{hits.total()} kills, {what}: 0 lost, 0 twice ({hit})"
        sys.stderr.write(f"\n{line}\n")


def test_one_run_mends_a_kill(dovecot, tmp_path, span, capsys):
    """
    After a kill at any instant the next run leaves each message in the archive once,
    nothing in tmp/, no row open, and the maildrop empty.
    """
    hits: Counter[str] = Counter()
    for number, instant in enumerate(instants(KILLS, span, seed=1)):
        case = new_case(dovecot, tmp_path / str(number))
        hits[case.kill(instant)] += 1
        case.mend()
    tell(capsys, "one run after each", hits)


def test_one_run_mends_three_kills_in_a_row(dovecot, tmp_path, span, capsys):
    """
    A run that is killed while it mends leaves no more to mend than it found.
    """
    hits: Counter[str] = Counter()
    chance = random.Random(2)
    for number in range(max(1, KILLS // 4)):
        case = new_case(dovecot, tmp_path / str(number))
        for part in (0.6, 0.5, 0.4):  # less and less is left to do
            hits[case.kill(part * span * chance.random())] += 1
        case.mend()
    tell(capsys, "one run after each three", hits)


@pytest.mark.parametrize("phase", PHASES)
def test_one_run_mends_a_kill_amid(phase, dovecot, tmp_path, capsys):
    """
    The short phases, which instants spread over a whole visit seldom hit, are met too.
    """
    hits: Counter[str] = Counter()
    begun, seconds = PHASES[phase]
    for number, instant in enumerate(instants(max(2, KILLS // 4), seconds, seed=3)):
        case = new_case(dovecot, tmp_path / str(number), LETTERS[:200])
        hits[case.kill(instant, begun=lambda case=case: begun(case))] += 1
        case.mend()
    tell(capsys, f"amid {phase}, one run after each", hits)
