"""
`popfetchd config check | show | names | schema`.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from docs.generate import schema
from tests.desk import CANARY, desk


@pytest.fixture
def here(tmp_path, capsys):
    with desk(tmp_path, capsys) as made:
        yield made


def test_check_says_that_all_is_well(here):
    """
    One line on stdout, with the number of accounts.
    """
    here.write(here.account("alice"), here.account("bob"))
    told = f"{here.path}: accounts: 2, no mistakes\n"
    assert (0, told, "") == here.type("config", "check")


def test_check_of_a_bad_further_file_is_78(here):
    """
    The good accounts are counted, the mistakes told; it is not all well.
    """
    here.private("more.yaml", "- name: bob\n")
    here.write(here.account("alice"), include=["more.yaml"])
    code, out, err = here.type("config", "check")
    assert (78, f"{here.path}: accounts: 1, and more in files with mistakes\n") == (
        code,
        out,
    )
    assert "account 'bob': host: is missing" in err


def test_check_needs_no_ledger_and_no_server(here):
    """
    It reads the file, and touches nothing else.
    """
    here.write(here.account("alice"))
    here.type("config", "check")
    assert not (here.directory / "state").exists()
    assert b"" == here.servers["alice"].wire


def test_show_is_complete_and_without_secrets(here):
    """
    What is shown can be read again; where a secret stood, it says so.
    """
    alice = here.account("alice", password=CANARY, password_file=None)
    bob = here.account("bob", password_file=None, password_command=["echo", CANARY])
    here.write(alice, bob)
    code, out, err = here.type("config", "show")
    shown = yaml.safe_load(out)
    assert 0 == code
    assert CANARY not in out + err
    assert ["alice", "bob"] == [account["name"] for account in shown["accounts"]]
    assert "(hidden)" == shown["accounts"][0]["password"]


def test_schema_is_json_that_needs_no_configuration(here):
    """
    The schema comes with the program: the one that the models make.
    """
    code, out, err = here.type("config", "schema")
    assert (0, "") == (code, err)
    assert schema.schema() == json.loads(out)


# -- names ----------------------------------------------------------------------------


def test_names_stand_on_lines_of_their_own(here):
    """
    Those of the main file, then those of the files that it takes in, each file once.
    """
    (here.directory / "more").mkdir()
    here.private("more/c.yaml", "- name: carol\n")
    here.private("more/.hidden.yaml", "- name: nobody\n")
    here.private("dave.yaml", "accounts:\n  - name: dave\n")
    here.write(
        here.account("alice"),
        here.account("bob"),
        include=["dave.yaml", "d*.yaml", "absent*.yaml"],
        accounts_dir="more",
    )
    assert (0, "alice\nbob\ndave\ncarol\n", "") == here.type("config", "names")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ""),
        ("- name: alice\n", ""),
        ("accounts:\n  - name: alice\n    hots: x\n", "alice\n"),
        ("accounts: 7\n", ""),
        ("accounts: [bob, {user: x}, {name: [a]}, {name: 'A b'}, {name: c}]", "c\n"),
        ("accounts: [{name: a}]\ninclude: [absent.yaml]\naccounts_dir: gone", "a\n"),
        ("accounts: [{name: a}]\ninclude: [broken.yaml]\n", "a\n"),
    ],
)
def test_names_are_told_as_far_as_they_can_be_read(here, text, told):
    """
    A configuration that is being written has names as well; mistakes are not judged.
    """
    here.private("broken.yaml", "{")
    here.private(here.path.name, text)
    assert (0, told, "") == here.type("config", "names")


def test_names_import_little(here):
    """
    A shell that completes a name does not wait for pydantic.
    """
    here.write(here.account("alice"))
    script = (
        "import sys; had = {*sys.modules};"  # what measures coverage loads some
        "from popfetchd.cli import main; main(sys.argv[1:]);"
        "print({'pydantic', 'structlog', 'sqlite3', 'ssl'} & ({*sys.modules} - had))"
    )
    words = [sys.executable, "-c", script, "config", "names", "-c", str(here.path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert "alice\nset()\n" == done.stdout
