"""
`popfetchd retry`: quarantined messages are tried again at the next visit.

Rules of this file:

- It holds the account's lock for an instant, so it waits for a visit that is under way;
  a running service need not be stopped, nor told.
- A message is named as `status` shows it, or by its unique-id as the server gave it.
- What is tried again comes last and alone, as whatever failed before.
"""

from __future__ import annotations

import sys

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace

from popfetchd.cli.exits import Exit
from popfetchd.cli.opened import opened, reading
from popfetchd.cli.tables import show_json, show_table
from popfetchd.ledger import Ledger
from popfetchd.logs import clean
from popfetchd.selection import rests
from popfetchd.values import Account, Failure, UniqueId


COLUMNS = ("account", "unique-id", "failed visits")
KEYS = ("account", "unique_id", "visits")


def run(arguments: Namespace) -> int:
    """
    Lift the quarantine of one message, or of all of an account; show which.
    """
    with opened(reading(arguments), [arguments.account]) as found:
        (account,) = found.accounts
        ledger = found.visits.ledger
        with ledger.lock(account.name).acquire(account.deadline):
            failures = ledger.failures(account.name)
            chosen = _chosen(failures, arguments.unique_id)
            if not chosen and arguments.unique_id is not None:
                return _unknown(account, failures, arguments.unique_id)
            _lift(ledger, account, chosen)
    lifted = [(account.name, m, failures[m].visits) for m in chosen]
    if arguments.json:
        show_json([dict(zip(KEYS, row, strict=True)) for row in lifted])
    elif lifted:
        show_table(COLUMNS, [tuple(map(str, row)) for row in lifted])
    else:
        print(f"{account.name}: nothing is in quarantine", file=sys.stderr)
    return Exit.OK


def _chosen(failures: dict[UniqueId, Failure], named: str | None) -> list[UniqueId]:
    if named is None:
        return [m for m, f in failures.items() if rests(m, f)]
    return [m for m in failures if named in {m, clean(m)}]


def _lift(ledger: Ledger, account: Account, chosen: Sequence[UniqueId]) -> None:
    ledger.lift(account.name, chosen)
    state = ledger.state(account.name)
    left = max(0, state.quarantined - len(chosen))
    if left < state.quarantined:
        ledger.save_state(account.name, replace(state, quarantined=left))


def _unknown(account: Account, failures: dict[UniqueId, Failure], named: str) -> int:
    print(
        f"popfetchd: no message {clean(named)} of {account.name} failed",
        file=sys.stderr,
    )
    there = ", ".join(map(clean, filter(None, failures))) or "none"
    print(f"  hint: there are: {there}", file=sys.stderr)
    return Exit.USAGE
