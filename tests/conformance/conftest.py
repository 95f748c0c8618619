"""
The servers that sit the same exam: the embedded maildrop, and Dovecot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pytest

from popfetchd.maildrop.certificate import Certificate, certify
from popfetchd.maildrop.drop import Maildrop
from popfetchd.maildrop.server import MaildropServer
from popfetchd.pop3.deadline import Deadline
from popfetchd.pop3.session import Session, open_session
from popfetchd.pop3.tls import TlsContexts
from popfetchd.values import Mechanism, Secret, Server, TlsMode, TlsPolicy
from tests.letters import Letter
from tests.live.conftest import dovecot  # noqa: F401 -- a fixture
from tests.live.dovecot import Dovecot


PASSWORD = "right horse"
PATIENCE = 20.0


@dataclass(frozen=True)
class Candidate:
    """
    A maildrop on one of the servers, with all that the exam needs to know of it.
    """

    user: str
    servers: dict[TlsMode, Server]
    remaining: Callable[[], int]
    """Counts the messages without POP3."""
    deliver: Callable[[Letter], None]
    listed: Callable[[Letter], int]
    """What LIST is to say of a letter."""

    def connect(self, mode: TlsMode = TlsMode.IMPLICIT) -> Session:
        """
        Return a session that has not logged in.
        """
        return open_session(self.servers[mode], TlsContexts(), Deadline(PATIENCE))

    def log_in(
        self,
        mode: TlsMode = TlsMode.IMPLICIT,
        mechanism: Mechanism = Mechanism.AUTO,
        password: str = PASSWORD,
    ) -> Session:
        """
        Return a session that has logged in. Closes it if it may not.
        """
        session = self.connect(mode)
        try:
            session.login(self.user, Secret(password), mechanism)
        except BaseException:
            session.close()
            raise
        return session


Examine = Callable[..., Candidate]
"""Takes letters (and lock=True for a lock); returns a maildrop that holds them."""


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """
    What the embedded maildrop shows.
    """
    return certify(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def maildrop(certificate: Certificate) -> Iterator[Examine]:
    """
    Makes candidates on the embedded maildrop.
    """
    servers: list[MaildropServer] = []

    def examine(letters: Iterable[Letter] = (), *, lock: bool = False) -> Candidate:
        drop = Maildrop("alice", Secret(PASSWORD))
        for letter in letters:
            drop.deliver(letter.served)
        own = {m: MaildropServer([drop], certificate.context, mode=m) for m in TlsMode}
        servers.extend(own.values())
        return Candidate(
            user=drop.user,
            servers={
                mode: Server(
                    "127.0.0.1", server.port, TlsPolicy(mode, certificate.ca_file), 5
                )
                for mode, server in own.items()
            },
            remaining=lambda: len(drop.messages),
            deliver=lambda letter: drop.deliver(letter.served),
            listed=lambda letter: len(letter.served),
        )

    yield examine
    for server in servers:
        server.close()


def on_dovecot(dovecot: Dovecot) -> Examine:  # noqa: F811 -- it takes the fixture
    """
    Makes candidates on Dovecot.
    """
    ports = {
        TlsMode.IMPLICIT: dovecot.ports.pop3s,
        TlsMode.STLS: dovecot.ports.pop3,
        TlsMode.NONE: dovecot.ports.pop3,
    }

    def examine(letters: Iterable[Letter] = (), *, lock: bool = False) -> Candidate:
        user = dovecot.add_user(password=PASSWORD, lock_session=lock)
        user.deliver(letter.stored for letter in letters)
        return Candidate(
            user=user.name,
            servers={
                mode: Server(
                    dovecot.host, port, TlsPolicy(mode, dovecot.ca_file), PATIENCE
                )
                for mode, port in ports.items()
            },
            remaining=user.count,
            deliver=lambda letter: user.deliver([letter.stored]),
            listed=lambda letter: letter.listed,
        )

    return examine


@pytest.fixture(
    params=["maildrop", pytest.param("dovecot", marks=pytest.mark.live)],
)
def examine(request: pytest.FixtureRequest) -> Examine:
    """
    Makes candidates on each server in turn.
    """
    fixture = request.getfixturevalue(request.param)
    return fixture if request.param == "maildrop" else on_dovecot(fixture)
