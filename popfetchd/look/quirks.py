"""
How a server differs from what a visit would like: pure, from what `check` has seen.

Rules of this file:

- A quirk is told, not judged: popfetchd lives with each of them, and the sentence says
  how. Server text stands in it through `quote` only.
- Each has a name that stays, for programs that read `--json`.
"""

from __future__ import annotations

import math

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from popfetchd.archive.arrival import received_at
from popfetchd.errors import ServerRefusal
from popfetchd.pop3.replies import Capabilities
from popfetchd.pop3.session import Occasion
from popfetchd.values import DropListing, Listing, TlsMode


class Quirk(NamedTuple):
    """
    One peculiarity: its *name* is for programs, its *text* for people.
    """

    name: str
    text: str


@dataclass
class Seen:
    """
    What was seen of a server so far; None: it was not asked, or did not answer.
    """

    mode: TlsMode
    announced: Mapping[Occasion, Capabilities | None]
    stat: DropListing | None = None
    listing: Listing | None = None
    top: bytes | ServerRefusal | None = None
    """The header of the newest message."""
    quit: ServerRefusal | None = None


MAY_DIFFER = frozenset({"STLS", "SASL", "USER", "IMPLEMENTATION"})
"""Capabilities that have a good reason to go, or to change, with the login."""

LONGEST_UNIQUE_ID = 70
"""Characters, RFC 1939 §7."""

CLOCK_SKEW = 600.0
"""Seconds between two clocks that nobody need hear of."""


def quirks(seen: Seen, now: float) -> Iterator[Quirk]:
    """
    Yield what is peculiar about *seen*, at *now* (seconds since 1970).
    """
    yield from _of_capabilities(seen)
    if seen.listing is not None:
        said = seen.announced.get(Occasion.LOGIN) or Capabilities()
        yield from _of_commands(said, seen.listing, seen.top)
        yield from _of_unique_ids(seen.listing)
        yield from _of_sizes(seen.listing, seen.stat)
    if isinstance(seen.top, bytes):
        yield from _of_clocks(seen.top, now)
    if seen.quit is not None:
        yield Quirk("quit-refused", f"{seen.quit}; nothing was to be removed")


# -- what is announced ----------------------------------------------------------------


def _of_capabilities(seen: Seen) -> Iterator[Quirk]:
    first = seen.announced.get(Occasion.GREETING)
    after = seen.announced.get(Occasion.LOGIN)
    if first is None and after is None:
        yield Quirk("no-capa", "CAPA is refused: commands are tried instead")
    elif first is None:
        yield Quirk("no-capa-before-login", "CAPA is refused before the login")
    if seen.mode is TlsMode.NONE and first is not None and first.has("STLS"):
        yield Quirk(
            "stls-unused",
            "STLS is offered, and everything crosses in clear: write `tls: stls`",
        )
    if Occasion.LOGIN not in seen.announced:
        return
    if after is None and first is not None:
        yield Quirk("no-capa-after-login", "CAPA is refused after the login")
    if first is not None and after is not None:
        yield from _of_change(before=_before_login(seen), after=after)
    yield from _of_terms(after or first or Capabilities())


def _before_login(seen: Seen) -> Capabilities:
    after_stls = seen.announced.get(Occasion.STLS)
    return after_stls or seen.announced[Occasion.GREETING] or Capabilities()


def _of_change(before: Capabilities, after: Capabilities) -> Iterator[Quirk]:
    more = after.arguments.keys() - before.arguments.keys() - MAY_DIFFER
    less = before.arguments.keys() - after.arguments.keys() - MAY_DIFFER
    parts = [
        f"{word} {', '.join(map(_word, sorted(tags)))}"
        for word, tags in (("also", more), ("no more", less))
        if tags
    ]
    if parts:
        text = f"CAPA says something else after the login: {'; '.join(parts)}"
        yield Quirk("capa-differs", text)


def _word(tag: str) -> str:
    return tag if tag.isascii() and tag.isprintable() else ascii(tag)


