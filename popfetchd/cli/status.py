"""
`popfetchd status`: how every account is, and each message that failed.

Rules of this file:

- The exit code tells whether it could be shown, not how the accounts are.
- Who told it, the service or the ledger, is a line on stderr, and a key in `--json`.
"""

from __future__ import annotations

import sys
import time

from argparse import Namespace
from collections.abc import Iterator, Mapping

from popfetchd.cli.exits import Exit, tell
from popfetchd.cli.opened import Looked, looked
from popfetchd.cli.standing import Seen, Source, seen
from popfetchd.cli.tables import as_plain, moment, show_json, show_table
from popfetchd.cli.watching import can_be_drawn, watch
from popfetchd.errors import LedgerError
from popfetchd.report import standing
from popfetchd.selection import next_try, rests
from popfetchd.values import AccountName, AccountState, Failure, UniqueId


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
    Show the accounts that are named, or all; those that fail, if only they are wanted.
    """
    if arguments.watch is not None and (arguments.json or not can_be_drawn()):
        print("popfetchd: status --watch needs a terminal, no --json", file=sys.stderr)
        print("  hint: `popfetchd status` can be piped", file=sys.stderr)
        return Exit.USAGE
    found = looked(arguments, arguments.accounts)
    if arguments.watch is not None:
        watch(
            lambda: _seen(found, failing=arguments.failing),
            lambda: time.sleep(arguments.watch),
        )
    now = _seen(found, failing=arguments.failing)
    print(f"popfetchd: {now.told}", file=sys.stderr)
    failed = _failed(found, now)
    if arguments.json:
        show_json([*_as_json(now, failed)])
    else:
        _show(now, failed or {})
    return Exit.OK


def _seen(found: Looked, *, failing: bool) -> Seen:
    now = seen(found.configuration.http, found.ledger, found.accounts)
    return now.failing() if failing else now


def _failed(found: Looked, now: Seen) -> Mapping[AccountName, Failures] | None:
    # None: not known. That is no reason to hide what the service tells.
    try:
        return found.ledger.failures()
    except LedgerError as error:
        if now.source is Source.LEDGER:
            raise
        tell(error)
        return None


def _show(now: Seen, failed: Mapping[AccountName, Failures]) -> None:
    at = time.time()
    show_table(COLUMNS, [_row(*item, at) for item in now.states.items()])
    messages = [
        _message(name, *message)
        for name in now.states
        for message in failed.get(name, {}).items()
    ]
    if messages:
        print()
        show_table(MESSAGE_COLUMNS, messages)


def _row(name: AccountName, state: AccountState, now: float) -> tuple[str, ...]:
    return (
        name,
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
    now: Seen, failed: Mapping[AccountName, Failures] | None
) -> Iterator[dict[str, object]]:
    for name, state in now.states.items():
        yield {
            "account": name,
            "source": now.source,
            **as_plain(state),
            "failed_messages": None
            if failed is None
            else [
                _message_as_json(*message) for message in failed.get(name, {}).items()
            ],
        }


def _message_as_json(unique_id: UniqueId, failure: Failure) -> dict[str, object]:
    return {
        "unique_id": unique_id,
        "quarantined": rests(unique_id, failure),
        "failing_since": failure.first,
        "visits": failure.visits,
        "last": failure.last,
        "next_try": next_try(unique_id, failure),
        "why": failure.why,
    }
