"""
The server's side of a session, line by line, without a socket.
"""

from __future__ import annotations

import base64
import hashlib

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.maildrop.dialogue import LONGEST_LINE, Dialogue, multiline, top
from popfetchd.maildrop.drop import Maildrop
from popfetchd.values import Secret


STAMP = "<1896.697170952@localhost>"


def make(*messages: bytes, user: str = "alice", **options) -> tuple[Maildrop, Dialogue]:
    """
    Return a maildrop holding *messages*, unique-ids u1, u2, …, and a new session on it.
    """
    drop = Maildrop(user, Secret("s3cret"))
    for number, octets in enumerate(messages, 1):
        drop.deliver(octets, f"u{number}")
    return drop, Dialogue({user: drop}, STAMP, **options)


def logged_in(*messages: bytes, **options) -> tuple[Maildrop, Dialogue]:
    """
    Return the same after the login.
    """
    drop, dialogue = make(*messages, **options)
    say(dialogue, "USER alice", "PASS s3cret")
    return drop, dialogue


def say(dialogue: Dialogue, *lines: str) -> str:
    """
    Say each line; return the last answer.
    """
    answer = b""
    for line in lines:
        answer = b"".join(dialogue.receive(line.encode() + b"\r\n"))
    return answer.decode("latin-1")


def plain(identity: str, user: str, password: str) -> str:
    """
    Return the message of SASL PLAIN in base64.
    """
    return base64.b64encode(f"{identity}\0{user}\0{password}".encode()).decode()


# -- the examples of RFC 1939 ---------------------------------------------------------


def test_a_whole_session():
    """
    Login, listings, retrieval, removal and QUIT answer as RFC 1939 §10 shows.
    """
    drop, dialogue = make(b"Subject: 1\r\n\r\none\r\n", b"Subject: 2\r\n\r\n.two\r\n")
    exchange = [
        ("USER alice", "+OK and the password?\r\n"),
        ("PASS s3cret", "+OK maildrop has 2 messages\r\n"),
        ("STAT", "+OK 2 39\r\n"),
        ("LIST", "+OK listing follows\r\n1 19\r\n2 20\r\n.\r\n"),
        ("LIST 2", "+OK 2 20\r\n"),
        ("UIDL", "+OK listing follows\r\n1 u1\r\n2 u2\r\n.\r\n"),
        ("UIDL 1", "+OK 1 u1\r\n"),
        ("RETR 1", "+OK 19 octets\r\nSubject: 1\r\n\r\none\r\n.\r\n"),
        ("RETR 2", "+OK 20 octets\r\nSubject: 2\r\n\r\n..two\r\n.\r\n"),
        ("TOP 2 0", "+OK top follows\r\nSubject: 2\r\n\r\n.\r\n"),
        ("DELE 1", "+OK marked as deleted\r\n"),
        ("STAT", "+OK 1 20\r\n"),
        ("LIST", "+OK listing follows\r\n2 20\r\n.\r\n"),
        ("UIDL", "+OK listing follows\r\n2 u2\r\n.\r\n"),
        ("NOOP", "+OK \r\n"),
        ("QUIT", "+OK bye\r\n"),
    ]
    assert exchange == [(line, say(dialogue, line)) for line, _ in exchange]
    assert dialogue.ended
    assert ["u2"] == [message.unique_id for message in drop.messages]


@pytest.mark.parametrize("line", ["RETR 1", "DELE 1", "TOP 1 0", "LIST 1", "UIDL 1"])
def test_a_marked_message_is_no_message(line):
    """
    After DELE no command knows the number any more (RFC 1939 §5).
    """
    _, dialogue = logged_in(b"x")
    assert "-ERR no such message\r\n" == say(dialogue, "DELE 1", line)


@pytest.mark.parametrize(
    "number", ["0", "2", "-1", "01", "x", "", "\u0661", "9" * 5000, "1 1"]
)
def test_only_numbers_of_the_session_are_numbers(number):
    """
    Anything but the number of a message is refused, and harms nothing.
    """
    _, dialogue = logged_in(b"x")
    assert "-ERR no such message\r\n" == say(dialogue, f"RETR {number}")
    assert say(dialogue, "RETR 1").startswith("+OK")


