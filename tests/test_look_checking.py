"""
Looking at a server: what is told of it, how far a look comes, and that nothing is touched.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from popfetchd.errors import (
    AuthenticationRefused,
    CommandRefused,
    Disconnected,
    NoMechanism,
)
from popfetchd.look import Checked, Connected, check
from popfetchd.look.checking import _why
from popfetchd.maildrop.certificate import certify
from popfetchd.maildrop.dialogue import error, ok
from popfetchd.maildrop.drop import Maildrop
from popfetchd.pop3 import auth
from popfetchd.pop3.deadline import Deadline
from popfetchd.pop3.session import open_session
from popfetchd.pop3.tls import TlsContexts
from popfetchd.values import Channel, DropListing, Mechanism, Secret, TlsMode, TlsPolicy
from tests.world import SECRET, START, USER, Pop3, world


@pytest.fixture
def here(tmp_path):
    with world(tmp_path) as made:
        yield made


def log_in(session, account):
    """
    Log in as the world's account does.
    """
    login = account.login
    session.login(login.user, login.secret.secret, login.mechanism)


AUTOMATIC = {
    *auth.PREFERRED_IN_TLS,
    *auth.PREFERRED_IN_CLEAR,
    *auth.TOKEN_MECHANISMS,
    Mechanism.USER,
}


def looked(here, mechanism=Mechanism.AUTO, **login):
    """
    Return what `check` sees.
    """
    login = replace(here.account.login, mechanism=mechanism, **login)
    account = replace(here.account, login=login)
    with here.means.connect(account.server, Deadline(5.0)) as session:
        return check(session, account, log_in, START)


def names(seen):
    """
    Return the names of the quirks.
    """
    return {quirk.name for quirk in seen.quirks}


CAPABILITIES = (
    "AUTH-RESP-CODE",
    "IMPLEMENTATION popfetchd-maildrop",
    "PIPELINING",
    "RESP-CODES",
    "SASL PLAIN",
    "TOP",
    "UIDL",
    "USER",
)


def test_a_good_server_is_told_whole(here):
    """
    Channel, greeting, capabilities before and after, logins, STAT; and no quirk.
    """
    here.deliver(b"Subject: one\r\n\r\n", b"Subject: two\r\n\r\n")
    here.server._lacks = frozenset({"APOP"})
    assert Checked(
        Connected(Channel("127.0.0.1"), "popfetchd maildrop ready", ("PLAIN", "USER")),
        {"greeting": CAPABILITIES, "login": CAPABILITIES},
        Mechanism.PLAIN,
        "chosen by `auth: auto`: nothing stronger that would work is offered",
        DropListing(2, 32),
        (),
    ) == looked(here)


def test_nothing_is_touched(here):
    """
    TOP of the newest message is all that is asked for, and QUIT is the end.
    """
    here.deliver(b"Subject: one\r\n\r\n", b"Subject: two\r\n\r\n")
    looked(here)
    said = here.server.wire
    assert said.endswith(b"STAT\r\nUIDL\r\nLIST\r\nTOP 2 0\r\nQUIT\r\n")
    assert b"RETR" not in said
    assert 2 == len(here.waiting())


@pytest.mark.parametrize("mechanism", [Mechanism.USER, Mechanism.APOP])
def test_a_login_that_was_asked_for_is_told_as_such(here, mechanism):
    """
    What the configuration names is what is used, and why.
    """
    seen = looked(here, mechanism)
    assert (mechanism, f"as `auth: {mechanism}` says") == (seen.mechanism, seen.why)
    assert ("PLAIN", "USER", "APOP") == seen.connected.mechanisms


def test_what_came_before_a_refused_login_is_told(here):
    """
    The server is known, the maildrop is not; QUIT is said all the same.
    """
    seen = looked(here, user="nobody")
    assert isinstance(seen.failure, AuthenticationRefused)
    assert "popfetchd maildrop ready" in seen.connected.greeting
    assert {"greeting"} == set(seen.announced)
    assert (Mechanism.PLAIN, None) == (seen.mechanism, seen.drop)
    assert here.server.wire.endswith(b"QUIT\r\n")


def test_where_no_login_could_be_tried_none_is_told(here):
    """
    A name that cannot be sent.
    """
    seen = looked(here, Mechanism.USER, user="a\r\nb")
    assert isinstance(seen.failure, NoMechanism)
    assert (None, "") == (seen.mechanism, seen.why)


@pytest.mark.parametrize("mechanism", sorted(AUTOMATIC))
def test_each_automatic_choice_has_its_reason(mechanism):
    """
    Whatever `auth: auto` may take.
    """
    assert _why(Mechanism.AUTO, mechanism).startswith("chosen by `auth: auto`: ")


def test_a_maildrop_that_cannot_be_listed_is_a_failure(here):
    """
    What STAT said before is told.
    """
    refuse = lambda *_: error("no")  # noqa: E731
    here.speak(UIDL=refuse, LIST=refuse)
    here.deliver(b"\r\n")
    seen = looked(here)
    assert isinstance(seen.failure, CommandRefused)
    assert DropListing(1, 2) == seen.drop


def test_a_line_that_drops_ends_the_look(here):
    """
    Nothing is sent any more, and what was seen stays.
    """
    here.speak(STAT=hang_up)
    seen = looked(here, Mechanism.USER)
    assert isinstance(seen.failure, Disconnected)
    assert Mechanism.USER is seen.mechanism
    assert here.server.wire.endswith(b"STAT\r\n")


def hang_up(self, _text):
    raise OSError


def test_a_refused_quit_is_a_quirk(here):
    """
    Nothing was to be removed.
    """
    here.speak(QUIT=lambda *_: error("stay"))
    seen = looked(here)
    assert seen.failure is None
    assert {"quit-refused"} == names(seen)


def test_a_refused_top_is_a_quirk(here):
    """
    Of an empty maildrop nothing is asked; else TOP is tried, announced or not.
    """
    here.speak(TOP=lambda *_: error("no"))
    assert set() == names(looked(here))
    here.deliver(b"\r\n")
    assert {"no-top"} == names(looked(here))


def test_a_password_that_comes_back_in_capa_is_not_told(here):
    """
    Somebody may paste what `check` prints, or keep its JSON.
    """
    here.speak(CAPA=lambda *_: ok("") + f"UIDL\r\nX-ODD {SECRET}\r\n.\r\n".encode())
    seen = looked(here, Mechanism.USER)
    assert ("UIDL", "X-ODD (secret)") == seen.announced["login"]


def test_capabilities_are_told_for_each_time(here):
    """
    None where CAPA is refused; what we do not know as the server wrote it.
    """
    here.speak(CAPA=lambda *_: ok("") + b"UIDL\r\nX-Odd \x1b[2J 1\r\n.\r\n")
    seen = looked(here, Mechanism.USER)  # before the login this server knows none
    assert {"greeting": None, "login": ("UIDL", "X-ODD \x1b[2J 1")} == seen.announced


def test_behind_stls_capabilities_are_told_anew(tmp_path):
    """
    Three times, and the certificate with its fingerprint.
    """
    certificate = certify(tmp_path)
    drop = Maildrop(USER, Secret(SECRET))
    with (
        world(tmp_path / "world") as here,
        Pop3([drop], certificate.context, mode=TlsMode.STLS) as server,
    ):
        policy = TlsPolicy(TlsMode.STLS, certificate.ca_file)
        address = replace(
            here.account.server, host="localhost", port=server.port, tls=policy
        )
        account = replace(here.account, server=address)
        with open_session(address, TlsContexts(), Deadline(5.0)) as session:
            seen = check(session, account, log_in, START)
    assert ["greeting", "stls", "login"] == [*seen.announced]
    assert "STLS" in seen.announced["greeting"]
    assert "STLS" not in seen.announced["stls"]
    shown = seen.connected.channel.certificate
    assert ("localhost", "127.0.0.1") == shown.names
    assert (64, "O=trustme") == (len(shown.sha256), shown.subject[:9])
