"""
The frame of the command line: exit codes, where things are said, and how it ends.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

import pytest

from popfetchd import __version__
from popfetchd.cli import parser
from popfetchd.config import load
from tests.desk import CANARY, desk, letter


@pytest.fixture
def here(tmp_path, capsys):
    with desk(tmp_path, capsys) as made:
        yield made


def assert_told(err, sentence, hint):
    """
    What is told is one line, and one with a hint.
    """
    assert f"{sentence}\n  hint: {hint}\n" == err


# -- what is typed --------------------------------------------------------------------


def test_the_version_is_told(here):
    """
    `--version` says which, on stdout.
    """
    assert (0, f"popfetchd {__version__}\n", "") == here.type("--version")


def loaded_by(statement):
    """
    Return the modules that a new process has loaded for *statement*.
    """
    code = (
        "import atexit, sys; before = {*sys.modules}; "
        "atexit.register(lambda: print('\\n', *{*sys.modules} - before)); "
        f"{statement}"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    return set(ran.stdout.splitlines()[-1].split())


def test_the_version_costs_nothing_else():
    """
    Of what is not Python's own, only the parser and the errors are loaded for it.
    """
    loaded = loaded_by("from popfetchd.cli import main; main(['--version'])")
    theirs = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert {"popfetchd"} == theirs
    assert "popfetchd.values" not in loaded


OF_THE_SERVICE = {
    *("apscheduler", "prometheus_client", "http.server", "structlog", "rich"),
    *("popfetchd.daemon", "popfetchd.schedule", "popfetchd.web", "popfetchd.metrics"),
    *("popfetchd.browsing", "popfetchd.look", "popfetchd.lines"),
}

OF_THE_JUDGE = {"pydantic", "yaml", "annotated_types", "popfetchd.config.load"}

OF_FEW_VISITS = {
    *("email", "calendar", "zoneinfo", "stringprep", "ctypes", "subprocess", "secrets"),
    *("tempfile", "shutil", "lzma", "importlib.resources", "importlib.metadata"),
    *("difflib", "asyncio", "multiprocessing", "http.client", "urllib.request"),
}


def test_a_visit_loads_only_what_it_needs(here):
    """
    The start is most of a `fetch` that finds nothing: what only the service, the judge of
    the configuration, or few visits need is not loaded for it.
    """
    here.write(here.account("alice"))
    words = ["fetch", "-c", str(here.path)]
    loaded = loaded_by(f"from popfetchd.cli import main; main({words!r})")
    assert "popfetchd.visits" in loaded
    assert set() == (OF_THE_SERVICE | OF_THE_JUDGE | OF_FEW_VISITS) & loaded


def test_a_visit_that_archives_writes_no_line(here):
    """
    What its table tells is not logged, so that nothing is loaded to write a line.
    """
    here.write(here.account("alice", b"Subject: one\r\n\r\n"))
    words = ["fetch", "-c", str(here.path)]
    loaded = loaded_by(f"from popfetchd.cli import main; main({words!r})")
    assert 1 == here.archived("alice")
    assert set() == (OF_THE_SERVICE | OF_THE_JUDGE) & loaded


@pytest.mark.parametrize("verb", ["retry", "verify", "browse", "rebuild", "backup"])
def test_verbs_load_nothing_of_the_service(verb):
    """
    What opens the ledger needs no schedule, page, series or lines of a log.
    """
    loaded = loaded_by(f"import popfetchd.cli.{verb}")
    of_a_person = (
        {"popfetchd.browsing", "popfetchd.look"} if verb == "browse" else set()
    )
    assert of_a_person == OF_THE_SERVICE & loaded


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "popfetchd: the following arguments are required: VERB"),
        (["fetch", "--bad"], "popfetchd: unrecognized arguments: --bad"),
        (["list"], "popfetchd list: the following arguments are required: ACCOUNT"),
        (["config"], "popfetchd config: the following arguments are required: PART"),
        (["config", "frob"], "popfetchd config: argument PART: invalid choice: 'frob'"),
        (["import"], "popfetchd: argument VERB: invalid choice: 'import'"),
    ],
)
def test_what_cannot_be_understood_is_64(here, words, problem):
    """
    Usage and the problem on stderr, nothing on stdout, EX_USAGE.
    """
    here.write(here.account("alice"))
    code, out, err = here.type(*words)
    assert (64, "") == (code, out)
    usage, told = err.splitlines()
    assert usage.startswith("usage: popfetchd")
    assert told.startswith(problem)


def test_every_verb_of_the_help_works_or_is_absent(here, capsys):
    """
    Each verb that the help names has a file of its own, with its own help.
    """
    code, out, _ = here.type("--help")
    verbs = re.findall(r"^    (\w+)\b", out, re.MULTILINE)
    assert 0 == code
    assert {"run", "fetch", "check", "list", "status", "healthcheck", "demo"} < {*verbs}
    for verb in verbs:
        with pytest.raises(SystemExit) as ended:
            parser.build_parser().parse_args([verb, "--help"])
        assert 0 == ended.value.code
        assert capsys.readouterr().out.startswith(f"usage: popfetchd {verb}")


@pytest.mark.parametrize("words", [["fetch"], ["check"], ["list"]])
def test_an_account_that_is_not_there_is_64(here, words):
    """
    A mistyped name is told, with the names that there are; nobody is visited.
    """
    here.write(here.account("alice"), here.account("bob"))
    code, out, err = here.type(*words, "alcie")
    assert (64, "") == (code, out)
    assert_told(err, "popfetchd: no account 'alcie'", "there are: alice, bob")
    assert b"" == here.servers["alice"].wire


def test_of_many_accounts_some_are_named(here):
    """
    Twenty names help; twenty thousand would not.
    """
    here.account("a")
    accounts = [here.account("a", name=f"a{number}") for number in range(23)]
    here.write(*accounts)
    _, _, err = here.type("fetch", "b")
    assert err.endswith("a18, a19, and 3 more\n")


# -- what is read ---------------------------------------------------------------------


def test_a_missing_configuration_is_78(here):
    """
    The file that was named and is not there.
    """
    code, out, err = here.type("status", "-c", "/nonexistent/x.yaml")
    assert (78, "") == (code, out)
    assert_told(
        err,
        "/nonexistent/x.yaml: cannot be opened: No such file or directory",
        "correct the file; `popfetchd config check` tells whether it is right",
    )


def test_a_mistaken_configuration_is_78_for_every_verb(here):
    """
    All mistakes are told with their places, and nothing is begun.
    """
    here.write(here.account("alice", every="soon"), here.account("bob", hots="x"))
    for words in (["fetch"], ["check"], ["status"], ["run"], ["config", "check"]):
        code, out, err = here.type(*words)
        first, second, hint = err.splitlines()
        assert (78, "") == (code, out)
        assert re.match(rf"{here.path}:\d+:\d+: account 'alice': every: ", first)
        assert re.match(rf"{here.path}:\d+:\d+: account 'bob': hots: ", second)
        assert hint.startswith("  hint: correct the file")


def test_a_warning_is_told_from_a_mistake(here):
    """
    What works and is seldom meant is told on stderr, and changes nothing.
    """
    alice = here.account("alice", password=f"{CANARY}-alice", password_file=None)
    here.write(alice)
    code, out, err = here.type("status")
    assert 0 == code
    assert out.startswith("ACCOUNT")
    warning, _ = err.splitlines()
    assert re.fullmatch(rf"{here.path}:\d+:\d+: warning: account 'alice': .*", warning)
    assert CANARY not in err


def test_a_bad_further_file_holds_back_its_own_accounts_only(here):
    """
    The mistakes are told, and the accounts of other files are visited.
    """
    here.private("more.yaml", "- name: bob\n  hots: y\n")
    here.write(here.account("alice", letter(b"one")), include=["more.yaml"])
    code, out, err = here.type("fetch")
    assert 0 == code
    assert 1 == here.archived("alice")
    assert "bob" not in out
    assert f"{here.directory}/more.yaml:2:3: account 'bob': hots: is no key" in err
    assert "  hint: these files' accounts are held back\n" in err


# -- how it ends ----------------------------------------------------------------------


def unforeseen(*_args):
    """
    Do what nobody foresaw.
    """
    raise ZeroDivisionError("never")


def test_an_unforeseen_exception_is_70(here, monkeypatch):
    """
    A fault of ours shows its traceback, asks to be reported, and has its own code.
    """
    monkeypatch.setattr(load, "load", unforeseen)
    code, out, err = here.type("status")
    assert (70, "") == (code, out)
    assert "in unforeseen" in err
    assert err.endswith(
        "popfetchd: unexpected ZeroDivisionError in status\n"
        "  hint: please report this: it is a fault of popfetchd\n"
    )


def interrupt(*_args):
    """
    Press Ctrl-C.
    """
    raise KeyboardInterrupt


def test_an_interruption_is_130(here, monkeypatch):
    """
    Ctrl-C in a verb that has no use for it ends it without a word.
    """
    monkeypatch.setattr(load, "load", interrupt)
    assert (130, "", "") == here.type("check")


@pytest.mark.parametrize("words", [["config", "schema"], ["config", "check"]])
def test_a_reader_that_has_gone_is_no_failure(here, words):
    """
    `popfetchd … | head` ends quietly, whether much was said or little.
    """
    here.write(here.account("alice"))
    reader, writer = os.pipe()
    os.close(reader)
    process = here.spawn(*words, stdout=writer)
    os.close(writer)
    _, err = process.communicate(timeout=30)
    assert (0, "") == (process.returncode, err)


def test_a_narrow_character_set_is_no_failure(here):
    """
    What a terminal cannot show is written as an escape.
    """
    here.write(here.account("alice", letter(b"=?utf-8?q?caf=C3=A9?=")))
    process = here.spawn("list", "alice", environ={"PYTHONIOENCODING": "ascii"})
    out, err = process.communicate(timeout=30)
    assert (0, "") == (process.returncode, err)
    assert r"caf\xe9" in out


def test_a_stream_that_is_no_file_is_written_to_as_well(here, monkeypatch):
    """
    Whoever replaces stdout, to embed the command line, gets what is said.
    """
    mine = io.StringIO()
    monkeypatch.setattr(sys, "stdout", mine)
    here.write(here.account("alice"))
    assert 0 == here.type("config", "check")[0]
    assert "no mistakes" in mine.getvalue()


@pytest.mark.parametrize("closed", ["0<&-", ">&-", "2>&-", "0<&- >&- 2>&-"])
def test_closed_streams_are_no_failure(here, closed):
    """
    A parent that closed them has no ledger or message written to in their place.
    """
    here.write(here.account("alice"))
    typed = f'exec "$0" -m popfetchd status -c "$1" {closed}'
    words = ["/bin/sh", "-c", typed, sys.executable, str(here.path)]
    assert 0 == subprocess.run(words, timeout=30, check=False).returncode


def test_the_module_is_the_command(here):
    """
    `python -m popfetchd` is the console script, and hands on its code.
    """
    process = here.spawn("fetch", "--bad")
    out, err = process.communicate(timeout=30)
    assert (64, "") == (process.returncode, out)
    assert "unrecognized arguments: --bad" in err
