"""
What is done to the ledger's rows, each within a transaction that somebody else commits.

Rules of this file:

- All SQL on rows is here. A function takes the connection first and raises what SQLite
  raises; what finds a row in another state than it must be, IntegrityError.
- A row is found by its id, or matched by its content; a unique-id never is a key.
- A unique-id that stands twice in a listing, or that any row of the account has borne
  before, says nothing: all its bearers are *doubtful*.
- `removed` and not `marked`: the server said +OK, to our DELE, or to the QUIT by which it
  hides what was retrieved. `removed` and still `marked`: nobody
  did, the message was gone from the next listing, and may come back under another name.
"""

from __future__ import annotations

import json
import sqlite3

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from popfetchd.values import (
    NEVER,
    AccountName,
    ArchiveFormat,
    ContentDigest,
    Copy,
    Due,
    Extent,
    Failure,
    HeaderDigest,
    Known,
    LedgerId,
    LeftOpen,
    Octets,
    Plain,
    Receipt,
    Recorded,
    RowId,
    Seen,
    Since,
    UniqueId,
)


RECEIPT = (
    "id, unique_id, octets_listed, header_digest, content_digest, archived_at, "
    "arrived_at"
)

VANISHED = """
    vanished = coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'left_behind'), 0)
"""

LEAVE = """
    INSERT INTO left_behind (account, unique_id, octets_listed)
    SELECT :account, :unique_id, :octets WHERE NOT EXISTS (
        SELECT 1 FROM message WHERE account = :account AND unique_id = :unique_id
        AND state IN ('recorded', 'published', 'removed')
    )
"""
"""Not what a row bears: of that, the content tells which it is."""

WAITING = """
    SELECT EXISTS (
        SELECT 1 FROM message
        WHERE account = :account AND state IN ('recorded', 'damaged')
    ) OR EXISTS (SELECT 1 FROM failure WHERE account = :account)
"""

LISTED = "account = ? AND state = 'published' AND accounted"

OPEN = (
    "SELECT id, format, directory, base, name, spool, begins_at, length, bare_digest,"
    " content_digest FROM message WHERE state = 'recorded'"
)

OPEN_OF = f"{OPEN} AND account = ? ORDER BY id"

OPEN_AT = f"{OPEN} AND directory = ? ORDER BY id"

CLAIMED = """
    SELECT count(*) FROM message
    WHERE bare_digest = ? AND directory = ? AND state IN ('published', 'removed')
"""

OF_THESE = "id IN (SELECT value FROM json_each(?)) AND state = 'published'"


LONGEST_PLAIN = 255
"""Characters of a unique-id of values.Plain; RFC 1939 section 7 has 70. A column of all of
them is one text for a moment, which SQLite limits to a thousand million."""

PLAIN = f"""(
    accounted AND NOT (doubtful OR marked OR altered OR popped)
    AND unique_id IS NOT NULL AND octets_listed IS NOT NULL
    AND length(unique_id) <= {LONGEST_PLAIN}
    AND CASE WHEN :by_age THEN arrived_at ELSE archived_at END + :wait > :now
)"""

PUBLISHED = "FROM message WHERE account = :account AND state = 'published'"

# One text for each column: SQLite puts them together without a step of Python's for each
# row. No unique-id holds a line feed: a listing's line ends with one.
PLAIN_ROWS = f"""
    SELECT
        group_concat(unique_id, char(10)), group_concat(octets_listed, ' '),
        group_concat(id, ' ')
    {PUBLISHED} AND {PLAIN}
"""

# As a number, since each column of 100,000 rows costs a hundredth of a second.
KNOWN = f"""
    SELECT id, unique_id, octets_listed, archived_at, arrived_at,
        accounted + 2 * doubtful + 4 * marked + 8 * altered + 16 * popped
    {PUBLISHED}
"""

FLAGS = [tuple(bool(n & bit) for bit in (1, 2, 4, 8)) for n in range(16)]
"""What `known` reads as one number: accounted, doubtful, marked, altered; and popped."""


# -- the ledger itself ----------------------------------------------------------------


def ledger_id(db: sqlite3.Connection) -> LedgerId:
    """
    Return the ledger's name.
    """
    (name,) = db.execute("SELECT id FROM ledger").fetchone()
    return LedgerId(name)


def highest(db: sqlite3.Connection) -> int:
    """
    Return the highest sequence number given.
    """
    (number,) = db.execute("SELECT highest FROM ledger").fetchone()
    return int(number)


def reserve(db: sqlite3.Connection, count: int) -> int:
    """
    Give *count* sequence numbers; return the highest.
    """
    db.execute("UPDATE ledger SET highest = highest + ?", (count,))
    return highest(db)


