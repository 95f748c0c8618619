"""
What to do with a maildrop: listing + ledger + policy + now → wanted, removable, skipped.

Rules of this file:

- Pure. It reads no clock and no disk; each decision is a function of its arguments.
- A unique-id is a hint (RFC 1939 §7). It is good enough to leave a message alone; it is
  never enough to remove one. What the hint cannot decide is retrieved, and matched by
  content when it is recorded.
- A hint counts only while nothing speaks against it: the unique-id stands once in the
  listing, one row bears it, that row was in the last listing, the octets are as then, and
  no unique-id of this listing shows that the server gives them to other messages.
- Each message that is left out is counted under a reason.
- A listing may hold a million messages: what is kept of each is its number.
- Where a server hides what was retrieved, or lists only a part, what is missing from a
  listing is no sign of a reset. Where it does both, what is archived and listed still is
  retrieved once more: only QUIT after RETR makes room for what is not listed yet.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from random import Random

from popfetchd.values import (
    Account,
    Failure,
    Habits,
    Known,
    Listed,
    Listing,
    MessageNumber,
    Messages,
    Octets,
    RowId,
    Skip,
    UniqueId,
)


ROUND_MESSAGES = 5_000
"""Messages retrieved in one session, so that removals are committed now and then."""

ROUND_OCTETS = 2 * 1024**3
"""Octets retrieved in one session, for the same reason."""

QUARANTINE_VISITS = 3
"""Visits in which a message may fail before it is left alone."""

QUARANTINE_SECONDS = 86_400.0
"""How long it is left alone before it is tried again: a day."""

NAMELESS = UniqueId("")
"""What has no unique-id, or shares it, fails under this one, which no message has."""

BLAMED_AT_ONCE = 2
"""Messages that one visit may blame: one that ended early, and the one behind it."""

RESET_LEAST = 10
"""Fewer vanished messages than this may be somebody tidying up."""


Group = tuple[list[Listed], list[Known]]
"""Messages that share a unique-id, and the rows that bear it."""


@dataclass(frozen=True, slots=True)
class Removable:
    """
    A message whose time has come, and the row that its unique-id hints at.
    """

    listed: Listed
    row: RowId


@dataclass(frozen=True, slots=True)
class Selection:
    """
    What one session is to do.

    *wanted* is to be retrieved: messages that are new, or that nothing but their
    content can tell; `in_one_session` tells how many at once. *accounted* are the rows
    that the listing shows to be still there; every other row counts as vanished until a
    retrieved message proves to be it.
    """

    wanted: Messages
    removable: tuple[Removable, ...]
    accounted: frozenset[RowId]
    astray: frozenset[Octets | None]
    """The octets of rows that are not accounted for, nor due: wanted messages of these
    may be known by their headers. None while something failed that no unique-id tells:
    it might fail at TOP, too, and so before the first RETR."""
    duplicated: frozenset[UniqueId]
    skipped: Mapping[Skip, int]
    reset: bool
    again: frozenset[MessageNumber] = frozenset()
    """Messages that are archived, and wanted so that they make room."""
    hidden: frozenset[RowId] = frozenset()
    """Rows that are gone from the listing as the server was to make them go."""


def select(
    listing: Listing,
    known: Sequence[Known],
    failures: Mapping[UniqueId, Failure],
    account: Account,
    now: float,
    *,
    habits: Habits | None = None,
    paused: bool = False,
) -> Selection:
    """
    Decide what a session is to do with the messages of *listing*.

    *habits*: the account's, and what the server has announced beside.
    *paused*: nothing is removed for now. So nothing is retrieved to be removed either,
    or a round could be full of it, and what the pause waits for would never come.
    """
    habits = habits or account.habits
    rows = _by_unique_id(known, partly=habits.lists_partly)
    hinted, strangers = _told_apart(listing, rows)
    doubted: list[MessageNumber] = []
    again: list[MessageNumber] = []
    removable: list[Removable] = []
    accounted: set[RowId] = set()
    for copies, bearers in hinted:
        if habits.drains and not all(row.popped for row in bearers):
            again += (copy.number for copy in copies)
        elif not _due(bearers, account, now) or bearers[0].altered:
            accounted.update(row.row for row in bearers)
        elif len(copies) == 1 and not bearers[0].doubtful:
            accounted.add(bearers[0].row)
            removable.append(Removable(copies[0], bearers[0].row))
        elif paused:
            accounted.update(row.row for row in bearers)
        else:  # due, and only its content can tell which it is
            doubted += (copy.number for copy in copies)
    # What waits to be archived goes before what waits to be removed.
    lost = _lost(listing, failures)
    turns = (_in_turn(listing, n, failures, lost) for n in (strangers, doubted, again))
    unsettled = Messages(listing, [*chain.from_iterable(turns)])
    wanted, skipped = _worth_it(unsettled, failures, account, now)
    return Selection(
        wanted=wanted,
        removable=tuple(removable),
        accounted=frozenset(accounted),
        astray=frozenset(
            row.octets
            for row in known
            if not lost and row.row not in accounted and not _due([row], account, now)
        ),
        duplicated=frozenset(listing.repeated),
        skipped=skipped,
        reset=not (habits.hides_retrieved or habits.lists_partly)
        and _is_reset(listing, known, wanted),
        again=frozenset(again),
        hidden=_hidden(listing, known),
    )


def _by_unique_id(
    known: Iterable[Known], *, partly: bool
) -> dict[UniqueId | None, list[Known]]:
    rows: defaultdict[UniqueId | None, list[Known]] = defaultdict(list)
    # What vanished bears its unique-id no more: whatever comes under it is a stranger.
    # But what a listing in part does not show has not vanished.
    for row in known:
        if row.unique_id is not None and (row.accounted or partly):
            rows[row.unique_id].append(row)
    return rows


def _hidden(listing: Listing, known: Iterable[Known]) -> frozenset[RowId]:
    # A listing without unique-ids does not tell whose message is still there.
    popped = {r.unique_id: r.row for r in known if r.popped and r.unique_id is not None}
    if not popped or (listing.octets and not listing.unique_ids):
        return frozenset()
    there = popped.keys() & listing.unique_ids.values()
    return frozenset(row for unique_id, row in popped.items() if unique_id not in there)


def _sharing_a_unique_id(listing: Listing) -> Iterator[list[Listed]]:
    # Most often lists of one; a message without a unique-id stands alone.
    groups: defaultdict[UniqueId | None, list[Listed]] = defaultdict(list)
    for listed in map(listing.listed, listing.numbers):
        if listed.times == 1:
            yield [listed]
        else:
            groups[listed.unique_id].append(listed)
    yield from groups.values()


def _told_apart(
    listing: Listing, rows: Mapping[UniqueId | None, list[Known]]
) -> tuple[Iterable[Group], list[MessageNumber]]:
    # Messages that their unique-ids hint at, and strangers. The former are looked for
    # once more when they are asked for: a million groups are too much to keep.
    if not rows:
        return (), list(listing.numbers)
    strangers: list[MessageNumber] = []
    reused = False
    for copies, bearers in _groups(listing, rows):
        if not _hinted(copies, bearers):
            strangers += (copy.number for copy in copies)
            reused |= bool(bearers)
    hinted = (group for group in _groups(listing, rows) if _hinted(*group))
    if reused:
        return _without_suspects(listing, hinted, strangers)
    return hinted, strangers


def _groups(
    listing: Listing, rows: Mapping[UniqueId | None, list[Known]]
) -> Iterator[Group]:
    for copies in _sharing_a_unique_id(listing):
        yield copies, rows.get(copies[0].unique_id, [])


def _without_suspects(
    listing: Listing, hinted: Iterable[Group], strangers: list[MessageNumber]
) -> tuple[list[Group], list[MessageNumber]]:
    # A known unique-id was given to another message: so maybe the server has shifted
    # them all, and of two messages with the same octets one bears the other's.
    suspect = {listing.octets.get(number) for number in strangers}
    certain: list[Group] = []
    for copies, bearers in hinted:
        if suspect.isdisjoint(listed.octets for listed in copies):
            certain.append((copies, bearers))
        else:
            strangers += (copy.number for copy in copies)
    return certain, strangers


def _hinted(copies: list[Listed], bearers: list[Known]) -> bool:
    # As many copies as rows, with octets as at the last listing.
    if len(copies) != len(bearers):
        return False
    if len(copies) == 1:
        return copies[0].octets == bearers[0].octets
    return Counter(m.octets for m in copies) == Counter(r.octets for r in bearers)


def _due(bearers: list[Known], account: Account, now: float) -> bool:
    return all(
        account.removable_at(row.archived_at, row.arrived_at) <= now for row in bearers
    )


def _in_turn(
    listing: Listing,
    numbers: list[MessageNumber],
    failures: Mapping[UniqueId, Failure],
    lost: int,
) -> list[MessageNumber]:
    # What failed before, or claims a whole session for itself, comes last, so that it
    # cannot hold up the rest (P3).
    def turn(number: MessageNumber) -> int:
        failed = bool(failures) and listing.unique_ids.get(number) in failures
        return 2 * failed + (listing.octets.get(number, 0) > ROUND_OCTETS)

    return sorted(_in_order(sorted(numbers), lost), key=turn)


def _in_order(numbers: list[MessageNumber], lost: int) -> list[MessageNumber]:
    # Each visit goes another way, the second one backwards, and so comes to the others.
    if lost > BLAMED_AT_ONCE:
        Random(lost).shuffle(numbers)  # noqa: S311 -- no secret, the same again
    elif lost:
        numbers.reverse()
    return numbers


def _lost(listing: Listing, failures: Mapping[UniqueId, Failure]) -> int:
    # How often something failed that nobody can tell any more: it has no unique-id, or
    # another one now, or is gone.
    lost = set(failures)
    lost.difference_update(listing.unique_ids.values() if failures else ())
    return sum(max(1, failures[unique_id].visits) for unique_id in lost)


def _worth_it(
    unsettled: Messages,
    failures: Mapping[UniqueId, Failure],
    account: Account,
    now: float,
) -> tuple[Messages, Counter[Skip]]:
    worth: list[MessageNumber] = []
    skipped: Counter[Skip] = Counter()
    for listed in unsettled:
        reason = _reason_to_skip(listed, failures, account, now)
        if reason is None:
            worth.append(listed.number)
        else:
            skipped[reason] += 1
    return Messages(unsettled.listing, worth), skipped


def in_one_session(
    wanted: Iterable[Listed],
    apart: Collection[UniqueId] = (),
    *,
    removing: bool = False,
) -> tuple[list[Listed], int]:
    """
    Return what of *wanted* one session retrieves, and how many it leaves for another.

    *apart*: what failed before, where it is to be retrieved in a session of its own, so
    that it does not keep the others from their QUIT, which there are, too, when the
    session is *removing* something.
    """
    now: list[Listed] = []
    failed: list[Listed] = []
    octets = later = 0
    for listed in wanted:
        if listed.unique_id in apart:
            failed.append(listed)
            continue
        full = len(now) >= ROUND_MESSAGES or octets >= ROUND_OCTETS
        if full and _can_wait(listed):
            later += 1
        else:
            now.append(listed)
            octets += listed.octets or 0
    if not now and not removing:
        return failed, 0
    return now, later + len(failed)


def _can_wait(listed: Listed) -> bool:
    # The next session has to know it from those that this one retrieves. Where only
    # the content can tell, it would begin with the same ones again, without end.
    return listed.unique_id is not None and listed.times == 1


def _reason_to_skip(
    listed: Listed,
    failures: Mapping[UniqueId, Failure],
    account: Account,
    now: float,
) -> Skip | None:
    largest = account.max_message_size
    if largest is not None and listed.octets is not None and listed.octets > largest:
        return Skip.TOO_LARGE
    failure = None if listed.unique_id is None else failures.get(listed.unique_id)
    if failure is not None and is_quarantined(failure, now):
        return Skip.QUARANTINED
    return None


def is_quarantined(failure: Failure, now: float) -> bool:
    """
    Tell whether a message that failed so is to be left alone at *now*.
    """
    # A time ahead of us is a clock's that was set back since: it counts as long ago.
    rests = 0 <= now - failure.last < QUARANTINE_SECONDS
    return failure.visits >= QUARANTINE_VISITS and rests


def blamed(listed: Listed) -> UniqueId:
    """
    Return under which unique-id it is remembered that a message failed.
    """
    return listed.unique_id or NAMELESS if listed.times == 1 else NAMELESS


def rests(unique_id: UniqueId, failure: Failure) -> bool:
    """
    Tell whether a message failed often enough to be in quarantine.

    What has no unique-id is not: it could not be told from the others.
    """
    return failure.visits >= QUARANTINE_VISITS and unique_id != NAMELESS


def next_try(unique_id: UniqueId, failure: Failure) -> float:
    """
    Return when a message that failed so is tried again (seconds since 1970).

    0.0: at the next visit.
    """
    return failure.last + QUARANTINE_SECONDS if rests(unique_id, failure) else 0.0


def forgotten(
    failures: Mapping[UniqueId, Failure], listed: Collection[UniqueId], now: float
) -> set[UniqueId]:
    """
    Return which failed messages nobody needs to know of any more.

    They are not *listed*, and were not tried for two days: what is listed is tried daily.
    """
    old = now - 2 * QUARANTINE_SECONDS
    return {m for m, f in failures.items() if m not in listed and f.last < old}


def _is_reset(listing: Listing, known: Sequence[Known], wanted: Messages) -> bool:
    before = [row for row in known if row.accounted and row.unique_id is not None]
    gone = {row.unique_id for row in before}
    gone.difference_update(listing.unique_ids.values() if gone else ())
    vanished = sum(1 for row in before if row.unique_id in gone and not row.marked)
    return bool(wanted) and vanished >= max(RESET_LEAST, len(before) / 2)
