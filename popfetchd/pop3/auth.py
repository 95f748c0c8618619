"""
Who we are, and how to say so: credentials, the choice of a mechanism, APOP's digest.

Rules of this file:

- Nothing here knows a channel's socket, a session or a log; octets and words only.
- No object here shows its secret: no dataclass, no repr that holds a field.
- A mechanism that the operator named is the only one that is tried, whether or not the
  server lists it. AUTO takes one that the server lists, once, by `choose`; what was
  refused is never followed by a weaker one: who can refuse could have us send the
  password after all.
- What cannot be said in a mechanism raises NoMechanism before anything is sent.

What AUTO takes: with an access token OAUTHBEARER, else XOAUTH2, else nothing. With a
password SCRAM, which sends none; then PLAIN and LOGIN, which the channel protects; USER
where nothing of these is listed. CRAM-MD5 stands before PLAIN where the operator wrote
`tls: none`, and behind LOGIN in TLS: a server that keeps passwords hashed may offer it, and
cannot do it. APOP and EXTERNAL are taken only when named (CVE-2007-1558; a certificate may
be there for the channel alone).
"""

from __future__ import annotations

import base64
import hashlib
import os

from typing import Literal

from popfetchd.errors import NoMechanism, quote
from popfetchd.pop3.multiline import CRLF
from popfetchd.pop3.protocol import LONGEST_ANSWER
from popfetchd.pop3.replies import Capabilities
from popfetchd.pop3.sasl import (
    CramMd5,
    External,
    Login,
    OAuthBearer,
    Plain,
    SaslMechanism,
    Scram,
    XOAuth2,
    encode,
)
from popfetchd.values import AccessToken, Mechanism, Secret, Server, TlsMode


TOKEN_MECHANISMS = (Mechanism.OAUTHBEARER, Mechanism.XOAUTH2)
"""What takes an access token; the standard before the precursor."""

_SCRAM = (Mechanism.SCRAM_SHA_256, Mechanism.SCRAM_SHA_1)
_OPEN = (Mechanism.PLAIN, Mechanism.LOGIN)

PREFERRED_IN_TLS = (*_SCRAM, *_OPEN, Mechanism.CRAM_MD5)
"""What a password is sent by, where the channel protects it."""

PREFERRED_IN_CLEAR = (*_SCRAM, Mechanism.CRAM_MD5, *_OPEN)
"""The same, where anybody on the way can listen."""

NONCE_OCTETS = 18
"""Of chance in a nonce of SCRAM: 24 characters, as in the examples of RFC 5802."""


class Credentials:
    """
    A user name and its proof, each one line of UTF-8.

    *wanted* is what the operator asks for. Raises NoMechanism when one of the two cannot
    be sent.
    """

    def __init__(self, user: str, secret: Secret, wanted: Mechanism) -> None:
        self.user = user
        self.secret = secret.reveal()
        self.is_token = isinstance(secret, AccessToken)
        # ^A divides the fields of a token's message (RFC 7628 §3.1).
        unfit = "\r\n\0\1" if self.is_token else "\r\n\0"
        self.name = _octets(wanted, "user name", user, unfit)
        what = "access token" if self.is_token else "password"
        self.proof = _octets(wanted, what, self.secret, unfit)

    @property
    def ascii(self) -> bool:
        """
        Whether nothing but ASCII is to be sent.
        """
        return self.user.isascii() and self.secret.isascii()


def _octets(wanted: Mechanism, what: str, text: str, unfit: str) -> bytes:
    try:
        if not any(sign in text for sign in unfit):
            return text.encode()
    except UnicodeEncodeError:
        pass  # a lone surrogate: no more sendable than a NUL
    raise NoMechanism(wanted, f"the {what} holds what cannot be sent")


# -- which ----------------------------------------------------------------------------


def choose(
    wanted: Mechanism, credentials: Credentials, offered: Capabilities, *, tls: bool
) -> Mechanism:
    """
    Return the mechanism to use, never AUTO. Raises NoMechanism when there is none.
    """
    if wanted is not Mechanism.AUTO:
        return _fitting(wanted, credentials)
    if credentials.is_token:
        return _listed(TOKEN_MECHANISMS, offered) or _none(TOKEN_MECHANISMS, offered)
    preferred = PREFERRED_IN_TLS if tls else PREFERRED_IN_CLEAR
    if found := _listed(preferred, offered):
        return found
    # RFC 6856 §2.2: no UTF-8 in USER and PASS unless the server says that it takes it.
    if not (credentials.ascii or offered.utf8_user):
        problem = "the server takes ASCII only; `auth: user` sends UTF-8 all the same"
        raise NoMechanism(wanted, problem)
    return Mechanism.USER


