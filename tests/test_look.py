"""
Looking at a maildrop: what is shown, and that nothing is touched.
"""

from __future__ import annotations

import base64

from contextlib import contextmanager
from dataclasses import replace

import pytest

from hypothesis import example, given
from hypothesis import strategies as st

from popfetchd.ledger import Glimpse
from popfetchd.look import (
    LONGEST_TEXT,
    Checked,
    Line,
    check,
    messages,
    preview,
    summary,
)
from popfetchd.maildrop.dialogue import error, ok
from popfetchd.pop3.transport import Deadline
from popfetchd.values import Channel, DropListing, Mechanism, Skip
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


# -- check ----------------------------------------------------------------------------


def test_check_shows_what_the_server_showed(here):
    """
    Channel, greeting, capabilities after the login, how we logged in, and STAT.
    """
    here.deliver(letter(b"one"), letter(b"two"))
    here.server._lacks = frozenset({"APOP"})

    with logged_in(here) as session:
        seen = check(session)

    size = len(letter(b"one"))
    assert (
        Checked(
            Channel("127.0.0.1"),
            "popfetchd maildrop ready",
            (
                "AUTH-RESP-CODE",
                "IMPLEMENTATION popfetchd-maildrop",
                "PIPELINING",
                "RESP-CODES",
                "SASL PLAIN",
                "TOP",
                "UIDL",
                "USER",
            ),
            Mechanism.PLAIN,
            DropListing(2, 2 * size),
        )
        == seen
    )


@pytest.mark.parametrize("mechanism", [Mechanism.USER, Mechanism.APOP])
def test_check_tells_which_login_was_used(here, mechanism):
    """
    What the configuration asked for by name is what is told.
    """
    with logged_in(here, mechanism) as session:
        assert mechanism == check(session).mechanism


def test_auto_takes_user_where_plain_is_not_offered(here):
    """
    Without SASL the name that is told is USER.
    """
    here.server._lacks = frozenset({"SASL"})
    with logged_in(here) as session:
        assert Mechanism.USER == check(session).mechanism


# -- list -----------------------------------------------------------------------------


def test_each_message_is_a_line(here):
    """
    Number, unique-id, octets, date, sender and subject; and whether it is archived.
    """
    here.deliver(letter(b"old"), unique_id="a")
    here.visit()
    here.deliver(letter(b"=?utf-8?q?n=C3=ABw?="), unique_id="b")

    with logged_in(here) as session:
        shown = list(messages(session, archived(here)))

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
        (line,) = messages(session, archived(here))

    assert Line(1, "a", len(letter(b"one")), "", "", "", archived=False) == line


def test_without_unique_ids_nothing_is_known_to_be_archived(here):
    """
    Where UIDL is refused no line claims a copy, though one may be there.
    """
    here.speak(UIDL=lambda _self, _text: error("unknown command"))
    here.deliver(letter(b"one"))
    here.visit()

    with logged_in(here) as session:
        (line,) = messages(session, archived(here))

    assert (None, False) == (line.unique_id, line.archived)


def test_without_sizes_a_line_has_none(here):
    """
    Where LIST is refused the octets are unknown.
    """
    here.speak(LIST=lambda _self, _text: error("unknown command"))
    here.deliver(letter(b"one"))

    with logged_in(here) as session:
        (line,) = messages(session, archived(here))

    assert line.octets is None


def test_an_empty_maildrop_has_no_lines(here):
    """
    Nothing there, nothing shown.
    """
    with logged_in(here) as session:
        assert [] == list(messages(session, archived(here)))


# -- dry run --------------------------------------------------------------------------


def test_a_preview_is_what_a_visit_then_does(here):
    """
    New messages are wanted, due ones removable, large ones skipped.
    """
    here.deliver(letter(b"old"))
    here.visit()
    here.deliver(letter(b"new"), letter(b"big", b"x" * 500 + b"\r\n"))
    account = replace(here.account, delete_after=30.0, max_message_size=400)

    with logged_in(here) as session:
        seen = preview(session, account, here.ledger, here.time + 60)
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
        check(session)
        list(messages(session, archived(here)))
        preview(session, here.account, here.ledger, here.time)

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


