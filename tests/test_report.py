"""
What a visit leaves in memory, in the log and in the metrics.
"""

from __future__ import annotations

import re

from dataclasses import replace

import pytest

from popfetchd import report as reporting
from popfetchd.cli import build_parser
from popfetchd.errors import (
    AccountLocked,
    AuthenticationRefused,
    ConfigurationError,
    Disconnected,
    DiskFull,
    Interrupted,
    InUse,
    Mistake,
    TooSoon,
    Unexpected,
)
from popfetchd.metrics import Metrics, Watched
from popfetchd.report import PUT_OFF, Reporter, after
from popfetchd.values import (
    AccountName,
    AccountState,
    Channel,
    DropListing,
    Octets,
    PollReport,
    Skip,
    Skipped,
    Unproven,
)


NOW = 1_800_000_000.0
ALICE = AccountName("alice")
DAY = 86400.0

WELL = AccountState(last_poll=NOW - 300, last_success=NOW - 300, archived=10)


def visit(**fields):
    """
    A visit that reached its end and found nothing, but for *fields*.
    """
    plain = {"drop": DropListing(0, Octets(0)), "logged_in": NOW + 1}
    return PollReport(ALICE, NOW, NOW + 2, **{**plain, **fields})


def failed(failure, **fields):
    """
    A visit that failed before it saw the maildrop.
    """
    return visit(failure=failure, **{"drop": None, "logged_in": None, **fields})


class Log:
    """
    Collects events as (level, event, fields).
    """

    def __init__(self):
        self.events = []

    def __getattr__(self, level):
        def tell(event, **fields):
            self.events.append((level, event, fields))

        return tell

    @property
    def last(self):
        return self.events[-1]

    @property
    def names(self):
        return [(level, event) for level, event, _ in self.events]


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def reporter(metrics, log):
    return Reporter(metrics, log)


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"popfetchd_{name}", labels)


# -- what is remembered ---------------------------------------------------------------


def test_a_good_visit_clears_what_was_wrong():
    """
    After a visit that reached its end the account is well, and all figures are new.
    """
    before = AccountState(
        next_poll=NOW + 9,
        consecutive_failures=3,
        reason="dns",
        error="e",
        hint="h",
        archived=10,
        removals_paused=True,
    )
    expected = AccountState(
        last_poll=NOW + 2,
        last_success=NOW + 2,
        next_poll=NOW + 9,
        archived=14,
        maildrop_messages=7,
        maildrop_octets=7000,
        waiting=2,
        quarantined=1,
        too_large=3,
        refused=5,
        certificate_expiry=NOW + DAY,
        last_login=NOW + 1,
        login_delay=300.0,
    )
    found = visit(
        archived=4,
        drop=DropListing(7, Octets(7000)),
        waiting=2,
        quarantined=1,
        skipped={Skip.TOO_LARGE: 3},
        unproven={Unproven.MISSING: 4, Unproven.ALTERED: 1, Unproven.PAUSED: 7},
        login_delay=300.0,
        channel=Channel("192.0.2.1", "TLSv1.3", "x", NOW + DAY),
    )
    assert expected == after(before, found)


def test_a_failed_visit_is_remembered_with_its_hint():
    """
    Reason, sentence and hint stay until a good visit; failures are counted.
    """
    failure = AuthenticationRefused("PASS", "no")
    state = after(after(WELL, failed(failure)), failed(failure))
    expected = replace(
        WELL,
        last_poll=NOW + 2,
        consecutive_failures=2,
        reason="auth",
        error="the server refused PASS: 'no'",
        hint=failure.hint,
    )
    assert expected == state


def test_what_a_visit_did_not_reach_stays_as_last_seen():
    """
    A failure to connect says nothing about the maildrop, the login or the certificate.
    """
    before = replace(
        WELL,
        maildrop_messages=5,
        waiting=1,
        quarantined=2,
        removals_paused=True,
        certificate_expiry=NOW,
        last_login=NOW - 300,
        login_delay=60.0,
    )
    state = after(before, failed(Disconnected("LIST", "reset")))
    expected = replace(
        before,
        last_poll=NOW + 2,
        consecutive_failures=1,
        reason="disconnected",
        error="connection lost during LIST: reset",
        hint=state.hint,
    )
    assert expected == state


