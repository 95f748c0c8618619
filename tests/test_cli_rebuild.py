"""
A ledger in trouble, `popfetchd rebuild` and `popfetchd backup`: what is told, and that
nothing is fetched twice.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import threading

from contextlib import closing
from pathlib import Path

import pytest

from popfetchd.ledger import Ledger, database
from popfetchd.rebuild import Rebuilding
from tests.desk import PATIENCE, desk, letter


@pytest.fixture
def here(tmp_path, capsys):
    with desk(tmp_path, capsys) as made:
        yield made


def letters(count, start=0):
    """
    Return messages, half of them named so that their headers tell which they are.
    """
    return [
        (named(n) if n % 2 else b"") + letter(b"%d" % n, b"body of %d\r\n" % n)
        for n in range(start, start + count)
    ]


def named(number):
    return (
        b"Received: from a by b; Tue, 14 Nov 2023 22:13:20 +0000\r\n"
        b"Message-ID: <%d@example.org>\r\n" % number
    )


@pytest.fixture
def six(here):
    """
    Six messages of alice's and two of bob's, archived.
    """
    here.write(
        here.account("alice", *letters(6)), here.account("bob", *letters(2, start=90))
    )
    assert 0 == here.type("fetch")[0]
    return here


def ledger_of(here):
    return here.directory / "state" / "ledger.db"


def lose(here):
    for path in ledger_of(here).parent.glob("ledger.db*"):
        if path.is_file():
            path.unlink()


def fetched(here, *names):
    """
    Return the code of `fetch`, and what it archived and matched of each account.
    """
    code, out, _ = here.type("fetch", "--json", *names)
    reports = json.loads(out)
    return code, [(r["account"], r["archived"], r["matched"]) for r in reports]


def rebuilt(here, *words):
    """
    Return what `rebuild --json` restored of each account.
    """
    code, out, err = here.type("rebuild", "--json", *words)
    assert 0 == code, err
    return {r["account"]: (r["known"], r["restored"]) for r in json.loads(out)}


def refused(here, *words):
    """
    Return the code of a verb that ends with one line and a hint, and the two.
    """
    code, out, err = here.type(*words)
    lines = err.splitlines()
    hint = lines[1].removeprefix("  hint: ")
    assert ("", 2) == (out, len(lines))
    return code, lines[0].partition(": ")[2], hint


AGAIN = (
    "put its newest copy back, or make it again from the archive: `popfetchd rebuild`"
)


# -- what is told ---------------------------------------------------------------------


def ruin(path):
    path.write_bytes(b"no ledger at all" * 1000)


def overwrite(path):
    octets = bytearray(path.read_bytes())
    octets[4096:] = b"\xff" * (len(octets) - 4096)
    path.write_bytes(octets)


def promote(path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def lack_a_table(path):
    with closing(sqlite3.connect(path)) as db:
        db.executescript("PRAGMA application_id = 7; CREATE TABLE x (a);")


@pytest.mark.parametrize("verb", ["run", "fetch", "status", "verify"])
@pytest.mark.parametrize(
    ("harm", "problem", "remedy"),
    [
        (ruin, "is not a ledger, or is damaged", "`popfetchd rebuild`"),
        (overwrite, "is damaged", "`popfetchd rebuild`"),
        (promote, "was written by a newer popfetchd", "`popfetchd rebuild`"),
        (lack_a_table, "is the database of another program", "check the file"),
    ],
)
def test_a_ledger_in_trouble_is_told_at_the_start(six, verb, harm, problem, remedy):
    """
    One line, a hint that names the way out, 73; no server is asked.
    """
    harm(ledger_of(six))
    before = six.servers["alice"].wire

    code, told, hint = refused(six, verb)

    assert 73 == code
    assert f"{ledger_of(six)}: {problem}" in told
    assert remedy in hint
    assert before == six.servers["alice"].wire


def test_a_full_disk_is_told(six, monkeypatch):
    """
    As such, with what to do about it.
    """

    def full(*_args):
        problem = sqlite3.OperationalError("database or disk is full")
        problem.sqlite_errorname = "SQLITE_FULL"
        raise problem

    monkeypatch.setattr(database, "connect", full)
    code, told, hint = refused(six, "run")

    assert 73 == code
    assert "there is no room left on its disk" in told
    assert "make room; nothing was removed from the server, nothing is lost" == hint


def test_damage_deep_inside_ends_the_start_of_the_service(six):
    """
    Also where the ledger can be opened: the service reads all of it once.
    """
    with closing(sqlite3.connect(ledger_of(six))) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(
            "UPDATE sqlite_schema SET rootpage = 2 WHERE name = 'message_by_content'"
        )
        db.commit()

    code, told, hint = refused(six, "run")

    assert 73 == code
    assert f"{ledger_of(six)}: is damaged (" in told
    assert hint.startswith(AGAIN)


@pytest.mark.parametrize("verb", ["run", "fetch"])
def test_a_new_ledger_beside_an_archive_is_refused(six, verb):
    """
    It would fetch everything again. (`fetch` tells it of each account.)
    """
    lose(six)

    code, _, err = six.type(verb)

    assert 73 == code
    assert "knows nothing of the mail in" in err
    assert f"{AGAIN}; until then nothing is fetched" in err
    assert (6, 2) == (six.archived("alice"), six.archived("bob"))


def test_a_new_account_in_an_old_folder_of_ours_is_no_trouble(six):
    """
    Several accounts may share a maildir, and one may come later.
    """
    mail = {"format": "maildir", "path": f"{six.directory}/mail/alice"}
    six.write(
        six.account("alice"), six.account("carol", *letters(1, start=50), archive=mail)
    )

    assert (0, [("alice", 0, 0), ("carol", 1, 0)]) == fetched(six)


# -- made again -----------------------------------------------------------------------


def test_after_a_lost_ledger_nothing_is_archived_twice(six):
    """
    What the archive holds is matched with the next listing; new mail is archived.
    """
    lose(six)
    six.account("alice", *letters(1, start=40))

    assert {"alice": (0, 6), "bob": (0, 2)} == rebuilt(six)

    assert (0, [("alice", 1, 6), ("bob", 0, 2)]) == fetched(six)
    assert (0, [("alice", 0, 0), ("bob", 0, 0)]) == fetched(six)
    assert (7, 2) == (six.archived("alice"), six.archived("bob"))
    assert 0 == six.type("verify")[0]


def test_names_go_on_as_they_were(six):
    """
    The old ledger's id is taken from the names, and no number is given again.
    """
    before = numbers(six)
    lose(six)
    rebuilt(six)
    six.account("alice", *letters(1, start=40))
    fetched(six)

    assert len(before) + 1 == len(numbers(six))
    assert {name for name, _ in before} == {name for name, _ in numbers(six)}
    assert max(n for _, n in before) < max(n for _, n in numbers(six) - before)


def numbers(here):
    found = (
        re.search(r"\.L([0-9a-f]{12})N(\d+)R", path.name)
        for path in here.directory.glob("mail/*/new/*")
    )
    return {(name[1], int(name[2])) for name in found}


def test_what_is_moved_or_flagged_is_found(six):
    """
    Also in another folder of the maildir.
    """
    one, two, *_ = sorted((six.directory / "mail/alice/new").iterdir())
    one.rename(one.parent.parent / "cur" / f"{one.name}:2,S")
    (one.parent.parent / ".Old" / "cur").mkdir(parents=True)
    two.rename(one.parent.parent / ".Old" / "cur" / f"{two.name}:2,S")
    lose(six)

    assert (0, 6) == rebuilt(six)["alice"]
    assert (0, [("alice", 0, 6)]) == fetched(six, "alice")


def test_rebuilt_rows_remove_nothing_unproved(six):
    """
    With `delete_after: verified` each message is retrieved before it is removed: one that
    has only its header and size from an archived one is archived first.
    """
    lose(six)
    drop = six.maildrops["alice"]
    forged = drop.messages[0].octets.replace(b"body of", b"BODY of")
    unique_id = drop.messages[0].unique_id
    drop.remove(drop.messages[:1])
    drop.deliver(forged, unique_id)
    six.write(six.account("alice", delete_after="verified"), six.account("bob"))
    rebuilt(six)

    code, (alice, _) = fetched(six)

    assert (0, ("alice", 1, 5)) == (code, alice)
    assert (7, 0) == (six.archived("alice"), six.waiting("alice"))


def test_the_age_of_an_archived_copy_is_remembered(six):
    """
    The file's name tells when it was archived: `delete_after: 1h` waits no hour more.
    """
    lose(six)
    rebuilt(six)
    with closing(sqlite3.connect(ledger_of(six))) as db:
        rows = db.execute("SELECT archived_at, base FROM message").fetchall()

    assert [float(base.partition(".")[0]) for _, base in rows] == [at for at, _ in rows]


@pytest.mark.parametrize("harm", [ruin, overwrite, promote])
def test_a_ledger_that_cannot_be_read_is_set_aside(six, harm):
    """
    Under another name, with its octets; nothing of it is deleted.
    """
    path = ledger_of(six)
    harm(path)
    octets = path.read_bytes()

    code, out, err = six.type("rebuild")

    assert 0 == code
    assert ["alice", "0", "6"] == out.split()[3:6]
    aside = Path(err.splitlines()[-1].partition("it is kept as ")[2])
    assert re.fullmatch(r"ledger\.db\.\d{8}T\d{6}Z", aside.name)
    assert octets == aside.read_bytes()
    assert (0, [("alice", 0, 6), ("bob", 0, 2)]) == fetched(six)


def test_another_program_s_database_is_left_alone(six):
    """
    `ledger:` may name the wrong file.
    """
    path = ledger_of(six)
    lack_a_table(path)
    octets = path.read_bytes()

    code, told, _ = refused(six, "rebuild")

    assert 73 == code
    assert "is the database of another program" in told
    assert octets == path.read_bytes()


def test_an_older_copy_of_the_ledger_is_brought_up_to_date(six):
    """
    Rolled back, no visit takes place; rebuilt, what came since is known again, and what
    was known still is.
    """
    code, _, _ = six.type("backup", str(six.directory / "copy.db"))
    assert 0 == code
    six.account("alice", *letters(3, start=20))
    fetched(six)
    lose(six)
    shutil.copyfile(six.directory / "copy.db", ledger_of(six))

    code, _, err = six.type("fetch", "alice")
    assert 73 == code
    assert "older than the archive it is for" in err
    assert AGAIN in err

    assert {"alice": (6, 3), "bob": (2, 0)} == rebuilt(six, "bob")
    assert (0, [("alice", 0, 3), ("bob", 0, 0)]) == fetched(six)
    assert 9 == six.archived("alice")


def roll_back(here, *since):
    """
    Put back a copy of the ledger from before the messages *since* were archived.
    """
    assert 0 == here.type("backup", str(here.directory / "copy.db"))[0]
    here.account("alice", *since)
    fetched(here)
    lose(here)
    shutil.copyfile(here.directory / "copy.db", ledger_of(here))


def test_an_older_ledger_is_told_though_a_reader_has_filed_the_mail(six):
    """
    Whatever folder of the maildir shows the higher number: nothing is fetched twice.
    """
    roll_back(six, *letters(3, start=20))
    mail = six.directory / "mail/alice"
    filed = mail / ".Archive" / "cur"
    filed.mkdir(parents=True)
    for path in (mail / "new").iterdir():
        path.rename(filed / f"{path.name}:2,S")

    assert (73, [("alice", 0, 0)]) == fetched(six, "alice")
    assert {"alice": (6, 3), "bob": (2, 0)} == rebuilt(six)
    assert (0, [("alice", 0, 3)]) == fetched(six, "alice")


@pytest.mark.parametrize(
    "new",
    [
        {"format": "mbox", "path": "{}/new.mbox"},
        {"format": "maildir", "path": "{}/{{year}}"},
    ],
)
def test_an_older_ledger_is_told_though_the_archive_s_path_was_changed(six, new):
    """
    What it does not know stands at the former place: nothing is fetched twice.
    """
    roll_back(six, *letters(3, start=20))
    archive = new | {"path": new["path"].format(six.directory)}
    six.write(six.account("alice", archive=archive), six.account("bob"))

    assert (73, [("alice", 0, 0)]) == fetched(six, "alice")
    assert {"alice": (6, 3), "bob": (2, 0)} == rebuilt(six)
    six.account("alice", *letters(1, start=40))
    assert (0, [("alice", 1, 3)]) == fetched(six, "alice")
    assert (0, [("alice", 0, 0)]) == fetched(six, "alice")
    assert 0 == six.type("verify")[0]


def test_a_ledger_copied_amid_a_visit_finds_what_was_filed_since(six):
    """
    Rows that were open then, of mail that a reader has since put into another folder.
    """
    with closing(sqlite3.connect(ledger_of(six))) as db, db:
        db.execute(
            "UPDATE message SET state = 'recorded', archived_at = NULL"
            " WHERE account = 'alice'"
        )
    mail = six.directory / "mail/alice"
    filed = mail / ".Archive" / "cur"
    filed.mkdir(parents=True)
    for path in (mail / "new").iterdir():
        path.rename(filed / f"{path.name}:2,S")

    assert (0, [("alice", 0, 0)]) == fetched(six, "alice")
    assert 0 == six.type("verify")[0]


def test_a_file_s_name_need_not_be_utf_8(six):
    """
    Another program's: it is restored like all else, and found again.
    """
    odd = os.fsencode(six.directory / "mail/alice/new") + b"/17.\xff\xfe.mx"
    Path(os.fsdecode(odd)).write_bytes(b"Subject: hi\n\nthere\n")
    lose(six)

    assert {"alice": (0, 7), "bob": (0, 2)} == rebuilt(six)
    assert (0, [("alice", 0, 6), ("bob", 0, 2)]) == fetched(six)
    assert 0 == six.type("verify")[0]


def test_a_sound_ledger_takes_over_what_it_does_not_know(six):
    """
    Mail of another program, say; only of the accounts that are named, and once.
    """
    new = six.directory / "mail/alice/new"
    (new / "1700000000.M1P2.elsewhere").write_bytes(b"Subject: hi\n\nthere\n")

    assert {"alice": (6, 1)} == rebuilt(six, "alice")
    assert {"alice": (7, 0)} == rebuilt(six, "alice")
    assert 0 == six.type("verify")[0]


def test_a_shared_maildir_is_restored_for_all_who_share_it(here):
    """
    Nothing tells whose a message is; none is archived twice.
    """
    mail = {"format": "maildir", "path": f"{here.directory}/mail/alice"}
    here.write(
        here.account("alice", *letters(3)),
        here.account("bob", *letters(2, start=50), archive=mail),
    )
    fetched(here)
    lose(here)

    assert {"alice": (0, 5), "bob": (0, 5)} == rebuilt(here)
    assert (0, [("alice", 0, 3), ("bob", 0, 2)]) == fetched(here)
    assert 5 == here.archived("alice")
    assert {"alice": (5, 0), "bob": (5, 0)} == rebuilt(here)


def test_an_mbox_is_restored_too(here):
    """
    Also with dates in its path, and after a reader changed a message's marks.
    """
    mail = {"format": "mbox", "path": f"{here.directory}/mail/{{account}}-{{year}}"}
    here.write(here.account("alice", *letters(4), archive=mail))
    assert (0, [("alice", 4, 0)]) == fetched(here)
    assert 0 == here.type("verify")[0]
    lose(here)
    code, _, err = here.type("fetch")
    assert (73, True) == (code, "knows nothing of the mail" in err)
    assert 2 == len(list((here.directory / "mail").glob("alice-*")))
    mbox = here.directory / "mail" / "alice-2023"
    marked = mbox.read_bytes().replace(b"Subject: 3\n", b"Subject: 3\nStatus: RO\n")
    mbox.write_bytes(marked)

    assert {"alice": (0, 4)} == rebuilt(here)
    assert {"alice": (4, 0)} == rebuilt(here)
    assert (0, [("alice", 0, 4)]) == fetched(here)
    code, out, _ = here.type("verify", "--json")
    (seen,) = json.loads(out)
    assert (0, 4, [], []) == (code, seen["messages"], seen["damage"], seen["unknown"])
    assert marked == mbox.read_bytes()


# -- how it is done -------------------------------------------------------------------


def test_it_needs_the_ledger_alone(six):
    """
    A service that has it open would write into a file that is no ledger any more.
    """
    with Ledger(ledger_of(six), now=lambda: 0.0):
        code, told, hint = refused(six, "rebuild")

    assert 75 == code
    assert told.endswith("ledger.db: another popfetchd has it open")
    assert hint.startswith("stop the service first")


def test_accounts_that_are_held_back_hold_it_back(six):
    """
    They would be left out, and fetched anew afterwards.
    """
    six.private("more.yaml", "- name: eve\n  hots: y\n")
    six.write(six.account("alice"), include=["more.yaml"])
    lose(six)

    code, out, err = six.type("rebuild")

    assert (78, "") == (code, out)
    assert "account 'eve': hots: is no key" in err
    assert not ledger_of(six).exists()


def test_what_fails_half_way_has_changed_nothing(six, monkeypatch):
    """
    The ledger is new still, and refused; the next try makes it whole.
    """
    lose(six)
    original = Rebuilding._take

    def take(self, account):
        return original(self, account) if account.name == "alice" else 1 / 0

    monkeypatch.setattr(Rebuilding, "_take", take)
    assert 70 == six.type("rebuild")[0]
    assert 73 == six.type("fetch")[0]
    monkeypatch.undo()

    assert {"alice": (0, 6), "bob": (0, 2)} == rebuilt(six)
    assert (0, [("alice", 0, 6), ("bob", 0, 2)]) == fetched(six)


def test_stopped_it_has_changed_nothing(six, monkeypatch):
    """
    130, and it can be run again.
    """
    lose(six)
    original = Rebuilding._unknown

    def stop(self, *args):
        self._stop.set()  # as Ctrl-C does
        return original(self, *args)

    monkeypatch.setattr(Rebuilding, "_unknown", stop)
    code, _, err = six.type("rebuild")
    assert 130 == code
    assert "interrupted" in err
    monkeypatch.undo()
    assert {"alice": (0, 6), "bob": (0, 2)} == rebuilt(six)


# -- backup ---------------------------------------------------------------------------


def test_a_backup_is_private_and_whole(six):
    """
    One file, 0600, that a ledger can be opened from; nothing else is left behind.
    """
    folder = six.directory / "copies"
    folder.mkdir()
    code, out, err = six.type("backup", str(folder / "copy.db"))

    assert (0, "") == (code, err)
    assert out.startswith(f"{folder}/copy.db: ")
    (copy,) = folder.iterdir()
    assert 0o600 == copy.stat().st_mode & 0o777
    with (
        Ledger(copy, now=lambda: 0.0) as ledger,
        Ledger(ledger_of(six), now=lambda: 0.0) as was,
    ):
        assert (was.id, was.highest()) == (ledger.id, ledger.highest())
        ledger.check()


def test_a_backup_overwrites_nothing_unless_told_to(six):
    """
    And a link is replaced, not followed.
    """
    target = six.directory / "copy.db"
    other = six.private("other", "theirs")
    target.symlink_to(other)

    code, told, _ = refused(six, "backup", str(target))
    assert (73, f"{target}: is there already") == (code, told)

    assert 0 == six.type("backup", "--force", str(target))[0]
    assert not target.is_symlink()
    assert "theirs" == other.read_text()
    assert 0 == six.type("backup", "--force", str(target))[0]


@pytest.mark.parametrize("name", ["ledger.db", "ledger.db-wal", "../state/ledger.db"])
def test_a_backup_is_no_file_of_the_ledger_s_own(six, name):
    """
    A service that has it open would go on writing into a file that is gone.
    """
    target = ledger_of(six).parent / name
    inode = ledger_of(six).stat().st_ino

    code, told, _ = refused(six, "backup", "--force", str(target))

    assert 73 == code
    assert told.endswith("is the ledger's own file")
    assert inode == ledger_of(six).stat().st_ino


def test_a_backup_that_fails_leaves_nothing(six):
    """
    Where there is no folder, or no ledger.
    """
    code, told, _ = refused(six, "backup", "/nonexistent/copy.db")
    assert (73, "/nonexistent/copy.db: No such file or directory") == (code, told)
    lose(six)
    code, told, _ = refused(six, "backup", str(six.directory / "copy.db"))
    assert (73, f"{ledger_of(six)}: there is no ledger yet") == (code, told)
    assert not ledger_of(six).exists()


def test_a_backup_is_made_while_others_write(six):
    """
    It is one moment of the ledger.
    """
    ended = threading.Event()
    path = ledger_of(six)

    def write():
        with Ledger(path, now=lambda: 0.0) as ledger:
            while not ended.is_set():
                ledger.reserve(1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            assert 0 == six.type("backup", str(six.directory / f"{number}.db"))[0]
    finally:
        ended.set()
        writer.join(PATIENCE)
