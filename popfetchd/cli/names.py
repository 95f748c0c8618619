"""
`popfetchd config names`: the accounts' names, for shells and scripts.

Rules of this file:

- A shell asks at each press of Tab, so that it imports little and judges nothing.
"""

from __future__ import annotations

import os

from argparse import Namespace

from popfetchd.cli.exits import Exit
from popfetchd.config import files, find


def run(arguments: Namespace) -> int:
    """
    Print each name on a line of its own.
    """
    for name in files.names(find.find(arguments.config, os.environ)):
        print(name)
    return Exit.OK
