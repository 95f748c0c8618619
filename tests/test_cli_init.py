"""
`popfetchd init`: by options and by a person, and that who gives up leaves nothing behind.

Rules of this file:

- The maildrop is a real one with TLS; its certificate is known as the system's are, by
  SSL_CERT_FILE.
"""

from __future__ import annotations

import getpass
import os
import pty
import stat
import sys

import pytest

from popfetchd.cli import init, questions
from popfetchd.config import load, plain
from tests.desk import CANARY, desk, letter
from tests.typist import Typist


PASSWORD = f"{CANARY}-alice"


@pytest.fixture
def here(tmp_path, capsys, monkeypatch):
    with desk(tmp_path, capsys) as made:
        made.account("alice", letter(b"one"))
        monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate.ca_file))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        made.before = listing(made)
        yield made


def listing(here):
    return sorted(path.name for path in here.directory.iterdir())


def server(here):
    return f"localhost:{here.servers['alice'].port}"


def options(here, **others):
    """
    Return every option that is needed without a terminal, and *others*; None: not it.
    """
    usual = {
        "user": "alice@example.net",
        "host": server(here),
        "password_file": f"{here.directory}/alice.pass",
        "archive": f"{here.directory}/mail/{{account}}",
    }
    pairs = (usual | others).items()
    return [f"--{key.replace('_', '-')}={v}" for key, v in pairs if v is not None]


def account(here):
    """
    Return the account that was written.
    """
    (found,) = plain.accounts(load.load(here.path, os.environ).configuration)
    return found


# -- by options -----------------------------------------------------------------------


def test_options_write_a_file_that_works(here):
    """
    The login is tested, the next commands are told, and the first of them fetches.
    """
    code, out, err = here.type("init", *options(here))
    assert (0, "") == (code, err)
    assert out.startswith(f"{here.path}: written; nobody else may read it\nalice: ok\n")
    assert out.endswith(
        f"Next:\n  popfetchd fetch -c {here.path}  # one visit, now\n"
        f"  popfetchd run -c {here.path}  # the service; it shows itself at "
        "http://127.0.0.1:10995/\n"
    )
    assert 0o600 == stat.S_IMODE(here.path.stat().st_mode)
    assert [*here.before, "popfetchd.yaml"] == listing(here)
    assert 0 == here.type("fetch")[0]
    assert 1 == here.archived("alice")


def test_without_a_name_it_is_written_here(here, monkeypatch):
    """
    ./popfetchd.yaml, whatever $POPFETCHD_CONFIG says; paths start from this folder.
    """
    monkeypatch.chdir(here.directory)
    monkeypatch.setenv("POPFETCHD_CONFIG", "/nowhere")
    words = options(here, archive="mail/x", password_file="alice.pass", format="mbox")
    assert 0 == here.type("init", *words, "--no-check", "-c", "popfetchd.yaml")[0]
    here.path.unlink()
    arguments = here.arguments
    monkeypatch.setattr(here, "arguments", lambda *words: arguments(*words)[:-2])
    code, _out, err = here.type("init", *words, "--no-check")
    assert (0, "") == (code, err)
    assert here.directory / "mail" / "x" == account(here).destination.path


def test_a_failed_login_leaves_the_files(here):
    """
    The code is the failure's, and what to correct is told.
    """
    here.private("alice.pass", "wrong\n")
    code, out, err = here.type("init", *options(here))
    assert 77 == code
    assert "alice: failed" in out
    assert "alice: auth: " in err
    assert err.endswith(
        "popfetchd: the login failed; the files stay\n"
        f"  hint: correct `user` in {here.path}, or the password in "
        f"{here.directory}/alice.pass; then: popfetchd check -c {here.path}\n"
    )
    assert here.path.exists()


def test_no_check_asks_no_server(here):
    """
    What is seldom meant is told all the same.
    """
    words = options(here, host="localhost:1", tls="none")
    code, out, err = here.type("init", *words, "--no-check")
    assert (0, 1) == (code, out.count("written;"))
    assert "warning: account 'alice': tls: password and mail cross" in err


