"""
Listings: what is read of LIST and UIDL, in which order, within which limits.
"""

from __future__ import annotations

import time
import tracemalloc

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.errors import LimitExceeded
from popfetchd.pop3 import listings
from popfetchd.pop3.listings import (
    LONGEST_UNIQUE_ID,
    parse_scan_listing,
    parse_unique_id,
    parse_unique_id_listing,
)


def test_a_scan_listing() -> None:
    """LIST: number, blanks, octets, whatever follows; a size that is none claims 0."""
    body = b"1 120\r\n  02\t 200 octets\r\n3\r\n4 -5\r\n5 x\r\n0 1\r\nno 1\r\n6x 1\r\n"
    assert {1: 120, 2: 200, 3: 0, 4: 0, 5: 0} == parse_scan_listing(body)


def test_a_unique_id_listing() -> None:
    """UIDL: number, blanks, the rest, which may hold any octet but a line end."""
    body = b"1 a\r\n 2   b  c \t\r\n3 \r\n4\r\n05 \xff\0\x1b\r\nx y\r\n6 last"
    expected = {1: "a", 2: "b  c", 5: "\xff\0\x1b", 6: "last"}
    assert expected == parse_unique_id_listing(body)


@pytest.mark.parametrize(
    ("text", "unique_id"),
    [
        ("7 abc", "abc"),
        ("7\tabc ", "abc"),
        ("07  a b", "a b"),
        ("7", None),
        ("abc", None),
        ("8 abc", None),
        ("", None),
        ("7 " + "x" * 5000, None),
    ],
)
def test_the_unique_id_of_one_message(text: str, unique_id: str | None) -> None:
    """What follows the number that was asked for, as it would stand in a listing."""
    assert unique_id == parse_unique_id(text, 7)


def test_a_number_with_two_unique_ids_has_none() -> None:
    """What is listed twice, even equally, is told by neither line."""
    assert {2: "b"} == parse_unique_id_listing(b"1 a\r\n2 b\r\n1 c\r\n3 d\r\n3 d\r\n")


def test_a_unique_id_is_whole_or_absent() -> None:
    """Ids are never cut: two that differ late stay two, or are none (CVE-2005-2335)."""
    longest = b"x" * LONGEST_UNIQUE_ID
    body = b"1 %b\r\n2 %by\r\n3 %bz\r\n4 d\r\n" % (longest, longest, longest)
    assert {1: longest.decode(), 4: "d"} == parse_unique_id_listing(body)


@pytest.mark.parametrize("length", [1, 70, 71, 129, 4096, 4097, 1_000_000])
def test_a_unique_id_of_any_length(length: int) -> None:
    """Two ids that differ in their last octet are two, or none; they never are one."""
    ids = [b"x" * (length - 1) + last for last in (b"a", b"b")]
    listing = parse_unique_id_listing(b"1 %b\r\n2 %b\r\n" % (*ids,))
    kept = [uid.decode() for uid in ids if length <= LONGEST_UNIQUE_ID]
    assert kept == list(listing.values())


