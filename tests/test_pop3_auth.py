"""
Who we are and how to say so: the choice of a mechanism, and what cannot be said.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.errors import NoMechanism
from popfetchd.pop3 import auth
from popfetchd.pop3.auth import Credentials
from popfetchd.pop3.replies import Capabilities
from popfetchd.values import (
    AccessToken,
    Mechanism,
    Secret,
    Server,
    TlsMode,
    TlsPolicy,
)


SERVER = Server("pop.example.net", 995, TlsPolicy(), 1.0)
EVERYTHING = (
    b"USER\r\nSASL EXTERNAL GSSAPI CRAM-MD5 LOGIN PLAIN XOAUTH2 OAUTHBEARER "
    b"SCRAM-SHA-1 SCRAM-SHA-256 SCRAM-SHA-256-PLUS\r\n"
)

TOKENS = [Mechanism.XOAUTH2, Mechanism.OAUTHBEARER]
NAMED = [m for m in Mechanism if m not in {*TOKENS, Mechanism.AUTO}]


def credentials(
    user: str = "mary", secret: Secret | None = None, wanted: Mechanism = Mechanism.AUTO
) -> Credentials:
    return Credentials(user, secret or Secret("a secret"), wanted)


def chosen(
    offered: bytes, who: Credentials | None = None, *, tls: bool = True
) -> Mechanism:
    capabilities = Capabilities.parse(offered)
    return auth.choose(Mechanism.AUTO, who or credentials(), capabilities, tls=tls)


# -- which ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "in_tls", "in_clear"),
    [
        (EVERYTHING, "scram-sha-256", "scram-sha-256"),
        (b"SASL PLAIN SCRAM-SHA-1", "scram-sha-1", "scram-sha-1"),
        (b"SASL CRAM-MD5 PLAIN LOGIN\nUSER", "plain", "cram-md5"),
        (b"sasl login plain", "plain", "plain"),
        (b"SASL CRAM-MD5 LOGIN", "login", "cram-md5"),
        (b"SASL CRAM-MD5\nUSER", "cram-md5", "cram-md5"),
        (b"SASL EXTERNAL NTLM XOAUTH2", "user", "user"),
        (b"USER", "user", "user"),
        (b"", "user", "user"),
    ],
)
def test_what_auto_takes(offered: bytes, in_tls: str, in_clear: str) -> None:
    """The strongest that is offered, by what protects the password on this channel."""
    assert (in_tls, in_clear) == (chosen(offered), chosen(offered, tls=False))


@pytest.mark.parametrize(
    ("offered", "mechanism"),
    [
        (EVERYTHING, "oauthbearer"),
        (b"SASL PLAIN XOAUTH2\nUSER", "xoauth2"),
    ],
)
def test_what_auto_takes_for_a_token(offered: bytes, mechanism: str) -> None:
    """A token goes by the mechanisms of tokens, the standard's first."""
    assert mechanism == chosen(offered, credentials(secret=AccessToken("t")))


@pytest.mark.parametrize(
    ("offered", "seen"),
    [
        (b"SASL PLAIN LOGIN", "'LOGIN, PLAIN'"),
        (b"SASL \x1b[2J", r"'\\x1b\[2J'"),
        (b"", "nothing"),
    ],
)
def test_no_mechanism_for_a_token(offered: bytes, seen: str) -> None:
    """A token is never sent in a password's place."""
    problem = f"the server lists neither OAUTHBEARER nor XOAUTH2 but {seen}"
    with pytest.raises(NoMechanism, match=problem):
        chosen(offered, credentials(secret=AccessToken("t")))


@given(
    words=st.lists(st.sampled_from([m.upper() for m in Mechanism]) | st.text()),
    token=st.booleans(),
    tls=st.booleans(),
)
def test_auto_takes_what_is_listed(words: list[str], token: bool, tls: bool) -> None:
    """
    Whatever a server lists: AUTO takes something of it that fits the secret, else USER for
    a password and nothing for a token.
    """
    offered = Capabilities({"SASL": tuple(words)})
    who = credentials(secret=AccessToken("t") if token else None)
    if token and offered.sasl.isdisjoint(m.upper() for m in TOKENS):
        with pytest.raises(NoMechanism) as caught:
            auth.choose(Mechanism.AUTO, who, offered, tls=tls)
        assert str(caught.value).isprintable()
        return
    taken = auth.choose(Mechanism.AUTO, who, offered, tls=tls)
    assert token is (taken in TOKENS)
    assert taken is Mechanism.USER or taken.upper() in offered.sasl


@pytest.mark.parametrize("wanted", NAMED)
def test_what_is_named_is_taken(wanted: Mechanism) -> None:
    """A mechanism that the operator names is tried, listed or not."""
    assert wanted is auth.choose(wanted, credentials(), Capabilities(), tls=True)


@pytest.mark.parametrize("wanted", TOKENS)
def test_tokens_and_passwords_are_not_confused(wanted: Mechanism) -> None:
    """Neither is a password sent as a token, nor a token as a password."""
    token = credentials(secret=AccessToken("t"))
    assert wanted is auth.choose(wanted, token, Capabilities(), tls=True)
    with pytest.raises(NoMechanism, match="it takes an access token, and there is"):
        auth.choose(wanted, credentials(), Capabilities(), tls=True)
    with pytest.raises(NoMechanism, match="plain: it takes a password, and there is"):
        auth.choose(Mechanism.PLAIN, token, Capabilities(), tls=True)


