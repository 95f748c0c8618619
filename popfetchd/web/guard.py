"""
Who may see the pages: a certificate of our own, and passwords (RFC 7617).

Rules of this file:

- Only bcrypt hashes of passwords are known here, as in Prometheus' web configuration.
- A wrong name costs what a wrong password costs, and says the same. Guesses are tried
  one at a time: a thousand guessers take one core, and not all.
- A password that was right is known again by a keyed digest in memory: a scrape does not
  cost the hash's 100 ms each time.
- A private key that everyone may read is not used, as no password is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import ssl

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from popfetchd import pem


LONGEST_PASSWORD = 72
"""Octets; bcrypt looks at no more, and a longer one must not pass by its beginning."""


@dataclass(frozen=True, slots=True)
class Access:
    """
    How the pages may be reached: in clear without *context*, by anyone without *guard*.
    """

    context: ssl.SSLContext | None = None
    guard: Guard | None = None


# -- passwords ------------------------------------------------------------------------


class Guard:
    """
    Knows users and the bcrypt hashes of their passwords; at least one. Thread-safe.
    """

    def __init__(self, users: Mapping[str, str]) -> None:
        self._hashes = {name: hashed.encode() for name, hashed in users.items()}
        # The two digits behind `$2y$`.
        self._dearest = max(self._hashes.values(), key=lambda hashed: hashed[4:6])
        self._key = secrets.token_bytes(32)
        self._known: dict[str, bytes] = {}
        self._turn = Lock()

    def admits(self, authorization: str) -> bool:
        """
        Tell whether an Authorization header names a user with that one's password.
        """
        user, password = credentials(authorization)
        mark = hmac.digest(self._key, password, hashlib.sha256)
        if hmac.compare_digest(self._known.get(user, b""), mark):
            return True
        with self._turn:
            right = self._matches(user, password)
        if right:
            self._known[user] = mark
        return right

    def _matches(self, user: str, password: bytes) -> bool:
        import bcrypt  # noqa: PLC0415 -- an extra, which `load` has looked for

        hashed = self._hashes.get(user, self._dearest)
        same = bcrypt.checkpw(password[:LONGEST_PASSWORD], hashed)
        return same and len(password) <= LONGEST_PASSWORD and user in self._hashes


def credentials(authorization: str) -> tuple[str, bytes]:
    """
    Return user and password of a header; both empty if it holds none (RFC 7617 §2).
    """
    scheme, _, token = authorization.partition(" ")
    try:
        pair = base64.b64decode(token.strip(), validate=True)
        user, _, password = pair.partition(b":")
        return (user.decode(), password) if scheme.lower() == "basic" else ("", b"")
    except (binascii.Error, ValueError):
        return "", b""


# -- the certificate ------------------------------------------------------------------


def tls_context(cert_file: Path, key_file: Path | None) -> ssl.SSLContext:
    """
    Return what serves with the certificate (PEM, with its chain) and its key.

    Raises ConfigurationError when they cannot be read, or are no good.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    names = ("http: tls: cert_file", "http: tls: key_file")
    pem.load(context, cert_file, key_file, names)
    return context
