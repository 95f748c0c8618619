"""
Selection decides purely; each test states one decision that must come out so.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd import selection
from popfetchd.selection import (
    NAMELESS,
    QUARANTINE_SECONDS,
    QUARANTINE_VISITS,
    RESET_LEAST,
    Removable,
    forgotten,
    in_one_session,
    is_quarantined,
    next_try,
    select,
)
from popfetchd.values import (
    Account,
    AccountName,
    ArchiveFormat,
    Destination,
    Every,
    Failure,
    Habits,
    InlineSecret,
    Known,
    Listing,
    Login,
    MessageNumber,
    Octets,
    Plain,
    RowId,
    Secret,
    Seen,
    Server,
    SessionId,
    Skip,
    TlsPolicy,
    UniqueId,
)


NOW = 1_000_000.0

ACCOUNT = Account(
    name=AccountName("alice"),
    server=Server("pop.example.net", 995, TlsPolicy(), 60.0),
    login=Login("alice", InlineSecret(Secret("x"))),
    destination=Destination(ArchiveFormat.MAILDIR, Path("/srv/mail/alice")),
    schedule=Every(300.0),
)
REMOVING = replace(ACCOUNT, delete_after=0.0)


def one_session(wanted):
    """
    Return the numbers that one session retrieves, and how many it leaves.
    """
    now, later = in_one_session(wanted)
    return numbers(now), later


def listing(*messages):
    """
    Return a listing of (unique-id, octets) pairs; None where a list lacks it.
    """
    numbered = list(enumerate(messages, start=1))
    return Listing(
        SessionId("s"),
        {MessageNumber(n): Octets(o) for n, (_, o) in numbered if o is not None},
        {MessageNumber(n): UniqueId(u) for n, (u, _) in numbered if u is not None},
    )


def row(number, unique_id, octets=100, **kwargs):
    facts = {"accounted": True, "doubtful": False, "marked": False} | kwargs
    archived_at = facts.pop("archived_at", NOW - 1000)
    unique_id = None if unique_id is None else UniqueId(unique_id)
    return Known(RowId(number), unique_id, octets, archived_at, **facts)


def accounted(plan, known):
    """
    Return the rows that the listing shows to be there.
    """
    expected = {row.row for row in known if row.accounted}
    return expected - plan.seen.vanished | plan.seen.returned


def numbers(listed):
    return [message.number for message in listed]


def test_a_new_message_is_wanted():
    """
    A unique-id that no row bears is retrieved.
    """
    plan = select(listing(("a", 100)), [], {}, ACCOUNT, NOW)

    assert [1] == numbers(plan.wanted)
    assert Seen() == plan.seen


def test_a_known_message_is_left_alone():
    """
    A unique-id that stands once and says what its row says is not retrieved again.
    """
    plan = select(listing(("a", 100)), [row(7, "a")], {}, ACCOUNT, NOW)

    assert [] == numbers(plan.wanted)
    assert () == plan.removable
    assert Seen() == plan.seen


def test_other_octets_under_a_known_unique_id_are_retrieved():
    """
    A unique-id whose listed octets changed may have been given to another message.
    """
    plan = select(listing(("a", 101)), [row(7, "a")], {}, REMOVING, NOW)

    assert [1] == numbers(plan.wanted)
    assert () == plan.removable
    assert Seen(vanished=frozenset({7})) == plan.seen


def test_one_unique_id_given_anew_casts_doubt_on_those_of_the_same_octets():
    """
    A server that shifts them all gives one message the other's, of the same octets;
    those of octets that no stranger has are left alone.
    """
    known = [row(1, "a", 100), row(2, "b", 200), row(3, "c", 200), row(4, "d", 300)]
    shifted = listing(("a", 200), ("b", 200), ("d", 300))

    plan = select(shifted, known, {}, REMOVING, NOW)

    assert [1, 2] == numbers(plan.wanted)
    assert {4} == accounted(plan, known)

    new = listing(*((r.unique_id, r.octets) for r in known), ("e", 200))
    assert [5] == numbers(select(new, known, {}, ACCOUNT, NOW).wanted)


def test_what_vanished_and_came_back_is_retrieved():
    """
    A unique-id that was absent from the last listing proves nothing.
    """
    known = [row(7, "a", accounted=False)]

    plan = select(listing(("a", 100)), known, {}, REMOVING, NOW)

    assert [1] == numbers(plan.wanted)
    assert () == plan.removable


def test_what_is_due_cannot_be_known_by_its_header():
    """
    Its content has to be retrieved anyhow, to prove it: no octets of it are astray.
    """
    known = [row(1, "a", 100), row(2, "b", 200, archived_at=NOW + 1)]

    plan = select(listing(("c", 100), ("d", 200)), known, {}, REMOVING, NOW)

    assert {200} == plan.astray


def test_due_and_hinted_is_removable():
    """
    Once its time has come a hinted message is put up for confirmation.
    """
    plan = select(listing(("a", 100)), [row(7, "a")], {}, REMOVING, NOW)

    assert (Removable(listing(("a", 100)).listed(MessageNumber(1)), RowId(7)),) == (
        plan.removable
    )


def test_removal_waits_for_its_time():
    """
    `delete_after: 30d` counts from the archiving, to the second.
    """
    account = replace(ACCOUNT, delete_after=1000.0)
    early = [row(7, "a", archived_at=NOW - 999)]
    due = [row(7, "a", archived_at=NOW - 1000)]

    assert () == select(listing(("a", 100)), early, {}, account, NOW).removable
    assert 1 == len(select(listing(("a", 100)), due, {}, account, NOW).removable)


def test_a_doubtful_row_is_removed_only_by_its_content():
    """
    What was once seen twice is retrieved when it is due, and left alone before.
    """
    known = [row(7, "a", doubtful=True)]

    assert not select(listing(("a", 100)), known, {}, ACCOUNT, NOW).wanted
    plan = select(listing(("a", 100)), known, {}, REMOVING, NOW)
    assert [1] == numbers(plan.wanted)
    assert () == plan.removable


def test_copies_under_one_unique_id_are_left_alone_while_all_are_known():
    """
    As many rows as copies, sizes as then: nothing is retrieved at each visit anew.
    """
    known = [row(7, "a", 100, doubtful=True), row(8, "a", 200, doubtful=True)]

    plan = select(listing(("a", 200), ("a", 100)), known, {}, ACCOUNT, NOW)

    assert [] == numbers(plan.wanted)
    assert {7, 8} == accounted(plan, known)
    assert {"a"} == plan.duplicated


def test_one_more_copy_under_a_unique_id_brings_all_of_them():
    """
    Which of the copies is the new one only their content can tell.
    """
    known = [row(7, "a", 100, doubtful=True)]

    plan = select(listing(("a", 100), ("a", 100)), known, {}, ACCOUNT, NOW)

    assert [1, 2] == numbers(plan.wanted)
    assert frozenset() == accounted(plan, known)


def test_while_removals_are_paused_nothing_is_retrieved_to_be_removed():
    """
    The rounds belong to the strangers that the pause waits for.
    """
    known = [row(7, "a", doubtful=True)]
    messages = listing(("a", 100), ("b", 100))

    plan = select(messages, known, {}, REMOVING, NOW, paused=True)

    assert [2] == numbers(plan.wanted)
    assert {RowId(7)} == accounted(plan, known)
    assert [2, 1] == numbers(select(messages, known, {}, REMOVING, NOW).wanted)


def test_copies_that_are_due_are_never_confirmed_by_their_header():
    """
    Duplicate unique-ids never lead to a removal without a RETR.
    """
    known = [row(7, "a"), row(8, "a")]

    plan = select(listing(("a", 100), ("a", 100)), known, {}, REMOVING, NOW)

    assert () == plan.removable
    assert [1, 2] == numbers(plan.wanted)


def test_without_unique_ids_everything_is_wanted():
    """
    A server without UIDL gives no hint at all.
    """
    known = [row(7, None)]

    plan = select(listing((None, 100)), known, {}, REMOVING, NOW)

    assert [1] == numbers(plan.wanted)
    assert () == plan.removable


def test_too_large_is_skipped_and_counted():
    """
    A message above max_message_size stays where it is, with a reason.
    """
    account = replace(ACCOUNT, max_message_size=Octets(100))

    plan = select(listing(("a", 101), ("b", 100)), [], {}, account, NOW)

    assert [2] == numbers(plan.wanted)
    assert {Skip.TOO_LARGE: 1} == plan.skipped


def test_quarantine_begins_at_the_third_visit_and_lasts_a_day():
    """
    A message that failed three visits is left alone, and tried again once a day.
    """
    failed = Failure(QUARANTINE_VISITS, NOW)

    assert is_quarantined(failed, NOW + QUARANTINE_SECONDS - 1)
    assert not is_quarantined(failed, NOW + QUARANTINE_SECONDS)
    assert not is_quarantined(failed, NOW - 1)
    assert not is_quarantined(Failure(QUARANTINE_VISITS - 1, NOW), NOW)
    plan = select(
        listing(("a", 1), ("b", 1)), [], {UniqueId("a"): failed}, ACCOUNT, NOW
    )
    assert [2] == numbers(plan.wanted)
    assert {Skip.QUARANTINED: 1} == plan.skipped


def test_what_failed_before_comes_last():
    """
    A message that fails again cannot hold up those behind it.
    """
    failures = {UniqueId("a"): Failure(1, NOW)}

    plan = select(listing(("a", 1), ("b", 1)), [], failures, ACCOUNT, NOW)

    assert [2, 1] == numbers(plan.wanted)


def test_a_session_is_capped_by_messages_and_by_octets(monkeypatch):
    """
    What goes over the cap is left for the next session.
    """
    messages = listing(("a", 60), ("b", 60), ("c", 60))
    monkeypatch.setattr(selection, "ROUND_MESSAGES", 2)

    wanted = select(messages, [], {}, ACCOUNT, NOW).wanted

    assert [1, 2, 3] == numbers(wanted)
    assert ([1, 2], 1) == one_session(wanted)
    monkeypatch.setattr(selection, "ROUND_OCTETS", 60)
    assert ([1], 2) == one_session(wanted)


def test_what_is_to_be_archived_goes_before_what_is_to_be_removed(monkeypatch):
    """
    Messages whose removal is refused each time cannot keep a new one from its round.
    """
    known = [row(7, "a", doubtful=True), row(8, "b", doubtful=True)]
    messages = listing(("a", 100), ("b", 100), ("new", 100))
    monkeypatch.setattr(selection, "ROUND_MESSAGES", 2)

    plan = select(messages, known, {UniqueId("new"): Failure(1, NOW)}, REMOVING, NOW)

    assert [3, 1] == numbers(in_one_session(plan.wanted)[0])


def test_what_only_its_content_can_tell_does_not_wait(monkeypatch):
    """
    The next session could not know it from those that this one retrieves.
    """
    monkeypatch.setattr(selection, "ROUND_MESSAGES", 1)

    for unique_id in (None, "same"):
        messages = listing((unique_id, 60), (unique_id, 60), (unique_id, 60))
        plan = select(messages, [], {}, ACCOUNT, NOW)

        assert ([1, 2, 3], 0) == one_session(plan.wanted)


def test_many_vanishing_while_new_ones_appear_is_a_reset():
    """
    A server that renames its messages is told from one that lost or gained a few.
    """
    known = [row(n, f"old{n}") for n in range(RESET_LEAST)]
    renamed = listing(*((f"new{n}", 100) for n in range(RESET_LEAST)))

    assert select(renamed, known, {}, ACCOUNT, NOW).reset
    assert not select(listing(), known, {}, ACCOUNT, NOW).reset
    assert not select(renamed, known[1:], {}, ACCOUNT, NOW).reset
    marked = [row._replace(marked=True) for row in known]
    assert not select(renamed, marked, {}, ACCOUNT, NOW).reset


UNIQUE_IDS = st.sampled_from(["a", "b", "c", None])
MESSAGES = st.lists(st.tuples(UNIQUE_IDS, st.sampled_from([100, 200, None])))
ROWS = st.lists(
    st.builds(
        Known,
        st.integers(1, 50),
        UNIQUE_IDS,
        st.sampled_from([100, 200, None]),
        st.sampled_from([NOW - 10, NOW]),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    unique_by=lambda known: known.row,
)


@given(MESSAGES, ROWS, st.sampled_from([None, 0.0, 5.0]))
def test_every_message_has_exactly_one_fate(messages, known, delete_after):
    """
    Each message is wanted, removable, skipped or accounted for; and what is removable
    stands once, under a row that nothing speaks against.
    """
    account = replace(ACCOUNT, delete_after=delete_after)
    shown = listing(*messages)

    plan = select(shown, known, {}, account, NOW)

    wanted = {m.number for m in plan.wanted}
    removable = {due.listed.number for due in plan.removable}
    assert not wanted & removable
    alone = len(shown.numbers) - len(wanted) - len(removable)
    assert alone == len(accounted(plan, known)) - len(removable)
    rows = {r.row: r for r in known}
    for due in plan.removable:
        assert delete_after is not None
        assert 1 == due.listed.times
        bearer = rows[due.row]
        assert bearer.unique_id == due.listed.unique_id
        assert bearer.octets == due.listed.octets
        assert bearer.accounted
        assert not bearer.doubtful
        assert bearer.archived_at + delete_after <= NOW


def set_apart(known, account):
    """
    Return the rows as the ledger gives them: those that are plain in columns, and others.
    """
    plain = [
        row
        for row in known
        if None not in {row.unique_id, row.octets}
        and (row.accounted and not row.doubtful and not row.marked)
        and not (row.altered or row.popped)
        and account.removable_at(row.archived_at, row.arrived_at) > NOW
    ]
    columns = zip(*((r.unique_id, r.octets, r.row) for r in plain), strict=True)
    return Plain(*columns), [row for row in known if row not in plain]


MOSTLY_PLAIN = st.lists(
    st.builds(
        row,
        st.integers(1, 20),
        st.sampled_from("abcdefgh"),
        st.sampled_from([100, 100, 200, None]),
        archived_at=st.sampled_from([NOW - 1, NOW - 9, NOW + 1]),
        marked=st.sampled_from([False] * 9 + [True]),
        doubtful=st.sampled_from([False] * 9 + [True]),
        accounted=st.sampled_from([True] * 9 + [False]),
        popped=st.sampled_from([False] * 9 + [True]),
        altered=st.sampled_from([False] * 9 + [True]),
    ),
    unique_by=lambda known: known.row,
    max_size=9,
)
HABITS = st.builds(Habits, st.just(0.0), st.booleans(), st.booleans())


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*"abcdefgh", None]), st.sampled_from([100, 100, 200, None])
        ),
        max_size=9,
    ),
    MOSTLY_PLAIN,
    st.sampled_from([None, 0.0, 5.0]),
    HABITS,
    st.booleans(),
)
def test_columns_decide_as_rows_do(messages, known, delete_after, habits, paused):
    """
    Whatever is listed and known: it is decided alike for plain rows in columns.
    """
    account = replace(ACCOUNT, delete_after=delete_after)
    shown, policy = listing(*messages), {"habits": habits, "paused": paused}
    plain, others = set_apart(known, account)

    one_by_one = select(shown, known, {}, account, NOW, **policy)
    at_once = select(shown, others, {}, account, NOW, plain=plain, **policy)

    assert sorted(one_by_one.removable, key=str) == sorted(at_once.removable, key=str)
    assert replace(one_by_one, removable=()) == replace(at_once, removable=())


def test_a_unique_id_that_two_plain_rows_bear_says_nothing():
    """
    Which of the two the message is, only its content tells.
    """
    plain = Plain(("a", "a"), (1, 1), (11, 12))

    plan = select(listing(("a", 1)), [], {}, ACCOUNT, NOW, plain=plain)

    assert [1] == numbers(plan.wanted)
    assert {11, 12} == plan.seen.vanished


def test_plain_rows_that_vanish_all_at_once_are_a_reset():
    """
    Half of what the last listing had is gone, and something is new.
    """
    ids = [f"old {n}" for n in range(RESET_LEAST)]
    plain = Plain(ids, [1] * len(ids), range(len(ids)))

    def is_reset(*messages):
        return select(listing(*messages), [], {}, ACCOUNT, NOW, plain=plain).reset

    assert is_reset(("new", 1))
    assert not is_reset(("new", 1), *((unique_id, 1) for unique_id in ids[1:]))
    assert not is_reset()


def test_what_is_known_and_unchanged_is_not_looked_at(monkeypatch):
    """
    In a maildrop of which one message has gone and one is new, only those cost a step.
    """
    looked_at = []
    made = Listing.listed
    monkeypatch.setattr(
        Listing, "listed", lambda *all_: looked_at.append(all_[1]) or made(*all_)
    )
    plain = Plain(tuple("abcd"), (1, 2, 3, 4), (11, 12, 13, 14))
    shown = listing(("a", 1), ("b", 2), ("d", 4), ("e", 4))

    plan = select(shown, [], {}, ACCOUNT, NOW, plain=plain)

    assert Seen(vanished=frozenset({13})) == plan.seen
    assert {3} == plan.astray
    assert [] == looked_at
    assert [4] == numbers(plan.wanted)


def test_a_claim_beyond_a_session_holds_up_nobody():
    """
    A message that claims more octets than a session takes is retrieved after the others.
    """
    huge = selection.ROUND_OCTETS + 1

    plan = select(listing(("a", huge), ("b", 1), ("c", 1)), [], {}, ACCOUNT, NOW)

    assert [2, 3, 1] == numbers(plan.wanted)


def test_a_quarantine_ends_after_a_day():
    """
    Until then nobody tries; who failed less often is tried at the next visit.
    """
    often, once = Failure(QUARANTINE_VISITS, NOW), Failure(1, NOW)
    assert NOW + QUARANTINE_SECONDS == next_try(UniqueId("a"), often)
    assert 0.0 == next_try(UniqueId("a"), once)
    assert 0.0 == next_try(NAMELESS, often)


@pytest.mark.parametrize("name", [NAMELESS, UniqueId("of another session")])
def test_where_names_do_not_tell_what_failed_each_visit_goes_another_way(name):
    """
    The second one backwards, and the others in an order of their own; nothing is left out.
    """
    there = listing(*[(None, 100)] * 20)

    orders = [
        numbers(select(there, [], {name: Failure(n, NOW)}, ACCOUNT, NOW).wanted)
        for n in (1, 3, 5)
    ]

    assert [*range(20, 0, -1)] == orders[0]
    assert [[*range(1, 21)]] * 3 == [sorted(order) for order in orders]
    assert 3 == len(set(map(tuple, orders)))


def test_a_message_that_is_gone_is_forgotten_after_two_days():
    """
    One that is listed never is, nor one that only this listing lacks.
    """
    old, new = Failure(3, NOW - 2 * QUARANTINE_SECONDS - 1), Failure(3, NOW - 60)
    gone, there, lately = UniqueId("a"), UniqueId("b"), UniqueId("c")
    failures = {gone: old, there: old, lately: new}

    assert {gone} == forgotten(failures, {there}, NOW)


# -- servers that hide, or list a part ------------------------------------------------

PARTLY = Habits(lists_partly=True)
DRAINED = Habits(hides_retrieved=True, lists_partly=True)


def test_what_is_archived_and_still_listed_makes_room():
    """
    Where retrieving hides and a part is listed, known messages are retrieved once more,
    after the new ones; those that were, and did not go, are left alone.
    """
    known = [row(1, "a"), row(2, "b", popped=True)]
    messages = listing(("a", 100), ("b", 100), ("c", 100))

    plan = select(messages, known, {}, ACCOUNT, NOW, habits=DRAINED)

    assert [3, 1] == numbers(plan.wanted)
    assert ({1}, {2}, frozenset()) == (
        plan.again,
        accounted(plan, known),
        plan.seen.hidden,
    )
    assert [3] == numbers(select(messages, known, {}, ACCOUNT, NOW).wanted)


def test_what_is_hidden_as_it_was_to_be_is_told():
    """
    Popped and not listed; but a listing without unique-ids tells nothing of anybody.
    """
    known = [row(1, "a", popped=True), row(2, "b"), row(3, None, popped=True)]

    def hidden(messages):
        return select(messages, known, {}, ACCOUNT, NOW, habits=DRAINED).seen.hidden

    assert {1} == hidden(listing(("c", 100))) == hidden(listing())
    assert frozenset() == hidden(listing((None, 100)))
    assert frozenset() == hidden(listing(("a", 100)))


@pytest.mark.parametrize(
    ("habits", "expected"),
    [
        (Habits(), True),
        (PARTLY, False),
        (Habits(hides_retrieved=True), False),
    ],
)
def test_a_listing_that_is_not_whole_shows_no_reset(habits, expected):
    """
    Where a server hides, or lists a part, nobody judges what is missing.
    """
    known = [row(number, f"old-{number}") for number in range(20)]
    messages = listing(*((f"new-{number}", 100) for number in range(20)))

    assert expected is select(messages, known, {}, ACCOUNT, NOW, habits=habits).reset


def test_what_a_part_did_not_show_bears_its_unique_id_still():
    """
    A message that comes back into a listing in part is known, and not retrieved again.
    """
    away = [row(1, "a", accounted=False)]
    messages = listing(("a", 100))

    assert [1] == numbers(select(messages, away, {}, ACCOUNT, NOW).wanted)
    assert not select(messages, away, {}, ACCOUNT, NOW, habits=PARTLY).wanted


def test_what_failed_before_waits_for_a_session_of_its_own():
    """
    Unless it is all there is; and also then, when something is removed.
    """
    well, bad = select(listing(("a", 1), ("b", 1)), [], {}, ACCOUNT, NOW).wanted
    apart = {UniqueId("b")}

    assert ([well], 1) == in_one_session([well, bad], apart)
    assert ([well, bad], 0) == in_one_session([well, bad])
    assert ([bad], 0) == in_one_session([bad], apart)
    assert ([], 1) == in_one_session([bad], apart, removing=True)
    assert ([], 0) == in_one_session([], apart)
