"""
The archive: where messages are kept, and how a copy is proved.

It imports values and errors only, writes no log, and returns or raises. `Archive` is
what a visit sees; `Maildir` is one, on a `Disk` that a test may replace.
"""

from popfetchd.archive.disk import Disk, RealDisk
from popfetchd.archive.form import header_digest, restore
from popfetchd.archive.interface import Archive
from popfetchd.archive.maildir import Maildir
from popfetchd.archive.spool import SpoolFile


__all__ = [
    "Archive",
    "Disk",
    "Maildir",
    "RealDisk",
    "SpoolFile",
    "header_digest",
    "restore",
]
