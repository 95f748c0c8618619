"""
What the benchmarks found, as pages of docs/benchmarks.

Rules of this file:

- A page tells of the machine what explains its figures, and nothing that names it.
- Wall seconds are medians with least and most; the ratio to mpop is taken round by
  round, and then its median, least and most.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import Figures
from benchmarks.plots import Bar, bars
from benchmarks.profiles import Profile, Way
from benchmarks.runs import OURS, Runs
from benchmarks.servers import FAST


FOLDER = Path(__file__).parent.parent / "docs" / "benchmarks"

THEIRS = "mpop"
"""The peer to beat: C, pipelined, fsyncs each file."""

PACKAGES = ("mpop", "fdm", "fetchmail", "getmail6", "dovecot-pop3d")

HEAD = (
    "| | wall s | to mpop | CPU s | CPU to mpop | peak MB | round trips an account | runs |"
    "\n|---|---|---|---|---|---|---|---|"
)


def write(
    profile: Profile, found: dict[Way, Runs], archives: Path, folder: Path
) -> Path:
    """
    Write a profile's page and its plots into *folder*.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"# {profile.name}: {profile.says}", facts(archives)]
    for way, runs in found.items():
        name = f"{profile.name}-{way.value}"
        rows = [bar(peer, figures) for peer, figures in runs.items()]
        plot = bars(f"{profile.name}, {way.value}", rows, "s", OURS)
        (folder / f"{name}.svg").write_text(plot)
        parts += [f"## {way.value}", table(profile, runs), f"![{name}]({name}.svg)"]
    page = folder / f"{profile.name}.md"
    page.write_text("\n\n".join(parts) + "\n")
    return page


def bar(name: str, runs: Sequence[Figures]) -> Bar:
    walls = [each.wall for each in runs]
    return Bar(name, min(walls), statistics.median(walls), max(walls))


def table(profile: Profile, runs: Runs) -> str:
    """
    Return the table of one way, the quickest first.
    """
    quickest = sorted(runs, key=lambda name: bar(name, runs[name]).median)
    rows = (row(profile, name, runs) for name in quickest)
    return "\n".join([HEAD, *rows])


def row(profile: Profile, name: str, runs: Runs) -> str:
    mine = runs[name]
    theirs = runs.get(THEIRS, [])
    turns = [each.round_trips for each in mine if each.round_trips]
    cells = [
        f"**{name}**" if name == OURS else name,
        spread([each.wall for each in mine]),
        spread([a.wall / b.wall for a, b in zip(mine, theirs, strict=False)]),
        f"{statistics.median(each.cpu for each in mine):.2f}",
        spread([a.cpu / b.cpu for a, b in zip(mine, theirs, strict=False)]),
        f"{max(each.peak for each in mine) / 1e6:.0f}",
        f"{statistics.median(turns) / profile.accounts:.1f}" if turns else "-",
        str(len(mine)),
    ]
    return f"| {' | '.join(cells)} |"


def spread(values: Sequence[float]) -> str:
    """
    Return the median, and the range where there is one.
    """
    if not values:
        return "-"
    median = statistics.median(values)
    if len(values) == 1:
        return f"{median:.2f}"
    return f"{median:.2f} ({min(values):.2f}-{max(values):.2f})"


def facts(archives: Path) -> str:
    """
    Return what explains the figures.
    """
    return "\n".join(f"- {fact}" for fact in known(archives))


def known(archives: Path) -> Iterator[str]:
    yield f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({processor()})"
    yield f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    yield f"archives on {file_system(archives)}, maildrops on {file_system(FAST)}"
    yield ", ".join(versions()) or "no peer installed"
    yield f"load of the machine at the end: {os.getloadavg()[0]:.1f}"


def processor() -> str:
    """
    Return the processor's model.
    """
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def file_system(place: Path) -> str:
    """
    Return the kind of file system that holds *place*.
    """
    mounts = [
        line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()
    ]
    held = [(where, kind) for where, kind in mounts if place.is_relative_to(where)]
    return max(held, key=lambda mount: len(mount[0]))[1]


def versions() -> Iterator[str]:
    """
    Yield each program and its version, as Debian's packages tell.
    """
    for package in PACKAGES:
        ask = ["dpkg-query", "-W", "-f", "${Version}", package]
        done = subprocess.run(ask, capture_output=True, text=True, check=False)
        if not done.returncode:
            yield f"{package} {done.stdout}"
