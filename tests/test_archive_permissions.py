"""
Who may read an archive besides its owner: `mode` and `group`.
"""

from __future__ import annotations

import errno
import os
import stat

import pytest

from popfetchd.archive.durable import Folder, permit
from popfetchd.archive.folders import reach
from popfetchd.archive.opening import archive_at
from popfetchd.errors import ArchiveError, NotPermitted
from popfetchd.values import (
    PRIVATE,
    ArchiveFormat,
    Destination,
    Group,
    LedgerId,
    LeftOpen,
    Listed,
    MessageNumber,
    Octets,
    Permissions,
    Recorded,
    RowId,
    SessionId,
    UniqueId,
)
from tests.faulty_disk import AlwaysFaultyDisk, FaultyDisk, open_descriptors


OURS = LedgerId("0123456789ab")
NOW = 1_700_000_000.0
"""In November 2023."""
LETTER = b"Subject: hello\r\n\r\nbody\r\n"
LISTED = Listed(SessionId("s"), MessageNumber(1), UniqueId("u"), Octets(len(LETTER)))

ANOTHER = 12345 if os.geteuid() == 0 else os.getegid()
"""A group that may be given; root may give any."""

SHARED = Permissions(0o640, Group("mail", ANOTHER))

MAILDIR, MBOX = ArchiveFormat.MAILDIR, ArchiveFormat.MBOX
PLACES = [
    (MAILDIR, "a/mail"),
    (MAILDIR, "a/{year}/mail"),
    (MBOX, "a/all.mbox"),
    (MBOX, "a/{year}/all.mbox"),
]


def archived(form, template, permissions, disk=None):
    """
    Take a letter the whole way into a new archive.
    """
    destination = Destination(form, template)
    archive = archive_at(
        destination,
        OURS,
        host="mx",
        now=lambda: NOW,
        disk=disk,
        pause=lambda _: None,
        permissions=permissions,
    )
    archive.open()
    try:
        spool = archive.spool(LISTED, 1)
        spool.write(LETTER)
        proved = archive.prove([spool.finish()])[0]
        copy = proved.spooled.copy
        with archive.publishing(copy.directory, lambda _: LeftOpen((), {})):
            (copy,) = archive.place([copy])
            row = Recorded(RowId(1), copy, proved.spooled.fingerprint.content)
            archive.publish([row])
        archive.discard(copy)
    finally:
        archive.close()
    return copy


def seen(root):
    """
    Return mode and group of everything below *root*, but for what only we may enter.
    """
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.stat()
        private = ".popfetchd-spool" in path.parts
        kind = "private" if private else "folder" if path.is_dir() else "file"
        found.setdefault(kind, set()).add((stat.S_IMODE(status.st_mode), status.st_gid))
    return found


@pytest.fixture(params=[0o000, 0o077], ids=["no umask", "umask 0077"])
def _umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
@pytest.mark.parametrize(("form", "where"), PLACES)
def test_what_is_made_has_the_permissions_that_were_written(tmp_path, form, where):
    """
    Files their mode, folders also x, all the group, whatever the umask is.
    """
    archived(form, tmp_path / where, SHARED)
    found = seen(tmp_path / "a")
    assert {(0o640, ANOTHER)} == found["file"]
    assert {(0o750, ANOTHER)} == found["folder"]


@pytest.mark.parametrize(("form", "where"), PLACES[1:])
def test_the_folder_of_spool_files_stays_ours_alone(tmp_path, form, where):
    """
    What is not whole yet is nobody else's to see.
    """
    archived(form, tmp_path / where, SHARED)
    assert 0o40700 == (tmp_path / "a" / ".popfetchd-spool").stat().st_mode


@pytest.mark.parametrize(("form", "where"), PLACES)
def test_where_nothing_was_written_nothing_is_asked(tmp_path, form, where):
    """
    The usual way has no system call more.
    """
    disk = FaultyDisk()
    archived(form, tmp_path / where, PRIVATE, disk)
    assert not {"chgrp", "chmod"} & {name for name, _ in disk.calls}
    assert {0o600} == {mode for mode, _ in seen(tmp_path / "a")["file"]}


@pytest.mark.parametrize(
    ("mode", "folder"),
    [(0o600, 0o700), (0o640, 0o750), (0o660, 0o770), (0o644, 0o755), (0o664, 0o775)],
)
def test_a_folder_may_be_passed_by_who_may_read(mode, folder):
    """
    Where r is, there goes x; and w stays.
    """
    assert folder == Permissions(mode).folder_mode


def test_the_mode_is_given_before_the_file_is_durable(tmp_path):
    """
    chgrp, then chmod, then what is written, then fsync: no copy is published without.
    """
    disk = FaultyDisk()
    archived(MAILDIR, tmp_path / "mail", Permissions(0o640, Group("g", -2)), Deaf(disk))
    calls = [name for name, _ in disk.calls]
    given = max(n for n, name in enumerate(calls) if name in {"chgrp", "chmod"})
    assert "chmod" == calls[given]
    assert given < calls.index("pwrite") < calls.index("link")


