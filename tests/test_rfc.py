"""
What docs/rfc.md claims is there: each test, each dialogue, each name in the code.

Rules of this file:

- It holds the page to the project; whether a test proves its row is for who reads both.
- The contents of each RFC stand here, so that no section is passed over in silence.
- A standard that the code cites, it cites by a section that has a row.
"""

from __future__ import annotations

import ast
import re

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
CODE, TESTS = ROOT / "popfetchd", ROOT / "tests"

STATUSES = {"done", "not done", "not ours"}
"""Not ours: it binds a client that does what popfetchd does not, or somebody else."""

CONTENTS = {
    "1939": "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 A B",
    "2195": "1 2 3 4 5 6",
    "2449": "1 2 3 4 5 6 6.1 6.2 6.3 6.4 6.5 6.6 6.7 6.8 6.9 7 8 8.1 8.1.1 8.1.2 "
    "9 10 11 12 13 14",
    "2595": "1 1.1 2 2.1 2.2 2.3 2.4 2.5 3 3.1 3.2 4 5 5.1 6 7 8 9 10 11 A",
    "3206": "1 2 3 4 5 6 7 8 9 10 11",
    "4616": "1 2 3 4 5 6 7 8 9 A",
    "5034": "1 2 3 4 5 6 7 8 9 10 11 12",
    "5802": "1 2 2.1 2.2 3 4 5 5.1 5.2 6 6.1 7 8 8.1 8.2 8.3 9 10 11 12 A B",
    "6856": "1 1.1 2 2.1 2.2 3 3.1 3.2 3.3 4 5 6 7 8 A B",
    "7628": "1 2 3 3.1 3.1.1 3.2 3.2.1 3.2.2 3.2.3 3.3 4 4.1 4.2 4.3 4.4 5 6 7 8",
    "7677": "1 2 3 4 5 6",
    "7817": "1 2 3 4 4.1 5 5.1 6 7 8 9 A",
    "8314": "1 1.1 2 3 3.1 3.2 3.3 3.4 4 4.1 4.2 4.3 4.4 4.5 4.6 5 5.1 5.2 5.3 5.4 5.5 "
    "6 7 8 9 A",
}
"""The sections of each RFC, from its own table of contents; of registries and references
only the first level."""

EXCERPTS = {"4013", "4422", "5321", "5322", "6125", "6186", "8305"}
"""RFCs that are read only where another one leads to them."""

CITED = re.compile(r"RFC (\d{4}),? (?:§|sections? )(\d+(?:\.\d+)*)")


@dataclass(frozen=True)
class Row:
    """
    A line of one of the page's tables.
    """

    section: str
    asks: str
    status: str
    why: str
    code: tuple[str, ...]
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"§{self.section} {self.asks}"


def chapters() -> dict[str, str]:
    """
    Return the text of each chapter, by the number of its RFC (else by its heading).
    """
    page = (ROOT / "docs" / "rfc.md").read_text("utf-8")
    parts = re.split(
        r"^## (?:RFC )?([\w ]+?)(?:(?<=\d{4}) .+)?$", page, flags=re.MULTILINE
    )
    return dict(zip(parts[1::2], parts[2::2], strict=True))


CHAPTERS = chapters()
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS)


def rows(chapter: str) -> list[Row]:
    """
    Return the lines of a chapter's table.
    """
    lines = re.findall(r"^\| (.+) \|$", CHAPTERS[chapter], re.MULTILINE)
    return [row(line) for line in lines if not line.startswith("§ ")]


def row(line: str) -> Row:
    section, asks, status, code, tests = (it.strip() for it in line.split("|"))
    status, _, why = status.partition(": ")
    return Row(section, asks, status, why, quoted(code), quoted(tests))


def quoted(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell))


@cache
def names(path: Path) -> frozenset[str]:
    """
    Return what is defined in a module, and in its classes as `Class.name`.
    """
    tree = ast.parse(path.read_text("utf-8"))
    found = set(defined(tree))
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for name in defined(node)}
    return frozenset(found)


