"""
The same servers behind a network that cuts, breaks off, dribbles and falls silent.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from popfetchd.errors import (
    Disconnected,
    NetworkError,
    PopfetchdError,
    ServerRefusal,
    TimedOut,
)
from popfetchd.pop3.deadline import Deadline
from popfetchd.pop3.session import open_session
from popfetchd.pop3.tls import TlsContexts
from popfetchd.values import Mechanism, MessageNumber, Secret, TlsMode
from tests.conformance.conftest import PASSWORD, PATIENCE, Candidate
from tests.letters import letter, letters
from tests.relay import End, Flow, Relay, Trouble


LETTERS = [letter(1), letter(20)]
"""Dot lines, and one without a final newline."""

STEP = 37
"""Every so many octets of a conversation a line is cut: a prime hits every place."""

SLACK = 120
"""Octets at the end that are never cut: timestamps make one visit longer than another."""


def through(candidate: Candidate, mode: TlsMode, trouble: Trouble, timeout: float = 5):
    """
    Return a relay before *candidate*, and the candidate as seen through it.
    """
    server = candidate.servers[mode]
    relay = Relay((server.host, server.port), trouble)
    seen = replace(server, port=relay.port, timeout=timeout)
    return relay, replace(candidate, servers={mode: seen})


def visit(candidate: Candidate, mode: TlsMode) -> list[bytes]:
    """
    Log in, retrieve both letters, mark them, QUIT. Return what arrived whole.
    """
    server = candidate.servers[mode]
    arrived = []
    with open_session(server, TlsContexts(), Deadline(PATIENCE)) as session:
        session.login(candidate.user, Secret(PASSWORD), Mechanism.PLAIN)
        numbers = session.listing().numbers
        for _, body in session.retrieve(numbers):
            assert not isinstance(body, ServerRefusal)
            arrived.append(b"".join(body))
        list(session.delete(numbers))
        session.quit()
    return arrived


def conversation(examine, mode: TlsMode) -> int:
    """
    Return how many octets a server says in a whole visit.
    """
    relay, candidate = through(examine(LETTERS), mode, Trouble())
    with relay:
        visit(candidate, mode)
        return len(relay.heard[0].down)


@pytest.mark.parametrize("end", [End.FIN, End.RST])
def test_a_line_cut_anywhere_ends_the_visit_and_keeps_the_mail(examine, end):
    """
    Wherever the server's words end, the visit fails as a network failure, and nothing
    is removed whose removal was not asked for by QUIT.
    """
    total = conversation(examine, TlsMode.NONE)
    for octets in range(0, total - SLACK, STEP):
        cut = Trouble(down=Flow(octets, end))
        candidate = examine(LETTERS)
        relay, seen = through(candidate, TlsMode.NONE, cut)
        with relay, pytest.raises(NetworkError):
            visit(seen, TlsMode.NONE)
        if b"QUIT" not in relay.heard[0].up:
            assert len(LETTERS) == candidate.remaining()


@pytest.mark.parametrize("mode", [TlsMode.IMPLICIT, TlsMode.STLS])
def test_tls_cut_anywhere_ends_the_visit(examine, mode):
    """
    An abrupt end inside the handshake or inside a record is an error of ours by name.
    """
    total = conversation(examine, mode)
    for octets in range(0, total - SLACK, 10 * STEP):
        relay, seen = through(examine(LETTERS), mode, Trouble(down=Flow(octets)))
        with relay, pytest.raises(PopfetchdError):
            visit(seen, mode)


@pytest.mark.parametrize("octets", [0, 20, 300, 900])
def test_a_line_that_falls_silent_ends_by_the_time_limit(examine, octets):
    """
    Nobody waits longer than a step may take, whatever the step.
    """
    silence = Trouble(down=Flow(octets, End.SILENCE))
    relay, seen = through(examine(LETTERS), TlsMode.NONE, silence, timeout=0.2)
    with relay, pytest.raises(TimedOut):
        visit(seen, TlsMode.NONE)


def test_a_server_that_hears_no_more_is_given_up(examine):
    """
    Commands that never arrive end as a time limit too.
    """
    deaf = Trouble(up=Flow(10, End.SILENCE))
    relay, seen = through(examine(LETTERS), TlsMode.NONE, deaf, timeout=0.2)
    with relay, pytest.raises(TimedOut):
        visit(seen, TlsMode.NONE)


@pytest.mark.parametrize("mode", TlsMode)
def test_segments_of_one_octet_change_nothing(examine, mode):
    """
    Every reply, every body and every TLS record may come octet by octet.
    """
    dribble = Flow(segment=1)
    candidate = examine(LETTERS)
    relay, seen = through(candidate, mode, Trouble(dribble, dribble))
    with relay:
        assert [it.served for it in LETTERS] == visit(seen, mode)
    assert 0 == candidate.remaining()


@pytest.mark.parametrize("mode", [TlsMode.IMPLICIT, TlsMode.STLS])
def test_no_credential_crosses_the_wire_in_clear(examine, mode):
    """
    What the relay hears of a whole visit holds neither user nor password nor mail.
    """
    candidate = examine(LETTERS)
    relay, seen = through(candidate, mode, Trouble())
    with relay:
        visit(seen, mode)
        (heard,) = relay.heard
    spoken = (candidate.user.encode(), PASSWORD.encode(), b"AUTH", b"USER", b"PASS")
    assert not [it for it in spoken if it in heard.up]
    assert b"Received:" not in heard.down


def test_where_there_is_no_tls_the_wire_shows_it(examine):
    """
    The test above can fail: without TLS the relay hears the user and the mail.
    """
    candidate = examine(LETTERS)
    relay, seen = through(candidate, TlsMode.NONE, Trouble())
    with relay:
        visit(seen, TlsMode.NONE)
        (heard,) = relay.heard
    assert b"AUTH " in heard.up
    assert LETTERS[0].served.split(b"\r\n")[0] in heard.down


def test_a_line_cut_in_a_body_leaves_the_next_visit_whole(examine):
    """
    After a cut in the first body the next visit gets everything.
    """
    large = list(letters(2, large=200_000))
    candidate = examine(large, lock=True)
    relay, seen = through(candidate, TlsMode.NONE, Trouble(down=Flow(100_000)))
    with relay, pytest.raises(Disconnected):
        visit(seen, TlsMode.NONE)
    with candidate.log_in() as session:
        assert (MessageNumber(1), MessageNumber(2)) == session.listing().numbers
        session.quit()
