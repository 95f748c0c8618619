"""
What does it cost to make a batch of files durable? Four ways, interleaved.

    python benchmarks/fsync.py [--folder DIR] [--files 400] [--octets 4500] [--rounds 5]

- each:   fsync each file, one after the other
- pool:   the same, in a few threads (the file system joins their journal commits)
- range:  sync_file_range(WRITE) on every file first, to start the write-back; then each
- syncfs: one syncfs for the whole file system. It also waits for what other programs
          wrote there, and tells of every loss only since Linux 5.17 (docs/adr/0007-fsync.md)

Rules of this file: every way writes the same octets into new files; rounds alternate
between the ways, and the table gives medians and the ratio to `each` round by round.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import tempfile
import time

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


LIBC = ctypes.CDLL(None, use_errno=True)
SYNC_FILE_RANGE_WRITE = 2
THREADS = (2, 4, 8)


def write(folder: Path, files: int, octets: int) -> list[int]:
    """
    Write new files and return their descriptors, still open.
    """
    text = os.urandom(octets)
    found = []
    for number in range(files):
        fd = os.open(folder / str(number), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, text)
        found.append(fd)
    return found


def each(fds: list[int]) -> None:
    for fd in fds:
        os.fsync(fd)


def pool(threads: int) -> Callable[[list[int]], None]:
    def sync(fds: list[int]) -> None:
        with ThreadPoolExecutor(threads) as executor:
            list(executor.map(os.fsync, fds))

    return sync


def in_ranges(fds: list[int]) -> None:
    for fd in fds:
        zero = ctypes.c_int64(0)
        LIBC.sync_file_range(fd, zero, zero, SYNC_FILE_RANGE_WRITE)
    each(fds)


def syncfs(fds: list[int]) -> None:
    if LIBC.syncfs(fds[0]):
        raise OSError(ctypes.get_errno(), "syncfs")


WAYS: dict[str, Callable[[list[int]], None]] = {
    "each": each,
    **{f"pool of {threads}": pool(threads) for threads in THREADS},
    "range, then each": in_ranges,
    "syncfs": syncfs,
}


def timed(
    way: Callable[[list[int]], None], folder: Path, files: int, size: int
) -> float:
    """
    Return the seconds that *way* takes for a batch.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place:
        fds = write(Path(place), files, size)
        began = time.perf_counter()
        way(fds)
        took = time.perf_counter() - began
        for fd in fds:
            os.close(fd)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--octets", type=int, default=4500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    figures: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(options.rounds):
        for name, way in WAYS.items():
            figures[name].append(
                timed(way, options.folder, options.files, options.octets)
            )
    print(f"{options.files} files of {options.octets} octets, {options.rounds} rounds")
    print(f"{'way':<18}{'median s':>10}{'ms/file':>9}{'to each':>9}{'min-max':>14}")
    for name, seconds in figures.items():
        ratios = [a / b for a, b in zip(seconds, figures["each"], strict=True)]
        median = statistics.median(seconds)
        print(
            f"{name:<18}{median:>10.3f}{median / options.files * 1000:>9.2f}"
            f"{statistics.median(ratios):>9.2f}"
            f"{min(ratios):>8.2f}-{max(ratios):.2f}"
        )


if __name__ == "__main__":
    main()
