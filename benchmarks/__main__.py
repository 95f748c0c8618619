"""
The benchmarks: popfetchd beside its peers, on one server, in turn.

    python -m benchmarks [PROFILE…] [--rounds 5]

Without a PROFILE, all of them, then `memory` and `thousands`. `make bench P=small` is the
same.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import sysconfig
import tempfile

from collections.abc import Sequence
from pathlib import Path

import popfetchd

from benchmarks import memory, pages, thousands
from benchmarks.measure import environment
from benchmarks.peers import PEERS, Peer, missing
from benchmarks.profiles import PROFILES
from benchmarks.runs import Bench, measure, say
from benchmarks.servers import DISK, FAST, KINDS


MEMORY = "memory"
THOUSANDS = "thousands"
ALL = (*PROFILES, MEMORY, THOUSANDS)
"""What `make bench` measures: the profiles, and two scenes of popfetchd alone."""

ROUNDS = 5
"""Enough for a median with a range; a quiet machine adds little with more."""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("profiles", nargs="*", metavar="PROFILE", default=[])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peers", default=",".join(PEERS), help="of these, by comma")
    parser.add_argument("--server", choices=KINDS, default="dovecot")
    parser.add_argument("--minutes", type=float, default=10, help="of `thousands`")
    parser.add_argument("--accounts", type=int, default=10_000, help="of `thousands`")
    parser.add_argument("--every", default="5m", help="of `thousands`")
    parser.add_argument("--pages", type=Path, default=pages.FOLDER)
    return parser.parse_args()


def compile_modules() -> None:
    """
    Compile what is imported, as pip does when it installs.
    """
    places = [str(Path(popfetchd.__file__).parent), sysconfig.get_path("purelib")]
    compiler = [sys.executable, "-m", "compileall", "-q", "-j", "0", *places]
    # Some package may hold a file that no Python compiles.
    subprocess.run(compiler, check=False, env=environment(Path.cwd()))


def main() -> None:
    chosen = options()
    # Whoever ends it, leaves no server and no run behind; nohup and & ignore the first.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    peers = [PEERS[name] for name in chosen.peers.split(",")]
    for peer in filter(missing, peers):
        say(f"{peer.name} is not installed: left out")
    compile_modules()
    present = [peer for peer in peers if not missing(peer)]
    for name in chosen.profiles or ALL:
        print(page(name, present, chosen).read_text("utf-8"))


def page(name: str, peers: Sequence[Peer], chosen: argparse.Namespace) -> Path:
    """
    Measure what is called *name*, and return the page that tells of it.
    """
    if name == THOUSANDS:
        return thousands.play(
            chosen.accounts, chosen.every, chosen.minutes, chosen.pages
        )
    profile = None if name == MEMORY else PROFILES[name]
    place = DISK if profile and profile.on_disk else FAST
    with (
        KINDS[chosen.server]() as server,
        tempfile.TemporaryDirectory(dir=place) as archives,
    ):
        Path(archives).chmod(0o711)  # some peers deliver as somebody else
        bench = Bench(server, Path(archives), chosen.rounds)
        if profile is None:
            return memory.chart(bench, chosen.pages)
        say(f"{name}: {profile.says}")
        found = measure(profile, peers, bench)
    return pages.write(profile, found, place, chosen.pages)


if __name__ == "__main__":
    main()
