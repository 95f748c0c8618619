"""
What others read in an mbox that popfetchd wrote, and what is left of it when they wrote.

Rules of this file:

- The readers are real: Dovecot, mutt, and Python's mailbox. None of them undoes quoting,
  so the comparison does.
- As popfetchd does not write where others own the folder, Dovecot gets a copy, and what
  it made of that is copied back over the original.
"""

from __future__ import annotations

import contextlib
import imaplib
import mailbox
import os
import pty
import re
import select
import shutil
import signal
import ssl
import time

from pathlib import Path

import pytest

from popfetchd.values import Condition
from tests.live.conftest import give_up, shout
from tests.live.dovecot import HOST, give_away, missing, running
from tests.test_archive_mbox import Trial


pytestmark = pytest.mark.live

MUTT = Path("/usr/bin/mutt")

PATIENCE = 20.0
"""Seconds that mutt may take for a handful of messages."""

HEADER = "Return-Path: <ada@example.org>\nFrom: Ada <ada@example.org>\nSubject: {}\n\n"

BODIES = [
    "plain\n",
    "From the first line on\n",
    "a line\nFrom a later one\n",
    "a line\n\nFrom one after an empty line\n",
    "\nFrom bob Thu Jan  1 00:00:00 1970\nSubject: forged\n\nnot a message\n",
    ">From one quoted already\n",
    ">>From one quoted twice\n>>>From thrice\n",
    "a From in the middle\nFromage\n From a blank\n",
    "no end of the last line",
    "ends in empty lines\n\n\n",
    "",
    "caf\xe9 \u20ac\n",
    "x" * 3000 + "\nFrom behind a long line\n",
]


def letters():
    """
    Messages as a server sends them, each with a subject of its own.
    """
    plain = [
        (HEADER.format(f"letter {number}") + body).encode()
        for number, body in enumerate(BODIES)
    ]
    flagged = plain[0].replace(b"Subject", b"Status: RO\nX-UID: 9\nSubject")
    lied = plain[2].replace(b"Subject", b"Content-Length: 3\nSubject")
    sent = [each.replace(b"\n", b"\r\n") for each in [*plain, flagged, lied]]
    return [*sent, sent[3].replace(b"\r\n\r\n", b"\r\n\r\nbare\nFrom here\n", 1)]


@pytest.fixture
def archived(tmp_path):
    """
    An mbox with all the letters, in two batches; and its rows.
    """
    trial = Trial(tmp_path / "mail" / "all.mbox").open()
    sent = letters()
    rows = trial.archived(*sent[:7]) + trial.archived(*sent[7:])
    yield trial, rows
    trial.archive.close()


def unquoted(octets):
    """
    What the reader shows of a message, without the quoting that it leaves.
    """
    return comparable(re.sub(rb"(?m)^>(>*From )", rb"\1", octets))


def comparable(octets):
    """
    A message without what a reader changes or an mbox does not tell: line ends at its
    end, CRLF, and a reader's headers.
    """
    octets = octets.replace(b"\r\n", b"\n")
    header, empty, body = octets.partition(b"\n\n")
    header = re.sub(
        rb"(?im)^(status|x-status|x-uid|x-keywords|content-length|lines):.*\n?",
        b"",
        header + b"\n",
    )
    return (header.rstrip(b"\n") + empty + body).rstrip(b"\n")


EXPECTED = sorted(comparable(letter) for letter in letters())


def conditions(archived):
    trial, rows = archived
    return {trial.archive.check(row.copy, row.content) for row in rows}


# -- Python ---------------------------------------------------------------------------


def test_python_reads_it(archived):
    """
    The standard library counts the same messages, with the same bodies.
    """
    box = mailbox.mbox(archived[0].path, create=False)
    found = sorted(unquoted(box.get_bytes(key)) for key in box.iterkeys())
    box.close()

    assert EXPECTED == found


def test_python_writes_it(archived):
    """
    It flags messages and writes a new file over the old: all are found again, and more
    can be appended.
    """
    trial, _ = archived
    box = mailbox.mbox(trial.path, create=False)
    box.lock()
    for key, message in box.items():
        message.set_flags("RO")
        box[key] = message
    box.flush()
    box.unlock()
    box.close()
    trial.archived(b"Subject: one more\r\n\r\nFrom here\r\n")
    box = mailbox.mbox(trial.path, create=False)
    count = len(box)
    box.close()

    # It writes a header anew where it finds none of its kind: those are not as they were.
    assert Condition.WHOLE not in conditions(archived)
    assert len(EXPECTED) + 1 == count


# -- mutt -----------------------------------------------------------------------------


