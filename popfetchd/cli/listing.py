"""
`popfetchd list ACCOUNT`: the maildrop as a table. TOP, so that nothing is marked as read.
"""

from __future__ import annotations

from argparse import Namespace

from popfetchd.cli.exits import Exit
from popfetchd.cli.opened import looked
from popfetchd.cli.tables import show_json, show_table
from popfetchd.look import Line, messages


COLUMNS = ("number", "octets", "archived", "date", "from", "subject", "unique-id")


def run(arguments: Namespace) -> int:
    """
    Show the messages of one account.
    """
    found = looked(arguments, [arguments.account])
    (account,) = found.accounts
    archived = found.ledger.archived(account.name)
    with found.sessions.logged_in(account) as session:
        lines = list(messages(session, archived))
    if arguments.json:
        show_json(lines)
    else:
        show_table(COLUMNS, map(_row, lines))
    return Exit.OK


def _row(line: Line) -> tuple[str, ...]:
    return (
        str(line.number),
        "" if line.octets is None else str(line.octets),
        "yes" if line.archived else "no",
        line.date,
        line.sender,
        line.subject,
        line.unique_id or "",
    )
