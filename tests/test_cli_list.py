"""
`popfetchd list` and `popfetchd status`: what is in a maildrop, and how accounts are.
"""

from __future__ import annotations

import json
import os
import pty
import re
import threading

import pytest

from popfetchd.cli.tables import cells, fit
from popfetchd.ledger import Ledger
from popfetchd.maildrop.dialogue import Dialogue, error
from popfetchd.values import AccountName, AccountState, TlsMode
from tests.desk import CANARY, PATIENCE, desk, letter
from tests.test_cli_fetch import seen_on_terminal, table
from tests.world import dialogue


HOSTILE = b"=?utf-8?q?=1B[2J=E2=80=AEevil=0D=0Aforged?= \x9b31m"
"""A subject that clears the screen, turns the text round and begins a new line."""


@pytest.fixture
def here(tmp_path, capsys):
    with desk(tmp_path, capsys) as made:
        yield made


# -- list -----------------------------------------------------------------------------


def test_list_shows_each_message(here):
    """
    Number, octets, archived or not, date, sender, subject and unique-id.
    """
    here.write(here.account("alice", letter(b"one")))
    here.type("fetch")
    here.account("alice", letter(b"two"))
    code, out, err = here.type("list", "alice")
    first, second = (message.unique_id for message in here.maildrops["alice"].messages)
    octets, ada = str(len(letter(b"one"))), "Ada <ada@example.org>"
    date = "2023-11-14T22:13:20+00:00"
    assert (0, "") == (code, err)
    assert "NUMBER  OCTETS  ARCHIVED  DATE" == out[:30]
    assert [
        ["1", octets, "yes", date, ada, "one", first],
        ["2", octets, "no", date, ada, "two", second],
    ] == table(out.replace("\n     ", "\n"))


def test_list_marks_nothing_as_read(here):
    """
    TOP, not RETR; and nothing is archived.
    """
    here.write(here.account("alice", letter(b"one"), tls="none", ca_file=None))
    here.servers["alice"]._mode = TlsMode.NONE
    here.type("list", "alice")
    assert b"TOP 1 0\r\n" in here.servers["alice"].wire
    assert b"RETR" not in here.servers["alice"].wire
    assert 0 == here.archived("alice")


def test_a_hostile_subject_is_escaped(here):
    """
    What clears a screen, turns text round or breaks a line is shown as an escape.
    """
    here.write(here.account("alice", letter(HOSTILE)))
    _, out, _ = here.type("list", "alice")
    assert 2 == len(out.splitlines())
    assert r"\x1b[2J\u202eevil forged" in out
    assert not {"\x1b", "\u202e", "\x9b"} & set(out)


def test_a_hostile_subject_on_a_terminal_is_escaped(here):
    """
    The table that a person sees is drawn, and the subject in it is harmless.
    """
    here.write(
        here.account("alice", letter(HOSTILE), letter(b"[bold]no markup[/bold]"))
    )
    master, slave = pty.openpty()
    environ = {"TERM": "xterm", "COLUMNS": "300"}
    process = here.spawn("list", "alice", stdout=slave, environ=environ)
    os.close(slave)
    seen = seen_on_terminal(process, master)
    assert 0 == process.returncode
    assert "\x1b[1m" in seen  # the head is drawn bold
    assert r"\x1b[2J\u202eevil forged" in seen
    assert "[bold]no markup[/bold]" in seen
    assert "\x1b[2J" not in seen
    assert "\u202e" not in seen


def test_list_as_json(here):
    """
    One object for each message, all ASCII, whatever the subject.
    """
    here.write(here.account("alice", letter(HOSTILE)))
    code, out, err = here.type("list", "alice", "--json")
    (line,) = json.loads(out)
    assert (0, "") == (code, err)
    assert out.isascii()
    assert "\x1b" not in out
    assert (1, False) == (line["number"], line["archived"])
    assert line["subject"].startswith("\x1b[2J\u202eevil forged")


def test_on_a_terminal_each_message_is_one_line(here):
    """
    Wide characters count twice, long texts are cut, columns stand under each other.
    """
    wide = "=?utf-8?b?5pel5pys6Kqe44Gu6ZW344GE6aGM5ZCN44Gn44GZ44CC?="
    here.write(
        here.account(
            "alice", letter(b"short"), letter(b"x" * 500), letter(wide.encode())
        )
    )
    master, slave = pty.openpty()
    environ = {"TERM": "xterm", "COLUMNS": "90", "NO_COLOR": "1"}
    process = here.spawn("list", "alice", stdout=slave, environ=environ)
    os.close(slave)
    head, *shown = seen_on_terminal(process, master).splitlines()
    ids = head.index("UNIQUE-ID")
    assert [90, 90, 90] == [cells(line) for line in shown]
    assert "2023-11-14 22:13  Ada <ada@ex…  short " in shown[0]
    assert "x…  " in shown[1]
    assert "  日本語の長い…  " in shown[2]
    for line in shown:
        assert "  " == fit(line, ids + 1)[-3:-1]


