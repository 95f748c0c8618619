"""
`popfetchd config check | show | schema`.
"""

from __future__ import annotations

import json
import os

from argparse import Namespace

from popfetchd.cli.exits import Exit
from popfetchd.cli.opened import loaded
from popfetchd.cli.tables import show_json
from popfetchd.config import find, first, show
from popfetchd.config.load import Loaded


def run(arguments: Namespace) -> int:
    """
    Tell every mistake; or show what is effective, without secrets; or the schema.
    """
    if arguments.part == "schema":
        show_json(json.loads(first.SCHEMA.read_text("utf-8")))
        return Exit.OK
    result = loaded(arguments)
    if arguments.part == "show":
        print(show.shown(result.configuration), end="")
    else:
        path = find.find(arguments.config, os.environ)
        print(
            f"{path}: accounts: {len(result.configuration.accounts)}, {_found(result)}"
        )
    return Exit.CONFIGURATION if result.held_back else Exit.OK


def _found(result: Loaded) -> str:
    return "and more in files with mistakes" if result.held_back else "no mistakes"
