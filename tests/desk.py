"""
What an operator has before him: a configuration, its maildrops, and a shell.

Rules of this file:

- Everything is real: POP3S on loopback with a certificate of its own, files, the
  command line. `type` runs it in this process, `spawn` in one of its own.
- Each password holds CANARY, so that a test can look for a leak in whatever was said.
- What runs in this process sets up logging for all of it; `Desk` puts that back.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time

from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from popfetchd.cli import main
from popfetchd.maildrop.certificate import certify
from popfetchd.maildrop.drop import Maildrop
from popfetchd.values import Secret, TlsMode
from tests.world import Pop3


CANARY = "hunter2-canary"

PATIENCE = 30.0
"""Seconds after which a process that does not end is taken to hang."""


class Desk:
    """
    A folder with a configuration, and one maildrop for each account.
    """

    def __init__(self, directory: Path, capture) -> None:
        self.directory = directory
        self.capture = capture
        self.path = directory / "popfetchd.yaml"
        self.certificate = certify(directory)
        self.maildrops: dict[str, Maildrop] = {}
        self.servers: dict[str, Pop3] = {}
        self._ends = ExitStack()

    def close(self) -> None:
        self._ends.close()

    # -- what the operator has --------------------------------------------------------

    def account(
        self, name: str, /, *messages: bytes, **keys: object
    ) -> dict[str, object]:
        """
        Return an account of a maildrop, made with its server if it is new.
        """
        if name not in self.maildrops:
            drop = Maildrop(f"{name}@example.net", Secret(f"{CANARY}-{name}"))
            self.maildrops[name] = drop
            self.servers[name] = Pop3(
                [drop], self.certificate.context, mode=TlsMode.IMPLICIT, record=True
            )
            self._ends.callback(self.servers[name].close)
            self.private(f"{name}.pass", f"{CANARY}-{name}\n")
        for octets in messages:
            self.maildrops[name].deliver(octets)
        usual = {
            "name": name,
            "host": "localhost",
            "port": self.servers[name].port,
            "ca_file": str(self.certificate.ca_file),
            "user": f"{name}@example.net",
            "password_file": f"{name}.pass",
            "every": "1h",
            "archive": {"format": "maildir", "path": f"{self.directory}/mail/{name}"},
        }
        return {
            key: value for key, value in (usual | keys).items() if value is not None
        }

    def write(self, *accounts: dict[str, object], **keys: object) -> Path:
        """
        Write the configuration.
        """
        usual = {
            "ledger": str(self.directory / "state" / "ledger.db"),
            "http": {"listen": "127.0.0.1:0"},
            "accounts": list(accounts),
        }
        return self.private(self.path.name, yaml.safe_dump(usual | keys))

    def private(self, name: str, text: str) -> Path:
        """
        Write a file that only its owner may read.
        """
        path = self.directory / name
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_text(text)
        return path

    def archived(self, name: str) -> int:
        """
        Return how many messages of an account are in its archive.
        """
        folder = self.directory / "mail" / name / "new"
        return len(list(folder.iterdir())) if folder.exists() else 0

    def waiting(self, name: str) -> int:
        """
        Return how many messages are in the maildrop.
        """
        return len(self.maildrops[name].messages)

    # -- what the operator types ------------------------------------------------------

    def arguments(self, *words: str) -> list[str]:
        """
        Return a command line, with the configuration named if the verb takes one.
        """
        bare = words[:1] in {(), ("demo",)} or words in {
            ("config",),
            ("config", "schema"),
        }
        return [*words] if bare or "-c" in words else [*words, "-c", str(self.path)]

    def type(self, *words: str) -> tuple[int, str, str]:
        """
        Run the command line in this process; return its code, stdout and stderr.
        """
        self.capture.readouterr()
        with restored():
            try:
                code = main(self.arguments(*words))
            except SystemExit as exit_:
                code = exit_.code
        out, err = self.capture.readouterr()
        return code, out, err

    def spawn(self, *words: str, environ=None, **popen: object) -> subprocess.Popen:
        """
        Run the command line in a process of its own, ended with this desk if need be.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "popfetchd", *self.arguments(*words)],
            env=os.environ | (environ or {}),
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | popen,
        )
        self._ends.callback(end, process)
        return process


def until(condition, patience: float = PATIENCE):
    """
    Return what *condition* gives as soon as that is true; fail after *patience* seconds.
    """
    end = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)
    return found


def value(page, name):
    """
    Return the value of the series *name* in a page of metrics, None if it has none.
    """
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return None if found is None else float(found[1])


def end(process: subprocess.Popen) -> None:
    """
    Kill *process* if it still runs, and close its pipes.
    """
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.communicate()


@contextmanager
def restored():
    """
    Put back what is global about logging.
    """
    root, apscheduler = logging.root, logging.getLogger("apscheduler")
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    hooks = sys.excepthook, threading.excepthook
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        apscheduler.setLevel(logging.NOTSET)
        logging.raiseExceptions = raising
        logging.captureWarnings(capture=False)
        sys.excepthook, threading.excepthook = hooks


@contextmanager
def desk(directory: Path, capture=None):
    made = Desk(directory, capture)
    try:
        yield made
    finally:
        made.close()


def letter(subject: bytes, body: bytes = b"Hello.\r\n") -> bytes:
    """
    Return a message of 2023 by Ada.
    """
    return (
        b"From: Ada <ada@example.org>\r\n"
        b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
        b"Subject: " + subject + b"\r\n\r\n" + body
    )
