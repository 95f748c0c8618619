"""
How a verb shows what it found: tables and facts for people, JSON for programs.

Rules of this file:

- Data goes to stdout. On a terminal a table is drawn by rich, imported only then;
  otherwise columns are padded with blanks, so that awk and people can read them.
- What a server sent is cleaned before it is shown (P4): a table is no way to a terminal.
  Only `paint` writes an escape, and only of its own.
- Colours are for terminals, and not for who sets NO_COLOR (no-color.org).
- What may be long is shown row by row, in columns whose widths are fixed beforehand.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import textwrap
import time
import unicodedata

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

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
    # Bold is no colour to rich: it would stay for who sets NO_COLOR.
    Console(color_system="auto" if _colours() else None).print(table)


def _pad(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())


# -- row by row -----------------------------------------------------------------------


BETWEEN = "  "
"""What stands between two columns."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """
    A column of *width* cells; what is longer is *cut*, or pushes the next ones aside.
    """

    name: str
    width: int
    right: bool = False
    """Numbers stand at the right."""
    cut: bool = False


def show_rows(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """
    Print *rows* under *columns*, cleaned, each as soon as it comes.
    """
    heads = [column.name.upper() for column in columns]
    print(paint(laid_out(columns, heads), Style.HEAD))
    for row in rows:
        print(laid_out(columns, row))


def laid_out(columns: Sequence[Column], row: Sequence[str]) -> str:
    """
    Return *row* as one line under *columns*, cleaned.
    """
    *before, last = zip(columns, row, strict=True)
    laid = [_cell(column, _narrow(text)) for column, text in before]
    return BETWEEN.join([*laid, _cell(last[0], shorten(clean(last[1])))]).rstrip()


def _cell(column: Column, text: str) -> str:
    if column.cut:
        text = fit(text, column.width)
    blanks = " " * (column.width - cells(text))
    return blanks + text if column.right else text + blanks


def fit(text: str, width: int) -> str:
    """
    Return *text*, which is clean, cut to *width* cells of a terminal.
    """
    if cells(text) > width or len(text) > width * MOST_MARKS:
        return cut(text, width - 1) + "…"
    return text


MOST_MARKS = 4
"""Characters for each cell: real text stacks a mark or two on a letter, Zalgo a pile."""


def cut(text: str, width: int) -> str:
    """
    Return the beginning of *text*, which is clean, as far as it fits *width* cells.
    """
    used = 0
    for at, character in enumerate(text):
        used += _width(character)
        if used > width or at >= width * MOST_MARKS:
            return text[:at]
    return text


def cells(text: str) -> int:
    """
    Return how many cells *text*, which is clean, takes on a terminal.
    """
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0  # stands on the one before it, or is not seen
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


# -- one thing, fact by fact ----------------------------------------------------------

FACT = 16
"""Cells for the name of a fact, with the two before it."""


class Style(StrEnum):
    """
    Escapes for a terminal (ECMA-48 SGR), by what they are for.
    """

    HEAD = "1"
    GOOD = "32"
    ODD = "33"
    BAD = "31"


def paint(text: str, style: Style) -> str:
    """
    Return *text*, cleaned, in a colour where colours are wanted.
    """
    text = clean(text)
    return f"\x1b[{style}m{text}\x1b[0m" if _colours() else text


def _colours() -> bool:
    environ = os.environ
    plain = environ.get("NO_COLOR") or environ.get("TERM") in {None, "", "dumb"}
    return sys.stdout.isatty() and not plain


class Fact(NamedTuple):
    """
    A name and a text; the name is ours, the text may be a server's.
    """

    name: str
    text: str
    style: Style | None = None


def show_facts(facts: Iterable[Fact]) -> None:
    """
    Print *facts* under each other, cleaned; on a terminal long texts are wrapped.
    """
    for name, text, style in facts:
        for number, line in enumerate(_wrapped(text)):
            shown = paint(line, style) if style else line
            print(f"  {'' if number else name:<{FACT - 2}}{shown}".rstrip())


def _wrapped(text: str) -> list[str]:
    line = shorten(clean(text))
    if not sys.stdout.isatty():
        return [line]
    width = max(LEAST, columns() - FACT)
    return textwrap.wrap(line, width, break_on_hyphens=False) or [""]


LEAST = 20
"""Cells that a text has for itself, however narrow the terminal is."""


def columns() -> int:
    """
    Return how many cells a line of the terminal has.
    """
    import shutil  # noqa: PLC0415 -- it loads all that compresses

    return shutil.get_terminal_size().columns


# -- for programs ---------------------------------------------------------------------


def show_json(data: object) -> None:
    """
    Print *data*: dataclasses, containers and plain values, all ASCII.
    """
    print(_json(data))


def stream_json(items: Iterable[object]) -> None:
    """
    Print *items* as a list, each as soon as it comes.
    """
    print("[", end="")
    between = ""
    for item in items:
        print(f"{between}\n{textwrap.indent(_json(item), '  ')}", end="")
        between = ","
    print("\n]" if between else "]")


def _json(data: object) -> str:
    return json.dumps(data, default=_plain, indent=2)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_plain(value)
    return str(value)


def as_plain(value: object) -> dict[str, object]:
    """
    Return the fields of a dataclass's instance by their names.
    """
    names = (field.name for field in dataclasses.fields(value))  # type: ignore[arg-type]
    return {name: getattr(value, name) for name in names}


# -- quantities -----------------------------------------------------------------------


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
