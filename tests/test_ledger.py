"""
The ledger's rows: recorded, published, adopted, sighted, marked, removed, failed.
"""

from __future__ import annotations

import hashlib
import itertools
import sqlite3

from contextlib import closing
from pathlib import Path

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.errors import LedgerError
from popfetchd.ledger import Ledger
from popfetchd.values import (
    NEVER,
    AccountName,
    AccountState,
    ArchiveFormat,
    ContentDigest,
    Copy,
    Due,
    Failure,
    Fingerprint,
    HeaderDigest,
    Known,
    Listed,
    MessageNumber,
    Octets,
    Plain,
    Published,
    Receipt,
    Recorded,
    RowId,
    Seen,
    SessionId,
    Since,
    Spooled,
    StoredForm,
    UniqueId,
    Verified,
)


NOW = 1_700_000_000.0
ALICE = AccountName("alice")
BOB = AccountName("bob")
NUMBERS = itertools.count(1)


@pytest.fixture
def clock():
    """
    The time, as a list of one.
    """
    return [NOW]


@pytest.fixture
def ledger(tmp_path, clock):
    with Ledger(tmp_path / "ledger.db", now=lambda: clock[0]) as opened:
        yield opened


def sha256(text):
    return hashlib.sha256(text.encode()).digest()


def verified(text, unique_id=None, octets=100, times=1, header=None):
    """
    A message whose content is *text*, listed as said, and proved.
    """
    number = next(NUMBERS)
    uid = None if unique_id is None else UniqueId(unique_id)
    size = None if octets is None else Octets(octets)
    listed = Listed(SessionId("s"), MessageNumber(number), uid, size, times)
    base = f"1700000000.L0123456789abN{number}R{number:032x}.mx"
    copy = Copy(ArchiveFormat.MAILDIR, Path("/mail"), base, f"{base},S=90")
    fingerprint = Fingerprint(
        Octets(101),
        Octets(90),
        StoredForm.LF,
        HeaderDigest(sha256(header or f"header of {text}")),
        ContentDigest(sha256(text)),
    )
    return Verified(Spooled(listed, number, copy, fingerprint))


def archived(ledger, *batch, account=ALICE):
    """
    Record and commit *batch*; return the rows, adopted or new, in order.
    """
    entries = ledger.record(account, batch)
    ledger.commit([Published(e) for e in entries if isinstance(e, Recorded)])
    return [entry.row for entry in entries]


def known(ledger, account=ALICE):
    """
    What selection sees, by row.
    """
    return {row.row: row for row in ledger.known(account)}


def sight(ledger, there, duplicated=(), hidden=()):
    """
    Let a complete listing show the rows *there* of ALICE's, and no other.
    """
    rows, there = ledger.known(ALICE), frozenset(there)
    vanished = {r.row for r in rows if r.row not in there and (r.accounted or r.marked)}
    returned = {r.row for r in rows if r.row in there and (r.marked or not r.accounted)}
    seen = Seen(frozenset(vanished), frozenset(returned), frozenset(hidden) - there)
    ledger.sight(ALICE, seen, duplicated)


def flags(row):
    """
    What a row says of itself: accounted, doubtful, marked.
    """
    said = {"a": row.accounted, "d": row.doubtful, "m": row.marked}
    return "".join(letter for letter, on in said.items() if on)


# -- numbers --------------------------------------------------------------------------


def test_a_number_is_given_once(ledger):
    """
    Each reservation begins where the last one ended; none costs nothing.
    """
    assert [range(1, 4), range(0), range(4, 5)] == [
        ledger.reserve(n) for n in (3, 0, 1)
    ]
    assert 4 == ledger.highest()


def test_a_number_is_not_given_again_after_a_restart(tmp_path):
    """
    What was reserved is durable before it is given.
    """
    path = tmp_path / "ledger.db"
    with Ledger(path, now=lambda: NOW) as ledger:
        ledger.reserve(7)
    with Ledger(path, now=lambda: NOW) as ledger:
        assert (7, range(8, 9)) == (ledger.highest(), ledger.reserve(1))


# -- record and commit ----------------------------------------------------------------


