"""
`popfetchd check`: what it shows of each server, and that it changes nothing.
"""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import time

from dataclasses import replace

import pytest

from popfetchd.cli import check
from popfetchd.cli.tables import Fact, Style
from popfetchd.maildrop.dialogue import ok
from popfetchd.pop3 import reaching
from popfetchd.values import Certificate, TlsMode
from tests.channels import address
from tests.desk import CANARY, desk, letter
from tests.test_cli_fetch import seen_on_terminal
from tests.world import dialogue


@pytest.fixture
def here(tmp_path, capsys):
    with desk(tmp_path, capsys) as made:
        yield made


def test_check_shows_the_server_and_the_maildrop(here):
    """
    Channel, certificate, login, capabilities and STAT, under a line that says ok.
    """
    alice = here.account("alice", letter(b"one"), letter(b"two"))
    here.write(alice)
    code, out, err = here.type("check")
    assert (0, "") == (code, err)
    assert re.fullmatch(
        rf"""alice: ok
  server        localhost:{alice["port"]}, TLS from the start
  address       127\.0\.0\.1
  greeting      popfetchd maildrop ready <[0-9a-f]+@localhost>
  tls           TLSv1\.3, TLS_\w+
  certificate   good, \d+ days left \(2000-01-01 to \d+-\d\d-\d\d\)
    for         localhost, 127\.0\.0\.1
    subject     O=trustme .+
    issuer      O=trustme .+
    sha256      [0-9a-f]{{64}}
  capabilities  AUTH-RESP-CODE, IMPLEMENTATION .*, USER
  after login   the same
  logins        PLAIN, USER, APOP
  login         plain, chosen by `auth: auto`: nothing stronger that would work is offered
  maildrop      2 messages, {2 * len(letter(b"one"))} B
  quirks        none seen
""",
        out,
    )


def test_what_is_pinned_is_not_called_good(here):
    """
    A pin proves that it is the same certificate, and nothing of it (RFC 8314 section 5.4).
    """
    alice = here.account("alice")
    here.write(alice)
    shown = re.search(r"sha256 +(\w+)", here.type("check")[1])[1]
    del alice["ca_file"]
    here.write(alice | {"fingerprint_sha256": shown})
    code, out, _err = here.type("check")
    assert 0 == code
    assert re.search(r"^  certificate   as pinned, \d+ days left", out, re.MULTILINE)


def test_check_tells_which_addresses_were_tried(here, monkeypatch):
    """
    Those that did not answer first stand below the one that did.
    """
    alice = here.account("alice")
    here.write(alice)
    places = [
        address(alice["port"], "::1", socket.AF_INET6),
        address(alice["port"]),
    ]
    monkeypatch.setattr(reaching, "_lookup", lambda host, port: places)
    code, out, _ = here.type("check")
    assert 0 == code
    assert "  address       127.0.0.1\n    tried too   ::1\n" in out


def test_check_changes_nothing(here):
    """
    No message is retrieved, marked or archived, and QUIT ends the session.
    """
    here.write(here.account("alice", letter(b"one"), tls="none", ca_file=None))
    here.servers["alice"]._mode = TlsMode.NONE
    code, out, _ = here.type("check")
    wire = here.servers["alice"].wire
    assert 0 == code
    assert "  tls           none: everything crosses the wire in clear\n" in out
    assert "certificate" not in out
    assert wire.endswith(b"STAT\r\nUIDL\r\nLIST\r\nTOP 1 0\r\nQUIT\r\n")
    assert b"RETR" not in wire
    assert (0, 1) == (here.archived("alice"), here.waiting("alice"))


def test_a_server_that_announces_nothing(here):
    """
    Where CAPA says nothing, that is what is shown.
    """
    here.write(here.account("alice", auth="user"))
    here.servers["alice"].dialogue = dialogue(CAPA=lambda *_: ok("") + b".\r\n")
    _, out, _ = here.type("check")
    assert "  login         user, as `auth: user` says\n" in out
    assert "  capabilities  CAPA is refused\n  after login   none\n" in out
    assert "\n  quirks        CAPA is refused before the login\n" in out
    assert "\n                PIPELINING is not announced" in out


def test_what_a_server_says_of_itself_is_cleaned(here):
    """
    A greeting does not move the cursor.
    """
    alice = here.account("alice")
    strange = type(
        "Strange", (dialogue(),), {"greeting": b"+OK \x1b[31;1;4m\x9b2J ready\r\n"}
    )
    here.servers["alice"].dialogue = strange
    here.write(alice)
    code, out, _ = here.type("check")
    assert 0 == code
    assert r"  greeting      \x1b[31;1;4m\x9b2J ready" in out