def states(db: sqlite3.Connection) -> dict[str, str]:
    """
    Return what is remembered of each account, as it was saved.
    """
    return dict(db.execute("SELECT account, state FROM account_state").fetchall())


def state(db: sqlite3.Connection, account: AccountName) -> str | None:
    """
    Return what is remembered of *account*.
    """
    found = db.execute("SELECT state FROM account_state WHERE account = ?", (account,))
    row = found.fetchone()
    return None if row is None else str(row[0])


def save_state(db: sqlite3.Connection, account: AccountName, text: str) -> None:
    """
    Remember *text* of *account*.
    """
    db.execute(
        "INSERT INTO account_state (account, state) VALUES (?, ?)"
        " ON CONFLICT DO UPDATE SET state = excluded.state",
        (account, text),
    )


def recollection(db: sqlite3.Connection, account: AccountName) -> str | None:
    """
    Return what the last visit of *account* left to the next one, as it was saved.
    """
    sql = "SELECT recollection FROM account_state WHERE account = ?"
    (text,) = db.execute(sql, (account,)).fetchone() or (None,)
    return None if text is None else str(text)


def waits(db: sqlite3.Connection, account: AccountName) -> bool:
    """
    Tell whether some message of *account* is open, damaged or failing.
    """
    (found,) = db.execute(WAITING, {"account": account}).fetchone()
    return bool(found)


def first_of(db: sqlite3.Connection, account: AccountName, since: Since) -> float:
    """
    Return when the first message that was in the last listing was archived, or arrived.
    """
    column = "arrived_at" if since is Since.ARRIVED else "archived_at"
    sql = f"SELECT min({column}) FROM message WHERE {LISTED}"  # noqa: S608 -- ours
    (first,) = db.execute(sql, (account,)).fetchone()
    return NEVER if first is None else float(first)


def recollect(db: sqlite3.Connection, account: AccountName, text: str | None) -> None:
    """
    Leave *text* to the next visit of *account*, of which a state was saved.
    """
    sql = "UPDATE account_state SET recollection = ? WHERE account = ?"
    db.execute(sql, (text, account))


def stamp(db: sqlite3.Connection, account: AccountName) -> str:
    """
    Return the stamp of the account's archive; empty if there is none.
    """
    sql = "SELECT stamp FROM account_state WHERE account = ?"
    (text,) = db.execute(sql, (account,)).fetchone() or ("",)
    return str(text)


def save_stamp(db: sqlite3.Connection, account: AccountName, text: str) -> None:
    """
    Remember the stamp of the archive of *account*, of which a state was saved.
    """
    db.execute("UPDATE account_state SET stamp = ? WHERE account = ?", (text, account))


# -- reading --------------------------------------------------------------------------


def open_rows(db: sqlite3.Connection, account: AccountName) -> list[Recorded]:
    """
    Return what was recorded and not committed as published, oldest first.
    """
    return [_recorded(found) for found in db.execute(OPEN_OF, (account,))]


def left_open(db: sqlite3.Connection, directory: Path) -> LeftOpen:
    """
    Return what was recorded for one place of an archive, by whichever account.
    """
    rows = [_recorded(found) for found in db.execute(OPEN_AT, (str(directory),))]
    bare = {row.copy.extent.bare for row in rows if row.copy.extent}
    return LeftOpen(
        rows, {digest: _claimed(db, directory, digest) for digest in sorted(bare)}
    )


def _claimed(db: sqlite3.Connection, directory: Path, bare: ContentDigest) -> int:
    (count,) = db.execute(CLAIMED, (bare, str(directory))).fetchone()
    return int(count)


def _recorded(
    found: tuple[
        int, str, str, str, str, str | None, int | None, int, bytes, ContentDigest
    ],
) -> Recorded:
    row, form, directory, base, name, spool, offset, length, bare, content = found
    copy = Copy(
        ArchiveFormat(form),
        Path(directory),
        base,
        name,
        None if spool is None else Path(spool),
        None if offset is None else Extent(offset, length, ContentDigest(bare)),
    )
    return Recorded(RowId(row), copy, content)


def open_bases(db: sqlite3.Connection) -> frozenset[str]:
    """
    Return the bases of all open rows, whichever account's.
    """
    found = db.execute("SELECT base FROM message WHERE state = 'recorded'")
    return frozenset(base for (base,) in found)


def known(db: sqlite3.Connection, account: AccountName) -> list[Known]:
    """
    Return the published rows, in no order.
    """
    return _known(db.execute(KNOWN, {"account": account}))


