"""
Ten thousand accounts, one in ten on a server that is dead: is everybody visited in time?

    python -m benchmarks thousands [--minutes 10] [--accounts 10000] [--every 5m]

Rules of this file:

- `popfetchd run` as it comes, but for its log, which tells of each visit (debug): that is
  where delays are read, account by account. Nothing of popfetchd is called.
- The living accounts are on one Dovecot, each with a maildrop of its own, one in a hundred
  with a message in it. Of the dead, half are on servers that take the connection and say
  nothing, half on addresses that refuse it; `PER_SERVER` accounts on each.
- In the middle of the time one account in a hundred is changed, and SIGHUP sent.
- CPU and memory are the service's own, from /proc; the metrics page is asked for as
  Prometheus does. What is not asked for does not disturb: nothing else is done meanwhile.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Any

from benchmarks.mail import letter
from benchmarks.measure import environment
from benchmarks.pages import facts
from benchmarks.servers import FAST, HOST, PASSWORD
from tests.live.dovecot import Dovecot


DEAD = 0.1
"""Of all accounts: half of these hang, half are refused."""

PER_SERVER = 5
"""Accounts on each dead server."""

MAIL = 0.01
"""Of the living accounts: those with a message."""

CHANGED = 0.01
"""Of all accounts, at the reload."""

SCRAPE = 15.0
"""Seconds between two looks at /metrics: Prometheus's usual."""

START = 120.0
"""Seconds that the first visit may take before the scene is given up."""

AFTERMATH = 30.0
"""Seconds after SIGHUP in which a delay is the reload's."""

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


# -- the accounts -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scene:
    """
    Who is to be visited, and where.
    """

    dovecot: Dovecot
    living: Sequence[str]
    hanging: Sequence[str]
    refused: Sequence[str]
    silent_port: int
    closed_port: int


def build(dovecot: Dovecot, accounts: int, silent: int, closed: int) -> Scene:
    """
    Make the maildrops of the living, and name the dead.
    """
    dead = int(accounts * DEAD / 2)
    living = [f"living{number:05d}" for number in range(accounts - 2 * dead)]
    for number, name in enumerate(living):
        user = dovecot.add_user(name, PASSWORD)
        if number % round(1 / MAIL) == 0:
            user.deliver([letter(number, 2000)])
    hanging = [f"hanging{number:05d}" for number in range(dead)]
    refused = [f"refused{number:05d}" for number in range(dead)]
    return Scene(dovecot, living, hanging, refused, silent, closed)


def configuration(scene: Scene, folder: Path, every: str, page: int) -> dict[str, Any]:
    """
    Return what the operator of all these would write.
    """
    secret = folder / "password"
    secret.touch(0o600)
    secret.write_text(PASSWORD)
    dovecot = scene.dovecot
    defaults = {
        "host": HOST,
        "port": dovecot.ports.pop3s,
        "ca_file": str(dovecot.ca_file),
        "password_file": str(secret),
        "every": every,
        "archive": {"format": "maildir", "path": f"{folder}/mail/{{account}}"},
    }
    return {
        "ledger": str(folder / "ledger.db"),
        "http": {"listen": f"{HOST}:{page}"},
        "log": {"level": "debug", "format": "json"},
        "defaults": defaults,
        "accounts": [
            *({"name": name, "user": name} for name in scene.living),
            *elsewhere(scene.hanging, 1, scene.silent_port),
            *elsewhere(scene.refused, 2, scene.closed_port),
        ],
    }


def elsewhere(names: Sequence[str], net: int, port: int) -> Iterator[dict[str, Any]]:
    """
    Yield accounts on addresses of loopback that are no other account's server.
    """
    for number, name in enumerate(names):
        server = 1 + number // PER_SERVER
        host = f"127.{net}.{server // 250}.{server % 250 + 1}"
        yield {"name": name, "user": name, "host": host, "port": port}


