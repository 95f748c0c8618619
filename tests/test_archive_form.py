"""
The stored form, the header's digest, the arrival and the names: octets and text only.
"""

from __future__ import annotations

import hashlib
import re

from itertools import pairwise

import pytest

from hypothesis import example, given
from hypothesis import strategies as st

from popfetchd.archive import names
from popfetchd.archive.arrival import CLOCK_SKEW, arrival, received_at
from popfetchd.archive.form import (
    EMPTY_LINE_FIRST,
    HEADER_KEPT,
    Header,
    ToLf,
    header_digest,
    restore,
    restored,
)
from popfetchd.values import LedgerId, Octets, StoredForm


LEDGER = LedgerId("0123456789ab")

LINES = st.lists(
    st.sampled_from([b"\r\n", b"\n", b"\r", b"", b"A: b", b" ", b".", b"\0", b"\xff"]),
    max_size=12,
).map(b"".join)
"""Octets in which line ends are as frequent as they are rare in random ones."""

NOW = 1_700_000_000.0


def sha256(octets):
    return hashlib.sha256(octets).digest()


def split(octets, borders):
    """
    Cut *octets* at *borders*, taken modulo its length.
    """
    cuts = sorted({0, len(octets), *(b % (len(octets) + 1) for b in borders)})
    return [octets[a:b] for a, b in pairwise(cuts)]


# -- the stored form ------------------------------------------------------------------


@given(LINES, st.lists(st.integers(0, 200)))
def test_crlf_becomes_lf_exactly_where_that_can_be_undone(octets, borders):
    """
    LF is given iff the octets hold no bare CR or LF, and restoring gives them back.
    """
    to_lf = ToLf()
    stored = [to_lf.convert(chunk) for chunk in split(octets, borders)]
    refused = None in stored or bool(to_lf.held)

    assert bool(re.search(rb"\r(?!\n)|(?<!\r)\n", octets)) == refused
    if not refused:
        assert octets == b"".join(restored(stored, StoredForm.LF))
        assert octets.count(b"\n") == to_lf.lines


def test_a_refused_chunk_changes_nothing():
    """
    What was given before the first bare CR or LF can still be turned back, all of it.
    """
    to_lf = ToLf()
    given_before = to_lf.convert(b"a\r\nb\r")

    assert to_lf.convert(b"c\r\n") is None
    assert (b"a\nb", b"\r", 1) == (given_before, to_lf.held, to_lf.lines)


@pytest.mark.parametrize(
    ("form", "sent"), [(StoredForm.LF, b"a\r\n\r\nb"), (StoredForm.EXACT, b"a\n\nb")]
)
def test_what_was_sent_is_restored_from_the_file(tmp_path, form, sent):
    """
    A stored file and its form give back the octets that the server sent.
    """
    stored = tmp_path / "stored"
    stored.write_bytes(b"a\n\nb")

    assert sent == b"".join(restore(stored, form))


# -- the header -----------------------------------------------------------------------


HEADERS = [
    (b"", b""),
    (b"\r\n", b""),
    (b"\n", b""),
    (b"\r\nbody: x\r\n\r\nmore", b""),
    (b"\r", b"\r"),
    (b"A: b", b"A: b"),
    (b"A: b\r\n", b"A: b"),
    (b"A: b\r\n\r\n", b"A: b"),
    (b"A: b\r\n\r\nbody\r\n\r\n", b"A: b"),
    (b"A: b\n\nbody", b"A: b"),
    (b"A: b\n\r\nbody", b"A: b"),
    (b"A: b\r\n c\r\nD: e\r\n\r\n", b"A: b\r\n c\r\nD: e"),
    (b"A: b\r\n\r", b"A: b\r\n\r"),
    (b"A: b\r\r\n\r\nbody", b"A: b\r"),
]


@pytest.mark.parametrize(("message", "header"), HEADERS)
def test_the_header_is_what_stands_before_the_first_empty_line(message, header):
    """
    Without the line end of its last line, and whatever the message lacks.
    """
    assert sha256(header) == header_digest(message)


@pytest.mark.parametrize(("message", "header"), HEADERS)
def test_the_header_is_the_same_at_every_split(message, header):
    """
    In two chunks, wherever the border is, and octet by octet.
    """
    splits = [[message[:at], message[at:]] for at in range(len(message) + 1)]
    for chunks in [*splits, [message[n : n + 1] for n in range(len(message))]]:
        digester = Header()
        for chunk in chunks:
            digester.feed(chunk)
        assert sha256(header) == digester.finish()


@given(LINES)
@example(b"\r\nA: b")
@example(b"A: b\n\r\n")
def test_the_header_ends_before_the_first_empty_line(octets):
    """
    Wherever the empty line stands, and with whatever line ends; else with the message.
    """
    found = EMPTY_LINE_FIRST.search(octets)
    header = octets[: found.start()] if found else re.sub(rb"\r?\n\Z", b"", octets)

    assert sha256(header) == header_digest(octets)


@given(LINES, st.lists(st.integers(0, 200)))
@example(b"\r\nA: b", [1])
def test_the_header_does_not_depend_on_the_chunks(octets, borders):
    """
    Any octets at any split give the digest of the whole.
    """
    header = Header()
    for chunk in split(octets, borders):
        header.feed(chunk)

    assert header_digest(octets) == header.finish()


