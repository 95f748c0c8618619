"""
What is archived, written down: recorded before it is published, and published after.

Rules of this file:

- As in rows.py: a function takes the connection first, and somebody else commits.
- A message that is in the archive already is matched by its content: its row is adopted,
  one to one. A unique-id never is a key; one that was borne before says nothing.
- Most messages are new. What the ledger knows of a batch is asked at once; who meets
  nothing of it is inserted without further questions.
"""

from __future__ import annotations

import json
import sqlite3

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from popfetchd.ledger.rows import RECEIPT, receipt
from popfetchd.values import (
    AccountName,
    Alike,
    Copy,
    HeaderDigest,
    Listed,
    Published,
    Receipt,
    Recorded,
    RowId,
    Since,
    Spooled,
    UniqueId,
    Verified,
)


Placing = Callable[[Sequence[Copy]], Sequence[Copy]]
"""Tells where in their archive copies are about to appear; no more than arithmetic."""

INSERT = """
    INSERT INTO message (
        account, unique_id, octets_listed, octets, stored, form, header_digest,
        content_digest, likeness, format, directory, base, name, number, state,
        doubtful, arrived_at, recorded_at, spool
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'recorded', ?, ?, ?, ?)
"""

NOT_BESIDE = """NOT EXISTS (
        SELECT 1 FROM left_behind AS other
        WHERE other.account = :account AND other.unique_id = :unique_id
        AND other.octets_listed IS :octets AND other.sequence <= message.vanished
    )"""
"""No listing had both the row's message and this one: two that it had are two."""

SAME_MESSAGE = f"""
    SELECT id FROM message
    WHERE account = :account AND content_digest = :content AND (
        state = 'published' AND accounted = 0
        OR state = 'removed' AND (marked OR unique_id = :unique_id)
    ) AND {NOT_BESIDE}
    ORDER BY unique_id IS :unique_id DESC, state = 'published' DESC, id
    LIMIT 1
"""  # noqa: S608 -- ours
"""The row of an archived message that this listing has not accounted for yet."""

ALIKE = f"""
    UPDATE message SET
        unique_id = :unique_id, octets_listed = :octets, accounted = 1, doubtful = 1,
        marked = 0, altered = 1
    WHERE id = (
        SELECT id FROM message
        WHERE account = :account AND likeness = :likeness
        AND state = 'published' AND accounted = 0 AND {NOT_BESIDE}
        ORDER BY unique_id IS :unique_id DESC, id
        LIMIT 1
    ) RETURNING id
"""  # noqa: S608 -- ours
"""The row of a message that is named alike: its octets are other ones each time."""

RECOGNISE = f"""
    UPDATE message SET
        unique_id = :unique_id, accounted = 1, doubtful = 1, marked = 0
    WHERE account = :account AND header_digest = :header
    AND octets_listed IS :octets AND state = 'published' AND accounted = 0
    AND {NOT_BESIDE}
    AND CASE WHEN :by_age THEN arrived_at ELSE archived_at END > :since
    AND 1 = (
        SELECT count(*) FROM message
        WHERE account = :account AND header_digest = :header
    ) RETURNING id
"""  # noqa: S608 -- ours
"""The one row that ever had this header, if the listing has not accounted for it yet."""

ADOPT = f"""
    UPDATE message SET
        unique_id = ?, octets_listed = ?, octets = ?, form = ?, header_digest = ?,
        doubtful = ?, state = 'published', accounted = 1, marked = 0, popped = 0,
        removed_at = NULL
    WHERE id = ? RETURNING {RECEIPT}
"""  # noqa: S608 -- ours

BEARERS = """
    SELECT id FROM message
    WHERE account = ? AND state IN ('recorded', 'published', 'removed')
    AND unique_id = ?
"""

NAMES = """
    SELECT unique_id FROM message
    WHERE account = ? AND state IN ('recorded', 'published', 'removed') AND unique_id"""

NAMES_LEFT = "SELECT unique_id FROM left_behind WHERE account = ? AND unique_id"

CONTENTS = "SELECT content_digest FROM message WHERE account = ? AND content_digest"

LIKENESSES = "SELECT likeness FROM message WHERE account = ? AND likeness"

ANY_DAMAGED = """
    SELECT EXISTS (
        SELECT 1 FROM message WHERE state = 'damaged' AND account IN (
            SELECT account FROM message WHERE id IN (SELECT value FROM json_each(?))
        )
    )
"""