@pytest.mark.parametrize(
    ("user", "password"), [("jörg", "a secret"), ("mary", "schlüssel")]
)
def test_utf_8_in_user_and_pass(user: str, password: str) -> None:
    """Only where it is announced, or the operator names USER (RFC 6856 §2.2)."""
    who = credentials(user, Secret(password))
    assert "plain" == chosen(b"SASL PLAIN", who)
    assert "user" == chosen(b"UTF8 user", who)
    for offered in (b"", b"USER", b"UTF8"):
        with pytest.raises(NoMechanism, match="`auth: user` sends UTF-8 all the same"):
            chosen(offered, who)
    assert "user" == auth.choose(Mechanism.USER, who, Capabilities(), tls=True)


# -- how ------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", Mechanism)
def test_each_mechanism_of_auth_has_its_exchange(mechanism: Mechanism) -> None:
    """The exchange is named as the operator names it; APOP and USER have none."""
    policy = TlsPolicy(client_cert=Path("/cert.pem"))
    server = Server("pop.example.net", 995, policy, 1.0)
    made = auth.exchange(mechanism, credentials(), server)
    none = {Mechanism.AUTO, Mechanism.USER, Mechanism.APOP}
    assert (None if mechanism in none else mechanism.upper()) == (made and made.name)


def test_oauthbearer_names_the_server() -> None:
    """Host and port stand in the message, the host as DNS has it (RFC 7628 §3.1)."""
    server = Server("pöp.example.net", 110, TlsPolicy(), 1.0)
    who = credentials(secret=AccessToken("t"))
    made = auth.exchange(Mechanism.OAUTHBEARER, who, server)
    assert made
    assert b"\1host=xn--pp-fka.example.net\1port=110\1" in (made.initial() or b"")


@pytest.mark.parametrize(
    "policy", [TlsPolicy(), TlsPolicy(TlsMode.NONE, client_cert=Path("/cert.pem"))]
)
def test_external_needs_a_certificate(policy: TlsPolicy) -> None:
    """Without a certificate in TLS there is nothing that EXTERNAL could mean."""
    server = Server("h", 995, policy, 1.0)
    with pytest.raises(NoMechanism, match="there is no `client_cert` to show"):
        auth.exchange(Mechanism.EXTERNAL, credentials(), server)


def test_what_scram_cannot_say() -> None:
    """A password that SASLprep refuses is told, and not repeated."""
    who = credentials(secret=Secret("tiger\x07"))
    with pytest.raises(NoMechanism, match="the password holds a character") as caught:
        auth.exchange(Mechanism.SCRAM_SHA_256, who, SERVER)
    assert "tiger" not in str(caught.value)


@pytest.mark.parametrize(
    ("mechanism", "secret"),
    [
        (Mechanism.XOAUTH2, AccessToken("t" * 9999)),
        (Mechanism.LOGIN, Secret("p" * 9999)),
    ],
)
def test_credentials_that_fit_no_answer(mechanism: Mechanism, secret: Secret) -> None:
    """What no server has to take is not sent (RFC 4954 §4: 12,288 octets)."""
    with pytest.raises(NoMechanism, match="an answer of over 12288 octets"):
        auth.exchange(mechanism, credentials(secret=secret), SERVER)


@pytest.mark.parametrize("octet", ["\r", "\n", "\0", "\1", "\ud800"])
def test_what_cannot_be_sent(octet: str) -> None:
    """What would end a command or a field is refused, before anything is sent."""
    with pytest.raises(NoMechanism, match="the user name holds what cannot be sent"):
        credentials("mary" + octet, AccessToken("t"))
    with pytest.raises(NoMechanism, match="the access token holds") as caught:
        credentials(secret=AccessToken("tiger" + octet))
    assert "tiger" not in str(caught.value)


def test_control_a_in_a_password() -> None:
    """What divides the fields of a token's message is a sign like others elsewhere."""
    assert b"x\1" == credentials(secret=Secret("x\1")).proof


def test_credentials_do_not_show() -> None:
    """No repr holds a password."""
    assert "tiger" not in repr(credentials(secret=Secret("tiger")))


def test_no_nonce_comes_twice() -> None:
    """What SCRAM's proof depends on is new each time, and fits its grammar."""
    nonces = {auth.new_nonce() for _ in range(100)}
    assert (100, {24}) == (len(nonces), {len(nonce) for nonce in nonces})
    assert not any(b"," in nonce for nonce in nonces)


# -- APOP -----------------------------------------------------------------------------


def test_apop_as_rfc_1939_has_it() -> None:
    """The digest of RFC 1939 §7's example."""
    who = credentials("mrose", Secret("tanstaaf"))
    name, digest = auth.apop(b"<1896.697170952@dbc.mtview.ca.us>", who)
    assert (b"mrose", b"c4c9334bac560ecc979e58001b3e22fb") == (name, digest)


def test_apop_prepares_utf_8() -> None:
    """Name and password are prepared, where they are not ASCII (RFC 6856 §2.2)."""
    one = auth.apop(b"<1@h>", credentials("jo\u0308rg", Secret("\u2168")))
    assert "jörg".encode() == one[0]
    assert auth.apop(b"<1@h>", credentials("jörg", Secret("IX"))) == one
    with pytest.raises(NoMechanism, match="a credential holds a character"):
        auth.apop(b"<1@h>", credentials("jörg", Secret("\x07")))
