"""
What a mechanism is, and how its messages stand on the line.

Rules of this file, and of every mechanism:

- Bytes in, bytes out; nothing here knows a channel, a session or a log.
- No object here shows its secret: no dataclass, no repr that holds a field.
- Any challenge gets an answer or raises RemoteError; nothing else is ever raised.
- Base64 is strict: what a server sends beside it is no challenge (RFC 5034 §4).
- No mechanism with a challenge of its own form (NTLM, RPA, MSN): those parsers were where
  other clients broke.
"""

from __future__ import annotations

import base64
import binascii

from abc import ABC, abstractmethod

from popfetchd.errors import ProtocolViolation


MOST_CHALLENGES = 8
"""Challenges in one AUTH: no mechanism needs more than 3; a server may not go on forever."""

CANCEL = b"*"
"""What ends an exchange whose challenge makes no sense (RFC 5034 §4)."""


class SaslMechanism(ABC):
    """
    One exchange of RFC 4422. A new one is made for each login.
    """

    name: str
    """As SASL spells it in CAPA, e.g. PLAIN."""

    ahead = True
    """Whether the initial response may stand in the line of AUTH, where it fits."""

    whole = False
    """Whether the initial response is all that there is to say."""

    told = b""
    """Why the server refuses, as far as it told in a challenge; decoded, not escaped."""

    @abstractmethod
    def initial(self) -> bytes | None:
        """
        Return the initial response; None where the server has to begin.
        """

    def respond(self, challenge: bytes) -> bytes:
        """
        Return the answer to *challenge*. Raises RemoteError when it is out of order.
        """
        raise self.nonsense("a challenge where {} has none", challenge)

    def finish(self) -> None:  # noqa: B027 -- most have nothing to look at
        """
        Take notice of +OK. Raises RemoteError when it came before the server's own proof.
        """

    def nonsense(self, problem: str, challenge: bytes = b"") -> ProtocolViolation:
        """
        Return the error that *challenge* is; `{}` in *problem* is the mechanism's name.
        """
        return ProtocolViolation("AUTH", problem.format(self.name), challenge)


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
