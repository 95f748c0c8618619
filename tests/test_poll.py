"""
One visit, end to end, against a real server on loopback: what must hold whatever it does.
"""

from __future__ import annotations

import errno
import os
import time

from dataclasses import replace

import pytest

from hypothesis import given, settings
from hypothesis import strategies as st

from popfetchd.archive.maildir import Maildir
from popfetchd.errors import (
    AccountLocked,
    ArchiveError,
    CommandRefused,
    Disconnected,
    Interrupted,
    LedgerBehind,
    LimitExceeded,
    NearlyFull,
    ProtocolViolation,
    SystemTemporary,
    TooSoon,
    Unexpected,
)
from popfetchd.ledger import Ledger
from popfetchd.maildrop.dialogue import ALWAYS, BEFORE_LOGIN, Dialogue, error, ok, top
from popfetchd.pop3.deadline import Deadline
from popfetchd.pop3.session import Session
from popfetchd.values import (
    ArchiveFormat,
    Destination,
    Habits,
    Octets,
    Outcome,
    Since,
    Skip,
    UniqueId,
    Unproven,
)
from popfetchd.visit import archiving, course
from tests.world import world


YEARS = 1e9
"""Seconds after which a message may be removed, which no test waits for."""


@pytest.fixture
def here(tmp_path):
    with world(tmp_path) as made:
        yield made


def letters(count, start=0):
    """
    Return messages of different content and the same length.
    """
    return [
        b"Subject: %04d\r\n\r\nbody of %04d\r\n" % (n, n)
        for n in range(start, start + count)
    ]


def test_every_message_is_archived_once(here):
    """
    A first visit archives all, a second one none; the maildrop stays as it was.
    """
    here.deliver(*letters(7))

    first, second = here.visit(), here.visit()

    assert Outcome.SUCCESS == first.outcome == second.outcome
    assert (7, 0) == (first.archived, second.archived)
    assert here.waiting() == here.archived()
    assert [] == here.files("tmp")


def test_an_empty_maildrop_is_a_success(here):
    """
    Nothing to do is no failure.
    """
    assert Outcome.SUCCESS == here.visit().outcome


def test_verified_messages_are_removed(here):
    """
    `delete_after: verified` empties the maildrop in the visit that archives.
    """
    sent = letters(7)
    here.deliver(*sent)

    report = here.visit(delete_after=0.0)

    assert (7, 7) == (report.archived, report.removed)
    assert [] == here.waiting()
    assert sent == here.archived()


def test_removal_after_a_time_needs_no_second_retrieval(here):
    """
    A message whose time has come is confirmed by TOP and removed; it is not archived
    again.
    """
    here.deliver(*letters(3))
    here.visit(delete_after=100.0)
    assert 3 == len(here.waiting())

    report = here.visit(delete_after=60.0)

    assert (0, 3) == (report.archived, report.removed)
    assert [] == here.waiting()
    assert b"TOP" in here.server.wire
    assert 3 == here.server.wire.count(b"RETR")


def test_without_top_a_due_message_is_retrieved_to_prove_it(here):
    """
    Where TOP is refused the content decides, and nothing is archived twice.
    """
    here.deliver(*letters(3))
    here.visit()
    here.speak(TOP=lambda _self, _text: error("unknown command"))

    report = here.visit(delete_after=0.0)

    assert (0, 3, 3) == (report.archived, report.matched, report.removed)
    assert {Unproven.REFUSED: 3} == report.unproven
    assert 3 == len(here.archived())


def test_another_message_under_a_known_unique_id_is_not_removed_unread(here):
    """
    A unique-id that was given to another message of the same size archives it first.
    """
    one, other = letters(2)
    here.deliver(one, unique_id="same")
    here.visit()
    here.maildrop.remove(here.maildrop.messages)
    here.deliver(other, unique_id="same")

    report = here.visit(delete_after=0.0)

    assert {Unproven.MISMATCH: 1} == report.unproven
    assert 1 == report.archived
    assert [one, other] == here.archived()


def test_copies_under_one_unique_id_are_all_archived(here):
    """
    Two messages that share a unique-id are two messages, retrieved once each.
    """
    sent = letters(2)
    here.deliver(*sent, unique_id="same")

    first, second, third = here.visit(), here.visit(), here.visit(delete_after=0.0)

    assert (2, 0, 0) == (first.archived, second.archived, third.archived)
    assert (0, 2) == (second.matched, third.matched)
    assert [] == here.waiting()
    assert sent == here.archived()


def test_two_identical_copies_are_two_messages(here):
    """
    What is listed twice at once is archived twice, and never a third time.
    """
    sent = letters(1) * 2
    here.deliver(*sent)

    here.visit()
    here.visit()

    assert sent == here.archived()


def test_new_unique_ids_for_old_messages_archive_nothing_again(here):
    """
    A server that renames every message is matched by content, and says so.
    """
    here.deliver(*letters(20))
    here.visit()
    sent = [message.octets for message in here.maildrop.messages]
    here.maildrop.remove(here.maildrop.messages)
    here.deliver(*sent)

    report = here.visit(delete_after=0.0)

    assert report.reset
    assert (0, 20, 0) == (report.archived, report.matched, report.removed)
    assert sorted(sent) == here.archived()
    assert 20 == here.visit(delete_after=0.0).removed


def test_removals_pause_until_a_reset_is_matched(here, monkeypatch):
    """
    After a reset nothing is removed while a message still waits to be matched.
    """
    here.deliver(*letters(20))
    here.visit()
    sent = [message.octets for message in here.maildrop.messages]
    here.maildrop.remove(here.maildrop.messages)
    here.deliver(*sent)
    here.speak(CAPA=lambda self, _t: ok("") + b"LOGIN-DELAY 1\r\nUIDL\r\nTOP\r\n.\r\n")
    monkeypatch.setattr("popfetchd.selection.ROUND_MESSAGES", 15)

    first = here.visit(delete_after=0.0)
    second = here.visit(delete_after=0.0)
    third = here.visit(delete_after=0.0)

    assert (True, 0, 5) == (first.removals_paused, first.removed, first.waiting)
    assert {Unproven.PAUSED: 15} == second.unproven
    assert (False, 0) == (second.removals_paused, second.removed)
    assert 20 == third.removed
    assert 20 == len(here.archived())


def test_a_server_without_unique_ids_archives_once(here):
    """
    Without UIDL every message is retrieved, and matched by content.
    """
    here.deliver(*letters(4))
    here.speak(UIDL=lambda _self, _text: error("unknown command"))

    first, second, third = here.visit(), here.visit(), here.visit(delete_after=0.0)

    assert (4, 0, 0) == (first.archived, second.archived, third.archived)
    assert (4, 4) == (third.matched, third.removed)
    assert 4 == len(here.archived())


