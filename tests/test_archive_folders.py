"""
Reaching folders: what is made, what is refused, and what is made to last.
"""

from __future__ import annotations

import errno
import os

from types import SimpleNamespace

import pytest

from popfetchd.archive import folders
from popfetchd.archive.disk import RealDisk
from popfetchd.archive.folders import reach, reach_within, sync_above
from popfetchd.errors import ArchiveError, UnsafeArchive
from tests.faulty_disk import (
    AlwaysFaultyDisk,
    FaultyDisk,
    open_descriptors,
    path_of,
)


ROOT = 0
SOMEBODY = 65534
UNKNOWN = 4_000_000_000


def run_by(uid, owner=None, **faults):
    """
    Return a disk on which *uid* runs popfetchd and folders named *owner*[0] are others'.
    """

    def fstat(real, fd):
        name = path_of(fd).name
        theirs = (owner or {}).get(name, uid)
        return SimpleNamespace(st_uid=theirs, st_dev=real(fd).st_dev)

    return AlwaysFaultyDisk(geteuid=lambda _: uid, fstat=fstat, **faults)


def close(*opened):
    for folder in opened:
        os.close(folder.fd)


def test_missing_folders_are_made_for_us_alone(tmp_path):
    """
    All of them, mode 0700 whatever the umask (P4).
    """
    before = os.umask(0)
    try:
        above, here = reach(run_by(SOMEBODY), tmp_path / "a" / "b")
    finally:
        os.umask(before)

    assert [0o700, 0o700] == [
        folder.path.stat().st_mode & 0o777 for folder in (above, here)
    ]
    assert (tmp_path / "a", tmp_path / "a" / "b") == (above.path, here.path)
    close(above, here)


def test_the_folder_above_each_new_one_is_fsynced(tmp_path):
    """
    And the one above the last that was found: a killed run may have made that.
    """
    synced = []

    def fsync(real, fd):
        synced.append(path_of(fd))
        real(fd)

    (tmp_path / "found").mkdir()
    close(*reach(run_by(SOMEBODY, fsync=fsync), tmp_path / "found" / "a" / "b"))

    expected = [tmp_path, tmp_path / "found", tmp_path / "found" / "a"]
    assert expected == synced


def test_what_is_there_is_left_as_it_is(tmp_path):
    """
    An existing folder is neither changed nor fsynced on the way.
    """
    disk = FaultyDisk()
    close(*reach(disk, tmp_path))

    assert not {"mkdir", "fsync"} & {name for name, _ in disk.calls}


def test_a_folder_that_another_makes_first_will_do(tmp_path):
    """
    Two visits may reach the same missing folder at once.
    """

    def quicker(real, name, mode, folder):
        real(name, mode, folder)
        real(name, mode, folder)

    close(*reach(AlwaysFaultyDisk(mkdir=quicker), tmp_path / "a"))

    assert (tmp_path / "a").is_dir()


def test_a_folder_that_goes_again_is_an_error(tmp_path):
    """
    Somebody who removes what was just made is not raced with.
    """
    with pytest.raises(ArchiveError, match="mkdir: it was removed again"):
        reach(AlwaysFaultyDisk(mkdir=lambda *_: None), tmp_path / "a")


def test_a_relative_path_is_refused():
    """
    It would mean another folder in another process.
    """
    with pytest.raises(UnsafeArchive, match="is not an absolute path"):
        reach(RealDisk(), folders.Path("mail"))


def test_a_file_in_the_way_is_told(tmp_path):
    """
    A plain file where a folder should be is the operator's mistake.
    """
    (tmp_path / "file").touch()

    with pytest.raises(ArchiveError, match="file: open: Not a directory"):
        reach(RealDisk(), tmp_path / "file" / "mail")


def test_every_failing_call_is_told_and_nothing_stays_open(tmp_path):
    """
    Each system call on the way, failing: an ArchiveError, and no descriptor is left.
    """
    clean = FaultyDisk()
    close(*reach(clean, tmp_path / "clean" / "mail"))
    before = open_descriptors()
    for nth, call in enumerate(clean.calls):
        if call[0] in {"geteuid", "close"}:
            continue  # neither fails; a close that did would leave ours open
        with pytest.raises(ArchiveError):
            reach(FaultyDisk({call: errno.EIO}), tmp_path / str(nth) / "mail")

    assert before == open_descriptors()