def test_rset_takes_every_mark_back():
    """
    After RSET nothing is marked, and QUIT removes nothing.
    """
    drop, dialogue = logged_in(b"1", b"2")
    say(dialogue, "DELE 1", "DELE 2", "RSET", "QUIT")
    assert 2 == len(drop.messages)


def test_an_end_without_quit_removes_nothing():
    """
    Only QUIT enters the UPDATE state (RFC 1939 §6); the lock is free again.
    """
    drop, dialogue = logged_in(b"1")
    say(dialogue, "DELE 1")
    dialogue.close()
    dialogue.close()
    assert 1 == len(drop.messages)
    assert drop.acquire()


def test_a_delivery_does_not_show_in_an_open_session():
    """
    Message-numbers stand for the whole session (RFC 1939 §4).
    """
    drop, dialogue = logged_in(b"1")
    drop.deliver(b"2")
    assert say(dialogue, "STAT").startswith("+OK 1 ")
    say(dialogue, "DELE 1", "QUIT")
    assert [b"2\r\n"] == [message.octets for message in drop.messages]


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (0, b"A: b\r\n\r\n"),
        (1, b"A: b\r\n\r\n1\r\n"),
        (2, b"A: b\r\n\r\n1\r\n\r\n"),
        (3, b"A: b\r\n\r\n1\r\n\r\n2\r\n"),
        (9, b"A: b\r\n\r\n1\r\n\r\n2\r\n"),
    ],
)
def test_top_shows_the_header_and_so_many_lines(lines, shown):
    """
    More lines than there are show the whole message (RFC 1939 §7).
    """
    assert shown == top(b"A: b\r\n\r\n1\r\n\r\n2\r\n", lines)


@pytest.mark.parametrize("octets", [b"", b"A: b\r\n", b"A: b\r\n\r\n"])
def test_top_of_a_message_without_body_is_the_message(octets):
    """
    Where there is no body, or no empty line, TOP shows all there is.
    """
    assert octets == top(octets, 5)


def test_top_of_a_message_without_header_begins_with_the_empty_line():
    """
    A message that begins with an empty line has an empty header.
    """
    assert b"\r\nbody\r\n" == top(b"\r\nbody\r\nmore\r\n\r\nend\r\n", 1)


@pytest.mark.parametrize("argument", ["1", "1 ", "1 x", "1 -1", "1 1 1", "1 \u0661"])
def test_top_wants_two_numbers(argument):
    """
    TOP without a count of lines is refused.
    """
    _, dialogue = logged_in(b"x")
    assert say(dialogue, f"TOP {argument}").startswith("-ERR TOP wants")


# -- byte-stuffing --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "wire"),
    [
        (b"", b".\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"..\r\n", b"...\r\n.\r\n"),
        (b"a\r\n.\r\n.\r\n", b"a\r\n..\r\n..\r\n.\r\n"),
        (b"a\n.\r\n", b"a\n.\r\n.\r\n"),
        (b"a\r.\r\n", b"a\r.\r\n.\r\n"),
    ],
)
def test_a_dot_is_doubled_after_crlf_and_at_the_start(octets, wire):
    """
    Only the beginning of a line is stuffed, and only CRLF begins one (RFC 1939 §3).
    """
    assert wire == multiline(octets)


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"x"])).map(b"".join))
def test_every_message_can_be_restored(octets):
    """
    The first CRLF.CRLF is the end, and one dot off each line gives the message back.
    """
    message = Maildrop("a", Secret("b")).deliver(octets).octets
    wire = b"\r\n" + multiline(message)
    end = wire.index(b"\r\n.\r\n") + 2
    lines = wire[2:end].split(b"\r\n")
    assert b".\r\n" == wire[end:]
    assert message == b"\r\n".join(line.removeprefix(b".") for line in lines)