def test_a_new_message_is_recorded_then_published(ledger, clock):
    """
    An open row until the commit; then a receipt, and the row that selection sees.
    """
    message = verified("a", "uid-a", octets=100)
    (recorded,) = ledger.record(ALICE, [message])
    copy, content = message.spooled.copy, message.spooled.fingerprint.content

    assert Recorded(recorded.row, copy, content) == recorded
    assert [recorded] == ledger.open_rows(ALICE)
    assert ([], {copy.base}) == (ledger.known(ALICE), ledger.open_bases())
    assert ([], 0) == (ledger.receipts([recorded.row]), ledger.archived_count(ALICE))

    clock[0] += 5
    (receipt,) = ledger.commit([Published(recorded)])
    assert (
        Receipt(
            row=recorded.row,
            unique_id=UniqueId("uid-a"),
            octets=Octets(100),
            header=message.spooled.fingerprint.header,
            content=content,
            archived_at=NOW + 5,
        )
        == receipt
    )
    assert [
        Known(recorded.row, "uid-a", 100, NOW + 5, True, False, False)
    ] == ledger.known(ALICE)
    assert ([], frozenset()) == (ledger.open_rows(ALICE), ledger.open_bases())
    assert ([receipt], 1) == (
        ledger.receipts([recorded.row]),
        ledger.archived_count(ALICE),
    )


def test_nothing_is_recorded_of_nothing(ledger):
    """
    Empty batches cost no commit.
    """
    assert [[], [], []] == [
        ledger.record(ALICE, []),
        ledger.commit([]),
        ledger.receipts([]),
    ]


def test_accounts_do_not_share_messages(ledger):
    """
    The same message in two maildrops is two messages.
    """
    (alices,) = archived(ledger, verified("a", "u"))
    sight(ledger, [], [])
    (bobs,) = archived(ledger, verified("a", "u"), account=BOB)

    assert alices != bobs
    assert ([alices], [bobs]) == (list(known(ledger)), list(known(ledger, BOB)))


def test_a_batch_is_recorded_in_order_with_what_no_listing_told(ledger):
    """
    Also a message without unique-id and listed octets.
    """
    entries = ledger.record(ALICE, [verified(t, octets=None) for t in "abc"])
    receipts = ledger.commit([Published(entry) for entry in reversed(entries)])

    assert [e.row for e in entries] == sorted(e.row for e in entries)
    assert [e.row for e in reversed(entries)] == [r.row for r in receipts]
    assert {(None, None)} == {(r.unique_id, r.octets) for r in receipts}


def test_a_unique_id_keeps_each_octet(ledger):
    """
    Whatever octets a server made of it.
    """
    strange = "".join(map(chr, range(256)))
    archived(ledger, verified("a", strange))

    assert [strange] == [row.unique_id for row in ledger.known(ALICE)]


def test_a_commit_may_be_done_again(ledger, clock):
    """
    A row that is published stays as it is.
    """
    (recorded,) = ledger.record(ALICE, [verified("a", "u")])
    first = ledger.commit([Published(recorded)])
    clock[0] += 1

    assert first == ledger.commit([Published(recorded)])


def test_a_row_that_is_not_there_makes_no_receipt(ledger):
    """
    Nor does any other row of that batch (P1).
    """
    one, other = ledger.record(ALICE, [verified("a"), verified("b")])
    ledger.void(other)

    with pytest.raises(LedgerError, match=f"there is no open row {other.row}"):
        ledger.commit([Published(one), Published(other)])
    assert [one] == ledger.open_rows(ALICE)


def test_only_an_open_row_is_void(ledger):
    """
    What was published is never forgotten.
    """
    (open_row,) = ledger.record(ALICE, [verified("a")])
    ledger.commit([Published(open_row)])
    ledger.void(open_row)

    assert [open_row.row] == list(known(ledger))


# -- adoption: which message is it ----------------------------------------------------


def test_a_message_under_a_new_unique_id_is_the_same(ledger):
    """
    It vanished, another unique-id came, the content is equal: not archived again (P2).
    """
    (row,) = archived(ledger, verified("a", "old", octets=100))
    sight(ledger, [], [])
    (receipt,) = ledger.record(ALICE, [verified("a", "new", octets=99)])

    assert (row, "new", 99) == (receipt.row, receipt.unique_id, receipt.octets)
    assert NOW == receipt.archived_at
    assert "a" == flags(known(ledger)[row])


