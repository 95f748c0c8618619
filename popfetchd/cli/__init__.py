"""
The command line: `main` finds the verb's file, runs it, and tells what failed.

Rules of this package:

- One file a verb (`fetch.py`), with one function `run(arguments) -> int`. It is thin.
- A verb's file is imported when it is typed, so that `--version` and `healthcheck`
  pay for nothing else.
- What a verb raises is told once, here: one line, a hint, and the exit code.
"""

from __future__ import annotations

import sys

from collections.abc import Sequence
from importlib import import_module

from popfetchd.cli.exits import OF_REASON, Exit
from popfetchd.cli.parser import build_parser
from popfetchd.errors import ConfigurationError, PopfetchdError


__all__ = ["build_parser", "main"]

MODULES = {"list": "listing"}
"""Verbs whose file is not named like them."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command line *argv* (default: the process's) and return the exit code.
    """
    arguments = build_parser().parse_args(argv)
    module = MODULES.get(arguments.verb, arguments.verb)
    try:
        verb = import_module(f"popfetchd.cli.{module}")
        return int(verb.run(arguments))
    except PopfetchdError as error:
        tell(error)
        return OF_REASON[error.reason]
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; so do we, quietly
        return Exit.OK


def tell(error: PopfetchdError) -> None:
    """
    Print *error* and its hint on stderr.
    """
    prefix = "" if isinstance(error, ConfigurationError) else "popfetchd: "
    print(f"{prefix}{error}", file=sys.stderr)
    print(f"  hint: {error.hint}", file=sys.stderr)
