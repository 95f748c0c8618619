"""
The composition root: every object of the service is made here, and handed what it needs.

Rules of this file:

- `Service` is what `run` runs: schedule → pool → visit, the HTTP page, signals, reload.
- An archive is verified after a visit, when `verify_every` has passed, one at a time, in
  a thread that gives way to those that visit.
- Signals only put a wish into a queue; the main thread grants it. The system may give a
  signal to any of many threads, and Python lets the main one handle it: a bell wakes it.
  A second wish to stop ends the process at once: that is safe at any instant (P1).
- A reload is all or nothing: a configuration that has a mistake changes nothing. A
  running visit ends as it began, with the account it was given.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import socket
import sys
import threading
import time

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from types import FrameType

from popfetchd import __version__, logs
from popfetchd.archive.inventory import ledgers_at
from popfetchd.config import load, plain
from popfetchd.config.model import Configuration, Http
from popfetchd.errors import (
    AddressTaken,
    ArchiveError,
    ConfigurationError,
    LedgerBehind,
    LedgerError,
    Mistake,
    PopfetchdError,
)
from popfetchd.ledger import Ledger
from popfetchd.metrics import Metrics, PerAccount, Watched
from popfetchd.pool import Key as Door
from popfetchd.pool import Pool, Silence
from popfetchd.report import HELD_BACK, HELD_BACK_HINT, NOT_TAKEN, Reporter
from popfetchd.schedule import Scheduler, earliest, floor, interval
from popfetchd.values import (
    NEVER,
    Account,
    AccountName,
    AccountState,
    LedgerId,
    Server,
    Skipped,
)
from popfetchd.visits import Visits
from popfetchd.web import Access, Guard, Refusal, Site, parse_listen, tls_context
from popfetchd.web import Server as WebServer


GRACE = 1.0
"""
Seconds that running visits have to end when the service is told to stop: enough for the
message under way and QUIT, where the server answers. What has not ended then is
abandoned, which is safe at any instant (P1), and goes on at the next start: who restarts
a service does not wait for the slowest of many servers, and Docker kills after ten.
"""

GIVING_WAY = 10
"""The nice value of a thread that verifies: it reads for hours, and nobody waits."""


TURN = 0.0005
"""Seconds after which a reload lets other threads go on, a tenth of Python's own value:
a visit asks for its turn a hundred times, and thousands of accounts take a second."""


class Wish(StrEnum):
    """
    What a signal, or the demo, asks of the service.
    """

    STOP = "stop"
    RELOAD = "reload"


SIGNALS = {
    signal.SIGTERM: Wish.STOP,
    signal.SIGINT: Wish.STOP,
    signal.SIGHUP: Wish.RELOAD,
}


class Bell:
    """
    Wakes the main thread: its wait ends, whichever thread was given the signal.
    """

    def __init__(self) -> None:
        self._ends: tuple[socket.socket, socket.socket] | None = None
        """What is heard, and what is rung; None while nobody waits."""

    @contextmanager
    def hung(self) -> Iterator[None]:
        """
        Let every signal that has a handler ring it. In the main thread.
        """
        heard, rung = socket.socketpair()
        with heard, rung:
            heard.setblocking(False)
            rung.setblocking(False)
            before = signal.set_wakeup_fd(rung.fileno(), warn_on_full_buffer=False)
            self._ends = heard, rung
            try:
                yield
            finally:
                self._ends = None
                signal.set_wakeup_fd(before)

    def ring(self) -> None:
        """
        Let who waits go on. From any thread, or a signal handler.
        """
        ends = self._ends
        with suppress(OSError):  # it rings already, or was taken down
            if ends is not None:
                ends[1].send(b"\0")

    def wait(self, seconds: float) -> None:
        """
        Wait until it rings, or so many *seconds*. It must hang.
        """
        assert self._ends is not None  # noqa: S101 -- `run` hangs it first
        heard, _ = self._ends
        select.select([heard], [], [], seconds)
        with suppress(BlockingIOError):
            heard.recv(4096)


class Service:
    """
    The service: one object, one `run`, from the configuration to the last visit.
    """

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        loaded = load.load(path, environ)
        self._path = path
        self._environ = environ
        self._loaded = loaded
        self._accounts: dict[AccountName, Account] = {}
        self._wishes: queue.SimpleQueue[Wish] = queue.SimpleQueue()
        self._bell = Bell()
        self._stop = threading.Event()
        logs.load()
        self._log_as(loaded.configuration)
        self.ledger = Ledger(loaded.configuration.ledger, now=time.time)
        self.metrics = Metrics()
        self.reporter = Reporter(self.metrics, logs.get())
        self._visits = Visits(
            self.ledger,
            self.metrics,
            self.reporter,
            environ,
            heard=self._heard,
        )
        limits = loaded.configuration.limits
        self._pool = Pool(
            limits.sessions, limits.sessions_per_host, self.reporter.visit_broke
        )
        self._verifiers = Pool(1, 1, self.reporter.visit_broke)
        self._scheduler = Scheduler(self._due, beat=self._pool.wake)
        self.metrics.count_sessions(lambda: self._pool.active)
        self._refusal: Refusal | None = None
        site = Site(
            self.metrics.page,
            self.healthy,
            self.healthy,
            self.metrics.states,
            lambda: self._refusal,
        )
        try:
            accounts = plain.by_name(loaded.configuration, loaded.configuration, {})
            self._check_ledger(accounts)
            self._web = serve(loaded.configuration.http, site)
        except PopfetchdError:
            self.ledger.close()
            raise
        states = self.ledger.states()
        self._take(loaded, accounts, states)
        well = (a for n, a in self._accounts.items() if _is_well(states.get(n)))
        self._pool.answered(*{_door(account.server) for account in well})

    def _check_ledger(self, accounts: Mapping[AccountName, Account]) -> None:
        # Now, and not at some visit: it concerns every account.
        self.ledger.check(quick=True)
        if not self.ledger.is_new():
            return
        for account in accounts.values():
            others: set[LedgerId] = set()
            with suppress(ArchiveError):  # its visits will tell
                others = ledgers_at(account.destination, time.time) - {self.ledger.id}
            if others:
                path = account.destination.path
                problem = f"is new, and knows nothing of the mail in {path}"
                raise LedgerBehind(self.ledger.path, problem)

    # -- life -------------------------------------------------------------------------

    def run(self) -> bool:
        """
        Serve until told to stop. Returns False when visits had to be abandoned.

        To be called in the main thread, for the signals.
        """
        systemd = Systemd(self._environ)
        with self._signals(), self._served():
            self._scheduler.start()
            self.reporter.started(
                __version__,
                len(self._accounts),
                http=self.url,
                ledger=str(self._loaded.configuration.ledger),
            )
            systemd.tell("READY=1", self._status())
            self._serve(systemd)
            systemd.tell("STOPPING=1")
            clean = self._end()
        self.reporter.stopped(clean=clean)
        return clean

    @property
    def url(self) -> str:
        """
        Where a person finds the status page.
        """
        return self._web.url

    def wish(self, wish: Wish) -> None:
        """
        Ask the service for something; from any thread, or a signal handler.
        """
        if wish is Wish.STOP and self._stop.is_set():
            os._exit(128 + signal.SIGTERM)  # asked twice: at once, which is safe (P1)
        if wish is Wish.STOP:
            self._stop.set()
        self._wishes.put(wish)
        self._bell.ring()

    def _serve(self, systemd: Systemd) -> None:
        while not self._stop.is_set():
            if self._wished(systemd.watchdog_interval) is Wish.RELOAD:
                systemd.tell(*systemd.reloading())
                self.reload()
                systemd.tell("READY=1", self._status())
            if self.healthy():
                systemd.tell("WATCHDOG=1", self._status())

    def _wished(self, seconds: float) -> Wish | None:
        """
        Return what is wished for, None if nothing is within so many *seconds*.
        """
        if self._wishes.empty():
            self._bell.wait(seconds)
        with suppress(queue.Empty):
            return self._wishes.get_nowait()
        return None

    def _status(self) -> str:
        """
        Return what `systemctl status` is to show: how many accounts, and what is wrong.
        """
        states = self.metrics.states().values()
        failing = sum(1 for state in states if state.reason)
        count = len(self._accounts)
        said = ["1 account" if count == 1 else f"{count} accounts"]
        said += [f"{failing} of them failing"] if failing else []
        said += [self._refusal.what] if self._refusal else []
        return f"STATUS={'; '.join(said)}"

    def _end(self) -> bool:
        self._stop.set()
        self.reporter.stopping("stop", self._pool.active)
        self._scheduler.stop()
        self._verifiers.close()
        clean = self._pool.drain(GRACE) and self._verifiers.wait(GRACE)
        if clean:
            self.ledger.close()
        return clean

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def handle(number: int, _frame: FrameType | None) -> None:
            self.wish(SIGNALS[signal.Signals(number)])

        before = {number: signal.signal(number, handle) for number in SIGNALS}
        with self._bell.hung():
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    @contextmanager
    def _served(self) -> Iterator[None]:
        self._web.start()
        try:
            yield
        finally:
            self._web.stop()

    # -- accounts ---------------------------------------------------------------------

    def reload(self) -> None:
        """
        Read the configuration again and take it; one with a mistake changes nothing.
        """
        with _in_small_turns():
            self._reload()

    def _reload(self) -> None:
        try:
            loaded = load.load(self._path, self._environ, self._loaded)
            self._refuse_what_needs_a_restart(loaded.configuration)
            self._web.access = access(loaded.configuration.http)
        except PopfetchdError as error:
            self._refused(NOT_TAKEN, str(error).splitlines(), error.hint)
            self.reporter.refused(error, time.time())
            return
        former = self._loaded.configuration
        accounts = plain.by_name(loaded.configuration, former, self._accounts)
        states = self.ledger.states()
        self._take(loaded, accounts, states)
        self._try_again(states)

    def _try_again(self, states: Mapping[AccountName, AccountState]) -> None:
        # Whoever reloads has mended something: back-off ends, the server's floor stays.
        for name, state in states.items():
            if state.reason and name in self._accounts:
                least = self._accounts[name].habits.login_floor
                self._scheduler.hold(name, floor(state, login_floor=least))

    def _refuse_what_needs_a_restart(self, configuration: Configuration) -> None:
        mistakes = [
            Mistake(str(self._path), 0, 0, f"{key}: a change needs a restart")
            for key, old, new in (
                ("ledger", self._loaded.configuration.ledger, configuration.ledger),
                (
                    "http: listen",
                    self._loaded.configuration.http.listen,
                    configuration.http.listen,
                ),
            )
            if old != new
        ]
        if mistakes:
            raise ConfigurationError(mistakes)

    def _take(
        self,
        loaded: load.Loaded,
        accounts: dict[AccountName, Account],
        states: Mapping[AccountName, AccountState],
    ) -> None:
        configuration = loaded.configuration
        if loaded.held_back:  # what a bad file holds stays as it was
            accounts = self._accounts | accounts
        self._loaded = loaded
        self._log_as(configuration)
        self._visits.sessions.renew()
        self._refusal = None
        if loaded.held_back:
            self._refused(HELD_BACK, map(str, loaded.held_back), HELD_BACK_HINT)
        limits = configuration.limits
        self._pool.resize(limits.sessions, limits.sessions_per_host)
        former = self._accounts
        changed = (n for n in former if accounts.get(n) is not former[n])
        waiting = self._pool.withdraw(changed)
        self._pool.keep({_door(account.server) for account in accounts.values()})
        self._schedule(accounts, states)
        for name in waiting:  # as it is now
            self._scheduler.trigger_now(name)
        self._show(accounts, states)
        self.reporter.configured(
            frozenset(accounts), loaded.held_back, loaded.doubts, time.time()
        )

    def _log_as(self, configuration: Configuration) -> None:
        log = configuration.log
        logs.set_up(log.level.value, log.format.value, self._environ)

    def _refused(self, what: str, mistakes: Iterable[str], hint: str) -> None:
        self._refusal = Refusal(time.time(), what, tuple(mistakes), hint)

    def _schedule(
        self,
        accounts: dict[AccountName, Account],
        states: Mapping[AccountName, AccountState],
    ) -> None:
        self._accounts = accounts
        self._scheduler.set_accounts(
            {name: account.schedule for name, account in accounts.items()},
            {
                name: _earliest(state, accounts[name])
                for name, state in states.items()
                if name in accounts
            },
        )

    def _show(
        self,
        accounts: dict[AccountName, Account],
        states: Mapping[AccountName, AccountState],
    ) -> None:
        now = time.time()
        self.metrics.show_accounts(
            PerAccount(self._loaded.configuration.metrics.per_account.value)
        )
        self.metrics.set_archives({a.destination.path for a in accounts.values()})
        self.metrics.set_accounts(
            {
                name: Watched(
                    _planned(states.get(name), self._next_poll(name)),
                    interval(account.schedule, now),
                )
                for name, account in accounts.items()
            }
        )

    def _next_poll(self, name: AccountName) -> float:
        planned = self._scheduler.next_time(name)
        return 0.0 if planned == NEVER else planned

    # -- visits -----------------------------------------------------------------------

    def _due(self, name: AccountName, planned: float) -> None:
        # In the scheduler's thread, which must not be held up.
        account = self._accounts.get(name)
        if account is None:
            return
        host, server = _door(account.server)
        accepted = self._pool.submit(
            name, host, lambda: self._visit(account, planned), server
        )
        if (silence := self._pool.silence(name)) is not None:
            self.reporter.visit_put_off(name, silence.reason, silence.error)
        elif not accepted:
            why = Skipped.STOPPING if self._pool.closed else Skipped.OVERRUN
            self.reporter.visit_skipped(name, why)

    def _heard(
        self, server: Server, failure: PopfetchdError | None, took: float
    ) -> None:
        # In the thread of a visit.
        if failure is None:
            self._pool.answered(_door(server))
            return
        silence = Silence(failure.reason.value, str(failure))
        for name in self._pool.silent(_door(server), silence, took):
            self.reporter.visit_put_off(name, silence.reason, silence.error)

    def _visit(self, account: Account, planned: float) -> None:
        # The time in which its server was silent is no delay of ours.
        late = min(time.time() - planned, self._pool.free_for(_door(account.server)))
        self.reporter.visit_started(account.name, late)

        def next_poll(state: AccountState) -> float:
            self._scheduler.hold(account.name, _earliest(state, account))
            return self._next_poll(account.name)

        self._visits.make(account, stop=self._stop, next_poll=next_poll)
        self._verify_if_due(account)

    def _verify_if_due(self, account: Account) -> None:
        if (every := account.verify_every) is None:
            return
        with suppress(LedgerError):  # the visit has told it
            last = self.ledger.state(account.name).last_verified
            if last + every <= time.time():
                self._verifiers.submit(account.name, "", lambda: self._verify(account))

    def _verify(self, account: Account) -> None:
        # Linux keeps a nice value for each thread; this one ends with its work.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), GIVING_WAY)
        self._visits.verify(account, stop=self._stop)

    # -- what is shown ----------------------------------------------------------------

    def healthy(self) -> bool:
        """
        Tell whether the schedule moves and the ledger answers.
        """
        try:
            self.ledger.highest()
        except LedgerError:
            return False
        return self._scheduler.alive()


@contextmanager
def _in_small_turns() -> Iterator[None]:
    """
    Let those who visit wait less while this thread is at work for long.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _planned(state: AccountState | None, next_poll: float) -> AccountState:
    if state is None:
        return AccountState(next_poll=next_poll)
    # Of thousands of accounts a reload moves few.
    return (
        state if state.next_poll == next_poll else replace(state, next_poll=next_poll)
    )


