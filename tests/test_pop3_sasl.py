"""
Mechanisms as octets: the RFCs' own examples, and what is refused.
"""

from __future__ import annotations

import base64

from collections.abc import Callable
from contextlib import suppress

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.errors import (
    LimitExceeded,
    NoMechanism,
    ProtocolViolation,
    RemoteError,
)
from popfetchd.pop3 import sasl
from popfetchd.pop3.sasl import prep, scram


# -- base64 ---------------------------------------------------------------------------


def test_an_empty_initial_response_is_an_equals_sign() -> None:
    """RFC 5034 §4: `=` tells an empty initial response from none."""
    assert (b"=", b"eA==") == (sasl.encode_initial(b""), sasl.encode_initial(b"x"))


@given(st.binary())
def test_base64_comes_back(octets: bytes) -> None:
    """What is encoded is decoded."""
    assert octets == sasl.decode(sasl.encode(octets))


@pytest.mark.parametrize(
    "challenge",
    [b"go ahead", b"eA=", b"eA", b"e A==", b"eA==\r", b"=", b"\xff\xff\xff\xff"],
)
def test_what_is_no_base64(challenge: bytes) -> None:
    """A challenge in sloppy base64 is refused, not guessed at (RFC 5034 §4)."""
    with pytest.raises(ProtocolViolation, match="AUTH: no base64"):
        sasl.decode(challenge)


# -- PLAIN, LOGIN, CRAM-MD5, EXTERNAL -------------------------------------------------


def test_plain_as_rfc_4616_has_it() -> None:
    """RFC 4616 §4's message, which has no authorization identity, and its base64."""
    plain = sasl.Plain(b"tim", b"tanstaaftanstaaf")
    assert ("PLAIN", b"\0tim\0tanstaaftanstaaf") == (plain.name, plain.initial())
    shorter = sasl.Plain(b"tim", b"tanstaaf").initial()
    assert b"AHRpbQB0YW5zdGFhZg==" == sasl.encode(shorter)


def test_plain_takes_any_octets_but_nul() -> None:
    """Names and passwords are UTF-8 octets, blanks among them."""
    plain = sasl.Plain("jörg".encode(), b"p w")
    assert b"\0j\xc3\xb6rg\0p w" == plain.initial()


def test_plain_says_all_at_first() -> None:
    """A challenge is nonsense where all has been said; +OK is the end."""
    plain = sasl.Plain(b"u", b"p")
    plain.finish()
    with pytest.raises(ProtocolViolation, match="a challenge where PLAIN has none"):
        plain.respond(b"more")


def test_login() -> None:
    """LOGIN waits to be asked, then gives the name, then the password."""
    login = sasl.Login(b"mary", b"a secret")
    assert ("LOGIN", None) == (login.name, login.initial())
    assert [b"mary", b"a secret"] == [login.respond(b""), login.respond(b"x")]
    with pytest.raises(ProtocolViolation, match="a third challenge"):
        login.respond(b"Password:")


def test_cram_md5_as_rfc_2195_has_it() -> None:
    """The answer of RFC 2195 §2's example."""
    cram = sasl.CramMd5(b"tim", b"tanstaaftanstaaf")
    assert cram.initial() is None
    answer = cram.respond(b"<1896.697170952@postoffice.reston.mci.net>")
    assert b"tim b913a602c7eda7a495b4e6e7334d3890" == answer


def test_external() -> None:
    """EXTERNAL says whose maildrop is wanted, and has nothing to prove."""
    external = sasl.External(b"mary")
    assert ("EXTERNAL", b"mary") == (external.name, external.initial())
    with pytest.raises(ProtocolViolation, match="a challenge where EXTERNAL has none"):
        external.respond(b"")


# -- access tokens --------------------------------------------------------------------


def test_oauthbearer_as_rfc_7628_has_it() -> None:
    """The message of RFC 7628 §4.1's example, in the port of that example."""
    token = b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
    bearer = sasl.OAuthBearer(b"user@example.com", token, b"server.example.com", 143)
    assert (
        b"bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1"
        b"dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
    ) == sasl.encode(bearer.initial())


def test_oauthbearer_escapes_the_user() -> None:
    """`=` and `,` would end the name (RFC 7628 §3.1: a saslname)."""
    bearer = sasl.OAuthBearer(b"a=b,c", b"t", b"h", 1)
    assert bearer.initial().startswith(b"n,a=a=3Db=2Cc,\1host=h\1port=1\1")