PUBLISH = f"""
    UPDATE message SET
        state = 'published', accounted = 1, archived_at = coalesce(archived_at, ?)
    WHERE id IN (SELECT value FROM json_each(?)) AND state IN ('recorded', 'published')
    RETURNING {RECEIPT}
"""  # noqa: S608 -- ours

MADE_GOOD = """
    DELETE FROM message WHERE id = (
        SELECT bad.id FROM message AS bad, message AS good
        WHERE good.id = ? AND good.state = 'recorded' AND bad.account = good.account
        AND bad.state = 'damaged' AND (
            bad.content_digest = good.content_digest OR bad.likeness = good.likeness
        )
        ORDER BY bad.content_digest = good.content_digest DESC, bad.id
        LIMIT 1
    )
"""
"""The damaged row of the message whose new copy is about to be committed."""

PLACE = """
    UPDATE message SET begins_at = ?, length = ?, bare_digest = ?
    WHERE id = ? AND state = 'recorded'
"""


AT_ONCE = 250
"""Messages asked about in one statement: below SQLite's oldest limit, 999 values."""


class Met(NamedTuple):
    """
    What of a batch the ledger knows already; and unique-ids that stand in it twice.

    Of contents that stand in it twice each is archived: two listed at once are two.
    """

    unique_ids: set[object]
    contents: set[object]
    likenesses: set[object]

    def has(self, spooled: Spooled) -> bool:
        """
        Tell whether there may be a row that has to do with this message.
        """
        return (
            spooled.listed.unique_id in self.unique_ids
            or spooled.fingerprint.content in self.contents
            or spooled.fingerprint.likeness in self.likenesses
        )


def record(
    db: sqlite3.Connection, account: AccountName, batch: Sequence[Verified], now: float
) -> list[Recorded | Receipt | Alike]:
    """
    Adopt the rows of messages that are in the archive already, or insert new ones.
    """
    entries: list[Recorded | Receipt | Alike] = []
    for start in range(0, len(batch), AT_ONCE):
        some = batch[start : start + AT_ONCE]
        met = _met(db, account, [verified.spooled for verified in some])
        entries += [
            _record(db, account, each, now)
            if met.has(each.spooled)
            else _insert(db, account, each, now, doubtful=_stands_twice(each))
            for each in some
        ]
    return entries


def _met(db: sqlite3.Connection, account: AccountName, batch: Sequence[Spooled]) -> Met:
    names = [s.listed.unique_id for s in batch if s.listed.unique_id is not None]
    contents = [spooled.fingerprint.content for spooled in batch]
    alike = [
        s.fingerprint.likeness for s in batch if s.fingerprint.likeness is not None
    ]

    def known(sql: str, values: Sequence[object]) -> set[object]:
        marks = ", ".join("?" * len(values))
        found = db.execute(f"{sql} IN ({marks})", (account, *values))
        return {value for (value,) in found}

    return Met(
        _twice(names) | known(NAMES, names) | known(NAMES_LEFT, names),
        known(CONTENTS, contents),
        known(LIKENESSES, alike),
    )


def _twice(values: Iterable[object]) -> set[object]:
    return {value for value, times in Counter(values).items() if times > 1}


def _stands_twice(verified: Verified) -> bool:
    return verified.spooled.listed.times > 1


def _record(
    db: sqlite3.Connection, account: AccountName, verified: Verified, now: float
) -> Recorded | Receipt | Alike:
    doubtful = _doubt(db, account, verified)
    row, alike = _same_message(db, account, verified), None
    if row is None:
        alike = _alike(db, account, verified)
    # Not before: what stood beside it is told by this.
    _no_more_left(db, account, verified.spooled.listed.unique_id)
    if row is not None:
        return _adopt(db, row, verified, doubtful=doubtful)
    if alike is not None:
        return Alike(alike)
    return _insert(db, account, verified, now, doubtful=doubtful)


def _no_more_left(
    db: sqlite3.Connection, account: AccountName, unique_id: UniqueId | None
) -> None:
    # A row bears the unique-id from now on; to that row it does not stand beside.
    db.execute(
        "DELETE FROM left_behind WHERE account = ? AND unique_id = ?",
        (account, unique_id),
    )


def _doubt(db: sqlite3.Connection, account: AccountName, verified: Verified) -> bool:
    # Whether the listed unique-id says nothing; if so, of others that bear it neither.
    # Thousands may bear it: those of which it is known already are not written again.
    listed = verified.spooled.listed
    borne_by = (account, listed.unique_id)
    certain = db.execute(f"{BEARERS} AND NOT doubtful", borne_by).fetchall()
    db.executemany("UPDATE message SET doubtful = 1 WHERE id = ?", certain)
    if certain or listed.times > 1:
        return True
    return db.execute(f"{BEARERS} LIMIT 1", borne_by).fetchone() is not None