def test_one_refused_message_does_not_stop_the_others(here):
    """
    -ERR to one RETR: all others are archived, and removed in a session of their own.
    """
    sent = letters(5)
    here.deliver(*sent)
    here.speak(RETR=refusing("3"))

    report = here.visit(delete_after=0.0)

    assert Outcome.PARTIAL == report.outcome
    assert 1 == len(report.failed_messages)
    assert (4, 4, 1) == (report.archived, report.removed, report.waiting)
    assert [sent[2]] == here.waiting()


def refusing(*numbers):
    def answer(self, text):
        return error("cannot") if text in numbers else Dialogue._retr(self, text)

    return answer


def test_a_session_with_a_refused_message_ends_without_quit(here):
    """
    A RETR that was sent and got no receipt forbids QUIT: the server might hide it.
    """
    here.deliver(*letters(3))
    here.speak(RETR=refusing("2"))

    here.visit()

    assert b"QUIT" not in here.server.wire


def test_a_message_that_fails_three_visits_is_quarantined_for_a_day(here):
    """
    It is skipped, kept and shown; after a day it is tried again, and forgiven.
    """
    sent = letters(2)
    here.deliver(*sent)
    here.speak(RETR=refusing("1"))
    for _ in range(3):
        assert 1 == here.visit().waiting

    rests = here.visit()
    assert (1, {Skip.QUARANTINED: 1}) == (rests.quarantined, rests.skipped)
    assert Outcome.SUCCESS == rests.outcome

    here.speak()
    assert 0 == here.visit().archived
    here.time += 86_400
    assert 1 == here.visit().archived
    assert {} == here.ledger.failures(here.account.name)
    assert sent == here.archived()


def test_when_every_message_is_refused_it_is_the_server(here):
    """
    Then no message is counted as failed: none of them is to blame.
    """
    here.deliver(*letters(3))
    here.speak(RETR=lambda _self, _text: error("not today"))

    report = here.visit()

    assert isinstance(report.failure, CommandRefused)
    assert {} == here.ledger.failures(here.account.name)


def test_what_is_refused_again_is_to_blame(here):
    """
    Two messages that were refused before, when others were not, are quarantined; though
    in a session of their own every message is refused.
    """
    here.deliver(*letters(4))
    here.speak(RETR=refusing("2", "3"))

    reports = [here.visit() for _ in range(4)]

    assert [2, 2, 2, 0] == [len(report.failed_messages) for report in reports]
    assert [0, 0, 2, 2] == [report.quarantined for report in reports]
    assert Outcome.SUCCESS == reports[3].outcome


def test_a_refusal_with_a_code_ends_the_visit(here):
    """
    [SYS/TEMP] to a RETR speaks of the server: what was complete is kept all the same.
    """
    here.deliver(*letters(3))
    here.speak(RETR=refusing_with("3", "[SYS/TEMP] disk trouble"))

    report = here.visit()

    assert isinstance(report.failure, SystemTemporary)
    assert 2 == report.archived
    here.speak()
    assert 1 == here.visit().archived
    assert {} == here.ledger.failures(here.account.name)


def test_a_code_that_one_message_always_gets_does_not_stop_the_others(here):
    """
    Dovecot says [SYS/TEMP] of a single broken message: the others come first next time.
    """
    here.deliver(*letters(4))
    here.speak(RETR=refusing_with("2", "[SYS/TEMP] Internal error occurred"))

    assert [1, 2, 0] == [here.visit().archived for _ in range(3)]
    assert here.visit(delete_after=0.0).failure is None
    assert 1 == len(here.waiting())


def refusing_with(number, text):
    def answer(self, argument):
        return error(text) if argument == number else Dialogue._retr(self, argument)

    return answer


def test_a_line_that_drops_in_a_message_keeps_the_complete_ones(here):
    """
    What was complete is archived, the torn one is blamed, and nothing is removed.
    """
    sent = letters(4)
    here.deliver(*sent)
    here.speak(RETR=dropping("3"))

    report = here.visit(delete_after=0.0)

    assert isinstance(report.failure, Disconnected)
    assert (2, 0) == (report.archived, report.removed)
    third = here.maildrop.messages[2].unique_id
    assert [third] == list(here.ledger.failures(here.account.name))
    here.speak()
    assert 2 == here.visit(delete_after=0.0).archived
    assert sent == here.archived()
    assert [] == here.files("tmp")


def dropping(number):
    def answer(self, text):
        if text == number:
            self.close()
            return b"+OK 20 octets\r\nSubject: half of"
        return Dialogue._retr(self, text)

    return answer


def test_a_message_that_grows_beyond_the_limit_is_its_own_failure(here):
    """
    A listing that understates a message's octets does not get it past the limit.
    """
    here.deliver(b"Subject: big\r\n\r\n" + b"x" * 1000 + b"\r\n")
    here.speak(LIST=lambda _self, _text: ok("") + b"1 10\r\n.\r\n")

    report = here.visit(max_message_size=Octets(500))

    assert isinstance(report.failure, LimitExceeded)
    assert 1 == len(here.ledger.failures(here.account.name))
    assert [] == here.files("tmp")


def test_an_archive_error_ends_the_visit_without_quit(here, monkeypatch):
    """
    A copy that cannot be made is not removed, and not hidden by a QUIT either.
    """

    def full(*_args):
        raise ArchiveError("fsync", "x", "No space left on device")

    here.deliver(*letters(2))
    monkeypatch.setattr("popfetchd.archive.maildir.Maildir.prove", full)

    report = here.visit(delete_after=0.0)

    assert isinstance(report.failure, ArchiveError)
    assert 2 == len(here.waiting())
    assert b"QUIT" not in here.server.wire
    monkeypatch.undo()
    assert 2 == here.visit(delete_after=0.0).removed
    assert [] == here.files("tmp")


def test_a_refused_quit_leaves_it_to_the_next_listing(here):
    """
    Marked is not removed: what UPDATE did after a -ERR the next visit finds out.
    """
    here.deliver(*letters(2))
    here.speak(QUIT=lambda _self, _text: error("some messages not removed"))

    report = here.visit(delete_after=0.0)

    assert (2, 0) == (report.archived, report.removed)
    assert isinstance(report.failure, CommandRefused)
    here.speak()
    assert (0, 2) == archived_and_removed(here.visit(delete_after=0.0))
    assert 2 == len(here.archived())


def archived_and_removed(report):
    return report.archived, report.removed


