"""
The command line: `main` finds the verb's file, runs it, and tells what failed.

Rules of this package:

- One file a verb (`fetch.py`), with one function `run(arguments) -> int`. It is thin.
- A verb's file is imported when it is typed, so that `--version` and `healthcheck`
  pay for nothing else.
- What a verb raises is told once, here: one line, a hint, and the exit code. Of a fault
  of ours there is a traceback too, as safe to read as the logs are.
"""

from __future__ import annotations

import io
import os
import sys

from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module

from popfetchd.cli.exits import OF_REASON, Exit, tell
from popfetchd.cli.parser import build_parser
from popfetchd.errors import PopfetchdError, Unexpected


__all__ = ["build_parser", "main"]

MODULES = {"list": "listing", "config names": "names"}
"""Verbs whose file is not named like them."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command line *argv* (default: the process's) and return the exit code.
    """
    _have_standard_streams()
    arguments = build_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A subject may hold what this terminal's character set does not.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _run(arguments)
    except PopfetchdError as error:
        tell(error)
        return OF_REASON[error.reason]
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        _write_no_more()
        return Exit.OK
    except Exception as error:  # noqa: BLE001 -- a fault of ours has its exit code too
        sys.excepthook(type(error), error, error.__traceback__)
        tell(Unexpected(type(error).__name__, arguments.verb))
        return Exit.INTERNAL


def _have_standard_streams() -> None:
    # A parent may have closed them (`2>&-`); the next file opened, a ledger or a message,
    # would then be what is written to as standard error.
    while (nowhere := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(nowhere)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _run(arguments: Namespace) -> int:
    words = [arguments.verb, *filter(None, [vars(arguments).get("part")])]
    module = MODULES.get(" ".join(words), arguments.verb)
    code = int(import_module(f"popfetchd.cli.{module}").run(arguments))
    sys.stdout.flush()  # here, where a broken pipe is caught
    return code


def _write_no_more() -> None:
    # Whoever read our output has gone; what is still in the buffer must not complain.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
