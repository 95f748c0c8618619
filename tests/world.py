"""
A small world for visits: a maildrop on loopback, a ledger and a maildir of their own.

Rules of this file:

- Everything is the real thing: sockets, TLS, SQLite, files. Only time is passed in.
- A strange server is the embedded one with some commands answered otherwise.
- What is archived is read back as the ledger says it can be: restored to the octets
  that the server sent.
"""

from __future__ import annotations

import socket
import sqlite3

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event

from popfetchd.archive.form import restore
from popfetchd.archive.maildir import Maildir
from popfetchd.ledger import Ledger
from popfetchd.maildrop.dialogue import AFTER_LOGIN, Dialogue
from popfetchd.maildrop.drop import Maildrop
from popfetchd.maildrop.server import MaildropServer
from popfetchd.poll import poll
from popfetchd.pop3.session import open_session
from popfetchd.pop3.tls import TlsContexts
from popfetchd.report import after
from popfetchd.values import (
    Account,
    AccountName,
    ArchiveFormat,
    Destination,
    Every,
    InlineSecret,
    Login,
    Mechanism,
    Secret,
    Server,
    StoredForm,
    TlsMode,
    TlsPolicy,
)
from popfetchd.visit.course import Means


START = 1_700_000_000.0
USER, SECRET = "alice@example.net", "s3cret-octets"


class Pop3(MaildropServer):
    """
    The embedded maildrop, speaking a dialogue of the test's choice.
    """

    dialogue = Dialogue

    def _dialogue(self):
        usual = super()._dialogue()
        usual.__class__ = self.dialogue
        return usual


def dialogue(**answers):
    """
    Return a dialogue that answers some commands otherwise: keyword=function(self, text).
    """
    commands = {word: (AFTER_LOGIN, answer) for word, answer in answers.items()}
    return type("Strange", (Dialogue,), {"COMMANDS": Dialogue.COMMANDS | commands})


class World:
    """
    One account and everything that its visits touch.
    """

    def __init__(self, directory: Path) -> None:
        self.time = START
        self.directory = directory
        self.maildrop = Maildrop(USER, Secret(SECRET))
        self.server = Pop3([self.maildrop], None, mode=TlsMode.NONE, record=True)
        self.ledger = Ledger(directory / "state" / "ledger.db", now=self.now)
        self.stop = Event()
        self.account = Account(
            AccountName("alice"),
            Server("127.0.0.1", self.server.port, TlsPolicy(TlsMode.NONE), 5.0),
            Login(USER, InlineSecret(Secret(SECRET)), Mechanism.USER),
            Destination(ArchiveFormat.MAILDIR, directory / "mail"),
            Every(300.0),
        )
        contexts = TlsContexts()
        self.means = Means(
            self.ledger,
            lambda server, deadline, expected=None: open_session(
                server, contexts, deadline, expected
            ),
            self.open_archive,
            lambda source: source.secret,
            self.now,
        )

    def close(self):
        self.server.close()
        self.ledger.close()

    def now(self) -> float:
        return self.time

    def open_archive(self, _account, destination):
        host = socket.gethostname()
        maildir = Maildir(destination.path, self.ledger.id, host=host, now=self.now)
        maildir.open()
        return maildir

    def speak(self, **answers) -> None:
        """
        From now on the server answers these commands otherwise.
        """
        self.server.dialogue = dialogue(**answers)

    def deliver(self, *messages: bytes, unique_id: str | None = None) -> None:
        for octets in messages:
            self.maildrop.deliver(octets, unique_id)

    def visit(self, watch=None, **changes):
        """
        Make a visit as the service does, a minute after the last, and return its report.
        """
        self.time += 60
        account = replace(self.account, **changes)
        before = self.ledger.state(account.name)
        report = poll(account, self.means, stop=self.stop, watch=watch)
        state = after(before, report)
        self.ledger.save_visit(account.name, state, report.recollection, report.stamp)
        return report

    def rows(self, columns: str = "*") -> list[tuple]:
        with sqlite3.connect(self.ledger.path) as db:
            rows = db.execute(f"SELECT {columns} FROM message ORDER BY id").fetchall()
        db.close()
        return rows

    def files(self, folder: str) -> list[Path]:
        return sorted((self.directory / "mail" / folder).iterdir())

    def archived(self) -> list[bytes]:
        """
        Return, sorted, what the server sent of each message that is in the archive.
        """
        restored = []
        for state, name, form in self.rows("state, name, form"):
            if state != "recorded":
                path = self.directory / "mail" / "new" / name
                restored.append(b"".join(restore(path, StoredForm(form))))
        assert len(restored) == len(self.files("new")) + len(self.files("cur"))
        return sorted(restored)

    def waiting(self) -> list[bytes]:
        return sorted(message.octets for message in self.maildrop.messages)


@contextmanager
def world(directory: Path):
    made = World(directory)
    try:
        yield made
    finally:
        made.close()
