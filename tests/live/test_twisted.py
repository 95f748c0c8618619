"""
Visits to Twisted's POP3 server, which neither we nor Dovecot's authors wrote.

Rules of this file: popfetchd is the command line in a process of its own, and so is the
server (twisted_server.py). What is archived is held against what was delivered, in the form
in which Twisted sends it: `served`.
"""

from __future__ import annotations

import subprocess
import sys

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from popfetchd.errors import AuthenticationRefused, CommandRefused, ServerRefusal
from popfetchd.pop3.session import Session, open_session
from popfetchd.pop3.transport import Deadline, TlsContexts
from popfetchd.values import (
    Mechanism,
    MessageNumber,
    Secret,
    Server,
    TlsMode,
    TlsPolicy,
)
from tests.letters import KINDS, Letter, letters
from tests.live.twisted_server import PASSWORD, USER
from tests.wire import Installation


pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Twisted:
    """
    A server that runs, and its maildir.
    """

    port: int
    maildir: Path
    numbers: Iterator[int] = field(default_factory=count)

    def deliver(self, letters: list[Letter]) -> None:
        """
        Put letters into the maildir.
        """
        for letter in letters:
            name = f"{next(self.numbers):06}.host"
            (self.maildir / "new" / name).write_bytes(letter.stored)

    def remaining(self) -> int:
        """
        Count what is in the maildrop, without POP3.
        """
        return len([*self.maildir.glob("new/*"), *self.maildir.glob("cur/*")])

    def log_in(self, mechanism: Mechanism, password: str = PASSWORD) -> Session:
        """
        Return a session that has logged in.
        """
        server = Server("127.0.0.1", self.port, TlsPolicy(TlsMode.NONE), 20.0)
        session = open_session(server, TlsContexts(), Deadline(60.0))
        try:
            session.login(USER, Secret(password), mechanism)
        except BaseException:
            session.close()
            raise
        return session


@pytest.fixture
def twisted(tmp_path: Path) -> Iterator[Twisted]:
    """
    A server of an empty maildrop.
    """
    maildir = tmp_path / "served"
    for folder in ("tmp", "new", "cur"):
        (maildir / folder).mkdir(parents=True)
    program = [sys.executable, "-m", "tests.live.twisted_server", str(maildir)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield Twisted(int(process.stdout.readline()), maildir)
        finally:
            process.kill()


def served(letter: Letter) -> bytes:
    """
    Return what Twisted sends: CRLF for each LF and at the end; a first dot not stuffed.
    """
    octets = letter.stored.replace(b"\n", b"\r\n")
    octets = octets.removeprefix(b".") if octets.startswith(b"..") else octets
    return octets if octets.endswith(b"\r\n") else octets + b"\r\n"


def installed(directory: Path, twisted: Twisted, **keys: object) -> Installation:
    """
    Return an installation with one account, on *twisted*.
    """
    site = Installation(directory)
    site.configure(site.account(USER, PASSWORD, twisted.port, tls="none", **keys))
    return site


# -- whole visits ---------------------------------------------------------------------


def test_every_kind_of_letter_is_archived_once(
    twisted: Twisted, tmp_path: Path
) -> None:
    """Two visits archive each letter once, as it was sent; all of them stay there."""
    sent = list(letters(len(KINDS) + 5))
    twisted.deliver(sent)
    site = installed(tmp_path, twisted)
    first, second = site.fetch(), site.fetch()
    assert (0, 0) == (first.code, second.code)
    assert (len(sent), 0) == (first.report["archived"], second.report["archived"])
    assert sorted(map(served, sent)) == site.archived()
    assert ([], len(sent)) == (site.unfinished(), twisted.remaining())


def test_a_verified_maildrop_is_emptied(twisted: Twisted, tmp_path: Path) -> None:
    """What was archived is removed, in the same visit, and what comes later in the next."""
    sent = list(letters(30))
    site = installed(tmp_path, twisted, delete_after="verified")
    twisted.deliver(sent[:20])
    assert (0, 0) == (site.fetch().code, twisted.remaining())
    twisted.deliver(sent[20:])
    assert (0, 0) == (site.fetch().code, twisted.remaining())
    assert sorted(map(served, sent)) == site.archived()
    assert [] == site.unfinished()


def test_the_command_line_looks_at_it(twisted: Twisted, tmp_path: Path) -> None:
    """`check` and `list` understand it."""
    twisted.deliver(list(letters(3)))
    site = installed(tmp_path, twisted)
    for verb in (("check",), ("list", "alice")):
        done = subprocess.run(
            site.command(*verb), capture_output=True, text=True, check=False
        )
        assert 0 == done.returncode, done.stderr
    assert 4 == len(done.stdout.splitlines())


# -- its commands ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "mechanism", [Mechanism.AUTO, Mechanism.USER, Mechanism.CRAM_MD5]
)
def test_how_to_log_in(twisted: Twisted, mechanism: Mechanism) -> None:
    """Each mechanism opens the maildrop, and a wrong password does not."""
    with twisted.log_in(mechanism) as session:
        assert 0 == session.stat().messages
        session.quit()
    with pytest.raises(AuthenticationRefused):
        twisted.log_in(mechanism, "wrong")


def test_apop_is_refused(twisted: Twisted) -> None:
    """Twisted compares text with octets, so that APOP never succeeds: it is told so."""
    with pytest.raises(AuthenticationRefused, match="refused APOP"):
        twisted.log_in(Mechanism.APOP)


def test_its_listings(twisted: Twisted) -> None:
    """STAT, LIST and UIDL agree; nothing is sent ahead, for it says PIPELINE."""
    sent = list(letters(5))
    twisted.deliver(sent)
    with twisted.log_in(Mechanism.USER) as session:
        listing = session.listing()
        assert session.stat() == listing.drop
        assert [len(letter.stored) for letter in sent] == list(listing.octets.values())
        assert 5 == len(set(listing.unique_ids.values()))
        assert session.capabilities.has("PIPELINE")
        assert not session.capabilities.has("PIPELINING")
        session.quit()


def test_its_top(twisted: Twisted) -> None:
    """TOP gives header and lines; of a message that is not there it is refused."""
    (sent,) = letters(1)
    twisted.deliver([sent])
    head, _, body = served(sent).partition(b"\r\n\r\n")
    with twisted.log_in(Mechanism.USER) as session:
        one, two = MessageNumber(1), MessageNumber(2)
        assert [(1, head + b"\r\n\r\n")] == list(session.top([one]))
        first_line = body.split(b"\r\n")[0] + b"\r\n"
        assert [(1, head + b"\r\n\r\n" + first_line)] == list(session.top([one], 1))
        ((_, refused),) = session.top([two])
        assert isinstance(refused, CommandRefused)
        session.quit()


def test_its_rset(twisted: Twisted) -> None:
    """What was marked and unmarked again stays."""
    twisted.deliver(list(letters(2)))
    with twisted.log_in(Mechanism.USER) as session:
        marked = list(session.delete([MessageNumber(1)]))
        session.reset()
        session.noop()
        session.quit()
    assert ([(1, None)], 2) == (marked, twisted.remaining())


def test_a_message_that_is_not_there(twisted: Twisted) -> None:
    """One refusal, and the session goes on."""
    with twisted.log_in(Mechanism.USER) as session:
        ((_, refused),) = session.retrieve([MessageNumber(7)])
        assert isinstance(refused, ServerRefusal)
        session.quit()