def defined(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef | ast.ClassDef):
            yield inner.name
        elif isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
            yield inner.target.id
        elif isinstance(inner, ast.Assign):
            yield from (it.id for it in inner.targets if isinstance(it, ast.Name))


def is_there(below: Path, name: str) -> bool:
    """
    Tell whether `file.py::name` is defined in a file *below* a folder.
    """
    file, _, inner = name.partition("::")
    path = below / file
    return path.is_file() and inner.replace("::", ".") in names(path)


def is_a_test(name: str) -> bool:
    """
    Tell whether *name* is a dialogue, or a function that pytest runs.
    """
    if name.endswith(".dialog"):
        return (TESTS / "dialogs" / name).is_file()
    return "::test_" in name and is_there(TESTS, name)


def test_every_rfc_has_its_chapter() -> None:
    """The page has a chapter for each RFC above, and for no other."""
    assert CONTENTS.keys() | EXCERPTS == {it for it in CHAPTERS if it.isdigit()}


@each_chapter
def test_a_row_has_a_status_and_what_goes_with_it(chapter: str) -> None:
    """What is done names code and a test; what is not says why."""
    found = rows(chapter)
    assert found
    for it in found:
        assert it.status in STATUSES, it
        assert (it.code and it.tests) if it.status == "done" else it.why, it


@each_chapter
def test_what_a_row_names_exists(chapter: str) -> None:
    """Each name in the code is defined, each test and each dialogue is there."""
    found = rows(chapter)
    assert set() == {it for row in found for it in row.code if not is_there(CODE, it)}
    assert set() == {it for row in found for it in row.tests if not is_a_test(it)}


@pytest.mark.parametrize("rfc", CONTENTS)
def test_no_section_is_passed_over(rfc: str) -> None:
    """Each section has a row, or is named among those that bind no client; never both."""
    (line,) = re.findall(r"^Nothing for a client: (.+)\.$", CHAPTERS[rfc], re.MULTILINE)
    told = {it.section for it in rows(rfc)}
    nothing = re.findall(r"§([AB]|\d+(?:\.\d+)*)", line)
    assert sorted(CONTENTS[rfc].split()) == sorted([*told, *nothing])


def test_a_must_that_is_not_done_is_told_at_the_head() -> None:
    """Nobody has to read the whole page to learn what is missing."""
    page = (ROOT / "docs" / "rfc.md").read_text("utf-8")
    head = re.search(
        r"^What a standard says with MUST .+?\n\n", page, re.MULTILINE | re.DOTALL
    )
    assert head
    named = re.findall(r"RFC \d{4} §[\d.]+|LOGIN [\d.]+", head[0])
    assert sorted(named) == sorted(
        f"RFC {chapter} §{it.section}" if chapter.isdigit() else it.section
        for chapter in CHAPTERS
        for it in rows(chapter)
        if it.status == "not done" and re.search("MUST|REQUIRED", it.asks)
    )


def test_a_cited_section_has_a_row() -> None:
    """Where the code cites a section of these RFCs, the page has a row for it."""
    told = {(rfc, it.section) for rfc in CHAPTERS for it in rows(rfc)}
    missing = defaultdict(set)
    for path in sorted(CODE.rglob("*.py")):
        for rfc, section in CITED.findall(path.read_text("utf-8")):
            if rfc in CHAPTERS and (rfc, section) not in told:
                missing[f"RFC {rfc} §{section}"].add(path.name)
    assert {} == missing


def test_nothing_hangs_on_the_implementation() -> None:
    """What a server calls itself is shown to people, and asked by no other code (§6.9)."""
    asking = {
        str(path.relative_to(CODE))
        for path in CODE.rglob("*.py")
        if re.search(r"\.implementation\b|\"IMPLEMENTATION\"", path.read_text("utf-8"))
    }
    assert asking <= {"pop3/replies.py", "look/quirks.py"}  # `check` shows it