def known_apart(
    db: sqlite3.Connection, account: AccountName, due: Due
) -> tuple[Plain, list[Known]]:
    """
    Return the published rows: those that are plain, and all others, in no order.
    """
    facts = {
        "account": account,
        "by_age": due.since is Since.ARRIVED,
        "wait": due.wait,
        "now": due.now,
    }
    plain = _plain(*db.execute(PLAIN_ROWS, facts).fetchone())
    (count,) = db.execute(f"SELECT count(*) {PUBLISHED}", facts).fetchone()
    if count == len(plain.rows):
        return plain, []
    return plain, _known(db.execute(f"{KNOWN} AND NOT {PLAIN}", facts))


def _plain(ids: str | None, octets: str | None, rows: str | None) -> Plain:
    if ids is None or octets is None or rows is None:
        return Plain()
    return Plain(
        cast("list[UniqueId]", ids.split("\n")),
        cast("Sequence[Octets]", array("q", map(int, octets.split()))),
        cast("Sequence[RowId]", array("q", map(int, rows.split()))),
    )


def _known(found: sqlite3.Cursor) -> list[Known]:
    return [
        Known._make(
            (
                row,
                unique_id,
                octets,
                archived_at,
                *FLAGS[flags % 16],
                arrived_at,
                flags > 15,
            )
        )
        for row, unique_id, octets, archived_at, arrived_at, flags in found
    ]


def receipts(db: sqlite3.Connection, rows: Collection[RowId]) -> list[Receipt]:
    """
    Return the receipts of those of *rows* that are published, oldest first.
    """
    sql = f"SELECT {RECEIPT} FROM message WHERE {OF_THESE} ORDER BY id"  # noqa: S608
    return [receipt(found) for found in db.execute(sql, (_array(rows),))]


def failures(db: sqlite3.Connection, account: AccountName) -> dict[UniqueId, Failure]:
    """
    Return how often each message failed.
    """
    found = db.execute(
        "SELECT unique_id, visits, last, first, why FROM failure WHERE account = ?"
        " ORDER BY first, unique_id",
        (account,),
    )
    return {UniqueId(message): Failure(*failure) for message, *failure in found}


def archived_count(db: sqlite3.Connection, account: AccountName) -> int:
    """
    Return how many messages were ever archived.
    """
    (count,) = db.execute(
        "SELECT count(*) FROM message"
        " WHERE account = ? AND state IN ('published', 'removed')",
        (account,),
    ).fetchone()
    return int(count)


def all_failures(
    db: sqlite3.Connection,
) -> dict[AccountName, dict[UniqueId, Failure]]:
    """
    Return, of each account that has some, how often each message failed.
    """
    found = db.execute("SELECT DISTINCT account FROM failure")
    names = [AccountName(name) for (name,) in found.fetchall()]
    return {name: failures(db, name) for name in names}


# -- what a listing shows -------------------------------------------------------------


class Sighting(NamedTuple):
    """
    The rows of which a complete listing showed something else than the last one.
    """

    present: list[RowId]
    """There, and not accounted for before; or marked, and there in spite of it."""
    absent: list[RowId]
    """Vanished since the last one."""
    gone: list[RowId]
    """Vanished and marked: the listing decides that they were removed."""
    doubted: list[RowId]
    """Their unique-id stands in the listing twice."""
    hidden: list[RowId]
    """Vanished as they were to: the server hides what was retrieved."""


BORNE = """
    SELECT id FROM message WHERE account = ? AND state = 'published'
    AND unique_id IN (SELECT value FROM json_each(?)) AND NOT doubtful
"""


def sighting(
    db: sqlite3.Connection,
    account: AccountName,
    seen: Seen,
    duplicated: Collection[UniqueId],
) -> Sighting:
    """
    Return what is to be written of what a listing showed: only what it changes.
    """
    hidden = seen.hidden - seen.returned
    return Sighting(
        present=_these(db, seen.returned, "(marked OR NOT accounted)"),
        absent=_these(db, seen.vanished - hidden, "accounted"),
        gone=_these(db, seen.vanished - hidden, "marked"),
        doubted=_first(db.execute(BORNE, (account, json.dumps(list(duplicated)))))
        if duplicated
        else [],
        hidden=_these(db, hidden, "1"),
    )


def _these(db: sqlite3.Connection, rows: Collection[RowId], such: str) -> list[RowId]:
    if not rows:
        return []
    sql = f"SELECT id FROM message WHERE {OF_THESE} AND {such}"  # noqa: S608 -- ours
    return _first(db.execute(sql, (_array(rows),)))


def _first(found: sqlite3.Cursor) -> list[RowId]:
    return [RowId(row) for (row,) in found]


