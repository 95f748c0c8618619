"""
A whole maildrop of difficult letters: each in the archive once, octet for octet.
"""

from __future__ import annotations

import pytest

from tests.letters import EMPTY, KINDS, LARGE, letters
from tests.live.dovecot import HOST, running
from tests.live.oracle import fetch_raw
from tests.relay import Flow, Relay, Trouble
from tests.wire import PATIENCE, Installation


pytestmark = [pytest.mark.live, pytest.mark.timeout(2 * PATIENCE)]


@pytest.fixture
def site(tmp_path):
    return Installation(tmp_path)


def served(dovecot, user):
    """
    Return, sorted, what Dovecot sends of each message of *user*.
    """
    port, ca_file = dovecot.ports.pop3s, dovecot.ca_file
    return sorted(fetch_raw(port, user.name, user.password, ca_file))


def over_tls(site, dovecot, user, **keys):
    """
    Configure *user*'s maildrop, over POP3S.
    """
    port, ca_file = dovecot.ports.pop3s, dovecot.ca_file
    account = site.account(user.name, user.password, port, ca_file=ca_file, **keys)
    site.configure(account)


def commands(site, dovecot, user, **keys):
    """
    Visit *user*'s maildrop in clear; return how it ended, and the commands it took.
    """
    with Relay((HOST, dovecot.ports.pop3)) as relay:
        account = site.account(
            user.name, user.password, relay.port, tls="none", auth="user", **keys
        )
        site.configure(account)
        done = site.fetch()
    (heard,) = relay.heard
    return done, [bytes(line).split()[0] for line in heard.up.splitlines()]


@pytest.mark.slow
def test_a_thousand_letters_are_archived_as_they_were_sent(dovecot, site):
    """
    The archive holds each of them once, the next visit takes one listing, Dovecot serves
    the archive as it served the maildrop, and `verified` empties that in the end.
    """
    user = dovecot.add_user()
    user.deliver(letter.stored for letter in [*letters(999, large=LARGE), EMPTY])
    sent = served(dovecot, user)
    over_tls(site, dovecot, user)

    first = site.fetch()
    assert (0, 1000, 0) == (
        first.code,
        first.report["archived"],
        first.report["waiting"],
    )
    assert same(sent, site.archived())
    assert [] == site.unfinished()

    again, spoken = commands(site, dovecot, user)
    assert (0, 0) == (again.code, again.report["archived"])
    assert b"CAPA USER PASS CAPA UIDL LIST QUIT".split() == spoken

    copy = dovecot.add_user(maildir=site.maildir())
    assert 1000 == dovecot.imap_count(copy)
    assert same(sent, served(dovecot, copy))

    over_tls(site, dovecot, user, delete_after="verified")
    last = site.fetch()
    assert (0, 0, 1000) == (last.code, last.report["archived"], last.report["removed"])
    assert 0 == user.count()
    assert same(sent, site.archived())


def same(expected, actual):
    """
    Compare, without pytest's wish to show how megabytes differ.
    """
    return expected == actual


def test_a_verified_maildrop_is_emptied_in_the_same_visit(dovecot, site):
    """
    What is archived, proved and recorded leaves the server at once, nothing else does.
    """
    user = dovecot.add_user()
    user.deliver(letter.stored for letter in letters(len(KINDS), seed=2))
    sent = served(dovecot, user)
    over_tls(site, dovecot, user, delete_after="verified")

    done = site.fetch()

    assert (0, len(KINDS)) == (done.code, done.report["removed"])
    assert 0 == user.count()
    assert same(sent, site.archived())
    assert {("removed",)} == set(site.rows("state"))


def test_removal_after_a_time_waits_for_it_and_retrieves_nothing(dovecot, site):
    """
    `delete_after: 1h` leaves all alone for an hour; then TOP is proof enough.
    """
    user = dovecot.add_user()
    user.deliver(letter.stored for letter in letters(len(KINDS), seed=3))
    sent = served(dovecot, user)
    assert 0 == commands(site, dovecot, user, delete_after="1h")[0].code

    early, _ = commands(site, dovecot, user, delete_after="1h")
    assert (0, len(KINDS)) == (early.report["removed"], user.count())

    site.change("UPDATE message SET archived_at = archived_at - 3601")
    late, spoken = commands(site, dovecot, user, delete_after="1h")
    assert (0, len(KINDS)) == (late.report["archived"], late.report["removed"])
    assert (len(KINDS), 0) == (spoken.count(b"TOP"), spoken.count(b"RETR"))
    assert 0 == user.count()
    assert same(sent, site.archived())


def test_two_at_once_archive_nothing_twice(dovecot, site):
    """
    `fetch` beside `fetch` waits for the account, and then finds nothing to do.
    """
    user = dovecot.add_user()
    user.deliver(letter.stored for letter in letters(200, seed=4))
    sent = served(dovecot, user)
    slow = Trouble(down=Flow(latency=0.05))  # so that the visits would overlap
    with Relay((HOST, dovecot.ports.pop3s), slow) as relay:
        account = site.account(
            user.name,
            user.password,
            relay.port,
            ca_file=dovecot.ca_file,
            delete_after="verified",
        )
        site.configure(account)
        both = [site.start(), site.start()]
        told = [site.finish(process) for process in both]

    assert [0, 0] == [done.code for done in told]
    assert [0, 200] == sorted(done.report["archived"] for done in told)
    assert 0 == user.count()
    assert same(sent, site.archived())


def test_new_unique_ids_for_all_archive_nothing_again(dovecot, site):
    """
    A server that renames every message is matched by content: nothing comes twice, and
    nothing is removed before all are matched.
    """
    user = dovecot.add_user()
    user.deliver(letter.stored for letter in letters(30, seed=5))
    sent = served(dovecot, user)
    over_tls(site, dovecot, user)
    assert 30 == site.fetch().report["archived"]

    with running("pop3_uidl_format = %v-%u\n") as other:
        moved = other.add_user(user.name, user.password, maildir=user.maildir)
        over_tls(site, other, moved, delete_after="verified")
        reset, calm = site.fetch(), site.fetch()

    assert (0, 30, 0) == tuple(
        reset.report[k] for k in ("archived", "matched", "removed")
    )
    assert (0, 0, 30) == tuple(
        calm.report[k] for k in ("archived", "matched", "removed")
    )
    assert same(sent, site.archived())