def test_one_account_that_fails_does_not_keep_the_others_from_being_checked(here):
    """
    Each failure is one line and a hint on stderr; the worst is the exit code.
    """
    wrong = str(here.private("wrong.pass", f"{CANARY}-wrong"))
    here.write(
        here.account("alice", ca_file=None),
        here.account("bob", password_file=wrong),
        here.account("eve"),
    )
    code, out, err = here.type("check")
    assert 77 == code
    # alice's channel was refused; of bob's server something was seen.
    heads = [line for line in out.splitlines() if not line.startswith(" ")]
    assert ["bob: failed", "eve: ok"] == heads
    assert [
        (
            "alice: certificate: localhost: certificate refused: "
            "its authority is not known here"
        ),
        (
            "  hint: no credential was sent; `ca_file:` names a private authority; from "
            "a public one, the server leaves out the certificates between"
        ),
        "bob: auth: the server refused AUTH: '[AUTH] wrong user or password'",
        (
            "  hint: check user and password; the provider may want POP switched on, "
            "or a password for this application"
        ),
    ] == err.splitlines()
    assert CANARY not in out + err


def test_json_has_the_failures_among_the_others(here):
    """
    `--json`: everything on stdout, one object for each account.
    """
    here.write(here.account("alice", letter(b"one")), here.account("bob", ca_file=None))
    code, out, err = here.type("check", "--json")
    alice, bob = json.loads(out)
    assert (69, "") == (code, err)
    assert ("alice", "plain") == (alice["account"], alice["mechanism"])
    assert {"messages": 1, "octets": len(letter(b"one"))} == alice["drop"]
    assert "UIDL" in alice["announced"]["login"]
    assert {} == alice["quirks"]
    assert ("127.0.0.1", "TLSv1.3") == (
        alice["channel"]["address"],
        alice["channel"]["tls_version"],
    )
    assert {"account", "reason", "error", "hint"} == set(bob)
    assert "certificate" == bob["reason"]


def test_check_of_one(here):
    """
    Only the account that is named is asked.
    """
    here.write(here.account("alice"), here.account("bob"))
    assert here.type("check", "bob")[1].startswith("bob: ok")
    assert b"" == here.servers["alice"].wire


def test_what_is_known_of_the_provider_is_shown(here):
    """
    Of an account with a preset `check` tells what an operator has to know.
    """
    here.write(here.account("alice", provider="gmail"))
    code, out, _ = here.type("check")
    assert 0 == code
    assert "  provider      Gmail, Google Workspace\n" in out
    assert "    note        POP has to be switched on in Gmail's settings.\n" in out


def test_what_was_seen_before_a_refused_login_is_in_json_too(here):
    """
    The failure stands beside it, and no secret does.
    """
    wrong = str(here.private("wrong.pass", f"{CANARY}-wrong"))
    here.write(here.account("bob", password_file=wrong))
    code, out, err = here.type("check", "--json")
    (bob,) = json.loads(out)
    assert (77, "") == (code, err)
    assert ("auth", "plain") == (bob["reason"], bob["mechanism"])
    assert ["PLAIN", "USER", "APOP"] == bob["mechanisms"]
    assert CANARY not in out


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb", "NO_COLOR": ""}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(here, environ, coloured):
    """
    On a terminal long facts are wrapped, and what is well is green unless NO_COLOR is set.
    """
    here.write(here.account("alice"))
    master, slave = pty.openpty()
    process = here.spawn("check", stdout=slave, environ={"COLUMNS": "60"} | environ)
    os.close(slave)
    seen = seen_on_terminal(process, master)
    assert 0 == process.returncode
    assert coloured == ("alice: \x1b[32mok\x1b[0m\r\n" in seen)
    assert coloured == ("\x1b" in seen)
    assert max(map(len, seen.splitlines())) <= 80  # the fingerprint is one word
    assert ",\r\n                " in seen


def test_a_certificate_that_ends_soon_stands_out(monkeypatch):
    """
    Fourteen days before; one whose days cannot be read has none to tell.
    """
    monkeypatch.setattr(time, "time", lambda: 0.0)
    soon = Certificate("ab", not_before=0.0, not_after=13 * 86400.0 + 1)
    text = "good, 13 days left (1970-01-01 to 1970-01-14)"
    assert Fact("certificate", text, Style.ODD) == check._term(soon, "good")
    over = replace(soon, not_after=-3 * 86400.0)
    assert "as pinned, ended 3 days ago" in check._term(over, "as pinned").text
    later = Certificate("ab", not_before=0.0, not_after=14 * 86400.0)
    assert check._term(later, "good").style is None
    assert Fact("certificate", "as pinned") == check._term(
        Certificate("ab"), "as pinned"
    )
