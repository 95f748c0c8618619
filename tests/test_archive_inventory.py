"""
What stands in an archive, read again: the same as when it was received.
"""

from __future__ import annotations

import errno

from pathlib import Path

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.archive import mboxrd
from popfetchd.archive.form import restored
from popfetchd.archive.inventory import (
    fingerprint,
    inventory,
    ledgers_at,
)
from popfetchd.archive.places import places
from popfetchd.archive.spooling import SpoolFolder
from popfetchd.errors import ArchiveError
from popfetchd.values import (
    ArchiveFormat,
    Destination,
    LedgerId,
    Recorded,
    RowId,
    StoredForm,
)
from tests.faulty_disk import FaultyDisk, open_descriptors
from tests.test_archive_maildir import NOW, OURS, Trial
from tests.test_archive_mbox import Trial as MboxTrial


MAILDIR = ArchiveFormat.MAILDIR
MBOX = ArchiveFormat.MBOX


def now():
    return NOW


LINES = st.lists(
    st.sampled_from(
        [
            b"Subject: a",
            b"Received: x; Tue, 14 Nov 2023 22:13:20 +0000",
            b"",
            b"From me",
            b">From you",
            b"body",
            b"caf\xe9",
            b"\0",
        ]
    ),
    max_size=12,
)
LETTERS = st.builds(lambda lines: b"".join(b"%s\r\n" % line for line in lines), LINES)
STRANGE = st.lists(
    st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"Subject: b"]), max_size=12
).map(b"".join)


def archived(directory, octets):
    """
    Archive *octets* in a maildir; return what was known of it then.
    """
    trial = Trial(directory).open()
    spooled = trial.spooled(octets)
    trial.archive.prove([spooled])
    recorded = Recorded(RowId(1), spooled.copy, spooled.fingerprint.content)
    trial.archive.publish([recorded])
    trial.archive.discard(spooled.copy)
    trial.archive.close()
    return spooled


def one(place, disk=None):
    """
    Return the only message at *place*, read again.
    """
    with inventory(place, now=now, disk=disk) as stock:
        (held,) = stock.held()
        return stock.read(held)


@given(LETTERS)
def test_a_letter_read_again_is_what_was_received(tmp_path_factory, octets):
    """
    Whatever stands in it: digests, sizes, form, arrival and likeness.
    """
    path = tmp_path_factory.mktemp("mail")
    spooled = archived(path / "a", octets)

    found = one(Destination(MAILDIR, path / "a"))

    assert spooled.fingerprint == found.fingerprint
    assert (spooled.copy, 1) == (found.held.copy, found.held.number)
    assert int(NOW) == found.archived_at


@given(STRANGE)
def test_the_digest_of_any_octets_is_right(tmp_path_factory, octets):
    """
    Where its form cannot be told, its content can.
    """
    path = tmp_path_factory.mktemp("mail")
    spooled = archived(path / "a", octets)

    found = one(Destination(MAILDIR, path / "a")).fingerprint

    was = spooled.fingerprint
    assert (was.content, was.stored) == (found.content, found.stored)
    assert was.form is found.form or b"\r" not in octets


@given(st.lists(LETTERS, max_size=4))
def test_letters_of_an_mbox_read_again_are_what_was_received(tmp_path_factory, letters):
    """
    In their order, each with its extent; also lines that look like From_ lines.
    """
    path = tmp_path_factory.mktemp("mail") / "mbox"
    trial = MboxTrial(path).open()
    proved = trial.proved(*letters)
    with trial.publishing():
        copies = trial.archive.place([message.spooled.copy for message in proved])
        trial.archive.publish(
            [
                Recorded(RowId(n), copy, message.spooled.fingerprint.content)
                for n, (copy, message) in enumerate(zip(copies, proved, strict=True))
            ]
        )
    trial.archive.close()

    with inventory(Destination(MBOX, path), now=now) as stock:
        held = [*stock.held()] if stock else []
        found = [stock.read(each) for each in held]

    assert [copy.extent for copy in copies] == [each.copy.extent for each in held]
    assert [message.spooled.fingerprint.content for message in proved] == [
        each.fingerprint.content for each in found
    ]
    assert [copy.extent.bare.hex() for copy in copies] == [each.key for each in held]


def test_marks_of_a_reader_are_not_the_message_s(tmp_path):
    """
    Nor is what stands before the first From_ line.
    """
    path = tmp_path / "mbox"
    path.write_bytes(
        b"lost\nFrom a\nStatus: RO\nSubject: x\nX-Keywords: a\n b\n\nbody\n\n"
        b"From b\n\n"
        b"From c\nno end"
    )
    with inventory(Destination(MBOX, path), now=now) as stock:
        found = [stock.read(held).fingerprint for held in stock.held()]

    assert [
        fingerprint([octets], NOW)
        for octets in (b"Subject: x\n\nbody\n", b"", b"no end")
    ] == found


def test_a_header_without_end_is_read_too(tmp_path):
    """
    One above what a header is ever looked for is taken as it stands.
    """
    path = tmp_path / "mbox"
    header = b"Subject: %s\n" % (b"x" * 2 * mboxrd.LONGEST_HEADER)
    path.write_bytes(b"From a\n" + header + b"Status: R\n\nbody\n\n")

    found = one(Destination(MBOX, path)).fingerprint

    assert len(header) + len(b"Status: R\n\nbody\n") == found.stored


