"""
What a visit did, told to the log and to Prometheus. Nobody else speaks.

Rules of this file:

- One event for each visit, and one for each thing that needs a person. Events are
  fixed sentences; what varies stands in fields, what a peer sent in fields only.
- Levels: *error* where waiting does not help, *warning* where it may, *info* where mail
  moved or an account recovered, *debug* where there was nothing to do.
- What stays as it was is told once, then at each EVERY-th visit with a count: a server
  that is down for a week does not fill a disk.
- A visit that never asked the server (another process holds the account, the server's
  floor between logins) is a skipped visit, not a failure of the account.
- `after` is pure: what is remembered of an account is a function of what was remembered
  and of the report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Protocol

from popfetchd.errors import (
    AccountLocked,
    Durability,
    Interrupted,
    Mistake,
    PopfetchdError,
    Reason,
    TooSoon,
)
from popfetchd.logs import Log
from popfetchd.values import (
    AccountName,
    AccountState,
    Outcome,
    PollReport,
    Skip,
    Skipped,
    Unproven,
    Verification,
)


EVERY = 12
"""Each which repetition is told: at the back-off's hour, twice a day."""

CERTIFICATE_DAYS = 14
"""Days before its end from which a certificate is spoken of: time enough to act."""

DAY = 86400.0

SOON = CERTIFICATE_DAYS * DAY

OVERDUE = 3600.0
"""Seconds that a planned visit may be late until the service itself is doubted: twice
what a visit may last by default."""

MOST_SENTENCES = 5
"""Sentences about single messages that one event holds; the others are counted."""


def skipped(failure: PopfetchdError | None) -> Skipped | None:
    """
    Return why the visit did not take place, None if it did.
    """
    if isinstance(failure, AccountLocked):
        return Skipped.LOCKED
    return Skipped.LOGIN_DELAY if isinstance(failure, TooSoon) else None


def after(state: AccountState, report: PollReport) -> AccountState:
    """
    Return what is remembered of the account after the visit that *report* tells of.

    A visit that reached its end is a success, though single messages may have failed.
    An interrupted one changes neither success nor failure. `next_poll` is left alone:
    only the schedule knows it.
    """
    if skipped(report.failure):
        return state
    return _judged(_observed(state, report), report)


def _observed(state: AccountState, report: PollReport) -> AccountState:
    """
    Take over what the visit saw; what it did not reach stays as last seen.
    """
    state = replace(
        state,
        last_poll=report.ended,
        archived=state.archived + report.archived,
        last_login=report.logged_in or state.last_login,
        # Counts from the login, whatever became of the listing.
        login_delay=report.login_delay or state.login_delay,
    )
    if report.channel is not None:
        expiry = report.channel.certificate_expiry or 0.0
        state = replace(state, certificate_expiry=expiry)
    if report.drop is None:
        return state
    return replace(
        state,
        maildrop_messages=report.drop.messages,
        maildrop_octets=report.drop.octets,
        waiting=report.waiting,
        quarantined=report.quarantined,
        too_large=report.skipped.get(Skip.TOO_LARGE, 0),
        refused=sum(report.unproven.get(why, 0) for why in LASTING),
        removals_paused=report.removals_paused,
        login_delay=report.login_delay or 0.0,
    )


def _judged(state: AccountState, report: PollReport) -> AccountState:
    failure = report.failure
    if failure is None:
        return replace(
            state,
            last_success=report.ended,
            consecutive_failures=0,
            reason="",
            error="",
            hint="",
        )
    if isinstance(failure, Interrupted):
        return state
    return replace(
        state,
        consecutive_failures=state.consecutive_failures + 1,
        reason=failure.reason.value,
        error=str(failure),
        hint=failure.hint,
    )


