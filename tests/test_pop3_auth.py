"""
Mechanisms as octets: the RFCs' own examples, and what is refused.
"""

from __future__ import annotations

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.errors import ProtocolViolation
from popfetchd.pop3 import auth


def test_plain_as_rfc_4616_has_it() -> None:
    """RFC 4616 §4's message, without an authorization identity; RFC 5034 §6's octets."""
    assert b"\0tim\0tanstaaftanstaaf" == auth.plain(b"tim", b"tanstaaftanstaaf")
    assert b"AHRpbQB0YW5zdGFhZg==" == auth.encode(auth.plain(b"tim", b"tanstaaf"))


def test_plain_takes_any_octets_but_nul() -> None:
    """Names and passwords are UTF-8 octets, blanks among them."""
    assert b"\0j\xc3\xb6rg\0p w" == auth.plain("jörg".encode(), b"p w")


def test_the_mechanism_says_all_at_first() -> None:
    """PLAIN's initial response is the whole message, and a challenge is nonsense."""
    mechanism: auth.SaslMechanism = auth.Plain(b"u", b"p")
    assert ("PLAIN", b"\0u\0p") == (mechanism.name, mechanism.initial())
    with pytest.raises(ProtocolViolation, match="a challenge where PLAIN has none"):
        mechanism.respond(b"more")


def test_the_mechanism_does_not_show_its_secret() -> None:
    """No repr of a mechanism holds a password."""
    assert "tiger" not in repr(auth.Plain(b"scott", b"tiger"))


def test_apop_as_rfc_1939_has_it() -> None:
    """The digest of RFC 1939 §7's example."""
    digest = auth.apop(b"<1896.697170952@dbc.mtview.ca.us>", b"tanstaaf")
    assert b"c4c9334bac560ecc979e58001b3e22fb" == digest


def test_an_empty_initial_response_is_an_equals_sign() -> None:
    """RFC 5034 §4: `=` tells an empty initial response from none."""
    assert (b"=", b"eA==") == (auth.encode_initial(b""), auth.encode_initial(b"x"))


@given(st.binary())
def test_base64_comes_back(octets: bytes) -> None:
    """What is encoded is decoded."""
    assert octets == auth.decode(auth.encode(octets))


@pytest.mark.parametrize(
    "challenge",
    [b"go ahead", b"eA=", b"eA", b"e A==", b"eA==\r", b"=", b"\xff\xff\xff\xff"],
)
def test_what_is_no_base64(challenge: bytes) -> None:
    """A challenge in sloppy base64 is refused, not guessed at (RFC 5034 §4)."""
    with pytest.raises(ProtocolViolation, match="AUTH: no base64"):
        auth.decode(challenge)
