"""
The write path, with each of its system calls failing once.
"""

from __future__ import annotations

import errno
import hashlib
import os

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.archive import durable
from popfetchd.archive import spool as spooling
from popfetchd.archive.disk import RealDisk
from popfetchd.archive.durable import Folder, NewFile
from popfetchd.archive.form import restore
from popfetchd.archive.spool import PORTION, SpoolFile
from popfetchd.errors import ArchiveError, DiskFull, NotProved
from popfetchd.values import ContentDigest, StoredForm
from tests.faulty_disk import AlwaysFaultyDisk, FaultyDisk, open_descriptors


NOW = 1_700_000_000.0

LETTER = b"Received: by a; Tue, 1 Jan 2019 10:00:00 +0000\r\nA: b\r\n\r\nbody\r\n"

EXACT = [b"A: b\r\n\r", b"\nbare\nand more", b"\r\nlast\r"]
"""Chunks that turn a spool file back in mid-message."""

ERRORS = [
    (errno.EIO, ArchiveError),
    (errno.ENOSPC, DiskFull),
    (errno.EDQUOT, DiskFull),
]


@pytest.fixture
def folder(tmp_path):
    """
    An open folder, by the machine's own disk.
    """
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield Folder(fd, tmp_path)
    os.close(fd)


def content(octets):
    return ContentDigest(hashlib.sha256(octets).digest())


def spooled(disk, folder, chunks, name="spool"):
    """
    Spool *chunks* as a message; return the fingerprint.
    """
    spool = SpoolFile(NewFile(disk, folder, name), lambda f: f, visit_started=NOW)
    for chunk in chunks:
        spool.write(chunk)
    return spool.finish()


def names_in(folder):
    return sorted(entry.name for entry in folder.path.iterdir())


# -- spooling -------------------------------------------------------------------------


@given(
    st.lists(
        st.sampled_from([b"\r\n", b"\n", b"\r", b"x", b"A: b", b""]) | st.binary(),
        max_size=8,
    ),
    st.integers(1, 9),
)
def test_any_message_is_stored_and_restored(tmp_path_factory, chunks, portion):
    """
    The file restores to what was sent; its size, digest and form are as told.
    """
    path = tmp_path_factory.mktemp("spool")
    fd = os.open(path, os.O_RDONLY)
    sent = b"".join(chunks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spooling, "PORTION", portion)
        told = spooled(RealDisk(), Folder(fd, path), chunks)
    os.close(fd)
    stored = (path / "spool").read_bytes()
    pairs = sent.count(b"\r\n")
    is_lf = pairs == sent.count(b"\r") == sent.count(b"\n")

    assert sent == b"".join(restore(path / "spool", told.form))
    assert (StoredForm.LF if is_lf else StoredForm.EXACT) == told.form
    assert (len(sent), len(stored)) == (told.octets, told.stored)
    assert content(stored) == told.content


def test_small_pieces_are_written_in_portions(folder):
    """
    A mebibyte that comes in records of 4 KiB is 16 writes, not 256, and a rest one more.
    """
    disk = FaultyDisk()
    spooled(disk, folder, [bytes(4096)] * 256 + [b"rest"])

    assert 17 == len([name for name, _ in disk.calls if name == "pwrite"])


def test_a_long_message_is_turned_back_in_pieces(folder, monkeypatch):
    """
    A bare LF at the end of a message of many pieces leaves each octet in its place.
    """
    monkeypatch.setattr(durable, "READ_OCTETS", 7)
    sent = [b"line %d\r\n" % n for n in range(100)] + [b"bare\n"]
    told = spooled(RealDisk(), folder, sent)

    assert b"".join(sent) == (folder.path / "spool").read_bytes()
    assert content(b"".join(sent)) == told.content


def test_a_spool_file_is_private_whatever_the_umask(folder):
    """
    Mode 0600 from the first instant, also with umask 0 (P4).
    """
    before = os.umask(0)
    try:
        file = NewFile(RealDisk(), folder, "spool")
        assert (folder.path / "spool").stat().st_mode & 0o777 == 0o600
        file.condemn()
    finally:
        os.umask(before)


def test_a_spool_file_bears_the_time_of_arrival(folder):
    """
    Mail servers show the time of modification as the arrival.
    """
    spooled(RealDisk(), folder, [LETTER])

    assert (folder.path / "spool").stat().st_mtime == 1546336800.0


