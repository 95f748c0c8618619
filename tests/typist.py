"""
A person at a terminal: types an answer when its question was seen, with a limit on waits.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios

from pathlib import Path

from tests.desk import PATIENCE, until


class Typist:
    """
    Types into a terminal of 24 lines with *columns* cells, where a process runs.

    *spawn* starts it, given what `subprocess.Popen` is to be told.
    """

    def __init__(self, spawn, columns=60):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        stdio = dict.fromkeys(("stdin", "stdout", "stderr"), slave)
        self.process = spawn(
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            **stdio,
        )
        os.close(slave)
        self.seen = ""

    def read(self):
        """
        Take what the terminal shows next; False at its end.
        """
        assert select.select([self.master], [], [], PATIENCE)[0], self.seen
        try:
            octets = os.read(self.master, 65536)
        except OSError:  # Linux: the other side has closed it
            return False
        self.seen += octets.decode()
        return bool(octets)

    def answer(self, question, answer):
        """
        Wait for *question*, then type *answer*.

        Not before the process sleeps, in its read of the answer: Python would take notice
        of a Ctrl-C between question and read only once that has ended.
        """
        while not self.seen.rstrip(" ").endswith(question):
            assert self.read(), self.seen
        until(self._sleeps)
        self.seen += "<answer>"
        os.write(self.master, answer)

    def _sleeps(self):
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "S"

    def end(self):
        """
        Return the exit code, when all was read.
        """
        while self.read():
            pass
        os.close(self.master)
        return self.process.wait(PATIENCE)