def _same_message(
    db: sqlite3.Connection, account: AccountName, verified: Verified
) -> RowId | None:
    spooled = verified.spooled
    found = db.execute(
        SAME_MESSAGE,
        {
            "account": account,
            "content": spooled.fingerprint.content,
            "unique_id": spooled.listed.unique_id,
            "octets": spooled.listed.octets,
        },
    ).fetchone()
    return None if found is None else RowId(found[0])


def _alike(
    db: sqlite3.Connection, account: AccountName, verified: Verified
) -> RowId | None:
    listed, likeness = verified.spooled.listed, verified.spooled.fingerprint.likeness
    found = db.execute(
        ALIKE,
        {
            "account": account,
            "likeness": likeness,
            "unique_id": listed.unique_id,
            "octets": listed.octets,
        },
    ).fetchone()
    return None if found is None else RowId(found[0])


def _adopt(
    db: sqlite3.Connection, row: RowId, verified: Verified, *, doubtful: bool
) -> Receipt:
    listed, print_ = verified.spooled.listed, verified.spooled.fingerprint
    sent = (print_.octets, print_.form.value, print_.header)
    values = (listed.unique_id, listed.octets, *sent, doubtful, row)
    return receipt(db.execute(ADOPT, values).fetchone())


def _insert(
    db: sqlite3.Connection,
    account: AccountName,
    verified: Verified,
    now: float,
    *,
    doubtful: bool,
) -> Recorded:
    spooled = verified.spooled
    listed, print_, copy = spooled.listed, spooled.fingerprint, spooled.copy
    arrived = print_.arrived_at
    spool = None if copy.spool is None else str(copy.spool)
    message = (listed.unique_id, listed.octets, print_.octets, print_.stored)
    digests = (print_.form.value, print_.header, print_.content, print_.likeness)
    place = (
        copy.format.value,
        str(copy.directory),
        copy.base,
        copy.name,
        spooled.number,
    )
    cursor = db.execute(
        INSERT,
        (account, *message, *digests, *place, doubtful, arrived, now, spool),
    )
    return Recorded(RowId(cursor.lastrowid or 0), copy, print_.content)


def place(
    db: sqlite3.Connection, batch: Sequence[Recorded], placing: Placing
) -> dict[RowId, Recorded]:
    """
    Write down where in its archive each of *batch*, open rows, is about to appear.
    """
    copies = placing([recorded.copy for recorded in batch]) if batch else ()
    placed = {}
    for recorded, copy in zip(batch, copies, strict=True):
        if copy.extent is not None:
            db.execute(PLACE, (*copy.extent, recorded.row))
        placed[recorded.row] = Recorded(recorded.row, copy, recorded.content)
    return placed


def publish(
    db: sqlite3.Connection, batch: Sequence[Published], now: float
) -> list[Receipt]:
    """
    Turn recorded into published. Done again, it changes nothing.

    A damaged row of the same message ends: exactly one copy of it counts (P2).
    """
    rows = [published.recorded.row for published in batch]
    ids = json.dumps(rows)
    (damaged,) = db.execute(ANY_DAMAGED, (ids,)).fetchone()
    if damaged:
        db.executemany(MADE_GOOD, [(row,) for row in rows])
    found = {
        it.row: it for it in map(receipt, db.execute(PUBLISH, (now, ids)).fetchall())
    }
    if missing := [row for row in rows if row not in found]:
        raise sqlite3.IntegrityError(f"there is no open row {missing[0]}")
    return [found[row] for row in rows]


def recognise(
    db: sqlite3.Connection,
    account: AccountName,
    listed: Listed,
    header: HeaderDigest,
    later_than: tuple[Since, float],
) -> bool:
    """
    Adopt the row whose header, borne by no other, is that of *listed*.

    One that was archived, or arrived, no later is left for its content to tell.
    """
    since, moment = later_than
    facts = {
        "account": account,
        "header": header,
        "unique_id": listed.unique_id,
        "octets": listed.octets,
        "by_age": since is Since.ARRIVED,
        "since": moment,
    }
    if db.execute(RECOGNISE, facts).fetchone() is None:
        return False
    _no_more_left(db, account, listed.unique_id)
    return True


def void(db: sqlite3.Connection, recorded: Recorded) -> None:
    """
    Forget a row that was never published.
    """
    db.execute(
        "DELETE FROM message WHERE id = ? AND state = 'recorded'", (recorded.row,)
    )
