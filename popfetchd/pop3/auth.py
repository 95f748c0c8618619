"""
Who we are, as octets: the mechanisms of AUTH, and APOP's digest.

Rules of this file:

- Bytes in, bytes out; nothing here knows a channel, a session or a log.
- No object here shows its secret: no dataclass, no repr that holds a field.
- Base64 is strict: what a server sends beside it is no challenge (RFC 5034 §4).
- No mechanism with a challenge of its own form (NTLM, RPA, MSN): those parsers were where
  other clients broke.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from typing import Protocol

from popfetchd.errors import ProtocolViolation


MOST_CHALLENGES = 8
"""Challenges in one AUTH: no mechanism needs more than 3; a server may not go on forever."""


class SaslMechanism(Protocol):
    """
    One exchange of RFC 4422. A new one is made for each login.
    """

    name: str
    """As SASL spells it in CAPA, e.g. PLAIN."""

    def initial(self) -> bytes | None:
        """
        Return the initial response; None where the server has to begin.
        """
        ...

    def respond(self, challenge: bytes) -> bytes:
        """
        Return the answer to *challenge*. Raises RemoteError when it is out of order.
        """
        ...


class Plain:
    """
    PLAIN (RFC 4616): all that there is to say is said first.
    """

    name = "PLAIN"

    def __init__(self, user: bytes, password: bytes) -> None:
        self._message = plain(user, password)

    def initial(self) -> bytes:
        """
        Return the whole message.
        """
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        """
        Raises ProtocolViolation: PLAIN has no challenge.
        """
        raise ProtocolViolation("AUTH", "a challenge where PLAIN has none", challenge)


def plain(user: bytes, password: bytes) -> bytes:
    """
    Return the message of PLAIN, without an authorization identity (RFC 4616 §2).

    Neither *user* nor *password* may hold NUL; the caller has made sure.
    """
    return b"\0".join((b"", user, password))


def apop(timestamp: bytes, password: bytes) -> bytes:
    """
    Return APOP's digest, 32 lower-case hexadecimal digits (RFC 1939 §7).

    *timestamp* is the greeting's, with its brackets.
    """
    digest = hashlib.md5(timestamp + password, usedforsecurity=False)
    return digest.hexdigest().encode()


def encode(message: bytes) -> bytes:
    """
    Return *message* in base64.
    """
    return base64.b64encode(message)


def encode_initial(message: bytes) -> bytes:
    """
    Return an initial response in base64; an empty one is `=` (RFC 5034 §4).
    """
    return encode(message) or b"="


def decode(challenge: bytes) -> bytes:
    """
    Return the octets of a *challenge*. Raises ProtocolViolation when it is no base64.
    """
    try:
        return base64.b64decode(challenge, validate=True)
    except binascii.Error:
        raise ProtocolViolation("AUTH", "no base64", challenge) from None