def test_a_removal_that_was_not_confirmed_counts_when_the_message_is_gone(here):
    """
    A marked message that the next listing lacks was removed; no reset is suspected.
    """

    def vanish(self, text):
        Dialogue._quit(self, text)
        return b""

    here.deliver(*letters(12))
    here.speak(QUIT=vanish)
    report = here.visit(delete_after=0.0)
    assert isinstance(report.failure, Disconnected)
    assert [] == here.waiting()

    here.speak()
    here.deliver(*letters(1, start=50))
    report = here.visit()

    assert not report.reset
    assert 13 == len(here.archived())
    assert ["removed"] * 12 == [state for (state,) in here.rows("state")][:12]


def test_a_server_that_lies_about_its_update_gets_no_second_copy(here):
    """
    +OK to QUIT, and nothing was removed: the same messages are not archived again.
    """

    def lie(self, _text):
        self.close()
        return ok("removed, honestly")

    here.deliver(*letters(3))
    here.speak(QUIT=lie)

    first, second = here.visit(delete_after=0.0), here.visit(delete_after=0.0)

    assert (3, 0) == (first.archived, second.archived)
    assert 3 == len(here.archived())


def test_a_capped_maildrop_is_visited_in_rounds(here, monkeypatch):
    """
    One visit makes as many sessions as it needs, each committing its removals.
    """
    monkeypatch.setattr("popfetchd.selection.ROUND_MESSAGES", 4)
    here.deliver(*letters(10))

    report = here.visit(delete_after=0.0)

    assert (10, 10) == (report.archived, report.removed)
    assert 3 == here.server.wire.count(b"QUIT")


def test_what_is_only_fetched_comes_in_portions_of_one_session(here, monkeypatch):
    """
    Nothing is committed by an end of the session; memory is that of a portion.
    """
    monkeypatch.setattr("popfetchd.visit.portions.PORTION_MESSAGES", 4)
    here.deliver(*letters(10))

    assert 10 == here.visit().archived
    assert 1 == here.server.wire.count(b"QUIT")
    assert 3 == here.server.wire.count(b"NOOP")


def test_the_second_of_two_equal_messages_outlives_the_first(here, monkeypatch):
    """
    A copy that waited for the next session is archived, though the other one is gone.
    """
    monkeypatch.setattr("popfetchd.selection.ROUND_MESSAGES", 1)
    here.deliver(*letters(1), *letters(1))
    here.speak(CAPA=lambda _self, _t: ok("") + b"LOGIN-DELAY 1\r\nUIDL\r\n.\r\n")
    assert 1 == here.visit(delete_after=YEARS).archived
    here.maildrop.remove(here.maildrop.messages[:1])

    here.visit(delete_after=YEARS)

    assert [*letters(1)] * 2 == here.archived()


def test_where_nothing_is_removed_one_session_retrieves_all(here, monkeypatch):
    """
    There is nothing for its end to commit, so it goes on with the next portion.
    """
    monkeypatch.setattr("popfetchd.selection.ROUND_MESSAGES", 4)
    here.deliver(*letters(10))

    report = here.visit()

    assert (10, 0, {}) == (report.archived, report.waiting, report.skipped)
    assert 1 == here.server.wire.count(b"QUIT")
    assert 10 == len(here.archived())


def test_what_failed_before_is_in_no_portion_of_the_others(here, monkeypatch):
    """
    It has a session of its own, at the end, as ever.
    """
    monkeypatch.setattr("popfetchd.selection.ROUND_MESSAGES", 4)
    here.deliver(*letters(1), unique_id="bad")
    here.speak(RETR=lambda _self, _text: error("no"))
    here.visit()
    here.deliver(*letters(10, start=1))
    here.speak(
        RETR=lambda self, n: error("no") if n == "1" else Dialogue._retr(self, n)
    )

    report = here.visit()

    assert (10, 1, 1) == (report.archived, report.waiting, len(report.failed_messages))
    assert 1 == here.server.wire.count(b"QUIT")


def test_a_copy_of_a_later_portion_is_archived_though_the_line_dropped(
    here, monkeypatch
):
    """
    The first portion has written down what stands beside it, before a session's end.
    """
    monkeypatch.setattr("popfetchd.selection.ROUND_MESSAGES", 1)
    here.deliver(*letters(1), *letters(1), *letters(1))
    here.speak(RETR=dropping("2"))
    assert isinstance(here.visit().failure, Disconnected)
    here.maildrop.remove(here.maildrop.messages[:1])
    here.speak()

    here.visit()

    assert [*letters(1)] * 3 == here.archived()


def test_a_copy_beside_another_is_archived_though_the_line_dropped_between(here):
    """
    In the first portion, too: two equal messages that were listed at once are two.
    """
    here.deliver(*letters(1), *letters(1))
    here.speak(RETR=dropping("2"))
    assert isinstance(here.visit().failure, Disconnected)
    here.maildrop.remove(here.maildrop.messages[:1])
    here.speak()

    here.visit()

    assert [*letters(1)] * 2 == here.archived()


def test_portions_end_when_the_visit_is_to_end(here, monkeypatch):
    """
    Also between two of them; what is left waits for the next visit.
    """
    monkeypatch.setattr("popfetchd.selection.ROUND_MESSAGES", 4)
    here.deliver(*letters(10))

    class Stopping(course.Nobody):
        def archived(self, messages):
            here.stop.set()

    report = here.visit(watch=Stopping())

    assert isinstance(report.failure, Interrupted)
    assert (4, 6) == (report.archived, report.waiting)
    assert {Skip.CAPPED: 6} == report.skipped
    assert 1 == here.server.wire.count(b"QUIT")


def test_a_login_floor_is_honoured(here):
    """
    LOGIN-DELAY forbids further rounds, and the next visit before its time.
    """
    here.deliver(*letters(1))
    here.speak(CAPA=lambda _self, _t: ok("") + b"LOGIN-DELAY 900\r\n.\r\n")
    here.visit()

    report = here.visit()

    assert isinstance(report.failure, TooSoon)
    here.time += 900
    assert Outcome.SUCCESS == here.visit().outcome


def test_a_login_floor_is_honoured_after_a_failure(here):
    """
    The server counts from the login, also where the visit fails behind it.
    """
    here.speak(
        CAPA=lambda _self, _t: ok("") + b"LOGIN-DELAY 900\r\n.\r\n",
        UIDL=lambda *_: error("[SYS/TEMP] not now"),
    )
    assert isinstance(here.visit().failure, SystemTemporary)

    assert isinstance(here.visit().failure, TooSoon)
    here.time += 900
    assert isinstance(here.visit().failure, SystemTemporary)


