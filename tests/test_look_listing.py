"""
A maildrop line by line: what is shown, and that nothing is touched.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest

from popfetchd.ledger import Glimpse
from popfetchd.look import Line, lines, preview
from popfetchd.maildrop.dialogue import error
from popfetchd.pop3.deadline import Deadline
from popfetchd.values import DropListing, Mechanism, Skip
from tests.world import SECRET as PASSWORD
from tests.world import USER, Secret, world


@pytest.fixture
def here(tmp_path):
    with world(tmp_path) as made:
        yield made


@contextmanager
def logged_in(here, mechanism=Mechanism.AUTO):
    """
    Give a session that has logged in, as `check` and `list` are given one.
    """
    with here.means.connect(here.account.server, Deadline(5.0)) as session:
        session.login(USER, Secret(PASSWORD), mechanism)
        yield session
        session.quit()


def archived(here):
    """
    Return what `list` finds in the ledger.
    """
    return Glimpse(here.ledger.path).archived(here.account.name)


def letter(subject, body=b"Hello.\r\n"):
    """
    Return a message of 2023 by Ada.
    """
    return (
        b"From: Ada <ada@example.org>\r\n"
        b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
        b"Subject: " + subject + b"\r\n\r\n" + body
    )


# -- list -----------------------------------------------------------------------------


def test_each_message_is_a_line(here):
    """
    Number, unique-id, octets, date, sender and subject; and whether it is archived.
    """
    here.deliver(letter(b"old"), unique_id="a")
    here.visit()
    here.deliver(letter(b"=?utf-8?q?n=C3=ABw?="), unique_id="b")

    with logged_in(here) as session:
        shown = list(lines(session, session.listing(), archived(here)))

    ada, when = "Ada <ada@example.org>", "2023-11-14T22:13:20+00:00"
    assert [
        Line(1, "a", len(letter(b"old")), when, ada, "old", archived=True),
        Line(2, "b", 109, when, ada, "nëw", archived=False),
    ] == shown


def test_what_top_refuses_is_a_line_all_the_same(here):
    """
    A message whose header is not to be had is shown without it.
    """
    here.deliver(letter(b"one"), unique_id="a")
    here.speak(TOP=lambda _self, _text: error("no TOP today"))

    with logged_in(here) as session:
        (line,) = lines(session, session.listing(), archived(here))

    assert Line(1, "a", len(letter(b"one")), "", "", "", archived=False) == line


def test_without_unique_ids_nothing_is_known_to_be_archived(here):
    """
    Where UIDL is refused no line claims a copy, though one may be there.
    """
    here.speak(UIDL=lambda _self, _text: error("unknown command"))
    here.deliver(letter(b"one"))
    here.visit()

    with logged_in(here) as session:
        (line,) = lines(session, session.listing(), archived(here))

    assert (None, False) == (line.unique_id, line.archived)


def test_without_sizes_a_line_has_none(here):
    """
    Where LIST is refused the octets are unknown.
    """
    here.speak(LIST=lambda _self, _text: error("unknown command"))
    here.deliver(letter(b"one"))

    with logged_in(here) as session:
        (line,) = lines(session, session.listing(), archived(here))

    assert line.octets is None


def test_an_empty_maildrop_has_no_lines(here):
    """
    Nothing there, nothing shown.
    """
    with logged_in(here) as session:
        assert [] == list(lines(session, session.listing(), archived(here)))


# -- dry run --------------------------------------------------------------------------


def looked(here, session, account, now):
    """
    Return the preview of a visit, by what the ledger knows.
    """
    known = here.ledger.known(account.name)
    return preview(session, account, known, here.ledger.failures(account.name), now)


def test_a_preview_is_what_a_visit_then_does(here):
    """
    New messages are wanted, due ones removable, large ones skipped.
    """
    here.deliver(letter(b"old"))
    here.visit()
    here.deliver(letter(b"new"), letter(b"big", b"x" * 500 + b"\r\n"))
    account = replace(here.account, delete_after=30.0, max_message_size=400)

    with logged_in(here) as session:
        seen = looked(here, session, account, here.time + 60)
    report = here.visit(delete_after=30.0, max_message_size=400)

    assert DropListing(3, report.drop.octets) == seen.drop
    assert [2] == [listed.number for listed in seen.selection.wanted]
    assert [1] == [due.listed.number for due in seen.selection.removable]
    assert {Skip.TOO_LARGE: 1} == seen.selection.skipped == report.skipped
    assert (1, 1) == (report.archived, report.removed)


# -- nothing is touched ---------------------------------------------------------------


def test_looking_retrieves_removes_and_records_nothing(here):
    """
    No RETR, no DELE; ledger, archive and maildrop stay as they were.
    """
    here.deliver(letter(b"one"), letter(b"two"))
    here.visit()
    here.deliver(letter(b"three"))
    before = here.rows(), here.files("new"), here.waiting(), here.ledger.states()
    wire = here.server.wire

    with logged_in(here) as session:
        list(lines(session, session.listing(), archived(here)))
        looked(here, session, here.account, here.time)

    said = here.server.wire.removeprefix(wire)
    assert b"TOP 3 0\r\n" in said
    assert b"RETR" not in said
    assert b"DELE" not in said
    assert before == (
        here.rows(),
        here.files("new"),
        here.waiting(),
        here.ledger.states(),
    )
