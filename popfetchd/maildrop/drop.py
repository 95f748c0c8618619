"""
A maildrop in memory: its messages, its owner and its exclusive lock.

Rules of this file:

- A message is itself, not its content: two equal copies are two messages, and
  removing one leaves the other.
- Octets are kept as a client will receive them, so a message ends with CRLF: a
  multi-line response cannot carry one that does not (RFC 1939 §3).
- Removal happens here, in UPDATE, and nowhere else.
"""

from __future__ import annotations

import itertools
import random

from collections.abc import Collection
from dataclasses import dataclass, field
from threading import Lock

from popfetchd.values import Secret, UniqueId


CRLF = b"\r\n"

LOCK_PATIENCE = 0.5
"""
Seconds that a login waits for the lock, as Dovecot's does (ten): the session before may
have ended for its client already, and not yet for us.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """
    One message. *octets* are what RETR gives, byte-stuffing removed.
    """

    unique_id: UniqueId
    octets: bytes = field(repr=False)


class Maildrop:
    """
    The messages of *user*, who logs in with *secret*. Any thread may call anything.
    """

    def __init__(self, user: str, secret: Secret) -> None:
        self.user = user
        self.secret = secret
        self._messages: list[Message] = []
        self._guard = Lock()
        self._exclusive = Lock()
        # As Dovecot's UIDVALIDITY: a new maildrop never repeats an old one's unique-ids.
        self._validity = random.SystemRandom().getrandbits(32)
        self._sequence = itertools.count(1)

    def deliver(self, octets: bytes, unique_id: str | None = None) -> Message:
        """
        Add a message at the end, completed by a final CRLF; return it.

        A session that is open does not see it. A *unique_id* may stand twice, as it
        may on real servers (RFC 1939 §7).
        """
        ended = not octets or octets.endswith(CRLF)
        with self._guard:
            fresh = f"{self._validity:08x}{next(self._sequence):08x}"
            message = Message(
                UniqueId(fresh if unique_id is None else unique_id),
                octets if ended else octets + CRLF,
            )
            self._messages.append(message)
        return message

    @property
    def messages(self) -> tuple[Message, ...]:
        """
        What is in the maildrop now, oldest first.
        """
        with self._guard:
            return tuple(self._messages)

    def remove(self, messages: Collection[Message]) -> None:
        """
        Take these very messages out: the UPDATE state (RFC 1939 §6).
        """
        gone = set(messages)
        with self._guard:
            self._messages = [m for m in self._messages if m not in gone]

    def acquire(self) -> bool:
        """
        Take the exclusive-access lock (RFC 1939 §4); False: another session keeps it.
        """
        return self._exclusive.acquire(timeout=LOCK_PATIENCE)

    def release(self) -> None:
        """
        Give the lock back. Only whoever acquired it may.
        """
        self._exclusive.release()
