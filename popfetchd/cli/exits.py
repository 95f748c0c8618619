"""
How a failure is told, and how the process ends: sysexits(3), by the reason.

Rules of this file:

- Each reason has one code; each code is in docs and stays.
- The string below a code says what it means; popfetchd(8) is made from it.
- Of several failures the one that most needs a person decides (`WORST_FIRST`).
"""

from __future__ import annotations

import os
import sys

from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING

from popfetchd import journal
from popfetchd.errors import ConfigurationError, PopfetchdError, Reason


if TYPE_CHECKING:  # `healthcheck` would pay as much for it as for all the rest
    from popfetchd.values import PollReport


class Exit(IntEnum):
    """
    The exit codes of popfetchd.
    """

    OK = 0
    """all well"""
    USAGE = 64
    """wrong usage"""
    DAMAGED = 65
    """copies in an archive are missing, altered or truncated"""
    UNAVAILABLE = 69
    """the network, or the server"""
    INTERNAL = 70
    """a fault of popfetchd"""
    CANNOT_CREATE = 73
    """the archive or the ledger"""
    TRY_AGAIN = 75
    """come back later"""
    NO_PERMISSION = 77
    """the credentials, or where they are read"""
    CONFIGURATION = 78
    """the configuration cannot work"""
    INTERRUPTED = 130
    """it was told to stop"""


OF_REASON = {
    Reason.DNS: Exit.UNAVAILABLE,
    Reason.CONNECT: Exit.UNAVAILABLE,
    Reason.TIMEOUT: Exit.UNAVAILABLE,
    Reason.TLS: Exit.UNAVAILABLE,
    Reason.CERTIFICATE: Exit.UNAVAILABLE,
    Reason.DISCONNECTED: Exit.UNAVAILABLE,
    Reason.PROTOCOL: Exit.UNAVAILABLE,
    Reason.LIMIT: Exit.UNAVAILABLE,
    Reason.SYS_PERM: Exit.UNAVAILABLE,
    Reason.INTERNAL: Exit.INTERNAL,
    Reason.ARCHIVE: Exit.CANNOT_CREATE,
    Reason.DISK_FULL: Exit.CANNOT_CREATE,
    Reason.LEDGER: Exit.CANNOT_CREATE,
    Reason.IN_USE: Exit.TRY_AGAIN,
    Reason.LOGIN_DELAY: Exit.TRY_AGAIN,
    Reason.SYS_TEMP: Exit.TRY_AGAIN,
    Reason.AUTH: Exit.NO_PERMISSION,
    Reason.SECRET: Exit.NO_PERMISSION,
    Reason.CONFIGURATION: Exit.CONFIGURATION,
    Reason.INTERRUPTED: Exit.INTERRUPTED,
}

WORST_FIRST = (
    Exit.INTERRUPTED,
    Exit.INTERNAL,
    Exit.CONFIGURATION,
    Exit.CANNOT_CREATE,
    Exit.DAMAGED,
    Exit.NO_PERMISSION,
    Exit.UNAVAILABLE,
    Exit.TRY_AGAIN,
    Exit.OK,
)


def tell(error: PopfetchdError, account: str = "") -> None:
    """
    Print *error*, of *account* if there is one, and its hint on stderr.
    """
    who = f"{account}: {error.reason}: " if account else "popfetchd: "
    if isinstance(error, ConfigurationError) and not account:
        who = ""  # each line begins with the file, so that an editor finds the place
    text = f"{who}{error}\n  hint: {error.hint}"
    if journal.is_journal(sys.stderr, os.environ):
        text = journal.marked(text, "error")
    print(text, file=sys.stderr)


def of_report(report: PollReport) -> Exit:
    """
    Return the code for one visit. A message that failed alone is the server's doing.
    """
    if report.failure is not None:
        return OF_REASON[report.failure.reason]
    return Exit.UNAVAILABLE if report.failed_messages else Exit.OK


def of_all(exits: Iterable[Exit]) -> Exit:
    """
    Return the code for several visits.
    """
    return min(exits, key=WORST_FIRST.index, default=Exit.OK)