# -- who may have made it -------------------------------------------------------------


def test_a_folder_above_that_we_may_not_read_is_not_fsynced(tmp_path):
    """
    Where we may not read we have made nothing.
    """
    above, here = reach(RealDisk(), tmp_path)
    disk = AlwaysFaultyDisk(open=errno.EACCES)
    sync_above(disk, above, here)

    assert "fsync" not in {name for name, _ in disk.calls}
    close(above, here)


def test_a_mount_point_is_not_fsynced_from_above(tmp_path):
    """
    The folder above is on another device: its name there is not of our making.
    """
    devices = iter([1, 2])
    above, here = reach(RealDisk(), tmp_path)
    disk = AlwaysFaultyDisk(fstat=lambda *_: SimpleNamespace(st_dev=next(devices)))
    sync_above(disk, above, here)

    assert ["fstat", "fstat"] == [name for name, _ in disk.calls]
    close(above, here)


@pytest.mark.parametrize("call", ["fstat", "open", "close", "fsync"])
def test_a_failing_fsync_from_above_is_told(tmp_path, call):
    """
    Whichever of its calls fails.
    """
    above, here = reach(RealDisk(), tmp_path)
    with pytest.raises(ArchiveError):
        sync_above(AlwaysFaultyDisk(**{call: errno.EIO}), above, here)
    close(above, here)


# -- links, and root ------------------------------------------------------------------


def test_a_link_on_the_way_is_followed_for_a_user(tmp_path):
    """
    Without root's rights nobody can be led where he could not go himself.
    """
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    close(*reach(run_by(SOMEBODY), tmp_path / "link" / "mail"))

    assert (tmp_path / "real" / "mail").is_dir()


def test_a_link_on_the_way_is_not_followed_for_root(tmp_path):
    """
    Its owner could lead root anywhere; the hint names the path to write instead.
    """
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(UnsafeArchive, match="link: open: is a symbolic link") as raised:
        reach(run_by(ROOT), tmp_path / "link" / "mail")

    assert f"write the path itself: {tmp_path}/real" == raised.value.hint


@pytest.mark.parametrize("uid", [ROOT, SOMEBODY])
@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_link_within_is_never_followed(tmp_path, uid, target):
    """
    tmp, new and cur are where the ledger says, whoever runs popfetchd.
    """
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "new").symlink_to(target)
    above, here = reach(run_by(uid), tmp_path)

    with pytest.raises(UnsafeArchive, match="new: open: is a symbolic link"):
        reach_within(run_by(uid), here, "new")
    close(above, here)


def test_root_enters_no_folder_of_others(tmp_path):
    """
    The hint is the line to run instead.
    """
    (tmp_path / "theirs").mkdir()
    before = open_descriptors()
    with pytest.raises(UnsafeArchive) as raised:
        reach(run_by(ROOT, {"theirs": SOMEBODY}), tmp_path / "theirs" / "mail")

    assert (
        f"{tmp_path}/theirs: open: belongs to nobody, and root writes only where root"
        " owns all"
    ) == str(raised.value)
    assert (
        "run it as the owner: runuser -u nobody -- popfetchd …"
    ) == raised.value.hint
    assert before == open_descriptors()
    assert list((tmp_path / "theirs").iterdir()) == []


def test_an_owner_without_a_name_is_told_by_number(tmp_path):
    """
    An NFS share may belong to nobody whom this machine knows.
    """
    (tmp_path / "theirs").mkdir()
    with pytest.raises(UnsafeArchive, match="belongs to #4000000000"):
        reach(run_by(ROOT, {"theirs": UNKNOWN}), tmp_path / "theirs")


def test_a_user_may_write_in_folders_of_others(tmp_path):
    """
    What the system allows a user is allowed.
    """
    (tmp_path / "theirs").mkdir()
    close(*reach(run_by(SOMEBODY, {"theirs": ROOT}), tmp_path / "theirs" / "mail"))

    assert (tmp_path / "theirs" / "mail").is_dir()


def test_a_refused_entry_that_cannot_be_looked_at_is_told(tmp_path):
    """
    Where not even lstat works, the system's own words are told.
    """
    (tmp_path / "link").symlink_to("target")
    disk = run_by(ROOT, lstat=errno.EIO)

    with pytest.raises(ArchiveError, match="link: open: Not a directory"):
        reach(disk, tmp_path / "link")
