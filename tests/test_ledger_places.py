"""
Where an mbox's messages are about to appear: recorded, read back, recorded again.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from popfetchd.errors import LedgerError
from popfetchd.ledger import Ledger
from popfetchd.values import (
    AccountName,
    ArchiveFormat,
    ContentDigest,
    Copy,
    Extent,
    LeftOpen,
    Published,
    Seen,
    Spooled,
    Verified,
)
from tests.test_ledger import ALICE, BOB, NOW, sha256, verified


MBOX = Path("/mail/all.mbox")
SPOOL = Path("/mail/.popfetchd-spool")


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.db", now=lambda: NOW) as opened:
        yield opened


def for_mbox(text, directory=MBOX):
    """
    A message that is proved, for an mbox: its place is not known yet.
    """
    proved = verified(text).spooled
    bare = ContentDigest(sha256(f"bare {text}"))
    base = proved.copy.base
    copy = Copy(ArchiveFormat.MBOX, directory, base, base, SPOOL, Extent(-1, 10, bare))
    return Verified(Spooled(proved.listed, proved.number, copy, proved.fingerprint))


def behind(offset):
    """
    Return what places each copy ten octets behind the one before, from *offset*.
    """

    def placing(copies):
        return [
            Copy(
                copy.format,
                copy.directory,
                copy.base,
                copy.name,
                copy.spool,
                Extent(offset + 10 * number, 10, copy.extent.bare),
            )
            for number, copy in enumerate(copies)
        ]

    return placing


def offsets(rows):
    return [row.copy.extent.offset for row in rows]


def test_places_are_recorded_with_the_rows(ledger):
    """
    What is read back of an open row is what was recorded, spool folder and place.
    """
    recorded = ledger.record(ALICE, [for_mbox("a"), for_mbox("b")], behind(100))

    assert [100, 110] == offsets(recorded)
    assert recorded == ledger.open_rows(ALICE)
    assert {SPOOL} == {row.copy.spool for row in recorded}


def test_only_what_is_fresh_is_given_a_place(ledger):
    """
    A message that is in the archive already leaves no gap.
    """
    for row in ledger.record(ALICE, [for_mbox("b")], behind(0)):
        ledger.commit([Published(row)])
    there = frozenset(row.row for row in ledger.known(ALICE))
    ledger.sight(ALICE, Seen(vanished=there))
    batch = [for_mbox(text) for text in "abc"]
    one, adopted, other = ledger.record(ALICE, batch, behind(10))

    assert [10, 20] == offsets([one, other])
    assert [one, other] == ledger.open_rows(ALICE)
    assert sha256("b") == adopted.content


def test_a_place_that_cannot_be_told_records_nothing(ledger):
    """
    Neither a row nor half of a batch.
    """

    def no_place(copies):
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 -- ours
        ledger.record(ALICE, [for_mbox("a")], no_place)

    assert [] == ledger.open_rows(ALICE)


def test_an_open_row_is_placed_anew(ledger):
    """
    As long as it is open; and nothing is asked for nothing.
    """
    one, other = ledger.record(ALICE, [for_mbox("a"), for_mbox("b")], behind(0))
    ledger.commit([Published(other)])

    assert [500] == offsets(ledger.place([one], behind(500)))
    assert [500] == offsets(ledger.open_rows(ALICE))
    assert [] == ledger.place([], behind(0))


def test_a_maildir_s_row_has_no_place(ledger):
    """
    Its name says where it is.
    """
    (recorded,) = ledger.record(ALICE, [verified("a")])

    assert (None, None) == (recorded.copy.spool, recorded.copy.extent)
    assert [recorded] == ledger.open_rows(ALICE)
    assert LeftOpen([recorded], {}) == ledger.left_open(Path("/mail"))


def test_what_is_left_open_in_one_file_is_everybody_s(ledger):
    """
    Of all accounts, oldest first, and of no other file; with how many have the same.
    """
    (done,) = ledger.record(BOB, [for_mbox("a")], behind(0))
    ledger.commit([Published(done)])
    (elsewhere,) = ledger.record(
        BOB, [for_mbox("a", directory=Path("/mail/other.mbox"))], behind(0)
    )
    ledger.commit([Published(elsewhere)])
    (first,) = ledger.record(BOB, [for_mbox("b")], behind(10))
    (second,) = ledger.record(ALICE, [for_mbox("a")], behind(20))
    ledger.record(
        AccountName("carol"), [for_mbox("a", Path("/mail/c.mbox"))], behind(0)
    )
    bare = {text: ContentDigest(sha256(f"bare {text}")) for text in "ab"}

    assert LeftOpen([first, second], {bare["a"]: 1, bare["b"]: 0}) == ledger.left_open(
        MBOX
    )


def test_a_closed_ledger_places_nothing(ledger):
    """
    What is not durable is not returned.
    """
    (row,) = ledger.record(ALICE, [for_mbox("a")], behind(0))
    ledger.close()

    with pytest.raises(LedgerError):
        ledger.place([row], behind(9))