def test_mail_archived_before_a_failure_counts():
    """
    A visit that failed half-way did archive what it archived.
    """
    found = visit(archived=3, failure=Disconnected("RETR", "reset"))
    state = after(WELL, found)
    assert (13, "disconnected", NOW - 300) == (
        state.archived,
        state.reason,
        state.last_success,
    )


def test_a_visit_without_tls_forgets_the_certificate():
    """
    A channel without a certificate has no date to watch.
    """
    before = replace(WELL, certificate_expiry=NOW)
    assert 0.0 == after(before, visit(channel=Channel("192.0.2.1"))).certificate_expiry


def test_messages_that_failed_alone_do_not_fail_the_account():
    """
    A visit that reached its end is a success of the account.
    """
    state = after(WELL, visit(failed_messages=("message 3: too long",)))
    assert (NOW + 2, "") == (state.last_success, state.reason)


def test_an_interrupted_visit_is_no_failure():
    """
    A stop of the service leaves the account as it was, but for what was done.
    """
    state = after(WELL, visit(archived=1, failure=Interrupted()))
    assert (11, 0, "", NOW - 300) == (
        state.archived,
        state.consecutive_failures,
        state.reason,
        state.last_success,
    )


@pytest.mark.parametrize("failure", [AccountLocked("alice"), TooSoon(20.0)])
def test_a_visit_that_did_not_take_place_changes_nothing(failure):
    """
    Nothing was asked of the server, so nothing is known.
    """
    assert WELL == after(WELL, failed(failure))


# -- the event of a visit -------------------------------------------------------------


def test_a_visit_with_nothing_to_do_is_quiet(reporter, log):
    """
    It is told at level debug.
    """
    reporter.visit_ended(WELL, visit())
    expected = (
        "debug",
        "visit ended",
        {"account": ALICE, "outcome": "success", "seconds": 2.0},
    )
    assert [expected] == log.events


def test_a_visit_that_moved_mail_is_told(reporter, log):
    """
    It is told at level info, with what moved.
    """
    found = visit(
        archived=3,
        archived_octets=4096,
        matched=1,
        removed=2,
        waiting=5,
        settled=1,
        skipped={Skip.CAPPED: 1},
    )
    reporter.visit_ended(WELL, found)
    figures = {
        "archived": 3,
        "archived_octets": 4096,
        "matched": 1,
        "removed": 2,
        "waiting": 5,
        "settled": 1,
        "skipped_capped": 1,
    }
    fields = {"account": ALICE, "outcome": "success", "seconds": 2.0, **figures}
    assert ("info", "visit ended", fields) == log.last


def test_a_recovery_is_told(reporter, log):
    """
    The first good visit after failures says how many there were.
    """
    before = replace(WELL, reason="dns", consecutive_failures=7)
    reporter.visit_ended(before, visit())
    level, _, fields = log.last
    assert ("info", 7) == (level, fields["failures_before"])


@pytest.mark.parametrize(
    ("failure", "level"),
    [
        (Disconnected("LIST", "reset"), "warning"),
        (InUse("PASS", "[IN-USE]"), "warning"),
        (AuthenticationRefused("PASS", "no"), "error"),
        (Unexpected("KeyError", "selection"), "error"),
        (Interrupted(), "info"),
    ],
)
def test_a_failure_is_told_with_its_hint(reporter, log, failure, level):
    """
    Transient ones are warnings, lasting ones and our own faults errors.
    """
    reporter.visit_ended(WELL, failed(failure))
    told, event, fields = log.last
    assert (level, "visit failed") == (told, event)
    assert str(failure) == fields["error"]
    assert failure.hint == fields["hint"]
    assert failure.reason == fields["reason"]
    assert failure.fault == fields["fault"]


def test_our_own_faults_come_with_a_traceback(reporter, log):
    """
    Only what nobody foresaw shows where it happened.
    """
    fault = Unexpected("KeyError", "selection")
    reporter.visit_ended(WELL, failed(fault))
    assert fault is log.last[2]["exc_info"]
    reporter.visit_ended(WELL, failed(Disconnected("LIST", "reset")))
    assert log.last[2]["exc_info"] is None