# -- logging in -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ["USER alice", "PASS s3cret"],
        ["user alice", "pass s3cret"],
        ["AUTH PLAIN " + plain("", "alice", "s3cret")],
        ["auth plain " + plain("alice", "alice", "s3cret")],
        ["AUTH PLAIN", plain("", "alice", "s3cret")],
        ["APOP alice " + hashlib.md5(f"{STAMP}s3cret".encode()).hexdigest()],
    ],
)
def test_every_way_in(lines):
    """
    Each mechanism opens the maildrop, in whatever case its keyword is written.
    """
    _, dialogue = make()
    assert "+OK maildrop has 0 messages\r\n" == say(dialogue, *lines)


@pytest.mark.parametrize(
    "lines",
    [
        ["USER alice", "PASS wrong"],
        ["USER bob", "PASS s3cret"],
        ["USER alice", "PASS "],
        ["AUTH PLAIN " + plain("", "alice", "wrong")],
        ["AUTH PLAIN " + plain("bob", "alice", "s3cret")],
        ["APOP alice " + "0" * 32],
        ["APOP s3cret"],
    ],
)
def test_wrong_credentials_get_the_auth_code(lines):
    """
    Only wrong credentials are answered with [AUTH] (RFC 3206).
    """
    _, dialogue = make()
    assert say(dialogue, *lines).startswith("-ERR [AUTH] ")
    assert say(dialogue, "STAT").startswith("-ERR STAT is not for AUTHORIZATION")


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        (["PASS s3cret"], "-ERR USER first\r\n"),
        (["USER alice", "PASS wrong", "PASS s3cret"], "-ERR USER first\r\n"),
        (["AUTH"], "-ERR unknown mechanism\r\n"),
        (["AUTH CRAM-MD5"], "-ERR unknown mechanism\r\n"),
        (["AUTH PLAIN"], "+ \r\n"),
        (["AUTH PLAIN", "*"], "-ERR given up\r\n"),
        (["AUTH PLAIN ="], "-ERR no PLAIN message\r\n"),
        (["AUTH PLAIN QQ=="], "-ERR no PLAIN message\r\n"),
        (["AUTH PLAIN", "Q Q=="], "-ERR no PLAIN message\r\n"),
        (["AUTH PLAIN", "\xff"], "-ERR no PLAIN message\r\n"),
        (["STLS"], "-ERR no TLS to begin here\r\n"),
        (["XYZZY"], "-ERR unknown command\r\n"),
        ([""], "-ERR unknown command\r\n"),
    ],
)
def test_what_is_out_of_place_is_refused(lines, answer):
    """
    Nonsense before the login gets -ERR, and the session goes on.
    """
    _, dialogue = make()
    assert answer == say(dialogue, *lines)
    assert not dialogue.ended


def test_a_password_may_hold_blanks_and_any_alphabet():
    """
    All that stands behind PASS is the password (RFC 1939 §7), as UTF-8.
    """
    drop = Maildrop("jörg", Secret(" ein Wörtchen "))
    dialogue = Dialogue({"jörg": drop}, STAMP)
    assert say(dialogue, "USER jörg", "PASS  ein Wörtchen ").startswith("+OK")


def test_a_second_session_gets_the_in_use_code(monkeypatch):
    """
    The lock is exclusive, and a wrong password is told as such all the same.
    """
    monkeypatch.setattr("popfetchd.maildrop.drop.LOCK_PATIENCE", 0.01)
    drop, first = logged_in()
    second = Dialogue({"alice": drop}, STAMP)
    assert say(second, "USER alice", "PASS s3cret").startswith("-ERR [IN-USE] ")
    assert say(second, "USER alice", "PASS wrong").startswith("-ERR [AUTH] ")
    say(first, "QUIT")
    assert say(second, "USER alice", "PASS s3cret").startswith("+OK")


def test_quit_before_the_login_is_an_end():
    """
    QUIT in AUTHORIZATION ends the session and touches no maildrop.
    """
    drop, dialogue = make(b"x")
    assert "+OK bye\r\n" == say(dialogue, "QUIT")
    assert dialogue.ended
    assert drop.acquire()


# -- capabilities ---------------------------------------------------------------------


