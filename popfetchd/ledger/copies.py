"""
What the ledger says of the archive: read to verify it, and written when it is made again.

Rules of this file:

- As in rows.py: a function takes the connection first, and somebody else commits.
- Rows are given in pages, so that neither memory nor the write-ahead log grows with the
  archive while it is read.
- A row whose copy is missing or altered is *damaged*. No message is taken for it any
  more, so that the next visit archives it anew; that copy's commit ends the row (P2).
- What an archive tells of a message is less than what its visit knew: no unique-id, and
  nothing that a server said. So such a row is doubtful, and no listing has shown it: it
  takes content, or a header that names it, to match it, and content alone to remove it.
"""

from __future__ import annotations

import json
import re
import sqlite3

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from popfetchd.values import (
    AccountName,
    Archived,
    ArchiveFormat,
    ContentDigest,
    Copy,
    Destination,
    Extent,
    Found,
    LedgerId,
    Octets,
    RowId,
    Verification,
)


PAGE = 1_000
"""Rows read at a time: a millisecond, and half a megabyte."""

STANDING = "account = ? AND state IN ('published', 'removed', 'damaged')"

PLACES = (
    f"SELECT DISTINCT format, directory, spool FROM message WHERE {STANDING}"  # noqa: S608
    " ORDER BY directory"
)

STANDS_IN = f"""
    SELECT EXISTS (
        SELECT 1 FROM message
        WHERE {STANDING} AND directory IN (SELECT value FROM json_each(?))
    )
"""  # noqa: S608 -- ours
"""The first row most often answers this; to ask for all places is to read all rows."""

COLUMNS = """id, format, directory, base, name, spool, begins_at, length, bare_digest,
    content_digest, stored, state = 'damaged'
"""

THESE = f"""
    SELECT {COLUMNS} FROM message
    WHERE id IN (SELECT value FROM json_each(?)) AND state <> 'recorded'
    ORDER BY directory, id
"""  # noqa: S608 -- ours

HOLDING = f"""
    SELECT {COLUMNS} FROM message
    WHERE account = ? AND content_digest = ? AND state IN ('published', 'removed')
"""  # noqa: S608 -- ours

# NOT INDEXED: in the order of their ids, which is the order in which they were written,
# and from the first one wanted; the index on accounts would have to be sorted.
PAGE_OF = f"""
    SELECT {COLUMNS}
    FROM message NOT INDEXED
    WHERE id > ? AND {STANDING} AND directory = ? ORDER BY id LIMIT {PAGE}
"""  # noqa: S608 -- ours

NOT_UTF_8 = re.compile("[\udc80-\udcff]")
"""Octets in other programs' file names, as Python gives them (PEP 383)."""

ESCAPED = re.compile("/([0-9a-f]{2})")

KEY = "CASE WHEN bare_digest IS NULL THEN base ELSE lower(hex(bare_digest)) END"
"""What finds a row's message in its place: its file's name, or in an mbox its content."""

DAMAGE = """
    UPDATE message SET state = 'damaged', accounted = 0, marked = 0
    WHERE state IN ('published', 'removed') AND id IN (SELECT value FROM json_each(?))
"""

HEAL = """
    UPDATE message SET
        state = CASE WHEN removed_at IS NULL THEN 'published' ELSE 'removed' END,
        doubtful = 1
    WHERE state = 'damaged' AND id IN (SELECT value FROM json_each(?))
"""

RESTORE = """
    INSERT INTO message (
        account, octets_listed, octets, stored, form, header_digest, content_digest,
        likeness, format, directory, base, name, number, spool, begins_at, length,
        bare_digest, state, doubtful, arrived_at, recorded_at, archived_at
    ) VALUES (
        ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'published', 1, ?, ?, ?
    )
"""
"""Listed octets are a guess here: most servers list what they send."""


def places(db: sqlite3.Connection, account: AccountName) -> list[Destination]:
    """
    Return where copies of the account's messages stand, also where it once was to put
    them.
    """
    return [
        Destination(
            ArchiveFormat(form), Path(directory), None if spool is None else Path(spool)
        )
        for form, directory, spool in db.execute(PLACES, (account,))
    ]


def stands_in(
    db: sqlite3.Connection, account: AccountName, directories: Iterable[Path]
) -> bool:
    """
    Tell whether any copy of the account's messages stands in one of *directories*.
    """
    paths = json.dumps([str(directory) for directory in directories])
    (some,) = db.execute(STANDS_IN, (account, paths)).fetchone()
    return bool(some)


def totals(db: sqlite3.Connection, account: AccountName) -> tuple[int, int]:
    """
    Return how many messages of the account are archived, and their octets as stored.
    """
    sql = f"SELECT count(*), coalesce(sum(stored), 0) FROM message WHERE {STANDING}"  # noqa: S608
    messages, octets = db.execute(sql, (account,)).fetchone()
    return int(messages), int(octets)


def page(
    db: sqlite3.Connection, account: AccountName, directory: Path, after: RowId
) -> list[Archived]:
    """
    Return the next rows behind row *after* whose copies stand in *directory*.
    """
    found = db.execute(PAGE_OF, (after, account, str(directory)))
    return [_archived(row) for row in found]


def these(db: sqlite3.Connection, rows: Collection[RowId]) -> list[Archived]:
    """
    Return those of *rows* whose copies have to stand in the archive, place by place.
    """
    return [_archived(row) for row in db.execute(THESE, (json.dumps(list(rows)),))]


def _as_text(name: str) -> str:
    # SQLite keeps UTF-8 alone; and in no file's name there is a slash.
    return NOT_UTF_8.sub(lambda octet: f"/{ord(octet[0]) - 0xDC00:02x}", name)