def test_xoauth2_as_google_has_it() -> None:
    """The initial response of the example in Google's description."""
    bearer = sasl.XOAuth2(
        b"someuser@example.com", b"ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"
    )
    assert (
        b"dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52"
        b"YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ=="
    ) == sasl.encode(bearer.initial())


@pytest.mark.parametrize(
    ("bearer", "regret"),
    [
        (sasl.OAuthBearer(b"u", b"t", b"h", 1), b"\1"),
        (sasl.XOAuth2(b"u", b"t"), b""),
    ],
)
def test_a_token_that_is_refused(bearer: sasl.SaslMechanism, regret: bytes) -> None:
    """The challenge that says why is kept and answered, once; no +OK can follow."""
    assert not bearer.ahead
    bearer.finish()
    assert (regret, b'{"status":"401"}') == (
        bearer.respond(b'{"status":"401"}'),
        bearer.told,
    )
    with pytest.raises(ProtocolViolation, match="a second challenge"):
        bearer.respond(b"")
    with pytest.raises(ProtocolViolation, match="behind a refusal"):
        bearer.finish()


# -- SCRAM ----------------------------------------------------------------------------

NONCE_1, NONCE_256 = b"fyko+d2lbbFgONRv9qkxdawL", b"rOprNGfwEbeRWgbNEkqO"
FIRST_1 = b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
FIRST_256 = (
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)


def test_scram_sha_1_as_rfc_5802_has_it() -> None:
    """The exchange of RFC 5802 §5."""
    exchange = sasl.Scram("sha1", "user", "pencil", NONCE_1)
    assert "SCRAM-SHA-1" == exchange.name
    assert b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL" == exchange.initial()
    assert (
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,"
        b"p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
    ) == exchange.respond(FIRST_1)
    assert b"" == exchange.respond(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")
    exchange.finish()


def test_scram_sha_256_as_rfc_7677_has_it() -> None:
    """The exchange of RFC 7677 §3."""
    exchange = sasl.Scram("sha256", "user", "pencil", NONCE_256)
    assert "SCRAM-SHA-256" == exchange.name
    assert b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO" == exchange.initial()
    assert (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    ) == exchange.respond(FIRST_256)
    final = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=,x=any extension"
    assert b"" == exchange.respond(final)
    exchange.finish()
    with pytest.raises(ProtocolViolation, match="behind the last of SCRAM-SHA-256"):
        exchange.respond(final)


@pytest.mark.parametrize(
    "final",
    [
        b"",
        b"v=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4",
        b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4= ",
        FIRST_256,
    ],
)
def test_a_server_that_does_not_prove_itself(final: bytes) -> None:
    """Whatever is not the signature ends the exchange, and +OK would not count."""
    exchange = sasl.Scram("sha256", "user", "pencil", NONCE_256)
    exchange.respond(FIRST_256)
    with pytest.raises(ProtocolViolation):
        exchange.respond(final)
    with pytest.raises(ProtocolViolation, match="without the server's signature"):
        exchange.finish()


@pytest.mark.parametrize("iterations", [0, 1, 4095, scram.MOST_ITERATIONS + 1])
def test_iterations_are_bounded(iterations: int) -> None:
    """Neither is guessing made cheap, nor our processor kept busy."""
    exchange = sasl.Scram("sha256", "user", "pencil", NONCE_256)
    first = FIRST_256.replace(b"i=4096", b"i=%d" % iterations)
    with pytest.raises((ProtocolViolation, NoMechanism, LimitExceeded)):
        exchange.respond(first)


def test_scram_prepares_and_escapes() -> None:
    """The name is a saslname, prepared; so is the password (RFC 5802 §5.1, §2.2)."""
    one = sasl.Scram("sha256", "a=b,\N{SOFT HYPHEN}c", "p\N{NO-BREAK SPACE}w", b"r")
    assert b"n,,n=a=3Db=2Cc,r=r" == one.initial()
    two = sasl.Scram("sha256", "a=b,c", "p w", b"r")
    first = b"r=rs,s=QSXCR+Q6sek8bf92,i=4096"
    assert one.respond(first) == two.respond(first)


@pytest.mark.parametrize(
    ("user", "password", "problem"),
    [
        ("a\x07", "tiger", "the user name holds a character that SASLprep prohibits"),
        ("a", "p\N{PILE OF POO}", "the password holds .* newer than SASLprep"),
        ("a", "\N{SOFT HYPHEN}", "the password is empty once prepared"),
        ("a", "\N{ARABIC LETTER ALEF}1", "the password mixes directions"),
    ],
)
def test_what_scram_cannot_say(user: str, password: str, problem: str) -> None:
    """Credentials that SASLprep refuses are refused, and not repeated."""
    with pytest.raises(ValueError, match=problem) as caught:
        sasl.Scram("sha1", user, password, b"r")
    assert password not in str(caught.value)


# -- SASLprep -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u1680b", "a b"),
        ("\u0627\u0628", "\u0627\u0628"),
    ],
)
def test_saslprep_as_rfc_4013_has_it(text: str, prepared: str) -> None:
    """The examples of RFC 4013 §3, a strange blank, and a word from right to left."""
    assert prepared == prep.saslprep(text, stored=True)