def test_the_same_failure_is_not_told_each_time(reporter, log):
    """
    The first, then each twelfth with a count; another failure at once.
    """
    for _ in range(25):
        reporter.visit_ended(WELL, failed(Disconnected("LIST", "reset")))
    assert [1, 12, 24] == [fields.get("times", 1) for _, _, fields in log.events]
    reporter.visit_ended(WELL, failed(DiskFull("write", "/srv", "full")))
    assert ("warning", "visit failed") == log.names[-1]
    assert 4 == len(log.events)


def test_a_failure_after_a_recovery_is_news(reporter, log):
    """
    A good visit ends the series.
    """
    for found in (failed(Disconnected("LIST", "reset")), visit()) * 2:
        reporter.visit_ended(WELL, found)
    assert 2 == log.names.count(("warning", "visit failed"))


def test_a_repeated_failure_that_moved_mail_is_told(reporter, log):
    """
    What was archived is always told.
    """
    for _ in range(3):
        reporter.visit_ended(
            WELL, visit(archived=1, failure=Disconnected("RETR", "reset"))
        )
    assert 3 == len(log.events)
    assert "partial" == log.last[2]["outcome"]


def test_messages_that_failed_alone_are_a_warning(reporter, log):
    """
    The visit is partial; the messages are told with their sentences, shortened.
    """
    sentences = tuple(f"message {i}: bad" for i in range(9))
    reporter.visit_ended(WELL, visit(failed_messages=sentences))
    names = [("warning", "visit ended"), ("warning", "messages failed")]
    assert names == log.names
    fields = log.last[2]
    assert (9, sentences[:5]) == (fields["messages"], fields["errors"])


# -- what needs a person --------------------------------------------------------------

CERTIFICATE = Channel("192.0.2.1", "TLSv1.3", "x", NOW + 2 + 5.5 * DAY)


@pytest.mark.parametrize(
    ("fields", "event", "told"),
    [
        ({"quarantined": 2}, "messages are in quarantine", {"messages": 2}),
        (
            {"lost_spools": 1},
            "copies of an interrupted visit were not found",
            {"messages": 1},
        ),
        ({"fragments": 1}, "an mbox holds parts of messages", {"messages": 1}),
        ({"reset": True}, "the maildrop was reset", {}),
        ({"removals_paused": True}, "removals are paused", {}),
        (
            {"unproven": {Unproven.MISMATCH: 3}},
            "removals were refused",
            {"mismatch": 3},
        ),
        ({"channel": CERTIFICATE}, "certificate expires soon", {"days": 5}),
        (
            {"skipped": {Skip.TOO_LARGE: 4}, "waiting": 4},
            "messages are too large",
            {"messages": 4},
        ),
    ],
)
def test_what_needs_a_person_has_an_event_of_its_own(
    reporter, log, fields, event, told
):
    """
    Each is a warning with the account, the figures and a hint.
    """
    reporter.visit_ended(WELL, visit(**fields))
    level, name, found = log.last
    hint = found.pop("hint")
    assert ("warning", event, {"account": ALICE, **told}) == (level, name, found)
    assert len(hint) > 20


def test_no_hint_names_what_cannot_be_typed(reporter, log):
    """
    A verb in a hint is one that the command line has.
    """
    reporter.visit_ended(
        WELL,
        visit(
            quarantined=1,
            lost_spools=1,
            reset=True,
            removals_paused=True,
            failed_messages=("it failed",),
            skipped={Skip.TOO_LARGE: 1},
            unproven={Unproven.MISMATCH: 1},
            channel=CERTIFICATE,
        ),
    )
    hints = "".join(str(fields.get("hint")) for _, _, fields in log.events)
    for words in re.findall("`popfetchd ([^`]+)`", hints):
        build_parser().parse_args(words.split())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"reason": "auth", "error": "refused", "hint": "h"}, ["auth: refused"]),
        ({"quarantined": 2}, ["messages in quarantine: 2"]),
        ({"too_large": 3}, ["messages are too large: 3"]),
        ({"refused": 5}, ["removals were refused: 5"]),
        ({"removals_paused": True}, ["removals are paused"]),
        ({"certificate_expiry": NOW + 15 * DAY}, []),
        ({"certificate_expiry": NOW + 3 * DAY}, ["the certificate ends in 3 days"]),
        ({"certificate_expiry": NOW - 3 * DAY}, ["the certificate ended 3 days ago"]),
        ({"next_poll": NOW - 60}, []),
        ({"next_poll": NOW - 7300}, ["the next visit is 2 h late"]),
    ],
)
def test_what_stands_with_an_account_is_told_with_a_hint(fields, expected):
    """
    A failure, and what lasts though visits succeed; nothing where all is well.
    """
    found = list(reporting.standing(replace(WELL, **fields), NOW))
    assert expected == [what for what, _ in found]
    assert all(hint for _, hint in found)


