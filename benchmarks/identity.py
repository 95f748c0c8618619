"""
What does it cost to know a maildrop's messages again? By their number, and by the server.

    python -m benchmarks.identity [--known 25000 50000 100000] [--strange 10000]
                                  [--folder DIR]

- known:   an archive of so many messages, with its ledger: made again (`rebuild`), matched
           with the server for the first time, visited with nothing new, and visited after
           the server gave every message a new unique-id.
- strange: servers that make it hard to tell which message is which: the first visit, the
           one after, and the one that removes all it may.

Rules of this file:

- The server is the embedded maildrop in a process of its own, behind a relay there that
  counts the octets which the server sent; popfetchd is the command line.
- Each visit's outcome is checked: nothing is archived twice, or the run ends there.
- Peak memory is the visiting process's alone. This one stays small, since a child that
  begins as a copy of a large process counts that as its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from popfetchd.archive import names
from popfetchd.maildrop.dialogue import Dialogue, error, ok
from popfetchd.maildrop.drop import Maildrop
from popfetchd.maildrop.server import AUTOLOGOUT, HOST
from popfetchd.values import LedgerId, Octets, Secret, TlsMode
from tests import relay
from tests.relay import Relay
from tests.wire import Installation
from tests.world import Pop3, dialogue


USER, PASSWORD = "alice", "right horse"

LETTER = (
    b"Received: by mx.example.net id %06d; Mon, 23 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <%06d@example.org>\r\nFrom: bob@example.org\r\nTo: alice@example.net\r\n"
    b"Date: Mon, 23 Nov 2026 09:59:00 +0000\r\nSubject: number %06d\r\n\r\n"
) + b"the quick brown fox jumps over the lazy dog, over and over again\r\n" * 30
"""2.2 kB, of which TOP 0 gives a tenth."""


def letter(number: int) -> bytes:
    return LETTER % (number, number, number)


# -- the server -----------------------------------------------------------------------


def numbered(name: Callable[[int], str]) -> Callable[[Dialogue, str], bytes]:
    """
    Return a UIDL that gives message *n* the unique-id that *name* tells.
    """

    def answer(self: Dialogue, _text: str) -> bytes:
        lines = (f"{number} {name(int(number))}\r\n" for number, _ in self._kept())
        return ok("") + "".join(lines).encode() + b".\r\n"

    return answer


def altering(self: Dialogue, text: str) -> bytes:
    """
    RETR with other octets each time, as of a server that puts an advertisement in.
    """
    octets = self._message(text).octets.replace(b"quick", b"%05d" % next(RETRIEVALS))
    return ok("") + octets + b".\r\n"


def refusing(_self: Dialogue, _text: str) -> bytes:
    """
    A command that the server does not know.
    """
    return error("unknown command")


RETRIEVALS = count()

SERVERS: dict[str, dict[str, Callable[[Dialogue, str], bytes]]] = {
    "one unique-id for each pair": {"UIDL": numbered(lambda n: f"pair{n // 2}")},
    "no UIDL": {"UIDL": refusing},
    "no UIDL, no TOP": {"UIDL": refusing, "TOP": refusing},
    "other octets at each RETR": {"RETR": altering, "TOP": refusing},
}
"""The strange ones."""


def serve(messages: int, prefix: str, kind: str) -> None:
    """
    Serve so many letters, their unique-ids beginning with *prefix*, until stdin ends.

    Tells its port first; then, for each line, how many octets it has sent since the last.
    """
    relay.PATIENCE = AUTOLOGOUT  # where others use the processor too, all takes long
    drop = Maildrop(USER, Secret(PASSWORD))
    for number in range(messages):
        twin = number // 2 if kind == "twins" else number
        drop.deliver(letter(twin), f"{prefix}{number}")
    with Pop3([drop], None, mode=TlsMode.NONE) as server:  # type: ignore[arg-type]
        server.dialogue = dialogue(**SERVERS.get(kind, {}))
        with Relay((HOST, server.port)) as line:
            print(line.port, flush=True)
            before = 0
            for _ in sys.stdin:
                sent = sum(len(heard.down) for heard in line.heard)
                print(sent - before, flush=True)
                before = sent


@dataclass
class Remote:
    """
    The server's process: its *port*, and how much it has sent.
    """

    process: subprocess.Popen[str]
    port: int

    def sent(self) -> int:
        """
        Return how many octets it has sent since this was asked last.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())


