"""
What the operator may type: every verb and its options, in one place.

Rules of this file:

- It imports nothing heavy: `popfetchd --version` and completions need only this.
- A verb that does not work yet is absent.
- Data goes to stdout, everything else to stderr; `--json` wherever there is a table.
"""

from __future__ import annotations

import argparse
import os

from pathlib import Path
from typing import Any, NoReturn

from popfetchd import __version__


USAGE = 64
"""EX_USAGE of sysexits(3); argparse itself would exit with 2."""


USUAL_WIDTH = 80
"""Cells of a terminal that does not tell."""

LONGEST_PAUSE = 3600
"""Seconds between two drawings; who waits longer asks again."""


class Help(argparse.HelpFormatter):
    """
    Help as wide as the terminal.

    argparse makes one for each option, and asks shutil, which loads all that compresses.
    """

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        try:
            width = (
                int(columns) if columns.isdigit() else os.get_terminal_size().columns
            )
        except OSError:  # no terminal
            width = 0
        super().__init__(prog, width=(width or USUAL_WIDTH) - 2)


class Parser(argparse.ArgumentParser):
    """
    An argument parser that exits as sysexits(3) says.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 -- argparse's own
        super().__init__(formatter_class=Help, **options)

    def error(self, message: str) -> NoReturn:
        """
        Print usage and *message* on stderr; exit 64.
        """
        self.print_usage()
        self.exit(USAGE, f"{self.prog}: {message}\n")

    def print_usage(self, file: object = None) -> None:
        """
        Print the usage line; on stderr unless told otherwise.
        """
        self._print_message(self.format_usage(), file)  # type: ignore[arg-type]


def build_parser() -> argparse.ArgumentParser:
    """
    Return the parser of the whole command line.
    """
    parser = Parser(
        prog="popfetchd",
        description="Fetch mail from POP3 accounts on a schedule and archive it.",
        epilog="Exit codes are those of sysexits(3); see docs/operations.md.",
    )
    parser.add_argument(
        "--version", action="version", version=f"popfetchd {__version__}"
    )
    verbs = parser.add_subparsers(
        dest="verb", metavar="VERB", required=True, parser_class=Parser
    )
    _service(verbs)
    _visits(verbs)
    _looks(verbs)
    _archives(verbs)
    _configuration(verbs)
    _first(verbs)
    return parser


Verbs = argparse._SubParsersAction  # noqa: SLF001 -- argparse gives it no public name


def _verb(verbs: Verbs[Parser], name: str, help_: str) -> Parser:
    verb = verbs.add_parser(name, help=help_, description=f"{help_}.")
    verb.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="the configuration (default: $POPFETCHD_CONFIG, "
        "/etc/popfetchd/popfetchd.yaml, then ~/.config/popfetchd/popfetchd.yaml)",
    )
    return verb


def _service(verbs: Verbs[Parser]) -> None:
    _verb(verbs, "run", "Run the service: visit every account on its schedule")
    health = _verb(verbs, "healthcheck", "Ask the running service whether it is well")
    health.add_argument("--url", help="where it listens, if not where the file says")
    demo = verbs.add_parser(
        "demo",
        help="Run the service on a maildrop of its own",
        description="Run the service on a maildrop of its own, on loopback, "
        "with new messages arriving.",
    )
    demo.add_argument(
        "--seconds", type=float, metavar="N", help="end by itself after N seconds"
    )
    demo.add_argument(
        "--listen",
        default="127.0.0.1:0",
        metavar="ADDRESS",
        help="where the page and the metrics are served (default: a free port of loopback)",
    )
    demo.add_argument(
        "--directory", type=Path, metavar="DIR", help="keep everything there"
    )


def _visits(verbs: Verbs[Parser]) -> None:
    fetch = _verb(verbs, "fetch", "Visit accounts once, now")
    _accounts(fetch)
    fetch.add_argument(
        "-n", "--dry-run", action="store_true", help="only tell what a visit would do"
    )
    _json(fetch)
    retry = _verb(verbs, "retry", "Try quarantined messages again at the next visit")
    retry.add_argument("account", metavar="ACCOUNT")
    retry.add_argument(
        "unique_id",
        nargs="?",
        metavar="UNIQUE-ID",
        help="only this message, as status shows it (default: all)",
    )
    _json(retry)
    status = _verb(verbs, "status", "Show every account: last visit, next, failures")
    _accounts(status)
    status.add_argument(
        "--failing", action="store_true", help="only accounts that fail"
    )
    status.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=2.0,
        metavar="SECONDS",
        help="draw it anew every SECONDS (default: 2) until Ctrl-C; needs a terminal",
    )
    _json(status)


def _looks(verbs: Verbs[Parser]) -> None:
    check = _verb(
        verbs,
        "check",
        "Connect, log in, and tell all that the server shows; change nothing",
    )
    _accounts(check)
    _json(check)
    list_ = _verb(verbs, "list", "Show the messages of a maildrop; marks none as read")
    list_.add_argument("account", metavar="ACCOUNT")
    _json(list_)
    browse = _verb(
        verbs,
        "browse",
        "Go through a maildrop message by message: read, archive, delete",
    )
    browse.add_argument("account", metavar="ACCOUNT")
    browse.add_argument(
        "--oldest", action="store_true", help="begin with the oldest message"
    )


def _archives(verbs: Verbs[Parser]) -> None:
    verify = _verb(verbs, "verify", "Read archives against the ledger: is all there")
    _accounts(verify)
    verify.add_argument(
        "--repair",
        action="store_true",
        help="fetch again what is missing or altered, as far as the server has it",
    )
    _json(verify)
    rebuild = _verb(verbs, "rebuild", "Make the ledger again from the archives")
    _accounts(rebuild)
    _json(rebuild)
    backup = _verb(verbs, "backup", "Copy the ledger, also while the service runs")
    backup.add_argument("file", type=Path, metavar="FILE")
    backup.add_argument("--force", action="store_true", help="overwrite FILE")


def _configuration(verbs: Verbs[Parser]) -> None:
    config = verbs.add_parser(
        "config",
        help="Check or show the configuration",
        description="Check or show the configuration.",
    )
    parts = config.add_subparsers(
        dest="part", metavar="PART", required=True, parser_class=Parser
    )
    _verb(parts, "check", "Tell every mistake, with its place")
    _verb(parts, "show", "Show the effective configuration, without secrets")
    _verb(parts, "names", "Print the accounts' names, also where there are mistakes")
    parts.add_parser(
        "schema",
        help="Print the JSON schema",
        description="Print the JSON schema of the configuration, for editors.",
    )


def _first(verbs: Verbs[Parser]) -> None:
    init = verbs.add_parser(
        "init",
        help="Write a first configuration and test its login",
        description="Write a first configuration, of one account, and test its login. "
        "What no option says is asked, if this is a terminal.",
    )
    for flags, metavar, help_ in (
        (("-c", "--config"), "FILE", "the file to write (default: popfetchd.yaml)"),
        (("--password-file",), "FILE", "a file with the password, to be read there"),
        (("--archive",), "PATH", "where messages are kept: a folder, an mbox a file"),
    ):
        init.add_argument(*flags, type=Path, metavar=metavar, help=help_)
    for flag, metavar, help_ in (
        ("--user", "ADDRESS", "the mail address, or whoever logs in"),
        ("--host", "HOST", "the server; HOST:PORT for a port of its own"),
        ("--provider", "NAME", "a mail provider that is known, such as gmail"),
        ("--tls", "MODE", "implicit, stls or none (default: implicit)"),
        ("--format", "FORMAT", "maildir or mbox (default: maildir)"),
        ("--name", "NAME", "what the account is called (default: from the address)"),
    ):
        init.add_argument(flag, metavar=metavar, help=help_)
    init.add_argument("--no-check", action="store_true", help="do not test the login")


def _accounts(verb: Parser) -> None:
    verb.add_argument(
        "accounts", nargs="*", metavar="ACCOUNT", help="only these (default: all)"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_PAUSE:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds up to {LONGEST_PAUSE}: write --watch=2"
        )
    return seconds


def _json(verb: Parser) -> None:
    verb.add_argument("--json", action="store_true", help="print JSON")
