"""
Where the benchmarks fetch from: Dovecot, or for a quick look the embedded maildrop.

Rules of this file:

- Dovecot is the tests' own (tests/live/dovecot.py), with TLS on loopback and its
  maildrops in memory, if there is such a place (`FAST`): the client is measured.
- The messages of a profile are written once; each maildrop is a folder of hard links.
- A maildrop is looked into once before it is lent: Dovecot's indexes are made then, and
  not by the program that comes first.
"""

from __future__ import annotations

import itertools
import os
import poplib
import shutil
import ssl
import tempfile

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from popfetchd.maildrop.certificate import certify
from popfetchd.maildrop.drop import Maildrop
from popfetchd.maildrop.server import MaildropServer
from popfetchd.values import Secret
from tests.live.dovecot import Dovecot, User, give_away


HOST = "127.0.0.1"

PASSWORD = "right horse"

MEMORY = Path("/dev/shm")
"""A file system in memory, where Linux has it."""

DISK = Path(tempfile.gettempdir())
"""Usually a disk; TMPDIR names another place."""

FAST = MEMORY if os.access(MEMORY, os.W_OK) else DISK

EPOCH = 1_760_000_000
"""The names of messages begin with it and go up: Dovecot lists them in that order."""

PATIENCE = 120.0
"""Seconds for one reply, of a maildrop of 100,000 messages too."""


@dataclass(frozen=True, slots=True)
class Drop:
    """
    One maildrop, as a client is told of it. *left* counts what is in it.
    """

    port: int
    user: str
    password: str
    ca_file: Path
    left: Callable[[], int]
    forget: Callable[[], None]
    change: Callable[[], None]


class Server(Protocol):
    """
    What makes maildrops.
    """

    name: str

    def stock(self, messages: Iterable[bytes]) -> None:
        """
        Write the messages that the next maildrops hold.
        """

    def drop(self) -> Drop:
        """
        Return a new maildrop with all that is in stock.
        """


class DovecotServer:
    """
    Maildrops on *dovecot*.
    """

    def __init__(self, dovecot: Dovecot) -> None:
        self.name = "Dovecot"
        self._dovecot = dovecot
        self._stock = dovecot.root / "stock"
        self._names = itertools.count()

    def stock(self, messages: Iterable[bytes]) -> None:
        shutil.rmtree(self._stock, ignore_errors=True)
        self._stock.mkdir()
        for number, message in enumerate(messages):
            (self._stock / name_of(number, message)).write_bytes(message)
        give_away(self._stock)

    def drop(self) -> Drop:
        user = self._dovecot.add_user(f"u{next(self._names)}", PASSWORD)
        with os.scandir(self._stock) as files:
            for file in files:
                os.link(file.path, user.maildir / "new" / file.name)
        drop = Drop(
            self._dovecot.ports.pop3s,
            user.name,
            user.password,
            self._dovecot.ca_file,
            user.count,
            lambda: shutil.rmtree(user.maildir.parent),
            lambda: remove_first(user),
        )
        unique_ids(drop)
        return drop


def name_of(number: int, message: bytes) -> str:
    """
    Return a file name that tells Dovecot a message's size on disk and on the wire.
    """
    wire = len(message) + message.count(b"\n")
    return f"{EPOCH + number}.M{number}P1.bench,S={len(message)},W={wire}"


def remove_first(user: User) -> None:
    """
    Remove one message behind the server's back, as another client would.
    """
    user.files()[0].unlink()


class EmbeddedServer:
    """
    Maildrops of our own: slow, but everywhere.
    """

    def __init__(self, folder: Path) -> None:
        self.name = "popfetchd demo's maildrop"
        self._certificate = certify(folder)
        self._messages: list[bytes] = []
        self._names = itertools.count()

    def stock(self, messages: Iterable[bytes]) -> None:
        self._messages = [each.replace(b"\n", b"\r\n") for each in messages]

    def drop(self) -> Drop:
        user = f"u{next(self._names)}"
        maildrop = Maildrop(user, Secret(PASSWORD))
        for message in self._messages:
            maildrop.deliver(message)
        server = MaildropServer([maildrop], self._certificate.context)
        return Drop(
            server.port,
            user,
            PASSWORD,
            self._certificate.ca_file,
            lambda: len(maildrop.messages),
            server.close,
            lambda: maildrop.remove(maildrop.messages[:1]),
        )


def unique_ids(drop: Drop) -> list[str]:
    """
    Return the unique-ids of a maildrop in its order.
    """
    context = ssl.create_default_context(cafile=drop.ca_file)
    pop = poplib.POP3_SSL(HOST, drop.port, timeout=PATIENCE, context=context)
    pop.user(drop.user)
    pop.pass_(drop.password)
    pop.list()
    lines = pop.uidl()[1]
    pop.quit()
    return [line.split()[1].decode() for line in lines]


@contextmanager
def dovecot() -> Iterator[DovecotServer]:
    """
    Lend a Dovecot whose files are in memory.
    """
    usual = tempfile.tempdir
    tempfile.tempdir = str(FAST)
    try:
        server = Dovecot()
    finally:
        tempfile.tempdir = usual
    try:
        server.start()
        yield DovecotServer(server)
    finally:
        server.stop()


@contextmanager
def embedded() -> Iterator[EmbeddedServer]:
    """
    Lend maildrops of our own.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield EmbeddedServer(Path(folder))


KINDS = {"dovecot": dovecot, "embedded": embedded}
