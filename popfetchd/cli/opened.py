"""
What most verbs begin with: the configuration read, the ledger open, accounts chosen.
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
from popfetchd.daemon import Visits, set_up_logs
from popfetchd.ledger import Ledger
from popfetchd.metrics import Metrics
from popfetchd.report import Reporter
from popfetchd.values import Account


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
    Load the configuration that *arguments* name; tell what is held back on stderr.
    """
    path = find.find(arguments.config, os.environ)
    result = load.load(path, os.environ)
    for mistake in (*result.held_back, *result.doubts):
        print(mistake, file=sys.stderr)
    return result


@contextmanager
def opened(arguments: Namespace, names: Sequence[str] = ()) -> Iterator[Opened]:
    """
    Give what the verb works with: the accounts called *names*, all of them if none.

    Exits with 64 when there is no account of such a name.
    """
    configuration = loaded(arguments).configuration
    accounts = chosen(plain_accounts(configuration), names)
    set_up_logs(configuration, os.environ)
    metrics = Metrics()
    ledger = Ledger(configuration.ledger, now=time.time)
    try:
        yield Opened(
            configuration,
            accounts,
            Visits(ledger, metrics, Reporter(metrics, logs.get()), os.environ),
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
        known = ", ".join(by_name) or "none"
        print(
            f"popfetchd: no account {unknown[0]!r}; there are: {known}", file=sys.stderr
        )
        raise SystemExit(Exit.USAGE)
    return tuple(by_name[name] for name in names) if names else tuple(accounts)
