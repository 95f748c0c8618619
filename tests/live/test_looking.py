"""
`check`, `list` and `browse` on a real Dovecot, as an operator sees them.

Rules of this file:

- What is shown is compared line by line, but for what differs each time: ports, dates of
  certificates, digests, unique-ids.
- The maildrop's files tell whether anything was marked as read: Dovecot moves what was
  retrieved from new/ to cur/ with a flag.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

from pathlib import Path

import pytest

from tests.live.dovecot import Dovecot, User
from tests.typist import Typist


pytestmark = pytest.mark.live

LETTERS = (
    "Subject: Minutes of Tuesday\n\nAll agreed.\n",
    "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe_aus_K=C3=B6ln?=\n\nBis bald!\n",
    "Subject: =?utf-8?b?5pel5pys6Kqe44Gu6aGM5ZCN?=\n\n\u65e5\u672c\n",
    "Subject: \x1b[2J\x1b[31mYou have won\n\n\x1b]0;owned\x07 click\n",
    "Subject: Invoice 4711\n\nPlease pay.\n",
)


class Operator:
    """
    A folder with a configuration for one account of Dovecot's, and a shell.
    """

    def __init__(self, directory: Path, dovecot: Dovecot) -> None:
        self.user: User = dovecot.add_user()
        self.user.deliver(
            f"From: Ada <ada@example.org>\nDate: Mon, 2 Nov 2026 0{n}:15:00 +0100\n{text}".encode()
            for n, text in enumerate(LETTERS, 5)
        )
        self.archive = directory / "mail"
        self.path = directory / "popfetchd.yaml"
        self.path.touch(0o600)
        account = {
            "name": "alice",
            "host": dovecot.host,
            "port": dovecot.ports.pop3s,
            "ca_file": str(dovecot.ca_file),
            "user": self.user.name,
            "password": self.user.password,
            "every": "1h",
            "archive": {"format": "maildir", "path": str(self.archive)},
        }
        ledger = str(directory / "ledger.db")
        self.path.write_text(json.dumps({"ledger": ledger, "accounts": [account]}))

    def spawn(self, *words: str, **popen: object) -> subprocess.Popen[str]:
        """
        Start a command line.
        """
        return subprocess.Popen(
            [sys.executable, "-m", "popfetchd", *words, "-c", self.path],
            env=os.environ | {"TERM": "xterm", "NO_COLOR": "1"},
            text=True,
            **popen,
        )

    def type(self, *words: str) -> str:
        """
        Run a command line that ends well, and return its stdout.
        """
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = self.spawn(*words, **piped)
        out, err = process.communicate(timeout=60)
        assert 0 == process.returncode, err
        return out

    def subjects(self) -> list[bytes]:
        """
        Return the subjects that are left in the maildrop.
        """
        return [
            re.findall(rb"^Subject: (.*)$", c, re.MULTILINE)[0]
            for c in self.user.contents()
        ]

    def unread(self) -> int:
        """
        Return how many messages nobody has read.
        """
        return sum(not path.name.endswith("S") for path in self.user.files())


@pytest.fixture
def operator(tmp_path: Path, dovecot: Dovecot) -> Operator:
    return Operator(tmp_path, dovecot)


def test_check(operator: Operator) -> None:
    """
    Everything that Dovecot shows, and no quirk that it does not have.
    """
    out = operator.type("check", "alice")
    assert re.fullmatch(
        r"""alice: ok
  server        127\.0\.0\.1:\d+, TLS from the start
  address       127\.0\.0\.1
  greeting      Dovecot .*ready\. <.+>
  tls           TLSv1\.3, TLS_\w+
  certificate   good, \d+ days left \(.+ to .+\)
    for         127\.0\.0\.1, localhost
    subject     O=trustme .+
    issuer      O=trustme .+
    sha256      [0-9a-f]{64}
  capabilities  AUTH-RESP-CODE, CAPA, PIPELINING, RESP-CODES, SASL .+, TOP, UIDL, USER
  after login   .+
  logins        CRAM-MD5, LOGIN, PLAIN, USER, APOP
  login         plain, chosen by `auth: auto`: nothing stronger that would work is .+
  maildrop      5 messages, \d+ B
  quirks        none seen
""",
        out,
    ), out
    assert 5 == operator.unread()


def test_list(operator: Operator) -> None:
    """
    One line for each message, decoded and harmless, and none of them read.
    """
    out = operator.type("list", "alice")
    shown = [re.split(r"  +", line.strip()) for line in out.splitlines()[1:]]
    assert [
        "Minutes of Tuesday",
        "Grüße aus Köln",
        "日本語の題名",
        r"\x1b[2J\x1b[31mYou have won",
        "Invoice 4711",
    ] == [row[5] for row in shown]
    assert ["2026-11-02T05:15:00+01:00", "Ada <ada@example.org>"] == shown[0][3:5]
    assert not {"\x1b", "\x07"} & set(out)
    assert 5 == operator.unread()


def test_browse(operator: Operator) -> None:
    """
    Read one, delete one that is archived first, lose one: the others stay unread.
    """
    person = Typist(lambda **popen: operator.spawn("browse", "alice", **popen), 90)
    person.answer("help:", b"\n")
    person.answer("help:", b"show\n")
    person.answer("help:", b"d\n")
    person.answer("go back:", b"delete\n")
    person.answer("help:", b"k\n")
    person.answer("help:", b"d\n")
    person.answer("go back:", b"archive\n")
    person.answer("help:", b"q\n")
    person.answer("yes or no:", b"yes\n")
    assert 0 == person.end(), person.seen
    assert r"\x1b]0;owned\x07 click" in person.seen
    assert not {"\x1b", "\x07"} & set(person.seen)
    assert "Archived 1 of 1 messages.\r\n" in person.seen
    assert "Deleted 2.\r\n" in person.seen
    assert [b"Minutes of Tuesday", b"=?utf-8?b?5pel5pys6Kqe44Gu6aGM5ZCN?="] == (
        operator.subjects()[:2]
    )
    assert (3, 3) == (operator.user.count(), operator.unread())
    assert 1 == len(list((operator.archive / "new").iterdir()))


def test_ctrl_c_leaves_dovecot_as_it_was(operator: Operator) -> None:
    """
    At the last question, with everything chosen.
    """
    person = Typist(lambda **popen: operator.spawn("browse", "alice", **popen))
    for _ in LETTERS:
        person.answer("help:", b"d\n")
        person.answer("go back:", b"delete\n")
    person.answer("yes or no:", b"\x03")
    assert 130 == person.end()
    assert (5, 5) == (operator.user.count(), operator.unread())