class Repeats:
    """
    Remembers what was said last, so that it is not said again at each visit.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._said: dict[tuple[AccountName, str], tuple[object, int]] = {}

    def count(self, account: AccountName, matter: str, value: object) -> int:
        """
        Return how often in a row *value* has been seen; 0: say nothing this time.
        """
        with self._lock:
            last, times = self._said.get((account, matter), (None, 0))
            times = times + 1 if last == value else 1
            self._said[account, matter] = (value, times)
        return times if times == 1 or times % EVERY == 0 else 0

    def over(self, account: AccountName, matter: str) -> None:
        """
        The matter is settled: its next occurrence is news.
        """
        with self._lock:
            self._said.pop((account, matter), None)

    def keep(self, accounts: frozenset[AccountName]) -> None:
        """
        Forget every other account.
        """
        with self._lock:
            self._said = {k: v for k, v in self._said.items() if k[0] in accounts}


@dataclass(frozen=True, slots=True)
class Matter:
    """
    A thing that needs a person: *event* with *fields* and a *hint*.

    It is told again at once when *value* changes.
    """

    event: str
    value: object
    hint: str
    fields: dict[str, object] = field(default_factory=dict)


CERTIFICATE = "certificate expires soon"
FAILED_MESSAGES = "messages failed"
LOST = "copies of an interrupted visit were not found"
FRAGMENTS = "an mbox holds parts of messages"
PAUSED = "removals are paused"
QUARANTINED = "messages are in quarantine"
RESET = "the maildrop was reset"
REFUSED = "removals were refused"
TOO_LARGE = "messages are too large"

NOT_TAKEN = "configuration refused, the old one stays"
PUT_OFF = "put off, the server did not answer another account"
HELD_BACK = "accounts are held back"
HELD_BACK_HINT = "correct the file and reload; the other accounts are visited"

LASTING = (Unproven.ALTERED, Unproven.MISSING)
"""Why a removal is refused at each visit; the others are told by the content next."""

TOO_LARGE_HINT = "they stay on the server; raise `max_message_size:` to have them"
REFUSED_HINT = (
    "the server sends other octets each time, or the copy in the archive is gone; "
    "`popfetchd verify` tells"
)
CERTIFICATE_HINT = (
    "tell the provider, or renew it if the server is yours; where it is pinned, write "
    "the next one's fingerprint beside it"
)
PAUSE_HINT = "they go on by themselves once each message has been matched"
DAMAGE_HINT = (
    "`popfetchd verify` names them; with --repair it fetches again what the server has"
)
QUARANTINE_HINT = (
    "they stay on the server and are tried once a day; `popfetchd status` tells which "
    "and why, `popfetchd retry ACCOUNT` tries them at the next visit"
)

MATTERS = (
    CERTIFICATE,
    FAILED_MESSAGES,
    FRAGMENTS,
    LOST,
    PAUSED,
    QUARANTINED,
    RESET,
    REFUSED,
    TOO_LARGE,
)


def matters(report: PollReport) -> Iterator[Matter]:
    """
    Yield what in *report* a person should look at, apart from its failure.
    """
    yield from _about_messages(report)
    yield from _about_removals(report)
    channel = report.channel
    if channel is not None and channel.certificate_expiry is not None:
        days = int((channel.certificate_expiry - report.ended) // DAY)
        if days < CERTIFICATE_DAYS:
            yield Matter(
                CERTIFICATE,
                days,
                CERTIFICATE_HINT,
                {"days": days},
            )


def _about_messages(report: PollReport) -> Iterator[Matter]:
    if report.failed_messages:
        yield Matter(
            FAILED_MESSAGES,
            report.failed_messages,
            "each is tried again; after three visits it is put into quarantine",
            {
                "messages": len(report.failed_messages),
                "errors": report.failed_messages[:MOST_SENTENCES],
            },
        )
    if report.quarantined:
        yield Matter(
            QUARANTINED,
            report.quarantined,
            QUARANTINE_HINT,
            {"messages": report.quarantined},
        )
    if too_large := report.skipped.get(Skip.TOO_LARGE):
        yield Matter(
            TOO_LARGE,
            too_large,
            TOO_LARGE_HINT,
            {"messages": too_large},
        )
    if report.lost_spools:
        yield Matter(
            LOST,
            object(),  # each is told
            "they are fetched again; does anything else clean the archive's tmp/?",
            {"messages": report.lost_spools},
        )
    if report.fragments:
        yield Matter(
            FRAGMENTS,
            object(),  # each is told
            "the messages are there whole as well; a program that broke our lock wrote "
            "behind the parts, which may be cut out by hand",
            {"messages": report.fragments},
        )


def _about_removals(report: PollReport) -> Iterator[Matter]:
    if report.reset:
        yield Matter(
            RESET,
            object(),  # each is told
            "the server renamed or lost many messages at once; "
            "nothing is archived twice, and nothing removed until all are matched",
        )
    if report.removals_paused:
        yield Matter(
            PAUSED,
            True,
            PAUSE_HINT,
        )
    if report.unproven:
        yield Matter(
            REFUSED,
            dict(report.unproven),
            "the messages stay on the server: their copies lack proof in this session",
            {why.value: count for why, count in report.unproven.items()},
        )


def standing(state: AccountState, now: float) -> Iterator[tuple[str, str]]:
    """
    Yield what stands with an account that a person should look at, each with a hint:
    its failure, and whatever else lasts from one visit to the next.

    *now* is in seconds since 1970.
    """
    if state.reason:
        yield f"{state.reason}: {state.error}", state.hint
    if state.quarantined:
        yield f"messages in quarantine: {state.quarantined}", QUARANTINE_HINT
    if state.too_large:
        yield f"{TOO_LARGE}: {state.too_large}", TOO_LARGE_HINT
    if state.refused:
        yield f"{REFUSED}: {state.refused}", REFUSED_HINT
    if state.removals_paused:
        yield PAUSED, PAUSE_HINT
    if state.damaged:
        yield f"damaged copies in the archive: {state.damaged}", DAMAGE_HINT
    if state.certificate_expiry and state.certificate_expiry - now < SOON:
        days = int((state.certificate_expiry - now) // DAY)
        ends = f"ends in {days} days" if days >= 0 else f"ended {-days} days ago"
        yield f"the certificate {ends}", CERTIFICATE_HINT
    if 0 < state.next_poll < now - OVERDUE:
        hours = int((now - state.next_poll) // 3600)
        yield f"the next visit is {hours} h late", "is the service running?"


class Counts(Protocol):
    """
    Where what happened is counted: the service's `Metrics`.
    """

    def reloaded(self, *, taken: bool, at: float) -> None:
        """A configuration was read and *taken*, or refused."""

    def poll_skipped(self, why: Skipped) -> None:
        """A visit that was due does not take place."""

    def poll_started(self, delay: float) -> None:
        """A visit begins, *delay* seconds late."""

    def poll_ended(self, report: PollReport) -> None:
        """A visit took place."""

    def verified(self, seen: Verification) -> None:
        """An archive was read against the ledger."""

    def account_changed(self, account: AccountName, state: AccountState) -> None:
        """What is remembered of *account* is *state* now."""

    def state(self, account: AccountName) -> AccountState | None:
        """Return how *account* is; None where that is not known here."""


class Uncounted:
    """
    The counts of a process that nobody scrapes: a verb's, which ends with its work.
    """

    def reloaded(self, *, taken: bool, at: float) -> None: ...

    def poll_skipped(self, why: Skipped) -> None: ...

    def poll_started(self, delay: float) -> None: ...

    def poll_ended(self, report: PollReport) -> None: ...

    def verified(self, seen: Verification) -> None: ...

    def account_changed(self, account: AccountName, state: AccountState) -> None: ...

    def state(self, account: AccountName) -> AccountState | None:
        """Return nothing: what is remembered stands in the ledger."""


class Reporter:
    """
    The one voice of the service. Safe to use from any thread that visits: no two
    threads visit one account.
    """

    def __init__(self, counts: Counts, log: Log) -> None:
        self._counts = counts
        self._log = log
        self._repeats = Repeats()

    # -- the service ------------------------------------------------------------------

    def started(self, version: str, accounts: int, **fields: object) -> None:
        """
        The service runs. *fields*: where it listens, its ledger, …
        """
        self._log.info("started", version=version, accounts=accounts, **fields)

    def stopping(self, signal: str, visits: int) -> None:
        """
        The service was told to stop while so many visits run.
        """
        self._log.info("stopping", signal=signal, visits=visits)

    def stopped(self, *, clean: bool) -> None:
        """
        The service ends; not *clean*: visits were abandoned.
        """
        if clean:
            self._log.info("stopped")
        else:
            self._log.warning(
                "stopped, visits were abandoned",
                hint="nothing is lost: the next visits go on from here",
            )

    def configured(
        self,
        accounts: frozenset[AccountName],
        held_back: Sequence[Mistake],
        doubts: Sequence[Mistake],
        at: float,
    ) -> None:
        """
        A configuration was taken, without what its bad files hold; *at* since 1970.

        *doubts* are what works and is seldom meant. Prometheus hears of a reload that
        held accounts back as of one that failed: a person is needed.
        """
        self._counts.reloaded(taken=not held_back, at=at)
        self._repeats.keep(accounts)
        self._log.info("configuration taken", accounts=len(accounts))
        for doubt in doubts:
            self._log.warning("configuration in doubt", doubt=str(doubt))
        for mistake in held_back:
            self._log.error(
                HELD_BACK,
                mistake=str(mistake),
                hint=HELD_BACK_HINT,
            )

    def refused(self, failure: PopfetchdError, at: float) -> None:
        """
        A configuration was refused; the old one stays.
        """
        self._counts.reloaded(taken=False, at=at)
        self._log.error(
            NOT_TAKEN,
            mistakes=str(failure).splitlines(),
            hint=failure.hint,
        )

    # -- visits -----------------------------------------------------------------------

    def visit_started(self, account: AccountName, delay: float) -> None:
        """
        A visit begins, *delay* seconds after its planned time.
        """
        self._counts.poll_started(delay)
        self._log.debug("visit begins", account=account, delay=round(delay, 3))

    def visit_put_off(self, account: AccountName, reason: str, error: str) -> None:
        """
        A visit that was due waits for its server, which failed to answer another
        account's with *error*: no mail comes, so the account is shown as failing.
        """
        state = self._counts.state(account) or AccountState()
        if not state.reason:
            said, hint = f"{PUT_OFF}: {error}", _SKIPPED_HINTS[Skipped.UNREACHABLE]
            state = replace(
                state, reason=reason, error=said, hint=hint, next_poll=0.0
            )  # when that will be nobody knows
            self._counts.account_changed(account, state)
        self.visit_skipped(account, Skipped.UNREACHABLE, error=error)

    def visit_skipped(
        self, account: AccountName, why: Skipped, **fields: object
    ) -> None:
        """
        A visit that was due does not take place.
        """
        self._counts.poll_skipped(why)
        if times := self._repeats.count(account, "skipped", why):
            self._log.warning(
                "visit skipped",
                account=account,
                reason=why.value,
                **fields,
                **_repeated(times),
                hint=_SKIPPED_HINTS[why],
            )

    def visit_ended(self, before: AccountState, report: PollReport) -> None:
        """
        A visit ended; *before* is what was remembered of the account until now.
        """
        if (why := skipped(report.failure)) is not None:
            self.visit_skipped(report.account, why)
            return
        self._counts.poll_ended(report)
        self._repeats.over(report.account, "skipped")
        if report.failure is None:
            self._tell_success(before, report)
        else:
            self._tell_failure(report, report.failure)
        self._tell_matters(report)

    def _tell_success(self, before: AccountState, report: PollReport) -> None:
        self._repeats.over(report.account, "failure")
        fields = _figures(report)
        if before.reason:
            fields["failures_before"] = before.consecutive_failures
        moved = report.archived or report.removed or report.settled or before.reason
        tell = self._log.info if moved else self._log.debug
        if report.outcome is Outcome.PARTIAL:
            tell = self._log.warning
        tell("visit ended", account=report.account, **fields)

    def _tell_failure(self, report: PollReport, failure: PopfetchdError) -> None:
        kind = (type(failure), failure.reason)
        times = self._repeats.count(report.account, "failure", kind)
        if not (times or report.archived or report.removed):
            return
        lasting = failure.durability is Durability.PERMANENT
        unforeseen = failure.reason is Reason.INTERNAL
        tell = self._log.error if lasting or unforeseen else self._log.warning
        if isinstance(failure, Interrupted):
            tell = self._log.info
        tell(
            "visit failed",
            account=report.account,
            **_figures(report),
            reason=failure.reason.value,
            error=str(failure),
            fault=failure.fault.value,
            hint=failure.hint,
            **_repeated(times),
            exc_info=failure if unforeseen else None,
        )

    def _tell_matters(self, report: PollReport) -> None:
        found = list(matters(report))
        for matter in found:
            times = self._repeats.count(report.account, matter.event, matter.value)
            if times:
                self._log.warning(
                    matter.event,
                    account=report.account,
                    **matter.fields,
                    hint=matter.hint,
                    **_repeated(times),
                )
        if report.drop is not None:  # what was not looked at is not settled
            for event in set(MATTERS) - {matter.event for matter in found}:
                self._repeats.over(report.account, event)

    # -- the archive ------------------------------------------------------------------

    def verified(self, seen: Verification) -> None:
        """
        An archive was read against the ledger, or as far as that went.
        """
        self._counts.verified(seen)
        if seen.failure is not None:
            self._tell_unverified(seen, seen.failure)
        elif not seen.damage:
            self._log.info("archive verified", account=seen.account, **_counted(seen))
        if seen.damage:
            self._log.error(
                "copies in the archive are damaged",
                account=seen.account,
                **_counted(seen),
                copies=tuple(
                    str(damage.path) for damage in seen.damage[:MOST_SENTENCES]
                ),
                hint=DAMAGE_HINT,
            )

    def _tell_unverified(self, seen: Verification, failure: PopfetchdError) -> None:
        interrupted = isinstance(failure, Interrupted)
        tell = self._log.info if interrupted else self._log.error
        tell(
            "archive not verified to its end",
            account=seen.account,
            **_counted(seen),
            reason=failure.reason.value,
            error=str(failure),
            hint=failure.hint,
            exc_info=failure if failure.reason is Reason.INTERNAL else None,
        )

    def visit_broke(self, account: AccountName, error: BaseException) -> None:
        """
        An exception escaped where none may: a fault of ours that ended one visit.
        """
        self._log.critical(
            "a visit ended without a report",
            account=account,
            error=str(error),
            hint="please report this: it is a fault of popfetchd",
            exc_info=error,
        )


_SKIPPED_HINTS = {
    Skipped.OVERRUN: (
        "the last visit has not ended: make `every:` longer, or raise `limits:`"
    ),
    Skipped.LOCKED: "wait for the other popfetchd to end; nothing is lost",
    Skipped.LOGIN_DELAY: "make `every:` longer than the server's LOGIN-DELAY, or `login_floor:`",
    Skipped.UNREACHABLE: (
        "nothing to do here: one account at a time asks whether the server is back, and "
        "all are visited as soon as it is"
    ),
    Skipped.STOPPING: "the service is shutting down; nothing is lost",
}


def _counted(seen: Verification) -> dict[str, object]:
    """
    Return what was read, and how it was found; what is zero is left out.
    """
    conditions = Counter(damage.condition.value for damage in seen.damage)
    figures: dict[str, object] = {
        "messages": seen.messages,
        "octets": seen.octets,
        **conditions,
        "moved": seen.moved,
        "unknown": len(seen.unknown),
    }
    shown = {name: value for name, value in figures.items() if value}
    return shown | {"seconds": round(seen.ended - seen.started, 3)}


def _figures(report: PollReport) -> dict[str, object]:
    """
    Return what moved, and how long it took; what is zero is left out.
    """
    figures: dict[str, object] = {
        "archived": report.archived,
        "archived_octets": report.archived_octets,
        "matched": report.matched,
        "removed": report.removed,
        "waiting": report.waiting,
        "settled": report.settled,
        "unchanged": report.unchanged,
        "surprise": report.surprise,
        **{f"skipped_{why.value}": count for why, count in report.skipped.items()},
    }
    moved = {name: figure for name, figure in figures.items() if figure}
    outcome = {"outcome": report.outcome.value, "seconds": round(report.duration, 3)}
    return outcome | moved


def _repeated(times: int) -> dict[str, object]:
    return {"times": times} if times > 1 else {}