@pytest.mark.parametrize("parse", [parse_scan_listing, parse_unique_id_listing])
def test_listings_have_a_most(parse, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing of more lines than MOST_MESSAGES is refused, one of as many is not."""
    monkeypatch.setattr(listings, "MOST_MESSAGES", 3)
    assert 3 == len(parse(b"1 1\r\n2 2\r\n3 3\r\n"))
    with pytest.raises(LimitExceeded, match="MOST_MESSAGES"):
        parse(b"1 1\r\n2 2\r\n3 3\r\n4 4\r\n")


@pytest.mark.parametrize("parse", [parse_scan_listing, parse_unique_id_listing])
@pytest.mark.parametrize(
    "body", [b" " * 300_000, b"1" + b" " * 300_000, b"0" * 300_000, b"1\t" * 150_000]
)
def test_listings_are_read_in_linear_time(parse, body: bytes) -> None:
    """A line made to be slow to read is not."""
    begun = time.process_time()
    parse(body)
    assert time.process_time() - begun < 1


@given(st.dictionaries(st.integers(1, 10**9 - 1), st.text('!"#Az~\xff', min_size=1)))
def test_what_a_server_lists_is_what_we_read(ids: dict[int, str]) -> None:
    """Any unique-ids without blanks come back as they were, under their numbers."""
    body = "".join(f"{number} {uid}\r\n" for number, uid in ids.items())
    assert ids == parse_unique_id_listing(body.encode("latin-1"))


@given(st.binary())
def test_any_octets_are_read(body: bytes) -> None:
    """Whatever is read, its numbers ascend, and each has its value."""
    for listing in (parse_scan_listing(body), parse_unique_id_listing(body)):
        assert sorted(set(listing)) == list(listing)
        assert len(listing) == len(list(listing.values()))


LINES = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from(["a", "b", "x" * 5000])), max_size=8
)


@given(LINES)
def test_an_order_of_its_own(lines: list[tuple[int, str]]) -> None:
    """Numbers in any order, some twice, some too long: each line counts as it should."""
    body = "".join(f"{number} {uid}\r\n" for number, uid in lines).encode()
    numbers = [number for number, _ in lines]
    alone = {n: uid for n, uid in lines if numbers.count(n) == 1 and len(uid) < 5000}
    assert alone == parse_unique_id_listing(body)
    sizes = "".join(f"{number} {len(uid)}\r\n" for number, uid in lines).encode()
    assert {n: len(uid) for n, uid in lines} == parse_scan_listing(sizes)


def test_what_is_not_listed_is_not_found() -> None:
    """A number between, before or behind those listed has no value."""
    listing = parse_unique_id_listing(b"2 b\r\n4 d\r\n9 i\r\n")
    assert [None, "b", None, "d", None, "i", None] == [
        listing.get(number) for number in (1, 2, 3, 4, 5, 9, 10)
    ]
    with pytest.raises(KeyError):
        listing[0]


def test_a_listing_is_kept_small() -> None:
    """A message costs 8 octets, and 60 beside its unique-id; no dict is made of them."""
    messages = range(1, 20_001)
    ids = b"".join(b"%d %020d\r\n" % (n, n) for n in messages)
    sizes = b"".join(b"%d %d\r\n" % (n, 5 * n) for n in messages)
    tracemalloc.start()
    try:
        kept = parse_scan_listing(sizes)
        assert tracemalloc.get_traced_memory()[0] < 10 * len(kept)
        named = parse_unique_id_listing(ids)
        assert tracemalloc.get_traced_memory()[0] < (10 + 20 + 65) * len(named)
    finally:
        tracemalloc.stop()


VALUES = st.one_of(
    st.text("059", min_size=1, max_size=20), st.text("aZ!~\xff\x85\x0b", min_size=1)
)
STRANGE = st.sampled_from(["", " ", "\t", "\r", "\n", "\x85", "\x1c", "0", "-1", "x 1"])


@given(st.lists(VALUES, max_size=9), st.integers(0), STRANGE, st.integers(0, 3))
def test_the_usual_form_is_read_as_any_other(
    values: list[str], place: int, strange: str, lost: int
) -> None:
    """
    Lines as servers write them, also with something strange put anywhere, or cut off,
    say what they say when they are read one by one.
    """
    text = "".join(f"{number} {value}\r\n" for number, value in enumerate(values, 1))
    at = place % (len(text) + 1)
    whole = text[:at] + strange + text[at:]
    body = whole[: len(whole) - lost].encode("latin-1")
    pairs = (
        (parse_unique_id_listing, listings._any_ids),
        (parse_scan_listing, listings._any_sizes),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listings, "PORTION", 40)
        patch.setattr(listings, "LONGEST_UNIQUE_ID", 12)
        for parse, one_by_one in pairs:
            assert dict(zip(*one_by_one(body), strict=True)) == dict(parse(body))


def test_the_usual_form_is_not_read_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A listing as servers write it costs no step for each message."""
    monkeypatch.setattr(listings, "_any_ids", None)
    monkeypatch.setattr(listings, "_any_sizes", None)
    assert ["a", "b"] == [*parse_unique_id_listing(b"1 a\r\n2 b\r\n").values()]
    assert [7, 0] == [*parse_scan_listing(b"1 7\r\n2 0\r\n").values()]
    assert {} == parse_scan_listing(b"")
