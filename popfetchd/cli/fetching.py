"""
The visits of `popfetchd fetch`, and what is shown of them.

Rules of this file:

- Accounts are visited side by side, within the configuration's limits.
- Back-off is ignored: a person asked. A server's floor between logins is honoured, and
  an account that the service is visiting is waited for.
- The first Ctrl-C lets visits end with what they have, the second ends at once.
"""

from __future__ import annotations

import sys
import threading

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from popfetchd import cores
from popfetchd.cli import exits
from popfetchd.cli.exits import Exit
from popfetchd.cli.opened import Opened, opened
from popfetchd.cli.stopping import interrupted
from popfetchd.cli.tables import octets, show_json, show_table
from popfetchd.config.apart import Reading
from popfetchd.pool import Pool
from popfetchd.values import Account, AccountName, PollReport
from popfetchd.visit.course import Watch


def run(arguments: Namespace, reading: Reading) -> int:
    """
    Visit the accounts, or those that are named, of the configuration that is being read.
    """
    with (
        cores.shared(),
        opened(reading, arguments.accounts) as found,
        _watches(found.accounts) as watches,
        interrupted() as stop,
    ):
        reports = visit_all(found, watches, stop)
    if arguments.json:
        show_json([_as_json(report) for report in reports])
    else:
        show_table(COLUMNS, map(_row, reports))
    if stop.is_set():
        return Exit.INTERRUPTED
    return exits.of_all(map(exits.of_report, reports))


def visit_all(
    found: Opened,
    watches: dict[AccountName, Watch],
    stop: threading.Event,
) -> list[PollReport]:
    """
    Visit all accounts and return their reports, in the accounts' order.
    """
    reports: dict[AccountName, PollReport] = {}
    broken: list[BaseException] = []
    pool = Pool(
        found.sessions,
        found.sessions_per_host,
        lambda _name, error: broken.append(error),
    )
    for account in found.accounts:
        pool.submit(
            account.name,
            account.server.certified_name,
            _visit(found, account, watches.get(account.name), stop, reports),
        )
    while not pool.wait(timeout=0.5):  # awake for signals
        pass
    if broken:
        raise broken[0]
    return [reports[account.name] for account in found.accounts]


def _visit(
    found: Opened,
    account: Account,
    watch: Watch | None,
    stop: threading.Event,
    reports: dict[AccountName, PollReport],
) -> Callable[[], None]:
    def visit() -> None:
        reports[account.name] = found.visits.make(
            account, stop=stop, patience=account.deadline, watch=watch
        )

    return visit


# -- what is shown --------------------------------------------------------------------

COLUMNS = ("account", "outcome", "archived", "octets", "removed", "waiting", "problem")


def _row(report: PollReport) -> tuple[str, ...]:
    problem = str(report.failure or "; ".join(report.failed_messages))
    return (
        report.account,
        report.outcome,
        str(report.archived),
        octets(report.archived_octets),
        str(report.removed),
        str(report.waiting),
        problem,
    )


def _as_json(report: PollReport) -> dict[str, object]:
    failure = report.failure
    return {
        "account": report.account,
        "outcome": report.outcome,
        "archived": report.archived,
        "archived_octets": report.archived_octets,
        "matched": report.matched,
        "removed": report.removed,
        "waiting": report.waiting,
        "quarantined": report.quarantined,
        "skipped": report.skipped,
        "settled": report.settled,
        "seconds": round(report.duration, 3),
        "stages": {stage: round(took, 3) for stage, took in report.stages.items()},
        "failed_messages": report.failed_messages,
        "reason": failure and failure.reason,
        "error": failure and str(failure),
        "hint": failure and failure.hint,
    }


# -- progress -------------------------------------------------------------------------


@contextmanager
def _watches(accounts: Sequence[Account]) -> Iterator[dict[AccountName, Watch]]:
    # Bars where a person looks, on stderr; rich is imported only then.
    if not sys.stderr.isatty():
        yield {}
        return
    from popfetchd.cli.bars import Bars  # noqa: PLC0415 -- rich takes 90 ms

    with Bars() as bars:
        yield {account.name: bars.watch(account.name) for account in accounts}
