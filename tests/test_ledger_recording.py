"""
Tests of popfetchd/ledger/recording.py: a batch is written down as one after the other.
"""

from __future__ import annotations

import sqlite3

from contextlib import closing
from dataclasses import replace

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.ledger import recording
from popfetchd.ledger.database import migrations
from popfetchd.values import Alike, Likeness, Published, Recorded, Verified
from tests.test_ledger import ALICE, NOW, sha256, verified


FEW = st.sampled_from("abc")


@st.composite
def messages(draw):
    """
    Draw a message that has much in common with the others.
    """
    message = verified(
        draw(FEW),
        draw(FEW | st.none()),
        draw(st.sampled_from((None, 100, 200))),
        draw(st.sampled_from((1, 1, 2))),
    )
    alike = draw(FEW | st.none())
    likeness = None if alike is None else Likeness(sha256(f"like {alike}"))
    spooled = message.spooled
    print_ = replace(spooled.fingerprint, likeness=likeness)
    return replace(message, spooled=replace(spooled, fingerprint=print_))


DEEDS = (
    "UPDATE message SET accounted = 0, vanished = 0 WHERE state = 'published'",
    "UPDATE message SET state = 'damaged', accounted = 0 WHERE state = 'published'",
    (
        "UPDATE message SET state = 'removed', removed_at = 1, marked = id % 2"
        " WHERE state = 'published' AND id % 3"
    ),
    (
        "INSERT INTO left_behind (account, unique_id, octets_listed)"
        " SELECT 'alice', 'a', 100 WHERE NOT EXISTS (SELECT 1 FROM left_behind)"
    ),
)
"""What a later listing, a check of the archive, or a QUIT makes of rows."""


def new_database():
    """
    A ledger in memory, whose schema is up to date.
    """
    db = sqlite3.connect(":memory:", isolation_level=None)
    for script in migrations():
        db.executescript(script)
    return db


def played(story, *, carefully):
    """
    Play *story* in a new ledger; return what it told, and all that it holds.
    """
    told = []
    with pytest.MonkeyPatch.context() as patch, closing(new_database()) as db:
        if carefully:
            patch.setattr(recording.Met, "has", lambda *_: True)
        for batch, commits, deed in story:
            entries = recording.record(db, ALICE, batch, NOW)
            fresh = [Published(e) for e in entries if isinstance(e, Recorded)]
            told.append((entries, recording.publish(db, fresh[:commits], NOW)))
            if deed is not None:
                db.execute(deed)
        held = [
            db.execute(f"SELECT * FROM {table}").fetchall()
            for table in ("message", "left_behind")
        ]
    return told, held


BATCHES = st.tuples(
    st.lists(messages(), min_size=2, max_size=5),
    st.integers(0, 5),
    st.sampled_from(DEEDS) | st.none(),
)


@given(story=st.lists(BATCHES, min_size=1, max_size=4))
def test_a_batch_is_as_one_message_after_the_other(story):
    """
    Whatever the ledger holds and the batch has twice: the same entries, the same rows, as
    if of each message the ledger had been asked for itself.
    """
    assert played(story, carefully=True) == played(story, carefully=False)


def test_a_batch_of_which_a_row_is_gone_makes_no_receipt():
    """
    Not for the others either: the commit is undone as a whole.
    """
    db = new_database()
    entries = recording.record(db, ALICE, [verified("a"), verified("b")], NOW)
    db.execute("DELETE FROM message WHERE id = ?", (entries[0].row,))

    with pytest.raises(sqlite3.IntegrityError, match="there is no open row"):
        recording.publish(db, [Published(entry) for entry in entries], NOW)
    db.close()


def test_what_was_left_behind_is_not_any_more_once_it_has_a_row():
    """
    It stood beside others unarchived; now it is archived.
    """
    with closing(new_database()) as db:
        db.execute(DEEDS[-1])
        recording.record(db, ALICE, [verified("text", "a")], NOW)

        assert [] == db.execute("SELECT * FROM left_behind").fetchall()


def test_one_that_is_named_alike_is_found_in_a_batch():
    """
    Other octets at each RETR, the same Message-ID, Date, From and Received.
    """

    def named(text):
        spooled = verified(text).spooled
        print_ = replace(spooled.fingerprint, likeness=Likeness(sha256("like")))
        return Verified(replace(spooled, fingerprint=print_))

    with closing(new_database()) as db:
        first = recording.record(db, ALICE, [named("one")], NOW)
        recording.publish(db, [Published(entry) for entry in first], NOW)
        db.execute("UPDATE message SET accounted = 0, vanished = 0")

        assert [Alike(first[0].row)] == recording.record(db, ALICE, [named("2")], NOW)
