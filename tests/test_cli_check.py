"""
`popfetchd check`: what it shows of each server, and that it changes nothing.
"""

from __future__ import annotations

import json
import re

import pytest

from popfetchd.maildrop.dialogue import ok
from popfetchd.values import TlsMode
from tests.desk import CANARY, desk, letter
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
  server       localhost:{alice["port"]} at 127\.0\.0\.1
  greeting     popfetchd maildrop ready <[0-9a-f]+@localhost>
  tls          TLSv1\.3, TLS_\w+
  certificate  good, ends in \d+ days
  login        plain
  capabilities AUTH-RESP-CODE, IMPLEMENTATION .*, USER
  maildrop     2 messages, {2 * len(letter(b"one"))} B
""",
        out,
    )


def test_check_changes_nothing(here):
    """
    No message is retrieved, marked or archived, and QUIT ends the session.
    """
    here.write(here.account("alice", letter(b"one"), tls="none", ca_file=None))
    here.servers["alice"]._mode = TlsMode.NONE
    code, out, _ = here.type("check")
    wire = here.servers["alice"].wire
    assert 0 == code
    assert "  tls          none: everything crosses the wire in clear\n" in out
    assert "certificate" not in out
    assert wire.endswith(b"STAT\r\nQUIT\r\n")
    assert b"RETR" not in wire
    assert (0, 1) == (here.archived("alice"), here.waiting("alice"))


def test_a_server_that_announces_nothing(here):
    """
    Where CAPA says nothing, that is what is shown.
    """
    here.write(here.account("alice", auth="user"))
    here.servers["alice"].dialogue = dialogue(CAPA=lambda *_: ok("") + b".\r\n")
    _, out, _ = here.type("check")
    assert "  login        user\n" in out
    assert "  capabilities none announced\n" in out


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
    assert r"  greeting     \x1b[31;1;4m\x9b2J ready" in out


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
    assert out.startswith("eve: ok\n")
    assert [
        (
            "alice: certificate: localhost: certificate refused: "
            "its authority is not known here"
        ),
        (
            "  hint: no credential was sent; `host:` must be a name in the certificate, "
            "and `ca_file:` names a private authority"
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
    assert "UIDL" in alice["capabilities"]
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
    assert "  provider     Gmail, Google Workspace\n" in out
    assert "  note         POP has to be switched on in Gmail's settings.\n" in out
