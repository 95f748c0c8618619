"""
SCRAM-SHA-1 (RFC 5802) and SCRAM-SHA-256 (RFC 7677): both sides prove that they know.

Rules of this file:

- As in `exchange`. What the server sends is held against the grammar of §7, whole.
- The server's nonce must extend ours, and its signature must be right, before +OK counts.
- No channel binding, and the header says so (`n`): `tls-exporter`, the only type that TLS
  1.3 has (RFC 9266), cannot be had from Python's `ssl`.
- Ours and not a package: docs/adr/0003-dependencies.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from typing import Literal

from popfetchd.errors import LimitExceeded, NoMechanism
from popfetchd.pop3.sasl.bearer import saslname
from popfetchd.pop3.sasl.exchange import SaslMechanism


LEAST_ITERATIONS = 4096
"""What a server has to ask for at least (RFC 5802 §5.1, RFC 7677 §4): fewer would make it
cheap to try passwords on an exchange that somebody has seen."""

MOST_ITERATIONS = 1_000_000
"""What costs us a second of CPU. Servers use 4,096 to 20,000; advice on the keeping of
passwords ends at some 600,000."""

_GS2_HEADER = b"n,,"
"""No channel binding, no other authorization identity (§7)."""

_EXTENSIONS = rb"(?:,[A-Za-z]=[^,]*)*"
_SERVER_FIRST = re.compile(
    rb"r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,17})" + _EXTENSIONS
)
_SERVER_FINAL = re.compile(rb"v=([A-Za-z0-9+/=]+)" + _EXTENSIONS)


class Scram(SaslMechanism):
    """
    The client's side of one exchange: client-first, client-final, and the server's proof.

    *nonce* is printable ASCII without a comma, new in each exchange. Raises ValueError
    when user name or password cannot be prepared.
    """

    def __init__(
        self,
        algorithm: Literal["sha1", "sha256"],
        user: str,
        password: str,
        nonce: bytes,
    ) -> None:
        self.name = {"sha1": "SCRAM-SHA-1", "sha256": "SCRAM-SHA-256"}[algorithm]
        self._algorithm = algorithm
        self._nonce = nonce
        # §5.1: a query; §2.2, Normalize: a stored string.
        name = saslname(_prepared("user name", user, stored=False))
        self._password = _prepared("password", password, stored=True)
        self._first_bare = b"n=" + name + b",r=" + nonce
        self._signature: bytes | None = None
        self._ended = self._proved = False

    def initial(self) -> bytes:
        """
        Return client-first-message.
        """
        return _GS2_HEADER + self._first_bare

    def respond(self, challenge: bytes) -> bytes:
        """
        Return client-final-message, then, once the server has proved itself, nothing.

        Raises ProtocolViolation; NoMechanism and LimitExceeded when the server asks for
        too few or too many iterations.
        """
        if self._ended:
            raise self.nonsense("a challenge behind the last of {}", challenge)
        if challenge.startswith(b"e="):  # server-error: -ERR is to follow
            self._ended, self.told = True, challenge
            return b""
        if self._signature is None:
            return self._final(challenge)
        self._verify(challenge, self._signature)
        self._ended = self._proved = True
        return b""

    def finish(self) -> None:
        """
        Raises ProtocolViolation when +OK came without the server's signature.
        """
        if not self._proved:
            raise self.nonsense("+OK without the server's signature in {}")

    def _final(self, first: bytes) -> bytes:
        """
        Return the answer to server-first-message (§3, §5).
        """
        found = _SERVER_FIRST.fullmatch(first)
        if found is None:
            raise self.nonsense("a first message that {} does not have", first)
        nonce, salt, iterations = found[1], self._octets(found[2]), int(found[3])
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise self.nonsense(
                "a nonce that is not ours and the server's in {}", first
            )
        if iterations < LEAST_ITERATIONS:
            raise NoMechanism(self.name.lower(), f"{iterations} iterations are too few")
        if iterations > MOST_ITERATIONS:
            raise LimitExceeded("MOST_ITERATIONS", MOST_ITERATIONS)
        bound = b"c=" + base64.b64encode(_GS2_HEADER) + b",r=" + nonce
        message = b",".join((self._first_bare, first, bound))
        proof = self._proof(salt, iterations, message)
        return bound + b",p=" + base64.b64encode(proof)

    def _proof(self, salt: bytes, iterations: int, message: bytes) -> bytes:
        """
        Return ClientProof over AuthMessage, and keep the ServerSignature that it awaits.
        """
        salted = hashlib.pbkdf2_hmac(self._algorithm, self._password, salt, iterations)
        key = self._hmac(salted, b"Client Key")
        stored = hashlib.new(self._algorithm, key).digest()
        self._signature = self._hmac(self._hmac(salted, b"Server Key"), message)
        pairs = zip(key, self._hmac(stored, message), strict=True)
        return bytes(ours ^ signed for ours, signed in pairs)

    def _verify(self, final: bytes, signature: bytes) -> None:
        found = _SERVER_FINAL.fullmatch(final)
        if found is None:
            raise self.nonsense("a last message that {} does not have", final)
        if not hmac.compare_digest(signature, self._octets(found[1])):
            raise self.nonsense("a wrong signature: the server does not know us, in {}")

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, self._algorithm)

    def _octets(self, text: bytes) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            raise self.nonsense("no base64 within {}", text) from None


def _prepared(what: str, text: str, *, stored: bool) -> bytes:
    from popfetchd.pop3.sasl.prep import saslprep  # noqa: PLC0415 -- see the package

    try:
        return saslprep(text, stored=stored).encode()
    except ValueError as error:
        raise ValueError(f"the {what} {error}") from None
