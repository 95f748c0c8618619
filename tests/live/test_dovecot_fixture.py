"""
The Dovecot fixture and the oracle are themselves to be trusted.
"""

from __future__ import annotations

import poplib
import socket
import ssl

import pytest

from tests.letters import EMPTY, KINDS, UNSERVABLE, letters
from tests.live.dovecot import (
    EXPIRED,
    HOST,
    UNKNOWN_CA,
    WRONG_NAME,
    Dovecot,
    running,
)
from tests.live.oracle import Raw, fetch_raw


pytestmark = pytest.mark.live


def handshake(dovecot: Dovecot, host: str) -> str | None:
    """
    Return the TLS version agreed upon with that address of the fixture.
    """
    context = ssl.create_default_context(cafile=dovecot.ca_file)
    plain = socket.create_connection((host, dovecot.ports.pop3s), 5)
    with plain, context.wrap_socket(plain, server_hostname=host) as channel:
        return channel.version()


def test_the_right_address_shows_a_certificate_that_verifies(dovecot):
    """
    127.0.0.1 has a certificate that its authority vouches for.
    """
    assert handshake(dovecot, HOST) == "TLSv1.3"


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        (EXPIRED, "expired"),
        (WRONG_NAME, "IP address mismatch"),
        (UNKNOWN_CA, "unable to get local issuer"),
    ],
)
def test_every_other_address_has_one_thing_wrong(dovecot, host, problem):
    """
    Each bad certificate is refused for the one reason it is there for.
    """
    with pytest.raises(ssl.SSLCertVerificationError, match=problem):
        handshake(dovecot, host)


def test_every_kind_of_letter_is_served_as_foretold(dovecot):
    """
    `Letter.served` is, octet for octet, what Dovecot sends.
    """
    user = dovecot.add_user()
    expected = [*letters(len(KINDS)), EMPTY]
    user.deliver(letter.stored for letter in expected)
    actual = fetch_raw(dovecot.ports.pop3s, user.name, user.password, dovecot.ca_file)
    assert len(expected) == len(actual)
    for letter, octets in zip(expected, actual, strict=True):
        assert (letter.kind, letter.served) == (letter.kind, octets)


def test_the_listing_is_as_foretold(dovecot):
    """
    `Letter.listed` is what LIST says, whether or not RETR agrees.
    """
    user = dovecot.add_user()
    expected = list(letters(len(KINDS), seed=2))
    user.deliver(letter.stored for letter in expected)
    pop3 = poplib.POP3(HOST, dovecot.ports.pop3, timeout=10)
    pop3.user(user.name)
    pop3.pass_(user.password)
    listed = [int(line.split()[1]) for line in pop3.list()[1]]
    pop3.quit()
    assert [letter.listed for letter in expected] == listed


def test_a_maildrop_counts_and_shows_what_was_delivered(dovecot):
    """
    The files, IMAP's count and the octets agree with the delivery.
    """
    user = dovecot.add_user()
    user.deliver([b"Subject: 1\n\n", b"Subject: 2\r\n\r\n"])
    assert user.count() == 2
    assert dovecot.imap_count(user) == 2
    assert user.contents() == [b"Subject: 1\n\n", b"Subject: 2\r\n\r\n"]


def test_a_maildir_made_elsewhere_can_be_served(dovecot, tmp_path):
    """
    A copy of any maildir becomes a maildrop that Dovecot counts.
    """
    for folder in ("tmp", "new", "cur"):
        (tmp_path / folder).mkdir()
    (tmp_path / "new" / "1.a.b,S=12").write_bytes(b"Subject: x\n\n")
    (tmp_path / "cur" / "2.a.b,S=12:2,S").write_bytes(b"Subject: y\n\n")
    user = dovecot.add_user(maildir=tmp_path)
    assert dovecot.imap_count(user) == 2


def test_dovecot_ends_a_response_at_a_lone_dot_that_comes_first(dovecot):
    """
    The one letter that Dovecot 2.3 cannot serve: what follows its dot poses as replies.
    """
    user = dovecot.add_user()
    user.deliver([UNSERVABLE.stored])
    raw = Raw(HOST, dovecot.ports.pop3s, dovecot.ca_file)
    with raw.socket:
        for line in (f"USER {user.name}", f"PASS {user.password}", "RETR 1"):
            raw.command(line)
        assert b"" == raw.body()
        assert b"+OK" == raw.reply()  # a line of the letter


def test_apop_and_a_wrong_password(dovecot):
    """
    The greeting holds a timestamp that APOP works with; a wrong password gets [AUTH].
    """
    user = dovecot.add_user()
    pop3 = poplib.POP3(HOST, dovecot.ports.pop3, timeout=10)
    with pytest.raises(poplib.error_proto, match=r"-ERR \[AUTH\]"):
        pop3.apop(user.name, "wrong")
    assert pop3.apop(user.name, user.password).startswith(b"+OK")
    pop3.quit()


def test_a_dovecot_that_cannot_start_says_why(dovecot):
    """
    A setting that Dovecot refuses ends in an error that holds its own words.
    """
    with (
        pytest.raises(RuntimeError, match="no_such_setting"),
        running("no_such_setting = yes\n"),
    ):
        pass
