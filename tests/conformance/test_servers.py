"""
One exam for every server: what popfetchd's session relies upon.

Each test runs against the embedded maildrop and against Dovecot. What passes here with
both lets the other tests use the maildrop, and mean servers.
"""

from __future__ import annotations

import pytest

from popfetchd.errors import (
    AuthenticationRefused,
    CommandRefused,
    InUse,
    ServerRefusal,
)
from popfetchd.pop3.session import Session
from popfetchd.values import Mechanism, MessageNumber, TlsMode
from tests.letters import EMPTY, KINDS, Letter, letter, letters


MECHANISMS = [Mechanism.AUTO, Mechanism.USER, Mechanism.APOP, Mechanism.PLAIN]
"""What both servers have; the others are examined at Dovecot (live/test_mechanisms.py)."""


def retrieve(session: Session, numbers) -> list[bytes]:
    """
    Return the octets of each message, in order; a refusal is an error.
    """
    messages = []
    for _, body in session.retrieve(numbers):
        assert not isinstance(body, ServerRefusal)
        messages.append(b"".join(body))
    return messages


def header(octets: bytes) -> bytes:
    """
    Return a message's header, up to and without the empty line.
    """
    return (b"\r\n" + octets).partition(b"\r\n\r\n")[0].removeprefix(b"\r\n")


# -- connecting and logging in --------------------------------------------------------


@pytest.mark.parametrize("mode", TlsMode)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_right_password_opens_the_maildrop(examine, mode, mechanism):
    """
    Every mechanism works on every kind of channel.
    """
    with examine([letter(0)]).log_in(mode, mechanism) as session:
        assert 1 == session.stat().messages
        session.quit()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_wrong_password_is_told_as_such(examine, mechanism):
    """
    The refusal is AuthenticationRefused whatever the mechanism.
    """
    with pytest.raises(AuthenticationRefused):
        examine().log_in(mechanism=mechanism, password="wrong")


def test_stls_ends_in_tls(examine):
    """
    After STLS the channel is TLS and STLS not offered any more; without, it is in clear.
    """
    with examine().connect(TlsMode.STLS) as session:
        assert session.channel.tls_version == "TLSv1.3"
        assert not session.capabilities.has("STLS")
    with examine().connect(TlsMode.NONE) as session:
        assert session.channel.tls_version is None


def test_the_capabilities_that_a_visit_hopes_for_are_announced(examine):
    """
    TOP, UIDL, PIPELINING and response codes are there after the login.
    """
    with examine().log_in() as session:
        wanted = ("TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE")
        assert all(session.capabilities.has(tag) for tag in wanted)
        session.quit()


@pytest.mark.slow
def test_a_second_session_is_refused_while_the_first_lasts(examine):
    """
    The maildrop's lock is exclusive, and [IN-USE] tells so (RFC 2449 §8.1.1).
    """
    candidate = examine([letter(0)], lock=True)
    with candidate.log_in() as first:
        with pytest.raises(InUse):
            candidate.log_in()
        first.quit()
    candidate.log_in().quit()


def test_a_dropped_session_does_not_lock_the_maildrop_for_long(examine):
    """
    After a connection that ended without QUIT one can log in again.
    """
    candidate = examine([letter(0)], lock=True)
    candidate.log_in().close()
    candidate.log_in().quit()


# -- what is there --------------------------------------------------------------------


def test_an_empty_maildrop_has_empty_listings(examine):
    """
    No message, no octets, no unique-id.
    """
    with examine().log_in() as session:
        listing = session.listing()
        assert ({}, {}) == (dict(listing.octets), dict(listing.unique_ids))
        assert (0, 0) == (session.stat().messages, session.stat().octets)
        session.quit()


def test_the_listing_numbers_and_measures_every_message(examine):
    """
    Numbers run from 1, octets are as the server counts them, unique-ids differ.
    """
    some = list(letters(len(KINDS)))
    candidate = examine(some)
    with candidate.log_in() as session:
        listing = session.listing()
        expected = {n: candidate.listed(it) for n, it in enumerate(some, 1)}
        assert expected == dict(listing.octets)
        assert len(some) == len(set(listing.unique_ids.values()))
        assert listing.drop == session.stat()
        session.quit()


def test_unique_ids_last(examine):
    """
    A later session lists the same messages under the same unique-ids.
    """
    candidate = examine(letters(5))
    listings = []
    for _ in range(2):
        with candidate.log_in() as session:
            listings.append(session.listing().unique_ids)
            session.quit()
    assert listings[0] == listings[1]


def test_unique_ids_stay_with_their_messages_when_numbers_change(examine):
    """
    After the first message is removed, the others move up and keep their unique-ids.
    """
    candidate = examine(letters(3))
    with candidate.log_in() as session:
        before = session.listing().unique_ids
        assert [(1, None)] == list(session.delete([MessageNumber(1)]))
        session.quit()
    with candidate.log_in() as session:
        assert {1: before[2], 2: before[3]} == dict(session.listing().unique_ids)
        session.quit()


def test_a_delivery_shows_in_the_next_session_only(examine):
    """
    Message-numbers are fixed while a session lasts.
    """
    candidate = examine([letter(0)])
    with candidate.log_in() as session:
        candidate.deliver(letter(1))
        assert (1,) == session.listing().numbers
        session.quit()
    with candidate.log_in() as session:
        assert (1, 2) == session.listing().numbers
        session.quit()


# -- messages -------------------------------------------------------------------------


