"""
`popfetchd status --watch`: how accounts are, drawn again and again until Ctrl-C.

Rules of this file:

- It draws on the terminal's other screen, and whatever ends it leaves that: what stood
  before comes back.
- What needs a person comes first. What does not fit the terminal is counted, not
  scrolled: each line is cut to the width.
- Every text goes through `laid_out`, `fit` or `paint`, and so is clean (P4).
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from popfetchd.cli.standing import Seen
from popfetchd.cli.tables import Column, Style, fit, laid_out, paint
from popfetchd.logs import clean
from popfetchd.metrics import Condition
from popfetchd.report import standing
from popfetchd.values import AccountName, AccountState
from popfetchd.web.listing import calm
from popfetchd.web.page import ago, until


ENTER = "\x1b[?1049h\x1b[?25l"
"""The other screen, without a cursor (xterm)."""

LEAVE = "\x1b[?25h\x1b[?1049l"

HOME, END_OF_LINE, END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
"""Drawn over, not wiped first, so that nothing flickers (ECMA-48 CUP, EL, ED)."""

COLUMNS = (
    Column("account", 16, cut=True),
    Column("state", 12),
    Column("last visit", 11),
    Column("next visit", 11),
    Column("archived", 8, right=True),
    Column("waiting", 7, right=True),
)

Item = tuple[AccountName, AccountState]


def can_be_drawn() -> bool:
    """
    Tell whether there is a terminal that can draw over what it shows.
    """
    return sys.stdout.isatty() and os.environ.get("TERM") not in {None, "", "dumb"}


def watch(look: Callable[[], Seen], pause: Callable[[], None]) -> NoReturn:
    """
    Draw what *look* gives, *pause*, and so on, until KeyboardInterrupt.

    Raises what *look* raises.
    """
    with _other_screen():
        while True:
            size = shutil.get_terminal_size()
            lines = frame(look(), time.time(), size.columns, size.lines)
            drawn = f"{END_OF_LINE}\r\n".join(lines)
            print(f"{HOME}{drawn}{END_OF_LINE}{END_OF_SCREEN}", end="", flush=True)
            pause()


@contextmanager
def _other_screen() -> Iterator[None]:
    # A parent may have had them ignored; a SIGTERM must leave the other screen as well.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        print(ENTER, end="", flush=True)
        yield
    finally:
        print(LEAVE, end="", flush=True)


def frame(now: Seen, at: float, width: int, height: int) -> list[str]:
    """
    Return what fits *height* lines of *width* cells; *at* is in seconds since 1970.
    """
    moment = time.strftime("%H:%M:%S", time.localtime(at))
    heads = [column.name.upper() for column in COLUMNS]
    top = [
        fit(clean(f"{moment}  {now.told}"), width),
        paint(fit(laid_out(COLUMNS, heads), width), Style.HEAD),
    ]
    return [*top, *_accounts(now, at, width, height - len(top))][:height]


def _accounts(now: Seen, at: float, width: int, room: int) -> list[str]:
    def needs(item: Item) -> tuple[int, str]:
        return calm(item[1], at), item[0]

    ordered = sorted(now.states.items(), key=needs)
    blocks = [[*_block(item, at, width)] for item in ordered[: max(room, 0)]]
    if len(ordered) == len(blocks) and sum(map(len, blocks)) <= room:
        return [line for block in blocks for line in block]
    taken, used = 0, 1  # the last line counts the others
    while taken < len(blocks) and used + len(blocks[taken]) <= room:
        used += len(blocks[taken])
        taken += 1
    shown = [line for block in blocks[:taken] for line in block]
    return [*shown, fit(f"… {len(ordered) - taken} more", width)]


def _block(item: Item, at: float, width: int) -> Iterator[str]:
    name, state = item
    condition = Condition.of(state)
    times = f" ({state.consecutive_failures})" if state.reason else ""
    row = (
        name,
        f"{condition}{times}",
        ago(state.last_poll, at),
        until(state.next_poll, at),
        str(state.archived),
        str(state.waiting),
    )
    line = fit(laid_out(COLUMNS, row), width)
    yield paint(line, Style.BAD) if state.reason else line
    for what, hint in standing(state, at):
        yield fit(f"  {clean(what)} (hint: {clean(hint)})", width)
