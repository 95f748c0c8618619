"""
The line is cut after any number of octets, with removal: nothing is lost, nothing doubled.

Rules of this file:

- Each cut has an account, a maildrop and a relay of its own; one process visits them all
  side by side, so that many cuts cost no more than two runs.
- Where a line is cut is seeded, and anywhere in a session: in the handshake, in a body,
  behind the last octet. A third ends in order, a third is reset, a third falls silent.
"""

from __future__ import annotations

import random

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.letters import letters
from tests.live.dovecot import HOST, Dovecot, User
from tests.relay import End, Flow, Heard, Relay, Trouble
from tests.wire import PATIENCE, Account, Installation


pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE)]

CUTS = 40

LETTERS = list(letters(30, seed=7))
SENT = sorted(letter.served for letter in LETTERS)

FAREWELL = 150
"""Octets, in TLS, that hold the +OK to the last DELE, that to QUIT, and the end: there
removal is in doubt."""

ORDERLY = {None, "disconnected", "timeout", "tls"}
"""Reasons that a cut may have: it is the network's doing, never a fault of ours."""


def maildrop(dovecot: Dovecot) -> User:
    """
    Return a new maildrop that holds the letters.
    """
    user = dovecot.add_user()
    user.deliver(letter.stored for letter in LETTERS)
    return user


def account(
    site: Installation, dovecot: Dovecot, user: User, port: int, **keys: object
) -> Account:
    """
    Return the account of *user*, named like him, with removal.
    """
    keys |= {"ca_file": dovecot.ca_file, "delete_after": "verified"}
    return site.account(user.name, user.password, port, name=user.name, **keys)


def visit_all(site: Installation, *accounts: Account):
    """
    Visit all accounts at once.
    """
    site.configure(*accounts, limits={"sessions_per_host": len(accounts)})
    return site.fetch()


def measured(site: Installation, dovecot: Dovecot) -> Heard:
    """
    Return what crosses the wire in a session that nobody cuts.
    """
    with Relay((HOST, dovecot.ports.pop3s)) as relay:
        done = visit_all(site, account(site, dovecot, maildrop(dovecot), relay.port))
    assert 0 == done.code
    return relay.heard[0]


def troubles(whole: Heard) -> Iterator[Trouble]:
    """
    Yield the cuts: of the way up, near the end, and twice anywhere on the way down.
    """
    chance, up, down = random.Random(8), len(whole.up), len(whole.down)
    for number in range(CUTS):
        end = list(End)[number % len(End)]
        if number % 4 == 0:
            yield Trouble(up=Flow(chance.randint(0, up), end))
        else:
            first = down - FAREWELL if number % 4 == 1 else 0
            yield Trouble(down=Flow(chance.randint(first, down), end))


def test_one_run_mends_every_cut(dovecot, tmp_path):
    """
    After a cut at any octet the next run leaves each message in the archive once and the
    maildrop empty.
    """
    site = Installation(tmp_path)
    cuts = list(troubles(measured(site, dovecot)))
    users = [maildrop(dovecot) for _ in cuts]
    with ExitStack() as relays:
        target = (HOST, dovecot.ports.pop3s)
        ports = [relays.enter_context(Relay(target, cut)).port for cut in cuts]
        cut_off = visit_all(
            site,
            *(
                account(site, dovecot, user, port, timeout="3s")
                for user, port in zip(users, ports, strict=True)
            ),
        )
    assert {report["reason"] for report in cut_off.reports.values()} <= ORDERLY
    assert sum(report["reason"] is not None for report in cut_off.reports.values()) > 30

    mended = visit_all(
        site, *(account(site, dovecot, user, dovecot.ports.pop3s) for user in users)
    )

    assert 0 == mended.code
    for user, cut in zip(users, cuts, strict=True):
        assert (cut, True) == (cut, SENT == site.archived(user.name))
        assert (cut, []) == (cut, site.unfinished(user.name))
        assert (cut, {("removed",)}) == (cut, set(site.rows("state", user.name)))
        assert (cut, 0) == (cut, user.count())