@given(
    st.lists(st.sampled_from([b"From x\n", b"\n", b"a\n", b"From \n"])),
    st.integers(1, 9),
)
def test_beginnings_are_the_same_whatever_the_chunks(lines, size):
    """
    Each line that begins with `From `, and no other.
    """
    octets = b"".join(lines)
    chunks = [octets[n : n + size] for n in range(0, len(octets), size)]
    expected, at = [], 0
    for line in lines:
        expected += [at] if line.startswith(b"From ") else []
        at += len(line)

    assert expected == list(mboxrd.beginnings(chunks))


def test_a_fingerprint_does_not_depend_on_chunks():
    """
    One octet at a time gives the same.
    """
    stored = b"Subject: x\n\nFrom here\n"
    octets = b"".join(restored([stored], StoredForm.LF))

    whole = fingerprint([stored], NOW)

    assert whole == fingerprint([bytes([o]) for o in stored], NOW)
    assert len(octets) == whole.octets


# -- maildirs -------------------------------------------------------------------------


def test_every_folder_of_a_maildir_is_looked_into(tmp_path):
    """
    But tmp/, hidden files, and what is no file.
    """
    for name in ("new/a", "cur/b:2,S", ".Sent/cur/c", "tmp/d", "new/.e", "other/new/f"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "new" / "folder").mkdir()
    with inventory(Destination(MAILDIR, tmp_path), now=now) as stock:
        held = sorted(stock.held(), key=lambda each: each.path)
        found = {each.key: stock.read(each) for each in held}

    assert ["a", "b", "c"] == sorted(key for key in found if found[key])
    assert {"a", "b", "c", "folder"} == found.keys()
    assert "b" == next(each for each in held if each.key == "b").copy.name


def test_what_is_moved_meanwhile_is_none(tmp_path):
    """
    A file, or a whole folder.
    """
    path = tmp_path / ".Sent" / "cur"
    path.mkdir(parents=True)
    (path / "a").touch()
    with inventory(Destination(MAILDIR, tmp_path), now=now) as stock:
        (held,) = stock.held()
        (path / "a").unlink()
        assert stock.read(held) is None
        path.rmdir()
        assert stock.read(held) is None


def test_what_is_not_there_is_none(tmp_path):
    """
    Nothing is made.
    """
    for kind in ArchiveFormat:
        place = Destination(kind, tmp_path / "mail")
        with inventory(place, now=now) as stock:
            assert stock is None
        assert set() == ledgers_at(place, now)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["open", "fstat", "pread", "listdir"])
def test_a_step_that_fails_is_told(tmp_path, call):
    """
    As an ArchiveError, and no descriptor is left open.
    """
    archived(tmp_path / "mail", b"Subject: a\r\n\r\n")
    place, before = Destination(MAILDIR, tmp_path / "mail"), open_descriptors()

    with pytest.raises(ArchiveError):
        one(place, FaultyDisk({(call, 0): errno.EIO}))

    assert before == open_descriptors()


def test_numbers_are_those_of_all_who_gave_some(tmp_path):
    """
    In names, in what a crash left in tmp/, and in side files.
    """
    place = Destination(MAILDIR, tmp_path / "mail", tmp_path / "spool")
    archived(tmp_path / "mail", b"x")
    (tmp_path / "mail" / "cur" / "elsewhere").touch()
    spool = SpoolFolder(
        tmp_path / "spool",
        LedgerId("abcdef012345"),
        host="mx",
        now=now,
        disk=FaultyDisk(),
    )
    spool.open()
    base, file = spool.new_file(41)
    file.close()
    spool.raise_to([base.replace("N41R", "N77R")])
    spool.close()
    (tmp_path / "spool" / "other").touch()
    with inventory(place, now=now) as stock:
        found = set(stock.numbers())

    assert {(OURS, 1), ("abcdef012345", 41), ("abcdef012345", 77)} == found
    assert {OURS, "abcdef012345"} == ledgers_at(place, now)


# -- places ---------------------------------------------------------------------------


def test_places_of_a_path_without_dates_are_itself(tmp_path):
    """
    Whether or not it is there.
    """
    place = Destination(MAILDIR, tmp_path / "mail")

    assert [place] == places(place)


def test_places_are_what_looks_like_a_date(tmp_path):
    """
    In order, with the folder of their spool files; nothing else is.
    """
    for name in ("a-2023/07", "a-2023/7", "a-2023/12", "a-23/07", "b-2023/07"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a-2024").touch()
    template = tmp_path / "a-{year}" / "{month}"

    found = places(Destination(MAILDIR, template))

    spool = tmp_path / ".popfetchd-spool"
    assert [
        Destination(MAILDIR, tmp_path / "a-2023" / month, spool)
        for month in ("07", "12")
    ] == found
    assert [] == places(Destination(MAILDIR, tmp_path / "none" / "{day}"))


def test_a_place_that_cannot_be_listed_is_told(tmp_path, monkeypatch):
    """
    As an ArchiveError.
    """

    def refuse(_self):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ArchiveError, match="Permission denied"):
        places(Destination(MBOX, tmp_path / "{day}"))
