"""
The maildrop that the booted service fetches from: `maildrop.py FOLDER`.

Its secret is read from FOLDER/secret; its authority and port are written there. Each
SIGUSR1 brings another letter.
"""

from __future__ import annotations

import signal
import sys

from datetime import UTC, datetime
from pathlib import Path

from popfetchd.maildrop.certificate import certify
from popfetchd.maildrop.drop import Maildrop
from popfetchd.maildrop.letters import letter
from popfetchd.maildrop.server import MaildropServer
from popfetchd.values import Secret


USER = "alice@example.net"

FIRST_LETTERS = 5


def main(folder: Path) -> None:
    """
    Serve until killed.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    maildrop = Maildrop(USER, Secret((folder / "secret").read_text()))
    for number in range(FIRST_LETTERS):
        maildrop.deliver(letter(number, datetime.now(UTC)))
    with MaildropServer([maildrop], certify(folder).context) as server:
        (folder / "port.new").write_text(str(server.port))
        (folder / "port.new").rename(folder / "port")
        while True:
            signal.sigwait({signal.SIGUSR1})
            number += 1
            maildrop.deliver(letter(number, datetime.now(UTC)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
