"""
One mbox, many programs: nothing is lost, nothing is torn.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time

from collections import Counter

import pytest

from popfetchd.archive.mbox import Mbox
from popfetchd.ledger import Ledger
from popfetchd.values import ArchiveFormat, Condition, Copy, Extent
from tests.crowd import letter


EACH = 8
"""Messages that each program writes."""

PATIENCE = 60.0


@pytest.mark.slow
def test_nobody_loses_a_message(tmp_path):
    """
    Two of ours with one ledger, one with another, and three foreign programs that lock in
    either order and write the file anew: every message is there once, whole, and each of
    ours is where its row says, or found in spite of it.
    """
    mbox, ledgers = tmp_path / "all.mbox", [tmp_path / "1.db", tmp_path / "2.db"]
    roles = [
        ("ours", "alice", ledgers[0]),
        ("ours", "bob", ledgers[0]),
        ("ours", "carol", ledgers[1]),
        ("mutt", "mutt"),
        ("procmail", "procmail"),
        ("dovecot",),
    ]
    crowd = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.crowd",
                role,
                mbox,
                str(EACH),
                *map(str, more),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for role, *more in roles
    ]
    try:
        said = [process.communicate(timeout=PATIENCE)[1] for process in crowd]
    finally:
        for process in crowd:
            process.kill()
            process.communicate()

    assert [""] * len(crowd) == said
    writers = ["alice", "bob", "carol", "mutt", "procmail"]
    expected = Counter(letter(name, n) for name in writers for n in range(EACH))
    assert expected == Counter(messages(mbox))
    assert {Condition.WHOLE, Condition.MOVED} >= {
        condition for ledger in ledgers for condition in conditions(mbox, ledger)
    }
    assert {"all.mbox", ".popfetchd-spool"} == {
        path.name for path in tmp_path.iterdir() if ".db" not in path.name
    }


def messages(mbox):
    """
    What stands in the mbox, without the flags that a reader gave.
    """
    octets = mbox.read_bytes()
    for part in re.split(rb"(?:\A|(?<=\n\n))From [^\n]*\n", octets)[1:]:
        body = re.sub(rb"(?m)^>(>*From )", rb"\1", part.removesuffix(b"\n"))
        yield body.replace(b"Status: RO\n", b"", 1)


def conditions(mbox, ledger):
    with Ledger(ledger, now=time.time) as book:
        archive = Mbox(mbox, book.id, host="mx", now=time.time)
        archive.open()
        with book._readers.one() as db:
            rows = db.execute(
                "SELECT begins_at, length, bare_digest, content_digest, base FROM message"
            ).fetchall()
        for begins_at, length, bare, content, base in rows:
            copy = Copy(
                ArchiveFormat.MBOX,
                mbox,
                base,
                base,
                None,
                Extent(begins_at, length, bare),
            )
            yield archive.check(copy, content)
        archive.close()
    assert rows
