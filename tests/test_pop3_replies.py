"""
Replies, the greeting, capabilities and listings: tolerant in content, strict in framing.
"""

from __future__ import annotations

import math
import time

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.errors import (
    AuthenticationRefused,
    CommandRefused,
    InUse,
    LoginDelayed,
    ProtocolViolation,
    ServerRefusal,
    SystemPermanent,
    SystemTemporary,
)
from popfetchd.pop3.replies import (
    Capabilities,
    Greeting,
    Reply,
    ResponseCode,
    parse_drop_listing,
    parse_reply,
    refusal,
)
from popfetchd.values import DropListing, Octets


# -- replies --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"+OK", Reply(ok=True, code=None, text="")),
        (b"+OK ", Reply(ok=True, code=None, text="")),
        (b"+OK\t two  words", Reply(ok=True, code=None, text="two  words")),
        (b"-ERR no", Reply(ok=False, code=None, text="no")),
        (b"-ERR \xe9\0\r", Reply(ok=False, code=None, text="\xe9\0\r")),
        (
            b"-ERR [in-use] busy",
            Reply(ok=False, code=ResponseCode(("IN-USE",)), text="[in-use] busy"),
        ),
        (
            b"-ERR [Sys/Temp/x]",
            Reply(
                ok=False, code=ResponseCode(("SYS", "TEMP", "X")), text="[Sys/Temp/x]"
            ),
        ),
        (b"-ERR see [AUTH]", Reply(ok=False, code=None, text="see [AUTH]")),
        (b"-ERR [] [/] [a", Reply(ok=False, code=None, text="[] [/] [a")),
    ],
)
def test_a_status_line_is_read(line: bytes, reply: Reply) -> None:
    """A status line is an indicator, a code if it stands first, and a text."""
    assert reply == parse_reply("STAT", line)


@pytest.mark.parametrize(
    "line", [b"", b"+ok", b"-err", b"+OKAY", b"-ERR!", b" +OK", b"+ OK", b"OK", b"\xff"]
)
def test_what_is_no_status_line(line: bytes) -> None:
    """A line without an upper-case indicator and a blank is refused."""
    with pytest.raises(ProtocolViolation, match=r"STAT: neither \+OK nor -ERR"):
        parse_reply("STAT", line)


def test_codes_are_hierarchical() -> None:
    """A code is within itself and what stands above it, not below, not beside."""
    code = ResponseCode(("SYS", "TEMP"))
    names = ("SYS", "SYS/TEMP", "SYS/TEMP/X", "SYS/PERM", "SY")
    assert [True, True, False, False, False] == [code.within(name) for name in names]
    assert "SYS/TEMP" == str(code)


@pytest.mark.parametrize(
    ("command", "text", "kind"),
    [
        ("PASS", "[IN-USE]", InUse),
        ("RETR", "[IN-USE] wait", InUse),
        ("PASS", "[LOGIN-DELAY] wait", LoginDelayed),
        ("PASS", "[SYS/TEMP] wait", SystemTemporary),
        ("PASS", "[SYS/OTHER] wait", SystemTemporary),
        ("RETR", "[SYS/PERM/DEEP] oh", SystemPermanent),
        ("PASS", "[AUTH] no", AuthenticationRefused),
        ("PASS", "[X-OWN] no", AuthenticationRefused),
        ("USER", "no", AuthenticationRefused),
        ("AUTH", "", AuthenticationRefused),
        ("APOP", "no", AuthenticationRefused),
        ("STAT", "no", CommandRefused),
        ("STAT", "[X-OWN] no", CommandRefused),
        ("STAT", "maildrop locked", CommandRefused),
        ("PASS", "maildrop already LOCKED", InUse),
        ("PASS", "Mailbox in use", InUse),
        ("APOP", "server busy", InUse),
        ("PASS", "unable to lock maildrop", InUse),
        ("PASS", "Exceeded the login limit for a 15 minute period", LoginDelayed),
        ("PASS", "account locked: login limit", AuthenticationRefused),
        ("STAT", "login limit", CommandRefused),
        ("PASS", "your address is blocked", AuthenticationRefused),
        ("PASS", "account locked", AuthenticationRefused),
        ("PASS", "you are locked out", AuthenticationRefused),
        ("PASS", "lockout in effect", AuthenticationRefused),
        ("PASS", "x" * 512 + " lock", AuthenticationRefused),
    ],
)
def test_a_refusal_is_told_apart(
    command: str, text: str, kind: type[ServerRefusal]
) -> None:
    """What -ERR means hangs on its code; at login without one, on a few words."""
    error = refusal(command, parse_reply(command, b"-ERR " + text.encode()))
    assert (kind, command, text) == (type(error), error.command, error.text)


