"""
A spool file: one message while it is received.

Rules of this file:

- The message streams through: digest, stored form and header are made on the way, and
  memory does not grow with the message. The network's small pieces are gathered first:
  each portion, not each piece, is looked at, hashed and written.
- It is written as LF from the start. At the first bare CR or LF what was written is
  turned back in place, and the rest is written as it comes: EXACT.
- A spool file ends in one of two ways: `finish`, once, or `abandon`, which may follow
  anything and does nothing after `finish`. A failed write has abandoned it already.
"""

from __future__ import annotations

import hashlib

from collections.abc import Callable

from popfetchd.archive.arrival import arrival
from popfetchd.archive.durable import NewFile
from popfetchd.archive.form import Header, ToLf
from popfetchd.archive.likeness import likeness
from popfetchd.values import (
    ContentDigest,
    Fingerprint,
    Octets,
    Spooled,
    StoredForm,
)


PORTION = 64 * 1024
"""
Octets that are gathered before anything is done with them. Pieces of 4 KiB, which Dovecot
sends, cost twice as much; portions of more than this gain nothing.
"""


class SpoolFile:
    """
    Takes a message's octets as they come.

    *evidence* makes the Spooled of a complete message; *visit_started* (seconds since
    1970) is its arrival where its header does not tell.
    """

    def __init__(
        self,
        file: NewFile,
        evidence: Callable[[Fingerprint], Spooled],
        *,
        visit_started: float,
    ) -> None:
        self._file = file
        self._evidence = evidence
        self._visit_started = visit_started
        self._header = Header()
        self._to_lf: ToLf | None = ToLf()
        self._content = hashlib.sha256()
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._octets = 0
        self._stored = 0

    def write(self, chunk: bytes) -> None:
        """
        Take the next octets of the message.

        ArchiveError when they, or some before them, cannot be written.
        """
        self._pieces.append(chunk)
        self._gathered += len(chunk)
        if self._gathered >= PORTION:
            self._take_portion()

    def finish(self) -> Spooled:
        """
        Close the complete message. It is not durable yet. ArchiveError as `write`.
        """
        self._take_portion()
        if self._to_lf is not None and self._to_lf.held:
            self._turn_back(self._to_lf)  # a CR was the last octet
        header = self._header.finish()
        arrived = arrival(self._header.kept, self._visit_started)
        self._file.set_time(arrived)
        self._file.close()
        return self._evidence(
            Fingerprint(
                octets=Octets(self._octets),
                stored=Octets(self._stored),
                form=StoredForm.EXACT if self._to_lf is None else StoredForm.LF,
                header=header,
                content=ContentDigest(self._content.digest()),
                likeness=likeness(self._header.kept),
                arrived_at=arrived,
            )
        )

    def abandon(self) -> None:
        """
        Unlink the incomplete message. Never raises.
        """
        self._file.condemn()

    def _take_portion(self) -> None:
        portion = b"".join(self._pieces)
        self._pieces.clear()
        self._gathered = 0
        self._octets += len(portion)
        self._header.feed(portion)
        if self._to_lf is not None:
            lines = self._to_lf.convert(portion)
            if lines is None:
                self._turn_back(self._to_lf)
            else:
                portion = lines
        self._store(portion)

    def _turn_back(self, to_lf: ToLf) -> None:
        self._to_lf = None
        self._file.to_crlf(to_lf.lines)
        self._content = hashlib.sha256()
        for octets in self._file.contents():
            self._content.update(octets)
        self._stored += to_lf.lines
        self._store(to_lf.held)

    def _store(self, octets: bytes) -> None:
        self._content.update(octets)
        self._stored += len(octets)
        self._file.write(octets)