def test_an_existing_name_is_never_opened(folder):
    """
    Whatever occupies the name, a file or a link, is left as it is.
    """
    (folder.path / "taken").write_bytes(b"another's")
    (folder.path / "link").symlink_to("target")

    for name in ("taken", "link"):
        with pytest.raises(ArchiveError, match="create: File exists"):
            NewFile(RealDisk(), folder, name)
    assert (folder.path / "taken").read_bytes() == b"another's"
    assert not (folder.path / "target").exists()


def test_a_spool_file_is_abandoned_once_and_for_all(folder):
    """
    It is gone; what is written to it after that is an error, not a file.
    """
    spool = SpoolFile(NewFile(RealDisk(), folder, "x"), lambda f: f, visit_started=NOW)
    spool.write(b"half a ")
    spool.abandon()
    spool.abandon()

    assert names_in(folder) == []
    with pytest.raises(ArchiveError, match="write: the file is closed"):
        spool.write(bytes(PORTION))
    with pytest.raises(ArchiveError, match="write: the file is closed"):
        spool.finish()


def test_a_complete_spool_file_is_not_abandoned(folder):
    """
    `abandon` may follow `finish` and does nothing then.
    """
    spool = SpoolFile(NewFile(RealDisk(), folder, "x"), lambda f: f, visit_started=NOW)
    spool.finish()
    spool.abandon()

    assert ["x"] == names_in(folder)


def test_any_failing_call_condemns_the_spool_file(folder):
    """
    Each call of spooling and proving, failing in each way: an error of the right
    kind, and no file is left, unless that very call was to unlink it.
    """
    clean = FaultyDisk()
    told = spooled(clean, folder, EXACT)
    durable.prove(clean, folder, "spool", told.content)
    (folder.path / "spool").unlink()

    for call in clean.calls:
        for number, kind in ERRORS:
            disk = FaultyDisk({call: number})
            with pytest.raises(kind) as raised:
                durable.prove(
                    disk, folder, "spool", spooled(disk, folder, EXACT).content
                )
            assert kind is type(raised.value)
            assert names_in(folder) == []
            condemned = disk.calls.index(call)
            after = {name for name, _ in disk.calls[condemned + 1 :]}
            assert after <= {"close", "unlink"}  # no second fsync, no further write


def test_the_step_that_failed_is_named(folder):
    """
    The operator reads which step failed, and on which file.
    """
    disk = FaultyDisk({("fsync", 0): errno.EIO})
    told = spooled(disk, folder, [LETTER])
    with pytest.raises(ArchiveError) as raised:
        durable.prove(disk, folder, "spool", told.content)

    assert f"{folder.path}/spool: fsync: Input/output error" == str(raised.value)


def test_no_descriptor_is_left_open(folder):
    """
    Whichever call fails, what was opened is closed.
    """
    clean = FaultyDisk()
    durable.prove(clean, folder, "spool", spooled(clean, folder, EXACT).content)
    (folder.path / "spool").unlink()
    before = open_descriptors()
    for call in clean.calls:
        if call[0] == "close":
            continue  # then it was the test that left it open
        disk = FaultyDisk({call: errno.EIO})
        with pytest.raises(ArchiveError):
            durable.prove(disk, folder, "spool", spooled(disk, folder, EXACT).content)

    assert before == open_descriptors()


def test_a_short_write_is_continued(folder):
    """
    A disk that takes a few octets at a time gets all of them.
    """

    def three(real, fd, octets, offset):
        return real(fd, octets[:3], offset)

    told = spooled(AlwaysFaultyDisk(pwrite=three), folder, EXACT)

    assert b"".join(EXACT) == b"".join(restore(folder.path / "spool", told.form))


def test_a_disk_that_takes_nothing_is_an_error(folder):
    """
    A write of no octet at all ends; it is not tried for ever.
    """
    with pytest.raises(ArchiveError, match="write: Input/output error"):
        spooled(AlwaysFaultyDisk(pwrite=lambda *_: 0), folder, [LETTER])
    assert names_in(folder) == []


def test_the_error_counts_for_more_than_what_follows_it(folder):
    """
    Where not even unlinking works, the first error is told.
    """
    disk = AlwaysFaultyDisk(pwrite=errno.ENOSPC, unlink=errno.EIO)
    with pytest.raises(DiskFull, match="write: No space left on device"):
        spooled(disk, folder, [LETTER])


# -- proving --------------------------------------------------------------------------