def test_a_text_is_searched_in_linear_time() -> None:
    """A refusal made to be slow to search is not."""
    begun = time.process_time()
    refusal("PASS", Reply(ok=False, code=None, text="account " * 2000))
    assert time.process_time() - begun < 0.5


# -- the greeting ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "timestamp"),
    [
        (
            "POP3 <1896.697170952@dbc.mtview.ca.us>",
            b"<1896.697170952@dbc.mtview.ca.us>",
        ),
        ("<a.b=c/d+e@[127.0.0.1]> hi", b"<a.b=c/d+e@[127.0.0.1]>"),
        ("ready", None),
        ("<", None),
        ("> <", None),
        ("<no-at>", None),
        ("<two@at@s>", None),
        ("<a..b@c>", None),
        ("<@c>", None),
        ("<a@>", None),
        ("<a b@c>", None),
        ("<a\x80@c>", None),
        ("<a\0@c>", None),
        ("<<a@b>", None),
        ("<a@b> <c@d>", None),
    ],
)
def test_a_timestamp_must_be_a_msg_id(text: str, timestamp: bytes | None) -> None:
    """What stands between the outer brackets is a msg-id of RFC 822, or nothing."""
    greeting = Greeting.of(Reply(ok=True, code=None, text=text))
    assert Greeting(text, timestamp) == greeting


@pytest.mark.parametrize("text", ["<" * 16_000, "<" + "a." * 8_000 + ">"])
def test_a_timestamp_is_sought_in_linear_time(text: str) -> None:
    """A greeting made to be slow to search is not (CVE-2018-1060)."""
    begun = time.process_time()
    Greeting.of(Reply(ok=True, code=None, text=text))
    assert time.process_time() - begun < 0.5


# -- capabilities ---------------------------------------------------------------------


def test_capabilities_are_read() -> None:
    """Tags count in any case, words as they stand, twice-given tags together."""
    found = Capabilities.parse(
        b"top\r\nSASL plain X\r\n\r\nSASL scram-sha-256\r\nLOGIN-DELAY 900 USER\r\n"
        b"EXPIRE 30 USER\r\nIMPLEMENTATION Strange  Server-1\r\n"
    )
    assert (True, False) == (found.has("TOP"), found.has("UIDL"))
    assert frozenset({"PLAIN", "X", "SCRAM-SHA-256"}) == found.sasl
    assert (900.0, 30.0) == (found.login_delay, found.expire)
    assert "Strange Server-1" == found.implementation


def test_nobody_is_kept_from_his_mail_by_a_login_delay() -> None:
    """More than a day between two logins is not believed."""
    found = Capabilities.parse(b"LOGIN-DELAY 999999999\r\n")
    assert 86_400.0 == found.login_delay


def test_no_capabilities_say_nothing() -> None:
    """Without CAPA nothing is known."""
    found = Capabilities()
    assert (frozenset(), None) == (found.sasl, found.login_delay)
    assert (None, None) == (found.expire, found.implementation)


@pytest.mark.parametrize(
    ("line", "days"),
    [
        (b"EXPIRE NEVER", math.inf),
        (b"EXPIRE 0", 0.0),
        (b"EXPIRE", None),
        (b"EXPIRE -1", None),
        (b"EXPIRE 1e9", None),
        (b"EXPIRE 99999999999", None),
        (b"EXPIRE \xb2", None),
    ],
)
def test_expire(line: bytes, days: float | None) -> None:
    """EXPIRE is a bounded number of days, or NEVER, or nothing that we know."""
    assert days == Capabilities.parse(line).expire


# -- listings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "messages", "octets"),
    [
        ("2 320", 2, 320),
        ("  2\t320 octets (text)", 2, 320),
        ("-1 -5", 0, 0),
        ("2147483647 " + "9" * 5000, 2_147_483_647, 999_999_999_999_999_999),
        ("9" * 5000 + " 1", 999_999_999_999_999_999, 1),
    ],
)
def test_a_drop_listing(text: str, messages: int, octets: int) -> None:
    """STAT's numbers are bounded on both sides, and text behind them is none of ours."""
    assert DropListing(messages, Octets(octets)) == parse_drop_listing(text)


@pytest.mark.parametrize(
    "text", ["", "2", "many messages", "0x2 3", "-" + "9" * 16_000]
)
def test_no_drop_listing(text: str) -> None:
    """Without two numbers STAT has said nothing, and we notice quickly."""
    begun = time.process_time()
    with pytest.raises(ProtocolViolation, match="STAT: no two numbers"):
        parse_drop_listing(text)
    assert time.process_time() - begun < 0.5


@given(st.binary())
def test_any_octets_are_read(body: bytes) -> None:
    """No octets make the capabilities unreadable."""
    found = Capabilities.parse(body)
    assert (found.login_delay or 0) >= 0