def test_a_message_that_vanished_and_came_back_is_doubtful(ledger):
    """
    It bears the unique-id it bore before: adopted, and never again believed by it.
    """
    (row,) = archived(ledger, verified("a", "u"))
    sight(ledger, [], [])
    archived(ledger, verified("a", "u"))

    assert {row: "ad"} == {r: flags(k) for r, k in known(ledger).items()}


def test_the_header_of_the_last_retrieval_counts(ledger):
    """
    A server that changed its line ends shows another header of the same content.
    """
    archived(ledger, verified("a", "u", header="with CRLF"))
    sight(ledger, [], [])
    (receipt,) = ledger.record(ALICE, [verified("a", "v", header="with LF")])

    assert sha256("with LF") == receipt.header


def test_two_whole_copies_listed_at_once_are_two_messages(ledger):
    """
    In one batch, and in two of one visit.
    """
    both = archived(ledger, verified("a", "u", times=2), verified("a", "u", times=2))
    third = archived(ledger, verified("a", "v"))

    assert 3 == len({*both, *third})
    assert ["ad", "ad", "a"] == [flags(known(ledger)[r]) for r in both + third]


def test_a_unique_id_that_stands_twice_says_nothing_at_once(ledger):
    """
    Also when only one of the copies could be retrieved.
    """
    (row,) = archived(ledger, verified("a", "u", times=2))

    assert "ad" == flags(known(ledger)[row])


def test_a_unique_id_that_many_bear_is_doubted_once(ledger):
    """
    A server may give one to all its messages: what says so already is not written again.
    """
    with closing(sqlite3.connect(ledger.path)) as db:
        db.executescript(
            "CREATE TABLE written (id);"
            "CREATE TRIGGER doubted AFTER UPDATE OF doubtful ON message"
            " BEGIN INSERT INTO written VALUES (new.id); END;"
        )
    rows = archived(ledger, *(verified(f"{n}", "u") for n in range(30)))

    with closing(sqlite3.connect(ledger.path)) as db:
        assert [(rows[0],)] == db.execute("SELECT id FROM written").fetchall()
    assert {"ad"} == {flags(row) for row in known(ledger).values()}


def test_copies_are_matched_one_to_one(ledger):
    """
    Two rows vanished, three copies came: two are adopted, one is new.
    """
    rows = archived(ledger, verified("a", "u1"), verified("a", "u2"))
    sight(ledger, [], [])
    entries = ledger.record(ALICE, [verified("a", f"v{n}") for n in range(3)])

    assert [Receipt, Receipt, Recorded] == [type(entry) for entry in entries]
    assert rows == [entry.row for entry in entries[:2]]


def test_of_equal_rows_the_one_with_the_unique_id_is_adopted(ledger):
    """
    Whichever was archived first.
    """
    rows = archived(ledger, verified("a", "u1"), verified("a", "u2"))
    sight(ledger, [], [])
    entries = ledger.record(ALICE, [verified("a", "u2"), verified("a", "u1")])

    assert rows[::-1] == [entry.row for entry in entries]


def test_a_row_that_is_accounted_for_is_not_adopted(ledger):
    """
    The listing shows it: the other copy is another message.
    """
    (row,) = archived(ledger, verified("a", "u"))
    sight(ledger, [row], [])

    assert isinstance(ledger.record(ALICE, [verified("a", "v")])[0], Recorded)


def test_a_removed_message_that_comes_back_is_the_same(ledger, clock):
    """
    With the unique-id it had: the server lost its UPDATE. Archived when it was.
    """
    (row,) = archived(ledger, verified("a", "u"))
    ledger.mark([row])
    ledger.removed([row])
    clock[0] += 9
    (receipt,) = ledger.record(ALICE, [verified("a", "u")])

    assert (row, NOW) == (receipt.row, receipt.archived_at)
    assert "ad" == flags(known(ledger)[row])


def test_a_copy_of_a_removed_message_is_another_message(ledger):
    """
    The server said +OK to its removal, and this one has another unique-id, or none.
    """
    rows = archived(ledger, verified("a", "u"), verified("b"))
    ledger.mark(rows)
    ledger.removed(rows)
    entries = ledger.record(ALICE, [verified("a", "v"), verified("b")])

    assert [Recorded, Recorded] == [type(entry) for entry in entries]