def test_other_octets_than_written_are_not_proved(folder):
    """
    A disk that returns something else is found out, and the file condemned (P1).
    """
    told = spooled(RealDisk(), folder, [LETTER])

    def rotten(real, fd, count, offset):
        return real(fd, count, offset).replace(b"body", b"b0dy")

    with pytest.raises(NotProved, match="read back: other octets than written"):
        durable.prove(AlwaysFaultyDisk(pread=rotten), folder, "spool", told.content)
    assert names_in(folder) == []


def test_what_is_read_back_comes_from_the_disk(folder):
    """
    fsync, then the cached pages are dropped, and only then it is read.
    """
    told = spooled(RealDisk(), folder, [LETTER])
    disk = FaultyDisk()
    durable.prove(disk, folder, "spool", told.content)

    assert [
        "open",
        "fsync",
        "drop_pages",
        "pread",
        "pread",
        "close",
    ] == [name for name, _ in disk.calls]


def test_a_link_is_never_read_through(folder):
    """
    Where somebody put a symbolic link in the file's place, nothing is proved.
    """
    (folder.path / "target").write_bytes(b"secret")
    (folder.path / "spool").symlink_to("target")

    with pytest.raises(ArchiveError, match="open: Too many levels of symbolic links"):
        durable.prove(RealDisk(), folder, "spool", content(b"secret"))
    assert ["target"] == names_in(folder)


# -- publishing -----------------------------------------------------------------------


def test_a_taken_name_is_never_overwritten(folder):
    """
    Neither by link nor by rename.
    """
    (folder.path / "spool").write_bytes(b"ours")
    (folder.path / "final").write_bytes(b"another's")

    for disk in (RealDisk(), AlwaysFaultyDisk(link=errno.EPERM)):
        with pytest.raises(ArchiveError, match=r"final: (link|rename): File exists"):
            durable.publish(disk, folder, "spool", folder, "final")
    assert (folder.path / "final").read_bytes() == b"another's"


def test_publishing_again_does_nothing(folder):
    """
    A link that is there already, to the same file, is no error.
    """
    (folder.path / "spool").write_bytes(b"ours")
    for _ in range(2):
        durable.publish(RealDisk(), folder, "spool", folder, "final")

    assert (folder.path / "spool").samefile(folder.path / "final")


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_where_links_do_not_exist_the_file_is_renamed(folder, number):
    """
    FAT and some others have none: the old name goes, the new one stands.
    """
    (folder.path / "spool").write_bytes(b"ours")
    durable.publish(AlwaysFaultyDisk(link=number), folder, "spool", folder, "final")

    assert ["final"] == names_in(folder)


def test_a_rename_that_fails_is_told(folder):
    """
    A C library without renameat2 says so as the system would.
    """
    (folder.path / "spool").write_bytes(b"ours")
    disk = AlwaysFaultyDisk(link=errno.EPERM, rename=errno.ENOSYS)

    with pytest.raises(ArchiveError, match="rename: Function not implemented"):
        durable.publish(disk, folder, "spool", folder, "final")


def test_a_failing_link_is_told(folder):
    """
    Any other error of link is the operator's to see.
    """
    (folder.path / "spool").write_bytes(b"ours")

    for number, kind in ERRORS:
        with pytest.raises(kind, match="final: link"):
            durable.publish(
                AlwaysFaultyDisk(link=number), folder, "spool", folder, "final"
            )


# -- what others may have moved -------------------------------------------------------


def test_a_found_file_and_its_name_are_made_to_last(folder):
    """
    The file is fsynced and read, then its folder fsynced; what is not there, or is
    something else, is not found.
    """
    (folder.path / "there").write_bytes(b"x")
    disk = FaultyDisk()

    assert durable.sync_found(disk, folder, "there", content(b"x"))
    assert ["open", "fsync", "pread", "pread", "close", "fsync"] == [
        name for name, _ in disk.calls
    ]
    assert not durable.sync_found(disk, folder, "gone", content(b"x"))
    assert not durable.sync_found(disk, folder, "there", content(b"y"))


def test_a_failing_fsync_of_what_was_found_is_told(folder):
    """
    The file is another's by now: it is not condemned.
    """
    (folder.path / "there").write_bytes(b"x")
    for call in range(2):
        with pytest.raises(ArchiveError, match="fsync"):
            durable.sync_found(
                FaultyDisk({("fsync", call): errno.EIO}),
                folder,
                "there",
                content(b"x"),
            )
    assert ["there"] == names_in(folder)
