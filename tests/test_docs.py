"""
What the documents say is so.

Rules of this file: a document is read as an operator reads it. Links lead somewhere,
commands can be typed, examples load, and tables hold what the code holds.
"""

from __future__ import annotations

import argparse
import re
import shlex
import tomllib

from pathlib import Path

import pytest

from popfetchd.cli import build_parser
from popfetchd.cli.exits import OF_REASON, Exit
from popfetchd.config.load import load
from popfetchd.errors import Reason


ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def text(name):
    return (ROOT / name).read_text("utf-8")


def anchors(page):
    """
    Return the anchors of *page*'s headings, as forges make them.
    """
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head).lower().replace(" ", "-") for head in heads}


def verbs(parser, before=()):
    """
    Return every verb that *parser* takes, as a tuple of words.
    """
    found = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                found |= verbs(below, (*before, word)) or {(*before, word)}
    return found


def blocks(name, language):
    """
    Return the fenced blocks of page *name* that are in *language*.
    """
    fenced = rf"^```{language}\n(.*?)^```$"
    return re.findall(fenced, text(name), re.MULTILINE | re.DOTALL)


def typed(name):
    """
    Return the command lines of page *name* that a shell's prompt stands before.
    """
    whole = "".join(blocks(name, "console")).replace("\\\n", "")
    lines = re.findall(r"^[$#] (.+)$", whole, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    """
    Each relative link names a file that is there, and a heading that is in it.
    """
    page = ROOT / name
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    for link in links:
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("name", NAMES)
def test_commands_can_be_typed(name):
    """
    Each `popfetchd …` at a prompt is a command line that the parser takes.
    """
    for words in typed(name):
        if Path(words[0]).name == "popfetchd":
            build_parser().parse_args(words[1:])


@pytest.mark.parametrize("name", NAMES)
def test_mentioned_verbs_exist(name):
    """
    Each `popfetchd VERB` in a text begins with a verb that works.
    """
    known = verbs(build_parser())
    for mention in re.findall(r"`popfetchd ([a-z][a-z ]*)", text(name)):
        words = tuple(mention.split())
        assert words[:1] in known or words[:2] in known, mention


def test_every_verb_is_in_the_readme():
    """
    The README's table holds each verb of the command line, and no other.
    """
    rows = re.findall(r"^\| `popfetchd ([a-z ]+)`", text("README.md"), re.MULTILINE)
    assert verbs(build_parser()) == {tuple(row.split()) for row in rows}


@pytest.mark.parametrize("name", NAMES)
def test_make_targets_exist(name):
    """
    Each `make TARGET` that is written down is a target of the Makefile.
    """
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    mentioned = set(re.findall(r"(?:`|^\$ )make ([a-z]+)", text(name), re.MULTILINE))
    assert set() == mentioned - targets


def test_make_help_names_every_target():
    """
    `make help` tells each target that a person would type.
    """
    phony = re.search(r"^\.PHONY: (.+)$", text("Makefile"), re.MULTILINE)
    told = set(re.findall(r"'make ([a-z]+) ", text("Makefile")))
    inner = {"help", "coverage", "dovecot"}
    assert set(phony[1].split()) - inner == told


@pytest.mark.parametrize("name", NAMES)
def test_examples_load(name, tmp_path):
    """
    Each YAML example that lists accounts is a configuration without a mistake or a doubt.
    """
    for number, example in enumerate(blocks(name, "yaml")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(example)
        file.chmod(0o600)
        loaded = load(file, {"HOME": str(tmp_path)})
        assert () == loaded.held_back + loaded.doubts


def test_exit_codes_are_told():
    """
    The table of exit codes has a row for each code, with its reasons and no other.
    """
    rows = re.findall(
        r"^\| (\d+) \| (.+) \|$", text("docs/operations.md"), re.MULTILINE
    )
    told = {int(code): set(re.findall(r"`(\w+)`", reasons)) for code, reasons in rows}
    assert {
        code: {reason for reason, exit_ in OF_REASON.items() if exit_ is code}
        for code in Exit
    } == told


def test_every_reason_has_advice():
    """
    Operations says of each reason for a failure what it means and what to do.
    """
    advice = text("docs/operations.md").partition("## When something needs you")[2]
    rows = re.findall(r"^\| (`.+?) \|", advice, re.MULTILINE)
    told = {reason for row in rows for reason in re.findall(r"`(\w+)`", row)}
    assert set(Reason) | {"reason"} == told


def test_every_dependency_has_its_reason():
    """
    ADR 3 names each package that pyproject.toml asks for, and no other.
    """
    project = tomllib.loads(text("pyproject.toml"))
    wanted = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["demo"],
        *project["dependency-groups"]["dev"],
    ]
    packages = {re.match(r"[\w-]+", requirement)[0] for requirement in wanted}
    adr = text("docs/adr/0003-dependencies.md")
    assert set() == {package for package in packages if f"`{package}`" not in adr}


def test_layers_are_told():
    """
    CONTRIBUTING shows each layer that the import contract holds.
    """
    contract = tomllib.loads(text("pyproject.toml"))["tool"]["importlinter"]
    layers = " ".join(contract["contracts"][0]["layers"])
    block = re.search(
        r"^```\n(__main__.+?)^```", text("CONTRIBUTING.md"), re.MULTILINE | re.DOTALL
    )
    assert set(re.findall(r"\w+", layers)) == set(re.findall(r"\w+", block[1]))
