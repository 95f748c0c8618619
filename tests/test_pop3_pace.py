"""
The pace: who dribbles is left, who is slow or thinks long is not. No test waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import pytest

from popfetchd.errors import TooSlow
from popfetchd.pop3.pace import GRACE, LEAST_PACE, Pace
from popfetchd.pop3.protocol import State
from popfetchd.pop3.session import Session
from popfetchd.values import (
    Channel,
    Mechanism,
    MessageNumber,
    Secret,
    Server,
    TlsMode,
    TlsPolicy,
)


GREETING = [b"+OK\r\n"]
LOGIN = [*GREETING, b"-ERR\r\n", b"+OK\r\n", b"+OK\r\n", b"-ERR\r\n"]


def dribbled(octets: bytes) -> list[bytes]:
    """
    Cut *octets* into single ones.
    """
    return [octets[at : at + 1] for at in range(len(octets))]


class SlowTransport:
    """
    A channel on which each read gives the next piece, after *seconds* of its own clock.
    """

    def __init__(self, pieces: Iterable[bytes], seconds: float) -> None:
        self.channel = Channel("127.0.0.1")
        self.now = 0.0
        self._pieces = deque(pieces)
        self._seconds = seconds

    def recv(self, step: str) -> bytes:
        self.now += self._seconds
        return self._pieces.popleft()

    def waiting(self, step: str) -> bytes:
        return b""

    def send(self, data: bytes, step: str) -> None: ...

    def close(self) -> None: ...


def begun(pieces: Iterable[bytes], seconds: float) -> tuple[Session, SlowTransport]:
    """
    Return a session that has logged in; *pieces* come after that.
    """
    transport = SlowTransport([*LOGIN, *pieces], 0.0)
    server = Server("h", 110, TlsPolicy(TlsMode.NONE), 60.0)
    session = Session(server, transport, Pace(lambda: transport.now))
    session.begin(None)
    session.login("mary", Secret("x"), Mechanism.USER)
    transport._seconds = seconds
    return session, transport


# -- the rule -------------------------------------------------------------------------


def test_a_reply_may_dribble_for_the_grace() -> None:
    """Until GRACE seconds were waited, and one for each LEAST_PACE octets, all is well."""
    pace = Pace()
    pace.received(1, 1000.0, "RETR")
    pace.received(LEAST_PACE - 1, GRACE + 1, "RETR")
    with pytest.raises(TooSlow) as caught:
        pace.received(0, 0.5, "RETR")
    assert ("RETR", GRACE + 1.5, LEAST_PACE) == caught.value.args


def test_silence_before_the_first_octet_is_no_dribbling() -> None:
    """How long a server thinks is the business of `timeout`."""
    pace = Pace()
    for _ in range(10):
        pace.received(1, 10 * GRACE, "STAT")
        pace.begin()


# -- in a session ---------------------------------------------------------------------


def test_an_octet_a_second_is_too_slow() -> None:
    """A body that comes in single octets ends the session after a minute, not a visit."""
    session, transport = begun(dribbled(b"+OK\r\n" + b"x" * 5000), 1.0)
    messages = session.retrieve([MessageNumber(1)])
    _, body = next(messages)
    with pytest.raises(TooSlow, match="no end of RETR after 61 s"):
        deque(body, maxlen=0)
    assert State.BROKEN == session.state
    assert transport.now < GRACE + 10


@pytest.mark.parametrize(
    ("act", "step"),
    [
        (Session.stat, "STAT"),
        (Session.listing, "UIDL"),
        (lambda session: list(session.top([MessageNumber(1)])), "TOP"),
        (lambda session: list(session.delete([MessageNumber(1)])), "DELE"),
        (Session.quit, "QUIT"),
    ],
)
def test_so_it_is_at_each_step(act, step: str) -> None:
    """A status line, or a listing, that dribbles is left as well."""
    session, _ = begun(dribbled(b"+OK " + b"x" * 5000), 1.0)
    with pytest.raises(TooSlow, match=f"no end of {step} after 61 s"):
        act(session)


def test_a_greeting_that_dribbles() -> None:
    """Nobody has to log in to be slow."""
    transport = SlowTransport(dribbled(b"+OK " + b"x" * 5000), 1.0)
    server = Server("h", 110, TlsPolicy(TlsMode.NONE), 60.0)
    session = Session(server, transport, Pace(lambda: transport.now))
    with pytest.raises(TooSlow, match="no end of greeting"):
        session.begin(None)


def test_a_slow_line_is_a_line() -> None:
    """Twice the least pace is enough, for as long as it takes."""
    lines = [b"x" * (2 * LEAST_PACE - 2) + b"\r\n"] * 1000
    session, transport = begun([b"+OK\r\n", *lines, b".\r\n"], 1.0)
    for _, body in session.retrieve([MessageNumber(1)]):
        assert 200_000 == sum(map(len, body))
    assert transport.now > 15 * GRACE


def test_a_busy_client_makes_no_server_slow() -> None:
    """Only the time that was spent waiting counts, not what we do with the octets."""
    session, transport = begun([b"+OK\r\n", *dribbled(b"x" * 50), b"\r\n.\r\n"], 0.1)
    for _, body in session.retrieve([MessageNumber(1)]):
        for _ in body:
            transport.now += GRACE
