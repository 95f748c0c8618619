"""
How a profile is measured: who runs when, on what, and what must have arrived.

Rules of this file:

- Runs are interleaved: in each round every peer runs once, and each round begins with
  another peer. Ratios are of runs of one round.
- Who fetches, begins with nothing: an empty archive, no state, a maildrop that holds all.
  Who polls, goes on where it ended in the last round, as a service does.
- After each run the archive is compared with the maildrop, body by body: nothing is
  missing and nothing is there twice. After `delete` the maildrop is empty.
- The disk is given time to write what the last run left (`sync`), outside the clock.
  Nothing is removed from it before all have run: ext4 looks long for an inode where many
  were freed within the last minutes, and whoever comes next would pay for it.
- A peer that needs longer than `SLOW` does not run again, nor one that fails; the
  table tells how often each ran. popfetchd may not fail.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.mail import Bodies, archived, bodies
from benchmarks.measure import Counted, Failed, Figures, relay, run
from benchmarks.peers import Job, Peer
from benchmarks.profiles import Poll, Profile, Way
from benchmarks.servers import Drop, Server, unique_ids


SLOW = 20.0
"""Seconds of one run."""

OURS = "popfetchd"

RIVALS = (OURS, "mpop")
"""Who runs in every round, however slow."""

FLOOR = "floor"
"""The peer that keeps nothing, so that nothing can be compared."""

TROUBLE = "error"
"""A program that ends well and says this has not looked into the maildrop."""

Runs = dict[str, list[Figures]]
"""The runs of each peer, a round after the other."""


@dataclass(frozen=True, slots=True)
class Bench:
    """
    Where it is measured: *server* holds the maildrops, *archives* takes the mail.
    """

    server: Server
    archives: Path
    rounds: int


def measure(profile: Profile, peers: Sequence[Peer], bench: Bench) -> dict[Way, Runs]:
    """
    Measure *peers* at *profile*, in each of its ways.
    """
    able = [peer for peer in peers if not profile.peers or peer.name in profile.peers]
    expected = stock(profile, bench.server)
    found: dict[Way, Runs] = {}
    for way in profile.ways:
        with entered(profile, way, able, bench, expected) as entrants:
            found[way] = rounds(entrants, bench.rounds)
    return found


@dataclass(slots=True)
class Expected:
    """
    What must arrive of each maildrop.
    """

    bodies: Bodies = field(default_factory=Counter)
    octets: int = 0


def stock(profile: Profile, server: Server) -> Expected:
    """
    Write the profile's messages to the server; return what must arrive of a maildrop.
    """
    expected = Expected()

    def counted() -> Iterator[bytes]:
        for letter in profile.letters():
            expected.bodies.update(bodies([letter]))
            expected.octets += len(letter)
            yield letter

    server.stock(counted())
    return expected


def rounds(entrants: Sequence[Entrant], count: int) -> Runs:
    """
    Let *entrants* run in turn, *count* times.
    """
    runs: Runs = {entrant.peer.name: [] for entrant in entrants}
    out: set[str] = set()
    for number in range(count):
        first = number % len(entrants)
        for entrant in (*entrants[first:], *entrants[:first]):
            name = entrant.peer.name
            if name not in out and not again(entrant, runs[name]):
                out.add(name)
    return {name: mine for name, mine in runs.items() if mine}


def again(entrant: Entrant, mine: list[Figures]) -> bool:
    """
    Let *entrant* run once more; tell whether it may run in the next round too.
    """
    with staying(entrant.peer):
        mine.append(entrant.run())
        say(f"  {len(mine)}. {entrant.peer.name}: {mine[-1].wall:.2f} s")
        return entrant.peer.name in RIVALS or mine[-1].wall < SLOW
    return False


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


# -- one peer at one profile --------------------------------------------------------------


class Entrant:
    """
    *peer*, with what it fetches.
    """

    def __init__(
        self,
        peer: Peer,
        profile: Profile,
        way: Way,
        bench: Bench,
        expected: Expected,
        *,
        drops: Sequence[Drop],
    ) -> None:
        self.peer = peer
        self.profile = profile
        self.keep = way is Way.KEEP
        self.bench = bench
        self.expected = expected
        self.drops = drops

    def run(self) -> Figures:
        """
        Run once, and see that it did what it should.
        """
        raise NotImplementedError

    def job(self, folder: str, drops: Sequence[Drop], port: int) -> Job:
        return Job(Path(folder), drops, port, self.keep, self.profile.together)

    def visit(self, job: Job) -> Figures:
        """
        Run the program, without looking at what it did.
        """
        os.sync()
        return run(self.peer.command(job), job.folder, self.peer.well)


class Fetching(Entrant):
    """
    Begins anew at each run. *drops* that keep their messages serve all runs; if there are
    none, each run has its own.
    """

    def run(self) -> Figures:
        drops = self.drops or fill(self.bench.server, self.profile)
        folder = tempfile.mkdtemp(dir=self.bench.archives)
        with network(self.profile, drops[0].port) as counted:
            job = self.job(folder, drops, counted.port)
            self.peer.configure(job)
            figures = self.visit(job)
        check(self.peer, job, self.expected, figures)
        if not self.profile.on_disk:
            shutil.rmtree(folder)
        if not self.drops:
            forget(drops)
        return replace(figures, round_trips=counted.round_trips)


class Polling(Entrant):
    """
    Has seen all; *drops* serve every peer.
    """

    def __init__(
        self,
        peer: Peer,
        profile: Profile,
        way: Way,
        bench: Bench,
        expected: Expected,
        *,
        drops: Sequence[Drop],
        folder: str,
    ) -> None:
        super().__init__(peer, profile, way, bench, expected, drops=drops)
        port = lasting_port(profile, drops[0].port)
        self._job = self.job(folder, drops, port)
        self.peer.configure(self._job)
        self._look_first()

    def run(self) -> Figures:
        if self.profile.poll is Poll.CHANGED:
            for drop in self._job.drops:
                drop.change()
                unique_ids(drop)  # it is the server's work to notice
        before = self._delivered()
        with network(self.profile, self._job.drops[0].port, self._job.port) as counted:
            figures = self.visit(self._job)
        if self._delivered() != before or TROUBLE in figures.said:
            raise Failed(f"{self.peer.name} did more than look: {figures.said}")
        return replace(figures, round_trips=counted.round_trips)

    def _look_first(self) -> None:
        drop = self._job.drops[0]
        alone = len(self._job.drops) == 1
        if alone and self.peer.remember(self._job, unique_ids(drop)):
            return
        with network(replace(self.profile, round_trip=0), drop.port, self._job.port):
            self.visit(self._job)

    def _delivered(self) -> int:
        maildirs = map(self._job.maildir, self._job.drops)
        return sum(len(list(maildir.glob("*/*"))) for maildir in maildirs)


@contextmanager
def entered(
    profile: Profile, way: Way, peers: Sequence[Peer], bench: Bench, expected: Expected
) -> Iterator[Sequence[Entrant]]:
    """
    Prepare *peers* for their rounds, and clean up after them.
    """
    drops = fill(bench.server, profile) if way is Way.KEEP else ()
    entrants: list[Entrant] = []
    with contextlib.ExitStack() as stack:
        stack.callback(forget, drops)
        for peer in peers:
            common = (peer, profile, way, bench, expected)
            if profile.poll is Poll.FIRST:
                entrants.append(Fetching(*common, drops=drops))
            elif peer.name != FLOOR:
                place = tempfile.TemporaryDirectory(dir=bench.archives)
                folder = stack.enter_context(place)
                with staying(peer):
                    entrants.append(Polling(*common, drops=drops, folder=folder))
        yield entrants


@contextmanager
def staying(peer: Peer) -> Iterator[None]:
    """
    Leave *peer* out if it fails, unless it is ours.
    """
    try:
        yield
    except Failed as failure:
        if peer.name == OURS:
            raise
        say(f"  {peer.name} is out: {failure}")


def lasting_port(profile: Profile, port: int) -> int:
    """
    Return a port that the server of *port* can have at every visit: some of the peers
    remember by it what they have seen.
    """
    if not profile.round_trip:
        return port
    with relay(port, 0) as free:
        return free.port


def fill(server: Server, profile: Profile) -> Sequence[Drop]:
    return [server.drop() for _ in range(profile.accounts)]


def forget(drops: Sequence[Drop]) -> None:
    for drop in drops:
        drop.forget()


@contextmanager
def network(profile: Profile, port: int, listen: int = 0) -> Iterator[Counted]:
    """
    Lend a port that is as far from the server's as the profile says: *listen*, if given.
    """
    if listen not in {0, port} or profile.round_trip:
        with relay(port, profile.round_trip, listen) as counted:
            yield counted
    else:
        yield Counted(port)


def check(peer: Peer, job: Job, expected: Expected, figures: Figures) -> None:
    """
    Raise Failed unless all was delivered, and removed where it was to be removed.
    """
    if peer.name == FLOOR:
        if int(figures.said) < expected.octets * len(job.drops):
            raise Failed(f"{peer.name} received {figures.said} octets")
    elif any(archived(job.maildir(drop)) != expected.bodies for drop in job.drops):
        raise Failed(f"{peer.name} delivered something else: {figures.said}")
    left = expected.bodies.total() if job.keep else 0
    if any(drop.left() != left for drop in job.drops):
        raise Failed(f"{peer.name} did not leave {left} messages: {figures.said}")
