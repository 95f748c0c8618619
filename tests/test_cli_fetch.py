"""
`popfetchd fetch`: one visit each, now; and what is said of it.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import threading

import pytest

from popfetchd.ledger import Ledger
from popfetchd.maildrop.dialogue import Dialogue, error
from popfetchd.values import AccountName
from popfetchd.visits import Visits
from tests.desk import CANARY, PATIENCE, desk, letter
from tests.world import dialogue


@pytest.fixture
def here(tmp_path, capsys):
    with desk(tmp_path, capsys) as made:
        yield made


def letters(count):
    """
    Return messages of different subjects.
    """
    return [letter(b"%d" % number) for number in range(count)]


def table(out):
    """
    Return the rows of a padded table, split at two blanks.
    """
    return [re.split(r"  +", line) for line in out.splitlines()[1:]]


def events(err):
    """
    Return the log events on stderr, each of which must be one line of JSON.
    """
    return [json.loads(line) for line in err.splitlines()]


class Gate:
    """
    A server that stops at the RETR of one message until it is let go on.
    """

    def __init__(self, server, at):
        self.at, self.reached, self.open = str(at), threading.Event(), threading.Event()
        server._lacks = frozenset({"PIPELINING"})
        server.dialogue = dialogue(RETR=self.answer)

    def answer(self, session, text):
        if text == self.at:
            self.reached.set()
            self.open.wait(PATIENCE)
        return Dialogue._retr(session, text)


# -- one visit each -------------------------------------------------------------------


def test_fetch_archives_every_message_once(here):
    """
    The first fetch archives all, the second none; the table says so on stdout. The log,
    on stderr, does not say it once more.
    """
    here.write(here.account("alice", *letters(3)), here.account("bob"))
    code, out, err = here.type("fetch")
    size = sum(map(len, letters(3)))
    assert (0, "") == (code, err)
    assert [
        ["alice", "success", "3", f"{size} B", "0", "0"],
        ["bob", "success", "0", "0 B", "0", "0"],
    ] == table(out)

    code, out, err = here.type("fetch")
    assert (0, "") == (code, err)
    assert ["alice", "success", "0", "0 B", "0", "0"] == table(out)[0]
    assert 3 == here.archived("alice") == here.waiting("alice")


def test_fetch_logs_what_it_did_where_that_is_written(here):
    """
    Whoever sets the level has the lines that the service would write.
    """
    here.write(here.account("alice", *letters(3)), log={"level": "info"})
    _, _, err = here.type("fetch")

    assert [("visit ended", "alice", 3)] == [
        (event["event"], event["account"], event["archived"]) for event in events(err)
    ]


def test_fetch_visits_the_accounts_that_are_named(here):
    """
    In the order typed, each once, and no others.
    """
    here.write(*(here.account(name, letter(b"x")) for name in ("alice", "bob", "eve")))
    code, out, _ = here.type("fetch", "eve", "alice", "eve")
    assert 0 == code
    assert ["eve", "alice"] == [row[0] for row in table(out)]
    assert (1, 0, 1) == tuple(here.archived(name) for name in ("alice", "bob", "eve"))


def test_fetch_lets_others_read_if_told_to(here):
    """
    `archive: {mode: "0640"}`: the message is 0640, its folders 0750.
    """
    archive = {"format": "maildir", "path": f"{here.directory}/m", "mode": "0640"}
    here.write(here.account("alice", letter(b"x"), archive=archive))
    assert 0 == here.type("fetch")[0]
    (message,) = (here.directory / "m" / "new").iterdir()
    modes = (p.stat().st_mode & 0o777 for p in (message, *message.parents[:2]))
    assert [0o640, 0o750, 0o750] == list(modes)


def test_fetch_removes_what_is_verified_if_told_to(here):
    """
    `delete_after: verified` empties the maildrop, and the table says how many went.
    """
    here.write(here.account("alice", *letters(3), delete_after="verified"))
    code, out, _ = here.type("fetch")
    assert (0, "3") == (code, table(out)[0][4])
    assert (3, 0) == (here.archived("alice"), here.waiting("alice"))


def test_json_is_all_that_is_on_stdout(here):
    """
    `--json` gives a list with one object for each account, reason and hint in it.
    """
    wrong = str(here.private("wrong.pass", "no-such-secret"))
    here.write(
        here.account("alice", *letters(2)),
        here.account("bob", password_file=wrong),
    )
    code, out, _ = here.type("fetch", "--json")
    alice, bob = json.loads(out)
    assert 77 == code
    assert {
        "account": "alice",
        "outcome": "success",
        "archived": 2,
        "archived_octets": sum(map(len, letters(2))),
        "matched": 0,
        "removed": 0,
        "waiting": 0,
        "quarantined": 0,
        "skipped": {},
        "settled": 0,
        "failed_messages": [],
        "reason": None,
        "error": None,
        "hint": None,
    } == {k: v for k, v in alice.items() if k not in {"seconds", "stages"}}
    assert ("failure", "auth") == (bob["outcome"], bob["reason"])
    assert "check user and password" in bob["hint"]


def test_nothing_is_a_table_too(here):
    """
    Without accounts there is nothing to do, and that is well.
    """
    (here.directory / "accounts.d").mkdir()
    here.write(accounts_dir="accounts.d")
    assert (0, 1) == (here.type("fetch")[0], len(here.type("fetch")[1].splitlines()))


# -- failures -------------------------------------------------------------------------


def test_a_wrong_password_is_77(here):
    """
    The log has one line with the reason and what to do; the password is nowhere.
    """
    wrong = str(here.private("wrong.pass", f"{CANARY}-wrong"))
    here.write(here.account("alice", *letters(1), password_file=wrong))
    code, out, err = here.type("fetch")
    (event,) = events(err)
    assert 77 == code
    assert ["alice", "failure", "0", "0 B", "0", "0"] == table(out)[0][:6]
    assert "[AUTH] wrong user or password" in table(out)[0][6]
    assert ("visit failed", "error", "auth") == (
        event["event"],
        event["level"],
        event["reason"],
    )
    assert event["hint"].startswith("check user and password")
    assert CANARY not in out + err


def test_an_unknown_authority_is_69(here):
    """
    Without the private authority's `ca_file` no credential is sent.
    """
    here.write(here.account("alice", ca_file=None))
    code, _, err = here.type("fetch")
    (event,) = events(err)
    assert (69, "certificate") == (code, event["reason"])
    assert "no credential was sent" in event["hint"]


def test_a_secret_that_is_not_there_is_77(here):
    """
    No connection is made for a visit that cannot log in.
    """
    here.write(here.account("alice", password_file="gone.pass"))
    code, _, err = here.type("fetch")
    (event,) = events(err)
    assert (77, "secret") == (code, event["reason"])
    assert b"" == here.servers["alice"].wire


def test_a_ca_file_that_is_not_there_is_78(here):
    """
    What the operator wrote cannot work.
    """
    here.write(here.account("alice", ca_file="gone.pem"))
    code, _, err = here.type("fetch")
    doubt, _, log = err.partition("\n")
    assert (78, "configuration") == (code, events(log)[0]["reason"])
    assert "account 'alice': ca_file: warning: " not in doubt


def test_a_server_that_is_not_there_is_69(here):
    """
    A refused connection is the network's fault, and says where.
    """
    alice = here.account("alice")
    here.servers["alice"].close()
    here.write(alice)
    code, _, err = here.type("fetch")
    (event,) = events(err)
    assert (69, "connect", "network") == (code, event["reason"], event["fault"])
    assert f"localhost:{alice['port']}: no connection" in event["error"]


def test_a_maildrop_in_use_is_75(here):
    """
    What passes by itself is worth another try, and is a warning only.
    """
    here.write(here.account("alice"))
    assert here.maildrops["alice"].acquire()
    code, _, err = here.type("fetch")
    (event,) = events(err)
    assert (75, "in_use", "warning") == (code, event["reason"], event["level"])


def test_a_ledger_that_is_damaged_is_73(here):
    """
    No maildrop is visited without its ledger.
    """
    here.write(here.account("alice", *letters(1)))
    (here.directory / "state").mkdir()
    (here.directory / "state" / "ledger.db").write_bytes(b"nonsense" * 1000)
    code, out, err = here.type("fetch")
    assert (73, "") == (code, out)
    assert "is not a ledger, or is damaged" in err
    assert 2 == err.count("\n")
    assert b"" == here.servers["alice"].wire


def test_a_message_that_fails_alone_is_69(here):
    """
    The others are archived; the table names the one, and why.
    """
    here.write(here.account("alice", *letters(3)))
    here.servers["alice"].dialogue = dialogue(
        RETR=lambda session, text: (
            error("broken \x1b[2J") if text == "2" else Dialogue._retr(session, text)
        )
    )
    code, out, err = here.type("fetch")
    (row,) = table(out)
    assert 69 == code
    assert ["alice", "partial", "2"] == row[:3]
    assert r"the server refused RETR: 'broken \x1b[2J'" in row[6]
    assert "\x1b" not in out + err


def test_of_several_accounts_the_worst_decides(here):
    """
    One account's failure is the code, and does not keep the others from being visited.
    """
    wrong = str(here.private("wrong.pass", "no-such-secret"))
    here.write(
        here.account("alice", *letters(2)),
        here.account("bob", ca_file=None),
        here.account("eve", password_file=wrong),
    )
    code, out, _ = here.type("fetch")
    assert 77 == code
    assert ["success", "failure", "failure"] == [row[1] for row in table(out)]
    assert 69 == here.type("fetch", "alice", "bob")[0]
    assert 0 == here.type("fetch", "alice")[0]


def test_a_visit_that_breaks_is_70(here, monkeypatch):
    """
    What escapes from a visit is a fault of ours, and is told as one.
    """

    def broken(*_args, **_keys):
        raise ZeroDivisionError

    monkeypatch.setattr(Visits, "make", broken)
    here.write(here.account("alice"))
    code, out, err = here.type("fetch")
    assert (70, "") == (code, out)
    assert "unexpected ZeroDivisionError in fetch\n  hint: please report this" in err


# -- only look ------------------------------------------------------------------------


def test_a_dry_run_only_tells(here):
    """
    What would be archived and removed; nothing is retrieved, and nothing written.
    """
    here.write(here.account("alice", *letters(2)))
    assert 0 == here.type("fetch")[0]
    alice = here.account("alice", letter(b"new"), delete_after="verified")
    here.write(alice)
    wire = len(here.servers["alice"].wire)

    code, out, err = here.type("fetch", "--dry-run")

    assert (0, "") == (code, err)
    assert ["alice", "3", "1", str(len(letter(b"new"))), "2"] == table(out)[0]
    assert (2, 3) == (here.archived("alice"), here.waiting("alice"))
    assert len(here.servers["alice"].wire) > wire


def test_a_dry_run_does_not_count_what_only_makes_room(here):
    """
    Where retrieving hides and a part is listed, what is archived is retrieved once more;
    it is not archived once more.
    """
    keys = {"hides_retrieved": "true", "lists_partly": "true"}
    here.write(here.account("alice", *letters(2), **keys))
    here.servers["alice"].dialogue = dialogue(QUIT=lambda self, _: self.close() or b"")
    assert 69 == here.type("fetch")[0]
    here.servers["alice"].dialogue = Dialogue

    assert ["alice", "2", "0", "0", "0"] == table(here.type("fetch", "--dry-run")[1])[0]


def test_a_dry_run_goes_on_after_a_failure(here):
    """
    The account that fails is told on stderr; the others are shown; the worst decides.
    """
    here.write(here.account("alice", ca_file=None), here.account("bob", *letters(1)))
    code, out, err = here.type("fetch", "--dry-run", "--json")
    assert 69 == code
    assert [
        {
            "account": "bob",
            "messages": 1,
            "would_archive": 1,
            "octets": len(letters(1)[0]),
            "would_remove": 0,
        }
    ] == json.loads(out)
    line, hint = err.splitlines()
    assert line.startswith("alice: certificate: localhost: certificate refused")
    assert hint.startswith("  hint: no credential was sent")


# -- beside another -------------------------------------------------------------------


def test_an_account_that_is_being_visited_is_waited_for(here):
    """
    The visit begins when the other process has let go; no session is begun before.
    """
    here.write(here.account("alice", *letters(1)), here.account("bob", *letters(1)))
    gate = Gate(here.servers["bob"], at=1)
    ledger = Ledger(here.directory / "state" / "ledger.db", now=lambda: 0.0)
    with ledger, ledger.lock(AccountName("alice")).acquire():
        process = here.spawn("fetch")
        assert gate.reached.wait(PATIENCE)
        assert b"" == here.servers["alice"].wire
    gate.open.set()
    out, _ = process.communicate(timeout=PATIENCE)
    assert 0 == process.returncode
    assert ["success", "success"] == [row[1] for row in table(out)]


def test_who_waits_for_an_account_can_be_interrupted(here):
    """
    Ctrl-C ends the wait at once, although the other process goes on: 130, not 75.
    """
    here.write(here.account("alice", *letters(1)), here.account("bob", *letters(1)))
    gate = Gate(here.servers["bob"], at=1)
    ledger = Ledger(here.directory / "state" / "ledger.db", now=lambda: 0.0)
    with ledger, ledger.lock(AccountName("alice")).acquire():
        process = here.spawn("fetch")
        assert gate.reached.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        assert "ending, with what there is" in process.stderr.readline()
        gate.open.set()
        process.communicate(timeout=PATIENCE)
    assert 130 == process.returncode
    assert (0, 1) == (here.archived("alice"), here.archived("bob"))


# -- interrupted ----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_fetch_keeps_what_it_has(here, number):
    """
    It ends with 130 after the message under way; the next fetch gets the rest, once.
    """
    here.write(here.account("alice", *letters(9), delete_after="verified"))
    gate = Gate(here.servers["alice"], at=3)
    process = here.spawn("fetch")
    assert gate.reached.wait(PATIENCE)

    process.send_signal(number)
    assert process.stderr.readline() == (
        "popfetchd: ending, with what there is; once more ends it at once\n"
    )
    gate.open.set()
    out, err = process.communicate(timeout=PATIENCE)

    assert 130 == process.returncode
    assert ["alice", "partial", "3"] == table(out)[0][:3]
    assert ("", "interrupted") == (err, table(out)[0][-1])
    assert (3, 6) == (here.archived("alice"), here.waiting("alice"))
    assert 0 == here.type("fetch")[0]
    assert (9, 0) == (here.archived("alice"), here.waiting("alice"))


def test_the_second_signal_ends_at_once(here):
    """
    Whoever asks twice does not wait for a server that hangs; nothing is lost by it.
    """
    here.write(here.account("alice", *letters(5), delete_after="verified"))
    gate = Gate(here.servers["alice"], at=3)
    process = here.spawn("fetch")
    assert gate.reached.wait(PATIENCE)
    process.send_signal(signal.SIGINT)
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    gate.open.set()

    assert -signal.SIGINT == process.returncode
    assert 5 == here.waiting("alice")
    assert 0 == here.type("fetch")[0]
    assert (5, 0) == (here.archived("alice"), here.waiting("alice"))


# -- on a terminal --------------------------------------------------------------------


def seen_on_terminal(process, master):
    """
    Return what a terminal was sent until *process* ended.
    """
    seen = b""
    while True:
        try:
            octets = os.read(master, 65536)
        except OSError:  # Linux: EIO when nobody has the other side open any more
            break
        if not octets:
            break
        seen += octets
    process.wait(PATIENCE)
    os.close(master)
    return seen.decode()


def test_bars_are_drawn_where_a_person_looks(here):
    """
    With a terminal for stderr there are bars there, and data only on stdout.
    """
    here.write(here.account("alice", *letters(7)), here.account("bob"))
    master, slave = pty.openpty()
    process = here.spawn("fetch", stderr=slave, environ={"TERM": "xterm"})
    os.close(slave)
    out = process.stdout.read()
    seen = seen_on_terminal(process, master)
    assert 0 == process.returncode
    assert "7/7 archived" in seen
    assert "bob" not in seen
    assert "\x1b" not in out
    assert ["alice", "bob"] == [row[0] for row in table(out)]