def test_a_removal_that_no_one_confirmed_may_come_back_under_any_name(ledger):
    """
    Marked, then absent from the next listing: it may only have been renamed.
    """
    (row,) = archived(ledger, verified("a", "u"))
    ledger.mark([row])
    sight(ledger, [], [])
    (receipt,) = ledger.record(ALICE, [verified("a", "v")])

    assert row == receipt.row
    assert "a" == flags(known(ledger)[row])


def test_a_unique_id_given_to_another_message_says_nothing(ledger):
    """
    Neither of the new one nor of the one that bore it before.
    """
    (first,) = archived(ledger, verified("a", "u"))
    sight(ledger, [], [])
    (second,) = archived(ledger, verified("b", "u"))

    assert {first: "d", second: "ad"} == {
        row: flags(k) for row, k in known(ledger).items()
    }


def test_messages_without_a_unique_id_are_not_doubtful(ledger):
    """
    There is nothing to doubt; content alone decides.
    """
    rows = archived(ledger, verified("a"), verified("b"))
    sight(ledger, [], [])
    again = archived(ledger, verified("b"), verified("a"))

    assert rows[::-1] == again
    assert {"a"} == {flags(k) for k in ledger.known(ALICE)}


@given(
    st.lists(st.sampled_from("abc"), max_size=6),
    st.lists(st.lists(st.sampled_from("abc"), max_size=6), max_size=4),
)
def test_every_copy_is_archived_exactly_once(tmp_path_factory, first, later):
    """
    Whatever a server without lasting unique-ids lists, at each visit: as many rows
    are accounted for as copies are listed, and none is archived beyond the most copies
    that were ever listed at once (P2).
    """
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    with Ledger(path, now=lambda: NOW) as ledger:
        for listing in [first, *later]:
            sight(ledger, [], [])
            archived(ledger, *(verified(t, str(next(NUMBERS))) for t in listing))
            present = [k for k in ledger.known(ALICE) if k.accounted]
            assert len(listing) == len(present)
        most = sum(max(x.count(t) for x in [first, *later]) for t in "abc")
        assert most == ledger.archived_count(ALICE)


# -- known, apart ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "plain"),
    [
        ("accounted = 1", True),
        ("accounted = 0", False),
        ("doubtful = 1", False),
        ("marked = 1", False),
        ("altered = 1", False),
        ("popped = 1", False),
        ("unique_id = NULL", False),
        ("octets_listed = NULL", False),
        (f"unique_id = '{'x' * 256}'", False),
        ("state = 'damaged'", None),
        (f"archived_at = {NOW} - 9.5", False),
        (f"arrived_at = {NOW} - 9.5", True),
    ],
)
def test_a_row_is_plain_or_told_of_by_itself(ledger, change, plain):
    """
    Plain is what the last listing had, what nothing speaks against, and is not due.
    """
    row, other = archived(ledger, verified("one", "u 1 \xff"), verified("two", "u2"))
    with closing(sqlite3.connect(ledger.path)) as db, db:
        db.execute(f"UPDATE message SET {change} WHERE id = ?", (row,))

    due = Due(Since.ARCHIVED, 9.0, NOW)
    columns, others = ledger.known_apart(ALICE, due)

    told = known(ledger)
    assert other in columns.rows
    assert (plain is True) == (row in columns.rows)
    assert ([told[row]] if plain is False else []) == others
    for one in columns.one_by_one():
        mine = told[one.row]
        assert mine == one._replace(
            archived_at=mine.archived_at, arrived_at=mine.arrived_at
        )


def test_plain_rows_become_due_by_the_message_s_age_too(ledger):
    """
    Where time counts from a message's arrival, that decides; never is never.
    """
    archived(ledger, verified("one", "u1"))  # arrived in 1970

    def plain(since, wait):
        return len(ledger.known_apart(ALICE, Due(since, wait, NOW))[0].rows)

    assert (0, 1) == (plain(Since.ARRIVED, 9.0), plain(Since.ARCHIVED, 9.0))
    assert 1 == plain(Since.ARRIVED, NEVER)
    assert (Plain(), []) == ledger.known_apart(BOB, Due(Since.ARRIVED, NEVER, NOW))


