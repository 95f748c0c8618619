"""
The bars of `fetch`, as its visits move them.
"""

from __future__ import annotations

import pytest

from popfetchd.cli.bars import Bars
from popfetchd.values import AccountName


ALICE, BOB = AccountName("alice"), AccountName("bob")


@pytest.fixture
def bars():
    with Bars() as made:
        yield made


def drawn(bars):
    """
    Return what each bar shows: account, octets of how many, and messages.
    """
    return [
        (task.description, task.completed, task.total, task.fields["messages"])
        for task in bars._progress.tasks
    ]


def test_an_account_has_a_bar_once_something_is_listed(bars):
    """
    Who has nothing new has no bar.
    """
    alice, _ = bars.watch(ALICE), bars.watch(BOB)
    assert [] == drawn(bars)
    alice.listed(3, 300)
    assert [("alice", 0, 300, "0/3 archived")] == drawn(bars)


def test_a_bar_counts_octets_and_messages(bars):
    """
    Octets as they come, messages as they are archived.
    """
    alice = bars.watch(ALICE)
    alice.listed(3, 300)
    alice.received(120)
    alice.received(80)
    alice.archived(2)
    assert [("alice", 200, 300, "2/3 archived")] == drawn(bars)


def test_a_further_session_makes_the_bar_longer(bars):
    """
    A maildrop that is visited in rounds has one bar for all of them.
    """
    alice = bars.watch(ALICE)
    alice.listed(3, 300)
    alice.received(300)
    alice.archived(3)
    alice.listed(2, 50)
    assert [("alice", 300, 350, "3/5 archived")] == drawn(bars)


def test_what_comes_unlisted_draws_nothing(bars):
    """
    Without a bar there is nothing to move.
    """
    alice = bars.watch(ALICE)
    alice.received(10)
    alice.archived(1)
    assert [] == drawn(bars)


def test_accounts_have_bars_of_their_own(bars):
    """
    Side by side, in the order in which they began.
    """
    alice, bob = bars.watch(ALICE), bars.watch(BOB)
    bob.listed(1, 10)
    alice.listed(1, 20)
    bob.received(5)
    assert [("bob", 5), ("alice", 0)] == [bar[:2] for bar in drawn(bars)]


def test_an_archive_s_bar_counts_what_was_read(bars):
    """
    Octets of those that there have to be, and messages.
    """
    alice = bars.reading(ALICE)
    assert [("alice", 0, None, "")] == drawn(bars)
    alice.expected(3, 300)
    alice.read(100)
    alice.read(50)
    assert [("alice", 150, 300, "2/3 messages")] == drawn(bars)


def test_a_bar_without_an_end_counts_all_the_same(bars):
    """
    How much an archive holds is not known when a ledger is made again.
    """
    bars.reading().read(100)
    assert [("archives", 100, None, "1 messages")] == drawn(bars)
