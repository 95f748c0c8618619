"""
Make the ledger again from the archive: after it was lost, damaged, or put back too old.

Rules of this file:

- All of it is one transaction of a ledger that nobody else has open: killed in the midst
  of it, nothing has changed, and it can be begun again.
- What the ledger knows stays as it is; what it does not know is taken for archived, with
  no word of what any server has. So nothing is archived twice: the next listing is
  matched with it by header or content. And nothing becomes removable by it alone: that
  takes a RETR with the same digest.
- A ledger that is new, or behind its archive, is made again for every account: one that
  were left out would be fetched anew once the numbers are right again.
- Names in the archive tell the old ledger's id, and a new ledger takes it over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from threading import Event
from typing import Protocol

from popfetchd.archive.inventory import Inventory, inventory
from popfetchd.archive.places import places
from popfetchd.errors import Interrupted
from popfetchd.ledger import Ledger, Restoring
from popfetchd.values import Account, AccountName, Destination, Found, LedgerId


class Watch(Protocol):
    """
    Somebody who looks on, such as a progress bar.
    """

    def read(self, octets: int) -> None:
        """One message more, of so many octets, has been read."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """
    What became of one account: messages that the ledger knew, and those it knows now too.
    """

    account: AccountName
    known: int
    restored: int


def rebuild(
    named: Sequence[Account],
    everyone: Sequence[Account],
    ledger: Ledger,
    *,
    now: Callable[[], float],
    stop: Event,
    watch: Watch,
) -> list[Rebuilt]:
    """
    Take what is in the archives of the accounts *named* into *ledger*, opened alone.

    Of *everyone* where the ledger is new, or behind. *stop* asks it to end: Interrupted,
    and nothing has changed. ArchiveError where an archive cannot be read.
    """

    def work(db: Restoring) -> list[Rebuilt]:
        return Rebuilding(db, now, stop, watch).make(named, everyone)

    rebuilt = ledger.rebuild(work)
    for account in rebuilt:
        _remember(ledger, account.account)
    return rebuilt


def _remember(ledger: Ledger, account: AccountName) -> None:
    # What was forgotten of its life, so that no counter runs backwards.
    # Nor does the next visit begin from anything: what was restored has to be listed.
    state, count = ledger.state(account), ledger.archived_count(account)
    state = replace(state, archived=max(state.archived, count))
    ledger.save_visit(account, state, None)


class Rebuilding:
    """
    One rebuild while it is under way.
    """

    def __init__(
        self, db: Restoring, now: Callable[[], float], stop: Event, watch: Watch
    ) -> None:
        self._db = db
        self._now = now
        self._stop = stop
        self._watch = watch

    def make(
        self, named: Sequence[Account], everyone: Sequence[Account]
    ) -> list[Rebuilt]:
        """
        Find out what the numbers say, then take over what is there.
        """
        highest = self._highest(everyone)
        ledger_id = self._db.id
        if self._db.is_new and highest:
            ledger_id = max(highest, key=lambda ledger: highest[ledger])
        behind = highest.get(ledger_id, 0) > self._db.highest
        accounts = everyone if behind or self._db.is_new else named
        rebuilt = [self._take(account) for account in accounts]
        self._db.begin_at(highest.get(ledger_id, 0), ledger_id)
        return rebuilt

    def _highest(self, accounts: Sequence[Account]) -> dict[LedgerId, int]:
        # Of two ledgers the one that gave more numbers is the one that was lost.
        highest: dict[LedgerId, int] = {}
        for account in accounts:
            for stock in self._stocks(account):
                for ledger, number in stock.numbers():
                    highest[ledger] = max(number, highest.get(ledger, 0))
        return highest

    def _stocks(self, account: Account) -> Iterator[Inventory]:
        for place in self._places(account):
            with inventory(place, now=self._now) as stock:
                if stock is not None:
                    yield stock

    def _places(self, account: Account) -> list[Destination]:
        # Also where the account's mail was once put: an older ledger does not know all
        # that came there since.
        here = places(account.destination)
        paths = {place.path for place in here}
        former = self._db.places(account.name)
        return [*here, *(place for place in former if place.path not in paths)]

    def _take(self, account: Account) -> Rebuilt:
        before = restored = 0
        for place in self._places(account):
            with inventory(place, now=self._now) as stock:
                if stock is None:
                    continue
                known = self._db.known(account.name, place.path)
                before += known.total()
                restored += self._db.restore(account.name, self._unknown(stock, known))
        return Rebuilt(account.name, before, restored)

    def _unknown(self, stock: Inventory, known: Counter[str]) -> Iterator[Found]:
        for held in stock.held():
            if self._stop.is_set():
                raise Interrupted
            if known[held.key] > 0:
                known[held.key] -= 1
                continue
            found = stock.read(held)
            if found is not None:
                self._watch.read(found.fingerprint.stored)
                yield found