def test_capabilities_tell_what_is_there():
    """
    CAPA lists everything that works, and STLS only where it may be used.
    """
    _, dialogue = make(stls=True)
    before = say(dialogue, "CAPA").splitlines()
    assert "+OK capabilities follow" == before[0]
    assert {"TOP", "UIDL", "PIPELINING", "SASL PLAIN", "STLS"} < set(before)
    assert "STLS" not in say(dialogue, "USER alice", "PASS s3cret", "CAPA")


def test_what_a_server_lacks_is_neither_told_nor_done():
    """
    `lacks` takes commands and capabilities away.
    """
    _, dialogue = logged_in(b"x", lacks=frozenset({"UIDL", "PIPELINING", "APOP"}))
    told = say(dialogue, "CAPA").splitlines()
    assert {"UIDL", "PIPELINING"}.isdisjoint(told)
    assert "-ERR unknown command\r\n" == say(dialogue, "UIDL")
    assert STAMP.encode() not in dialogue.greeting


def test_the_greeting_holds_the_timestamp():
    """
    APOP needs the timestamp in the greeting (RFC 1939 §7).
    """
    _, dialogue = make()
    assert f"+OK popfetchd maildrop ready {STAMP}\r\n".encode() == dialogue.greeting


# -- octets ---------------------------------------------------------------------------


def test_pipelined_commands_are_answered_one_by_one_in_order():
    """
    Several commands in one segment get their answers in order (RFC 2449 §6.6).
    """
    _, dialogue = logged_in(b"x")
    answers = list(dialogue.receive(b"NOOP\r\nRETR 9\r\nSTAT\r\n"))
    assert [b"+OK \r\n", b"-ERR no such message\r\n", b"+OK 1 3\r\n"] == answers


def test_a_command_may_come_in_any_pieces():
    """
    An answer comes with the octet that completes the line, and not before.
    """
    _, dialogue = logged_in()
    answers = [b"".join(dialogue.receive(bytes([o]))) for o in b"NOOP\r\n"]
    assert [b"", b"", b"", b"", b"", b"+OK \r\n"] == answers


def test_only_crlf_ends_a_line():
    """
    A client that sends LF alone is not understood: the maildrop does not forgive.
    """
    _, dialogue = logged_in()
    assert [] == list(dialogue.receive(b"NOOP\nNOOP\r"))


@pytest.mark.parametrize("first", [b"QUIT", b"STLS"])
def test_nothing_behind_quit_or_stls_is_obeyed(first):
    """
    Commands injected in the same segment are dropped, also after TLS (RFC 2595 §4).
    """
    _, dialogue = make(stls=True)
    assert 1 == len(list(dialogue.receive(first + b"\r\nCAPA\r\nCA")))
    dialogue.secured()
    answers = list(dialogue.receive(b"PA\r\n"))
    assert answers == [b"-ERR unknown command\r\n"]


def test_what_was_said_before_tls_is_forgotten():
    """
    A user named in clear is none after STLS, and STLS is not to be had again.
    """
    _, dialogue = make(stls=True)
    assert "+OK begin TLS\r\n" == say(dialogue, "USER alice", "STLS")
    assert dialogue.wants_tls
    dialogue.secured()
    assert "-ERR USER first\r\n" == say(dialogue, "PASS s3cret")
    assert "-ERR no TLS to begin here\r\n" == say(dialogue, "STLS")


def test_an_endless_line_ends_the_session():
    """
    A line that passes its bound without an end is told so, once.
    """
    _, dialogue = make()
    assert [] == list(dialogue.receive(b"x" * LONGEST_LINE))
    assert [b"-ERR line too long\r\n"] == list(dialogue.receive(b"x"))
    assert dialogue.ended


@given(st.binary(max_size=300), st.booleans())
def test_any_octets_are_answered_and_never_raise(octets, before):
    """
    Whatever a client sends, each line gets one reply that begins with +OK, -ERR or +.
    """
    _, dialogue = make(b"x", stls=True) if before else logged_in(b"x")
    for answer in dialogue.receive(octets + b"\r\n"):
        assert answer.startswith((b"+OK ", b"-ERR ", b"+ "))