@given(LINES, LINES, st.sampled_from([b"", b"\r\n"]))
def test_retr_and_top_give_the_same_digest(lines, body, final_empty_line):
    """
    TOP 0, with or without the empty line after the header, shows the header of RETR.
    """
    header = re.split(rb"\A\r?\n|\r?\n\r?\n", lines + b"\r\n\r\n")[0]
    end = b"\r\n" if header else b""
    message = header + end + b"\r\n" + body
    answer_to_top = header + end + final_empty_line

    assert header_digest(message) == header_digest(answer_to_top)


def test_only_the_start_of_a_header_is_kept():
    """
    A header without end costs no more memory than its first 64 KiB.
    """
    header = Header()
    for _ in range(3):
        header.feed(b"x" * HEADER_KEPT)
    header.finish()

    assert b"x" * HEADER_KEPT == header.kept


def test_octets_after_the_header_are_not_kept():
    """
    What follows the empty line is no header, in the same chunk and in the next.
    """
    header = Header()
    header.feed(b"A: b\r\n\r\nReceived: x")
    header.feed(b"; Tue, 1 Jan 2019 10:00:00 +0000\r\n\r\n")

    assert sha256(b"A: b") == header.finish()
    assert b"A: b" == header.kept


# -- the arrival ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (b"Received: by a; Tue, 1 Jan 2019 10:00:00 +0000", 1546336800.0),
        (
            b"RECEIVED: by a;\r\n\tTue, 1 Jan 2019\r\n 11:00:00 +0100 (CET)",
            1546336800.0,
        ),
        (b"X: y\nReceived: a; b;\n Tue, 1 Jan 2019 10:00:00 GMT", 1546336800.0),
        (b"Received: a; 1 Jan 2019 10:00:00", 1546336800.0),
        (
            b"Received: a; Tue, 1 Jan 2019 10:00:00 +0000\r\nReceived: b; 1 Jan 2018",
            1546336800.0,
        ),
    ],
)
def test_the_topmost_received_tells_the_arrival(header, seconds):
    """
    Folded, with comments, in any zone; the topmost one, since it was written last.
    """
    assert seconds == received_at(header)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Date: Tue, 1 Jan 2019 10:00:00 +0000",
        b"X-Received: a; Tue, 1 Jan 2019 10:00:00 +0000",
        b"Received: from a by b with no date",
        b"Received: a; the day before yesterday",
        b"Received: a; Tue, 1 Jan 99999 10:00:00 +0000",
    ],
)
def test_a_header_without_a_date_tells_no_arrival(header):
    """
    No Received, none with a date, or a date that is none: it is not made up.
    """
    assert received_at(header) is None


@given(st.binary(max_size=80), st.text("0123456789:+- ,;JanFriT()\n\t\r", max_size=80))
def test_no_header_can_make_the_arrival_fail(octets, text):
    """
    Whatever stands in a Received header: a number of seconds, or none.
    """
    for date in (octets, text.encode()):
        assert isinstance(received_at(b"Received: a;" + date), float | None)


def test_an_absurd_arrival_is_refused():
    """
    Before 1970, or more than a day ahead: the visit's start takes its place.
    """
    times = [(-1.0, NOW), (0.0, 0.0), (NOW + CLOCK_SKEW, NOW + CLOCK_SKEW)]
    for seconds, expected in [*times, (NOW + CLOCK_SKEW + 1, NOW)]:
        assert expected == arrival(_received(seconds), NOW)
    of_the_far_future = b"Received: a; 99999999999 Jan 2019 10:00:00 +0000"
    assert arrival(of_the_far_future, NOW) == NOW


def test_a_message_without_a_date_arrived_when_the_visit_started():
    """
    There is always an arrival.
    """
    assert arrival(b"Subject: x", NOW) == NOW


def _received(seconds):
    from datetime import UTC, datetime, timedelta
    from email.utils import format_datetime

    date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return b"Received: by a; " + format_datetime(date).encode()


# -- names ----------------------------------------------------------------------------


def test_a_name_tells_whose_it_is():
    """
    Time, ledger, number, 128 random bits and host; the size in the final name only.
    """
    base = names.new_base(NOW + 0.9, LEDGER, 17, "mx.example")

    assert re.fullmatch(r"1700000000\.L0123456789abN17R[0-9a-f]{32}\.mx\.example", base)
    assert f"{base},S=42" == names.final_name(base, Octets(42))
    assert "17" == names.ours(LEDGER).match(base).group(1)
    assert names.ours(LedgerId("ffffffffffff")).match(base) is None


def test_no_two_names_are_equal():
    """
    Not even those of one number in one second.
    """
    assert 100 == len({names.new_base(NOW, LEDGER, 1, "h") for _ in range(100)})


@pytest.mark.parametrize("added", ["", ",S=3", ":2,", ",S=3:2,FS", ",S=3,U=9:2,S"])
def test_a_name_is_known_under_whatever_a_reader_adds(added):
    """
    Size, a reader's number and flags begin after the base.
    """
    base = names.new_base(NOW, LEDGER, 1, "h:o/s,t")

    assert base == names.base_of(base + added)


@pytest.mark.parametrize(
    ("host", "harmless"),
    [
        ("mx-1.example", "mx-1.example"),
        ("a/b:c,d", r"a\057b\072c\054d"),
        ("", "localhost"),
        ("é\n\udcff", r"\303\251\012\377"),
        ("x" * 300, "x" * 64),
    ],
)
def test_a_host_brings_nothing_strange_into_a_name(host, harmless):
    """
    Each strange octet is written in octal, as DJB has it for "/" and ":".
    """
    assert harmless == names.harmless(host)
