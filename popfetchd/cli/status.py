"""
`popfetchd status`: what the ledger remembers of every account.
"""

from __future__ import annotations

import time

from argparse import Namespace

from popfetchd.cli.exits import Exit
from popfetchd.cli.opened import looked
from popfetchd.cli.tables import moment, show_json, show_table
from popfetchd.report import standing
from popfetchd.values import Account, AccountState


COLUMNS = (
    "account",
    "state",
    "last visit",
    "last success",
    "next visit",
    "archived",
    "waiting",
    "quarantined",
    "problem",
)


def run(arguments: Namespace) -> int:
    """
    Show every account. The exit code tells whether it could be shown, not how it is.
    """
    found = looked(arguments)
    states = found.ledger.states()
    shown = [(a, states.get(a.name, AccountState())) for a in found.accounts]
    if arguments.json:
        show_json([_as_json(account, state) for account, state in shown])
    else:
        now = time.time()
        show_table(COLUMNS, [_row(account, state, now) for account, state in shown])
    return Exit.OK


def _row(account: Account, state: AccountState, now: float) -> tuple[str, ...]:
    return (
        account.name,
        _condition(state),
        moment(state.last_poll),
        moment(state.last_success),
        moment(state.next_poll, "not planned"),
        str(state.archived),
        str(state.waiting),
        str(state.quarantined),
        "; ".join(f"{what} (hint: {hint})" for what, hint in standing(state, now)),
    )


def _condition(state: AccountState) -> str:
    if state.reason:
        return f"failing ({state.consecutive_failures})"
    return "ok" if state.last_poll else "never visited"


def _as_json(account: Account, state: AccountState) -> dict[str, object]:
    fields = {name: getattr(state, name) for name in AccountState.__slots__}
    return {"account": account.name, **fields}