def test_what_changes_nothing_is_not_written(ledger, monkeypatch):
    """
    A listing that shows what the last one did costs no commit, however many rows.
    """
    rows = archived(ledger, verified("one", "u1"), verified("two", "u2"))
    sight(ledger, rows, [UniqueId("u2")])
    monkeypatch.setattr(ledger._writer, "do", None)

    ledger.sight(ALICE, Seen(returned=frozenset(rows)), [UniqueId("u2")])


# -- sight ----------------------------------------------------------------------------


def test_a_listing_shows_what_is_there_and_what_has_vanished(ledger):
    """
    Accounted for, vanished, and back again; the others' rows are not touched.
    """
    here, gone = archived(ledger, verified("a", "u"), verified("b", "v"))
    (bobs,) = archived(ledger, verified("a", "u"), account=BOB)
    sight(ledger, [here], [])
    assert {here: "a", gone: ""} == {r: flags(k) for r, k in known(ledger).items()}

    sight(ledger, {gone}, [])
    assert {here: "", gone: "a"} == {r: flags(k) for r, k in known(ledger).items()}
    assert "a" == flags(known(ledger, BOB)[bobs])


def test_a_listing_decides_about_marks(ledger):
    """
    Marked and there: it was not removed. Marked and gone: it was.
    """
    here, gone = archived(ledger, verified("a", "u"), verified("b", "v"))
    ledger.mark([here, gone])
    sight(ledger, [here], [])

    assert {here: "a"} == {r: flags(k) for r, k in known(ledger).items()}
    assert ([], 2) == (ledger.receipts([gone]), ledger.archived_count(ALICE))


def test_what_the_server_hides_is_removed_once_it_is_gone(ledger):
    """
    Popped and there: it stays. Popped and gone: it counts as removed, and a copy of it
    under another unique-id is a message of its own; under its own it is the same.
    """
    there, gone = archived(ledger, verified("a", "u"), verified("b", "v"))
    ledger.pop([there, gone])
    assert {True} == {row.popped for row in known(ledger).values()}

    sight(ledger, [there], [], [gone])
    assert {there: "a"} == {r: flags(k) for r, k in known(ledger).items()}

    again, copy = archived(ledger, verified("b", "v"), verified("b", "w"))
    assert (gone, False) == (again, copy == gone)
    assert [True, False, False] == [row.popped for row in known(ledger).values()]


def test_what_is_hidden_and_there_all_the_same_stays(ledger):
    """
    What the listing shows goes before what was expected of it.
    """
    (row,) = archived(ledger, verified("a", "u"))
    ledger.pop([row])
    ledger.pop([])
    sight(ledger, [row], [], [row])
    assert {row: "a"} == {r: flags(k) for r, k in known(ledger).items()}


def test_a_unique_id_that_stands_twice_is_doubtful_from_then_on(ledger):
    """
    Also when it stands once again in later listings.
    """
    row, other = archived(ledger, verified("a", "u"), verified("b", "v"))
    sight(ledger, [row, other], [UniqueId("u")])
    sight(ledger, [row, other], [])

    assert {row: "ad", other: "a"} == {r: flags(k) for r, k in known(ledger).items()}


def test_a_listing_that_shows_nothing_new_is_not_written(ledger):
    """
    A visit that finds all as it was costs no commit.
    """
    row, gone = archived(ledger, verified("a", "u"), verified("b", "v"))
    sight(ledger, [row], [UniqueId("u")])
    writes = []
    ledger._writer.do = writes.append
    sight(ledger, [row], [UniqueId("u")])

    assert [] == writes
    assert gone in known(ledger)


# -- what stood side by side ----------------------------------------------------------


def lost_sight_of(ledger, *, first, left=None):
    """
    Archive a message, leave *left* beside it, and see it vanish; return its row.

    *first*: what is left was so before the message vanished, else after that.
    """
    (row,) = archived(ledger, verified("a", "uid-a"))
    if first:
        ledger.leave(ALICE, left or {})
    sight(ledger, [], [])
    if not first:
        ledger.leave(ALICE, left or {})
    return row


def test_what_stood_beside_a_message_is_not_that_message(ledger):
    """
    Two equal messages of one listing are two, also when the first one is gone since.
    """
    row = lost_sight_of(ledger, first=True, left={UniqueId("uid-b"): Octets(100)})
    assert [row] != archived(ledger, verified("a", "uid-b"))


