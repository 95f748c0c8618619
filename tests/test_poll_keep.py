"""
Archiving some messages of a session that somebody else has opened.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from threading import Event

import pytest

from popfetchd.errors import LedgerBehind
from popfetchd.maildrop.dialogue import error
from popfetchd.poll import keep, still_archived
from popfetchd.pop3.deadline import Deadline
from tests.world import SECRET, USER, Secret, world


@pytest.fixture
def here(tmp_path):
    with world(tmp_path) as made:
        yield made


def letters(count):
    return [b"Subject: %d\r\n\r\nHello.\r\n" % number for number in range(1, count + 1)]


@contextmanager
def session(here):
    """
    Give a session that has logged in.
    """
    with here.means.connect(here.account.server, Deadline(5.0)) as opened:
        opened.login(USER, Secret(SECRET), here.account.login.mechanism)
        yield opened


def kept(here, *chosen, **changes):
    """
    Return what `keep` did in a session of its own, which ends without QUIT.
    """
    account = replace(here.account, **changes)
    with session(here) as opened:
        return keep(account, here.means, opened, chosen, stop=Event())


def test_only_what_was_chosen_is_archived(here):
    """
    It is proven by its content, and nothing is removed, whatever the account says.
    """
    here.deliver(*letters(3))
    done = kept(here, 1, 3, delete_after=0.0)
    assert (2, 1, {1, 3}) == (done.report.archived, done.report.waiting, done.settled)
    assert [1, 3] == [proof.number for proof in done.proven]
    assert [letters(3)[0], letters(3)[2]] == here.archived()
    assert 3 == len(here.waiting())
    assert b"DELE" not in here.server.wire
    assert not here.server.wire.endswith(b"QUIT\r\n")


def test_visits_before_and_after_archive_nothing_twice(here):
    """
    What is known is not retrieved again, chosen or not; the rest is, once.
    """
    here.deliver(*letters(2))
    here.visit()
    here.deliver(letters(3)[2], b"Subject: 4\r\n\r\n")
    assert (0, 0) == (
        kept(here, 1, 2).report.archived,
        here.server.wire.count(b"RETR 3"),
    )
    assert 1 == kept(here, 2, 3).report.archived
    assert 1 == here.visit().archived
    assert 4 == len(here.archived())


def test_a_pause_of_removals_lasts(here):
    """
    A reset that is seen here is not forgotten by the next visit.
    """
    here.deliver(*letters(20))
    here.visit()
    here.maildrop.remove(here.maildrop.messages)
    here.deliver(*letters(20))
    done = kept(here, 1)
    assert (True, True) == (done.report.reset, done.report.removals_paused)
    assert (0, 1) == (done.report.archived, done.report.matched)


def test_a_message_that_fails_alone_is_not_settled(here):
    """
    It is counted as in any visit, and its session may not say QUIT.
    """
    here.deliver(*letters(1))
    here.speak(RETR=lambda *_: error("no"))
    done = kept(here, 1)
    assert ((), frozenset(), 1) == (
        done.proven,
        done.settled,
        len(done.report.failed_messages),
    )


def test_what_fails_is_in_the_report(here):
    """
    As in any visit: nothing is raised, nothing was retrieved.
    """
    here.deliver(*letters(1))
    here.visit()
    here.ledger.close()
    for path in here.ledger.path.parent.glob("ledger.db*"):
        if path.is_file():
            path.unlink()
    with world(here.directory) as again:
        again.deliver(*letters(1))
        done = kept(again, 1)
        assert isinstance(done.report.failure, LedgerBehind)
        assert b"RETR" not in again.server.wire


def test_a_copy_is_looked_at(here):
    """
    There and whole, or not.
    """
    here.deliver(*letters(1))
    with session(here) as opened:
        done = keep(here.account, here.means, opened, [1], stop=Event())
        found = still_archived(here.account, here.means, opened, done.proven)
        assert list(done.proven) == found
        (copy,) = here.files("new")
        copy.write_bytes(b"altered")
        assert [] == still_archived(here.account, here.means, opened, done.proven)
