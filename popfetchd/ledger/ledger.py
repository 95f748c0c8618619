"""
The ledger: the durable record of what is archived, and of what is removed.

    recorded → published → removed      a row's life; `void` ends one that had no copy
                     damaged            its copy is gone: until another one is committed

Rules of this file:

- What a method has written is durable when it returns. What would change nothing is not
  written: a visit that finds nothing new costs no commit.
- The methods may be called from any thread. An account's rows are changed only by who
  holds its lock.
- Only `record` makes a Recorded and only a committed `published` makes a Receipt: the
  proof that a message may be removed is the commit itself (P1).
"""

from __future__ import annotations

import json
import sqlite3

from collections import Counter
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from popfetchd.errors import AccountLocked, LedgerError
from popfetchd.ledger import copies, copying, recording
from popfetchd.ledger import rows as table
from popfetchd.ledger.database import (
    BUSY_SECONDS,
    locks_of,
    make_file,
    open_database,
)
from popfetchd.ledger.lock import AccountLock
from popfetchd.ledger.readers import Readers
from popfetchd.ledger.recollecting import recollection_of, text_of
from popfetchd.ledger.recording import Placing
from popfetchd.ledger.restoring import Restoring
from popfetchd.ledger.use import Use
from popfetchd.ledger.writer import Writer
from popfetchd.values import (
    AccountName,
    AccountState,
    Alike,
    Archived,
    ContentDigest,
    Destination,
    Due,
    Failure,
    HeaderDigest,
    Known,
    LeftOpen,
    Listed,
    MessageNumber,
    Octets,
    Plain,
    Published,
    Receipt,
    Recollection,
    Recorded,
    RowId,
    Seen,
    Since,
    UniqueId,
    Verification,
    Verified,
)


T = TypeVar("T")

AT_ONCE = 1_000
"""Rows matched by their headers in one commit: who else commits waits no longer."""

ABSENT = -1
"""No octets listed, nor None."""

OPENING = AccountName(".open")
"""The lock under which a ledger is made or migrated; no account's name has a dot first."""

STATE_FIELDS = frozenset(field.name for field in fields(AccountState))


