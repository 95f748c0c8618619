"""
The calls of the C library that Python does not have.

Rules of this file:

- A function is one call, with its arguments and its OSError; ENOSYS where the C library,
  or what it runs on, does not know it.
- It is loaded by who needs one of them: ctypes takes ten milliseconds.
"""

from __future__ import annotations

import ctypes
import errno
import os

from collections.abc import Callable


LIBRARY = ctypes.CDLL(None, use_errno=True)

RENAME_NOREPLACE = 1
"""Do not overwrite the target (linux/fs.h)."""

LARGEST_STATFS = 256
"""Octets of a struct statfs, with room to spare; it begins with the type, a long."""


def rename(folder: int, name: str, to_folder: int, to: str) -> None:
    """
    Rename without ever overwriting: renameat2(2).
    """
    old, new = os.fsencode(name), os.fsencode(to)
    _call("renameat2")(folder, old, to_folder, new, RENAME_NOREPLACE)


def sync_all(fd: int) -> None:
    """
    Write all that the file system of *fd* holds in memory: syncfs(2).
    """
    _call("syncfs")(fd)


def file_system(fd: int) -> int:
    """
    Return the type of the file system of *fd*: fstatfs(2), linux/magic.h.
    """
    found = ctypes.create_string_buffer(LARGEST_STATFS)
    _call("fstatfs")(fd, found)
    return ctypes.c_long.from_buffer(found).value


def _call(name: str) -> Callable[..., None]:
    try:
        function = getattr(LIBRARY, name)
    except AttributeError:  # an old C library, or another
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None

    def called(*arguments: object) -> None:
        if function(*arguments):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return called
