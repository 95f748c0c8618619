"""
The mbox format: any octets there and back, hostile senders, readers' headers.
"""

from __future__ import annotations

import hashlib
import mailbox
import time

import pytest

from hypothesis import example, given
from hypothesis import strategies as st

from popfetchd.archive import mboxrd


ARRIVED = 1_700_000_000.0
LINE = b"From ada@example.org Tue Nov 14 22:13:20 2023\n"
TRICKY = st.lists(
    st.sampled_from(
        [b"From ", b">From ", b">", b"\n", b"\r", b"F", b"Fr", b"om ", b"x", b"\0"]
    )
).map(b"".join)


@st.composite
def cuttings(draw, octets):
    """
    Cut octets into chunks, some of them empty.
    """
    whole = draw(octets)
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    return [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def sha256(octets):
    return hashlib.sha256(octets).digest()


def in_mbox(*messages):
    return b"".join(b"".join(mboxrd.entry(LINE, [message])) for message in messages)


def bare(octets):
    digest = mboxrd.Bare()
    digest.feed(octets)
    return digest.digest()


# -- quoting --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (b"a\nFrom b\n", b"a\n>From b\n\n"),
        (b"From b\n", b">From b\n\n"),
        (b"a\n>>From b\n", b"a\n>>>From b\n\n"),
        (b"a From b\nFromage\n", b"a From b\nFromage\n\n"),
        (b"a\r\nFrom b\r\n", b"a\r\n>From b\r\n\n"),
        (b"no end", b"no end\n\n"),
        (b"", b"\n"),
        (b"\n\n", b"\n\n\n"),
    ],
)
def test_entries(stored, expected):
    """
    A From_ line, the message with its From lines quoted, and one empty line.
    """
    assert LINE + expected == in_mbox(stored)


@given(chunks=cuttings(TRICKY | st.binary()), size=st.integers(1, 9))
@example(chunks=[b"a\n>>>", b">From b"], size=1)
def test_any_octets_there_and_back(chunks, size):
    """
    Whatever the message and the chunks, it is read back; and no line of it separates.
    """
    stored = b"".join(chunks)
    written = b"".join(mboxrd.entry(LINE, chunks))[len(LINE) :]
    content, altered = mboxrd.Content(), mboxrd.Content()
    for at in range(0, len(written), size):
        content.feed(written[at : at + size])
        altered.feed(written[at : at + size])

    assert written == in_mbox(stored)[len(LINE) :]
    assert b"\nFrom " not in b"\n" + written
    assert content.is_of(sha256(stored))
    assert not altered.is_of(sha256(stored + b"x"))


def test_a_run_of_brackets_is_not_held():
    """
    Memory does not grow with a line of nothing but ">".
    """
    quoting = mboxrd.Requoting(mboxrd.TO_QUOTE, rb"\1>From ")
    fed = b"".join(quoting.feed(b">" * 1000) for _ in range(10))

    assert 9999 == len(fed)
    assert b">>From " == quoting.feed(b"From ")


def test_what_does_not_end_is_not_a_message():
    """
    An entry that is cut off has no empty line at its end.
    """
    content = mboxrd.Content()
    content.feed(b"cut o")

    assert not content.is_of(sha256(b"cut o"))
    assert not mboxrd.Content().is_of(sha256(b""))


# -- the From_ line -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "sender"),
    [
        (b"Return-Path: <ada@example.org>\nTo: b\n", b"ada@example.org"),
        (b"Return-Path: <ada@example.org>\r\nTo: b\r\n", b"ada@example.org"),
        (b"To: b\nreturn-path:<a+b=c@d>  \n", b"a+b=c@d"),
        (b"Return-Path: <>\n", b"MAILER-DAEMON"),
        (b"Subject: x\n", b"MAILER-DAEMON"),
        (b"", b"MAILER-DAEMON"),
        (b"Return-Path: <a b@c>\n", b"MAILER-DAEMON"),
        (b"Return-Path: <a>\rFrom x\n", b"MAILER-DAEMON"),
        (b"Return-Path: <a\n\tb@c>\n", b"MAILER-DAEMON"),
        (b"Return-Path: <\x1b[2J@c>\n", b"MAILER-DAEMON"),
        (b"Return-Path: <\xc3\xa4@c>\n", b"MAILER-DAEMON"),
        (b"Return-Path: <" + b"a" * 257 + b">\n", b"MAILER-DAEMON"),
        (b"Return-Path: <>\nReturn-Path: <second@c>\n", b"MAILER-DAEMON"),
        (b"Subject: x\n\nReturn-Path: <body@c>\n", b"MAILER-DAEMON"),
        (b"\nReturn-Path: <body@c>\n", b"MAILER-DAEMON"),
    ],
)
def test_senders(header, sender):
    """
    One word of printable ASCII from the topmost Return-Path, or nobody.
    """
    expected = b"From %s Tue Nov 14 22:13:20 2023\n" % sender
    assert expected == mboxrd.from_line(header, ARRIVED)