def _as_name(text: str) -> str:
    return ESCAPED.sub(lambda octet: chr(0xDC00 + int(octet[1], 16)), text)


def holding(
    db: sqlite3.Connection, account: AccountName, contents: Collection[ContentDigest]
) -> list[Archived]:
    """
    Return the account's rows of these *contents*, place by place.
    """
    found = [
        _archived(row)
        for content in contents
        for row in db.execute(HOLDING, (account, content))
    ]
    return sorted(found, key=lambda archived: archived.copy.directory)


Row = tuple[
    int, str, str, str, str, str | None, int | None, int, bytes, bytes, int, int
]
"""What PAGE_OF gives."""


def _archived(found: Row) -> Archived:
    row, form, directory, base, name, spool = found[:6]
    offset, length, bare, content, stored, damaged = found[6:]
    extent = None if offset is None else Extent(offset, length, ContentDigest(bare))
    in_spool = None if spool is None else Path(spool)
    names = _as_name(base), _as_name(name)
    copy = Copy(ArchiveFormat(form), Path(directory), *names, in_spool, extent)
    digest = ContentDigest(content)
    return Archived(RowId(row), copy, digest, Octets(stored), bool(damaged))


def keys(db: sqlite3.Connection, directory: Path) -> Iterator[str]:
    """
    Yield the key of each row (values.Held), of whichever account and state, of a place.
    """
    sql = f"SELECT {KEY} FROM message WHERE directory = ?"  # noqa: S608 -- ours
    return (_as_name(key) for (key,) in db.execute(sql, (str(directory),)))


# -- damage ---------------------------------------------------------------------------


def damage(db: sqlite3.Connection, rows: Collection[RowId]) -> int:
    """
    Take no message for *rows* any more; return of how many that is new.
    """
    return db.execute(DAMAGE, (json.dumps(list(rows)),)).rowcount


def heal(db: sqlite3.Connection, rows: Collection[RowId]) -> int:
    """
    Let *rows*, whose copies are whole again, count again; return how many.
    """
    return db.execute(HEAL, (json.dumps(list(rows)),)).rowcount


def damaged(db: sqlite3.Connection, account: AccountName) -> set[RowId]:
    """
    Return the account's damaged rows.
    """
    sql = "SELECT id FROM message WHERE account = ? AND state = 'damaged'"
    return {RowId(row) for (row,) in db.execute(sql, (account,))}


def verified(db: sqlite3.Connection, seen: Verification) -> None:
    """
    Remember what verifying an account showed.
    """
    db.execute(
        "INSERT INTO verification VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
        " SET ended = excluded.ended, damaged = excluded.damaged",
        (seen.account, seen.ended, len(seen.damage)),
    )


def verifications(db: sqlite3.Connection) -> dict[str, tuple[float, int]]:
    """
    Return when each account was verified last, and how many copies were damaged then.
    """
    found = db.execute("SELECT account, ended, damaged FROM verification")
    return {account: (ended, count) for account, ended, count in found}


# -- made again -----------------------------------------------------------------------


def is_empty(db: sqlite3.Connection) -> bool:
    """
    Tell whether nothing was ever archived with this ledger.
    """
    (some,) = db.execute("SELECT EXISTS (SELECT 1 FROM message)").fetchone()
    return not some


def has_any(db: sqlite3.Connection, account: AccountName) -> bool:
    """
    Tell whether the ledger knows any message of *account*.
    """
    sql = "SELECT EXISTS (SELECT 1 FROM message WHERE account = ?)"
    (some,) = db.execute(sql, (account,)).fetchone()
    return bool(some)


def known_to(
    db: sqlite3.Connection, account: AccountName, directory: Path
) -> Counter[str]:
    """
    Return the keys of one place that are not to be restored for *account*, how often.

    They are its own already, or surely another's, who shares the place: a server has
    listed them for him.
    """
    sql = (
        f"SELECT account = ?, {KEY}, count(*) FROM message"  # noqa: S608 -- ours
        " WHERE directory = ? AND (account = ? OR unique_id IS NOT NULL) GROUP BY 1, 2"
    )
    known: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    for own, key, count in db.execute(sql, (account, str(directory), account)):
        known[own][_as_name(key)] = count
    return known[False] | known[True]


def restore(
    db: sqlite3.Connection, account: AccountName, found: Iterable[Found], now: float
) -> int:
    """
    Insert what was found in the archive as published; return how many.
    """
    count = 0
    for count, message in enumerate(found, 1):  # noqa: B007 -- the last is the count
        db.execute(RESTORE, _values(account, message, now))
    return count


def _values(account: AccountName, found: Found, now: float) -> tuple[object, ...]:
    print_, copy = found.fingerprint, found.held.copy
    digests = (print_.header, print_.content, print_.likeness)
    spool = None if copy.spool is None else str(copy.spool)
    return (
        account,
        print_.octets,
        print_.octets,
        print_.stored,
        print_.form.value,
        *digests,
        copy.format.value,
        str(copy.directory),
        _as_text(copy.base),
        _as_text(copy.name),
        found.held.number,
        spool,
        *(copy.extent or (None, None, None)),
        print_.arrived_at,
        now,
        found.archived_at,
    )


def begin_at(db: sqlite3.Connection, highest: int, ledger_id: LedgerId) -> None:
    """
    Give no number up to *highest* any more, and put *ledger_id* into names.
    """
    sql = "UPDATE ledger SET highest = max(highest, ?), id = ?"
    db.execute(sql, (highest, ledger_id))