@contextmanager
def serving(messages: int, prefix: str, kind: str = "") -> Iterator[Remote]:
    """
    Run `serve` in a process of its own.
    """
    module = [sys.executable, "-m", "benchmarks.identity"]
    process = subprocess.Popen(
        [*module, "--serve", kind, prefix, "--known", str(messages)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Remote(process, int(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.wait()


# -- popfetchd ------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """
    What one command took, and what it said.
    """

    seconds: float
    busy: float
    """Seconds of a processor, which tell more where others use it too."""
    peak: int
    said: dict[str, Any]


def run(command: list[str]) -> Ran:
    """
    Run *command*, which must end well, and tell its time and its own peak of memory.
    """
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - began
    assert process.returncode == 0, text
    busy = usage.ru_utime + usage.ru_stime
    return Ran(took, busy, usage.ru_maxrss * 1024, json.loads(text)[0])


def configured(folder: Path, port: int, **keys: object) -> Installation:
    site = Installation(folder)
    account = site.account(USER, PASSWORD, port, tls="none", auth="user", **keys)
    site.configure(account)
    return site


def visit(site: Installation, server: Remote) -> tuple[Ran, str]:
    """
    Fetch once; return how that ended, and its figures as a part of a line.
    """
    ran = run(site.command("fetch", "--json"))
    stages = {stage: s for stage, s in ran.said["stages"].items() if s >= 0.1}
    slow = ", ".join(f"{stage} {s:.1f}" for stage, s in stages.items())
    return ran, f"{cost(ran)}, {server.sent() / 1e6:6.1f} MB sent ({slow})"


def cost(ran: Ran) -> str:
    return f"{ran.seconds:6.1f} s ({ran.busy:5.1f} busy), {ran.peak / 1e6:4.0f} MB peak"


def outcome(ran: Ran) -> tuple[int, int, int, int]:
    said = ran.said
    return said["archived"], said["matched"], said["removed"], said["waiting"]


# -- what is measured -----------------------------------------------------------------


def fill(site: Installation, letters: Iterable[bytes]) -> None:
    """
    Put *letters*, as stored, into the archive under the names that a ledger gave.
    """
    ledger, now = LedgerId("0123456789ab"), time.time()
    for name in ("tmp", "new", "cur"):
        (site.maildir() / name).mkdir(parents=True)
    for number, stored in enumerate(letters, 1):
        base = names.new_base(now, ledger, number, "localhost")
        name = names.final_name(base, Octets(len(stored)))
        (site.maildir() / "new" / name).write_bytes(stored)


def known(folder: Path, messages: int) -> None:
    """
    Print what it costs to know *messages* messages again.
    """
    with serving(messages, "old") as server:
        site = configured(folder, server.port, deadline="2h")
        fill(site, (letter(n).replace(b"\r\n", b"\n") for n in range(messages)))
        made = run(site.command("rebuild", "--json"))
        assert made.said["restored"] == messages
        print(f"{messages:7} rebuild       {cost(made)}")
        tell(f"{messages:7} first match  ", (0, messages, 0, 0), site, server)
        tell(f"{messages:7} nothing new  ", (0, 0, 0, 0), site, server)
    with serving(messages, "new") as server:
        site = configured(folder, server.port, deadline="2h")
        tell(f"{messages:7} reset        ", (0, messages, 0, 0), site, server)
        tell(f"{messages:7} nothing new  ", (0, 0, 0, 0), site, server)


def tell(
    name: str, expected: tuple[int, int, int, int], site: Installation, server: Remote
) -> None:
    ran, figures = visit(site, server)
    print(f"{name} {figures}", flush=True)
    assert expected == outcome(ran), ran.said


def strange(folder: Path, messages: int, kind: str) -> None:
    """
    Print what visits to a strange server cost, and what became of its messages.
    """
    with serving(messages, "", kind) as server:
        for nth, policy in enumerate(("never", "never", "verified")):
            site = configured(folder, server.port, deadline="2h", delete_after=policy)
            ran, figures = visit(site, server)
            archived, matched, removed, _ = outcome(ran)
            print(
                f"{messages:7} {kind:28} visit {nth + 1}: archived {archived:5}, "
                f"matched {matched:5}, removed {removed:5}; {figures}",
                flush=True,
            )
            assert archived == (0 if nth else messages), ran.said
            assert len(site.files("new")) == messages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument(
        "--known", type=int, nargs="*", default=[25_000, 50_000, 100_000]
    )
    parser.add_argument("--strange", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        kind, prefix = options.serve
        serve(options.known[0], prefix, kind)
        return
    for messages in options.known:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            known(Path(folder), messages)
    if options.strange:
        for kind in ("twins", *SERVERS):
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                strange(Path(folder), options.strange, kind)


if __name__ == "__main__":
    main()