@pytest.mark.parametrize(
    ("missing", "flags"),
    [
        (("user",), "--user"),
        (("host",), "--host or --provider"),
        (("password_file", "archive"), "--password-file, --archive"),
    ],
)
def test_without_a_terminal_what_is_missing_is_named(here, missing, flags):
    """
    One line, code 64, and nothing is written.
    """
    code, out, err = here.type("init", *options(here, **dict.fromkeys(missing)))
    assert (64, "") == (code, out)
    assert err.startswith(
        f"popfetchd: init: not said, and no terminal to ask on: {flags}\n  hint: "
    )
    assert here.before == listing(here)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            {"user": "a\x1b[2Jb"},
            "--user: holds a line end or another control character",
        ),
        ({"user": "a\nb: c"}, "--user: holds a line end or another control character"),
        ({"user": ""}, "--user: is empty"),
        ({"host": "a b"}, "--host: must be a host name or an address alone"),
        ({"host": "a:99999"}, "--host: 99999 is out of range"),
        ({"host": None, "provider": "gmial"}, "--provider: 'gmial' is no provider"),
        ({"host": None, "provider": "outlook"}, "--provider: Outlook.com, Hotmail"),
        ({"tls": "yes"}, "--tls: 'yes' is not allowed"),
        ({"format": "pst"}, "--format: 'pst' is not allowed"),
        ({"name": "A/b"}, "--name: 'A/b' is no name"),
        ({"archive": "/m/{kennel}"}, "--archive: braces may only hold"),
        ({"password_file": "\x07"}, "--password-file: holds a line end"),
    ],
)
def test_an_option_that_cannot_be_is_64(here, words, sentence):
    """
    The flag and the sentence of the configuration are told; nothing is written.
    """
    code, out, err = here.type("init", *options(here, **words))
    assert (64, "") == (code, out)
    assert err.startswith(f"popfetchd: init: {sentence}")
    assert "\x1b" not in err
    assert here.before == listing(here)


def test_hostile_answers_stay_text(here):
    """
    Quotes, colons and comments are the user's, and no key.
    """
    user = """a: "b" 'c' # {d}\\ e: [*f, &g]"""
    words = options(here, user=user, archive="/m/x: #'y\"", name="x")
    here.type("init", *words, "--no-check")
    assert user == account(here).login.user
    assert "/m/x: #'y\"" == str(account(here).destination.path)


def test_an_existing_file_is_refused(here):
    """
    It stays as it is, and no question is asked.
    """
    here.path.write_text("mine")
    code, out, err = here.type("init")
    assert (78, "") == (code, out)
    assert err.startswith(f"{here.path}: is there already\n  hint: nothing was written")
    assert "mine" == here.path.read_text()


def test_a_password_file_that_cannot_be_read_is_refused(here):
    """
    Before anything is written.
    """
    words = options(here, password_file=f"{here.directory}/none")
    code, out, err = here.type("init", *words)
    assert (77, "") == (code, out)
    assert "No such file" in err
    assert here.before == listing(here)


# -- what an answer means -------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "name"),
    [
        ("alice@example.net", "alice"),
        ("Ann.O'Neil+x@example.net", "ann.o-neil-x"),
        ("alice", "alice"),
        ("..@x", "mail"),
        ("@", "mail"),
        ("日本@x", "mail"),
        ("a" * 70 + "@x", "a" * 64),
    ],
)
def test_an_account_is_called_by_its_address(user, name):
    """
    Always a name that a configuration takes.
    """
    assert name == questions.readers.name(questions.called(user))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pop.example.net", ("pop.example.net", None)),
        ("localhost:1995", ("localhost", 1995)),
        ("[::1]:995", ("::1", 995)),
        ("2001:db8::7", ("2001:db8::7", None)),
    ],
)
def test_a_host_may_have_a_port(text, found):
    """
    An IPv6 address has brackets then, as everywhere.
    """
    assert found == questions.host_and_port(text)


# -- a person -------------------------------------------------------------------------


def person_at(here, *words):
    """
    Return who types at a terminal where `init` runs.
    """
    environ = {"TERM": "xterm", "NO_COLOR": "1"}
    return Typist(lambda **popen: here.spawn("init", *words, environ=environ, **popen))


@pytest.fixture
def bare(here):
    """
    No file with the password is there yet.
    """
    (here.directory / "alice.pass").unlink()
    here.before = listing(here)
    return here