def test_a_login_floor_heard_of_with_the_listing_is_honoured_after_a_failure(here):
    """
    Also where LOGIN-DELAY is announced behind the login only, beside a listing refused.
    """

    def capabilities(self, argument):
        usual = Dialogue._capa(self, argument)
        if self._maildrop is None:
            return usual
        return usual.removesuffix(b".\r\n") + b"LOGIN-DELAY 900\r\n.\r\n"

    here.speak(UIDL=lambda *_: error("[SYS/TEMP] not now"))
    strange = here.server.dialogue
    commands = strange.COMMANDS | {"CAPA": (ALWAYS, capabilities)}
    here.server.dialogue = type("Late", (strange,), {"COMMANDS": commands})
    assert isinstance(here.visit().failure, SystemTemporary)

    assert isinstance(here.visit().failure, TooSoon)


def test_a_login_floor_counts_from_the_servers_answer(here):
    """
    LOGIN-DELAY begins with the +OK to the login, which a server may take its time for.
    """

    def slowly(self, secret):
        here.time += 30
        return Dialogue._password(self, secret)

    commands = Dialogue.COMMANDS | {"PASS": (BEFORE_LOGIN, slowly)}
    here.server.dialogue = type("Slow", (Dialogue,), {"COMMANDS": commands})
    begun = here.time + 60

    report = here.visit()

    assert (begun, begun + 30) == (report.started, report.logged_in)


@pytest.mark.parametrize("announced", [b"", b"LOGIN-DELAY 90\r\n"])
def test_the_longer_of_two_floors_is_honoured(here, announced):
    """
    A provider's floor holds where the server announces none, or a shorter one.
    """
    habits = Habits(login_floor=900.0)
    here.speak(CAPA=lambda _self, _t: ok("") + announced + b".\r\n")
    assert Outcome.SUCCESS == here.visit(habits=habits).outcome

    here.time += 100
    report = here.visit(habits=habits)

    assert isinstance(report.failure, TooSoon)
    here.time += 900
    assert Outcome.SUCCESS == here.visit(habits=habits).outcome


def test_stopping_ends_a_visit_with_what_it_has(here):
    """
    A visit that is asked to stop retrieves no more, and loses nothing.
    """

    class Stopping:
        def listed(self, messages, octets): ...

        def received(self, octets):
            here.stop.set()

        def archived(self, messages): ...

    sent = letters(5)
    here.deliver(*sent)
    here.speak(CAPA=lambda _self, _t: ok("") + b"UIDL\r\nTOP\r\n.\r\n")

    report = here.visit(watch=Stopping(), delete_after=0.0)

    assert isinstance(report.failure, Interrupted)
    assert (1, 1) == (report.archived, report.removed)
    here.stop.clear()
    here.visit(delete_after=0.0)
    assert sent == here.archived()


def test_a_visit_that_is_stopped_before_it_begins_asks_nothing(here):
    """
    No session is opened any more.
    """
    here.stop.set()

    assert isinstance(here.visit().failure, Interrupted)
    assert b"" == here.server.wire


def test_only_one_visit_of_an_account_at_a_time(here):
    """
    Whoever holds the account's lock is waited for, or the visit does not take place.
    """
    with here.ledger.lock(here.account.name).acquire(0), pytest.raises(AccountLocked):
        here.visit()


def test_what_was_recorded_and_not_published_is_settled_first(here, monkeypatch):
    """
    A visit that died between record and publish is completed by the next one.
    """

    def die(*_args):
        raise RuntimeError

    sent = letters(3)
    here.deliver(*sent)
    monkeypatch.setattr("popfetchd.archive.maildir.Maildir.publish", die)
    report = here.visit()
    assert isinstance(report.failure, Unexpected)
    assert 3 == len(here.files("tmp"))
    monkeypatch.undo()

    report = here.visit()

    assert (3, 0) == (report.settled, report.archived)
    assert sent == here.archived()
    assert [] == here.files("tmp")


def test_a_spool_file_that_is_gone_is_fetched_again(here, monkeypatch):
    """
    P1 goes before P2: what cannot be proved is retrieved anew, and told.
    """
    monkeypatch.setattr(
        "popfetchd.archive.maildir.Maildir.publish", lambda *_args: 1 / 0
    )
    here.deliver(*letters(2))
    here.visit()
    monkeypatch.undo()
    for path in here.files("tmp"):
        path.unlink()

    report = here.visit()

    assert (2, 2) == (report.lost_spools, report.archived)
    assert 2 == len(here.archived())


def test_a_ledger_older_than_its_archive_stops_the_visit(here):
    """
    A number that the ledger never gave means a rollback: nothing is fetched twice.
    """
    here.deliver(*letters(1))
    here.visit()
    (path,) = here.files("new")
    path.rename(path.with_name(path.name.replace("N1R", "N99R")))

    assert isinstance(here.visit().failure, LedgerBehind)


@pytest.fixture
def looks(monkeypatch):
    """
    A list that grows by one each time an archive is looked through.
    """
    looks, look = [], Maildir.highest_number
    monkeypatch.setattr(
        Maildir, "highest_number", lambda self: looks.append(1) or look(self)
    )
    return looks


def test_the_ledger_is_read_while_the_server_lists(here, monkeypatch):
    """
    Of the whole maildrop, once a session, and before its listing has come.
    """
    steps, read, hear = [], Ledger.known_apart, Session.listing
    monkeypatch.setattr(
        Ledger, "known_apart", lambda *given: steps.append("read") or read(*given)
    )
    monkeypatch.setattr(
        Session, "listing", lambda self: steps.append("hear") or hear(self)
    )
    here.deliver(*letters(2))

    here.visit()
    here.visit()

    assert ["read", "hear"] * 2 == steps


def test_an_unchanged_archive_is_not_looked_through_again(here, looks):
    """
    What the last visit found in it is there still; after each change it is looked at.
    """
    here.time = time.time()  # the archive's folders bear real times
    here.deliver(b"Subject: one\r\n\r\n")
    seen = []
    for _ in range(4):
        here.visit()
        seen.append(len(looks))
    assert [1, 2, 2, 2] == seen
    here.files("new")[0].rename(here.directory / "mail" / "cur" / "x:2,S")

    assert here.visit().failure is None
    assert 3 == len(looks)


def test_a_ledger_that_was_put_back_looks_through_the_archive(here, looks):
    """
    Its stamp is as old as it is: what was archived since is found.
    """
    here.time = time.time()
    here.deliver(b"Subject: one\r\n\r\n")
    for _ in range(3):
        here.visit()
    here.ledger.backup(here.directory / "older.db")
    here.deliver(b"Subject: two\r\n\r\n")
    for _ in range(3):
        here.visit()
    here.ledger.close()
    (here.directory / "older.db").replace(here.ledger.path)
    here.ledger = Ledger(here.ledger.path, now=here.now)
    here.means = replace(here.means, ledger=here.ledger)

    assert isinstance(here.visit().failure, LedgerBehind)


