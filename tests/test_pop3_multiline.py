"""
The multi-line reader: exact octets, whatever the chunks.
"""

from __future__ import annotations

import time

from itertools import pairwise

import pytest

from hypothesis import example, given
from hypothesis import strategies as st

from popfetchd.errors import LimitExceeded
from popfetchd.pop3.multiline import CRLF, Collector, MultilineReader


def stuffed(message: bytes) -> bytes:
    """
    Send *message*, which ends in CRLF or is empty, as RFC 1939 §3 says: slowly, simply.
    """
    lines = message.split(CRLF)[:-1]
    sent = [b"." + line if line.startswith(b".") else line for line in lines]
    return b"".join(line + CRLF for line in [*sent, b"."])


def read(pieces: list[bytes], line_end: bytes = CRLF) -> tuple[bytes, bytes, bool]:
    """
    Read *pieces*, which begin at the status line's end: message, leftovers, ended.
    """
    reader, buffer, at, got = MultilineReader(line_end), b"", 0, b""
    for piece in pieces:
        buffer, at = buffer[at:] + piece, 0
        while not reader.ended:
            chunk, at = reader.read(buffer, at)
            got += chunk
            if not chunk:
                break
    return got, buffer[at:], reader.ended


MESSAGES = st.lists(
    st.sampled_from(
        [b"", b".", b"..", b"...", b".a", b"a", b"\r", b"\n", b"\0", b".\r"]
    )
    | st.binary(max_size=9).filter(lambda line: CRLF not in line)
).map(lambda lines: b"".join(line + CRLF for line in lines))


@given(MESSAGES, st.binary(max_size=9), st.sets(st.integers(0, 60)))
@example(b"", b"", set())
@example(b"\r\n", b"+OK\r\n", {1, 2, 3, 4, 5})
def test_a_message_is_exact(message: bytes, behind: bytes, cuts: set[int]) -> None:
    """Any message, cut anywhere, comes back as it was, and what is behind is untouched."""
    sent = CRLF + stuffed(message) + behind
    places = [0, *sorted(cut for cut in cuts if cut < len(sent)), len(sent)]
    pieces = [sent[a:b] for a, b in pairwise(places)]
    assert (message, behind, True) == read(pieces)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"\r\n.\r\n", b""),
        (b"\r\n\r\n.\r\n", b"\r\n"),
        (b"\r\n..\r\n.\r\n", b".\r\n"),
        (b"\r\n....\r\n.\r\n", b"...\r\n"),
        (b"\r\n..a\r\n..b\r\n.\r\n", b".a\r\n.b\r\n"),
        (b"\r\na..b\r\n.\r\n", b"a..b\r\n"),
        (b"\r\n.kept\r\n.\r\n", b".kept\r\n"),
        (b"\r\n.\0\r\n.\r\n", b".\0\r\n"),
        (b"\r\n.\r.\r\n.\r\n", b".\r.\r\n"),
        (b"\r\na\n.\nb\r\n.\r\n", b"a\n.\nb\r\n"),
        (b"\r\na\r.\rb\r\n.\r\n", b"a\r.\rb\r\n"),
    ],
)
def test_every_split(sent: bytes, message: bytes) -> None:
    """A message reads the same whole, octet by octet, and cut at each place."""
    whole = (message, b"behind", True)
    sent += b"behind"
    assert whole == read([sent])
    assert whole == read([sent[at : at + 1] for at in range(len(sent))])
    for cut in range(len(sent)):
        assert whole == read([sent[:cut], sent[cut:]])


@pytest.mark.parametrize("sent", [b"\r\nab\r\n.\r", b"\r\nab.\r\n", b"\r\nab\r\n.\n"])
def test_no_end(sent: bytes) -> None:
    """What is not CRLF . CRLF ends nothing."""
    assert read([sent])[2] is False


def test_a_server_that_ends_lines_in_lf() -> None:
    """Where the status line ended in a bare LF, LF . LF is the end, and CRLF is not."""
    sent = b"\na\n..b\n\r\n.\r\nc\n.\n+OK\n"
    assert (b"a\n.b\n\r\n.\r\nc\n", b"+OK\n", True) == read([sent], b"\n")


def test_large_bodies_cost_little() -> None:
    """16 MB in chunks of a TLS record take well under half a second of CPU."""
    record = (b"x" * 60 + b"\r\n..") * 256
    reader, buffer, octets = MultilineReader(), CRLF, 0
    begun = time.process_time()
    for _ in range(1000):
        buffer += record
        chunk, at = reader.read(buffer, 0)
        buffer, octets = buffer[at:], octets + len(chunk)
    assert time.process_time() - begun < 0.5
    assert 1000 * (len(record) - 256) == octets + len(buffer)


def test_a_collector_gathers() -> None:
    """What was added comes back whole, up to the last octet allowed."""
    collector = Collector("SOME_LIMIT", 4)
    collector.add(b"ab")
    collector.add(b"cd")
    assert b"abcd" == collector.octets()


def test_a_collector_is_bounded() -> None:
    """One octet more than allowed raises the limit by its name."""
    collector = Collector("SOME_LIMIT", 4)
    collector.add(b"abc")
    with pytest.raises(LimitExceeded) as caught:
        collector.add(b"de")
    assert ("SOME_LIMIT", 4) == (caught.value.limit, caught.value.allowed)