@contextmanager
def silence() -> Iterator[int]:
    """
    Lend a port that takes connections on every address of loopback, and says nothing.
    """
    taken: list[socket.socket] = []
    with socket.create_server(("0.0.0.0", 0), backlog=1024) as listener:  # all of 127/8

        def take() -> None:
            try:
                while True:
                    taken.append(listener.accept()[0])
            except OSError:
                return  # the scene is over

        Thread(target=take, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for connection in taken:
        connection.close()


# -- the service --------------------------------------------------------------------------


@dataclass(slots=True)
class Service:
    """
    `popfetchd run`, and what is seen of it from outside.
    """

    process: subprocess.Popen[bytes]
    page: str
    log: Path
    began: float
    rss: list[int] = field(default_factory=list)
    scrapes: list[tuple[float, int]] = field(default_factory=list)
    sessions: list[float] = field(default_factory=list)

    def cpu(self) -> float:
        """
        Return the processor seconds that it has used.
        """
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2]
        user, system = stat.split()[11:13]
        return (int(user) + int(system)) / TICKS

    def look(self) -> None:
        """
        Note its memory, and how its metrics page does.
        """
        statm = Path(f"/proc/{self.process.pid}/statm").read_text()
        self.rss.append(int(statm.split()[1]) * PAGE)
        asked = time.monotonic()
        with urllib.request.urlopen(self.page, timeout=60) as answer:
            text = answer.read().decode()
        self.scrapes.append((time.monotonic() - asked, len(text)))
        self.sessions.append(value(text, "popfetchd_sessions_active"))

    def watch(self, seconds: float) -> None:
        """
        Let it run.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.look()
            time.sleep(min(SCRAPE, left))

    def await_line(self, event: str, after: float = 0.0) -> float:
        """
        Return when (seconds since 1970) it logged *event* for the first time *after*.
        """
        end = time.monotonic() + START
        while time.monotonic() < end and self.process.poll() is None:
            for line in read_log(self.log):
                if line["event"] == event and line["at"] > after:
                    return float(line["at"])
            time.sleep(0.2)
        raise RuntimeError(f"no {event!r} within {START:.0f} s")


def value(page: str, series: str) -> float:
    """
    Return the value of a series that has no labels.
    """
    (line,) = (each for each in page.splitlines() if each.startswith(f"{series} "))
    return float(line.split()[1])


@contextmanager
def running(file: Path, page: int) -> Iterator[Service]:
    """
    Lend the service on configuration *file*.
    """
    log = file.with_name("log")
    with log.open("wb") as output:
        began = time.time()
        process = subprocess.Popen(
            [sys.executable, "-m", "popfetchd", "run", "-c", str(file)],
            stdout=output,
            stderr=output,
            env=environment(file.parent),
        )
    try:
        yield Service(process, f"http://{HOST}:{page}/metrics", log, began)
    finally:
        process.terminate()
        try:
            process.wait(START)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def read_log(log: Path) -> Iterator[dict[str, Any]]:
    """
    Yield the log's lines, each with its time as a number (*at*).
    """
    with log.open(encoding="utf-8") as lines:
        for text in lines:
            if text.startswith("{") and text.endswith("}\n"):
                line = json.loads(text)
                line["at"] = datetime.fromisoformat(line["timestamp"]).timestamp()
                yield line


# -- what is told -------------------------------------------------------------------------


@dataclass(slots=True)
class Told:
    """
    Rows of the table: what was asked, what was found.
    """

    rows: list[tuple[str, str]] = field(default_factory=list)

    def add(self, what: str, found: str) -> None:
        self.rows.append((what, found))

    def table(self) -> str:
        return "\n".join(
            ["| | |", "|---|---|", *(f"| {a} | {b} |" for a, b in self.rows)]
        )


def perform(scene: Scene, folder: Path, every: str, minutes: float) -> Told:
    """
    Run the scene, and tell what was seen.
    """
    told = Told()
    page = free_port()
    settings = configuration(scene, folder, every, page)
    file = folder / "popfetchd.yaml"
    file.write_text(json.dumps(settings))
    with running(file, page) as service:
        first = service.await_line("visit ended")
        told.add(
            "start to the end of the first visit", f"{first - service.began:.1f} s"
        )
        cpu, since = service.cpu(), time.time()
        service.watch(minutes * 30)
        sent = reload(service, settings, file)
        taken = service.await_line("configuration taken", sent)
        told.add("SIGHUP to the new configuration", f"{taken - sent:.2f} s")
        service.watch(minutes * 30)
        used = (service.cpu() - cpu) / (time.time() - since)
        told.add("CPU of the service", f"{used:.2f} cores")
        ended = time.time()
    told.add("SIGTERM to its end", f"{time.time() - ended:.1f} s")
    memory_and_page(service, told)
    visits(scene, service, sent, told)
    return told


def reload(service: Service, settings: dict[str, Any], file: Path) -> float:
    """
    Change some accounts and send SIGHUP; return when.
    """
    for account in settings["accounts"][:: round(1 / CHANGED)]:
        account["timeout"] = "61s"
    file.write_text(json.dumps(settings))
    sent = time.time()
    service.process.send_signal(signal.SIGHUP)
    return sent


def memory_and_page(service: Service, told: Told) -> None:
    seconds = [each for each, _ in service.scrapes]
    octets = max(each for _, each in service.scrapes)
    told.add("RSS, most", f"{max(service.rss) / 1e6:.0f} MB")
    told.add("RSS, first and last", f"{ends(service.rss)} MB")
    told.add(
        "metrics page", f"{statistics.median(seconds):.3f} s (most {max(seconds):.3f})"
    )
    told.add("visits at once, median, most", f"{middle_and_most(service.sessions)}")
    told.add("metrics page, octets", f"{octets / 1e6:.2f} MB")


def middle_and_most(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f}, {max(values):.0f}"


def ends(rss: Sequence[int]) -> str:
    return f"{rss[0] / 1e6:.0f}, {rss[-1] / 1e6:.0f}"


def visits(scene: Scene, service: Service, reloaded: float, told: Told) -> None:
    """
    Tell, from the log, who was visited when.
    """
    living = set(scene.living)
    delays: list[float] = []
    after: list[float] = []
    begun: dict[str, list[float]] = defaultdict(list)
    failed: Counter[str] = Counter()
    for line in read_log(service.log):
        if line["event"] == "visit begins":
            begun[line["account"]].append(line["at"])
            if line["account"] in living:
                delays.append(line["delay"])
                if 0 <= line["at"] - reloaded <= AFTERMATH:
                    after.append(line["delay"])
        elif line["event"] == "visit failed" and line["account"] in living:
            failed[line["reason"]] += 1
    told.add("visits of the living", f"{len(delays)}")
    told.add("their delay, median, p99, most", f"{spread(delays)} s")
    told.add("after the reload, median, p99, most", f"{spread(after)} s")
    told.add(
        "longest wait of a living account", f"{longest(scene, service, begun):.0f} s"
    )
    told.add("never visited of the living", str(len(living - set(begun))))
    told.add("failed visits of the living", str(dict(failed) or 0))
    dead = sum(len(begun[name]) for name in (*scene.hanging, *scene.refused))
    told.add("visits of the dead", str(dead))


def spread(delays: Sequence[float]) -> str:
    if len(delays) < 2:
        return "-"
    ordered = sorted(delays)
    p99 = ordered[int(len(ordered) * 0.99)]
    return f"{statistics.median(ordered):.3f}, {p99:.3f}, {ordered[-1]:.3f}"


def longest(scene: Scene, service: Service, begun: dict[str, list[float]]) -> float:
    """
    Return the longest time in which some living account was not visited, the start and
    the end of the scene included.
    """
    last = max(at for times in begun.values() for at in times)

    def gaps(times: Sequence[float]) -> Iterator[float]:
        marks = [service.began, *times, last]
        return (b - a for a, b in itertools.pairwise(marks))

    return max(max(gaps(begun[name])) for name in scene.living)


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def play(accounts: int, every: str, minutes: float, folder: Path) -> Path:
    """
    Play the scene; write the page that tells of it.
    """
    tempfile.tempdir = str(FAST)
    with ExitStack() as stack:
        dovecot = Dovecot()
        stack.callback(dovecot.stop)
        dovecot.start()
        place = stack.enter_context(tempfile.TemporaryDirectory())
        silent = stack.enter_context(silence())
        scene = build(dovecot, accounts, silent, free_port())
        told = perform(scene, Path(place), every, minutes)
    return write(f"{accounts:,} accounts, each every {every}", minutes, told, folder)


def write(title: str, minutes: float, told: Told, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lasted = f"{minutes:g} minutes; one account in ten is on a dead server."
    page = folder / "thousands.md"
    page.write_text(
        "\n\n".join([f"# thousands: {title}", facts(FAST), lasted, told.table()]) + "\n"
    )
    return page