def _is_well(state: AccountState | None) -> bool:
    return state is not None and state.last_success > 0 and not state.reason


def _door(server: Server) -> Door:
    """
    Return the host that limits count, and what tells who answers there: the whole way to
    the server. An account with a wrong port or an old `ca_file` puts off no other.
    """
    return server.certified_name, server


def _earliest(state: AccountState, account: Account) -> float:
    return earliest(
        state,
        interval(account.schedule, state.last_poll),
        login_floor=account.habits.login_floor,
    )


def serve(http: Http, site: Site) -> WebServer:
    """
    Bind the address that `http.listen` names. Raises AddressTaken, ConfigurationError.
    """
    host, port = parse_listen(http.listen)
    admitted = access(http)
    try:
        return WebServer(host, port, site, admitted)
    except OSError as error:
        raise AddressTaken(http.listen, error.strerror or str(error)) from error


def access(http: Http) -> Access:
    """
    Return how the pages may be reached. Raises ConfigurationError.
    """
    tls, users = http.tls, http.basic_auth_users
    return Access(
        tls_context(tls.cert_file, tls.key_file) if tls else None,
        Guard({name: hashed.get_secret_value() for name, hashed in users.items()})
        if users
        else None,
    )


class Systemd:
    """
    Speaks to systemd's notification socket (sd_notify(3)); mute where there is none.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        microseconds = int(environ.get("WATCHDOG_USEC") or 0)
        self.watchdog_interval = microseconds / 3e6 if microseconds else 5.0
        """Seconds between two signs of life: a third of what systemd waits."""

    def tell(self, *lines: str) -> None:
        """
        Send *lines* in one datagram.
        """
        if not self._address:
            return
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
            suppress(OSError),  # systemd notices by itself when we are silent
        ):
            sock.sendto("\n".join(lines).encode(), self._address)

    def reloading(self) -> tuple[str, str]:
        """
        Return the lines that announce a reload.
        """
        microseconds = int(time.monotonic() * 1e6)
        return "RELOADING=1", f"MONOTONIC_USEC={microseconds}"
