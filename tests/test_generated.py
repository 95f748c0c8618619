"""
The documents that are made from the code are those that the code makes now.

Rules of this file: what a generated document says of its own accord (examples, names of
signals and variables) is held to the code too; completions are tried in their shells.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
import yaml

from pydantic import TypeAdapter

from docs.generate import ROOT, documents, keys, manual, schema, source
from popfetchd.config import kinds
from popfetchd.config.load import load
from popfetchd.daemon import SIGNALS


DOCUMENTS = documents()
MANUALS = [path for path in DOCUMENTS if path.parent.name == "man"]

KINDS = source.of_module(kinds)
EXAMPLES = [
    (kind, example)
    for kind, text in KINDS.items()
    if not kind.isupper()
    for example in re.findall("`([^`]+)`", text)
]

ACCOUNT = """
  - name: alice
    host: pop.example.net
    user: alice
    password_env: ALICE
    every: 5m
    archive: {format: maildir, path: /srv/mail/alice}
"""


def needs(program):
    """
    Return where *program* is, or skip.
    """
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no {program} here")
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_committed_is_what_the_code_makes(path):
    """
    Each generated document is as `make docs` writes it.
    """
    assert DOCUMENTS[path] == path.read_text("utf-8")


@pytest.mark.parametrize(("kind", "example"), EXAMPLES)
def test_examples_of_a_kind_can_be_read(kind, example):
    """
    What is typed in the description of a kind is a value of that kind.
    """
    written = yaml.load(example, yaml.BaseLoader)
    TypeAdapter(getattr(kinds, kind)).validate_python(written)


@pytest.mark.parametrize("title", keys.GROUPS)
def test_examples_of_a_group_load(title, tmp_path):
    """
    The example of each group stands in an account that loads, without a mistake.
    """
    _, _, example = keys.GROUPS[title]
    own = yaml.load(example, yaml.BaseLoader)
    given = yaml.load(ACCOUNT, yaml.BaseLoader)[0]
    replaced = {"cron": "every", "password_command": "password_env", "provider": "host"}
    left = {k: v for k, v in given.items() if k not in map(replaced.get, own)}
    file = tmp_path / "popfetchd.yaml"
    file.write_text(yaml.dump({"accounts": [left | own]}))
    file.chmod(0o600)
    loaded = load(file, {"HOME": str(tmp_path)})
    assert ["alice"] == [account.name for account in loaded.configuration.accounts]


def test_a_key_without_a_group_is_refused(monkeypatch):
    """
    A key that nobody has put in a group stops the generator, and is named.
    """
    monkeypatch.delitem(keys.GROUPS, "What leaves the server")
    with pytest.raises(ValueError, match="delete_after, trust_archive"):
        keys.of_accounts()


def test_every_key_has_a_row():
    """
    The page of the configuration has a row for each key that any mapping may hold.
    """
    whole = schema.schema()
    mappings = [of.get("properties", {}) for of in whole["$defs"].values()]
    wanted = {key for mapping in (*mappings, whole["properties"]) for key in mapping}
    page = DOCUMENTS[ROOT / "docs/configuration.md"]
    told = re.findall(r"^\| `(?:\w+\.)*(\w+)` \|", page, re.MULTILINE)
    assert wanted == set(told)


def test_signals_are_told():
    """
    popfetchd(8) tells of each signal that the service heeds.
    """
    told = {name for names in manual.SIGNALS for name in names.split(", ")}
    assert {signal.Signals(number).name for number in SIGNALS} == told


def test_the_environment_is_told():
    """
    popfetchd(8) tells of each variable that the code reads, and no other.
    """
    sources = [path.read_text("utf-8") for path in ROOT.glob("popfetchd/**/*.py")]
    read = r'environ(?:\.get\(|\[|, )"([A-Z_]+)"'
    told = {name for names in manual.ENVIRONMENT for name in names.split(", ")}
    assert set(re.findall(read, "\n".join(sources))) == told


@pytest.mark.parametrize("path", MANUALS, ids=lambda path: path.name)
def test_manuals_are_set_without_a_warning(path):
    """
    A manual is set by groff without a word, on a terminal of Unicode or of ASCII.
    """
    for device in ("utf8", "ascii"):
        words = [needs("groff"), "-man", "-ww", f"-T{device}", path]
        done = subprocess.run(words, check=False, capture_output=True, timeout=60)
        assert (0, b"") == (done.returncode, done.stderr)


def test_roff_is_escaped():
    """
    What roff would take for its own is printed as it stands.
    """
    assert r"\&.de \eb \(aq\-\(aq ... \[u20AC]" == manual._escaped(".de \\b '-' … €")


# -- completions ----------------------------------------------------------------------

TYPED = [
    (["he"], ["healthcheck"]),
    (["config", ""], ["check", "names", "schema", "show"]),
    (["config", "show", "--con"], ["--config"]),
    (["fetch", "--j"], ["--json"]),
    (["verify", "--re"], ["--repair"]),
    (["healthcheck", "--url", ""], []),
    (["fetch", "-c", "pop"], ["popfetchd.yaml"]),
    (["demo", "--directory", "h"], ["here/"]),
    (["backup", "pop"], ["popfetchd.yaml"]),
    (["fetch", "-c", "popfetchd.yaml", ""], ["7.0", "alice"]),
    (["fetch", "-c", "popfetchd.yaml", "alice", "7"], ["7.0"]),
]
"""Words behind `popfetchd`, the last one unfinished, and what is offered for it."""


@pytest.fixture
def folder(tmp_path):
    """
    Return a folder with a configuration, and popfetchd as a program in `bin`.
    """
    second = ACCOUNT.replace("alice", '"7.0"', 1).replace("mail/alice", "mail/7")
    file = tmp_path / "popfetchd.yaml"
    file.write_text(f"ledger: /tmp/l.db\naccounts:{ACCOUNT}{second}")
    file.chmod(0o600)
    (tmp_path / "here").mkdir()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/popfetchd"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m popfetchd "$@"\n')
    program.chmod(0o755)
    return tmp_path


def offered(folder, *words):
    """
    Return the lines that *words* print in *folder*.
    """
    environ = os.environ | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
    }
    done = subprocess.run(
        words,
        check=False,
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "" == done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(("typed", "expected"), TYPED, ids=" ".join)
def test_bash_offers(typed, expected, folder):
    """
    In bash what the parser takes is offered, and nothing else.
    """
    script = """
        source "$1"; shift
        [[ $(complete -p popfetchd) == 'complete -F _popfetchd popfetchd' ]] || exit 1
        COMP_WORDS=(popfetchd "$@") COMP_CWORD=$#
        _popfetchd
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    bash = ROOT / "deploy/completions/popfetchd.bash"
    words = [needs("bash"), "--norc", "-c", script, "-", str(bash), *typed]
    # readline itself adds the slash to a folder.
    assert [word.rstrip("/") for word in expected] == sorted(
        filter(None, offered(folder, *words))
    )


@pytest.mark.parametrize(("typed", "expected"), TYPED, ids=" ".join)
def test_fish_offers(typed, expected, folder):
    """
    In fish the same is offered.
    """
    fish = ROOT / "deploy/completions/popfetchd.fish"
    script = f"source {fish}; complete -C 'popfetchd {' '.join(typed)}'"
    lines = offered(folder, needs("fish"), "--no-config", "-c", script)
    assert expected == sorted(line.partition("\t")[0] for line in lines)


def test_zsh_reads_its_script(folder):
    """
    In zsh there is nothing to say to its completion.
    """
    script = ROOT / "deploy/completions/_popfetchd"
    assert [] == offered(folder, needs("zsh"), "-f", "-n", str(script))
