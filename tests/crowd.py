"""
Programs that use one mbox at the same time, each a process of its own.

    python -m tests.crowd ours    MBOX COUNT NAME LEDGER
    python -m tests.crowd mutt    MBOX COUNT NAME
    python -m tests.crowd procmail MBOX COUNT NAME
    python -m tests.crowd dovecot MBOX COUNT

Rules of this file:

- The foreign ones lock as their models do (the order of fcntl and dot lock differs), by
  their own code; nothing of popfetchd is in it.
- Each writes or rewrites COUNT times, in small pieces, so that who does not heed a lock
  tears what another wrote.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
import time

from contextlib import contextmanager
from pathlib import Path

from popfetchd.archive.mbox import Mbox
from popfetchd.ledger import Ledger
from popfetchd.values import (
    AccountName,
    Listed,
    MessageNumber,
    Octets,
    Recorded,
    SessionId,
    UniqueId,
)


MOMENT = 0.002
"""Seconds between two pieces, or two tries."""


def letter(name, number):
    return f"Subject: {name} {number}\n\nFrom {name}\nline\n".encode() * 1


def main(role, mbox, count, *more):
    {"ours": ours, "mutt": mutt, "procmail": procmail, "dovecot": dovecot}[role](
        Path(mbox), int(count), *more
    )


def ours(mbox, count, name, ledger):
    """
    Archive as a visit does, one message a batch.
    """
    with Ledger(Path(ledger), now=time.time) as book:
        archive = Mbox(mbox, book.id, host="mx", now=time.time)
        archive.open()
        for number in range(count):
            keep(archive, book, AccountName(name), number)
        archive.close()


def keep(archive, book, account, number):
    octets = letter(account, number).replace(b"\n", b"\r\n")
    uid = UniqueId(str(number))
    listed = Listed(SessionId("s"), MessageNumber(1), uid, Octets(len(octets)))
    spool = archive.spool(listed, book.reserve(1)[0])
    spool.write(octets)
    proved = archive.prove([spool.finish()])[0]
    with archive.publishing(archive.directory, book.left_open) as left:
        assert [] == left, left
        (row,) = book.record(account, [proved], archive.place)
        assert isinstance(row, Recorded)
        book.commit(archive.publish([row]))
    archive.discard(row.copy)


def mutt(mbox, count, name):
    """
    The file's lock first, then the dot lock.
    """
    for number in range(count):
        with both_locked(mbox) as fd:
            append(fd, letter(name, number))


def procmail(mbox, count, name):
    """
    The dot lock first, then the file's.
    """
    for number in range(count):
        with dot_locked(mbox), opened(mbox) as fd, file_locked(fd):
            append(fd, letter(name, number))


def dovecot(mbox, count):
    """
    Flags one message more each time, by writing the whole file anew in its place.
    """
    for _ in range(count):
        with both_locked(mbox) as fd:
            whole = read(fd)
            flagged = re.sub(
                rb"(?m)^(Subject: [^\n]*\n)\n", rb"\1Status: RO\n\n", whole, count=1
            )
            put(fd, flagged, 0)
            os.ftruncate(fd, len(flagged))
        time.sleep(MOMENT)


# -- what they are made of ------------------------------------------------------------


@contextmanager
def opened(mbox):
    fd = os.open(mbox, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def file_locked(fd):
    fcntl.lockf(fd, fcntl.LOCK_EX)
    yield


@contextmanager
def dot_locked(mbox):
    while not try_dot_lock(mbox):
        time.sleep(MOMENT)
    yield
    Path(f"{mbox}.lock").unlink()


@contextmanager
def both_locked(mbox):
    # The file's lock first; who cannot have the other at once lets go of both.
    while True:
        with opened(mbox) as fd:
            fcntl.lockf(fd, fcntl.LOCK_EX)
            if try_dot_lock(mbox):
                yield fd
                Path(f"{mbox}.lock").unlink()
                return
        time.sleep(MOMENT)


def try_dot_lock(mbox):
    try:
        os.close(os.open(f"{mbox}.lock", os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    return True


def append(fd, octets):
    quoted = re.sub(rb"(?m)^(>*From )", rb">\1", octets)
    put(fd, b"From x Thu Jan  1 00:00:00 1970\n" + quoted + b"\n", os.fstat(fd).st_size)


def put(fd, octets, offset):
    step = max(1, len(octets) // 3)
    for at in range(0, len(octets), step):
        os.pwrite(fd, octets[at : at + step], offset + at)
        time.sleep(MOMENT)


def read(fd):
    return os.pread(fd, os.fstat(fd).st_size, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
