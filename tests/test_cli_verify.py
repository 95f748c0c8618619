"""
`popfetchd verify`: what it finds in an archive, what it says, and what it repairs.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import sqlite3
import threading

from contextlib import closing
from pathlib import Path

import pytest

from popfetchd.ledger import Ledger
from popfetchd.maildrop.dialogue import error
from popfetchd.values import AccountName
from tests.desk import desk, letter
from tests.world import dialogue


@pytest.fixture
def here(tmp_path, capsys):
    with desk(tmp_path, capsys) as made:
        yield made


@pytest.fixture
def five(here):
    """
    Five messages of alice's, archived.
    """
    letters = [letter(b"%d" % number, b"body %d\r\n" % number) for number in range(5)]
    here.write(here.account("alice", *letters))
    assert 0 == here.type("fetch")[0]
    return here


def files(here, folder="new"):
    return sorted((here.directory / "mail" / "alice" / folder).iterdir())


def flip(path):
    octets = bytearray(path.read_bytes())
    octets[-3] ^= 1
    path.write_bytes(octets)


def cut(path):
    path.write_bytes(path.read_bytes()[:-4])


def verified(here, *options):
    """
    Return the code of `verify --json`, and what it says of alice.
    """
    code, out, _ = here.type("verify", "--json", *options)
    (seen,) = json.loads(out)
    return code, seen


def found(seen):
    return {(d["found"], Path(d["path"]).name) for d in seen["damage"]}


def test_a_whole_archive_is_0(five):
    """
    All messages and octets are counted, and nothing is told twice.
    """
    size = sum(path.stat().st_size for path in files(five))

    code, out, err = five.type("verify")

    assert 0 == code
    heads, row = (re.split(r"  +", line) for line in out.splitlines())
    assert ["ACCOUNT", "MESSAGES", "OCTETS", "MISSING", "ALTERED"] == heads[:5]
    assert ["alice", "5", f"{size} B", "0", "0", "0", "0", "0", "0"] == row
    assert "" == err


def test_damage_is_65_and_named(five):
    """
    A flipped bit, a cut and a deleted file are each told as what they are.
    """
    one, two, three, _, _ = files(five)
    flip(one)
    cut(two)
    three.unlink()

    code, seen = verified(five)

    assert (65, 5) == (code, seen["messages"])
    assert {
        ("altered", one.name),
        ("truncated", two.name),
        ("missing", three.name),
    } == found(seen)
    assert (1, 1, 1) == (seen["missing"], seen["altered"], seen["truncated"])


def test_a_table_of_damage_follows(five):
    """
    Each path stands in a line of its own, on stdout; the log has a hint.
    """
    (path, *_) = files(five)
    path.unlink()
    stranger = path.with_name("stranger")
    stranger.touch()

    code, out, err = five.type("verify", "alice")

    assert 65 == code
    assert ["ACCOUNT  FOUND    REPAIR  PATH"] == out.splitlines()[3:4]
    assert f"alice    missing          {path}" in out
    assert f"alice    unknown          {stranger}" in out
    event = json.loads(err)
    assert "copies in the archive are damaged" == event["event"]
    assert ("error", 1, [str(path)]) == (
        event["level"],
        event["missing"],
        event["copies"],
    )


def test_what_a_reader_does_is_no_damage(five):
    """
    Flags, other folders of the maildir, and mail that is not ours.
    """
    one, two, *_ = files(five)
    one.rename(one.parent.parent / "cur" / f"{one.name}:2,FS")
    sent = one.parent.parent / ".Sent" / "cur"
    sent.mkdir(parents=True)
    two.rename(sent / f"{two.name}:2,S")
    foreign = one.with_name("1700000000.M1P2.elsewhere")
    foreign.write_bytes(b"Subject: hello\n\n")

    code, seen = verified(five)

    assert (0, 5, 1) == (code, seen["messages"], seen["moved"])
    assert ([], [str(foreign)]) == (seen["damage"], seen["unknown"])


def test_what_is_missing_is_fetched_again(five):
    """
    --repair: exactly one good copy of each is counted; an altered file stays.
    """
    one, two, *_ = files(five)
    flip(one)
    two.unlink()

    code, seen = verified(five, "--repair")

    assert (0, 2) == (code, seen["repaired"])
    assert {True} == {damage["repaired"] for damage in seen["damage"]}
    assert 6 == len(files(five))
    code, seen = verified(five)
    assert (0, 5, []) == (code, seen["messages"], seen["damage"])
    assert [str(one)] == seen["unknown"]
    assert [("published", 5)] == rows(five)
    assert 0 == five.type("fetch")[0]
    assert 6 == len(files(five))


def rows(here):
    with closing(sqlite3.connect(here.directory / "state" / "ledger.db")) as db:
        return db.execute("SELECT state, count(*) FROM message GROUP BY 1").fetchall()


def status(here):
    code, out, _ = here.type("status")
    assert 0 == code
    heads, row = (re.split(r"  +", line) for line in out.splitlines())
    return dict(zip(map(str.lower, heads), row, strict=False))


def test_what_the_server_has_no_more_stays_damaged(five):
    """
    It is told at each verification, and stands in `status`, until a copy is put back.
    """
    one, *_ = files(five)
    octets = one.read_bytes()
    one.unlink()
    five.maildrops["alice"].remove(five.maildrops["alice"].messages)

    code, out, _ = five.type("verify", "--repair")
    assert (65, "not on the server") == (code, re.split(r"  +", out.splitlines()[4])[2])
    assert 65 == verified(five)[0]
    assert "damaged copies in the archive: 1" in status(five)["problem"]

    one.write_bytes(octets)
    assert 0 == verified(five)[0]
    assert "problem" not in status(five)
    assert 0 == verified(five, "--repair")[0]


@pytest.mark.parametrize("mount_point", [[], ["mail", "mail/alice"]])
def test_an_archive_that_is_gone_is_all_missing_and_not_made(five, mount_point):
    """
    Perhaps its disk is not mounted: nothing is repaired into the empty mount point.
    """
    mail = five.directory / "mail"
    mail.rename(five.directory / "elsewhere")
    for folder in mount_point:
        (five.directory / folder).mkdir()

    code, seen = verified(five, "--repair")

    assert (73, 5, 0) == (code, seen["missing"], seen["repaired"])
    assert "is its disk mounted?" in seen["error"]
    assert 65 == verified(five)[0]
    assert mount_point[1:] == [f"mail/{path.name}" for path in mail.glob("*")]
    assert [] == [*mail.glob("*/*")]


def test_a_visit_that_fails_has_its_code(five):
    """
    What could not be fetched again stays damaged; the server's failure decides nothing.
    """
    for path in files(five):
        path.unlink()
    five.servers["alice"].dialogue = dialogue(
        UIDL=lambda _s, _t: error("[SYS/TEMP] no")
    )

    code, seen = verified(five, "--repair")

    assert (65, 0) == (code, seen["repaired"])


def test_an_account_that_another_visits_is_not_repaired(five, monkeypatch):
    """
    The lock is waited for, and then told.
    """
    files(five)[0].unlink()
    alice = five.account("alice", deadline="1s", timeout="1s")
    five.write(alice)
    with (
        Ledger(five.directory / "state" / "ledger.db", now=lambda: 0.0) as ledger,
        ledger.lock(AccountName("alice")).acquire(),
    ):
        code, seen = verified(five, "--repair")

    assert (65, "in_use", 0) == (code, seen["reason"], seen["repaired"])


def test_ctrl_c_ends_it_between_two_messages(five):
    """
    What was seen until then is told; nothing is remembered of it.
    """

    def stop(*_args):
        signal.raise_signal(signal.SIGINT)
        return original(*_args)

    from popfetchd.archive import maildir

    original = maildir.Maildir.check
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maildir.Maildir, "check", stop)
        code, out, err = five.type("verify", "--json")

    assert 130 == code
    (seen,) = json.loads(out)
    assert (1, "interrupted") == (seen["messages"], seen["reason"])
    assert "" == err
    assert "damaged" not in status(five)
    with closing(sqlite3.connect(five.directory / "state" / "ledger.db")) as db:
        assert [] == db.execute("SELECT * FROM verification").fetchall()


def test_a_bar_is_drawn_where_a_person_looks(five, monkeypatch):
    """
    On stderr, and nothing of it on stdout.
    """
    ours, theirs = pty.openpty()
    process = five.spawn("verify", "--json", stderr=theirs)
    os.close(theirs)
    drawn = []
    reader = threading.Thread(target=lambda: drawn.extend(read_all(ours)))
    reader.start()
    out, _ = process.communicate(timeout=60)
    reader.join()
    os.close(ours)
    assert 0 == process.returncode
    assert 5 == json.loads(out)[0]["messages"]
    assert b"alice" in b"".join(drawn)


def read_all(fd):
    try:
        while octets := os.read(fd, 4096):
            yield octets
    except OSError:  # the other end is closed
        return
