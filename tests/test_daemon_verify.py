"""
The service and its archives: verified when that is due, and told.
"""

from __future__ import annotations

import os
import threading
import time

from dataclasses import replace

import pytest

from popfetchd import daemon
from popfetchd.errors import ArchiveError, Interrupted, LedgerError
from popfetchd.ledger import Ledger
from popfetchd.values import AccountName
from popfetchd.verify import Reading
from tests.desk import PATIENCE, desk
from tests.test_cli_fetch import letters
from tests.test_daemon import made, stop_when, value, visits


ALICE = AccountName("alice")

DAMAGED = "popfetchd_verify_failures_total"


@pytest.fixture
def here(tmp_path, capsys):
    with desk(tmp_path, capsys) as made_:
        yield made_


def verified(service):
    return service.ledger.state(ALICE).last_verified


def remembered_of(here):
    """
    Return what the next process would find of alice.
    """
    with Ledger(here.directory / "state" / "ledger.db", now=time.time) as ledger:
        return ledger.state(ALICE)


def test_an_archive_is_verified_after_a_visit(here, capsys):
    """
    When that is due: not again at the next visit. What is damaged raises the counter and
    stands in the account's state.
    """
    here.write(here.account("alice", *letters(2)))
    assert 0 == here.type("fetch")[0]
    next((here.directory / "mail/alice/new").iterdir()).unlink()

    with made(here, every="1s", jitter="0s", verify_every="7d") as service:
        stopping = stop_when(service, lambda: verified(service))
        assert service.run()
        stopping.join(PATIENCE)
        assert 1 == value(service.metrics.page().decode(), DAMAGED)
        assert 1 == service.metrics.states()[ALICE].damaged
    first = remembered_of(here).last_verified
    assert 1 == remembered_of(here).damaged

    out = capsys.readouterr().err
    assert 1 == out.count("copies in the archive are damaged")
    with made(here, verify_every="7d") as service:
        service._verify_if_due(service._accounts[ALICE])
        assert service._verifiers.wait(PATIENCE)
        assert first == verified(service)
        later = replace(service._accounts[ALICE], verify_every=0.0)
        service._verify_if_due(later)
        assert service._verifiers.wait(PATIENCE)
        assert first < verified(service)


def test_without_verify_every_nothing_is_read(here):
    """
    It is the operator's wish.
    """
    with made(here) as service:
        service._verify_if_due(service._accounts[ALICE])
        assert service._verifiers.wait(PATIENCE)
        assert 0.0 == verified(service)


def test_a_verification_gives_way(here, monkeypatch):
    """
    Its thread is nicer than the others, where the system allows that.
    """
    nice = []
    with made(here, verify_every="7d") as service:
        service._visits.verify = lambda *_args, **_kwargs: nice.append(
            os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        )
        service._verify_if_due(service._accounts[ALICE])
        assert service._verifiers.wait(PATIENCE)
        monkeypatch.setattr(os, "setpriority", refuse)
        service._verify_if_due(service._accounts[ALICE])
        assert service._verifiers.wait(PATIENCE)

    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert [max(usual, daemon.GIVING_WAY), usual] == nice


def refuse(*_args):
    raise PermissionError


def test_a_stop_ends_a_verification(here, monkeypatch):
    """
    Between two messages; nothing is remembered of it.
    """
    begun = threading.Event()
    original = Reading._judge

    def judge(self, *args):
        begun.set()
        assert self.stop.wait(PATIENCE)
        original(self, *args)

    here.write(here.account("alice", *letters(3)))
    assert 0 == here.type("fetch")[0]
    monkeypatch.setattr(Reading, "_judge", judge)
    with made(here, verify_every="7d") as service:
        stopping = stop_when(service, begun.is_set)
        assert service.run()
        stopping.join(PATIENCE)
    assert 0.0 == remembered_of(here).last_verified


def test_a_ledger_that_fails_verifies_nothing(here, monkeypatch):
    """
    The visit has told it already.
    """

    def fail(*_args):
        raise LedgerError("ledger.db", "its disk fails")

    with made(here, verify_every="7d") as service:
        with monkeypatch.context() as patch:
            patch.setattr(service.ledger, "state", fail)
            service._verify_if_due(service._accounts[ALICE])
        assert 0 == service._verifiers.active


def test_an_archive_that_cannot_be_looked_at_does_not_end_the_start(here, monkeypatch):
    """
    Its own visits will tell, and the others go on (P3).
    """

    def fail(*_args):
        raise ArchiveError("open", "x", "no")

    monkeypatch.setattr(daemon, "ledgers_at", fail)
    with made(here) as service:
        assert service.healthy is not None


# -- what is told ---------------------------------------------------------------------


def failing(error):
    def archive(*_args):
        raise error

    return archive


@pytest.mark.parametrize(
    ("error", "level", "remembered"),
    [
        (ArchiveError("read", "x", "no"), "error", True),
        (Interrupted(), "info", False),
        (ZeroDivisionError(), "error", True),
    ],
)
def test_what_ends_a_verification_early_is_told(tmp_path, error, level, remembered):
    """
    With its reason and hint; a failure is not tried again at each visit.
    """
    with visits(tmp_path) as (there, service, told):
        there.deliver(*letters(1))
        service.make(there.account, stop=threading.Event())
        told.clear()
        service._tools = replace(service._tools, archive=failing(error))
        seen = service.verify(there.account, stop=threading.Event())
        state = there.ledger.state(ALICE)

    assert seen.failure is not None
    (event,) = told
    assert (level, "archive not verified to its end") == event[:2]
    assert {"reason", "error", "hint", "seconds"} <= event[2].keys()
    assert remembered == bool(state.last_verified)


def test_what_cannot_be_remembered_is_told(tmp_path, monkeypatch):
    """
    The ledger may fail when all has been read.
    """

    def fail(*_args):
        raise LedgerError("ledger.db", "its disk fails")

    with visits(tmp_path) as (there, service, told):
        monkeypatch.setattr(there.ledger, "verified", fail)
        seen = service.verify(there.account, stop=threading.Event())

    assert isinstance(seen.failure, LedgerError)
    assert "archive not verified to its end" == told[-1][1]
