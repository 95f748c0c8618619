"""
`popfetchd backup FILE`: a copy of the ledger, whole and checked, while others write it.
"""

from __future__ import annotations

import os
import time

from argparse import Namespace
from pathlib import Path

from popfetchd.cli.exits import Exit
from popfetchd.cli.opened import loaded
from popfetchd.cli.tables import octets
from popfetchd.errors import LedgerError
from popfetchd.ledger import Ledger


def run(arguments: Namespace) -> int:
    """
    Write the copy; tell its size.
    """
    ledger = loaded(arguments).configuration.ledger
    target = Path(os.path.abspath(arguments.file))  # noqa: PTH100 -- follow no link
    if not ledger.exists():  # to open it would make one
        raise LedgerError(ledger, "there is no ledger yet")
    with Ledger(ledger, now=time.time) as opened:
        opened.backup(target, replace=arguments.force)
    print(f"{target}: {octets(target.stat().st_size)}")
    return Exit.OK