def test_what_was_removed_perhaps_is_not_what_stood_beside_it(ledger):
    """
    A DELE whose end nobody learned of does not take the second copy along.
    """
    (row,) = archived(ledger, verified("a", "uid-a"))
    ledger.leave(ALICE, {UniqueId("uid-b"): Octets(100)})
    ledger.mark([row])
    sight(ledger, [], [])
    assert [row] != archived(ledger, verified("a", "uid-b"))


@pytest.mark.parametrize(
    "left",
    [
        {},
        {UniqueId("uid-c"): Octets(100)},
        {UniqueId("uid-b"): Octets(7)},
        {UniqueId("uid-a"): Octets(100)},
    ],
    ids=["nothing", "another", "with other octets", "a known one"],
)
def test_a_new_name_of_what_vanished_is_adopted(ledger, left):
    """
    What was not left beside it, as it is listed now, may be the one that vanished.
    """
    row = lost_sight_of(ledger, first=True, left=left)
    name = "uid-a" if UniqueId("uid-a") in left else "uid-b"
    assert [row] == archived(ledger, verified("a", name))


def test_what_came_after_a_message_had_vanished_may_be_it(ledger):
    """
    A new name that one session left for the next is still the message that vanished.
    """
    row = lost_sight_of(ledger, first=False, left={UniqueId("uid-b"): Octets(100)})
    assert [row] == archived(ledger, verified("a", "uid-b"))


def test_what_was_left_and_archived_since_is_itself(ledger):
    """
    A session that dropped has archived what an earlier one left: when it is retrieved
    once more, under its own name, it does not stand beside itself.
    """
    ledger.leave(ALICE, {UniqueId("uid-a"): Octets(100)})
    (row,) = archived(ledger, verified("a", "uid-a"))
    sight(ledger, [], [])
    assert [row] == archived(ledger, verified("a", "uid-a"))


def test_what_was_left_and_recognised_since_is_itself(ledger):
    """
    Nor does one that its header told to be an archived one.
    """
    (row,) = archived(ledger, verified("a", "uid-a"))
    sight(ledger, [], [])
    ledger.leave(ALICE, {UniqueId("uid-b"): Octets(100)})
    renamed = verified("a", "uid-b").spooled
    header = [(renamed.listed, renamed.fingerprint.header)]
    assert 1 == len(ledger.recognise(ALICE, header, (Since.ARCHIVED, -NEVER)))
    sight(ledger, [], [])
    assert [row] == archived(ledger, verified("a", "uid-b"))


def test_a_header_does_not_tell_what_stood_beside_it(ledger):
    """
    Nor is a message known by its header, that was listed beside the one it is like.
    """
    lost_sight_of(ledger, first=True, left={UniqueId("uid-b"): Octets(100)})
    twin = verified("a", "uid-b").spooled
    header = [(twin.listed, twin.fingerprint.header)]
    assert set() == ledger.recognise(ALICE, header, (Since.ARCHIVED, -NEVER))


def test_what_is_left_no_more_is_forgotten(ledger):
    """
    Only what the last session left is remembered, and written when it changes.
    """
    ledger.leave(ALICE, {UniqueId("uid-b"): Octets(100), UniqueId("uid-c"): None})
    ledger.leave(BOB, {UniqueId("uid-b"): Octets(100)})
    ledger.leave(ALICE, {UniqueId("uid-c"): None})
    row = lost_sight_of(ledger, first=True, left={UniqueId("uid-c"): None})
    assert [row] == archived(ledger, verified("a", "uid-b"))


# -- removal --------------------------------------------------------------------------


def test_marked_is_not_removed(ledger):
    """
    A mark can be taken back; only +OK to QUIT removes (RFC 1939 section 6).
    """
    rows = archived(ledger, verified("a", "u"), verified("b", "v"))
    ledger.mark(rows)
    ledger.unmark(rows[:1])
    assert ["a", "am"] == [flags(known(ledger)[row]) for row in rows]

    ledger.removed(rows[1:])
    assert rows[:1] == list(known(ledger))
    assert rows[:1] == [receipt.row for receipt in ledger.receipts(rows)]


