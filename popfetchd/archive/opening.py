"""
Which archive serves a destination.
"""

from __future__ import annotations

import time

from collections.abc import Callable
from functools import partial

from popfetchd.archive.dated import Dated, is_dated
from popfetchd.archive.disk import Disk, RealDisk
from popfetchd.archive.interface import Archive
from popfetchd.archive.maildir import Maildir
from popfetchd.archive.mbox import Mbox
from popfetchd.values import (
    PRIVATE,
    ArchiveFormat,
    Destination,
    LedgerId,
    Permissions,
)


def archive_at(
    destination: Destination,
    ledger: LedgerId,
    *,
    host: str,
    now: Callable[[], float],
    disk: Disk | None = None,
    pause: Callable[[float], None] = time.sleep,
    permissions: Permissions = PRIVATE,
) -> Archive:
    """
    Return the archive at *destination*, not open yet.

    *ledger* names the ledger whose numbers it bears, *host* this machine; *now* gives
    seconds since 1970, *pause* waits so many for other programs' locks. *permissions* are
    given to what is made.
    """
    disk = disk or RealDisk()
    path, spool = destination.path, destination.spool
    if is_dated(path):
        make = partial(
            archive_at,
            ledger=ledger,
            host=host,
            now=now,
            disk=disk,
            pause=pause,
            permissions=permissions,
        )
        return Dated(
            destination,
            ledger,
            make,
            host=host,
            now=now,
            disk=disk,
            permissions=permissions,
        )
    if destination.format is ArchiveFormat.MAILDIR:
        return Maildir(
            path,
            ledger,
            host=host,
            now=now,
            disk=disk,
            spool=spool,
            permissions=permissions,
        )
    return Mbox(
        path,
        ledger,
        host=host,
        now=now,
        disk=disk,
        spool=spool,
        pause=pause,
        permissions=permissions,
    )
