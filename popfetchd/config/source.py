"""
From a file to its text, or to the plain reason why there is none.

Rules of this file:

- A configuration is a file of UTF-8 text that nobody but its owner may write: whoever
  writes it chooses what popfetchd runs.
- A sentence tells the place of what is wrong and repeats nothing that stands there.
"""

from __future__ import annotations

import codecs
import os
import re
import stat

from pathlib import Path


LARGEST_FILE = 64 * 2**20
"""Octets of one file; 100,000 accounts take 22 MB."""

UNFIT = "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
"""What YAML does not allow, and the three rarer line ends that editors count otherwise.

A pattern, which is compiled only where a text is not all ASCII: that takes 5 ms.
"""

UNFIT_ASCII = re.compile("[^\t\n\r\x20-\x7e]")
"""The same, of ASCII."""


class Unreadable(Exception):
    """
    Nothing can be made of the file. *line* and *column* count from 1; 0: all of it.
    """

    def __init__(self, text: str, line: int = 0, column: int = 0) -> None:
        super().__init__(text)
        self.text = text
        self.line = line
        self.column = column


def text(path: Path) -> tuple[str, int]:
    """
    Return the text in *path* and the file's permission bits. Raises Unreadable.
    """
    octets, mode = _octets(path)
    return _decoded(octets), mode


def _octets(path: Path) -> tuple[bytes, int]:
    try:
        # O_NONBLOCK: a FIFO must not hold us up before we can see that it is one.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "its name is no path"
        raise Unreadable(f"cannot be opened: {problem}") from None
    try:
        return _content(descriptor)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _content(descriptor: int) -> tuple[bytes, int]:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("is not a file")
    mode = stat.S_IMODE(status.st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Unreadable(
            f"others may write it (mode {mode:04o}), and with it choose what popfetchd "
            "runs; take that away with `chmod go-w`"
        )
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        octets = file.read(LARGEST_FILE + 1)
    if len(octets) > LARGEST_FILE:
        raise Unreadable(f"is larger than {LARGEST_FILE // 2**20} MiB")
    return octets, mode


def _decoded(octets: bytes) -> str:
    if octets.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable("is UTF-16; save it as UTF-8")
    try:
        # A byte order mark says nothing in UTF-8; YAML 1.2 §5.2 lets it stand.
        text = octets.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line, column = _place(error.object[: error.start].decode("utf-8"))
        octet = error.object[error.start]
        raise Unreadable(
            f"octet 0x{octet:02X} is not UTF-8; save the file as UTF-8", line, column
        ) from None
    unfit = (UNFIT_ASCII if text.isascii() else re.compile(UNFIT)).search(text)
    if unfit:
        raise Unreadable(
            f"the control character U+{ord(unfit.group()):04X} is not allowed",
            *_place(text[: unfit.start()]),
        )
    return text


def _place(before: str) -> tuple[int, int]:
    """
    Return the line and column, both from 1, that follow the text *before*.
    """
    lines = before.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return len(lines), len(lines[-1]) + 1
