"""
The benchmarks: popfetchd beside its peers, on one server, in turn.

    python -m benchmarks [PROFILE…] [--rounds 5]

Without a PROFILE, all of them. `make bench P=small` is the same.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig

from pathlib import Path

import popfetchd

from benchmarks import pages
from benchmarks.measure import environment
from benchmarks.peers import PEERS, missing
from benchmarks.profiles import PROFILES
from benchmarks.runs import Bench, measure, say
from benchmarks.servers import DISK, FAST, KINDS


ROUNDS = 5
"""Enough for a median with a range; a quiet machine adds little with more."""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("profiles", nargs="*", metavar="PROFILE", default=[])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peers", default=",".join(PEERS), help="of these, by comma")
    parser.add_argument("--server", choices=KINDS, default="dovecot")
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
    peers = [PEERS[name] for name in chosen.peers.split(",")]
    for peer in filter(missing, peers):
        say(f"{peer.name} is not installed: left out")
    compile_modules()
    present = [peer for peer in peers if not missing(peer)]
    for name in chosen.profiles or PROFILES:
        profile = PROFILES[name]
        say(f"{name}: {profile.says}")
        archives = DISK if profile.on_disk else FAST
        with KINDS[chosen.server]() as server:
            found = measure(profile, present, Bench(server, archives, chosen.rounds))
        page = pages.write(profile, found, archives, chosen.pages)
        print(page.read_text())


if __name__ == "__main__":
    main()
