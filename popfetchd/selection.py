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
- Nearly all of them are known, and nothing is to be done about them. Columns are compared
  as a whole to find those; only the others are looked at one by one.
- Where a server hides what was retrieved, or lists only a part, what is missing from a
  listing is no sign of a reset. Where it does both, what is archived and listed still is
  retrieved once more: only QUIT after RETR makes room for what is not listed yet.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress, filterfalse
from random import Random
from typing import NamedTuple

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
    Plain,
    RowId,
    Seen,
    Skip,
    UniqueId,
)


ROUND_MESSAGES = 5_000
"""Messages retrieved in one session, so that removals are committed now and then; in one
portion where there are none (visit/portions.py)."""

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


_Columns = tuple[Sequence[UniqueId], Sequence[Octets | None]]

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
    content can tell; `in_one_session` tells how many at once. *seen* are the rows that
    the listing does not show as the last one did. One that has vanished counts so until
    a retrieved message proves to be it.
    """

    wanted: Messages
    removable: tuple[Removable, ...]
    seen: Seen
    astray: frozenset[Octets | None]
    """The octets of rows that are not accounted for, nor due: wanted messages of these
    may be known by their headers. None while something failed that no unique-id tells:
    it might fail at TOP, too, and so before the first RETR."""
    duplicated: frozenset[UniqueId]
    skipped: Counter[Skip]
    reset: bool
    again: frozenset[MessageNumber] = frozenset()
    """Messages that are archived, and wanted so that they make room."""


def select(
    listing: Listing,
    known: Sequence[Known],
    failures: Mapping[UniqueId, Failure],
    account: Account,
    now: float,
    *,
    plain: Plain = Plain(),  # noqa: B008 -- frozen
    habits: Habits | None = None,
    paused: bool = False,
) -> Selection:
    """
    Decide what a session is to do with the messages of *listing*.

    *known* and *plain* are the account's published rows, each in one of them; in *plain*
    it may be only while `Account.due` says that it is not. (It need not be there then.)
    *habits*: the account's, and what the server has announced beside.
    *paused*: nothing is removed for now. So nothing is retrieved to be removed either,
    or a round could be full of it, and what the pause waits for would never come.
    """
    habits = habits or account.habits
    rows = _by_unique_id(known, partly=habits.lists_partly)
    rest = _rest(listing, plain, rows, habits)
    told = None if rest is None else _told_apart(listing, rest.numbers, rows)
    if rest is None or told is None or (told.reused and plain.rows):
        everything = [*known, *plain.one_by_one()]
        return select(
            listing, everything, failures, account, now, habits=habits, paused=paused
        )
    doubted: list[MessageNumber] = []
    again: list[MessageNumber] = []
    removable: list[Removable] = []
    accounted: set[RowId] = set()
    for copies, bearers in told.hinted:
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
    turns = (
        _in_turn(listing, n, failures, lost) for n in (told.strangers, doubted, again)
    )
    unsettled = Messages(listing, [*chain.from_iterable(turns)])
    wanted, skipped = _worth_it(unsettled, failures, account, now)
    missing = [row for row in known if row.row not in accounted]
    return Selection(
        wanted=wanted,
        removable=tuple(removable),
        seen=_seen(listing, known, accounted, missing, rest.gone),
        astray=_astray(missing, rest.gone, account, now) if not lost else frozenset(),
        duplicated=frozenset(listing.repeated),
        skipped=skipped,
        reset=not (habits.hides_retrieved or habits.lists_partly)
        and _is_reset(listing, known, plain, rest.gone, wanted),
        again=frozenset(again),
    )


class _Rest(NamedTuple):
    """
    What is left of a listing and of plain rows when those that agree are set apart.

    *numbers*: messages to be looked at one by one. *gone*: rows whose unique-ids are not
    listed.
    """

    numbers: Sequence[MessageNumber]
    gone: Plain


def _rest(
    listing: Listing,
    plain: Plain,
    rows: Mapping[UniqueId | None, list[Known]],
    habits: Habits,
) -> _Rest | None:
    # None: something speaks against a plain row's unique-id, so each has to be looked at.
    if not plain.rows:
        return _Rest(listing.numbers, plain)
    if habits.drains:  # what is archived is to be retrieved
        return None
    names = frozenset(plain.unique_ids)
    borne_twice = len(names) < len(plain.rows) or not names.isdisjoint(rows)
    if borne_twice or not names.isdisjoint(listing.repeated):
        return None
    lines, plain = _between(_lines(listing), plain)
    expected = dict(zip(plain.unique_ids, plain.octets, strict=True))
    shown = dict(zip(lines.unique_ids, lines.octets, strict=True))
    gone = frozenset(filterfalse(shown.__contains__, expected))
    new = frozenset(filterfalse(expected.__contains__, shown))
    for unique_id in gone:
        del expected[unique_id]
    for unique_id in new:
        del shown[unique_id]
    if shown != expected:  # one is listed with other octets
        return None
    numbers = [*compress(lines.numbers, map(new.__contains__, lines.unique_ids))]
    if len(listing.unique_ids) < len(listing.numbers):
        numbers += (n for n in listing.octets if n not in listing.unique_ids)
    return _Rest(numbers, _those_of(plain, gone))


class _Lines(NamedTuple):
    """
    The messages of a listing that have a unique-id, in columns.
    """

    numbers: Sequence[MessageNumber]
    unique_ids: Sequence[UniqueId]
    octets: Sequence[Octets | None]


def _lines(listing: Listing) -> _Lines:
    numbers, ids = [*listing.unique_ids], [*listing.unique_ids.values()]
    if numbers == [*listing.octets]:
        return _Lines(numbers, ids, [*listing.octets.values()])
    return _Lines(numbers, ids, [listing.octets.get(number) for number in numbers])


def _between(lines: _Lines, plain: Plain) -> tuple[_Lines, Plain]:
    # Without the lines at the beginning and at the end that agree with the rows there:
    # many servers list in the order of their unique-ids, and so does the ledger.
    listed = [*lines.unique_ids], [*lines.octets]
    ours = [*plain.unique_ids], [*plain.octets]
    head = _agree(listed, ours)
    tail = _agree(_backwards(listed, head), _backwards(ours, head))
    here = slice(head, len(lines.numbers) - tail)
    there = slice(head, len(plain.rows) - tail)
    return (
        _Lines(lines.numbers[here], lines.unique_ids[here], lines.octets[here]),
        Plain(plain.unique_ids[there], plain.octets[there], plain.rows[there]),
    )


def _agree(one: _Columns, other: _Columns) -> int:
    # How many of the first have equal unique-ids and equal octets.
    least, most = 0, min(len(one[0]), len(other[0]))
    while least < most:
        half = (least + most + 1) // 2
        equal = all(
            a[least:half] == b[least:half] for a, b in zip(one, other, strict=True)
        )
        least, most = (half, most) if equal else (least, half - 1)
    return least


def _backwards(columns: _Columns, end: int) -> _Columns:
    ids, octets = columns
    return ids[end:][::-1], octets[end:][::-1]


def _those_of(plain: Plain, unique_ids: frozenset[UniqueId]) -> Plain:
    if not unique_ids:
        return Plain()
    chosen = [*map(unique_ids.__contains__, plain.unique_ids)]
    return Plain(
        [*compress(plain.unique_ids, chosen)],
        [*compress(plain.octets, chosen)],
        [*compress(plain.rows, chosen)],
    )


def _seen(
    listing: Listing,
    known: Sequence[Known],
    accounted: set[RowId],
    missing: Sequence[Known],
    gone: Plain,
) -> Seen:
    vanished = (row.row for row in missing if row.accounted or row.marked)
    return Seen(
        frozenset(chain(gone.rows, vanished)),
        frozenset(
            row.row
            for row in known
            if (row.marked or not row.accounted) and row.row in accounted
        ),
        _hidden(listing, known),
    )


def _astray(
    missing: Sequence[Known], gone: Plain, account: Account, now: float
) -> frozenset[Octets | None]:
    rows = (row.octets for row in missing if not _due([row], account, now))
    return frozenset(chain(gone.octets, rows))


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


def _sharing_a_unique_id(
    listing: Listing, numbers: Iterable[MessageNumber]
) -> Iterator[list[Listed]]:
    # Most often lists of one.
    groups: defaultdict[UniqueId | None, list[Listed]] = defaultdict(list)
    for listed in map(listing.listed, numbers):
        if listed.times == 1:
            yield [listed]
        else:
            groups[listed.unique_id].append(listed)
    yield from groups.values()


class _Told(NamedTuple):
    """
    Messages that their unique-ids hint at, and *strangers*. *reused*: one of those has
    a known unique-id.
    """

    hinted: Iterable[Group]
    strangers: list[MessageNumber]
    reused: bool


def _told_apart(
    listing: Listing,
    numbers: Sequence[MessageNumber],
    rows: Mapping[UniqueId | None, list[Known]],
) -> _Told:
    # Those hinted at are looked for once more when they are asked for: a million groups
    # are too much to keep.
    if not rows:
        return _Told((), list(numbers), reused=False)
    name = listing.unique_ids.get
    borne = [number for number in numbers if name(number) in rows]
    strangers = [number for number in numbers if name(number) not in rows]
    unknown = len(strangers)
    for copies, bearers in _groups(listing, borne, rows):
        if not _hinted(copies, bearers):
            strangers += (copy.number for copy in copies)
    hinted = (group for group in _groups(listing, borne, rows) if _hinted(*group))
    if len(strangers) > unknown:
        return _Told(*_without_suspects(listing, hinted, strangers), reused=True)
    return _Told(hinted, strangers, reused=False)


def _groups(
    listing: Listing,
    numbers: Sequence[MessageNumber],
    rows: Mapping[UniqueId | None, list[Known]],
) -> Iterator[Group]:
    for copies in _sharing_a_unique_id(listing, numbers):
        yield copies, rows[copies[0].unique_id]


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
    if not failures and max(listing.octets.values(), default=0) <= ROUND_OCTETS:
        return _in_order(sorted(numbers), lost)

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
    if not failures and account.max_message_size is None:
        return unsettled, Counter()
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
    wanted: Sequence[Listed],
    apart: Collection[UniqueId] = (),
    *,
    removing: bool = False,
    most: int | None = None,
) -> tuple[list[Listed], int]:
    """
    Return what of *wanted* one session retrieves, and how many it leaves for another.

    It is ROUND_MESSAGES at most, or fewer where *most* says so.

    *apart*: what failed before, where it is to be retrieved in a session of its own, so
    that it does not keep the others from their QUIT, which there are, too, when the
    session is *removing* something.
    """
    now: list[Listed] = []
    failed: list[Listed] = []
    octets = later = 0
    most = min(ROUND_MESSAGES, most or ROUND_MESSAGES)
    all_can_wait = not apart and isinstance(wanted, Messages) and wanted.told_apart
    for at, listed in enumerate(wanted):
        if listed.unique_id in apart:
            failed.append(listed)
            continue
        full = len(now) >= most or octets >= ROUND_OCTETS
        if full and all_can_wait:
            return now, len(wanted) - at
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


def _is_reset(
    listing: Listing,
    known: Sequence[Known],
    plain: Plain,
    gone: Plain,
    wanted: Messages,
) -> bool:
    before = [row for row in known if row.accounted and row.unique_id is not None]
    lacking = {row.unique_id for row in before}
    lacking.difference_update(listing.unique_ids.values() if lacking else ())
    vanished = sum(row.unique_id in lacking and not row.marked for row in before)
    there_were = len(before) + len(plain.rows)
    many = vanished + len(gone.rows) >= max(RESET_LEAST, there_were / 2)
    return bool(wanted) and many
