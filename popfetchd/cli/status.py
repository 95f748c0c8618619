"""
`popfetchd status`: what the ledger remembers of every account, and of each message that
failed.
"""

from __future__ import annotations

import time

from argparse import Namespace
from collections.abc import Mapping

from popfetchd.cli.exits import Exit
from popfetchd.cli.opened import looked
from popfetchd.cli.tables import moment, show_json, show_table
from popfetchd.report import standing
from popfetchd.selection import next_try, rests
from popfetchd.values import Account, AccountName, AccountState, Failure, UniqueId


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

MESSAGE_COLUMNS = (
    "account",
    "unique-id",
    "state",
    "failing since",
    "visits",
    "next try",
    "why",
)

Failures = Mapping[UniqueId, Failure]


def run(arguments: Namespace) -> int:
    """
    Show every account. The exit code tells whether it could be shown, not how it is.
    """
    found = looked(arguments)
    states, failures = found.ledger.states(), found.ledger.failures()
    shown = [(a, states.get(a.name, AccountState())) for a in found.accounts]
    failed = {a.name: failures.get(a.name, {}) for a in found.accounts}
    if arguments.json:
        show_json([_as_json(a, state, failed[a.name]) for a, state in shown])
        return Exit.OK
    now = time.time()
    show_table(COLUMNS, [_row(account, state, now) for account, state in shown])
    if any(failed.values()):
        rows = (_message(name, *m) for name, ms in failed.items() for m in ms.items())
        print()
        show_table(MESSAGE_COLUMNS, list(rows))
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


def _message(
    name: AccountName, unique_id: UniqueId, failure: Failure
) -> tuple[str, ...]:
    return (
        name,
        unique_id or "(none)",
        "quarantined" if rests(unique_id, failure) else "failing",
        moment(failure.first, "unknown"),
        str(failure.visits),
        moment(next_try(unique_id, failure), "next visit"),
        failure.why,
    )


def _condition(state: AccountState) -> str:
    if state.reason:
        return f"failing ({state.consecutive_failures})"
    return "ok" if state.last_poll else "never visited"


def _as_json(
    account: Account, state: AccountState, failed: Failures
) -> dict[str, object]:
    fields = {name: getattr(state, name) for name in AccountState.__slots__}
    messages = [
        {
            "unique_id": unique_id,
            "quarantined": rests(unique_id, failure),
            "failing_since": failure.first,
            "visits": failure.visits,
            "last": failure.last,
            "next_try": next_try(unique_id, failure),
            "why": failure.why,
        }
        for unique_id, failure in failed.items()
    ]
    return {"account": account.name, **fields, "failed_messages": messages}