def test_failures_of_a_line_are_not_blamed_when_nothing_was_asked(here):
    """
    Only the message that was being awaited is counted as failed.
    """
    here.deliver(*letters(1))
    here.speak(UIDL=lambda self, _t: self.close() or b"")

    report = here.visit()

    assert isinstance(report.failure, Disconnected)
    assert {} == here.ledger.failures(here.account.name)


def test_the_watch_sees_what_happens(here):
    """
    A progress bar is told what is coming, what has come, and what is archived.
    """
    seen = []

    class Noting:
        def listed(self, messages, octets):
            seen.append(("listed", messages, octets))

        def received(self, octets):
            seen.append(("received", octets))

        def archived(self, messages):
            seen.append(("archived", messages))

    (sent,) = letters(1)
    here.deliver(sent)

    here.visit(watch=Noting())

    size = len(sent)
    assert [("listed", 1, size), ("received", size), ("archived", 1)] == seen


FULL = pytest.mark.parametrize(
    ("limit", "value"), [("BATCH_MESSAGES", 2), ("BATCH_OCTETS", 1)]
)
"""A batch is full by its messages, and kept at once; by its octets, and kept beside."""


@FULL
def test_batches_are_handed_on_while_the_next_arrives(here, monkeypatch, limit, value):
    """
    Many batches, each with a commit of its own, give the same archive as one.
    """
    monkeypatch.setattr(archiving, limit, value)
    sent = letters(10)
    here.deliver(*sent)

    assert 10 == here.visit().archived
    assert sent == here.archived()


@FULL
def test_a_failure_in_the_keeper_reaches_the_visit(here, monkeypatch, limit, value):
    """
    What goes wrong beside the retrieval ends the visit as if it had gone wrong in it.
    """
    monkeypatch.setattr(archiving, limit, value)
    calls = []

    def prove(_self, _spooled):
        calls.append(1)
        raise ArchiveError("fsync", "x", "I/O error")

    monkeypatch.setattr("popfetchd.archive.maildir.Maildir.prove", prove)
    here.deliver(*letters(5))

    report = here.visit()

    assert isinstance(report.failure, ArchiveError)
    assert [1] == calls
    assert 0 == report.archived


def test_an_empty_unique_id_is_no_unique_id(here):
    """
    A blank in place of a unique-id names nothing: the message is matched by content.
    """
    here.deliver(*letters(2))
    here.speak(UIDL=lambda _self, _t: ok("") + b"1 \r\n2 x\r\n.\r\n")

    first, second = here.visit(), here.visit()

    assert (2, 0, 1) == (first.archived, second.archived, second.matched)
    assert UniqueId("x") in {uid for (uid,) in here.rows("unique_id")}


# -- which message is it (docs/adr/0005) ----------------------------------------------


def named(count, start=0):
    """
    Return messages whose headers name them, all of the same length.
    """
    header = (
        b"Received: by mx.example.net id %04d; Mon, 23 Nov 2026 10:00:00 +0000\r\n"
        b"Message-ID: <%04d@example.org>\r\nFrom: bob@example.org\r\n"
        b"Date: Mon, 23 Nov 2026 09:59:00 +0000\r\nSubject: hello\r\n\r\n"
    )
    return [
        header % (n, n) + b"body of %04d\r\n" % n for n in range(start, start + count)
    ]


def renamed(here):
    """
    Give every message of the maildrop a new unique-id.
    """
    octets = [message.octets for message in here.maildrop.messages]
    here.maildrop.remove(here.maildrop.messages)
    here.deliver(*octets)


def retrieved(here):
    return here.server.wire.count(b"RETR")


def test_renamed_messages_are_recognised_by_their_headers(here):
    """
    After a reset nothing is retrieved that TOP shows to be in the archive.
    """
    here.deliver(*named(20))
    here.visit()
    renamed(here)
    here.deliver(*named(1, start=50))

    report = here.visit()

    assert (True, 1, 20, 0) == (
        report.reset,
        report.archived,
        report.matched,
        report.waiting,
    )
    assert 21 == retrieved(here)
    assert {} == report.unproven  # nothing was due, so nothing was refused
    assert 0 == here.visit().matched
    assert 21 == len(here.archived())


def test_a_first_message_without_a_name_does_not_hide_the_others(here):
    """
    That its header does not name it says nothing of the server: it alone is retrieved.
    """
    here.deliver(*letters(1), *named(12))
    here.visit()
    renamed(here)

    report = here.visit()

    assert (0, 13) == (report.archived, report.matched)
    assert 14 == retrieved(here)


def test_a_reset_is_recognised_in_one_session(here, monkeypatch):
    """
    However many there are: the cap of a session is for what it retrieves.
    """
    here.deliver(*named(20), *letters(5))
    here.visit()
    renamed(here)
    monkeypatch.setattr("popfetchd.selection.ROUND_MESSAGES", 3)

    report = here.visit()

    assert (0, 25, 0, {}) == (
        report.archived,
        report.matched,
        report.waiting,
        report.skipped,
    )
    assert 30 == retrieved(here)
    assert 25 == here.server.wire.count(b"TOP")
    assert 2 == here.server.wire.count(b"QUIT")


def test_what_one_session_left_is_retrieved_when_it_recognised_the_rest(
    here, monkeypatch
):
    """
    A session that retrieved nothing has come nearer all the same.
    """
    here.deliver(*named(6))
    here.visit()
    renamed(here)
    here.deliver(*letters(3))
    monkeypatch.setattr("popfetchd.selection.ROUND_MESSAGES", 2)

    report = here.visit()

    assert (3, 6, 0) == (report.archived, report.matched, report.waiting)


def test_what_a_header_recognised_is_removed_only_after_its_content(here):
    """
    A header is enough not to archive again, never enough to DELE under a new name.
    """
    here.deliver(*named(12))
    here.visit()
    renamed(here)
    here.visit()

    report = here.visit(delete_after=0.0)

    assert (0, 12, 12) == (report.archived, report.matched, report.removed)
    assert 24 == retrieved(here)
    assert 12 == len(here.archived())


def test_equal_headers_recognise_nothing(here):
    """
    Where two messages share a header, their content decides.
    """
    one, other = named(1)[0], named(1)[0].replace(b"body", b"text")
    here.deliver(one, other)
    here.visit()
    renamed(here)

    report = here.visit()

    assert (0, 2) == (report.archived, report.matched)
    assert 4 == retrieved(here)


def test_a_new_message_with_the_header_of_an_old_one_is_archived(here):
    """
    Another body under a header that is known, with other octets, is another message.
    """
    here.deliver(*named(1))
    here.visit()
    here.maildrop.remove(here.maildrop.messages)
    here.deliver(named(1)[0] + b"and more\r\n")
    here.visit()

    assert 2 == retrieved(here)


