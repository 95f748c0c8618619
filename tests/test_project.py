"""
What holds for the project as a whole: its locks, its version, its scripts, its files.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import socket
import subprocess
import tomllib

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from popfetchd import __version__


ROOT = Path(__file__).parent.parent
LOCKS = ["runtime", "demo", "dev"]
PIN = r"[a-z0-9-]+==[\w.!+]+(?: ; [^\\/:]+)? \\"
HASH = r"    --hash=sha256:[0-9a-f]{64}(?: \\)?"


def pins(lock):
    """
    Return name → version of what *lock* holds.
    """
    text = (ROOT / f"locks/{lock}.lock").read_text("ascii")
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", text, re.MULTILINE))


def package(requirement):
    return re.match(r"[\w-]+", requirement)[0]


def project_files():
    """
    Return the files that git knows, or skip where there is no repository.
    """
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("no git, or no checkout: the project's own files cannot be told")
    listing = subprocess.run(
        [git, "-c", f"safe.directory={ROOT}", "ls-files", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = (ROOT / name for name in listing.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_hold_pins_and_hashes_only(lock):
    """
    A lock names no host and no path: only packages, versions, markers and hashes.
    """
    lines = (ROOT / f"locks/{lock}.lock").read_text("ascii").splitlines()
    assert [] == [line for line in lines if not re.fullmatch(f"{PIN}|{HASH}", line)]


def test_locks_agree():
    """
    What a smaller lock holds is in the larger ones, in the same version.
    """
    assert pins("runtime").items() <= pins("demo").items() <= pins("dev").items()


def test_locks_hold_what_the_project_asks_for():
    """
    Each requirement of pyproject.toml is pinned in the lock that is meant for it.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    runtime = project["project"]["dependencies"]
    demo = project["project"]["optional-dependencies"]["demo"]
    build = project["build-system"]["requires"]
    dev = project["dependency-groups"]["dev"]
    for lock, wanted in {
        "runtime": runtime,
        "demo": runtime + demo + build,
        "dev": runtime + demo + build + dev,
    }.items():
        assert set() == {package(name) for name in wanted} - pins(lock).keys()


def test_changelog_begins_with_this_version():
    """
    The newest heading of the changelog is the version of the package.
    """
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert __version__ == re.search(r"^## (\S+)", changelog, re.MULTILINE)[1]


def test_changelog_keeps_its_sections():
    """
    A release's sections are those that the head of the changelog names, in its order.
    """
    order = ["Security", "Removed", "Deprecated", "Added", "Changed", "Fixed"]
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    for release in re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]:
        sections = re.findall(r"^### (.+)$", release, re.MULTILINE)
        assert sorted(sections, key=order.index) == sections


@pytest.mark.parametrize("name", ["run", "apt", "dovecot", "smoke", "image"])
def test_scripts_stop_at_the_first_failure(name):
    """
    Each script of .ci is executable bash that goes on after no failure.
    """
    script = ROOT / ".ci" / name
    text = script.read_text("utf-8")
    assert os.access(script, os.X_OK)
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text


def test_sources_open_with_their_rules():
    """
    Each Python file that holds anything opens with a docstring.
    """
    sources = [path for path in project_files() if path.suffix == ".py"]
    trees = {path: ast.parse(path.read_text("utf-8")) for path in sources}
    assert [] == [
        str(path.relative_to(ROOT))
        for path, tree in trees.items()
        if tree.body and not ast.get_docstring(tree)
    ]


def test_no_file_tells_where_it_was_made():
    """
    No file of the project names somebody's home, but for the example's alice, or the
    package index behind it.
    """
    indexes = [os.environ.get(f"{tool}_INDEX_URL", "") for tool in ("PIP", "UV")]
    hosts = {urlsplit(url).hostname for url in indexes} - {None}
    places = "|".join([r"/(?:home|Users)/(?!alice/)[a-z]\w*/", *map(re.escape, hosts)])
    guilty = [
        str(path.relative_to(ROOT))
        for path in project_files()
        if re.search(places, path.read_bytes().decode("latin-1"))
    ]
    assert [] == guilty


@pytest.mark.parametrize("host", ["192.0.2.1", "pop.example.net"])
def test_tests_reach_loopback_only(host):
    """
    A connection to anywhere but this machine fails the test, whatever catches errors.
    """
    careless = contextlib.suppress(Exception)
    refused = pytest.raises(pytest.fail.Exception, match=host)
    with socket.socket() as line, refused, careless:
        line.connect((host, 995))