@pytest.mark.parametrize("text", ["\u0007", "\u0627\u0031", "\u0627a\u0628", "\ue000"])
def test_what_saslprep_refuses(text: str) -> None:
    """The examples of RFC 4013 §3 that are errors, and two more."""
    with pytest.raises(ValueError, match="SASLprep"):
        prep.saslprep(text, stored=False)


def test_a_query_may_hold_newer_signs() -> None:
    """What Unicode 3.2 had not is refused in what is stored only (RFC 3454 §7)."""
    assert "\U0001f4a9" == prep.saslprep("\U0001f4a9", stored=False)


# -- any challenge --------------------------------------------------------------------

MAKERS: dict[str, Callable[[], sasl.SaslMechanism]] = {
    "PLAIN": lambda: sasl.Plain(b"u", b"tiger"),
    "LOGIN": lambda: sasl.Login(b"u", b"tiger"),
    "CRAM-MD5": lambda: sasl.CramMd5(b"u", b"tiger"),
    "EXTERNAL": lambda: sasl.External(b"u"),
    "SCRAM-SHA-1": lambda: sasl.Scram("sha1", "u", "tiger", NONCE_1),
    "SCRAM-SHA-256": lambda: sasl.Scram("sha256", "u", "tiger", NONCE_1),
    "XOAUTH2": lambda: sasl.XOAuth2(b"u", b"tiger"),
    "OAUTHBEARER": lambda: sasl.OAuthBearer(b"u", b"tiger", b"h", 995),
}
each_mechanism = pytest.mark.parametrize("make", MAKERS.values(), ids=list(MAKERS))


def scram_like() -> st.SearchStrategy[bytes]:
    """
    Draw what looks like a message of SCRAM, more or less.
    """
    salt = st.binary().map(base64.b64encode) | st.binary()
    number = st.integers(-1, 5000).map(lambda n: b"%d" % n) | st.binary(max_size=4)
    field = st.tuples(st.sampled_from([b"r", b"s", b"i", b"m", b"e", b"v"]), salt)
    fields = st.lists(field, max_size=5).map(
        lambda them: b",".join(b"=".join(one) for one in them)
    )
    first = st.tuples(st.binary(), salt, number).map(
        lambda it: b"r=%b%b,s=%b,i=%b" % (NONCE_1, *it)
    )
    return fields | first


@each_mechanism
@given(challenges=st.lists(st.binary() | scram_like(), max_size=4))
def test_any_challenge(
    make: Callable[[], sasl.SaslMechanism], challenges: list[bytes]
) -> None:
    """Any challenges, in any order: an answer or a RemoteError, and no other exception."""
    exchange = make()
    exchange.initial()
    with suppress(RemoteError):
        for challenge in challenges:
            assert isinstance(exchange.respond(challenge), bytes)
        exchange.finish()


@each_mechanism
@given(line=st.binary())
def test_any_line(make: Callable[[], sasl.SaslMechanism], line: bytes) -> None:
    """Any octets behind the `+`: an answer or a RemoteError."""
    with suppress(RemoteError):
        make().respond(sasl.decode(line))


@each_mechanism
def test_no_mechanism_shows_its_secret(
    make: Callable[[], sasl.SaslMechanism],
) -> None:
    """No repr of a mechanism holds a password or a token."""
    assert "tiger" not in repr(make())
