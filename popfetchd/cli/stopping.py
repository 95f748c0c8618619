"""
How a verb that takes long is stopped by who typed it.
"""

from __future__ import annotations

import os
import signal
import threading

from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


ENDING = b"popfetchd: ending, with what there is; once more ends it at once\n"


@contextmanager
def interrupted() -> Iterator[threading.Event]:
    """
    Give an event that Ctrl-C, or SIGTERM, sets; a second one ends the process at once.
    """
    stop = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)  # at once: safe at any instant (P1)
        stop.set()
        os.write(2, ENDING)  # what print may not do here

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