def test_a_state_that_lasts_is_told_once_and_when_it_changes(reporter, log):
    """
    A quarantine of two is told once, of three again, and anew after it was empty.
    """
    for count in (2, 2, 3, 0, 2):
        reporter.visit_ended(WELL, visit(quarantined=count))
    told = [fields for _, event, fields in log.events if "quarantine" in event]
    assert [2, 3, 2] == [fields["messages"] for fields in told]


def test_each_reset_is_told(reporter, log):
    """
    What happens, as opposed to what lasts, is told each time.
    """
    for _ in range(3):
        reporter.visit_ended(WELL, visit(reset=True, lost_spools=1))
    assert 3 == log.names.count(("warning", "the maildrop was reset"))
    lost = "copies of an interrupted visit were not found"
    assert 3 == log.names.count(("warning", lost))


def test_a_failed_visit_settles_nothing(reporter, log):
    """
    Who did not see the maildrop cannot say that its quarantine is over.
    """
    for found in (
        visit(quarantined=1),
        failed(Disconnected("LIST", "reset")),
        visit(quarantined=1),
    ):
        reporter.visit_ended(WELL, found)
    assert 1 == log.names.count(("warning", "messages are in quarantine"))


@pytest.mark.parametrize("expiry", [None, NOW + 20 * DAY])
def test_a_certificate_in_order_is_not_spoken_of(reporter, log, expiry):
    """
    A channel without one, or with one for long, is no matter.
    """
    channel = Channel("192.0.2.1", certificate_expiry=expiry)
    reporter.visit_ended(WELL, visit(channel=channel))
    assert [("debug", "visit ended")] == log.names


# -- visits that did not take place ---------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "why"),
    [(AccountLocked("alice"), Skipped.LOCKED), (TooSoon(20.0), Skipped.LOGIN_DELAY)],
)
def test_a_visit_that_never_asked_the_server_is_skipped(
    reporter, log, metrics, failure, why
):
    """
    It counts as skipped, not as failed, and is told with a hint.
    """
    reporter.visit_ended(WELL, failed(failure))
    level, event, fields = log.last
    assert ("warning", "visit skipped", why) == (level, event, fields["reason"])
    assert fields["hint"]
    assert 1 == value(metrics, "polls_skipped_total", reason=why.value)
    assert 0 == value(metrics, "polls_total", outcome="failure")


def test_skipping_is_not_told_each_time(reporter, log, metrics):
    """
    All are counted, the first and each twelfth are told; a visit ends the series.
    """
    for _ in range(13):
        reporter.visit_skipped(ALICE, Skipped.OVERRUN)
    reporter.visit_ended(WELL, visit())
    reporter.visit_skipped(ALICE, Skipped.OVERRUN)
    assert 3 == log.names.count(("warning", "visit skipped"))
    assert 14 == value(metrics, "polls_skipped_total", reason="overrun")


def test_an_account_whose_server_is_silent_is_shown_as_failing(reporter, log, metrics):
    """
    Nobody visits it, and no mail comes: that shows, with the server's own reason.
    """
    metrics.set_accounts({ALICE: Watched(replace(WELL, next_poll=NOW), 300.0)})
    reporter.visit_put_off(ALICE, "timeout", "no answer")
    level, event, fields = log.last
    assert ("warning", "visit skipped") == (level, event)
    assert ("unreachable", "no answer") == (fields["reason"], fields["error"])
    state = metrics.state(ALICE)
    assert ("timeout", f"{PUT_OFF}: no answer") == (state.reason, state.error)
    assert state.hint == fields["hint"] != ""
    assert (0, 0.0) == (state.consecutive_failures, state.next_poll)
    assert 1 == value(metrics, "polls_skipped_total", reason="unreachable")