def test_a_person_is_asked_five_things(bare):
    """
    Wrong answers are told and asked again, Enter takes a proposal, no password is shown.
    """
    person = person_at(bare)
    person.answer("Mail address, or user name:", b"\n")
    person.answer("Mail address, or user name:", b"alice@example.net\n")
    person.answer("such as gmail:", b"a b\n")
    person.answer("such as gmail:", f"{server(bare)}\n".encode())
    person.answer("(port 110) [implicit]:", b"ssl\n")
    person.answer("(port 110) [implicit]:", b"\n")
    person.answer("Password of alice@example.net (not shown):", b"\n")
    person.answer("(not shown):", f"{PASSWORD}\n".encode())
    person.answer("mbox [maildir]:", b"\n")
    person.answer("{account}]:", b"~/mail/{account}\n")
    assert 0 == person.end()
    assert "  is empty\r\n" in person.seen
    assert "  must be a host name" in person.seen
    assert "'ssl' is not allowed; allowed are implicit, stls, none" in person.seen
    assert "alice: ok\r\n" in person.seen
    assert CANARY not in person.seen
    assert f"{PASSWORD}\n" == (bare.directory / "alice.pass").read_text()
    for name in ("alice.pass", "popfetchd.yaml"):
        assert 0o600 == stat.S_IMODE((bare.directory / name).stat().st_mode)
    assert 0 == bare.type("fetch")[0]
    assert 1 == bare.archived("alice")


def test_a_provider_is_proposed_by_the_domain(bare):
    """
    Its TLS is not asked for; only what no option said is.
    """
    person = person_at(bare, "--no-check", "--format=mbox", "--name=me")
    person.answer("user name:", b"alice@hotmail.com\n")
    person.answer("such as gmail [outlook]:", b"\n")
    person.answer("such as gmail [outlook]:", b"gmail\n")
    person.answer("(not shown):", b"x y\n")
    person.answer("Mail/{account}.mbox]:", b"\n")
    assert 0 == person.end()
    assert "takes no password any more; an access token needs" in person.seen
    made = account(bare)
    assert ("gmail", "me") == (made.provider, made.name)
    assert bare.directory / "Mail" / "me.mbox" == made.destination.path
    assert "x y\n" == (bare.directory / "me.pass").read_text()


@pytest.mark.parametrize("key", [b"\x03", b"\x04"])
@pytest.mark.parametrize("at", ["user name:", "(not shown):", "[maildir]:"])
def test_who_gives_up_leaves_nothing_behind(bare, key, at):
    """
    Ctrl-C and Ctrl-D, at a question, at the password and after it: 130.
    """
    person = person_at(bare, f"--host={server(bare)}", "--tls=implicit")
    for question, answer in (
        ("user name:", b"alice@example.net\n"),
        ("(not shown):", f"{PASSWORD}\n".encode()),
        ("[maildir]:", b"\n"),
    ):
        person.answer(question, key if question == at else answer)
        if question == at:
            break
    assert 130 == person.end()
    assert "popfetchd: nothing was written" in person.seen
    assert CANARY not in person.seen
    assert bare.before == listing(bare)


def test_a_password_that_is_there_is_refused_before_one_is_typed(here):
    """
    The file of another account of that name stays as it is.
    """
    person = person_at(here, f"--host={server(here)}", "--tls=implicit")
    person.answer("user name:", b"alice@example.net\n")
    assert 78 == person.end()
    assert "alice.pass: is there already" in person.seen
    assert here.before == listing(here)


def test_a_person_stops_it_even_where_a_parent_ignores_that(here, monkeypatch):
    """
    Ctrl-C is heard while questions are asked, and ends in one sentence.
    """
    monkeypatch.setattr(init, "on_terminal", lambda: True)
    master, slave = pty.openpty()
    with open(slave, "rb", closefd=False) as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        os.write(master, b"\x04")
        code, _, err = here.type("init")
    os.close(master)
    os.close(slave)
    assert (130, "\npopfetchd: nothing was written\n") == (code, err)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (getpass.GetPassWarning("echo"), "this terminal would show the password"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), "the password is not UTF-8"),
    ],
)
def test_a_password_is_never_shown(monkeypatch, capsys, error, sentence):
    """
    Where echo cannot be ended, or no text came, a file is to be named: 64.
    """

    def failing(_question):
        raise error

    monkeypatch.setattr(getpass, "getpass", failing)
    with pytest.raises(SystemExit) as ended:
        questions.unseen("?")
    assert 64 == ended.value.code
    assert sentence in capsys.readouterr().err
