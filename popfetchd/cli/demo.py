"""
`popfetchd demo`: the service at its main job, on a maildrop of its own.

Rules of this file:

- Everything is real but the mail: a POP3S server on loopback with a certificate made on
  the spot, a configuration file, the schedule, the archive, the HTTP page.
- The maildrop stays on loopback; --listen is for the page alone, for a container.
- Everything is in one folder, which is told; a folder of its own making is removed at
  the end, one that was named is kept.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from popfetchd.cli.exits import Exit
from popfetchd.daemon import Service, Wish
from popfetchd.maildrop.certificate import certify
from popfetchd.maildrop.drop import Maildrop
from popfetchd.maildrop.letters import letter, letters
from popfetchd.maildrop.server import MaildropServer
from popfetchd.values import AccountName, Secret


USER = "alice@example.net"
FIRST_LETTERS = 40
"""Messages in the maildrop at the start."""
PAUSE = 3.0
"""Seconds between two messages that arrive."""

CONFIGURATION = """\
# The configuration of `popfetchd demo`: a real one, for a maildrop on loopback.
ledger: {directory}/state/ledger.db
http: {{listen: {listen}}}
accounts:
  - name: alice
    host: localhost
    port: {port}
    ca_file: {ca_file}
    user: {user}
    password_file: {directory}/alice.pass
    every: 5s
    jitter: 1s
    delete_after: verified
    archive: {{format: maildir, path: "{directory}/mail/{{account}}"}}
"""


def run(arguments: Namespace) -> int:
    """
    Run until Ctrl-C, or for --seconds. Exits with 0 if messages were archived.
    """
    with (
        _directory(arguments.directory) as directory,
        _maildrop(directory, arguments.listen) as path,
    ):
        service = Service(path, os.environ)
        _tell(service.url, directory)
        with _ending(service, arguments.seconds):
            service.run()
        return _summary(service, directory)


@contextmanager
def _ending(service: Service, seconds: float | None) -> Iterator[None]:
    # Ends *service* after *seconds*, if it has not ended by then.
    timer = threading.Timer(seconds or 0.0, service.wish, [Wish.STOP])
    timer.daemon = True
    if seconds is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="popfetchd-demo-") as made:
        yield Path(made)


@contextmanager
def _maildrop(directory: Path, listen: str) -> Iterator[Path]:
    # Yields the configuration file.
    certificate = certify(directory)
    secret = os.urandom(16).hex()
    maildrop = Maildrop(USER, Secret(secret))
    for octets in letters(FIRST_LETTERS, datetime.now(UTC), timedelta(minutes=7)):
        maildrop.deliver(octets)
    with MaildropServer([maildrop], certificate.context) as server:
        ended = threading.Event()
        postman = threading.Thread(target=_deliver, args=(maildrop, ended))
        postman.start()
        try:
            _write_private(directory / "alice.pass", secret)
            text = CONFIGURATION.format(
                directory=directory,
                listen=json.dumps(listen),  # as YAML writes it, too
                port=server.port,
                ca_file=certificate.ca_file,
                user=USER,
            )
            _write_private(directory / "popfetchd.yaml", text)
            yield directory / "popfetchd.yaml"
        finally:
            ended.set()
            postman.join()


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(path, flags, 0o600), "w") as file:
        file.write(text)


def _deliver(maildrop: Maildrop, ended: threading.Event) -> None:
    number = FIRST_LETTERS
    while not ended.wait(PAUSE):
        maildrop.deliver(letter(number, datetime.now(UTC)))
        number += 1


def _tell(url: str, directory: Path) -> None:
    print(
        f"maildrop      {USER}, {FIRST_LETTERS} messages and more to come\n"
        f"configuration {directory}/popfetchd.yaml\n"
        f"maildir       {directory}/mail/alice\n"
        f"status page   {url}\n"
        f"metrics       {url}metrics\n"
        "Ctrl-C ends it.",
        file=sys.stderr,
        flush=True,
    )


def _summary(service: Service, directory: Path) -> int:
    state = service.metrics.states()[AccountName("alice")]
    files = sum(1 for _ in (directory / "mail/alice").glob("new/*"))
    print(
        f"demo: {state.archived} messages archived, {files} files in the maildir, "
        f"{state.waiting} waiting",
    )
    return Exit.OK if state.archived else Exit.UNAVAILABLE