def test_what_failed_by_itself_keeps_its_reason(reporter, metrics):
    """
    A server that falls silent does not hide that a password was refused.
    """
    refused = replace(WELL, reason="auth", error="refused")
    metrics.set_accounts({ALICE: Watched(refused, 300.0)})
    reporter.visit_put_off(ALICE, "timeout", "no answer")
    assert refused == metrics.state(ALICE)


def test_every_reason_to_skip_has_a_hint():
    """
    No reason was forgotten.
    """
    assert set(Skipped) == set(reporting._SKIPPED_HINTS)


# -- the service ----------------------------------------------------------------------


def test_the_life_of_the_service_is_told(reporter, log):
    """
    Start, stop and a stop that abandons visits are events.
    """
    reporter.started("0.1.0", 3, http="http://127.0.0.1:1/")
    reporter.stopping("SIGTERM", 2)
    reporter.stopped(clean=True)
    reporter.stopped(clean=False)
    started = {"version": "0.1.0", "accounts": 3, "http": "http://127.0.0.1:1/"}
    assert ("info", "started", started) == log.events[0]
    assert ("info", "stopping", {"signal": "SIGTERM", "visits": 2}) == log.events[1]
    assert ("info", "stopped", {}) == log.events[2]
    assert ("warning", "stopped, visits were abandoned") == log.names[3]


def test_a_configuration_that_was_taken(reporter, log, metrics):
    """
    It shows in both metrics; what it holds back is an error for each mistake, and to
    Prometheus a reload that failed.
    """
    mistake = Mistake("accounts.d/b.yaml", 3, 5, "account 'bob': user: missing")
    reporter.configured(frozenset({ALICE}), [mistake], [], NOW)
    assert ("info", "configuration taken", {"accounts": 1}) == log.events[0]
    level, event, fields = log.last
    assert ("error", "accounts are held back") == (level, event)
    assert "accounts.d/b.yaml:3:5: account 'bob': user: missing" == fields["mistake"]
    assert 0 == value(metrics, "config_last_reload_successful")
    doubt = Mistake("a", 1, 1, "tls: none: in clear")
    reporter.configured(frozenset({ALICE}), [], [doubt], NOW)
    assert ("warning", "configuration in doubt", {"doubt": str(doubt)}) == log.last
    assert 1 == value(metrics, "config_last_reload_successful")
    assert NOW == value(metrics, "config_last_reload_success_timestamp_seconds")


def test_a_configuration_that_was_refused(reporter, log, metrics):
    """
    Every mistake is told at once; the time of the last good one stays.
    """
    reporter.configured(frozenset({ALICE}), [], [], NOW)
    refused = ConfigurationError([Mistake("a", 1, 1, "x"), Mistake("a", 2, 1, "y")])
    reporter.refused(refused, NOW + 5)
    level, event, fields = log.last
    assert ("error", "configuration refused, the old one stays") == (level, event)
    assert ["a:1:1: x", "a:2:1: y"] == fields["mistakes"]
    assert 0 == value(metrics, "config_last_reload_successful")
    assert NOW == value(metrics, "config_last_reload_success_timestamp_seconds")


def test_an_account_that_went_is_forgotten(reporter, log):
    """
    If it comes back, its troubles are news.
    """
    bob = AccountName("bob")
    for names in ({ALICE, bob}, {bob}, {ALICE, bob}):
        reporter.configured(frozenset(names), [], [], NOW)
        reporter.visit_ended(WELL, failed(Disconnected("LIST", "reset")))
    assert 2 == log.names.count(("warning", "visit failed"))


def test_a_visit_is_measured_from_its_plan(reporter, log, metrics):
    """
    The delay between plan and start is observed; a clock put back gives no negative.
    """
    reporter.visit_started(ALICE, 0.25)
    reporter.visit_started(ALICE, -3.0)
    assert 0.25 == value(metrics, "schedule_delay_seconds_sum")
    assert 2 == value(metrics, "schedule_delay_seconds_count")
    assert ("debug", "visit begins") == log.names[-1]


def test_a_visit_that_broke_is_told(reporter, log):
    """
    An exception that no report tells of is critical, with its traceback.
    """
    error = ValueError("x")
    reporter.visit_broke(ALICE, error)
    level, _, fields = log.last
    assert ("critical", ALICE, error) == (level, fields["account"], fields["exc_info"])
