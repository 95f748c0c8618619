"""
Where archives stand, and whether anything is left of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from popfetchd.archive.places import is_there, stood_at
from popfetchd.errors import ArchiveError
from popfetchd.values import ArchiveFormat, Destination


MAILDIR, MBOX = ArchiveFormat.MAILDIR, ArchiveFormat.MBOX


@pytest.mark.parametrize(
    ("form", "path", "made"),
    [
        (MAILDIR, "mail/alice", "mail/alice/cur"),
        (MBOX, "mail/alice.mbox", "mail/alice.mbox"),
        (MBOX, "mail/alice.mbox", "mail/.popfetchd-spool"),
        (MAILDIR, "mail/{year}/alice", "mail/.popfetchd-spool"),
        (MAILDIR, "mail/{year}/alice", "mail/2026/alice/cur"),
        (MBOX, "mail/{year}.mbox", "mail/2026.mbox"),
    ],
)
def test_an_archive_is_there_while_anything_is_left_of_it(tmp_path, form, path, made):
    """
    An empty folder, as of a disk that is not mounted, is nothing.
    """
    destination = Destination(form, tmp_path / path)
    (tmp_path / made).parent.mkdir(parents=True)
    assert not is_there(destination)
    (tmp_path / made).mkdir()
    assert is_there(destination)


def test_a_disk_that_does_not_tell(tmp_path):
    """
    What cannot be looked for is neither there nor gone: the archive is in trouble.
    """
    with pytest.raises(ArchiveError, match="look for"):
        is_there(Destination(MBOX, tmp_path / ("x" * 300)))


@pytest.mark.parametrize(
    ("path", "former", "spool", "stood"),
    [
        ("/mail/alice", "/mail/alice", None, True),
        ("/mail/alice", "/mail/bob", None, False),
        ("/mail/{year}/alice", "/mail/2025/alice", "/mail/.popfetchd-spool", True),
        ("/mail/{year}/alice", "/else/2025/alice", "/else/.popfetchd-spool", False),
    ],
)
def test_what_stood_at_a_destination(path, former, spool, stood):
    """
    Of a path with dates, each date's place; of another one, itself.
    """
    place = Destination(MAILDIR, Path(former), spool and Path(spool))
    assert stood is stood_at(Destination(MAILDIR, Path(path)), place)
