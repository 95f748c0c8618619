"""
A first configuration: what its text says, and that it is written whole or not at all.
"""

from __future__ import annotations

import errno
import os
import stat

from dataclasses import replace
from pathlib import Path

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.config import first, load, plain, providers
from popfetchd.config.first import First
from popfetchd.errors import NotWritten
from popfetchd.values import ArchiveFormat, Secret, TlsMode


ENVIRON = {"HOME": "/home/alice"}

ALICE = First(
    name="alice",
    user="alice@example.net",
    provider=None,
    host="pop.example.net",
    port=None,
    tls=TlsMode.IMPLICIT,
    password_file="alice.pass",
    format=ArchiveFormat.MAILDIR,
    path="/srv/mail/{account}",
)

# Of what a person may answer: one line, printable.
LINES = st.text(min_size=1).filter(str.isprintable)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def written(tmp_path, made):
    """
    Return the account that the configuration written for *made* holds.
    """
    path = tmp_path / "popfetchd.yaml"
    first.put(path, made, None, ENVIRON)
    (account,) = plain.accounts(load.load(path, ENVIRON).configuration)
    return account


def test_what_was_said_is_what_is_loaded(tmp_path):
    """
    Server, user, secret and archive are those of the answers; the files are private.
    """
    path = tmp_path / "popfetchd.yaml"
    first.put(path, ALICE, Secret("hunter2"), ENVIRON)
    result = load.load(path, ENVIRON)
    (account,) = plain.accounts(result.configuration)
    assert ((), ()) == (result.held_back, result.doubts)
    assert ("pop.example.net", 995) == (account.server.host, account.server.port)
    assert "alice@example.net" == account.login.user
    assert Path("/srv/mail/alice") == account.destination.path
    assert tmp_path / "alice.pass" == account.login.secret.path
    assert "hunter2\n" == (tmp_path / "alice.pass").read_text()
    assert ["alice.pass", "popfetchd.yaml"] == names(tmp_path)
    for file in tmp_path.iterdir():
        assert 0o600 == stat.S_IMODE(file.stat().st_mode)


def test_the_first_line_is_for_editors(tmp_path):
    """
    It names the schema of this installation, which is there.
    """
    head, uri = first.text(ALICE).splitlines()[0].split("=file://")
    assert "# yaml-language-server: $schema" == head
    assert Path(uri).is_file()


def test_a_provider_stands_for_the_server(tmp_path):
    """
    Its floor between logins makes the interval longer; a port and a host go before it.
    """
    gmx = providers.named("gmx")
    made = replace(ALICE, provider=gmx, host=None, tls=None)
    account = written(tmp_path, made)
    assert "pop.gmx.net" == account.server.host
    assert 750 == account.schedule.seconds
    assert () == load.load(tmp_path / "popfetchd.yaml", ENVIRON).doubts
    (tmp_path / "popfetchd.yaml").unlink()
    fastmail = providers.named("fastmail")
    made = replace(ALICE, provider=fastmail, host="localhost", port=7, tls=None)
    server = written(tmp_path, made).server
    assert ("localhost", 7) == (server.host, server.port)
    assert "every: 5m " in first.text(made)


@given(user=LINES, path=LINES)
def test_whatever_is_printable_stays_itself(tmp_path_factory, user, path):
    """
    Invariant: user and path are loaded as they were said, one line of the file each.
    """
    path = "/srv/" + path.replace("{", "(").replace("}", ")").replace("\0", "")
    made = replace(ALICE, user=user, path=path)
    assert first.text(ALICE).count("\n") == first.text(made).count("\n")
    account = written(tmp_path_factory.mktemp("first"), made)
    assert user == account.login.user
    assert Path(path) == account.destination.path


@pytest.mark.parametrize("taken", ["popfetchd.yaml", "alice.pass"])
@pytest.mark.parametrize("dangling", [False, True])
def test_no_file_is_overwritten(tmp_path, taken, dangling):
    """
    Whichever name is taken, also by a link to nowhere, nothing is written or altered.
    """
    if dangling:
        (tmp_path / taken).symlink_to("nowhere")
    else:
        (tmp_path / taken).write_text("mine")
    with pytest.raises(NotWritten, match=f"{taken}: is there already"):
        first.put(tmp_path / "popfetchd.yaml", ALICE, Secret("x"), ENVIRON)
    with pytest.raises(NotWritten, match="is there already"):
        first.refuse_taken(tmp_path / taken)
    assert [taken] == names(tmp_path)
    assert dangling or "mine" == (tmp_path / taken).read_text()


def test_a_folder_that_is_not_there_is_told(tmp_path):
    """
    None is made.
    """
    path = tmp_path / "no" / "popfetchd.yaml"
    with pytest.raises(NotWritten, match="its folder does not exist"):
        first.refuse_taken(path)
    with pytest.raises(NotWritten, match="cannot be written: No such file"):
        first.put(path, ALICE, None, ENVIRON)
    assert [] == names(tmp_path)


def test_what_would_not_work_is_not_written(tmp_path):
    """
    The loader's own sentence is told, with the name that the file would have had.
    """
    path = tmp_path / "popfetchd.yaml"
    made = replace(ALICE, user="../x", path="/srv/{user}")
    with pytest.raises(NotWritten) as told:
        first.put(path, made, Secret("x"), ENVIRON)
    assert str(told.value) == (
        f"{path}: would not work: account 'alice': archive: path: {{user}} cannot be "
        "put into a path: it holds a `/` or a NUL"
    )
    assert [] == names(tmp_path)


@pytest.mark.parametrize("call", ["fsync", "link"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_failing_disk_leaves_nothing(tmp_path, monkeypatch, call, number):
    """
    Whichever of the steps fails, neither the file nor the password stays behind.
    """
    before, calls = getattr(os, call), []

    def failing(*args):
        calls.append(args)
        if len(calls) == number:
            raise OSError(errno.EIO, "Input/output error")
        return before(*args)

    monkeypatch.setattr(os, call, failing)
    path = tmp_path / "popfetchd.yaml"
    if (call, number) == ("link", 3):  # there are two
        first.put(path, ALICE, Secret("x"), ENVIRON)
        return
    with pytest.raises(NotWritten, match="cannot be written: Input/output error"):
        first.put(path, ALICE, Secret("x"), ENVIRON)
    assert [] == names(tmp_path)