class Deaf:
    """
    A disk that takes any group for granted.
    """

    def __init__(self, disk):
        self._disk = disk
        disk.faults = {("chgrp", n): lambda *_: None for n in range(9)}

    def __getattr__(self, name):
        return getattr(self._disk, name)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EINVAL])
@pytest.mark.parametrize(("form", "where"), PLACES)
def test_a_group_that_is_denied_is_the_operators_to_mend(tmp_path, form, where, code):
    """
    The error says which group; nothing is left behind, and no descriptor open: once it
    is mended, all is made as it should be.
    """
    before = open_descriptors()
    disk = AlwaysFaultyDisk(chgrp=code)
    strangers = Permissions(0o640, Group("mail", -2))
    with pytest.raises(NotPermitted, match="chgrp to mail") as caught:
        archived(form, tmp_path / where, strangers, disk)
    assert "member of the `group:`" in caught.value.hint
    assert before == open_descriptors()
    assert [] == list(tmp_path.iterdir())

    archived(form, tmp_path / where, SHARED)
    assert {(0o750, ANOTHER)} == seen(tmp_path / "a")["folder"]


@pytest.mark.parametrize("call", ["chmod", "fstat"])
def test_a_disk_that_fails_is_no_matter_of_groups(tmp_path, call):
    """
    Another error of the call is told as what it is, and the new file is gone.
    """
    (tmp_path / "mail").mkdir(mode=0o700)
    here = reach_open(tmp_path)
    try:
        with pytest.raises(ArchiveError) as caught:
            permit(FaultyDisk({(call, 0): errno.EIO}), here.fd, here.path, SHARED)
    finally:
        os.close(here.fd)
    assert not isinstance(caught.value, NotPermitted)
    assert caught.value.step.startswith({"fstat": "stat"}.get(call, call))


def reach_open(path):
    return Folder(os.open(path, os.O_RDONLY | os.O_DIRECTORY), path)


def test_what_is_there_keeps_its_permissions(tmp_path):
    """
    An operator's own chmod is not undone.
    """
    archived(MBOX, tmp_path / "a" / "all.mbox", SHARED)
    (tmp_path / "a").chmod(0o711)
    (tmp_path / "a" / "all.mbox").chmod(0o604)
    archived(MBOX, tmp_path / "a" / "all.mbox", SHARED)
    assert 0o711 == stat.S_IMODE((tmp_path / "a").stat().st_mode)
    assert 0o604 == stat.S_IMODE((tmp_path / "a" / "all.mbox").stat().st_mode)


def test_an_empty_mbox_of_ours_is_as_good_as_a_new_one(tmp_path):
    """
    A visit that was killed between making it and permitting it leaves one.
    """
    (tmp_path / "all.mbox").touch(mode=0o600)
    archived(MBOX, tmp_path / "all.mbox", SHARED)
    assert (0o100640, ANOTHER) == (
        (tmp_path / "all.mbox").stat().st_mode,
        (tmp_path / "all.mbox").stat().st_gid,
    )


def test_an_empty_mbox_of_anothers_is_left_alone(tmp_path):
    """
    Its owner knows who may read it.
    """
    (tmp_path / "all.mbox").touch(mode=0o600)
    (tmp_path / ".popfetchd-spool").mkdir(mode=0o700)
    somebody = AlwaysFaultyDisk(geteuid=lambda _real: 4242)
    archived(MBOX, tmp_path / "all.mbox", SHARED, somebody)
    assert 0o100600 == (tmp_path / "all.mbox").stat().st_mode


def test_a_group_that_is_inherited_goes_on_being_inherited(tmp_path):
    """
    Without `group`, the setgid bit of a folder above is kept.
    """
    tmp_path.chmod(0o2755)
    for fd in (f.fd for f in reach(FaultyDisk(), tmp_path / "a", Permissions(0o640))):
        os.close(fd)
    assert 0o2750 == stat.S_IMODE((tmp_path / "a").stat().st_mode)
    for fd in (f.fd for f in reach(FaultyDisk(), tmp_path / "b", SHARED)):
        os.close(fd)
    assert 0o750 == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_what_has_its_permissions_is_not_given_them_again(tmp_path):
    """
    The second time there is nothing to do.
    """
    here = reach_open(tmp_path)
    disk = FaultyDisk()
    try:
        permit(disk, here.fd, here.path, SHARED)
        permit(disk, here.fd, here.path, SHARED)
    finally:
        os.close(here.fd)
    assert 1 == [name for name, _ in disk.calls].count("chmod")
