"""
`popfetchd verify`: the archives read against the ledger; --repair fetches anew.

Rules of this file:

- One account after the other: the disk is one. Ctrl-C ends it between two messages.
- Damage is exit code 65, also where some of it could be repaired and some could not. A
  message that the ledger does not know, or that a reader moved, is told and no damage.
"""

from __future__ import annotations

import sys
import threading

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from popfetchd.cli import exits
from popfetchd.cli.exits import Exit
from popfetchd.cli.opened import Opened, opened, reading
from popfetchd.cli.stopping import interrupted
from popfetchd.cli.tables import octets, show_json, show_table
from popfetchd.errors import PopfetchdError
from popfetchd.values import (
    Account,
    AccountName,
    Condition,
    Damage,
    PollReport,
    RowId,
    Verification,
)
from popfetchd.verify import Watch


DAMAGED = (Condition.MISSING, Condition.ALTERED, Condition.TRUNCATED)


@dataclass(frozen=True, slots=True)
class Result:
    """
    How one archive was found, and what is damaged still after it was repaired.
    """

    found: Verification
    left: frozenset[RowId]
    visit: PollReport | None = None
    failure: PopfetchdError | None = None

    @property
    def exit(self) -> Exit:
        """
        The code for this account.
        """
        failure = self.found.failure or self.failure
        codes = [Exit.DAMAGED if self.left else Exit.OK]
        if failure is not None:
            codes.append(exits.OF_REASON[failure.reason])
        if self.visit is not None:
            codes.append(exits.of_report(self.visit))
        return exits.of_all(codes)

    def fate(self, damage: Damage) -> str:
        """
        Tell what became of *damage*.
        """
        if damage.row not in self.left:
            return "repaired"
        return "" if self.visit is None else "not on the server"


def run(arguments: Namespace) -> int:
    """
    Verify, and with --repair let a visit fetch again what is damaged.
    """
    with opened(reading(arguments), arguments.accounts) as found, interrupted() as stop:
        results = []
        for account in found.accounts:
            result = _verified(found, account, stop)
            if arguments.repair and result.found.damage and not result.found.failure:
                result = _repaired(found, account, result, stop)
            results.append(result)
    if arguments.json:
        show_json([_as_json(result) for result in results])
    else:
        _show(results)
    if stop.is_set():
        return Exit.INTERRUPTED
    return exits.of_all(result.exit for result in results)


def _verified(found: Opened, account: Account, stop: threading.Event) -> Result:
    with _watch(account.name) as watch:
        seen = found.visits.verify(account, stop=stop, watch=watch)
    return Result(seen, frozenset(damage.row for damage in seen.damage))


def _repaired(
    found: Opened, account: Account, result: Result, stop: threading.Event
) -> Result:
    patience = account.deadline
    try:
        visit, left = found.visits.repair(
            account, result.found, stop=stop, patience=patience
        )
    except PopfetchdError as error:
        return replace(result, failure=error)
    rows = frozenset(damage.row for damage in left.damage)
    return replace(result, left=rows, visit=visit)


@contextmanager
def _watch(account: AccountName) -> Iterator[Watch | None]:
    # A bar where a person looks, on stderr; rich is imported only then.
    if not sys.stderr.isatty():
        yield None
        return
    from popfetchd.cli.bars import Bars  # noqa: PLC0415 -- rich takes 90 ms

    with Bars() as bars:
        yield bars.reading(account)


# -- what is shown --------------------------------------------------------------------

COLUMNS = (
    "account",
    "messages",
    "octets",
    *(condition.value for condition in DAMAGED),
    "repaired",
    "moved",
    "unknown",
    "problem",
)

FINDINGS = ("account", "found", "repair", "path")


def _show(results: list[Result]) -> None:
    show_table(COLUMNS, map(_row, results))
    findings = [finding for result in results for finding in _findings(result)]
    if findings:
        print()
        show_table(FINDINGS, findings)


def _row(result: Result) -> tuple[str, ...]:
    seen, counts = result.found, _counts(result.found)
    failure = seen.failure or result.failure
    return (
        seen.account,
        str(seen.messages),
        octets(seen.octets),
        *(str(counts[condition]) for condition in DAMAGED),
        str(len(seen.damage) - len(result.left)),
        str(seen.moved),
        str(len(seen.unknown)),
        f"{failure} (hint: {failure.hint})" if failure else "",
    )


def _counts(seen: Verification) -> Counter[Condition]:
    return Counter(damage.condition for damage in seen.damage)


def _findings(result: Result) -> Iterator[tuple[str, ...]]:
    seen = result.found
    for damage in seen.damage:
        yield seen.account, damage.condition, result.fate(damage), str(damage.path)
    for path in seen.unknown:
        yield seen.account, "unknown", "", str(path)


def _as_json(result: Result) -> dict[str, object]:
    seen, counts = result.found, _counts(result.found)
    failure = seen.failure or result.failure
    return {
        "account": seen.account,
        "messages": seen.messages,
        "octets": seen.octets,
        "seconds": round(seen.ended - seen.started, 3),
        **{condition.value: counts[condition] for condition in DAMAGED},
        "repaired": len(seen.damage) - len(result.left),
        "moved": seen.moved,
        "damage": [
            {
                "path": str(damage.path),
                "found": damage.condition,
                "repaired": damage.row not in result.left,
            }
            for damage in seen.damage
        ],
        "unknown": [str(path) for path in seen.unknown],
        "reason": failure and failure.reason,
        "error": failure and str(failure),
        "hint": failure and failure.hint,
    }