@given(st.binary().map(lambda b: b"Return-Path: <" + b + b">\n"), st.integers(0, 2**33))
def test_no_sender_forges_a_line(header, arrived):
    """
    Whatever stands in a header, the From_ line is one line of seven words.
    """
    line = mboxrd.from_line(header, arrived)

    assert line.endswith(b"\n")
    assert line[:-1].isascii()
    assert line[:-1].decode().isprintable()
    assert 7 == len(line.split(b" ")) - line.count(b"  ")


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "UTC"])
def test_the_date_is_that_of_utc(monkeypatch, zone):
    """
    Wherever the machine thinks it is.
    """
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert b" Thu Jan  1 00:00:00 1970\n" in mboxrd.from_line(b"", 0.0)
    finally:
        monkeypatch.undo()
        time.tzset()


# -- what readers change --------------------------------------------------------------


PLAIN = b"From: a\nSubject: b\n\nbody\nStatus: x\n"


@pytest.mark.parametrize(
    "rewritten",
    [
        PLAIN,
        b"From: a\nSubject: b\nStatus: RO\n\nbody\nStatus: x\n",
        b"X-UID: 7\nFrom: a\nX-Status: A\nSubject: b\n\nbody\nStatus: x\n",
        b"From: a\nX-IMAPbase: 1 2\nX-Keywords: $x\n   y\n\tz\nSubject: b\n\nbody\nStatus: x\n",
        b"From: a\nSubject: b\nContent-Length: 9\nLines: 2\n\nbody\nStatus: x\n\n\n",
        b"From: a\nSubject: b\nx-imap: 1\n\nbody\nStatus: x",
        b"From: a\r\nSubject: b\r\nX-UID: 1\n\nbody\nStatus: x",
        b"From: a\r\nSubject: b\r\n\r\nbody\nStatus: x",
    ],
)
def test_what_readers_add_does_not_count(rewritten):
    """
    Their fields, wherever they stand in the header, CRLF there, and empty lines at the
    end.
    """
    assert bare(PLAIN) == bare(rewritten)


@pytest.mark.parametrize(
    "other",
    [
        PLAIN.replace(b"body", b"bodz"),
        PLAIN.replace(b"\nStatus: x", b""),
        PLAIN.replace(b"\nbody", b"body"),
        b"X-Status-Of: x\n" + PLAIN,
        PLAIN[:-3],
    ],
)
def test_all_else_counts(other):
    """
    A message that differs elsewhere is another.
    """
    assert bare(PLAIN) != bare(other)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"Status: O\nTo: b\n", b"To: b\nStatus: RO\n\n", True),
        (b"\nStatus: O\n", b"\nStatus: RO\n", False),
        (b"", b"\n\n", True),
        (b"a: " + b"b" * mboxrd.LONGEST_HEADER, b"a: b", False),
    ],
    ids=["a header alone", "a body alone", "nothing", "an endless header"],
)
def test_bare_digests_of_strange_messages(one, other, same):
    """
    What is header and what is not, at the ends.
    """
    assert same == (bare(one) == bare(other))


@given(cuttings(TRICKY | st.binary()))
def test_a_bare_digest_does_not_depend_on_chunks(chunks):
    """
    However a message comes.
    """
    digest = mboxrd.Bare()
    for chunk in chunks:
        digest.feed(chunk)

    assert bare(b"".join(chunks)) == digest.digest()


# -- a whole file ---------------------------------------------------------------------


@given(st.lists(TRICKY, max_size=5), st.integers(1, 50))
def test_each_message_of_a_file_is_found(messages, size):
    """
    One digest for each, in order, whatever the pieces in which the file is read.
    """
    octets = in_mbox(*messages)
    chunks = [octets[at : at + size] for at in range(0, len(octets), size)]

    assert list(map(bare, messages)) == list(mboxrd.bare_digests(chunks))


def test_a_long_file_is_read_in_pieces():
    """
    Messages larger than what is held of the file at once.
    """
    messages = [b"Subject: %d\n\n" % n + b"From here\n" * 2000 * n for n in range(4)]
    octets = in_mbox(*messages)
    chunks = [octets[at : at + 4096] for at in range(0, len(octets), 4096)]

    assert list(map(bare, messages)) == list(mboxrd.bare_digests(chunks))


def test_what_stands_before_the_first_message_is_nobody_s():
    """
    A file that is no mbox holds no message, and an endless From_ line is none.
    """
    assert [] == list(mboxrd.bare_digests([b"no mbox\nFrom" + b"x" * 5000]))
    assert [] == list(mboxrd.bare_digests([b"From " + b"x" * 5000 + b"\n"]))
    assert [] == list(mboxrd.bare_digests([]))


@given(st.lists(TRICKY.filter(lambda m: b"\r" not in m), min_size=1, max_size=5))
def test_python_counts_the_same(tmp_path_factory, messages):
    """
    The standard library's mbox sees as many messages, with the same bodies but for the
    quoting, which it does not undo.
    """
    path = tmp_path_factory.mktemp("python") / "mbox"
    path.write_bytes(in_mbox(*messages))
    box = mailbox.mbox(path, create=False)
    found = [box.get_bytes(key) for key in box.iterkeys()]
    box.close()

    assert [in_mbox(m)[len(LINE) :].rstrip(b"\n") for m in messages] == [
        body.rstrip(b"\n") for body in found
    ]
