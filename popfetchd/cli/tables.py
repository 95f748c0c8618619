"""
How a verb shows what it found: a table for people, JSON for programs.

Rules of this file:

- Data goes to stdout. On a terminal a table is drawn by rich, imported only then;
  otherwise columns are padded with blanks, so that awk and people can read them.
- What a server sent is cleaned before it is shown (P4): a table is no way to a terminal.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time

from collections.abc import Iterable, Sequence

from popfetchd.logs import clean, shorten


WIDEST = 100
"""Characters of a cell that has others behind it: one subject must not push all else
out of sight. `--json` has the whole."""


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """
    Print *rows* under *columns*, cleaned.
    """
    cleaned = [[*map(_narrow, row[:-1]), shorten(clean(row[-1]))] for row in rows]
    if sys.stdout.isatty():
        _draw(columns, cleaned)
    else:
        _pad([[column.upper() for column in columns], *cleaned])


def _narrow(cell: str) -> str:
    cleaned = clean(cell)
    return cleaned if len(cleaned) <= WIDEST else cleaned[: WIDEST - 1] + "…"


def _draw(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 -- 90 ms that only a person pays
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # Text: no cell is markup
    Console().print(table)


def _pad(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())


def show_json(data: object) -> None:
    """
    Print *data*: dataclasses, containers and plain values, all ASCII.
    """
    print(json.dumps(data, default=_plain, indent=2))


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: getattr(value, field.name)
            for field in dataclasses.fields(value)
        }
    return str(value)


def moment(seconds: float, none: str = "never") -> str:
    """
    Return a time since 1970 as local date and time; *none* for 0.
    """
    if not seconds:
        return none
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def octets(count: float) -> str:
    """
    Return a number of octets as people read it, in powers of ten.
    """
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"
