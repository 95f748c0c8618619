"""
`popfetchd fetch --dry-run`: what a visit would do, told by looking.
"""

from __future__ import annotations

import time

from argparse import Namespace

from popfetchd.cli import exits
from popfetchd.cli.exits import Exit
from popfetchd.cli.opened import looked
from popfetchd.cli.tables import show_json, show_table
from popfetchd.errors import PopfetchdError
from popfetchd.look import Preview, preview
from popfetchd.values import Account


def run(arguments: Namespace) -> int:
    """
    Look at each maildrop, and tell what is there to be archived and removed.
    """
    found = looked(arguments, arguments.accounts)
    rows, codes = [], [Exit.OK]
    for account in found.accounts:
        try:
            with found.sessions.logged_in(account) as session:
                known = found.ledger.known(account.name)
                failed = found.ledger.failures().get(account.name, {})
                seen = preview(session, account, known, failed, time.time())
        except PopfetchdError as error:  # the others are looked at all the same
            exits.tell(error, account.name)
            codes.append(exits.OF_REASON[error.reason])
        else:
            rows.append(_row(account, seen))
    if arguments.json:
        show_json([dict(zip(COLUMNS, row, strict=True)) for row in rows])
    else:
        show_table(COLUMNS, [tuple(map(str, row)) for row in rows])
    return exits.of_all(codes)


COLUMNS = ("account", "messages", "would_archive", "octets", "would_remove")


def _row(account: Account, seen: Preview) -> tuple[str | int, ...]:
    wanted = seen.selection.wanted.without(seen.selection.again)
    return (
        account.name,
        seen.drop.messages,
        len(wanted),
        sum(message.octets or 0 for message in wanted),
        len(seen.selection.removable),
    )
