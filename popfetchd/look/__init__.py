"""
Looking at a maildrop: what `check`, `list`, `browse` and `fetch --dry-run` do.

Rules of this package:

- It archives nothing, and writes nothing to the ledger.
- It reads headers with TOP, so that nothing is marked as read.
- What a server sent leaves here as plain values; making it safe to show is the
  business of whoever shows it.
"""

from popfetchd.look.browsing import Browsing, Opened, Shown
from popfetchd.look.checking import Checked, Connected, check
from popfetchd.look.headers import Summary, summary
from popfetchd.look.listing import Line, Preview, lines, preview
from popfetchd.look.quirks import Quirk


__all__ = [
    "Browsing",
    "Checked",
    "Connected",
    "Line",
    "Opened",
    "Preview",
    "Quirk",
    "Shown",
    "Summary",
    "check",
    "lines",
    "preview",
    "summary",
]
