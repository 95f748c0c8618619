"""
What most verbs begin with: the configuration read, the ledger open, accounts chosen.

Rules of this file:

- A verb that changes nothing takes `looked`: no ledger is made for it, and none opened
  to be written.
"""

from __future__ import annotations

import os
import sys
import time

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from popfetchd import logs
from popfetchd.cli.exits import Exit
from popfetchd.config import apart, find
from popfetchd.errors import Mistake
from popfetchd.ledger import Glimpse, Ledger
from popfetchd.report import Reporter, Uncounted
from popfetchd.values import Account
from popfetchd.visits import Sessions, Visits


if TYPE_CHECKING:  # pydantic, which is in a process of its own if possible
    from popfetchd.config.load import Loaded
    from popfetchd.config.model import Configuration


MOST_NAMES = 20
"""Accounts that are named to someone who mistyped one; `status` names them all."""


@dataclass(frozen=True, slots=True)
class Opened:
    """
    A configuration with its ledger, ready for visits.
    """

    sessions: int
    """At most at once."""
    sessions_per_host: int
    accounts: tuple[Account, ...]
    visits: Visits


def loaded(arguments: Namespace) -> Loaded:
    """
    Load the configuration that *arguments* name; tell what is held back, and what is
    seldom meant, on stderr.
    """
    from popfetchd.config import load  # noqa: PLC0415 -- see above

    result = load.load(find.find(arguments.config, os.environ), os.environ)
    _tell(result.held_back, result.doubts)
    return result


def _tell(held_back: Sequence[Mistake], doubts: Sequence[Mistake]) -> None:
    for mistake in held_back:
        print(mistake, file=sys.stderr)
    if held_back:
        print("  hint: these files' accounts are held back", file=sys.stderr)
    for doubt in doubts:  # as compilers do, so that editors can tell
        print(doubt._replace(text=f"warning: {doubt.text}"), file=sys.stderr)


@dataclass(frozen=True, slots=True)
class Looked:
    """
    A configuration, ready for looking: nothing was opened, nothing is to be closed.
    """

    configuration: Configuration
    accounts: tuple[Account, ...]
    sessions: Sessions
    ledger: Glimpse


def looked(arguments: Namespace, names: Sequence[str] = ()) -> Looked:
    """
    Return what a verb works with that only looks: accounts as `opened` gives them.
    """
    from popfetchd.config import plain  # noqa: PLC0415 -- see above

    configuration = loaded(arguments).configuration
    accounts = chosen(plain.accounts(configuration), names)
    log = configuration.log
    logs.set_up(log.of_a_verb.value, log.format.value, os.environ)
    sessions, ledger = Sessions(os.environ), Glimpse(configuration.ledger)
    return Looked(configuration, accounts, sessions, ledger)


def reading(arguments: Namespace) -> apart.Reading:
    """
    Return what reads the configuration that *arguments* name, in this process.
    """
    return partial(
        apart.whole, find.find(arguments.config, os.environ), environ=os.environ
    )


@contextmanager
def opened(read: apart.Reading, names: Sequence[str] = ()) -> Iterator[Opened]:
    """
    Give what the verb works with: the accounts called *names*, all of them if none.

    Exits with 64 when there is no account of such a name.
    """
    whole = read()
    _tell(whole.held_back, whole.doubts)
    accounts = chosen(whole.accounts, names)
    logs.set_up(*whole.log, os.environ)
    counts = Uncounted()
    ledger = Ledger(whole.ledger, now=time.time)
    try:
        yield Opened(
            whole.sessions,
            whole.sessions_per_host,
            accounts,
            Visits(ledger, counts, Reporter(counts, logs.get()), os.environ),
        )
    finally:
        ledger.close()


def chosen(accounts: Sequence[Account], names: Sequence[str]) -> tuple[Account, ...]:
    """
    Return the accounts called *names*, in that order; all of them if none is named.
    """
    by_name = {str(account.name): account for account in accounts}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        print(f"popfetchd: no account {unknown[0]!r}", file=sys.stderr)
        print(f"  hint: there are: {_few(list(by_name))}", file=sys.stderr)
        raise SystemExit(Exit.USAGE)
    return tuple(by_name[name] for name in dict.fromkeys(names or by_name))


def _few(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMES
    rest = [f"and {more} more"] if more > 0 else []
    return ", ".join([*names[:MOST_NAMES], *rest]) or "none"
