"""
popfetchd fetches mail from POP3 accounts on a schedule and archives it.
"""

from __future__ import annotations


__version__ = "0.1.0"
