"""
One message among 200 at which the way from Dovecot always ends.

Rules of this file:

- A relay stands between, and knows nothing of POP3: at the poison's octets it falls
  silent, hangs up, or breaks off, each time, in whichever session.
- Each `fetch` is a process of its own; what it leaves is told by the ledger's table, the
  files, Dovecot's maildir and `status`.
"""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.live.dovecot import HOST
from tests.relay import End, Flow, Relay, Trouble
from tests.wire import PATIENCE, Installation


pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(400)]

MESSAGES = 200

POISON = 123
"""Which of them."""

MARK = b"X-Poison: here"

VISITS = {End.FIN: 4, End.SILENCE: 4, End.RST: 8}
"""The most that it may take. A line that breaks off takes what is on its way with it, so
that others are suspected first."""


def letter(number: int) -> bytes:
    poison = MARK + b"\n" if number == POISON else b""
    return b"%sSubject: %d\n\n%s" % (poison, number, b"body of %d\n" % number * 40)


def status(site: Installation) -> dict:
    """
    Return what `status` says of the only account.
    """
    done = subprocess.run(
        site.command("status", "--json"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    (account,) = json.loads(done.stdout)
    return account


@pytest.mark.parametrize("end", End)
def test_one_poisoned_message_among_200(dovecot, tmp_path, end):
    """
    199 are archived exactly once and removed; it alone stays, quarantined and shown.
    """
    user = dovecot.add_user()
    user.deliver(map(letter, range(MESSAGES)))
    site = Installation(tmp_path)
    trouble = Trouble(down=Flow(end=end, mark=MARK))
    with Relay((HOST, dovecot.ports.pop3), trouble) as relay:
        keys = {"tls": "none", "timeout": "2s", "delete_after": "verified"}
        site.configure(site.account(user.name, user.password, relay.port, **keys))
        codes = [site.fetch().code]
        while codes[-1] and len(codes) < VISITS[end]:
            codes.append(site.fetch().code)
        poisoned = status(site)

    assert 0 == codes[-1]
    served = (letter(n).replace(b"\n", b"\r\n") for n in range(MESSAGES) if n != POISON)
    assert sorted(served) == site.archived()
    assert [] == site.unfinished()
    assert [letter(POISON)] == user.contents()
    assert (199, 1) == (poisoned["archived"], poisoned["quarantined"])
    (message,) = poisoned["failed_messages"]
    assert (True, 3) == (message["quarantined"], message["visits"])

    site.configure(
        site.account(
            user.name,
            user.password,
            dovecot.ports.pop3,
            tls="none",
            delete_after="verified",
        )
    )
    subprocess.run(site.command("retry", "alice"), check=True, timeout=PATIENCE)
    assert 0 == site.fetch().code
    assert MESSAGES == len(site.archived())
    assert ([], [], []) == (
        user.contents(),
        site.unfinished(),
        status(site)["failed_messages"],
    )