def test_message_numbers_in_place_of_unique_ids_name_nothing(here):
    """
    A server that lists its numbers as unique-ids shifts them when a message goes: the
    new message under an old number is archived all the same.
    """

    def numbers(self, _text):
        lines = (b"%s %s\r\n" % (n.encode(), n.encode()) for n, _ in self._kept())
        return ok("") + b"".join(lines) + b".\r\n"

    sent = named(6)
    here.speak(UIDL=numbers)
    here.deliver(*sent[:5])
    here.visit()
    here.maildrop.remove(here.maildrop.messages[1:2])
    here.deliver(sent[5])

    report = here.visit()

    assert (1, 4) == (report.archived, report.matched)
    assert sent == here.archived()
    assert 6 == retrieved(here)


def test_shifted_unique_ids_archive_each_message_once(here):
    """
    When every unique-id moves to the next message, content tells them apart.
    """

    def shifted(by):
        def answer(self, _text):
            numbers = (int(n) for n, _ in self._kept())
            lines = (b"%d id%d\r\n" % (n, n + by) for n in numbers)
            return ok("") + b"".join(lines) + b".\r\n"

        return answer

    sent = [b"Subject: x\r\n\r\n" + b"y" * n + b"\r\n" for n in range(6)]
    here.deliver(*sent)
    here.speak(UIDL=shifted(0))
    here.visit()
    here.speak(UIDL=shifted(1))

    report = here.visit(delete_after=0.0)

    assert 0 == report.archived
    assert sent == here.archived()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(1, 3), min_size=2, max_size=8),
    st.lists(st.integers(0, 7), min_size=1, max_size=3, unique=True),
    st.booleans(),
)
def test_messages_that_go_shift_the_unique_ids_of_the_others(
    tmp_path_factory, lengths, gone, by_header
):
    """
    Whichever messages go, of whatever octets: where the n-th message has the n-th
    unique-id, none of the others is archived twice, or removed without its copy.
    """

    def places(self, _text):
        lines = (b"%d 7-%d\r\n" % (n, n) for n, _ in enumerate(self._kept(), 1))
        return ok("") + b"".join(lines) + b".\r\n"

    make = named if by_header else texts
    sent = [m + b"y" * n + b"\r\n" for m, n in zip(make(8), lengths, strict=False)]
    with world(tmp_path_factory.mktemp("shifted")) as here:
        here.speak(UIDL=places)
        here.deliver(*sent)
        here.visit()
        messages = here.maildrop.messages
        here.maildrop.remove([m for n, m in enumerate(messages) if n in gone])

        reports = [here.visit(), here.visit(delete_after=0.0)]

        assert [0, 0] == [report.archived for report in reports]
        assert sorted(sent) == here.archived()
        assert [] == here.waiting()


def texts(count):
    """
    Return messages whose headers name none of them.
    """
    return [b"Subject: x\r\n\r\n%d" % n for n in range(count)]


def test_octets_that_differ_at_each_retrieval_are_archived_once(here):
    """
    A server that alters what it sends gets one copy archived, and no DELE, ever.
    """
    times = iter(range(100))

    def altering(self, text):
        octets = self._message(text).octets.replace(b"body", b"b%03d" % next(times))
        return ok("") + octets + b".\r\n"

    here.deliver(*named(2))
    here.speak(RETR=altering, TOP=lambda _self, _text: error("unknown command"))
    here.visit()

    reports = [here.visit(delete_after=0.0) for _ in range(3)]

    assert [0, 0, 0] == [report.archived for report in reports]
    assert [0, 0, 0] == [report.removed for report in reports]
    assert {Unproven.REFUSED: 2, Unproven.ALTERED: 2} == reports[0].unproven
    assert 2 == len(here.waiting())
    assert 2 == len(here.files("new"))
    assert 4 == retrieved(here)


def test_one_unique_id_of_many_that_changed_archives_nothing(here):
    """
    One message under a new name is recognised, the others are left alone.
    """
    sent = named(15)
    here.deliver(*sent)
    here.visit()
    seventh = here.maildrop.messages[7]
    here.maildrop.remove([seventh])
    here.deliver(seventh.octets)

    report = here.visit()

    assert (0, 1, False) == (report.archived, report.matched, report.reset)
    assert 15 == retrieved(here)


# -- retention ------------------------------------------------------------------------


def test_removal_by_age_counts_from_the_arrival(here):
    """
    `{age: 1h}` removes what arrived an hour ago, however lately it was archived.
    """
    at = b"Received: by mx; Tue, 14 Nov 2023 %s:00:00 +0000\r\nSubject: x\r\n\r\n"
    old, young = at % b"20", at % b"22"
    here.deliver(old, young)

    report = here.visit(delete_after=3600.0, delete_since=Since.ARRIVED)

    assert (2, 1) == (report.archived, report.removed)
    assert [young] == here.waiting()
    assert 1 == here.visit(delete_after=60.0, delete_since=Since.ARRIVED).removed


def test_retrieving_stops_before_the_disk_is_full(here):
    """
    What would leave less free than min_free stays on the server, is told, and is
    fetched when there is room.
    """
    sent = letters(4)
    here.deliver(*sent)
    room = 1000 + 2 * len(sent[0])
    here.means = replace(here.means, free=lambda _path: room)

    report = here.visit(min_free=Octets(1000))

    assert isinstance(report.failure, NearlyFull)
    assert (2, 2) == (report.archived, report.waiting)
    here.means = replace(here.means, free=lambda _path: 10_000)
    assert 2 == here.visit(min_free=Octets(1000)).archived
    assert sent == here.archived()


def test_a_disk_that_does_not_tell_its_room_is_told(here, monkeypatch):
    """
    How much is free is asked of a disk like any other, and it may fail like any other.
    """

    def fails(_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "statvfs", fails)
    here.deliver(*letters(1))

    report = here.visit(min_free=Octets(1000))

    assert "statvfs: Input/output error" in str(report.failure)
    assert isinstance(report.failure, ArchiveError)


def test_what_vanished_bears_its_unique_id_no_more(here):
    """
    A unique-id that was given to another message does not have it retrieved each time.
    """
    one, other = letters(2)
    here.deliver(one, unique_id="same")
    here.visit()
    here.maildrop.remove(here.maildrop.messages)
    here.visit()
    here.deliver(other, unique_id="same")
    here.visit()

    here.visit()

    assert 2 == retrieved(here)
    assert [one, other] == here.archived()


BAD = b"Subject: bad\r\n\r\none\r\n.\r\nthe tail\r\n"
"""Seems to end early when its dot is not stuffed."""