def _of_terms(said: Capabilities) -> Iterator[Quirk]:
    if not said.has("PIPELINING"):
        yield Quirk(
            "no-pipelining",
            "PIPELINING is not announced: each message takes a round trip",
        )
    if said.login_delay:
        yield Quirk(
            "login-delay",
            f"{said.login_delay:.0f} s have to pass between two logins: visits wait "
            "for that",
        )
    if said.expire == 0:
        yield Quirk(
            "expire",
            "EXPIRE 0: messages may go once they were retrieved; so QUIT is said only "
            "when they are archived",
        )
    elif said.expire is not None and math.isfinite(said.expire):
        yield Quirk("expire", f"messages are removed after {said.expire:.0f} days")


# -- what is understood ---------------------------------------------------------------


def _of_commands(
    said: Capabilities, listing: Listing, top: bytes | ServerRefusal | None
) -> Iterator[Quirk]:
    if listing.unique_ids and not said.has("UIDL"):
        yield Quirk("uidl-not-announced", "UIDL is not announced, and works")
    if listing.numbers and not listing.unique_ids:
        yield Quirk(
            "no-uidl",
            "there are no unique-ids: each visit retrieves all, and matches by content",
        )
    if listing.numbers and not listing.octets:
        yield Quirk("no-list", "LIST is refused: sizes are not known beforehand")
    if isinstance(top, bytes) and not said.has("TOP"):
        yield Quirk("top-not-announced", "TOP is not announced, and works")
    if isinstance(top, ServerRefusal):
        yield Quirk(
            "no-top",
            "TOP is refused: what is to be removed later is retrieved once more",
        )


def _of_unique_ids(listing: Listing) -> Iterator[Quirk]:
    ids = listing.unique_ids.values()
    if not ids:
        return
    if listing.named is not listing:
        yield Quirk(
            "unique-ids-are-numbers",
            "unique-ids are but the message-numbers: taken for none",
        )
    if repeated := listing.repeated.total():
        yield Quirk(
            "unique-ids-repeat",
            f"{repeated} messages share a unique-id: told apart by their content",
        )
    if long := sum(len(unique_id) > LONGEST_UNIQUE_ID for unique_id in ids):
        yield Quirk(
            "unique-ids-long",
            f"{long} unique-ids have over {LONGEST_UNIQUE_ID} characters",
        )
    if strange := sum(not _is_lawful(unique_id) for unique_id in ids):
        yield Quirk(
            "unique-ids-strange",
            f"{strange} unique-ids hold characters that none may hold",
        )
    if lacking := sum(number not in listing.unique_ids for number in listing.octets):
        yield Quirk(
            "unique-ids-missing",
            f"{lacking} messages have no unique-id: told apart by their content",
        )


def _is_lawful(unique_id: str) -> bool:
    return all("!" <= character <= "~" for character in unique_id)  # RFC 1939 §7


def _of_sizes(listing: Listing, stat: DropListing | None) -> Iterator[Quirk]:
    drop = listing.drop
    if stat is not None and stat.messages != drop.messages:
        yield Quirk(
            "stat-counts-otherwise",
            f"STAT counts {stat.messages} messages, the listings {drop.messages}: the "
            "listings are taken",
        )
    elif stat is not None and listing.octets and stat.octets != drop.octets:
        yield Quirk(
            "stat-measures-otherwise",
            f"STAT says {stat.octets} octets, LIST {drop.octets} in all: neither is "
            "relied on",
        )
    if listing.numbers and listing.numbers[-1] != len(listing.numbers):
        yield Quirk("gaps", "message-numbers have gaps")


def _of_clocks(header: bytes, now: float) -> Iterator[Quirk]:
    ahead = (received_at(header) or now) - now
    if ahead > CLOCK_SKEW:
        yield Quirk(
            "clock",
            f"the newest message came {ahead / 60:.0f} minutes from now: a clock is "
            "wrong, the server's or this machine's",
        )
