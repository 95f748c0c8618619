"""
Tests of popfetchd/archive/libc.py, and of what popfetchd/archive/disk.py asks of it.
"""

from __future__ import annotations

import errno
import os

import pytest

from popfetchd.archive import disk, libc
from popfetchd.archive.disk import RealDisk


@pytest.fixture
def folder(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_a_rename_overwrites_nothing(folder, tmp_path):
    """
    A name that is taken stays what it is.
    """
    (tmp_path / "ours").write_bytes(b"ours")
    (tmp_path / "taken").write_bytes(b"another's")

    with pytest.raises(FileExistsError):
        libc.rename(folder, "ours", folder, "taken")
    libc.rename(folder, "ours", folder, "free")
    assert b"another's" == (tmp_path / "taken").read_bytes()
    assert b"ours" == (tmp_path / "free").read_bytes()


def test_an_old_c_library_is_told(folder, monkeypatch):
    """
    Where there is no such call, that is an OSError like the others.
    """
    monkeypatch.setattr(libc, "LIBRARY", object())

    with pytest.raises(OSError, match="Function not implemented"):
        RealDisk().rename("a", folder, "b", folder)
    with pytest.raises(OSError, match="Function not implemented"):
        RealDisk().sync_all(folder)


def test_all_is_synced_or_the_reason_is_told(folder):
    """
    What is no open file cannot be synced, and is not taken for synced.
    """
    RealDisk().sync_all(folder)

    with pytest.raises(OSError, match="Bad file descriptor") as told:
        RealDisk().sync_all(-1)
    assert errno.EBADF == told.value.errno


@pytest.mark.parametrize(
    ("release", "kind", "tells"),
    [
        ("6.1.0-18-amd64", 0xEF53, True),
        ("5.17.0", 0x58465342, True),
        ("5.15.0-91-generic", 0xEF53, False),
        ("4.19", 0xEF53, False),
        ("6.1.0", 0x6969, False),  # NFS
    ],
)
def test_who_keeps_losses_back_is_not_trusted(
    folder, monkeypatch, release, kind, tells
):
    """
    Neither an old kernel nor a file system of which it is not known.
    """
    system = os.uname()
    told = os.uname_result((*system[:2], release, *system[3:]))
    monkeypatch.setattr(disk.os, "uname", lambda: told)
    monkeypatch.setattr(libc, "file_system", lambda _fd: kind)

    assert tells is RealDisk().tells_of_losses(folder)


def test_a_file_system_has_a_type(folder):
    """
    The kernel's own number; the file system of /proc has another.
    """
    proc = os.open("/proc", os.O_RDONLY)
    kinds = [libc.file_system(fd) for fd in (folder, proc)]
    os.close(proc)

    assert 0x9FA0 == kinds[1]
    assert kinds[0] not in {0, 0x9FA0}
