"""
`popfetchd run`: the service.
"""

from __future__ import annotations

import os

from argparse import Namespace

from popfetchd.cli.exits import Exit
from popfetchd.config import find
from popfetchd.daemon import Service


def run(arguments: Namespace) -> int:
    """
    Serve until SIGTERM or SIGINT.
    """
    Service(find.find(arguments.config, os.environ), os.environ).run()
    return Exit.OK  # what was abandoned goes on at the next start: told, no failure
