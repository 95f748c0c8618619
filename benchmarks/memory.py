"""
Does popfetchd's memory grow with a message, or with the number of messages?

    python -m benchmarks memory

Rules of this file: peaks are of whole `fetch` processes, each checked as every other run;
messages of one size each, and maildrops of one number of small messages each, which are
fetched, and then looked at again when nothing is new.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.mail import equal
from benchmarks.pages import facts
from benchmarks.peers import PEERS
from benchmarks.plots import lines
from benchmarks.profiles import KEEP, TINY, Poll, Profile
from benchmarks.runs import OURS, Bench, measure, say


MEGABYTES = (1, 10, 50, 200)
MESSAGES = (1_000, 10_000, 100_000)

Points = list[tuple[float, float]]
"""(octets in MB, or messages) and the peak in MB."""


def chart(bench: Bench, folder: Path) -> Path:
    """
    Measure, and write the page with its plots.
    """
    sizes = {"fetched": list(by_size(bench))}
    counts: dict[str, Points] = {"fetched": [], "seen": []}
    for count in MESSAGES:
        for name, poll in (("fetched", Poll.FIRST), ("seen", Poll.SAME)):
            counts[name].append((count, peak(small(count, poll), bench)))
    return write(sizes, counts, bench, folder)


def by_size(bench: Bench) -> Iterator[tuple[float, float]]:
    for megabytes in MEGABYTES:
        yield megabytes, peak(single(megabytes), bench)


def single(megabytes: int) -> Profile:
    says = f"one message of {megabytes} MB"
    return Profile("size", says, lambda: equal(1, megabytes * 1_000_000), ways=KEEP)


def small(count: int, poll: Poll) -> Profile:
    says = f"{count:,} messages, {poll.name}"
    return Profile("count", says, lambda: equal(count, TINY), ways=KEEP, poll=poll)


def peak(profile: Profile, bench: Bench) -> float:
    """
    Return the most that popfetchd held in any round at *profile*, in MB.
    """
    say(profile.says)
    (runs,) = measure(profile, [PEERS[OURS]], bench).values()
    return max(run.peak for run in runs[OURS]) / 1e6


def write(
    sizes: dict[str, Points], counts: dict[str, Points], bench: Bench, folder: Path
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    by = "peak memory of popfetchd, MB"
    (folder / "memory-size.svg").write_text(lines(by, "MB of the message", sizes))
    (folder / "memory-count.svg").write_text(lines(by, "messages", counts))
    parts = [
        "# memory: the peak of `popfetchd fetch`",
        facts(bench.archives),
        "## By the size of the one message",
        table("MB of the message", sizes),
        "![by size](memory-size.svg)",
        "## By the number of messages",
        table("messages", counts),
        "![by number](memory-count.svg)",
    ]
    page = folder / "memory.md"
    page.write_text("\n\n".join(parts) + "\n")
    return page


def table(what: str, series: dict[str, Points]) -> str:
    """
    Return a row for each x, a column for each of *series*.
    """
    rows: Sequence[float] = [x for x, _ in next(iter(series.values()))]
    peaks = {name: dict(points) for name, points in series.items()}
    heads = [f"| {what} | {' | '.join(f'{name}, peak MB' for name in series)} |"]
    heads.append("|---" * (len(series) + 1) + "|")
    body = (
        f"| {x:,g} | {' | '.join(f'{points[x]:.1f}' for points in peaks.values())} |"
        for x in rows
    )
    return "\n".join([*heads, *body])
