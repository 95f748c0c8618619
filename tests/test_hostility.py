"""
What docs/hostility.md claims is there: each test, each dialogue, each limit.
"""

from __future__ import annotations

import re

import pytest

from tests.test_rfc import CODE, ROOT, is_a_test, is_there, names, quoted


PAGE = (ROOT / "docs" / "hostility.md").read_text("utf-8")
CASES, MORE, LIMITS = re.split(r"^## .+$", PAGE, flags=re.MULTILINE)[1:]

NAMED_AS_LIMIT = re.compile(r"(?:LONGEST|LARGEST|MOST|LEAST)_[A-Z_]+|[A-Z]+_OCTETS")


def rows(part: str) -> list[list[str]]:
    """
    Return the cells of each line of a table, but for its head.
    """
    lines = re.findall(r"^\| (.+) \|$", part, re.MULTILINE)[1:]
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def test_each_case_has_its_row() -> None:
    """T1 to T27, in order, each once."""
    table = re.findall(r"^\| (T\d+) \|", CASES, re.MULTILINE)
    assert [f"T{number}" for number in range(1, 28)] == table


@pytest.mark.parametrize("part", [CASES, MORE], ids=["cases", "more"])
def test_each_row_is_shown_by_a_test(part: str) -> None:
    """Each row tells an outcome, and names tests and dialogues that exist."""
    for row in rows(part):
        *_, case, outcome, shown = row
        assert case
        assert outcome
        assert quoted(shown), case
        assert [] == [name for name in quoted(shown) if not is_a_test(name)], case


def test_each_limit_is_there() -> None:
    """Each constant that the table of limits names is defined where it says."""
    named = [name for row in rows(LIMITS) for name in quoted(row[-1])]
    assert [] == [name for name in named if not is_there(CODE, name)]


def test_no_limit_of_the_client_is_left_out() -> None:
    """Whatever the POP3 client calls a limit is in the table."""
    told = {name for row in rows(LIMITS) for name in quoted(row[-1])}
    defined = {
        f"{path.relative_to(CODE)}::{name}"
        for path in CODE.glob("pop3/**/*.py")
        for name in names(path)
        if NAMED_AS_LIMIT.fullmatch(name) and name != "NONCE_OCTETS"
    }
    assert set() == defined - told
