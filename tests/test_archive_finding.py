"""
A copy is looked at again: where its reader may have put it, and what it may have become.
"""

from __future__ import annotations

import errno
import os

import pytest

from popfetchd.errors import ArchiveError
from popfetchd.values import Condition
from tests.faulty_disk import FaultyDisk, open_descriptors
from tests.test_archive_maildir import STORED, Trial


@pytest.fixture
def trial(tmp_path):
    made = Trial(tmp_path / "mail").open()
    yield made
    made.archive.close()


def published(trial, number=1):
    """
    A message that is in new/: its row, and its file.
    """
    recorded = trial.recorded(number=number)
    trial.archive.publish([recorded])
    trial.archive.discard(recorded.copy)
    return recorded, trial.path / "new" / recorded.copy.name


def checked(trial, recorded):
    return trial.archive.check(recorded.copy, recorded.content)


def read_and_flagged(file):
    file.rename(file.parent.parent / "cur" / f"{file.name}:2,FS")


def numbered(file):
    base = file.name.partition(",")[0]
    file.rename(file.parent.parent / "cur" / f"{base},U=7:2,")


def refiled(file):
    leaf = file.parent.parent / ".Sent.2023" / "cur"
    leaf.mkdir(parents=True)
    (leaf.parent / "new").touch()  # no folder: it holds no mail
    file.rename(leaf / f"{file.name}:2,S")


def flipped(file):
    file.write_bytes(STORED.replace(b"body", b"bodz"))


def cut(file):
    file.write_bytes(STORED[:-3])


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        (lambda file: None, Condition.WHOLE),
        (read_and_flagged, Condition.WHOLE),
        (numbered, Condition.WHOLE),
        (refiled, Condition.MOVED),
        (flipped, Condition.ALTERED),
        (cut, Condition.TRUNCATED),
        (lambda file: file.unlink(), Condition.MISSING),
    ],
    ids=["whole", "flagged", "numbered", "refiled", "flipped", "cut", "deleted"],
)
def test_how_a_copy_is_found(trial, then, expected):
    """
    What a reader does to a message's name is no damage; what happens to its octets is.
    """
    recorded, file = published(trial)
    published(trial, number=2)
    then(file)

    assert expected == checked(trial, recorded)


def test_a_copy_that_is_moved_meanwhile_is_found(trial):
    """
    What is known of the folders is read again once they have changed.
    """
    recorded, file = published(trial)
    read_and_flagged(file)
    first = checked(trial, recorded)
    cur = trial.path / "cur"
    (cur / f"{file.name}:2,FS").rename(cur / f"{file.name}:2,S")
    os.utime(cur, ns=(1, 1))  # whatever the clock of the file system

    assert [Condition.WHOLE] * 2 == [first, checked(trial, recorded)]


def test_unchanged_folders_are_read_once(tmp_path):
    """
    Ten missing messages cost no ten readings of all folders.
    """
    disk = FaultyDisk()
    trial = Trial(tmp_path / "mail", disk).open()
    rows = [published(trial, number) for number in range(10)]
    for _, file in rows:
        file.unlink()
    disk.calls.clear()
    found = [checked(trial, recorded) for recorded, _ in rows]
    trial.archive.close()

    # The maildir itself each time, to learn which folders there are; new/ and cur/ once.
    assert [Condition.MISSING] * 10 == found
    assert 12 == len([1 for name, _ in disk.calls if name == "listdir"])


def test_a_copy_that_goes_while_it_is_read_is_looked_for_again(tmp_path):
    """
    A reader may rename it between the look and the open.
    """
    before = Trial(tmp_path / "mail").open()
    recorded, file = published(before)

    def moved_first(real, *arguments):
        read_and_flagged(file)
        return real(*arguments)

    disk = FaultyDisk()
    trial = Trial(tmp_path / "mail", disk).open()
    opens = len([1 for name, _ in disk.calls if name == "open"])
    disk.faults[("open", opens + 2)] = moved_first  # ".", "new", then the file
    found = checked(trial, recorded)
    trial.archive.close()
    before.archive.close()

    assert Condition.WHOLE == found


def test_a_failing_disk_is_no_missing_message(tmp_path):
    """
    Each call of a check, failing: told, and nothing stays open.
    """
    before = Trial(tmp_path / "mail").open()
    recorded, file = published(before)
    read_and_flagged(file)
    clean = FaultyDisk()
    again = Trial(tmp_path / "mail", clean).open()
    start = len(clean.calls)
    assert Condition.WHOLE == checked(again, recorded)
    calls = clean.calls[start:]
    again.archive.close()

    for call in calls:
        descriptors = open_descriptors()
        trial = Trial(tmp_path / "mail", FaultyDisk({call: errno.EIO})).open()
        with pytest.raises(ArchiveError):
            checked(trial, recorded)
        trial.archive.close()
        if call[0] != "close":  # what fails to close stays open
            assert descriptors == open_descriptors()
    before.archive.close()
