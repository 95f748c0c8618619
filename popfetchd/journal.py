"""
How a line tells journald how grave it is (sd-daemon(3)).

Rules of this file:

- Only a stream that goes to journald itself is marked: what a parent's stream was says
  nothing about a file or a pipe.
- Each line of a text is marked: journald takes each for a message of its own.
"""

from __future__ import annotations

import os

from collections.abc import Mapping
from typing import TextIO


PRIORITY = {
    "debug": "<7>",
    "info": "<6>",
    "warning": "<4>",
    "error": "<3>",
    "critical": "<2>",
}
"""By level, what stands at the head of a line; the numbers are syslog(3)'s."""


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """
    Tell whether *stream* itself, not only our parent's, goes to journald.
    """
    try:
        seen = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{seen.st_dev}:{seen.st_ino}"


def marked(text: str, level: str) -> str:
    """
    Return *text* with the priority of *level* before each of its lines.
    """
    priority = PRIORITY.get(level, PRIORITY["info"])
    return "\n".join(priority + line for line in text.split("\n"))
