"""
Which message is it: a real Dovecot that renames all that it holds, or names it badly.

Rules of this file:

- The maildrop is the same files throughout, behind another Dovecot each time.
- What was archived is told by the files, what it cost by the octets on the wire.
- Figures are told in a line each: POPFETCHD_ARCHIVE=10000 takes that many messages.
"""

from __future__ import annotations

import time

from contextlib import contextmanager

import pytest

from tests.letters import letters
from tests.live.conftest import MESSAGES, shout
from tests.live.dovecot import HOST, running
from tests.live.oracle import fetch_raw
from tests.relay import Relay
from tests.wire import PATIENCE, Installation


pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE)]

RENAMED = "pop3_uidl_format = renamed-%v-%u\n"

ALL_ALIKE = "pop3_uidl_format = %v\n"
"""The mailbox's number for each of its messages."""

SHIFTING = f"{ALL_ALIKE}pop3_uidl_duplicates = rename\n"
"""That number, and behind it the how many-th: all are others when one message goes."""


@pytest.fixture
def site(tmp_path):
    return Installation(tmp_path)


@contextmanager
def served(settings, user):
    """
    Serve a copy of *user*'s maildrop by a Dovecot with other *settings*.
    """
    with running(settings) as dovecot:
        yield (
            dovecot,
            dovecot.add_user(user.name, user.password, maildir=user.maildir),
        )


def visit(site, dovecot, user, **keys):
    """
    Visit in clear; return the report, the commands, and what that took.
    """
    with Relay((HOST, dovecot.ports.pop3)) as relay:
        account = site.account(
            user.name, user.password, relay.port, tls="none", auth="user", **keys
        )
        site.configure(account)
        began = time.monotonic()
        done = site.fetch()
        took = time.monotonic() - began
    assert 0 == done.code, done.stderr
    octets = sum(len(heard.down) for heard in relay.heard)
    words = [line.split()[0] for heard in relay.heard for line in heard.up.splitlines()]
    figures = f"{octets / 1e6:.1f} MB, {took:.1f} s, {words.count(b'RETR')} RETR"
    return done.report, words, f"{len(site.files('new'))} messages: {figures}"


def counts(report):
    return tuple(report[what] for what in ("archived", "matched", "removed", "waiting"))


def sent(dovecot, user):
    return sorted(
        fetch_raw(dovecot.ports.pop3s, user.name, user.password, dovecot.ca_file)
    )


def same(expected, actual):
    """
    Compare, without pytest's wish to show how megabytes differ.
    """
    return expected == actual


def test_a_reset_archives_nothing_again(dovecot, site, pytestconfig):
    """
    Every unique-id is another: what a header names is not even retrieved; nothing is
    archived, and nothing removed before all is matched; then all of it is.
    """
    user = dovecot.add_user()
    user.deliver(letter.stored for letter in letters(MESSAGES, seed=41))
    expected = sent(dovecot, user)
    report, _, first = visit(site, dovecot, user)
    assert (MESSAGES, 0, 0, 0) == counts(report)
    _, _, known = visit(site, dovecot, user)

    with served(RENAMED, user) as (other, moved):
        report, words, reset = visit(site, other, moved, delete_after="1h")
        assert (0, MESSAGES, 0, 0) == counts(report)
        assert words.count(b"RETR") < MESSAGES / 3
        report, words, calm = visit(site, other, moved)
        assert (0, 0) == (report["matched"], words.count(b"TOP"))
        report, _, last = visit(site, other, moved, delete_after="verified")
        assert (0, MESSAGES, 0) == (*counts(report)[::2], moved.count())
    assert same(expected, site.archived())
    for what, line in (
        ("first visit", first),
        ("nothing new", known),
        ("reset", reset),
        ("nothing new after it", calm),
        ("all removed", last),
    ):
        shout(pytestconfig, f"{what}, {line}")


@pytest.mark.parametrize("settings", [ALL_ALIKE, SHIFTING])
def test_bad_unique_ids_archive_each_copy_once(dovecot, site, settings, pytestconfig):
    """
    One unique-id for all messages, or one that is another when a message goes: a true
    second copy is kept, nothing comes twice, and all is removed by proof.
    """
    user, several = dovecot.add_user(), [*letters(MESSAGES // 3, seed=42)]
    pairs = [letter.stored for letter in (*several, *several[: len(several) // 2])]
    user.deliver(pairs)

    with served(settings, user) as (other, moved):
        expected = sent(other, moved)
        report, _, first = visit(site, other, moved)
        assert (len(pairs), 0, 0, 0) == counts(report)
        report, words, known = visit(site, other, moved)
        assert ((0, 0, 0, 0), 0) == (counts(report), words.count(b"RETR"))

        moved.files()[1].unlink()
        report, _, shifted = visit(site, other, moved)
        assert 0 == report["archived"]
        report, _, last = visit(site, other, moved, delete_after="verified")
        assert (0, len(pairs) - 1, 0) == (*counts(report)[::2], moved.count())
    assert same(expected, site.archived())
    name = settings.splitlines()[-1]
    for what, line in (
        ("first visit", first),
        ("nothing new", known),
        ("one message less", shifted),
        ("all removed", last),
    ):
        shout(pytestconfig, f"{name}: {what}, {line}")
