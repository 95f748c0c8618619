"""
Whole visits on the model disk, as a `Story` tells them, and judged by P1 and P2.

Rules of this file:

- What runs is popfetchd: poll, selection, removal, session, engine, archive, ledger.
  Only the disk, the socket, the threads and the clock are models.
- After the story's visits come honest ones until nothing is left to do. Then every
  letter has to be in the archive exactly once, and nobody has done anything by hand.
- The judge looks at octets and names, never at what popfetchd says of itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

import pytest

from popfetchd import poll as poll_module
from popfetchd import selection
from popfetchd.archive import proving
from popfetchd.archive.maildir import Maildir
from popfetchd.errors import LedgerError, Unexpected
from popfetchd.ledger import ledger as ledger_module
from popfetchd.pop3.session import Session
from popfetchd.pop3.tls import TlsContexts
from popfetchd.report import after
from popfetchd.values import (
    Account,
    AccountName,
    Announced,
    ArchiveFormat,
    Destination,
    Every,
    InlineSecret,
    Login,
    Mechanism,
    Outcome,
    PollReport,
    Secret,
    Server,
    TlsMode,
    TlsPolicy,
)
from popfetchd.visit import archiving, settle
from popfetchd.visit.course import Means
from tests.crash.model_disk import File, ModelDisk
from tests.crash.model_fate import Deed, Ended, Fate
from tests.crash.model_ledger import InlineWriter, ModelLedger, new_ledger
from tests.crash.model_neighbours import Neighbours
from tests.crash.model_server import SECRET, USER, Ids, ModelServer
from tests.crash.model_story import Mail, Plan, Story, letter, stored, survivors
from tests.crash.model_threads import EAGER, LAZY


START = 1_700_000_000.0

MINUTE, DAY = 60.0, 86_400.0

PLENTY = 2**40
"""Octets free on the disk: an account's `min_free` is not what is tried here."""

MAIL = "/srv/mail"
"""Where the maildir is: two folders deep, and both have to be made."""

VISITS_TO_RECOVER = 6
"""Honest visits after which nothing may be left to do. One settles, one lifts a pause,
one removes; with one letter to a round, a few more."""

RESET_LEAST = 2
"""Letters that have to vanish for a reset: a story has few."""


class Broken(AssertionError):
    """
    A promise was not kept.
    """


def play(story: Story, kind: type[World] | None = None) -> Counter[str]:
    """
    Play *story* to its end in a world of *kind*; return what came how often.

    Raises Broken.
    """
    with _adjusted(story):
        made = (kind or World)(story, new_ledger())
        try:
            for plan in story.plans:
                made.visit(plan)
            made.recover()
        finally:
            made.ledger.close()
    return made.came


@contextmanager
def _adjusted(story: Story) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archiving, "ThreadPoolExecutor", LAZY if story.lazy else EAGER)
        patch.setattr(ledger_module, "Writer", InlineWriter)
        patch.setattr(archiving, "BATCH_MESSAGES", story.batch)
        if story.lazy:  # each message is so large that it is kept beside
            patch.setattr(archiving, "BATCH_OCTETS", 1)
        patch.setattr(proving, "ThreadPoolExecutor", EAGER)
        patch.setattr(proving, "MANY", story.many)
        patch.setattr(selection, "ROUND_MESSAGES", story.round)
        patch.setattr(selection, "RESET_LEAST", RESET_LEAST)
        # It looks at the machine's own disk, where another ledger's mail might be.
        patch.setattr(settle, "ledgers_at", lambda *_where: set())
        yield


