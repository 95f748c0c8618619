"""
Harms a visit at every instant, and tells in a table what came of it.

    python -m tests.crash.syscalls               all points
    python -m tests.crash.syscalls --sample 4    so many of each line of the table
    python -m tests.crash.syscalls --scene maildir-never-fresh --harm kill --at 110

Rules of this file:

- A point is a scene, a harm and an instant: the number of a system call, or of octets
  at which the connection is cut. Each is played on a maildrop of its own in a real
  Dovecot, and mended by one more visit.
- Instants are counted in a visit that nobody harms. One that a harmed visit does not
  reach is not counted as a point.
- The points are spread over processes; what one finds does not depend on the others.
- It ends with 1 if anything was lost, doubled, torn, or left to a person; each such
  point is told with what repeats it.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import popfetchd.cli.fetching
import popfetchd.config.load  # noqa: F401 -- here, so that visits are forked with both

from tests.crash.calls import missing as no_gate
from tests.crash.cuts import UP, Cut, cuts, encrypted
from tests.crash.harms import HARMS, Counted, Struck, unproved
from tests.crash.scenes import FINE_CODES, Case, Faults, Scene, Stage
from tests.crash.visits import Ended
from tests.live.dovecot import HOST, Dovecot, missing, running
from tests.relay import End, Flow, Relay, Trouble


STAGES = ("fresh", "second", "mending")
POLICIES = ("verified", "never")
FORMATS = ("maildir", "mbox")

SCENES = [
    *(Scene(*each) for each in product(FORMATS, POLICIES, STAGES)),
    Scene("maildir", "verified", "fresh", tls=True),
]

ENDS = {"cut (FIN)": End.FIN, "cut (RST)": End.RST}
"""How a connection is cut, by the harm's name."""

ENCRYPTED_PARTS = 40
"""Instants of each direction at which a TLS connection is cut."""

KINDS = [*HARMS, *ENDS]

SLOW = 10.0
"""Seconds after which a point is worth a line: something was waited for in vain."""

ROOM = 200_000_000
"""Octets that all copies of all scenes may take, for a few workers."""


@dataclass(frozen=True, slots=True)
class Point:
    """
    One instant of one harm, in *scene*: call number *at*, or the cut *cut*.
    """

    scene: Scene
    harm: str
    at: int = 0
    cut: Cut | None = None

    @property
    def instant(self) -> int:
        """
        The number that names it among those of its scene and harm.
        """
        return self.at if self.cut is None else self.cut.octets

    def __str__(self) -> str:
        where = f"call {self.at}"
        if self.cut is not None:
            where = f"{self.cut.way} {self.cut.octets}, {self.cut.where}"
        return f"{self.scene} / {self.harm} / {where}"


@dataclass(frozen=True, slots=True)
class Result:
    """
    What a point showed. *hit* is what was struck; empty if the instant never came.
    """

    point: Point
    hit: str
    faults: Faults
    seconds: float


# -- one worker -----------------------------------------------------------------------


