"""
`popfetchd list ACCOUNT`: the maildrop as a table. TOP, so that nothing is marked as read.

Rules of this file:

- Each message is shown as soon as its header has come. So the widths are chosen from
  what is known before: on a terminal each line fits, elsewhere nothing short is cut.
"""

from __future__ import annotations

import sys

from argparse import Namespace
from collections.abc import Iterable, Iterator

from popfetchd.cli.exits import Exit
from popfetchd.cli.opened import looked
from popfetchd.cli.tables import (
    BETWEEN,
    Column,
    columns,
    show_rows,
    stream_json,
)
from popfetchd.look import Line, lines
from popfetchd.values import Listing


SHORT_DATE = len("2023-11-14T22:13")
"""What a person reads of it, on a terminal."""

ELSEWHERE = (
    Column("date", len("2023-11-14T22:13:20+00:00")),
    Column("from", 30),
    Column("subject", 40),
    Column("unique-id", 0),
)
"""Where there is no terminal: what is longer pushes the rest to the right."""

USUAL_UNIQUE_ID = 16
"""Cells: Dovecot's; they say nothing when cut."""

LEAST = 8
"""Cells of a text, however narrow the terminal is."""


def run(arguments: Namespace) -> int:
    """
    Show the messages of one account.
    """
    found = looked(arguments, [arguments.account])
    (account,) = found.accounts
    archived = found.ledger.archived(account.name)
    with found.sessions.logged_in(account) as session:
        listing = session.listing()
        shown = lines(session, listing, archived)
        if arguments.json:
            stream_json(shown)
        else:
            show_rows(_columns(listing), map(_row, shown))
    return Exit.OK


def _columns(listing: Listing) -> list[Column]:
    before = [
        _counting("number", listing.numbers),
        _counting("octets", listing.octets.values()),
        Column("archived", len("archived")),
    ]
    if not sys.stdout.isatty():
        return [*before, *ELSEWHERE]
    used = sum(column.width + len(BETWEEN) for column in before)
    return [*before, *_fitting(columns() - used, listing)]


def _counting(name: str, numbers: Iterable[int]) -> Column:
    return Column(name, max(len(name), len(str(max(numbers, default=0)))), right=True)


def _fitting(room: int, listing: Listing) -> Iterator[Column]:
    # What is left of a terminal's line, for what may be of any length.
    room -= SHORT_DATE + 3 * len(BETWEEN)
    longest = max(map(len, listing.unique_ids.values()), default=0)
    third = max(LEAST, room * 3 // 10)
    unique_id = max(len("unique-id"), min(longest, max(third, USUAL_UNIQUE_ID)))
    yield Column("date", SHORT_DATE)
    yield Column("from", third, cut=True)
    yield Column("subject", max(LEAST, room - third - unique_id), cut=True)
    yield Column("unique-id", unique_id, cut=True)


def _row(line: Line) -> tuple[str, ...]:
    return (
        str(line.number),
        "" if line.octets is None else str(line.octets),
        "yes" if line.archived else "no",
        _short(line.date) if sys.stdout.isatty() else line.date,
        line.sender,
        line.subject,
        line.unique_id or "",
    )


def _short(date: str) -> str:
    return date[:SHORT_DATE].replace("T", " ")
