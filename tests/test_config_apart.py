"""
A configuration that another process reads is the one that this process would have read.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading

from pathlib import Path

import pytest

from popfetchd.config import apart
from popfetchd.errors import ConfigurationError


WRITTEN = """\
ledger: {folder}/ledger.db
log: {{level: warning, format: json}}
limits: {{sessions: 7, sessions_per_host: 2}}
include: [broken.yaml]
defaults:
  every: 5m
  archive: {{format: mbox, path: "/srv/mail/{{account}}.mbox"}}
accounts:
  - name: alice
    provider: fastmail
    user: alice@example.com
    password_command: [pass, alice]
    delete_after: {{age: 30d}}
  - {{name: bob, host: h, tls: none, user: bob, password_file: missing{more}}}
"""


@pytest.fixture
def written(tmp_path):
    """
    Write a configuration with a doubt and a file that is held back; return its path.
    """

    def write(more=""):
        (tmp_path / "broken.yaml").write_text("- {name: carol}\n")
        path = tmp_path / "popfetchd.yaml"
        path.write_text(WRITTEN.format(folder=tmp_path, more=more))
        for file in tmp_path.iterdir():
            file.chmod(0o600)
        return path

    return write


def in_a_process_of_its_own(path, before="", after=""):
    """
    Return what `begin` gives in a fresh process, and whether pydantic was loaded there.
    """
    script = (
        "import os, pickle, sys, threading\n"
        "from popfetchd.config import apart\n"
        f"{before}\n"
        f"reading = apart.begin(apart.Path({str(path)!r}), {{}})\n"
        f"{after}\n"
        "whole = reading()\n"
        "told = str([repr(whole), 'pydantic' in sys.modules])\n"
        "sys.stdout.write(told)\n"
    )
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert "" == done.stderr
    return done.stdout


def test_it_is_what_would_have_been_read_here(written):
    """
    Accounts, limits, doubts and what is held back are the same, and no model is loaded.
    """
    path = written()
    whole = apart.whole(path, {})
    assert ["alice", "bob"] == [account.name for account in whole.accounts]
    assert (("warning", "json"), 7, 2) == whole[2:5]
    assert whole.held_back
    assert whole.doubts
    assert str([repr(whole), False]) == in_a_process_of_its_own(path)


def test_it_survives_the_pipe(written):
    """
    What was handed over equals what was read.
    """
    whole = apart.whole(written(), {})
    assert whole == pickle.loads(pickle.dumps(whole))


def test_a_secret_crosses_no_pipe(written):
    """
    A password that stands in the file is read by the process that needs it.
    """
    path = written(", proxy: 'socks5://u:hunter2@[::1]:1080'")
    whole = apart.whole(path, {})
    with pytest.raises(TypeError, match="a secret is not to be pickled"):
        pickle.dumps(whole)
    assert str([repr(whole), True]) == in_a_process_of_its_own(path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("apart.pickle.dumps = lambda whole: os.kill(os.getpid(), 9)", ""),
        ("apart.pickle.dumps = lambda whole: b'torn' if os._exit(1) else b''", ""),
        ("def fork(): raise BlockingIOError\nos.fork = fork", ""),
        ("threading.Thread(target=threading.Event().wait, daemon=True).start()", ""),
        ("import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)", ""),
    ],
    ids=[
        "killed",
        "ended",
        "no process left",
        "another thread",
        "no child to wait for",
    ],
)
def test_whatever_goes_wrong_it_is_read_here(written, before, after):
    """
    A child that cannot be had, or does not end as it should, costs time and no more.
    """
    path = written()
    expected = str([repr(apart.whole(path, {})), True])
    assert expected == in_a_process_of_its_own(path, before, after)


def test_a_mistake_is_raised_here(tmp_path):
    """
    A configuration that cannot work is told as it is without a child.
    """
    with pytest.raises(subprocess.CalledProcessError) as raised:
        in_a_process_of_its_own(tmp_path / "missing.yaml")
    told = raised.value.stderr
    assert 1 == told.count("Traceback")
    assert f"{tmp_path}/missing.yaml: cannot be opened" in told
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        apart.begin(tmp_path / "missing.yaml", {})()


def test_where_the_judge_is_loaded_nobody_is_asked(written, monkeypatch):
    """
    A process that has loaded all it takes reads the configuration itself.
    """
    monkeypatch.setattr(os, "fork", None)
    assert apart.JUDGE in sys.modules
    assert 7 == apart.begin(written(), {})().sessions


# -- the two ends of the pipe ---------------------------------------------------------


@pytest.fixture
def alone(monkeypatch):
    """
    Take this process for one that has just started.
    """
    monkeypatch.delitem(sys.modules, apart.JUDGE, raising=False)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(apart.gc, "freeze", lambda: None)
    yield
    apart.gc.enable()


def open_files():
    """
    Return how many files this process has open.
    """
    return len([*Path("/proc/self/fd").iterdir()])


def test_no_file_stays_open(alone, tmp_path, monkeypatch):
    """
    Where there is no child there is no pipe.
    """
    before = open_files()

    def fork():
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", fork)
    apart.begin(tmp_path, {})
    assert before == open_files()


def test_what_the_child_does(alone, tmp_path, monkeypatch):
    """
    It writes values and ends with 0, or writes nothing and ends with 1.
    """
    codes = []
    monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", "")
    monkeypatch.setattr(os, "fork", lambda: 0)
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(apart.signal, "signal", lambda *_: None)
    monkeypatch.setattr(apart, "whole", lambda *_: "a whole")
    read = apart.begin(tmp_path, {}).args[1]
    assert "a whole" == pickle.loads(os.read(read, 100))
    os.close(read)
    monkeypatch.setattr(apart, "whole", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        apart.begin(tmp_path, {})
    assert [0, 1] == codes
    assert "__all__" == os.environ["PYDANTIC_DISABLE_PLUGINS"]
    assert not apart.gc.isenabled()


def test_what_the_parent_does(alone):
    """
    It takes what a child wrote that ended with 0, and looks for garbage again.
    """
    apart.gc.disable()
    readable, writable = os.pipe()
    os.write(writable, pickle.dumps("a whole"))
    os.close(writable)
    child = os.posix_spawn(sys.executable, [sys.executable, "-Sc", ""], {})
    assert "a whole" == apart._received(child, readable, lambda: "read here")
    assert apart.gc.isenabled()