def mutt(folder, mbox, keys):
    """
    Run mutt on *mbox*, in a terminal, and type *keys* into it.
    """
    rc = folder / "muttrc"
    rc.write_text(
        "set quit=yes folder=~ mbox_type=mbox move=no copy=no wait_key=no beep=no\n"
        "set pipe_split=yes pipe_decode=no mail_check=0\n"
    )
    pid, terminal = pty.fork()
    if not pid:
        environ = {"TERM": "vt100", "HOME": str(folder), "LC_ALL": "C", "PATH": "/bin"}
        os.execve(MUTT, ["mutt", "-n", "-F", str(rc), "-f", str(mbox)], environ)
    try:
        read_until(terminal, b"Msgs:")
        os.write(terminal, f"{keys}q".encode())
        read_until(terminal, None)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert 0 == status


def read_until(terminal, awaited):
    """
    Read until *awaited* is seen, or until the terminal is closed.
    """
    seen, end = b"", time.monotonic() + PATIENCE
    while select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0]:
        try:
            octets = os.read(terminal, 65536)
        except OSError:  # what a terminal says when its other side is gone
            octets = b""
        seen += octets
        if not octets or (awaited and awaited in seen):
            return
    pytest.fail(f"mutt hangs: {seen[-2000:]!r}", pytrace=False)


@pytest.fixture
def has_mutt(request):
    if not MUTT.exists():
        reason = f"no mutt here ({MUTT}): apt-get install mutt"
        shout(request.config, f"LIVE TESTS ARE SKIPPED: {reason}")
        pytest.skip(reason)


@pytest.mark.usefixtures("has_mutt")
def test_mutt_reads_it(archived, tmp_path):
    """
    It counts the same messages, with the same bodies.
    """
    out = tmp_path / "out"
    out.mkdir()
    pipe = f"cat > $(mktemp {out}/XXXXXX)"
    keys = f"T~A\n;|{pipe}\n"  # tag all, pipe what is tagged
    mutt(tmp_path, archived[0].path, keys)
    # It hands the From_ line out too.
    piped = (path.read_bytes().partition(b"\n")[2] for path in out.iterdir())
    found = sorted(unquoted(octets) for octets in piped)

    assert EXPECTED == found


@pytest.mark.usefixtures("has_mutt")
def test_mutt_writes_it(archived, tmp_path):
    """
    It flags each message and writes the file anew, under both locks: all are found again,
    and more can be appended.
    """
    trial, _ = archived
    before = trial.octets
    mutt(tmp_path, trial.path, "T~A\n;w!$")  # tag all, flag what is tagged, write
    changed = trial.octets
    found = conditions(archived)
    trial.archived(b"Subject: one more\r\n\r\nFrom here\r\n")

    assert before != changed
    assert len(EXPECTED) == len(re.findall(rb"\nX-Status: F\n", changed))
    assert {Condition.MOVED} == found
    assert trial.octets.startswith(changed)


# -- Dovecot --------------------------------------------------------------------------


MBOX_SETTINGS = """
mail_location = mbox:~/mail:INBOX=~/inbox
mbox_lazy_writes = no
"""


@pytest.fixture
def dovecot(request):
    if reason := missing():
        give_up(request.config, reason)
    with running(MBOX_SETTINGS) as server:
        yield server


@contextlib.contextmanager
def inbox(dovecot, user):
    context = ssl.create_default_context(cafile=dovecot.ca_file)
    port = dovecot.ports.imaps
    with imaplib.IMAP4_SSL(HOST, port, ssl_context=context, timeout=10) as imap:
        imap.login(user.name, user.password)
        imap.select()
        yield imap
        imap.close()


def test_dovecot_reads_and_writes_it(archived, dovecot):
    """
    It counts the same messages, with the same bodies; when it has flagged them, numbered
    them and written all that into the file, all are found again.
    """
    trial, _ = archived
    user = dovecot.add_user()
    theirs = user.maildir.parent / "inbox"
    shutil.copy(trial.path, theirs)
    give_away(theirs.parent)
    with inbox(dovecot, user) as imap:
        _, fetched = imap.fetch("1:*", "(BODY.PEEK[])")
        imap.store("1:*", "+FLAGS", r"(\Seen $Kept)")
    found = sorted(unquoted(part[1]) for part in fetched if isinstance(part, tuple))
    shutil.copyfile(theirs, trial.path)

    assert EXPECTED == found
    assert b"\nX-UID: " in trial.octets
    assert b"\nX-Keywords: " in trial.octets
    assert {Condition.MOVED} == conditions(archived)
