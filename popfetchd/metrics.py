"""
What Prometheus sees.

Rules of this file:

- prometheus_client is imported here and nowhere else. Each `Metrics` has a registry of
  its own, so that nothing is global and tests do not meet.
- Every series exists from start-up: the values of closed label sets are made at once.
- Labels are configured account names and closed sets, never a peer's text (P4).
- Methods speak of what happened; who calls them knows no series.
- What belongs to an account is not kept in label children: it is rendered at the scrape
  from a table of states, so that it comes and goes with the account.
- docs/metrics.md tells the meaning of each series; a test holds it to this file.
"""

from __future__ import annotations

import os
import platform
import stat

from collections import Counter as Counted
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from threading import Lock

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from popfetchd import __version__
from popfetchd.errors import NotProved, Reason
from popfetchd.values import (
    NEVER,
    AccountName,
    AccountState,
    Outcome,
    PollReport,
    Skip,
    Skipped,
    Stage,
    Unproven,
    Verification,
)


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that every Prometheus reads."""

POLL_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
"""From an empty maildrop nearby to half the default deadline of a visit."""

DELAY_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)
"""From a free pool to one that is far too small."""

MOST_ACCOUNTS = 2000
"""Accounts that `per_account: auto` shows in full: 22,000 series to be stored."""


class PerAccount(StrEnum):
    """
    Which accounts have series of their own (`metrics: {per_account: …}`).
    """

    AUTO = "auto"
    """All of them up to MOST_ACCOUNTS, beyond that those that fail."""
    ALWAYS = "always"
    FAILING = "failing"
    NEVER = "never"


class Condition(StrEnum):
    """
    How an account is, in one word.
    """

    OK = "ok"
    FAILING = "failing"
    PENDING = "pending"
    """Not visited yet."""

    @classmethod
    def of(cls, state: AccountState) -> Condition:
        """
        Tell it from what is remembered of the account.
        """
        if state.reason:
            return cls.FAILING
        return cls.OK if state.last_poll else cls.PENDING


@dataclass(frozen=True, slots=True)
class Watched:
    """
    What is shown of one account. *interval*: seconds between two planned visits.
    """

    state: AccountState
    interval: float


@dataclass(frozen=True, slots=True)
class AccountSeries:
    """
    A series that each account has: `popfetchd_account_` and *name*.
    """

    name: str
    help: str
    value: Callable[[Watched], float]
    kind: str = "gauge"

    def rendered(self, shown: Mapping[AccountName, Watched]) -> Iterator[str]:
        """
        Yield its text, with a line for each account that is *shown*.
        """
        name, value = f"popfetchd_account_{self.name}", self.value
        yield _head(name, self.kind, self.help)
        for account, watched in shown.items():
            figure = floatToGoString(value(watched))  # type: ignore[no-untyped-call]
            yield f'{name}{{account="{account}"}} {figure}\n'


def _next_poll(watched: Watched) -> float:
    moment = watched.state.next_poll
    return moment if moment < NEVER else 0.0


ACCOUNT_SERIES = (
    AccountSeries(
        "last_poll_timestamp_seconds",
        "When the account was last visited; 0: never.",
        lambda watched: watched.state.last_poll,
    ),
    AccountSeries(
        "last_success_timestamp_seconds",
        "When a visit of the account last reached its end; 0: never.",
        lambda watched: watched.state.last_success,
    ),
    AccountSeries(
        "next_poll_timestamp_seconds",
        "When the next visit of the account is planned; 0: not known.",
        _next_poll,
    ),
    AccountSeries(
        "poll_interval_seconds",
        "Seconds between two planned visits of the account.",
        lambda watched: watched.interval,
    ),
    AccountSeries(
        "consecutive_failures",
        "Visits of the account that failed since the last good one.",
        lambda watched: watched.state.consecutive_failures,
    ),
    AccountSeries(
        "messages_archived_total",
        "Messages of the account that were archived, also before a restart.",
        lambda watched: watched.state.archived,
        "counter",
    ),
    AccountSeries(
        "maildrop_messages",
        "Messages that lay in the maildrop at the last visit.",
        lambda watched: watched.state.maildrop_messages,
    ),
    AccountSeries(
        "maildrop_bytes",
        "Octets that lay in the maildrop at the last visit, as the server lists them.",
        lambda watched: watched.state.maildrop_octets,
    ),
    AccountSeries(
        "messages_quarantined",
        "Messages left on the server because each failed too often.",
        lambda watched: watched.state.quarantined,
    ),
    AccountSeries(
        "removals_paused",
        "1 while nothing is removed from the maildrop because it was reset.",
        lambda watched: watched.state.removals_paused,
    ),
    AccountSeries(
        "tls_certificate_expiry_timestamp_seconds",
        "When the server's certificate expires; 0: not seen.",
        lambda watched: watched.state.certificate_expiry,
    ),
)


class Accounts(Collector):
    """
    The table of accounts, rendered at each scrape.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._watched: dict[AccountName, Watched] = {}
        self._per_account = PerAccount.AUTO

    def show(self, per_account: PerAccount) -> None:
        """
        Choose the accounts that have series of their own.
        """
        self._per_account = per_account

    def replace(self, watched: Mapping[AccountName, Watched]) -> None:
        """
        Show these accounts, and no others. A visit that ended meanwhile stays told, and
        so does who waits for a silent server.
        """
        with self._lock:
            before = self._watched
            self._watched = {
                name: _later(before.get(name), now) for name, now in watched.items()
            }

    def update(self, account: AccountName, state: AccountState) -> None:
        """
        Show *state*. An account that was taken away meanwhile stays away.
        """
        with self._lock:
            if (watched := self._watched.get(account)) is not None:
                self._watched[account] = Watched(state, watched.interval)

    def state(self, account: AccountName) -> AccountState | None:
        """
        Return how *account* is; None if it is not shown.
        """
        watched = self._watched.get(account)
        return None if watched is None else watched.state

    def states(self) -> dict[AccountName, AccountState]:
        """
        Return how each account is, as the status page shows it.
        """
        with self._lock:
            return {name: watched.state for name, watched in self._watched.items()}

    def collect(self) -> Iterator[Metric]:
        """
        Yield how many accounts are how.
        """
        with self._lock:
            everyone = list(self._watched.values())
        family = GaugeMetricFamily(
            "popfetchd_accounts",
            "Configured accounts, by how they are.",
            labels=["state"],
        )
        found = Counted(Condition.of(watched.state) for watched in everyone)
        for condition in Condition:
            family.add_metric([condition], found[condition])
        yield family

    def rendered(self) -> Iterator[str]:
        """
        Yield the text of the series that each account has.

        Through prometheus_client those of ten thousand accounts would take 3 s. A name
        needs no escape: the configuration allows none that would.
        """
        with self._lock:
            everyone = dict(self._watched)
        shown = self._shown(everyone)
        for series in ACCOUNT_SERIES:
            yield from series.rendered(shown)
        yield from _failing(shown)

    def _shown(
        self, everyone: dict[AccountName, Watched]
    ) -> dict[AccountName, Watched]:
        choice = self._per_account
        if choice is PerAccount.AUTO:
            many = len(everyone) > MOST_ACCOUNTS
            choice = PerAccount.FAILING if many else PerAccount.ALWAYS
        if choice is PerAccount.NEVER:
            return {}
        if choice is PerAccount.ALWAYS:
            return everyone
        return {name: w for name, w in everyone.items() if w.state.reason}


