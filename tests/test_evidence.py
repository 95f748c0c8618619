"""
The evidence that leads to a DELE is made in one place each (P1).

Rules of this file:

- It reads the source: whoever else calls one of these types by its name is found, and
  so is one who makes it from another with `replace`.
"""

from __future__ import annotations

import ast

from pathlib import Path

import popfetchd


SOURCE = Path(popfetchd.__file__).parent

HOMES = {
    "Listed": "values.py",
    "Spooled": "archive",
    "Verified": "archive",
    "Recorded": "ledger",
    "Published": "archive",
    "Receipt": "ledger",
    "Proven": "removal.py",
    "Order": "cli",  # a person's word: no visit gives one
}
"""Where each is constructed: a file or a package of popfetchd."""


def called(tree):
    """
    The names that are called in a syntax tree, whatever they are looked up in.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            yield getattr(function, "id", getattr(function, "attr", None))


def makers(source):
    """
    Return, for each type of evidence, where in *source* it is called.
    """
    found = {name: set() for name in HOMES}
    for path in source.rglob("*.py"):
        place = path.relative_to(source).parts[0]
        for name in called(ast.parse(path.read_text("utf-8"))):
            if name in found:
                found[name].add(place)
    return found


def test_each_evidence_is_made_in_its_one_home():
    """
    And it is made there: a home where nothing is made would be a mistake of this test.
    """
    assert {name: {home} for name, home in HOMES.items()} == makers(SOURCE)


def test_no_evidence_is_made_from_another():
    """
    `dataclasses.replace` and `copy.replace` are not used where evidence is at hand.
    """
    users = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if {"dataclasses", "copy"} & modules_of_replace(path)
    }

    assert set() == users & {"poll.py", "removal.py", "selection.py"}
    packages = ("archive/", "ledger/", "look/", "visit/")
    assert not any(user.startswith(packages) for user in users)


def modules_of_replace(path):
    """
    Return the modules from which the file at *path* imports `replace`.
    """
    return {
        node.module
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        and any(alias.name == "replace" for alias in node.names)
    }


def test_a_maker_elsewhere_would_be_found(tmp_path):
    """
    By its plain name, and through a module.
    """
    (tmp_path / "poll.py").write_text("Receipt(1)\nvalues.Published(x)\n")

    found = makers(tmp_path)
    assert ({"poll.py"}, {"poll.py"}) == (found["Receipt"], found["Published"])
