"""
Two thousand small messages over TLS from one Dovecot: popfetchd beside mpop.

    python -m benchmarks.small [--messages 2000] [--rounds 5]

Rules of this file: the two take turns, each with a maildrop and an archive of its own;
what was delivered is counted in each run; the table gives medians, and the ratio to
mpop round by round. Needs Dovecot and mpop from apt, and root (for Dovecot).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import tempfile
import time

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.live.dovecot import Dovecot, User, running
from tests.wire import Installation


LETTER = (
    b"Received: by mx.example.net id %05d; Mon, 23 Nov 2026 10:00:00 +0000\n"
    b"Message-ID: <%05d@example.org>\nFrom: bob@example.org\nTo: alice@example.net\n"
    b"Date: Mon, 23 Nov 2026 09:59:00 +0000\nSubject: number %05d\n\n"
) + b"the quick brown fox jumps over the lazy dog, over and over again\n" * 30


def popfetchd(folder: Path, dovecot: Dovecot, user: User, keep: bool) -> list[str]:
    site = Installation(folder)
    account = site.account(
        user.name,
        user.password,
        dovecot.ports.pop3s,
        ca_file=str(dovecot.ca_file),
        delete_after="never" if keep else "verified",
    )
    site.configure(account)
    return site.command("fetch")


def mpop(folder: Path, dovecot: Dovecot, user: User, keep: bool) -> list[str]:
    maildir = folder / "mail" / "alice"
    for name in ("tmp", "new", "cur"):
        (maildir / name).mkdir(parents=True)
    configuration = folder / "mpoprc"
    configuration.touch(0o600)
    configuration.write_text(
        f"account alice\nhost {dovecot.host}\nport {dovecot.ports.pop3s}\n"
        f"tls on\ntls_starttls off\ntls_trust_file {dovecot.ca_file}\n"
        f"user {user.name}\npassword {user.password}\nkeep {'on' if keep else 'off'}\n"
        f"uidls_file {folder}/uidls\ndelivery maildir {maildir}\n"
    )
    return ["mpop", "-C", str(configuration), "-q", "alice"]


Peer = Callable[[Path, Dovecot, User, bool], list[str]]
PEERS: dict[str, Peer] = {"popfetchd": popfetchd, "mpop": mpop}


def run(peer: Peer, dovecot: Dovecot, letters: Sequence[bytes], keep: bool) -> float:
    """
    Return the wall seconds of one run, after seeing that it delivered everything.
    """
    user = dovecot.add_user()
    user.deliver(letters)
    with tempfile.TemporaryDirectory() as name:
        command = peer(Path(name), dovecot, user, keep)
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - began
        delivered = len(list(Path(name, "mail", "alice", "new").iterdir()))
    left = user.count()
    assert (delivered, left) == (len(letters), len(letters) if keep else 0)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    letters = [LETTER % (n, n, n) for n in range(options.messages)]
    with running() as dovecot:
        for keep in (True, False):
            figures: dict[str, list[float]] = {name: [] for name in PEERS}
            for _ in range(options.rounds):
                for name, peer in PEERS.items():
                    figures[name].append(run(peer, dovecot, letters, keep))
            tell("keep" if keep else "delete", figures)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(f"largest process: {peak} MB")


def tell(what: str, figures: dict[str, list[float]]) -> None:
    """
    Print the medians of a kind of run, and the ratios.
    """
    pairs = zip(figures["popfetchd"], figures["mpop"], strict=True)
    ratios = [ours / theirs for ours, theirs in pairs]
    medians = (f"{name} {statistics.median(v):.2f} s" for name, v in figures.items())
    print(
        f"{what}: {', '.join(medians)}; ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f}-{max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