def unstuffed(self, argument):
    return ok("") + self._message(argument).octets + b".\r\n"


def unstuffed_top(self, argument):
    message = self._message(argument.partition(" ")[0])
    return ok("") + top(message.octets, 0) + b".\r\n"


@pytest.mark.parametrize("lacks", [frozenset(), frozenset({"PIPELINING"})])
@pytest.mark.parametrize("place", range(4))
def test_half_a_message_is_never_taken_for_a_whole_one(here, lacks, place):
    """
    Where dots are not stuffed, what seems to end early is neither archived nor removed,
    and the others are both.
    """
    sent = letters(3)
    here.server._lacks = lacks
    here.deliver(*sent[:place], BAD, *sent[place:])
    here.speak(RETR=unstuffed, TOP=unstuffed_top)

    reports = [here.visit(delete_after=0.0) for _ in range(6)]

    assert isinstance(reports[0].failure, ProtocolViolation)
    assert reports[-1].failure is None
    assert sent == here.archived()
    assert [BAD] == here.waiting()
    assert [] == here.files("tmp")


@pytest.mark.parametrize("lacks", [frozenset(), frozenset({"PIPELINING"})])
def test_a_forged_reply_at_the_very_end_proves_no_message(here, lacks):
    """
    Where dots are not stuffed, a sender's "+OK" behind his dot is no answer to NOOP.
    """
    here.server._lacks = lacks
    here.deliver(b"Subject: bad\r\n\r\none\r\n.\r\n+OK forged\r\n")
    here.speak(RETR=unstuffed, TOP=unstuffed_top)

    report = here.visit(delete_after=0.0)

    assert isinstance(report.failure, ProtocolViolation)
    assert [] == here.archived()


@pytest.mark.parametrize("lacks", [frozenset(), frozenset({"PIPELINING"})])
@pytest.mark.parametrize("begun", [b"the ta", b"+OK", b"+OK forged\r"])
def test_a_line_that_drops_amid_the_rest_proves_no_message(here, lacks, begun):
    """
    Half a line behind what seems to be the end may be the message's own.
    """

    def torn(self, _argument):
        self.close()
        return ok("") + BAD.partition(b"the tail")[0] + begun

    here.server._lacks = lacks
    here.deliver(BAD)
    here.speak(RETR=torn)

    report = here.visit(delete_after=0.0)

    assert 1 == len(report.failed_messages)
    assert [] == here.archived() == here.files("tmp")
    assert [BAD] == here.waiting()


@pytest.mark.parametrize("lacks", [frozenset(), frozenset({"PIPELINING"})])
def test_a_server_that_refuses_and_hangs_up_does_not_stop_its_maildrop(here, lacks):
    """
    The message is blamed for its refusal, rests after some visits, and the others go.
    """

    def refusing(self, argument):
        if self._message(argument).octets != bad:
            return Dialogue._retr(self, argument)
        self.close()
        return error("cannot be read")

    good, bad = letters(2)
    here.server._lacks = lacks
    here.deliver(good, bad)
    here.speak(RETR=refusing)

    reports = [here.visit(delete_after=0.0) for _ in range(4)]

    assert all(report.failed_messages for report in reports[:3])
    assert (None, 1) == (reports[-1].failure, reports[-1].quarantined)
    assert [good] == here.archived()
    assert [bad] == here.waiting()


@pytest.mark.parametrize("lacks", [frozenset(), frozenset({"PIPELINING"})])
def test_the_proof_of_the_last_message_costs_no_round_trip(here, lacks):
    """
    NOOP goes with the last RETR where that is allowed, and behind its message elsewhere.
    """
    here.server._lacks = lacks
    here.deliver(*letters(2))

    here.visit()

    pipelined = b"RETR 1\r\nRETR 2\r\nNOOP\r\n" in here.server._wire
    assert (not lacks) == pipelined
    assert 1 == here.server.wire.count(b"NOOP")


@pytest.mark.parametrize("lacks", [frozenset(), frozenset({"PIPELINING"})])
def test_capabilities_behind_the_login_cost_no_round_trip(here, lacks):
    """
    CAPA is asked once more, together with the listing where that is allowed.
    """
    here.server._lacks = lacks

    here.visit()

    pipelined = b"CAPA\r\nUIDL\r\nLIST\r\n" in here.server._wire
    assert (not lacks) == pipelined
    assert 2 == here.server.wire.count(b"CAPA")


def test_a_message_that_ends_its_top_badly_does_not_stop_the_others(here):
    """
    A server that drops the line at one TOP is asked for that message last, by RETR.
    """
    sent = letters(4)
    here.deliver(*sent[:3])
    here.visit(delete_after=3600.0)
    here.time += 7200
    here.deliver(sent[3])
    here.speak(TOP=hanging_up("2"))

    assert isinstance(here.visit(delete_after=3600.0).failure, Disconnected)
    assert (1, 3) == archived_and_removed(here.visit(delete_after=3600.0))
    assert sent == here.archived()
    assert [sent[3]] == here.waiting()


def test_what_is_quarantined_is_not_confirmed_either(here):
    """
    A message that is due, and fails by TOP and by RETR, is left alone in the end; the
    others are removed in a session of their own meanwhile.
    """
    here.deliver(*letters(3))
    here.visit(delete_after=3600.0)
    here.time += 7200
    bad = here.maildrop.messages[1]

    def unless_bad(usual):
        def answer(self, text):
            if self._message(text.split()[0]) is not bad:
                return usual(self, text)
            self.close()
            return b""

        return answer

    here.speak(TOP=unless_bad(Dialogue._top), RETR=unless_bad(Dialogue._retr))

    reports = [here.visit(delete_after=3600.0) for _ in range(4)]

    assert [0, 2, 0, 0] == [report.removed for report in reports]
    assert all(isinstance(r.failure, Disconnected) for r in reports[:3])
    assert (None, 1) == (reports[3].failure, reports[3].quarantined)
    assert 1 == len(here.waiting())


def hanging_up(number):
    def answer(self, argument):
        if argument.startswith(number):
            self.close()
            return b""
        return Dialogue._top(self, argument)

    return answer


def test_confirming_leaves_time_for_the_rest(here, monkeypatch):
    """
    More TOP than the deadline allows: what is new is archived, and some are removed.
    """
    clock = [0.0]
    monkeypatch.setattr(
        course, "Deadline", lambda seconds: Deadline(seconds, lambda: clock[0])
    )
    here.server._lacks = frozenset({"PIPELINING"})
    here.deliver(*letters(30))
    here.visit(delete_after=3600.0)
    here.time += 7200
    here.deliver(*letters(1, start=30))
    here.speak(TOP=slowly(Dialogue._top, clock), DELE=slowly(Dialogue._dele, clock))

    report = here.visit(delete_after=3600.0, deadline=10.0)

    assert report.failure is None
    assert (1, 11) == archived_and_removed(report)
    assert (0, 11) == archived_and_removed(
        here.visit(delete_after=3600.0, deadline=10.0)
    )