def test_every_kind_of_letter_arrives_octet_by_octet(examine):
    """
    RETR gives what was sent: dots, 8-bit, NUL, bare CR, long lines, no final newline.
    """
    some = list(letters(len(KINDS), seed=3))
    with examine(some).log_in() as session:
        received = retrieve(session, session.listing().numbers)
        session.quit()
    assert len(some) == len(received)
    for sent, octets in zip(some, received, strict=True):
        assert (sent.kind, sent.served) == (sent.kind, octets)


def test_an_empty_message_arrives_empty(examine):
    """
    A message without an octet is retrieved as such, or as one CRLF.
    """
    with examine([EMPTY]).log_in() as session:
        assert retrieve(session, [MessageNumber(1)])[0] in {b"", b"\r\n"}
        session.quit()


@pytest.mark.parametrize("kind", KINDS)
def test_top_shows_the_header_that_retr_shows(examine, kind):
    """
    The header is the same in both: upon that rests the proof before a later DELE.
    """
    with examine([letter(list(KINDS).index(kind))]).log_in() as session:
        ((_, top),) = session.top([MessageNumber(1)])
        (whole,) = retrieve(session, [MessageNumber(1)])
        session.quit()
    assert header(whole) == header(top)


def test_top_shows_so_many_lines_of_the_body(examine):
    """
    TOP n gives header, empty line and n lines, byte-stuffing removed.
    """
    octets = b"Subject: x\r\n\r\n.one\r\n..\r\nthree\r\n"
    with examine([Letter("top", octets)]).log_in() as session:
        tops = [dict(session.top([MessageNumber(1)], lines))[1] for lines in range(5)]
        session.quit()
    head = b"Subject: x\r\n\r\n"
    expected = [head, head + b".one\r\n", head + b".one\r\n..\r\n", octets, octets]
    assert expected == tops


def test_a_message_that_is_not_there_is_refused_alone(examine):
    """
    RETR and TOP of a wrong number are refused, and the others of the batch arrive.
    """
    first, wrong = MessageNumber(1), MessageNumber(9)
    with examine([letter(0)]).log_in() as session:
        bodies = [
            body if isinstance(body, ServerRefusal) else b"".join(body)
            for _, body in session.retrieve([first, wrong, first])
        ]
        tops = dict(session.top([wrong, first]))
        session.quit()
    assert bodies[0] == bodies[2] == letter(0).served
    assert isinstance(bodies[1], CommandRefused)
    assert isinstance(tops[wrong], CommandRefused)
    assert letter(0).served.startswith(tops[first])


def test_many_messages_arrive_in_the_order_asked_for(examine):
    """
    Three hundred retrievals, more than any window holds, stay in step.
    """
    some = list(letters(300, seed=4))
    with examine(some).log_in() as session:
        numbers = session.listing().numbers[::-1]
        received = retrieve(session, numbers)
        session.quit()
    assert [it.served for it in reversed(some)] == received


# -- removal --------------------------------------------------------------------------


def test_dele_and_quit_remove(examine):
    """
    What was marked is gone once QUIT was answered, and nothing else.
    """
    some = list(letters(4))
    candidate = examine(some)
    with candidate.log_in() as session:
        marked = list(session.delete([MessageNumber(2), MessageNumber(3)]))
        session.quit()
    assert [(2, None), (3, None)] == marked
    assert 2 == candidate.remaining()
    with candidate.log_in() as session:
        received = retrieve(session, session.listing().numbers)
        session.quit()
    assert [some[0].served, some[3].served] == received


def test_dele_without_quit_removes_nothing(examine):
    """
    A session that just ends leaves every message where it was (RFC 1939 §6).
    """
    candidate = examine(letters(4))
    with candidate.log_in() as session:
        assert 4 == len(list(session.delete(session.listing().numbers)))
    with candidate.log_in() as session:
        assert 4 == session.stat().messages
        session.quit()


def test_rset_takes_the_marks_back(examine):
    """
    After RSET, QUIT removes nothing.
    """
    candidate = examine(letters(4))
    with candidate.log_in() as session:
        list(session.delete(session.listing().numbers))
        session.reset()
        session.quit()
    assert 4 == candidate.remaining()


def test_a_marked_message_is_neither_listed_nor_retrieved(examine):
    """
    After DELE the message is out of LIST, UIDL, STAT, RETR and DELE.
    """
    with examine(letters(2)).log_in() as session:
        first = MessageNumber(1)
        list(session.delete([first]))
        assert (2,) == session.listing().numbers
        assert 1 == session.stat().messages
        ((_, body),) = session.retrieve([first])
        ((_, again),) = session.delete([first])
        assert isinstance(body, CommandRefused)
        assert isinstance(again, CommandRefused)


def test_many_removals_are_pipelined(examine):
    """
    Three hundred DELE stay in step, and QUIT removes them all.
    """
    candidate = examine(letters(300, seed=5))
    with candidate.log_in() as session:
        numbers = session.listing().numbers
        assert [(n, None) for n in numbers] == list(session.delete(numbers))
        session.quit()
    assert 0 == candidate.remaining()


def test_noop_changes_nothing(examine):
    """
    NOOP is answered, and the session goes on.
    """
    with examine([letter(0)]).log_in() as session:
        session.noop()
        assert 1 == session.stat().messages
        session.quit()


# -- abandoned sessions ---------------------------------------------------------------


def test_an_abandoned_retrieval_removes_nothing_and_locks_nobody_out(examine):
    """
    A session given up in the middle of a body leaves the maildrop as it was.
    """
    candidate = examine(letters(40, large=3_000_000), lock=True)
    with candidate.log_in() as session:
        numbers = session.listing().numbers
        list(session.delete(numbers[:3]))
        for _, body in session.retrieve(numbers[3:]):
            next(iter(body))
            break
    with candidate.log_in() as session:
        assert 40 == session.stat().messages
        session.quit()
