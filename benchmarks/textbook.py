"""
What anybody writes in an afternoon: poplib, a maildir and a list of what was seen.

    python -m benchmarks.textbook FILE.json

No pipelining, no fsync, the whole message in memory, the list written at the end.
"""

from __future__ import annotations

import json
import os
import poplib
import ssl
import sys

from pathlib import Path
from typing import Any


def fetch(job: dict[str, Any]) -> None:
    """
    Retrieve what was not seen into job's maildir.
    """
    state, maildir = Path(job["state"]), Path(job["maildir"])
    seen = set(state.read_text().split()) if state.exists() else set()
    context = ssl.create_default_context(cafile=job["ca"])
    pop = poplib.POP3_SSL("127.0.0.1", job["port"], timeout=300, context=context)
    pop.user(job["user"])
    pop.pass_(job["password"])
    for entry in pop.uidl()[1]:
        number, unique_id = entry.decode().split()
        if unique_id not in seen:
            deliver(maildir, number, b"\n".join(pop.retr(int(number))[1]) + b"\n")
            seen.add(unique_id)
        if not job["keep"]:
            pop.dele(int(number))
    pop.quit()
    state.write_text("\n".join(seen))


def deliver(maildir: Path, number: str, message: bytes) -> None:
    name = f"{os.getpid()}.{number}"
    (maildir / "tmp" / name).write_bytes(message)
    (maildir / "tmp" / name).rename(maildir / "new" / name)


if __name__ == "__main__":
    fetch(json.loads(Path(sys.argv[1]).read_text()))
