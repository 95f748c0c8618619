"""
Memory does not grow with a message.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.letters import letters
from tests.wire import PATIENCE, Installation, restored, unmeasured


OCTETS = 200_000_000
"""Of the one message."""

LIMIT = 80_000_000
"""Octets that the process may hold at its peak; Python and the libraries take half."""

PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=sys.stderr, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Runs a command and prints its peak in KiB. It is small itself: where a process begins
as a copy of another, the other's memory counts as its own."""

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE)]


def peak(command: list[str]) -> int:
    """
    Run *command*; return the most octets of memory that it held.
    """
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=unmeasured(),
        check=True,
    )
    return int(done.stdout) * 1024


def test_a_message_of_200_mb_is_archived_in_80_mb(dovecot, tmp_path, capsys):
    """
    The peak of `fetch` stays below the limit, and the message is whole.
    """
    (letter,) = letters(1, large=OCTETS)
    user, site = dovecot.add_user(), Installation(tmp_path)
    user.deliver([letter.stored])
    port, ca_file = dovecot.ports.pop3s, dovecot.ca_file
    site.configure(site.account(user.name, user.password, port, ca_file=ca_file))

    octets = peak(site.command("fetch", "--json"))

    with capsys.disabled():
        sys.stderr.write(f"\n200 MB in one message: peak {octets / 1e6:.1f} MB\n")
    assert octets < LIMIT
    ((name, form),) = site.rows("name, form")
    assert letter.served == restored(site.maildir() / "new" / name, form)