class Worker:
    """
    Plays points one after the other.
    """

    def __init__(self, dovecot: Dovecot, directory: Path, name: str) -> None:
        self._stage = Stage(dovecot, directory, name)

    def points(self, scene: Scene) -> list[Point]:
        """
        Return all points of *scene*, from two visits that nobody harms.
        """
        case = self._stage.case(scene)
        counted = Counted(case)
        assert 0 == case.visit().go(counted).code
        case.clean()
        calls = [
            Point(scene, name, at)
            for name, count in counted.numbers.items()
            for at in range(1, count + 1)
        ]
        return [*calls, *self._cuts(scene)]

    def _cuts(self, scene: Scene) -> list[Point]:
        case = self._stage.case(scene)
        ended, relay = self._relayed(case, Trouble())
        assert 0 == ended.code
        (heard,) = relay.heard
        up, down = bytes(heard.up), bytes(heard.down)
        found = encrypted(up, down, ENCRYPTED_PARTS) if scene.tls else cuts(up, down)
        case.clean()
        return [Point(scene, harm, cut=cut) for cut, harm in product(found, ENDS)]

    def play(self, point: Point) -> Result:
        """
        Harm one visit, look, mend, and look again.
        """
        faults = Faults()
        began = time.monotonic()
        case = self._stage.case(point.scene)
        hit = ""
        try:
            harm = self._strike if point.cut is None else self._cut_off
            hit = harm(case, point, faults)
            case.look(faults)
            case.hangs_up()
            case.mend(faults)
        except (TimeoutError, AssertionError) as error:
            faults.add("unclean", 1, f"{type(error).__name__}: {error}")
        case.clean()
        return Result(point, hit, faults, time.monotonic() - began)

    def _strike(self, case: Case, point: Point, faults: Faults) -> str:
        struck = Struck(case, HARMS[point.harm], point.at, faults)
        ended = case.visit().go(struck)
        if struck.hit is None:
            return ""
        if point.harm != "kill":
            ended_well(ended, faults)
        return f"{struck.hit.name} {kind_of(struck.hit.path)}"

    def _cut_off(self, case: Case, point: Point, faults: Faults) -> str:
        cut = point.cut
        assert cut is not None
        flow = Flow(cut.octets, ENDS[point.harm])
        trouble = Trouble(up=flow) if cut.way == UP else Trouble(down=flow)
        listed = case.waiting()
        ended, relay = self._relayed(case, trouble)
        ended_well(ended, faults)
        unproved(case, listed, bytes(relay.heard[0].up), faults)
        return cut.where

    def _relayed(self, case: Case, trouble: Trouble) -> tuple[Ended, Relay]:
        ports = case.dovecot.ports
        target = (HOST, ports.pop3s if case.scene.tls else ports.pop3)
        visit = case.visit()  # forked before the relay has its threads
        # The first connection only: a visit may well try again.
        with Relay(target, lambda number: Trouble() if number else trouble) as relay:
            case.configure(relay.port)
            return visit.go(), relay


def ended_well(ended: Ended, faults: Faults) -> None:
    """
    See that a visit that was not killed has ended in order, whatever befell it.
    """
    if ended.code not in FINE_CODES or "Traceback" in ended.stderr:
        said = ended.stderr.strip().splitlines()[-3:]
        faults.add("unclean", 1, f"exit {ended.code}: {said}")


def kind_of(path: str) -> str:
    """
    Return what kind of thing *path* is.
    """
    for part, kind in (
        ("socket:", "server"),
        ("/state", "ledger"),
        ("/tmp/", "spool file"),
        ("/.popfetchd-spool", "spool file"),
    ):
        if part in path.removeprefix(tempfile.gettempdir()):
            return kind
    return "archive"


# -- many workers ---------------------------------------------------------------------

_worker: list[Worker] = []
"""The one of this process, once it is a worker."""


def begin(dovecot: Dovecot, directory: Path) -> None:
    """
    Make this process a worker.
    """
    gc.freeze()  # so that a visit forked from here does not copy what it only counts
    name = f"w{os.getpid()}"
    _worker.append(Worker(dovecot, directory / name, name))


def points(scene: Scene) -> list[Point]:
    """
    Return the points of *scene*, in a worker.
    """
    return _worker[0].points(scene)


def play(point: Point) -> Result:
    """
    Play *point*, in a worker.
    """
    return _worker[0].play(point)


# -- the table ------------------------------------------------------------------------

COLUMNS = ("lost", "twice", "partial", "manual", "unproved", "unclean")


