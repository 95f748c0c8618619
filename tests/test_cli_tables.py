"""
How tables, times and sizes look.
"""

from __future__ import annotations

import json

from dataclasses import dataclass
from pathlib import Path

import pytest

from popfetchd.cli.tables import WIDEST, moment, octets, show_json, show_table


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