def test_what_there_was_no_time_to_remove_is_not_marked(here, monkeypatch):
    """
    DELE stops while there is time for QUIT, which makes those that were sent count.
    """
    clock = [0.0]
    monkeypatch.setattr(
        course, "Deadline", lambda seconds: Deadline(seconds, lambda: clock[0])
    )
    here.server._lacks = frozenset({"PIPELINING"})
    here.deliver(*letters(30))
    here.speak(DELE=slowly(Dialogue._dele, clock))

    report = here.visit(delete_after=0.0, deadline=10.0)

    assert report.failure is None
    assert (30, 24) == archived_and_removed(report)
    assert [(0,)] * 30 == here.rows("marked")


def slowly(usual, clock):
    def answer(self, argument):
        clock[0] += 0.4
        return usual(self, argument)

    return answer


def test_a_message_without_room_does_not_stop_smaller_ones(here):
    """
    One that claims to be larger than the disk stays on the server; the others are kept.
    """
    here.deliver(*letters(3))
    claim = 2**30  # below what one session takes
    sizes = b"1 %d\r\n2 30\r\n3 30\r\n.\r\n" % claim
    here.speak(LIST=lambda _self, _text: ok("") + sizes)
    here.means = replace(here.means, free=lambda _path: 1_000_000)

    report = here.visit()

    assert isinstance(report.failure, NearlyFull)
    assert (2, 1) == (report.archived, report.waiting)


def test_a_copy_that_was_thrown_away_keeps_its_message_on_the_server(here):
    """
    By default nothing is removed whose archived copy is gone; `trust_archive` does.
    """
    here.deliver(*letters(2))
    here.visit()
    here.files("new")[0].unlink()

    report = here.visit(delete_after=0.0)

    assert 1 == report.removed
    assert {Unproven.MISSING: 1} == report.unproven
    assert 1 == len(here.waiting())
    assert 1 == here.visit(delete_after=0.0, trust_archive=True).removed


def test_a_copy_that_was_altered_keeps_its_message_on_the_server(here):
    """
    A removal reads the archived copy again: it has to be what was archived.
    """
    here.deliver(*letters(2))
    here.visit()
    path = here.files("new")[0]
    path.write_bytes(path.read_bytes().replace(b"body", b"b0dy"))

    report = here.visit(delete_after=0.0)

    assert (1, {Unproven.MISSING: 1}) == (report.removed, report.unproven)


def test_a_copy_that_a_reader_moved_is_there(here):
    """
    What a mail reader flagged or filed is archived all the same.
    """
    here.deliver(*letters(2))
    here.visit()
    one, other = here.files("new")
    one.rename(one.parent.parent / "cur" / f"{one.name}:2,S")
    folder = one.parent.parent / ".Friends" / "cur"
    folder.mkdir(parents=True)
    other.rename(folder / f"{other.name}:2,RS")

    assert 2 == here.visit(delete_after=0.0).removed


def test_what_this_visit_archived_is_not_read_a_third_time(here, monkeypatch):
    """
    Its copy was read back before it was published.
    """
    monkeypatch.setattr("popfetchd.archive.maildir.Maildir.check", lambda *_args: 1 / 0)
    here.deliver(*letters(2))

    assert 2 == here.visit(delete_after=0.0).removed


@pytest.mark.parametrize("answer", [ok("here"), error("what is NOOP?")])
def test_the_server_is_kept_awake_while_old_copies_are_read(here, monkeypatch, answer):
    """
    Who says nothing for ten minutes may be logged out (RFC 1939 section 3).
    """
    check = Maildir.check

    def slow(*args):
        here.time += 90
        return check(*args)

    here.deliver(*letters(7))
    here.visit()
    before = here.server.wire.count(b"NOOP")
    monkeypatch.setattr(Maildir, "check", slow)
    here.speak(NOOP=lambda _self, _text: answer)

    assert 7 == here.visit(delete_after=0.0).removed
    assert 2 == here.server.wire.count(b"NOOP") - before


def test_rounds_that_bring_nothing_nearer_end(here, monkeypatch):
    """
    What one session retrieves may be wanted by the next one again, and so without end.
    """
    monkeypatch.setattr("popfetchd.selection.ROUND_MESSAGES", 2)
    here.deliver(*letters(5))
    sizes = iter(range(1000, 1_000_000))

    def other_sizes(self, argument):
        return self._scan(argument, lambda _message: next(sizes))

    here.speak(LIST=other_sizes, TOP=refusing_top)

    report = here.visit(delete_after=YEARS)

    assert report.failure is None
    assert report.archived + report.matched <= 6


def refusing_top(_self, _argument):
    return error("unknown command")


# -- an archive that is gone ----------------------------------------------------------


def moved_away(here):
    mail = here.directory / "mail"
    mail.rename(here.directory / "elsewhere")
    mail.mkdir()  # an empty mount point
    return mail


def test_nothing_is_fetched_below_an_empty_mount_point(here):
    """
    Where an archive was and nothing of it is left, nothing is made and nothing removed.
    """
    here.deliver(*letters(2))
    here.visit()
    mail = moved_away(here)

    report = here.visit(delete_after=0.0)

    assert "archive" == report.failure.reason
    assert "is its disk mounted?" in report.failure.hint
    assert ([], 2) == ([*mail.iterdir()], len(here.waiting()))


def test_an_archive_that_was_taken_away_on_purpose_begins_anew(here):
    """
    Who makes the folder again, as the hint says, is believed.
    """
    here.deliver(*letters(2))
    here.visit()
    (moved_away(here) / "cur").mkdir()
    here.deliver(*letters(3)[2:])

    report = here.visit(delete_after=0.0)

    assert (None, 1, 1) == (report.failure, report.archived, report.removed)
    assert {Unproven.MISSING: 2} == report.unproven


def test_a_former_archive_that_is_gone_holds_up_no_new_mail(here):
    """
    What stands at a former place that is gone is not removed; all else goes on.
    """
    here.deliver(*letters(2))
    here.visit()
    there = here.directory / "mail"
    there.rename(here.directory / "elsewhere")
    here.deliver(*letters(3)[2:])
    place = Destination(ArchiveFormat.MAILDIR, here.directory / "other")

    report = here.visit(destination=place, delete_after=0.0)

    assert (None, 1, 1) == (report.failure, report.archived, report.removed)
    assert ({Unproven.MISSING: 2}, False) == (report.unproven, there.exists())