# -- headers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        (b"", ("", "", "")),
        (b"Subject: plain\r\n", ("", "", "plain")),
        (b"SUBJECT:tight\r\n", ("", "", "tight")),
        (b"Subject: folded\r\n over\r\n\tlines\r\n", ("", "", "folded over lines")),
        (b"Subject: =?utf-8?b?w7ZsZA==?=\r\n", ("", "", "öld")),
        (b"Subject: =?utf-8?q?a?= =?latin-1?q?=E9?=\r\n", ("", "", "aé")),
        (b"Subject: =?klingon?q?a?=\r\n", ("", "", "=?klingon?q?a?=")),
        (b"Subject: =?utf-8?b?a?=\r\n", ("", "", "=?utf-8?b?a?=")),
        (b"Subject: =?\xff?q?x?=\r\n", ("", "", "=?\ufffd?q?x?=")),
        (b"Subject: caf\xe9\r\n", ("", "", "caf\ufffd")),
        (b"Subject: one\r\nSubject: two\r\n", ("", "", "one")),
        (b"From: \x1b[2Jada\r\n", ("", "\x1b[2Jada", "")),
        (b"Date: Tue, 14 Nov 2023 22:13:20 -0500\r\n", ("2023-11-14T22:13:20-05:00",)),
        (b"Date: 14 Nov 2023 22:13\r\n", ("2023-11-14T22:13:00",)),
        (b"Date: yesterday\r\n", ("",)),
        (b"Date: Tue, 99 Nov 2023 22:13:20 +0000\r\n", ("",)),
        (b"Date: Tue, 14 Nov 2023 22:13:20 +9999999999\r\n", ("",)),
        (b"no header at all", ("", "", "")),
    ],
)
def test_what_a_header_says(header, shown):
    """
    RFC 2047 is decoded where it is well formed, else the text is shown as it stands.
    """
    assert shown == summary(header)[: len(shown)]


def encoded_words():
    """
    Return a strategy of what claims to be RFC 2047, with any charset and octets.
    """
    charset = st.sampled_from(
        [b"utf-8", b"utf-7", b"idna", b"hex", b"\xff", b"a\0b", b""]
    )
    return st.builds(
        lambda name, text: b"=?%s?b?%s?=" % (name, base64.b64encode(text)),
        charset | st.binary(max_size=8),
        st.binary(max_size=20),
    )


@given(
    st.binary(max_size=400)
    | st.builds(
        lambda name, parts: name + b": " + b"".join(parts) + b"\r\n",
        st.sampled_from([b"From", b"Date", b"Subject"]),
        st.lists(st.binary(max_size=20) | encoded_words(), max_size=5),
    )
)
@example(b"Subject: =?utf-7?q?+2AA-?=\r\n")
@example(b"Date: 1 Jan 0000 00:00:00 +0000\r\n")
def test_any_octets_give_three_texts(header):
    """
    No header, however hostile, raises: one bad message must not hide the others.
    """
    shown = summary(header)
    assert [str, str, str] == [type(text) for text in shown]
    for text in shown:
        assert len(text) <= LONGEST_TEXT


@pytest.mark.parametrize(
    "field", [b"=?a?q?b?= " * 100_000, b"=?utf-8?q?b?=\r\n " * 60_000, b"(" * 1_000_000]
)
@pytest.mark.parametrize("name", [b"Subject", b"From", b"Date"])
def test_a_megabyte_of_one_field_costs_little(name, field):
    """
    What is read of a field is bounded before it is decoded; the rest is left out.
    """
    assert all(len(text) <= LONGEST_TEXT for text in summary(name + b": " + field))


def test_the_unknown_answers_of_capa_are_shown(here):
    """
    What we do not know is shown as the server wrote it, arguments and all.
    """
    lines = b"UIDL\r\nX-Odd \x1b[2J 1\r\n.\r\n"
    here.speak(CAPA=lambda _self, _text: ok("") + lines)
    with logged_in(here, Mechanism.USER) as session:
        assert ("UIDL", "X-ODD \x1b[2J 1") == check(session).capabilities