def test_lines_come_while_the_server_still_sends(here):
    """
    The first is on the pipe before the last header has been asked for.
    """
    here.write(here.account("alice", *(letter(b"x" * 900) for _ in range(200))))
    server, asked = here.servers["alice"], threading.Event()
    server._lacks = frozenset({"PIPELINING"})

    def answer(session, text):
        if text == "200 0":
            asked.wait(PATIENCE)
        return Dialogue._top(session, text)

    server.dialogue = dialogue(TOP=answer)
    process = here.spawn("list", "alice")
    first = [process.stdout.readline() for _ in range(3)]
    asked.set()
    rest = process.stdout.readlines()
    assert "     2  " in first[2]
    assert (198, 0) == (len(rest), process.wait(PATIENCE))


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_who_reads_no_further_ends_it_quietly(here, options):
    """
    `popfetchd list alice | head -1`.
    """
    here.write(here.account("alice", *(letter(b"x" * 900) for _ in range(200))))
    process = here.spawn("list", "alice", *options)
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=PATIENCE)
    assert (0, "") == (process.returncode, err)
    assert 200 == here.waiting("alice")


def test_json_of_an_empty_maildrop_is_an_empty_list(here):
    """
    And its table a head alone.
    """
    here.write(here.account("alice"))
    assert [] == json.loads(here.type("list", "alice", "--json")[1])
    assert 1 == len(here.type("list", "alice")[1].splitlines())


def test_list_of_an_account_that_fails(here):
    """
    One line and a hint, and the reason's code.
    """
    here.write(here.account("alice", ca_file=None))
    code, out, err = here.type("list", "alice")
    line, hint = err.splitlines()
    assert (69, "") == (code, out)
    assert line.startswith("popfetchd: localhost: certificate refused: ")
    assert hint.startswith("  hint: no credential was sent; ")


# -- status ---------------------------------------------------------------------------


def remember(here, **accounts):
    """
    Let the ledger remember how accounts are.
    """
    path = here.directory / "state" / "ledger.db"
    with Ledger(path, now=lambda: 0.0) as ledger:
        for name, state in accounts.items():
            ledger.save_state(AccountName(name), state)


def test_status_shows_every_account(here):
    """
    Never visited, well, failing with reason, error and hint, and paused.
    """
    names = ("alice", "bob", "eve", "ian")
    here.write(*(here.account(name) for name in names))
    bob = AccountState(1.7e9, 1.7e9, 4e9, archived=7, waiting=2, quarantined=1)
    eve = AccountState(
        1.7e9, 0.0, 0.0, 3, reason="auth", error="refused", hint="check it"
    )
    ian = AccountState(1.7e9, 1.7e9, removals_paused=True)
    remember(here, bob=bob, eve=eve, ian=ian, gone=AccountState(1.7e9))

    code, out, err = here.type("status")

    moment = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d"
    rows = ["  ".join(row) for row in table(out)]
    assert (0, True) == (code, err.startswith("popfetchd: from the ledger ("))
    for expected, row in zip(
        [
            r"alice  never visited  never  never  not planned  0  0  0",
            (
                rf"bob  ok  {moment}  {moment}  {moment}  7  2  1  "
                r"messages in quarantine: 1 \(hint: they stay on the server .+\)"
            ),
            (
                rf"eve  failing \(3\)  {moment}  never  not planned  0  0  0  "
                r"auth: refused \(hint: check it\)"
            ),
            (
                rf"ian  ok  {moment}  {moment}  not planned  0  0  0  "
                r"removals are paused \(hint: they go on by themselves .+\)"
            ),
        ],
        rows,
        strict=True,
    ):
        assert re.fullmatch(expected, row)


def test_status_tells_what_a_fetch_did(here):
    """
    What one process did, another one shows; 0 also when an account fails.
    """
    wrong = str(here.private("wrong.pass", f"{CANARY}-wrong"))
    here.write(
        here.account("alice", letter(b"one")), here.account("bob", password_file=wrong)
    )
    here.type("fetch")
    code, out, err = here.type("status")
    alice, bob = table(out)
    assert (0, "ok", "1") == (code, alice[1], alice[5])
    assert "failing (1)" == bob[1]
    assert "(hint: check user and password; " in bob[8]
    assert CANARY not in out + err


def test_status_asks_no_server(here):
    """
    It reads the ledger only.
    """
    here.write(here.account("alice"))
    here.type("status")
    assert b"" == here.servers["alice"].wire


def test_status_as_json(here):
    """
    One object for each account, with times as seconds since 1970.
    """
    here.write(here.account("alice"), here.account("bob"))
    remember(here, bob=AccountState(last_poll=1.7e9, archived=7))
    code, out, _ = here.type("status", "--json")
    alice, bob = json.loads(out)
    assert 0 == code
    assert ("alice", 0.0, 0) == (
        alice["account"],
        alice["last_poll"],
        alice["archived"],
    )
    assert ("bob", 1.7e9, 7) == (bob["account"], bob["last_poll"], bob["archived"])
    assert {"account", "source", "failed_messages", *AccountState.__slots__} == set(bob)


# -- nothing is made ------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb", [("check",), ("list", "alice"), ("status",), ("fetch", "--dry-run")]
)
def test_looking_makes_no_ledger(here, verb):
    """
    Who only looks leaves no ledger behind, nor the folder for one.
    """
    here.write(here.account("alice", letter(b"one")))
    assert 0 == here.type(*verb)[0]
    assert not (here.directory / "state").exists()


def test_quit_refused_is_no_failure_of_looking(here):
    """
    Nothing was to be removed: what the server says to QUIT does not matter.
    """
    here.write(here.account("alice", letter(b"one")))
    here.servers["alice"].dialogue = dialogue(QUIT=lambda *_: error("stay"))
    assert (0, "") == here.type("list", "alice")[::2]