def _fitting(wanted: Mechanism, credentials: Credentials) -> Mechanism:
    takes_token = wanted in TOKEN_MECHANISMS
    if takes_token is not credentials.is_token and wanted is not Mechanism.EXTERNAL:
        kind = "an access token" if takes_token else "a password"
        raise NoMechanism(wanted, f"it takes {kind}, and there is none")
    return wanted


def _listed(
    mechanisms: tuple[Mechanism, ...], offered: Capabilities
) -> Mechanism | None:
    return next((m for m in mechanisms if m.upper() in offered.sasl), None)


def _none(mechanisms: tuple[Mechanism, ...], offered: Capabilities) -> Mechanism:
    names = " nor ".join(m.upper() for m in mechanisms)
    seen = quote(", ".join(sorted(offered.sasl))) if offered.sasl else "nothing"
    problem = f"the server lists neither {names} but {seen}"
    raise NoMechanism(Mechanism.AUTO, problem)


# -- how ------------------------------------------------------------------------------


def exchange(
    mechanism: Mechanism, credentials: Credentials, server: Server
) -> SaslMechanism | None:
    """
    Return an exchange of *mechanism*; None where it is no mechanism of AUTH.

    Raises NoMechanism when the credentials cannot be said in it.
    """
    name, proof = credentials.name, credentials.proof
    made: SaslMechanism
    match mechanism:
        case Mechanism.PLAIN:
            made = Plain(name, proof)
        case Mechanism.LOGIN:
            made = Login(name, proof)
        case Mechanism.CRAM_MD5:
            made = CramMd5(name, proof)
        case Mechanism.SCRAM_SHA_1 | Mechanism.SCRAM_SHA_256:
            made = _scram(mechanism, credentials)
        case Mechanism.XOAUTH2:
            made = XOAuth2(name, proof)
        case Mechanism.OAUTHBEARER:
            made = OAuthBearer(name, proof, server.host.encode("idna"), server.port)
        case Mechanism.EXTERNAL:
            made = _external(name, server)
        case _:
            return None
    longest = max(proof, made.initial() or b"", key=len)
    if len(encode(longest)) + len(CRLF) > LONGEST_ANSWER:
        problem = f"the credentials make an answer of over {LONGEST_ANSWER} octets"
        raise NoMechanism(mechanism, problem)
    return made


def _external(name: bytes, server: Server) -> External:
    if server.tls.mode is TlsMode.NONE or server.tls.client_cert is None:
        raise NoMechanism(Mechanism.EXTERNAL, "there is no `client_cert` to show")
    return External(name)


def new_nonce() -> bytes:
    """
    Return what no exchange of SCRAM has had before.
    """
    return base64.urlsafe_b64encode(os.urandom(NONCE_OCTETS)).rstrip(b"=")


def _scram(mechanism: Mechanism, credentials: Credentials) -> Scram:
    strong = mechanism is Mechanism.SCRAM_SHA_256
    algorithm: Literal["sha1", "sha256"] = "sha256" if strong else "sha1"
    try:
        return Scram(algorithm, credentials.user, credentials.secret, new_nonce())
    except ValueError as error:
        problem = f"{error}; name another mechanism, such as `auth: plain`"
        raise NoMechanism(mechanism, problem) from None


def apop(timestamp: bytes, credentials: Credentials) -> tuple[bytes, bytes]:
    """
    Return APOP's name and digest, 32 lower-case hexadecimal digits (RFC 1939 §7).

    *timestamp* is the greeting's, with its brackets. What is not ASCII is prepared first
    (RFC 6856 §2.2); raises NoMechanism when it cannot be.
    """
    name, password = credentials.name, credentials.proof
    if not credentials.ascii:
        name, password = _prepared(credentials)
    digest = hashlib.md5(timestamp + password, usedforsecurity=False)
    return name, digest.hexdigest().encode()


def _prepared(credentials: Credentials) -> tuple[bytes, bytes]:
    from popfetchd.pop3.sasl.prep import saslprep  # noqa: PLC0415 -- see the package

    try:
        name = saslprep(credentials.user, stored=False).encode()
        return name, saslprep(credentials.secret, stored=True).encode()
    except ValueError as error:
        raise NoMechanism(Mechanism.APOP, f"a credential {error}") from None