def _later(before: Watched | None, now: Watched) -> Watched:
    if before is None or before.state.last_poll < now.state.last_poll:
        return now
    was, state = before.state, now.state
    if was.last_poll > state.last_poll:
        return Watched(was, now.interval)
    if was.reason and not state.reason:  # put off, of which the ledger does not know
        told = replace(
            state,
            reason=was.reason,
            error=was.error,
            hint=was.hint,
            next_poll=was.next_poll,
        )
        return Watched(told, now.interval)
    return now


def _failing(shown: Mapping[AccountName, Watched]) -> Iterator[str]:
    name = "popfetchd_account_failing"
    yield _head(name, "gauge", "1 while the account fails; absent otherwise.")
    for account, watched in shown.items():
        if reason := watched.state.reason:
            yield f'{name}{{account="{account}",reason="{reason}"}} 1.0\n'


def _head(name: str, kind: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


class FreeSpace(Collector):
    """
    Free space below the archives, asked for at each scrape: it is never stale.
    """

    def __init__(self) -> None:
        self._folders: frozenset[str] = frozenset()

    def watch(self, directories: Iterable[Path]) -> None:
        """
        Show the file systems on which *directories* (absolute) lie, or will lie.
        """
        self._folders = frozenset(map(str, directories))

    def collect(self) -> Iterator[Metric]:
        """
        Yield the one family; a file system that cannot be asked is left out.
        """
        family = GaugeMetricFamily(
            "popfetchd_archive_free_bytes",
            "Bytes free for popfetchd on a file system that holds archives.",
            labels=["mountpoint"],
        )
        for mountpoint in sorted(_mountpoints(self._folders)):
            try:
                free = os.statvfs(mountpoint)
            except OSError:
                continue
            label = os.fsencode(mountpoint).decode(errors="replace")
            family.add_metric([label], free.f_bavail * free.f_frsize)
        yield family


def _mountpoints(folders: Iterable[str]) -> set[str]:
    """
    Return where the file systems of *folders* are mounted.
    """
    seen: dict[str, Mount] = {}
    return {_mount(folder, seen).point for folder in folders}


@dataclass(frozen=True, slots=True)
class Mount:
    """
    Where a file system is mounted, and its number (`st_dev`).
    """

    point: str
    device: int


def _mount(folder: str, seen: dict[str, Mount]) -> Mount:
    """
    Return the mount of *folder*, which need not exist yet.

    *seen* keeps those found by now: of thousands of neighbours each costs one look, and
    what they have in common is looked at once.
    """
    if folder not in seen:
        seen[folder] = _found(folder, seen)
    return seen[folder]


def _found(folder: str, seen: dict[str, Mount]) -> Mount:
    parent = os.path.dirname(folder)  # noqa: PTH120 -- a Path costs more than the look
    try:
        entry = os.lstat(folder)
    except OSError:  # not there yet
        return _mount(parent, seen)
    if stat.S_ISLNK(entry.st_mode):
        real = os.path.realpath(folder)
        # A link that leads to itself, or beneath itself, leads nowhere.
        nowhere = f"{real}/".startswith(f"{folder}/")
        return _mount(parent if nowhere else real, seen)
    mount = Mount(folder, entry.st_dev)
    if folder == parent:
        return mount
    above = _mount(parent, seen)
    return above if above.device == mount.device else mount


class Metrics:
    """
    All series of one service (design, section 6).
    """

    def __init__(
        self,
        *,
        per_account: PerAccount = PerAccount.AUTO,
        python: str = platform.python_version(),
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._accounts = Accounts()
        self._free_space = FreeSpace()
        self._make_service_series(python)
        self._make_visit_series()
        self._make_message_series()
        self.show_accounts(per_account)
        self.registry.register(self._accounts)
        self._surroundings = CollectorRegistry()
        self._surroundings.register(self._free_space)
        ProcessCollector(registry=self._surroundings)

    def _make_service_series(self, python: str) -> None:
        self._gauge("build_info", "1, for the version.", "version", "python").labels(
            __version__, python
        ).set(1)
        self._sessions_active = self._gauge(
            "sessions_active", "Visits that run at this moment."
        )
        self._reload_successful = self._gauge(
            "config_last_reload_successful",
            "1 if the last reading of the configuration was taken, 0 if refused.",
        )
        self._reload_time = self._gauge(
            "config_last_reload_success_timestamp_seconds",
            "When a configuration was last taken; 0: never.",
        )

    def _make_visit_series(self) -> None:
        self._polls = self._counter("polls", "Visits, by outcome.", "outcome", Outcome)
        self._failures = self._counter(
            "poll_failures", "What ended visits early.", "reason", Reason
        )
        self._skipped = self._counter(
            "polls_skipped",
            "Visits that were due and did not take place.",
            "reason",
            Skipped,
        )
        self._duration = self._histogram(
            "poll_duration_seconds", "How long visits took.", POLL_SECONDS
        )
        self._stages = self._histogram(
            "poll_stage_duration_seconds",
            "How long each stage of a visit took.",
            POLL_SECONDS,
            "stage",
        )
        for stage in Stage:
            self._stages.labels(stage)
        self._delay = self._histogram(
            "schedule_delay_seconds",
            "How long after its planned time a visit began.",
            DELAY_SECONDS,
        )

    def _make_message_series(self) -> None:
        self._archived = self._counter("messages_archived", "Messages archived.")
        self._archived_bytes = self._counter(
            "archived_bytes", "Octets of the messages archived, as received."
        )
        self._removed = self._counter(
            "messages_removed", "Messages removed from maildrops after a proved copy."
        )
        self._messages_skipped = self._counter(
            "messages_skipped", "Messages left where they were.", "reason", Skip
        )
        self._refused = self._counter(
            "removals_refused",
            "Removals that were due and lacked their proof.",
            "reason",
            Unproven,
        )
        self._verify_failures = self._counter(
            "verify_failures",
            "Copies that were missing, or other than they were written, when read back.",
        )

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"popfetchd_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"popfetchd_{name}", text, labels, registry=self.registry, buckets=buckets
        )

    def _counter(
        self, name: str, text: str, label: str = "", values: Iterable[str] = ()
    ) -> Counter:
        labels = [label] if label else []
        counter = Counter(f"popfetchd_{name}", text, labels, registry=self.registry)
        for value in values:
            counter.labels(value)
        return counter

    # -- the page ---------------------------------------------------------------------

    def page(self) -> bytes:
        """
        Return the whole page, as CONTENT_TYPE says.
        """
        return b"".join(
            (
                generate_latest(self.registry),
                "".join(self._accounts.rendered()).encode(),
                generate_latest(self._surroundings),
            )
        )

    # -- the service ------------------------------------------------------------------

    def show_accounts(self, per_account: PerAccount) -> None:
        """
        Choose the accounts that have series of their own.
        """
        self._accounts.show(per_account)

    def set_accounts(self, watched: Mapping[AccountName, Watched]) -> None:
        """
        These accounts are configured now, and no others.
        """
        self._accounts.replace(watched)

    def state(self, account: AccountName) -> AccountState | None:
        """
        Return how *account* is; None if it is not configured.
        """
        return self._accounts.state(account)

    def states(self) -> dict[AccountName, AccountState]:
        """
        Return how each configured account is.
        """
        return self._accounts.states()

    def set_archives(self, directories: Iterable[Path]) -> None:
        """
        These absolute paths hold archives, or will.
        """
        self._free_space.watch(directories)

    def count_sessions(self, active: Callable[[], int]) -> None:
        """
        Ask *active* at each scrape how many visits run.
        """
        self._sessions_active.set_function(active)

    def reloaded(self, *, taken: bool, at: float) -> None:
        """
        A configuration was read and *taken*, or refused; *at* is seconds since 1970.
        """
        self._reload_successful.set(taken)
        if taken:
            self._reload_time.set(at)

    # -- visits -----------------------------------------------------------------------

    def poll_skipped(self, why: Skipped) -> None:
        """
        A visit that was due does not take place.
        """
        self._skipped.labels(why).inc()

    def poll_started(self, delay: float) -> None:
        """
        A visit begins, *delay* seconds after its planned time.
        """
        self._delay.observe(max(0.0, delay))

    def poll_ended(self, report: PollReport) -> None:
        """
        A visit took place.
        """
        self._polls.labels(report.outcome).inc()
        if report.failure is not None:
            self._failures.labels(report.failure.reason).inc()
        if isinstance(report.failure, NotProved):
            self._verify_failures.inc()
        self._duration.observe(report.duration)
        for stage, seconds in report.stages.items():
            self._stages.labels(stage).observe(seconds)
        self._count_messages(report)

    def verified(self, seen: Verification) -> None:
        """
        An archive was read against the ledger.
        """
        self._verify_failures.inc(len(seen.damage))

    def _count_messages(self, report: PollReport) -> None:
        self._archived.inc(report.archived)
        self._archived_bytes.inc(report.archived_octets)
        self._removed.inc(report.removed)
        for skip, count in report.skipped.items():
            self._messages_skipped.labels(skip).inc(count)
        for unproven, count in report.unproven.items():
            self._refused.labels(unproven).inc(count)

    def account_changed(self, account: AccountName, state: AccountState) -> None:
        """
        What is remembered of *account* is *state* now.
        """
        self._accounts.update(account, state)
