"""
Going through a maildrop: what is shown of a message, and when it counts as archived.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest

from popfetchd.errors import CommandRefused
from popfetchd.look import Browsing, browsing
from popfetchd.maildrop.dialogue import error
from popfetchd.pop3.deadline import Deadline
from tests.world import SECRET, USER, Secret, world


@pytest.fixture
def here(tmp_path):
    with world(tmp_path) as made:
        yield made


@contextmanager
def browsed(here):
    """
    Give the maildrop as `browse` has it.
    """
    with here.means.connect(here.account.server, Deadline(5.0)) as session:
        session.login(USER, Secret(SECRET), here.account.login.mechanism)
        yield Browsing(session, here.account, here.ledger)


def letter(subject):
    return b"From: a\r\nSubject: " + subject + b"\r\n\r\nHello.\r\n"


def proven(here):
    """
    Return which messages are shown as archived.
    """
    with browsed(here) as drop:
        return [n for n in drop.numbers if drop.show(n).proven]


def test_a_message_is_shown_by_its_header(here):
    """
    With what the listing says of it.
    """
    here.deliver(letter(b"one"), unique_id="a")
    with browsed(here) as drop:
        shown = drop.show(1)
    assert ("", "a", "one") == tuple(shown.summary)
    assert ("a", 33, 1) == (
        shown.listed.unique_id,
        shown.listed.octets,
        drop.drop.messages,
    )
    assert shown.proven is None


def test_what_a_visit_archived_is_proven(here):
    """
    By unique-id, octets and header; what came later is not.
    """
    here.deliver(letter(b"one"))
    here.visit()
    here.deliver(letter(b"two"))
    assert [1] == proven(here)


def test_a_unique_id_proves_nothing_alone(here):
    """
    Another header under it, or twice the same one: not archived, for all we know.
    """
    here.deliver(letter(b"one"), unique_id="a")
    here.visit()
    here.maildrop.remove(here.maildrop.messages)
    here.deliver(letter(b"two"), unique_id="a")
    assert [] == proven(here)
    here.deliver(letter(b"one"), unique_id="a")
    assert [] == proven(here)


def test_what_vanished_and_came_back_is_not_proven(here):
    """
    Its unique-id says nothing any more.
    """
    here.deliver(letter(b"one"), unique_id="a")
    here.visit()
    here.maildrop.remove(here.maildrop.messages)
    here.visit()
    here.deliver(letter(b"one"), unique_id="a")
    assert [] == proven(here)


def test_a_server_without_unique_ids_proves_nothing(here):
    """
    Nor one that lists the numbers in their place.
    """
    here.deliver(letter(b"one"), unique_id="1")
    here.visit()
    assert [] == proven(here)
    here.speak(UIDL=lambda *_: error("no"))
    assert [] == proven(here)


def test_a_message_is_opened_with_top(here, monkeypatch):
    """
    All of it if it is short; what may have been cut says so.
    """
    here.deliver(letter(b"one"))
    with browsed(here) as drop:
        assert (letter(b"one"), False) == (drop.open(1).octets, drop.open(1).cut)
        monkeypatch.setattr(browsing, "TOP_OCTETS", 33)
        assert drop.open(1).cut
        monkeypatch.undo()
        monkeypatch.setattr(browsing, "WHOLE", 1)
        assert drop.open(1).cut
    assert b"RETR" not in here.server.wire


def test_where_top_is_refused_there_is_little_to_show(here):
    """
    The message is shown without texts, and cannot be opened.
    """
    here.deliver(letter(b"one"))
    here.visit()
    here.speak(TOP=lambda *_: error("no"))
    with browsed(here) as drop:
        shown = drop.show(1)
        assert (("", "", ""), None) == (tuple(shown.summary), shown.proven)
        with pytest.raises(CommandRefused):
            drop.open(1)


def test_staying_is_noop(here):
    """
    Whatever the server answers.
    """
    with browsed(here) as drop:
        drop.stay()
        assert here.server.wire.endswith(b"NOOP\r\n")
    here.speak(NOOP=lambda *_: error("no"))
    with browsed(here) as drop:
        drop.stay()


def test_other_accounts_prove_nothing(here):
    """
    The ledger is asked for this account alone.
    """
    here.deliver(letter(b"one"))
    here.visit()
    here.account = replace(here.account, name="bob")
    assert [] == proven(here)