def test_nothing_is_marked_that_is_not_published(ledger):
    """
    No DELE goes out when one of the rows has no published copy (P1).
    """
    (row,) = archived(ledger, verified("a", "u"))
    (open_row,) = ledger.record(ALICE, [verified("b", "v")])

    with pytest.raises(LedgerError, match="2 rows, 1 of them published"):
        ledger.mark([row, open_row.row])
    assert "a" == flags(known(ledger)[row])


def test_no_rows_cost_no_commit(ledger):
    """
    Of nothing, nothing is written; any collection of rows will do.
    """
    (row,) = archived(ledger, verified("a", "u"))
    ledger.mark({0: row}.values())
    ledger._writer.do = pytest.fail
    for act in (ledger.mark, ledger.unmark, ledger.removed):
        act({}.values())


def test_receipts_are_of_published_rows_oldest_first(ledger):
    """
    Others, and rows that never were, have none.
    """
    rows = archived(ledger, verified("a"), verified("b"))
    (open_row,) = ledger.record(ALICE, [verified("c")])

    receipts = ledger.receipts([RowId(99), open_row.row, *reversed(rows)])
    assert rows == [receipt.row for receipt in receipts]


# -- failures -------------------------------------------------------------------------


def test_a_failure_tells_why_and_since_when(ledger, clock):
    """
    The first time stays, the sentence is the last one; lifted, it counts from nothing.
    """
    u, v = UniqueId("u"), UniqueId("v")
    ledger.fail(ALICE, [u], "cannot")
    ledger.fail(BOB, [u], "cannot")
    clock[0] += 60
    ledger.fail(ALICE, [v, u], "will not")
    assert {
        u: Failure(2, NOW + 60, NOW, "will not"),
        v: Failure(1, NOW + 60, NOW + 60, "will not"),
    } == ledger.failures(ALICE)

    ledger.lift(ALICE, [u])
    ledger.lift(ALICE, [])
    assert Failure(0, NOW + 60, NOW, "will not") == ledger.failures(ALICE)[u]
    assert 1 == ledger.failures(BOB)[u].visits


def test_failures_are_counted_by_message_and_forgiven(ledger, clock):
    """
    How often and when last; forgotten once it is retrieved.
    """
    u, v = UniqueId("u"), UniqueId("v")
    ledger.fail(ALICE, [u, v])
    clock[0] += 60
    ledger.fail(ALICE, [v])
    ledger.fail(BOB, [u])
    first, again = Failure(1, NOW, NOW), Failure(2, NOW + 60, NOW)
    assert {u: first, v: again} == ledger.failures(ALICE)

    ledger.forgive(ALICE, [v, UniqueId("w")])
    assert {u: first} == ledger.failures(ALICE)
    assert {u: Failure(1, NOW + 60, NOW + 60)} == ledger.failures(BOB)


def test_where_nothing_failed_nothing_is_written(ledger):
    """
    Forgiving is for each batch; most have nothing to be forgiven.
    """
    ledger._writer.do = pytest.fail
    ledger.forgive(ALICE, [UniqueId("u")])
    ledger.fail(ALICE, [])


# -- accounts -------------------------------------------------------------------------


def test_an_account_never_visited_has_the_defaults(ledger):
    """
    There is a state to show of every account.
    """
    assert (AccountState(), {}) == (ledger.state(ALICE), ledger.states())


def test_an_account_s_state_survives_a_restart(tmp_path):
    """
    All of it, a visit that never comes included.
    """
    path = tmp_path / "ledger.db"
    state = AccountState(
        last_poll=NOW, next_poll=NEVER, reason="auth", error="é\x9b", archived=3
    )
    with Ledger(path, now=lambda: NOW) as ledger:
        ledger.save_state(ALICE, AccountState())
        ledger.save_state(ALICE, state)
    with Ledger(path, now=lambda: NOW) as ledger:
        assert (state, {ALICE: state}) == (ledger.state(ALICE), ledger.states())


def test_a_state_of_another_version_is_read(ledger):
    """
    What it does not have takes the default, what we do not know is passed over.
    """
    ledger._writer.do(
        lambda db: (
            db.execute(
                "INSERT INTO account_state (account, state) VALUES ('alice', '{\"waiting\": 4, \"new\": 1}')"
            ).rowcount
        )
    )

    assert AccountState(waiting=4) == ledger.state(ALICE)
