"""
A conversation on a terminal: lines said, questions asked, long texts shown page by page.

Rules of this file:

- What is said is cleaned: the other side may be a mail of anyone's. So is what a pager
  shows: it is our own, since others obey escapes, and run commands.
- Answers are whole lines, edited by the terminal itself: no mode of it is changed that
  a crash would leave changed.
- While nobody answers, *idle* is called now and then.
- What was typed before a question that matters was asked does not answer it.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios

from collections.abc import Callable, Iterator

from popfetchd.cli.tables import MOST_MARKS, Style, cut, paint
from popfetchd.logs import clean


IDLE = 60.0
"""Seconds without an answer after which somebody else is looked after: RFC 1939 §3 lets
a server log out who is silent for ten minutes, and some do it after two."""

LONGEST_ANSWER = 4096
"""Octets: what the line discipline of Linux takes at most, termios(3)."""

SPARE = 2
"""Lines of the terminal that a page leaves: for the question, and for what was before."""


def on_terminal() -> bool:
    """
    Tell whether a person both reads what we say and answers.
    """
    return sys.stdin.isatty() and sys.stdout.isatty()


class Conversation:
    """
    With the person at standard input and output, which are a terminal.

    *idle* is called each IDLE seconds while an answer is waited for.
    """

    def __init__(self, idle: Callable[[], None], every: float = IDLE) -> None:
        self._idle = idle
        self._every = every
        self._input = sys.stdin.fileno()

    def say(self, text: str = "", style: Style | None = None) -> None:
        """
        Show one line.
        """
        print(paint(text, style) if style else clean(text))

    def ask(self, question: str) -> str:
        """
        Show *question* and return what is typed, in lower case. EOFError at the end.
        """
        return self.line(question).lower()

    def line(self, question: str) -> str:
        """
        Show *question* and return what is typed as it is, without blanks around it.
        """
        print(paint(question, Style.HEAD), end=" ", flush=True)
        while not select.select([self._input], [], [], self._every)[0]:
            self._idle()
        typed = os.read(self._input, LONGEST_ANSWER)
        if not typed:
            print()
            raise EOFError
        return typed.decode("utf-8", "replace").strip()

    def agrees(self, question: str) -> bool:
        """
        Tell whether "yes", the whole word, is typed after *question* was asked.
        """
        termios.tcflush(self._input, termios.TCIFLUSH)
        return self.ask(f"{question} Type yes or no:") == "yes"

    def read_out(self, lines: list[str]) -> None:
        """
        Show *lines*, page by page.
        """
        width, height = shutil.get_terminal_size()
        rows = [row for line in lines for row in folded(line, width)]
        page = max(1, height - SPARE)
        for start in range(0, len(rows), page):
            shown = rows[start : start + page]
            print("\n".join(shown))
            left = len(rows) - start - len(shown)
            if left and self.ask(f"-- {left} more lines: Enter, or q --") == "q":
                return


def folded(line: str, width: int) -> Iterator[str]:
    """
    Yield *line*, cleaned, in rows of at most *width* cells; an empty one is a row too.
    """
    text, at = clean(line.expandtabs()), 0
    while at < len(text) or at == 0:
        # A look ahead: a line may be a megabyte, and each row costs but itself.
        ahead = text[at : at + width * MOST_MARKS]
        row = cut(ahead, width) or ahead[:1]  # a step forward, however narrow it is
        yield row
        at += max(1, len(row))