def sight(db: sqlite3.Connection, sighting: Sighting, now: float) -> None:
    """
    Write down what a complete listing showed.
    """
    for change, rows in (
        ("accounted = 1, marked = 0", sighting.present),
        (f"accounted = 0, {VANISHED}", sighting.absent),
        (f"state = 'removed', removed_at = {now:f}, {VANISHED}", sighting.gone),
        ("doubtful = 1", sighting.doubted),
        (
            f"state = 'removed', accounted = 0, marked = 0, removed_at = {now:f}",
            sighting.hidden,
        ),
    ):
        sql = f"UPDATE message SET {change} WHERE id = ?"  # noqa: S608 -- ours
        db.executemany(sql, [(row,) for row in rows])


def left_behind(
    db: sqlite3.Connection, account: AccountName
) -> dict[UniqueId, Octets | None]:
    """
    Return what sessions listed and did not archive, with the octets listed.
    """
    found = db.execute(
        "SELECT unique_id, octets_listed FROM left_behind WHERE account = ?", (account,)
    )
    return dict(found.fetchall())


def leave(
    db: sqlite3.Connection,
    account: AccountName,
    gone: Iterable[UniqueId],
    left: Mapping[UniqueId, Octets | None],
) -> None:
    """
    Forget that *gone* were left, and write down that *left* are.
    """
    db.executemany(
        "DELETE FROM left_behind WHERE account = ? AND unique_id = ?",
        [(account, unique_id) for unique_id in gone],
    )
    db.executemany(
        LEAVE,
        [
            {"account": account, "unique_id": unique_id, "octets": octets}
            for unique_id, octets in left.items()
        ],
    )


# -- removal --------------------------------------------------------------------------


def mark(db: sqlite3.Connection, rows: Collection[RowId]) -> None:
    """
    Note that a DELE is about to be sent for each of *rows*.
    """
    _change(db, rows, "marked = 1")


def unmark(db: sqlite3.Connection, rows: Collection[RowId]) -> None:
    """
    Note that the DELE of each of *rows* was refused.
    """
    _change(db, rows, "marked = 0")


def removed(db: sqlite3.Connection, rows: Collection[RowId], now: float) -> None:
    """
    Note that the server removed *rows*: it said +OK to QUIT.
    """
    change = f"state = 'removed', accounted = 0, marked = 0, removed_at = {now:f}"
    _change(db, rows, change)


def pop(db: sqlite3.Connection, rows: Collection[RowId]) -> None:
    """
    Note that the server said +OK to QUIT after *rows*, which it hides, were retrieved.
    """
    _change(db, rows, "popped = 1")


def _change(db: sqlite3.Connection, rows: Collection[RowId], change: str) -> None:
    sql = f"UPDATE message SET {change} WHERE {OF_THESE}"  # noqa: S608 -- ours
    changed = db.execute(sql, (_array(rows),)).rowcount
    if changed != len(set(rows)):
        raise sqlite3.IntegrityError(f"{len(rows)} rows, {changed} of them published")


# -- failures -------------------------------------------------------------------------


def fail(
    db: sqlite3.Connection,
    account: AccountName,
    unique_ids: Iterable[UniqueId],
    why: str,
    now: float,
) -> None:
    """
    Count one more visit in which these messages failed, and *why*.
    """
    db.executemany(
        "INSERT INTO failure (account, unique_id, visits, last, first, why)"
        " VALUES (?, ?, 1, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET visits = visits + 1, last = excluded.last, why = excluded.why",
        [(account, unique_id, now, now, why) for unique_id in unique_ids],
    )


def lift(
    db: sqlite3.Connection, account: AccountName, unique_ids: Iterable[UniqueId]
) -> None:
    """
    Begin to count the failures of these messages anew; that they failed stays known.
    """
    db.executemany(
        "UPDATE failure SET visits = 0 WHERE account = ? AND unique_id = ?",
        [(account, unique_id) for unique_id in unique_ids],
    )


def forgive(
    db: sqlite3.Connection, account: AccountName, unique_ids: Iterable[UniqueId]
) -> None:
    """
    Forget the failures of these messages.
    """
    db.executemany(
        "DELETE FROM failure WHERE account = ? AND unique_id = ?",
        [(account, unique_id) for unique_id in unique_ids],
    )


def receipt(
    found: tuple[int, str | None, int | None, bytes, bytes, float, float],
) -> Receipt:
    """
    Return what RECEIPT gave as one.
    """
    row, unique_id, octets, header, content, archived_at, arrived_at = found
    return Receipt(
        row=RowId(row),
        unique_id=None if unique_id is None else UniqueId(unique_id),
        octets=None if octets is None else Octets(octets),
        header=HeaderDigest(header),
        content=ContentDigest(content),
        archived_at=archived_at,
        arrived_at=arrived_at,
    )


def _array(rows: Collection[RowId]) -> str:
    return json.dumps(list(rows))