@dataclass
class Table:
    """
    What all points of a scene and a harm showed, line by line.
    """

    points: Counter[tuple[str, str]] = field(default_factory=Counter)
    unreached: int = 0
    sums: dict[tuple[str, str], Counter[str]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    hits: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    bad: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """
        Count one point.
        """
        line = (str(result.point.scene), result.point.harm)
        if not result.hit:
            self.unreached += 1
        else:
            self.points[line] += 1
            self.hits[result.point.harm][result.hit] += 1
        for column in COLUMNS:
            self.sums[line][column] += getattr(result.faults, column)
        if result.faults:
            self.bad.append(result)

    def lines(self) -> Iterator[str]:
        """
        Yield the table, line by line.
        """
        head = ("points", *COLUMNS)
        yield f"{'configuration':28}{'harm':17}" + "".join(f"{h:>9}" for h in head)
        for line in sorted(self.sums):
            numbers = (self.points[line], *(self.sums[line][c] for c in COLUMNS))
            scene, harm = line
            yield f"{scene:28}{harm:17}" + "".join(f"{n:>9}" for n in numbers)
        sums = [sum(s[c] for s in self.sums.values()) for c in COLUMNS]
        totals = (self.points.total(), *sums)
        yield f"{'all':45}" + "".join(f"{n:>9}" for n in totals)


def say(line: str) -> None:
    """
    Print *line* at once: a whole run takes long.
    """
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def tell(table: Table, took: float) -> None:
    """
    Print what was found.
    """
    for line in table.lines():
        say(line)
    for harm, hits in table.hits.items():
        struck = ", ".join(f"{n} {hit}" for hit, n in hits.most_common(12))
        say(f"  {harm} struck {len(hits)} kinds: {struck}")
    say(f"{table.unreached} instants did not come; {took:.0f} s")


def describe(result: Result) -> None:
    """
    Print what was wrong with a point, or how slow it was.
    """
    hit = result.hit or "nothing"
    say(f"{'WRONG' if result.faults else 'slow'}: {result.point}")
    say(f"  struck {hit}, {result.seconds:.1f} s")
    for note in result.faults.notes:
        say(f"  {note}")


def chosen(found: Sequence[Point], arguments: argparse.Namespace) -> list[Point]:
    """
    Return the points to be played, in an order that chance has given.
    """
    harms, at = arguments.harm or KINDS, arguments.at
    some = [p for p in found if p.harm in harms and at in (None, p.instant)]
    random.Random(arguments.seed).shuffle(some)
    lines: defaultdict[tuple[Scene, str], list[Point]] = defaultdict(list)
    for point in some:
        lines[point.scene, point.harm].append(point)
    return [p for line in lines.values() for p in line[: arguments.sample]]


def fast_place() -> str | None:
    """
    Return where files live in memory, if there is such a place: a kill loses nothing
    that is in the page cache, so that fsync need not wait for a disk.
    """
    place = Path("/dev/shm")
    fits = place.is_dir() and shutil.disk_usage(place).free > ROOM
    return str(place) if fits else None


def work(arguments: argparse.Namespace) -> Table:
    """
    Play the points and return the table.
    """
    table = Table()
    with (
        running("auth_mechanisms = plain\n") as dovecot,
        tempfile.TemporaryDirectory(prefix="crash-", dir=fast_place()) as directory,
    ):
        # Forked, so that the workers have imported everything; and while this process
        # has one thread.
        pool = multiprocessing.get_context("fork").Pool(
            arguments.workers, begin, (dovecot, Path(directory))
        )
        # Told to stop (Ctrl-C), it tells what it has seen.
        with pool, suppress(KeyboardInterrupt):
            wanted = arguments.scene.replace("-", " ")
            scenes = [scene for scene in SCENES if wanted in str(scene)]
            found = [p for each in pool.imap(points, scenes) for p in each]
            todo = chosen(found, arguments)
            say(f"{len(todo)} of {len(found)} points")
            for number, result in enumerate(pool.imap_unordered(play, todo, 4), 1):
                table.add(result)
                if result.faults or result.seconds > SLOW:
                    describe(result)
                if number % 500 == 0:
                    say(f"  {number}, {len(table.bad)} wrong")
    return table


def main(words: Sequence[str] | None = None) -> int:
    """
    Run it with the command line's *words*; return the exit code.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--sample", type=int, help="so many points of each line")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--scene", default="", help="scenes with this in their name")
    parser.add_argument("--harm", action="append", choices=KINDS)
    parser.add_argument("--at", type=int, help="this instant only")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 2)
    arguments = parser.parse_args(words)
    if reason := missing() or no_gate():
        sys.stderr.write(f"{reason}\n")
        return 2
    began = time.monotonic()
    table = work(arguments)
    tell(table, time.monotonic() - began)
    return 1 if table.bad or not table.points else 0


if __name__ == "__main__":
    sys.exit(main())
