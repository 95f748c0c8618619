"""
`popfetchd rebuild`: the ledger made again from the archives.

Rules of this file:

- A ledger that cannot be read is set aside under another name, never deleted.
- Accounts that are held back by a mistake in their file would be left out: then nothing
  is done at all.
"""

from __future__ import annotations

import sys
import time

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from popfetchd.cli.exits import Exit
from popfetchd.cli.opened import chosen, loaded
from popfetchd.cli.stopping import interrupted
from popfetchd.cli.tables import show_json, show_table
from popfetchd.config.load import Loaded
from popfetchd.config.plain import accounts as plain_accounts
from popfetchd.errors import ConfigurationError, LedgerDamaged
from popfetchd.ledger import Ledger, set_aside
from popfetchd.rebuild import Watch, rebuild


COLUMNS = ("account", "known", "restored")


def run(arguments: Namespace) -> int:
    """
    Take what the archives hold into the ledger, or into a new one.
    """
    configuration = _whole(arguments)
    everyone = plain_accounts(configuration.configuration)
    named = chosen(everyone, arguments.accounts)
    path = configuration.configuration.ledger
    with _ledger(path) as ledger, interrupted() as stop, _watch() as watch:
        done = rebuild(named, everyone, ledger, now=time.time, stop=stop, watch=watch)
    if arguments.json:
        show_json(done)
    else:
        show_table(COLUMNS, [(a.account, str(a.known), str(a.restored)) for a in done])
    return Exit.OK


def _whole(arguments: Namespace) -> Loaded:
    result = loaded(arguments)
    if result.held_back:
        raise ConfigurationError(list(result.held_back))
    return result


@contextmanager
def _ledger(path: Path) -> Iterator[Ledger]:
    try:
        ledger = Ledger(path, now=time.time, alone=True)
        with ledger:
            ledger.check()
    except LedgerDamaged as damage:
        aside = set_aside(path, time.time)
        print(f"popfetchd: {damage}", file=sys.stderr)
        print(f"popfetchd: it is kept as {aside}", file=sys.stderr)
    with Ledger(path, now=time.time, alone=True) as whole:
        yield whole


class Nobody:
    """
    The watch of a rebuild that nobody looks at.
    """

    def read(self, octets: int) -> None: ...


@contextmanager
def _watch() -> Iterator[Watch]:
    # A bar where a person looks, on stderr; rich is imported only then.
    if not sys.stderr.isatty():
        yield Nobody()
        return
    from popfetchd.cli.bars import Bars  # noqa: PLC0415 -- rich takes 90 ms

    with Bars() as bars:
        yield bars.reading()
