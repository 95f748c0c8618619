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

from popfetchd import logs
from popfetchd.cli.exits import Exit
from popfetchd.config import find, load
from popfetchd.config.model import Configuration
from popfetchd.config.plain import accounts as plain_accounts
from popfetchd.ledger import Glimpse, Ledger
from popfetchd.report import Reporter, Uncounted
from popfetchd.values import Account
from popfetchd.visits import Sessions, Visits


MOST_NAMES = 20
"""Accounts that are named to someone who mistyped one; `status` names them all."""


@dataclass(frozen=True, slots=True)
class Opened:
    """
    A configuration with its ledger, ready for visits.
    """

    configuration: Configuration
    accounts: tuple[Account, ...]
    visits: Visits


def loaded(arguments: Namespace) -> load.Loaded:
    """
    Load the configuration that *arguments* name; tell what is held back, and what is
    seldom meant, on stderr.
    """
    path = find.find(arguments.config, os.environ)
    result = load.load(path, os.environ)
    for mistake in result.held_back:
        print(mistake, file=sys.stderr)
    if result.held_back:
        print("  hint: these files' accounts are held back", file=sys.stderr)
    for doubt in result.doubts:  # as compilers do, so that editors can tell
        print(doubt._replace(text=f"warning: {doubt.text}"), file=sys.stderr)
    return result


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
    configuration = loaded(arguments).configuration
    accounts = chosen(plain_accounts(configuration), names)
    _log_as(configuration)
    sessions, ledger = Sessions(os.environ), Glimpse(configuration.ledger)
    return Looked(configuration, accounts, sessions, ledger)


@contextmanager
def opened(arguments: Namespace, names: Sequence[str] = ()) -> Iterator[Opened]:
    """
    Give what the verb works with: the accounts called *names*, all of them if none.

    Exits with 64 when there is no account of such a name.
    """
    configuration = loaded(arguments).configuration
    accounts = chosen(plain_accounts(configuration), names)
    _log_as(configuration)
    counts = Uncounted()
    ledger = Ledger(configuration.ledger, now=time.time)
    try:
        yield Opened(
            configuration,
            accounts,
            Visits(ledger, counts, Reporter(counts, logs.get()), os.environ),
        )
    finally:
        ledger.close()


def _log_as(configuration: Configuration) -> None:
    log = configuration.log
    logs.set_up(log.level.value, log.format.value, os.environ)


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
