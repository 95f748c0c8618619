"""
`popfetchd demo`: the service at its main job, ended by a person or by itself.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import urllib.request

from pathlib import Path

import pytest

from popfetchd.cli import demo
from popfetchd.cli.demo import FIRST_LETTERS
from tests.desk import PATIENCE, desk, until


@pytest.fixture
def here(tmp_path, capsys):
    with desk(tmp_path, capsys) as made:
        yield made


def press_ctrl_c(when):
    """
    In a thread of its own: send SIGINT to this process once *when* is true.
    """

    def press():
        try:
            until(when)
        finally:  # the test fails then, but it does not hang
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    return thread


def test_the_demo_archives_until_ctrl_c(here, tmp_path):
    """
    In a folder that was named everything is kept: configuration, maildir, ledger.
    """
    folder = tmp_path / "kept" / "here"
    new = folder / "mail" / "alice" / "new"
    thread = press_ctrl_c(
        lambda: new.exists() and len(list(new.iterdir())) >= FIRST_LETTERS
    )
    code, out, err = here.type("demo", "--directory", str(folder))
    thread.join(PATIENCE)

    told = re.fullmatch(
        r"demo: (\d+) messages archived, (\d+) files in the maildir, \d+ waiting\n", out
    )
    assert 0 == code
    assert int(told[1]) == int(told[2]) >= FIRST_LETTERS
    assert f"maildir       {new.parent}\n" in err
    assert 0o600 == (folder / "popfetchd.yaml").stat().st_mode & 0o777
    assert 0o600 == (folder / "alice.pass").stat().st_mode & 0o777
    secret = (folder / "alice.pass").read_text()
    assert secret not in out + err + (folder / "popfetchd.yaml").read_text()


def test_the_demo_leaves_nothing_behind(here):
    """
    What it tells can be looked at while it runs; Ctrl-C takes its folder away.
    """
    log = here.directory / "err"
    with log.open("w") as err:
        process = here.spawn("demo", stderr=err)
    told = until(
        lambda: re.search(
            r"^maildir +(.*)/mail/alice\nstatus page +(.*)\nmetrics +(.*)\n",
            log.read_text(),
            re.MULTILINE,
        )
    )
    folder, page, metrics = told.groups()
    until(lambda: "_archived_total 0.0" not in read(metrics))
    assert "alice" in read(page)
    assert Path(folder).exists()

    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)

    assert 0 == process.returncode
    assert out.startswith("demo: ")
    assert not Path(folder).exists()


def read(url):
    """
    Return the page at *url*.
    """
    with urllib.request.urlopen(url, timeout=PATIENCE) as page:
        return page.read().decode()


def test_the_demo_ends_by_itself(here):
    """
    After --seconds; 0 if something was archived, 69 if there was no time for it.
    """
    code, out, _ = here.type("demo", "--seconds", "0")
    archived = re.match(r"demo: (\d+) messages archived", out)[1]
    assert (0 if int(archived) else 69) == code


def test_the_page_is_where_it_was_asked_for(here):
    """
    `--listen` goes into the configuration, and what is no address is refused as there.
    """
    _, _, err = here.type("demo", "--seconds", "0", "--listen", "0.0.0.0:0")
    assert re.search(r"^status page   http://0\.0\.0\.0:\d+/$", err, re.MULTILINE)
    code, _, err = here.type("demo", "--seconds", "0", "--listen", 'no"where')
    assert 78 == code
    assert "http: listen: " in err


def test_messages_keep_arriving(here, tmp_path, monkeypatch):
    """
    More is archived than lay there at the start.
    """
    monkeypatch.setattr(demo, "PAUSE", 0.01)
    monkeypatch.setattr(demo, "FIRST_LETTERS", 1)
    new = tmp_path / "mail" / "alice" / "new"
    press_ctrl_c(lambda: new.exists() and len(list(new.iterdir())) > 1)
    code, _, _ = here.type("demo", "--directory", str(tmp_path))
    assert 0 == code