class Ledger:
    """
    The ledger in the file at *path*, made if it is missing; *now* gives seconds since
    1970. LedgerError when it cannot be opened, is damaged, or of a newer popfetchd.

    *alone*: LedgerInUse while any other process has it open.
    """

    def __init__(
        self, path: Path, *, now: Callable[[], float], alone: bool = False
    ) -> None:
        self.path = path
        self._now = now
        self._locks = locks_of(path)
        self._use = self._used(alone=alone)
        try:
            self._writer = Writer(self._open(), path)
        except BaseException:
            self._use.end()
            raise
        self._readers = Readers(path)
        try:
            self.id = self._read(table.ledger_id)
        except BaseException:
            self.close()
            raise

    def _used(self, *, alone: bool) -> Use:
        make_file(self.path, self._locks)
        return Use(self.path, self._locks, alone=alone)

    def _open(self) -> sqlite3.Connection:
        try:
            with self.lock(OPENING).acquire(BUSY_SECONDS):
                return open_database(self.path)
        except AccountLocked as error:
            raise LedgerError(self.path, "another process is opening it") from error

    def close(self) -> None:
        """
        End when everything is written. May be called again.
        """
        self._readers.close()
        self._writer.close()
        self._use.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        with self._readers.one() as db:
            return question(db)

    # -- what a visit holds -----------------------------------------------------------

    def lock(self, account: AccountName) -> AccountLock:
        """
        Return the lock under which *account* is visited, not acquired yet.
        """
        return AccountLock(account, self._locks / account)

    def reserve(self, count: int) -> range:
        """
        Return *count* sequence numbers that were never given and never will be again.
        """
        if not count:
            return range(0)
        highest = self._writer.do(lambda db: table.reserve(db, count))
        return range(highest - count + 1, highest + 1)

    def highest(self) -> int:
        """
        Return the highest sequence number given so far; 0 before the first.
        """
        return self._read(table.highest)

    # -- what is archived -------------------------------------------------------------

    def open_rows(self, account: AccountName) -> list[Recorded]:
        """
        Return what an interrupted visit left recorded, oldest first.
        """
        return self._read(lambda db: table.open_rows(db, account))

    def left_open(self, directory: Path) -> LeftOpen:
        """
        Return what was recorded for one place of an archive, by whichever account.

        They are for who holds that place alone (an mbox under its lock) to settle.
        """
        return self._read(lambda db: table.left_open(db, directory))

    def open_bases(self) -> frozenset[str]:
        """
        Return the bases of the open rows of all accounts: spool files not to be swept.
        """
        return self._read(table.open_bases)

    def known(self, account: AccountName) -> list[Known]:
        """
        Return the account's published rows, in no order.
        """
        return self._read(lambda db: table.known(db, account))

    def known_apart(self, account: AccountName, due: Due) -> tuple[Plain, list[Known]]:
        """
        Return the account's published rows: those that are plain, and all others.
        """
        return self._read(lambda db: table.known_apart(db, account, due))

    def receipts(self, rows: Collection[RowId]) -> list[Receipt]:
        """
        Return the receipts of those of *rows* that are published, oldest first.
        """
        return self._read(lambda db: table.receipts(db, rows)) if rows else []

    def archived_count(self, account: AccountName) -> int:
        """
        Return how many of the account's messages were ever archived.
        """
        return self._read(lambda db: table.archived_count(db, account))

    # -- recording and publishing -----------------------------------------------------

    def record(
        self,
        account: AccountName,
        batch: Sequence[Verified],
        placing: Placing = list,
    ) -> list[Recorded | Receipt | Alike]:
        """
        Record durably what is about to be published; one entry for each of *batch*.

        A Receipt for a message that is in the archive already: its row, which the last
        listing had not accounted for, was adopted, one to one; its new copy is not
        wanted. An Alike for one that is there with other octets. A Recorded for every
        other; *placing* tells where those are about to appear.
        """
        if not batch:
            return []
        now = self._now()

        def job(db: sqlite3.Connection) -> list[Recorded | Receipt | Alike]:
            entries = recording.record(db, account, batch, now)
            fresh = [entry for entry in entries if isinstance(entry, Recorded)]
            placed = recording.place(db, fresh, placing)
            return [placed[e.row] if isinstance(e, Recorded) else e for e in entries]

        return self._writer.do(job)

    def place(self, batch: Sequence[Recorded], placing: Placing) -> list[Recorded]:
        """
        Record durably that open rows are about to be published, maybe elsewhere.
        """
        if not batch:
            return []
        return list(
            self._writer.do(lambda db: recording.place(db, batch, placing)).values()
        )

    def recognise(
        self,
        account: AccountName,
        headers: Sequence[tuple[Listed, HeaderDigest]],
        later_than: tuple[Since, float],
    ) -> set[MessageNumber]:
        """
        Match listed messages with rows that the listing has not accounted for.

        A row is matched when it was archived, or arrived, later than the time given,
        its octets are those listed, and its header, which names it, is that of exactly one
        row and one of *headers*. Returns the numbers of the messages that need not be
        retrieved. It is no proof: their rows are doubtful.
        """
        times = Counter(header for _, header in headers)
        alone = [(m, header) for m, header in headers if times[header] == 1]
        matched: set[MessageNumber] = set()
        for start in range(0, len(alone), AT_ONCE):
            some = alone[start : start + AT_ONCE]
            job = partial(_recognise, account, some, later_than)
            matched |= self._writer.do(job)
        return matched

    def commit(self, published: Sequence[Published]) -> list[Receipt]:
        """
        Commit durably that the copies stand in the archive: only this makes a Receipt.
        """
        if not published:
            return []
        now = self._now()
        return self._writer.do(lambda db: recording.publish(db, published, now))

    def void(self, recorded: Recorded) -> None:
        """
        Forget a row whose copy is nowhere: the message will be fetched again.
        """
        self._writer.do(lambda db: recording.void(db, recorded))

    # -- what a listing shows ---------------------------------------------------------

    def sight(
        self,
        account: AccountName,
        seen: Seen,
        duplicated: Collection[UniqueId] = (),
    ) -> None:
        """
        Write down what a complete listing showed, where it differs from the last one.

        A row that vanished was removed, if it was marked. *duplicated*: unique-ids that
        stand in the listing more than once, and say nothing from now on.
        """
        changes = self._read(lambda db: table.sighting(db, account, seen, duplicated))
        if any(changes):
            now = self._now()
            self._writer.do(lambda db: table.sight(db, changes, now))

    def leave(
        self, account: AccountName, left: Mapping[UniqueId, Octets | None]
    ) -> None:
        """
        Write down what a session listed and leaves unarchived, and only that.

        None of these messages will be taken for one that vanishes from now on: they stood
        side by side. *left*: unique-ids that stand once in the listing, and the octets
        listed; one that is listed with other octets later is another message.
        """
        before = self._read(lambda db: table.left_behind(db, account))
        gone = [each for each in before if left.get(each, ABSENT) != before[each]]
        new = {
            each: octets
            for each, octets in left.items()
            if before.get(each, ABSENT) != octets
        }
        if gone or new:
            self._writer.do(lambda db: table.leave(db, account, gone, new))

    # -- removal ----------------------------------------------------------------------

    def mark(self, rows: Collection[RowId]) -> None:
        """
        Note, before it is sent, that a DELE goes out for each of *rows*.

        LedgerError, and nothing is marked, unless all of them are published.
        """
        if rows:
            self._writer.do(lambda db: table.mark(db, rows))

    def unmark(self, rows: Collection[RowId]) -> None:
        """
        Note that the server refused the DELE of each of *rows*.
        """
        if rows:
            self._writer.do(lambda db: table.unmark(db, rows))

    def removed(self, rows: Collection[RowId]) -> None:
        """
        Note that *rows* were removed: the server said +OK to QUIT (RFC 1939 section 6).
        """
        if rows:
            now = self._now()
            self._writer.do(lambda db: table.removed(db, rows, now))

    def pop(self, rows: Collection[RowId]) -> None:
        """
        Note that the server, which hides what was retrieved, said +OK to QUIT after it.

        The next listing tells whether *rows* are gone: only then they count as removed.
        """
        if rows:
            self._writer.do(lambda db: table.pop(db, rows))

    # -- failures ---------------------------------------------------------------------

    def failures(self, account: AccountName) -> dict[UniqueId, Failure]:
        """
        Return how often each message of the account failed to be retrieved.
        """
        return self._read(lambda db: table.failures(db, account))

    def fail(
        self, account: AccountName, unique_ids: Collection[UniqueId], why: str = ""
    ) -> None:
        """
        Count one more visit in which these messages failed, and *why*, in a sentence.
        """
        if unique_ids:
            now = self._now()
            self._writer.do(lambda db: table.fail(db, account, unique_ids, why, now))

    def lift(self, account: AccountName, unique_ids: Collection[UniqueId]) -> None:
        """
        Let these messages be tried again at once, last and alone, as what failed before.
        """
        if unique_ids:
            self._writer.do(lambda db: table.lift(db, account, unique_ids))

    def forgive(self, account: AccountName, unique_ids: Collection[UniqueId]) -> None:
        """
        Forget the failures of these messages.
        """
        failed = self.failures(account).keys() & set(unique_ids)
        if failed:
            self._writer.do(lambda db: table.forgive(db, account, failed))

    # -- accounts ---------------------------------------------------------------------

    def state(self, account: AccountName) -> AccountState:
        """
        Return what is remembered of *account*; of one never visited, the defaults.
        """
        return self._read(
            lambda db: _state(
                table.state(db, account), copies.verifications(db).get(account)
            )
        )

    def states(self) -> dict[AccountName, AccountState]:
        """
        Return what is remembered of every account.
        """
        return self._read(all_states)

    def save_state(self, account: AccountName, state: AccountState) -> None:
        """
        Remember *state* over a restart.
        """
        text = json.dumps(asdict(state))
        self._writer.do(lambda db: table.save_state(db, account, text))

    def recollection(self, account: AccountName) -> Recollection | None:
        """
        Return what the last visit of *account* left to the next one, if anything.
        """
        return recollection_of(self._read(lambda db: table.recollection(db, account)))

    def stamp(self, account: AccountName) -> str:
        """
        Return the stamp that the account's archive had when it was last looked through.
        """
        return self._read(lambda db: table.stamp(db, account))

    def waits(self, account: AccountName) -> bool:
        """
        Tell whether some message of *account* has to be settled, repaired, or tried again.
        """
        return self._read(lambda db: table.waits(db, account))

    def first_of(self, account: AccountName, since: Since) -> float:
        """
        Return when the first message that the last listing had was archived, or arrived.

        NEVER where it had none.
        """
        return self._read(lambda db: table.first_of(db, account, since))

    def save_visit(
        self,
        account: AccountName,
        state: AccountState,
        recollection: Recollection | None,
        stamp: str = "",
    ) -> None:
        """
        Remember *state*, and for the next visit alone *recollection* and the *stamp* of
        the archive, in one commit.
        """
        text, left = json.dumps(asdict(state)), text_of(recollection)

        def job(db: sqlite3.Connection) -> None:
            table.save_state(db, account, text)
            table.recollect(db, account, left)
            table.save_stamp(db, account, stamp)

        self._writer.do(job)

    # -- verifying the archive --------------------------------------------------------

    def places(self, account: AccountName) -> list[Destination]:
        """
        Return where copies of the account's messages stand, the sooner and the later.
        """
        return self._read(lambda db: copies.places(db, account))

    def stands_in(self, account: AccountName, directories: Iterable[Path]) -> bool:
        """
        Tell whether any copy of the account's messages stands in one of *directories*.
        """
        return self._read(lambda db: copies.stands_in(db, account, directories))

    def totals(self, account: AccountName) -> tuple[int, int]:
        """
        Return how many messages `archived` will give, and their octets as stored.
        """
        return self._read(lambda db: copies.totals(db, account))

    def archived(self, account: AccountName, directory: Path) -> Iterator[Archived]:
        """
        Yield the rows whose copies stand in *directory*, in the order of their writing.
        """
        after = RowId(0)
        while page := self._page(account, directory, after):
            yield from page
            after = page[-1].row

    def copies(self, rows: Collection[RowId]) -> list[Archived]:
        """
        Return where the copies of *rows* have to stand, place by place.
        """
        return self._read(lambda db: copies.these(db, rows)) if rows else []

    def holding(
        self, account: AccountName, contents: Collection[ContentDigest]
    ) -> list[Archived]:
        """
        Return where the account's copies of *contents* have to stand, place by place.
        """
        return self._read(lambda db: copies.holding(db, account, contents))

    def _page(
        self, account: AccountName, directory: Path, after: RowId
    ) -> list[Archived]:
        return self._read(lambda db: copies.page(db, account, directory, after))

    def without_row(self, directory: Path, keys: Counter[str]) -> Counter[str]:
        """
        Return those of *keys* (values.Held) that no row of that place is for.
        """
        left = keys.copy()
        if left:
            self._read(lambda db: _take_off(left, copies.keys(db, directory)))
        return +left

    def knows(self, account: AccountName) -> bool:
        """
        Tell whether any message of *account* was ever recorded.
        """
        return self._read(lambda db: copies.has_any(db, account))

    def damage(self, rows: Collection[RowId]) -> None:
        """
        Take no message for *rows* any more: their copies are missing or altered.
        """
        if rows:
            self._writer.do(lambda db: copies.damage(db, rows))

    def heal(self, rows: Collection[RowId]) -> None:
        """
        Let *rows* count again: their copies are whole.
        """
        if rows:
            self._writer.do(lambda db: copies.heal(db, rows))

    def damaged(self, account: AccountName) -> set[RowId]:
        """
        Return the account's damaged rows.
        """
        return self._read(lambda db: copies.damaged(db, account))

    def verified(self, seen: Verification) -> None:
        """
        Remember what verifying an account's archive showed.
        """
        self._writer.do(lambda db: copies.verified(db, seen))

    # -- the ledger as a whole --------------------------------------------------------

    def check(self, *, quick: bool = False) -> None:
        """
        Read all of it; LedgerDamaged if it is damaged.
        """
        self._read(lambda db: copying.check(db, self.path, quick=quick))

    def is_new(self) -> bool:
        """
        Tell whether nothing was ever archived with it.
        """
        return self._read(copies.is_empty)

    def backup(self, target: Path, *, replace: bool = False) -> None:
        """
        Copy the ledger as it is at one moment, others may go on writing meanwhile.

        LedgerError where *target* is one of its own files: who has it open would go on
        writing into what is no file's any more.
        """
        copying.check_apart(self.path, target)
        self._read(lambda db: copying.copy_to(db, target, replace=replace))

    def rebuild(self, work: Callable[[Restoring], T]) -> T:
        """
        Do *work* in one transaction, and return its result once that is durable.
        """
        now = self._now()
        return self._writer.do(lambda db: work(Restoring(db, now)))


def all_states(db: sqlite3.Connection) -> dict[AccountName, AccountState]:
    """
    Return what is remembered of every account.
    """
    texts, seen = table.states(db), copies.verifications(db)
    return {
        AccountName(name): _state(texts.get(name), seen.get(name))
        for name in texts.keys() | seen.keys()
    }


def _recognise(
    account: AccountName,
    headers: Sequence[tuple[Listed, HeaderDigest]],
    later_than: tuple[Since, float],
    db: sqlite3.Connection,
) -> set[MessageNumber]:
    return {
        listed.number
        for listed, header in headers
        if recording.recognise(db, account, listed, header, later_than)
    }


def _take_off(left: Counter[str], keys: Iterable[str]) -> None:
    for key in keys:
        if key in left:
            left[key] -= 1


def _state(text: str | None, seen: tuple[float, int] | None) -> AccountState:
    # A field that this version does not know was another's; one that is missing is new.
    stored = {k: v for k, v in json.loads(text or "{}").items() if k in STATE_FIELDS}
    ended, damaged = seen or (0.0, 0)
    return AccountState(**stored | {"last_verified": ended, "damaged": damaged})
