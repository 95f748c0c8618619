"""
How fast is an archive read against its ledger? `verify` beside sha256sum.

    python -m benchmarks.verify [--messages 10000] [--rounds 5] [--folder DIR]

- cold: nothing of the files is in memory (drop_caches, which only root may ask for).
- warm: sha256sum has just read them. `verify` drops each file's pages before it reads it,
        since what counts is on the disk: for it, warm is cold as far as files are concerned.

Rules of this file: the two take turns over the same files; the archive is of difficult
letters, 10 kB each on average; the table gives medians of MB/s and of processor seconds,
and the ratio to sha256sum round by round, above 1 where `verify` is the faster.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time

from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.identity import PASSWORD, USER, Ran, fill, run
from popfetchd.archive import mboxrd
from tests.letters import letters
from tests.wire import Installation


def maildir(folder: Path, stored: Iterable[bytes]) -> Installation:
    """
    Return an installation with *stored* in a maildir.
    """
    site = Installation(folder)
    site.configure(site.account(USER, PASSWORD, 995))
    fill(site, stored)
    return site


def mbox(folder: Path, stored: Iterable[bytes]) -> Installation:
    """
    Return an installation with *stored* in an mbox.
    """
    site = Installation(folder)
    path = site.maildir().parent / "mbox"
    site.configure(site.account(USER, PASSWORD, 995, archive=as_mbox(path)))
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        for letter in stored:
            line = mboxrd.from_line(letter, time.time())
            file.writelines(mboxrd.entry(line, iter([letter])))
    return site


def as_mbox(path: Path) -> dict[str, str]:
    return {"format": "mbox", "path": str(path)}


def hashed(site: Installation) -> float:
    """
    Return how many seconds sha256sum takes for all the files.
    """
    paths = [path for path in site.maildir().parent.rglob("*") if path.is_file()]
    names = "\0".join(map(str, paths))
    began = time.perf_counter()
    subprocess.run(
        ["xargs", "-0", "sha256sum"],
        input=names,
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def forget_pages() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")


def measured(site: Installation, rounds: int, *, cold: bool) -> None:
    """
    Print how the two do, over so many rounds.
    """
    ours: list[Ran] = []
    theirs: list[float] = []
    for _ in range(rounds):
        if cold:
            forget_pages()
        theirs.append(hashed(site))
        if cold:
            forget_pages()
        ours.append(run(site.command("verify", "--json")))
        assert not ours[-1].said["damage"], ours[-1].said
    octets = ours[0].said["octets"] / 1e6
    took = [ran.said["seconds"] for ran in ours]
    ratios = [b / a for a, b in zip(took, theirs, strict=True)]
    print(
        f"  {'cold' if cold else 'warm'}: verify {octets / statistics.median(took):.1f} "
        f"MB/s ({statistics.median(ran.busy for ran in ours):.1f} s busy, "
        f"{max(ran.peak for ran in ours) / 1e6:.0f} MB peak), sha256sum "
        f"{octets / statistics.median(theirs):.1f} MB/s; ratio "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
        flush=True,
    )


Making = Callable[[Path, Iterable[bytes]], Installation]
MAKINGS: dict[str, Making] = {"maildir": maildir, "mbox": mbox}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    options = parser.parse_args()
    for name, making in MAKINGS.items():
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            stored = (letter.stored for letter in letters(options.messages, seed=9))
            site = making(Path(folder), stored)
            said = run(site.command("rebuild", "--json")).said
            print(f"{name}, {said['restored']} messages:", flush=True)
            for cold in (True, False):
                measured(site, options.rounds, cold=cold)


if __name__ == "__main__":
    main()
