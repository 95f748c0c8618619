"""
`popfetchd fetch`: one visit to each account, now.

Rules of this file:

- For a visit that finds nothing, the start is most of what it costs. So the configuration
  is read apart while what visits need (`fetching`) is loaded here; that import stands
  behind the fork, where it is done at the same time.
"""

from __future__ import annotations

import os

from argparse import Namespace

from popfetchd.config import apart, find


def run(arguments: Namespace) -> int:
    """
    Visit, or with --dry-run only tell what a visit would do.
    """
    if arguments.dry_run:
        from popfetchd.cli import preview  # noqa: PLC0415 -- a visit needs none of it

        return preview.run(arguments)
    reading = apart.begin(find.find(arguments.config, os.environ), os.environ)
    from popfetchd.cli import fetching  # noqa: PLC0415 -- see above

    return fetching.run(arguments, reading)