class World:
    """
    One account on the model disk; *path* is its ledger's file.
    """

    def __init__(self, story: Story, path: Path) -> None:
        self.time = START
        self.disk = ModelDisk(links=story.links, deaf=story.deaf)
        self.server = ModelServer(story.lacks)
        self.ledger = ModelLedger(path, now=self.now)
        self.neighbours = Neighbours(self.disk, MAIL, self.ledger.promised)
        self.account = Account(
            AccountName("alice"),
            Server("model", 110, TlsPolicy(TlsMode.NONE), 5.0),
            Login(USER, InlineSecret(Secret(SECRET)), Mechanism.USER),
            Destination(ArchiveFormat.MAILDIR, Path(MAIL)),
            Every(300.0),
            delete_after=story.delete_after,
        )
        self.came: Counter[str] = Counter()
        """What came how often: visits, cuts of the power, and each deed."""
        self._letters = 0
        self._alike = story.alike

    def now(self) -> float:
        return self.time

    # -- visits -----------------------------------------------------------------------

    def visit(self, plan: Plan, wait: float = MINUTE) -> PollReport | None:
        """
        Let happen what *plan* says, and judge; None when the process did not survive.
        """
        self.time += wait
        self._prepare(plan)
        fate = Fate(plan.befalls, self.neighbours.act)
        self.disk.fate = self.ledger.fate = fate
        report = self._poll(fate)
        self.came.update(["visits", *(deed.name for deed in fate.done.elements())])
        self.disk.fate = self.ledger.fate = Fate(())
        self._finish(plan, fate.end)
        self.judge()
        return report

    def _prepare(self, plan: Plan) -> None:
        octets = b""
        for kind in plan.mail:
            if kind is not Mail.TWIN or not octets:
                self._letters += 1
                exact = kind is Mail.EXACT
                octets = letter(self._letters, exact=exact, alike=self._alike)
            self.server.deliver(octets, reuse=plan.ids is Ids.REUSED)
        self.server.rename(plan.ids)
        self.server.lie = plan.lie

    def _poll(self, fate: Fate) -> PollReport | None:
        means = Means(
            self.ledger,
            lambda _server, _deadline, expected: self._connect(fate, expected),
            self._open_archive,
            lambda source: source.secret,
            self.now,
            lambda _path: PLENTY,
            there=lambda _place: True,  # a model's files are on no real disk
        )
        try:
            before = self.ledger.state(self.account.name)
            report = poll_module.poll(self.account, means, stop=Event())
            with suppress(LedgerError):  # as the service does
                state = after(before, report)
                self.ledger.save_visit(
                    self.account.name, state, report.recollection, report.stamp
                )
        except Ended:
            return None
        if isinstance(report.failure, Unexpected):
            raise Broken("an error of ours") from report.failure
        return report

    def _connect(self, fate: Fate, expected: Announced | None) -> Session:
        transport = self.server.connect(fate)
        session = Session(self.account.server, transport, expected=expected)
        session.begin(TlsContexts())
        return session

    def _open_archive(self, _account: Account, destination: Destination) -> Maildir:
        maildir = Maildir(
            destination.path,
            self.ledger.id,
            host="model",
            now=self.now,
            disk=self.disk,
        )
        maildir.open()
        return maildir

    def _finish(self, plan: Plan, end: Deed | None) -> None:
        bits = survivors(plan.survivors)
        if end is not None or plan.cut_after:
            comes_to_light = bits()
            self.ledger = self.ledger.reopened(self.now, comes_to_light=comes_to_light)
        if end is Deed.CUT or plan.cut_after:
            self.disk.cut(bits)
            self.came["cuts of the power"] += 1
            self.neighbours.excuse()
        else:
            self.disk.kill()

    def recover(self) -> None:
        """
        Visit until nothing is left to do; then cut the power once more, and judge.
        """
        report = None
        for _ in range(VISITS_TO_RECOVER):
            report = self.visit(Plan(), wait=DAY)
            if _is_quiet(report):
                break
        # What still waits, waits to be removed: a reader deleted its archived copy.
        if report is None or report.outcome is not Outcome.SUCCESS or _works(report):
            raise Broken(f"P3: there is no end of it: {report}")
        self.judge_whole()
        self._cut_long_after()

    def _cut_long_after(self) -> None:
        # What the cut gives back to the archive may be removed: that is all.
        report = self.visit(Plan(cut_after=True), wait=DAY)
        report = self.visit(Plan(), wait=DAY)
        if report is None or _archives(report):
            raise Broken(f"P2: a power cut long after made this visit work: {report}")
        self.judge_whole()

    # -- the judge --------------------------------------------------------------------

    def judge(self) -> None:
        """
        What holds at any instant. Raises Broken.
        """
        shown = self._shown()
        delivered = Counter(map(stored, self.server.delivered))
        removed = Counter(map(stored, self.server.removed))
        if lost := removed - shown:
            raise Broken(f"P1: removed, and not in the archive: {told(lost)}")
        if twice := shown - delivered - self.neighbours.excused:
            raise Broken(f"P2: in the archive too often: {told(twice)}")
        if not self.neighbours.foreign <= {file for _, _, file in self.disk.files()}:
            raise Broken("another's file was overwritten")

    def judge_whole(self) -> None:
        """
        What holds when nothing is left to do. Raises Broken.
        """
        self.judge()
        delivered = Counter(map(stored, self.server.delivered))
        if missing := delivered - self._shown():
            raise Broken(f"P2: not in the archive: {told(missing)}")
        tmp = self.disk.folder(f"{MAIL}/tmp")
        if tmp is not None and tmp.names:
            raise Broken(f"left in tmp/: {len(tmp.names)} files")

    def _shown(self) -> Counter[bytes]:
        # The letters in the archive, those included that the reader deleted.
        count: Counter[bytes] = Counter()
        whole = {stored(octets) for octets in self.server.delivered}
        seen: set[File] = set()
        for folder, name, file in self.disk.files():
            if folder == "tmp" or file in self.neighbours.foreign:
                continue
            if file.octets not in whole:
                raise Broken(f"half written: {folder}/{name} holds {file.octets!r}")
            count[file.octets] += 1
            seen.add(file)
        return count + Counter(f.octets for f in self.neighbours.deleted - seen)


def _archives(report: PollReport) -> bool:
    return bool(report.archived or report.settled or report.lost_spools)


def _works(report: PollReport) -> bool:
    return _archives(report) or bool(report.removed)


def _is_quiet(report: PollReport | None) -> bool:
    return (
        report is not None
        and report.outcome is Outcome.SUCCESS
        and not (_works(report) or report.waiting)
    )


def told(letters: Counter[bytes]) -> str:
    """
    Return which letters these are.
    """
    return ", ".join(f"{n} of {octets[:29]!r}" for octets, n in letters.items())
