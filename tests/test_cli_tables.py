"""
How tables, times and sizes look.
"""

from __future__ import annotations

import json

from dataclasses import dataclass
from pathlib import Path

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.cli.tables import (
    MOST_MARKS,
    WIDEST,
    Column,
    Fact,
    Style,
    cells,
    fit,
    moment,
    octets,
    show_facts,
    show_json,
    show_rows,
    show_table,
    stream_json,
)
from popfetchd.logs import clean


def test_columns_are_padded_with_blanks(capsys):
    """
    Where nobody looks, columns stand under each other and no line ends in blanks.
    """
    show_table(("account", "state"), [("a", "ok"), ("long-name", ""), ("c", "failing")])
    assert capsys.readouterr().out == (
        "ACCOUNT    STATE\na          ok\nlong-name\nc          failing\n"
    )


def test_no_rows_are_a_head_alone(capsys):
    """
    An empty table is no failure.
    """
    show_table(("a", "b"), [])
    assert "A  B\n" == capsys.readouterr().out


def test_what_a_server_sent_is_cleaned(capsys):
    """
    No cell moves the cursor, breaks the line or turns the text round.
    """
    show_table(("a", "b"), [("\x1b[2J", "x\r\ny\u202e"), ("\x9b", "\ud800")])
    assert capsys.readouterr().out == (
        "A        B\n\\x1b[2J  x\\x0d\\x0ay\\u202e\n\\x9b     \\ud800\n"
    )


def test_a_wide_cell_does_not_push_the_others_out_of_sight(capsys):
    """
    A cell that has others behind it is cut; the last one is only bounded.
    """
    show_table(("a", "b"), [("x" * 1000, "y" * 1000), ("\x1b" * 1000, "z" * 9999)])
    _, first, second = capsys.readouterr().out.splitlines()
    assert f"{'x' * (WIDEST - 1)}…  {'y' * 1000}" == first
    assert len(second) < 2200


COLUMNS = (
    Column("n", 3, right=True),
    Column("cut", 5, cut=True),
    Column("pushed", 4),
    Column("last", 0),
)


def test_rows_are_shown_in_columns_of_a_fixed_width(capsys):
    """
    Numbers at the right; what is too long is cut or pushes; wide characters count twice.
    """
    show_rows(COLUMNS, [("1", "abcdef", "ab", "x"), ("22", "日本語", "abcdef", "")])
    assert capsys.readouterr().out == (
        "  N  CUT    PUSH…  LAST\n".replace("PUSH…", "PUSHED")
        + "  1  abcd…  ab    x\n 22  日本…  abcdef\n"
    )


def test_a_row_is_shown_as_soon_as_it_comes(capsys):
    """
    Nothing waits for the rows behind it.
    """

    def rows():
        yield ("1", "a", "b", "c")
        assert "  1  a      b     c\n" in capsys.readouterr().out

    show_rows(COLUMNS, rows())


def test_rows_are_cleaned_and_bounded(capsys):
    """
    No cell moves the cursor; none that pushes does so for ever.
    """
    show_rows(COLUMNS, [("\x1b", "\r", "y" * 999, "z" * 9999)])
    shown = capsys.readouterr().out.splitlines()[1]
    assert shown.startswith(rf"\x1b  \x0d   {'y' * (WIDEST - 1)}…  zzz")
    assert len(shown) < 2300


@pytest.mark.parametrize(
    ("text", "wide"),
    [("", 0), ("abc", 3), ("日本", 4), ("e\u0301", 1), ("\u200bx", 1), ("ｱ", 1)],
)
def test_cells_of_a_terminal(text, wide):
    """
    Two for what is wide, none for what stands on another or is not seen.
    """
    assert wide == cells(text)


@given(st.text(max_size=60), st.integers(1, 12))
def test_what_is_fitted_fits(text, width):
    """
    Invariant: at most *width* cells, and no pile of marks however high.
    """
    shown = fit(clean(text), width)
    assert cells(shown) <= width
    assert len(shown) <= width * MOST_MARKS


def test_facts_stand_under_each_other_cleaned(capsys):
    """
    No text of a server's passes for a colour of ours.
    """
    show_facts([Fact("a", "\x1b[31mred\x1b[0m", Style.BAD), Fact("", "two\nlines")])
    assert capsys.readouterr().out == (
        "  a             \\x1b[31mred\\x1b[0m\n                two\\x0alines\n"
    )


def test_a_stream_of_json_is_json(capsys):
    """
    None, one, or several items.
    """
    for items in ([], [{"a": 1}], [[1, {"b": "\x1b"}], "x", Thing("a", Path("/srv"))]):
        stream_json(items)
        out = capsys.readouterr().out
        assert out.isascii()
        show_json(items)
        assert json.loads(capsys.readouterr().out) == json.loads(out)


@dataclass(frozen=True, slots=True)
class Thing:
    name: str
    path: Path


def test_json_is_ascii_and_holds_whatever_a_verb_shows(capsys):
    """
    Dataclasses become objects, what JSON does not know becomes text.
    """
    show_json([Thing("\u202e\x1b", Path("/srv"))])
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert [{"name": "\u202e\x1b", "path": "/srv"}] == json.loads(out)


def test_a_class_itself_is_text(capsys):
    """
    Only instances have fields to show.
    """
    show_json(Thing)
    assert "test_cli_tables.Thing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (20_000_000, "20.0 MB"),
        (3_500_000_000, "3.5 GB"),
        (2_000_000_000_000, "2.0 TB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_octets_as_people_read_them(count, shown):
    """
    Powers of ten, one decimal, never "1000.0 kB".
    """
    assert shown == octets(count)


def test_a_moment_is_local_time_or_never(monkeypatch):
    """
    0 means that it did not happen, in words of the column's choice.
    """
    assert "never" == moment(0.0)
    assert "not planned" == moment(0.0, "not planned")
    assert len("2023-11-14 22:13:20") == len(moment(1_700_000_000.0))
