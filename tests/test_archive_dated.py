"""
Archives split by date: where a message belongs, and one spool folder for all of them.
"""

from __future__ import annotations

import errno

from pathlib import Path

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.archive import Archive, Maildir, RealDisk
from popfetchd.archive.dated import Dated, dateless, is_dated, on
from popfetchd.archive.mbox import Mbox
from popfetchd.archive.opening import archive_at
from popfetchd.errors import ArchiveError, NotProved
from popfetchd.values import (
    ArchiveFormat,
    Condition,
    Destination,
    LedgerId,
    LeftOpen,
    Listed,
    MessageNumber,
    Octets,
    Recorded,
    RowId,
    SessionId,
    UniqueId,
)
from tests.faulty_disk import AlwaysFaultyDisk, FaultyDisk, open_descriptors, path_of


NOW = 1_700_000_000.0
OURS = LedgerId("0123456789ab")
LISTED = Listed(SessionId("s"), MessageNumber(1), UniqueId("u"), Octets(9))
FORMATS = list(ArchiveFormat)
MAILDIR, MBOX = ArchiveFormat.MAILDIR, ArchiveFormat.MBOX


def letter(date=None, subject="hello"):
    """
    A message that arrived on *date*, such as "31 Dec 2019 23:30:00 -0100".
    """
    received = f"Received: by mx; {date}\r\n" if date else ""
    return f"{received}Subject: {subject}\r\n\r\nbody\r\n".encode()


class Trial:
    """
    A destination, and messages on their way into it.
    """

    def __init__(self, form, template, disk=None, spool=None):
        self.archive = archive_at(
            Destination(form, template, spool),
            OURS,
            host="mx",
            now=lambda: NOW,
            disk=disk,
            pause=lambda _: None,
        )
        self.archive.open()

    def proved(self, *messages):
        found = []
        for number, octets in enumerate(messages, 1):
            spool = self.archive.spool(LISTED, number)
            spool.write(octets)
            found.append(self.archive.prove([spool.finish()])[0])
        return found

    def recorded(self, proved):
        copies = self.archive.place([each.spooled.copy for each in proved])
        return [
            Recorded(RowId(each.spooled.number), copy, each.spooled.fingerprint.content)
            for each, copy in zip(proved, copies, strict=True)
        ]

    def publishing(self, directory, *rows, claimed=None):
        left = LeftOpen(rows, claimed or {})
        return self.archive.publishing(directory, lambda _: left)

    def archived(self, *messages):
        """
        Take each message the whole way; return the rows.
        """
        rows = []
        for proved in self.proved(*messages):
            with self.publishing(proved.spooled.copy.directory):
                (row,) = self.recorded([proved])
                self.archive.publish([row])
            self.archive.discard(row.copy)
            rows.append(row)
        return rows


def as_archive(dated: Dated) -> Archive:
    """
    What mypy sees of this line is the test: a Dated is an Archive.
    """
    return dated


# -- templates ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "folder"),
    [
        ("/srv/support-{year}-{month}.mbox", "/srv"),
        ("/srv/mail/{year}/{month}/{day}", "/srv/mail"),
        ("/srv/mail/x{day}/mail", "/srv/mail"),
        ("/{year}", "/"),
        ("/srv/mail/alice", "/srv/mail"),
    ],
)
def test_the_deepest_dateless_folder(template, folder):
    """
    Above the first date, and never the last component itself.
    """
    assert Path(folder) == dateless(Path(template))


def test_what_is_dated():
    """
    A path that holds one of the three words.
    """
    assert [True, True, True, False, False] == [
        is_dated(Path(f"/srv/{word}"))
        for word in ("{year}", "x{month}", "{day}y", "{hour}", "year")
    ]


@given(st.floats(0, 2**33))
def test_a_date_is_put_in_as_digits(seconds):
    """
    Whatever the arrival, the path has as many components as its template.
    """
    found = on(Path("/srv/{year}/{month}-{day}"), seconds)
    _, srv, year, rest = found.parts

    assert ("srv", 4, 5) == (srv, len(year), len(rest))
    assert (year + rest.replace("-", "")).isdigit()


@pytest.mark.parametrize(
    ("form", "template", "kind"),
    [
        (MAILDIR, "mail", Maildir),
        (MBOX, "mail", Mbox),
        (MAILDIR, "{year}", Dated),
        (MBOX, "{year}", Dated),
    ],
)
def test_which_archive_serves(tmp_path, form, template, kind):
    """
    By the format, and by whether the path asks for a date.
    """
    destination = Destination(form, tmp_path / template)

    assert kind is type(archive_at(destination, OURS, host="mx", now=lambda: NOW))


# -- a message's way ------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_each_message_goes_where_its_arrival_says(tmp_path, form):
    """
    The topmost Received, in UTC; else when the visit began.
    """
    trial = Trial(form, tmp_path / "mail" / "{year}" / "{month}")
    rows = trial.archived(
        letter("31 Dec 2019 23:30:00 -0100"), letter("1 Jul 2021 00:00:00 +0200")
    )
    rows += trial.archived(letter("nonsense"), letter())
    conditions = [trial.archive.check(row.copy, row.content) for row in rows]
    trial.archive.close()

    assert ["2020/01", "2021/06", "2023/11", "2023/11"] == [
        str(row.copy.directory.relative_to(tmp_path / "mail")) for row in rows
    ]
    assert [Condition.WHOLE] * 4 == conditions
    assert {"2020", "2021", "2023", ".popfetchd-spool"} == {
        path.name for path in (tmp_path / "mail").iterdir()
    }


@pytest.mark.parametrize("form", FORMATS)
def test_a_published_message_is_what_it_would_be_without_a_date(tmp_path, form):
    """
    The same octets, under the same kind of name.
    """
    dated = Trial(form, tmp_path / "dated" / "{year}")
    plain = Trial(form, tmp_path / "plain" / "2023")
    (one,), (other,) = dated.archived(letter()), plain.archived(letter())
    found = [p.read_bytes() for p in sorted((tmp_path / "dated").rglob("*")) if mail(p)]
    expected = [
        p.read_bytes() for p in sorted((tmp_path / "plain").rglob("*")) if mail(p)
    ]
    for trial in (dated, plain):
        trial.archive.close()

    assert 1 == len(expected)
    assert expected == found
    assert len(one.copy.name) == len(other.copy.name)
    assert one.copy.extent == other.copy.extent


def mail(path):
    return path.is_file() and ".popfetchd-spool" not in path.parts


@pytest.mark.parametrize("form", FORMATS)
def test_what_a_crash_left_is_settled_where_it_belongs(tmp_path, form):
    """
    Also by an archive that was opened for that place alone, as a visit's first step.
    """
    trial = Trial(form, tmp_path / "{year}")
    (proved,) = trial.proved(letter())
    directory = proved.spooled.copy.directory
    with trial.publishing(directory):
        (row,) = trial.recorded([proved])
    trial.archive.close()
    for again in (
        Trial(form, tmp_path / "{year}"),
        Trial(form, directory, spool=row.copy.spool),
    ):
        with again.publishing(directory, row):
            found = again.archive.settle(row)
            assert 0 == again.archive.fragments()
            if found == row:
                (copy,) = again.archive.place([row.copy])
                row = Recorded(row.row, copy, row.content)
                again.archive.publish([row])
        assert found is not None
        assert Condition.WHOLE == again.archive.check(row.copy, row.content)
        again.archive.close()


@pytest.mark.parametrize("form", FORMATS)
def test_a_spool_file_of_another_configuration_is_discarded(tmp_path, form):
    """
    When another account's row, spooled elsewhere, was settled with ours.
    """
    other = Trial(form, tmp_path / "x" / "2023", spool=tmp_path / "elsewhere")
    (proved,) = other.proved(letter())
    with other.publishing(proved.spooled.copy.directory):
        (row,) = other.recorded([proved])
    other.archive.close()
    trial = Trial(form, tmp_path / "x" / "{year}")
    if form is MAILDIR:  # a maildir's row is settled by its own account alone
        with pytest.raises(ArchiveError, match="of no date is held"):
            trial.archive.discard(row.copy)
    else:
        with trial.publishing(row.copy.directory, row):
            assert row == trial.archive.settle(row)
            trial.archive.discard(row.copy)
        assert not (tmp_path / "elsewhere" / row.copy.base).exists()
    trial.archive.close()


def test_only_a_place_that_is_held_is_published_in(tmp_path):
    """
    Outside of `publishing` there is no place.
    """
    trial = Trial(MAILDIR, tmp_path / "{year}")
    for act in (trial.archive.place, trial.archive.publish):
        with pytest.raises(ArchiveError, match="the archive of no date is held"):
            act([])
    trial.archive.close()


# -- one spool folder -----------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_the_highest_number_is_known_over_all_dates(tmp_path, form):
    """
    And swept is what no row bears, wherever it was to be published.
    """
    trial = Trial(form, tmp_path / "{year}")
    before = trial.archive.highest_number()
    trial.archived(letter("1 Jan 2020 00:00:00 GMT"), letter("1 Jan 2019 00:00:00 GMT"))
    kept, orphan = (each.spooled.copy for each in trial.proved(letter(), letter()))

    assert (0, 2) == (before, trial.archive.highest_number())
    assert 1 == trial.archive.sweep({kept.base})
    assert not (tmp_path / ".popfetchd-spool" / orphan.base).exists()
    trial.archive.close()


def test_descriptors_do_not_grow_with_the_dates(tmp_path):
    """
    Each day of a year is opened and closed again.
    """
    trial = Trial(MAILDIR, tmp_path / "{year}" / "{day}")
    before = open_descriptors()
    rows = trial.archived(
        *(letter(f"{day} Jan 2020 00:00:00 GMT") for day in range(1, 29))
    )
    for row in rows:
        trial.archive.check(row.copy, row.content)
    after = open_descriptors()
    trial.archive.close()

    assert 28 == len(list((tmp_path / "2020").iterdir()))
    assert after <= before + 10


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_stays_open_when_a_date_cannot_be_opened(tmp_path, form):
    """
    Whatever call fails.
    """
    clean = FaultyDisk()
    trial = Trial(form, tmp_path / "clean" / "{year}", clean)
    (proved,) = trial.proved(letter())
    start = len(clean.calls)
    with trial.publishing(proved.spooled.copy.directory):
        pass
    calls = [call for call in clean.calls[start:] if call[0] == "open"]
    trial.archive.close()

    for nth, call in enumerate(calls):
        before = open_descriptors()
        disk = FaultyDisk({call: errno.EIO})
        trial = Trial(form, tmp_path / str(nth) / "{year}", disk)
        (proved,) = trial.proved(letter())
        with (
            pytest.raises(ArchiveError),
            trial.publishing(proved.spooled.copy.directory),
        ):
            pass
        trial.archive.close()
        assert before == open_descriptors()


# -- the side file --------------------------------------------------------------------


def side_file(folder):
    return folder / ".popfetchd-spool" / "highest.L0123456789ab"


def with_numbers(folder, *numbers):
    """
    Publish messages with these numbers, one after the other; return the archive.
    """
    trial = Trial(MBOX, folder / "all.mbox")
    for number in numbers:
        trial.archive._spool.raise_to([f"1.L0123456789abN{number}R{0:032x}.mx"])
    return trial


def test_the_highest_number_only_rises(tmp_path):
    """
    Also from one visit to the next.
    """
    with_numbers(tmp_path, 5, 9, 7).archive.close()
    trial = with_numbers(tmp_path, 8)
    found = trial.archive.highest_number()
    trial.archive.close()

    assert 9 == found


@pytest.mark.parametrize("slot", [0, 4096])
@pytest.mark.parametrize(
    "octets", [b"\0" * 38, b"000000000000000099", b"9" * 18 + b" "]
)
def test_a_slot_that_a_power_cut_tore_says_nothing(tmp_path, slot, octets):
    """
    The other one still tells the number before.
    """
    with_numbers(tmp_path, 5, 9).archive.close()
    with side_file(tmp_path).open("r+b") as file:
        file.seek(slot)
        file.write(octets)
    trial = with_numbers(tmp_path)
    found = trial.archive.highest_number()
    trial.archive.close()

    assert {0: 9, 4096: 5}[slot] == found


def test_the_lower_slot_is_overwritten(tmp_path):
    """
    And fsynced, once for each number that is higher.
    """
    disk = FaultyDisk()
    trial = Trial(MBOX, tmp_path / "all.mbox", disk)
    counts = []
    for number in (1, 2, 3, 3, 2):
        before = len([1 for name, _ in disk.calls if name == "fsync"])
        trial.archive._spool.raise_to([f"1.L0123456789abN{number}R{0:032x}.mx"])
        counts.append(len([1 for name, _ in disk.calls if name == "fsync"]) - before)
    trial.archive.close()

    assert [1, 1, 1, 0, 0] == counts
    assert b"%018d %018d\n" % (3, 3) == side_file(tmp_path).read_bytes()[:38]


def test_what_an_fsync_lost_is_not_believed(tmp_path):
    """
    The number is written again: what is still in the cache may not be on the disk.
    """
    dropped = []

    class Noting(RealDisk):
        def drop_pages(self, fd):
            dropped.append(fd)
            super().drop_pages(fd)

    trial = Trial(MBOX, tmp_path / "all.mbox", Noting())
    dropped.clear()
    trial.archive.highest_number()
    trial.archive.close()

    assert 1 == len(dropped)


def test_a_number_that_the_disk_does_not_keep_is_told(tmp_path):
    """
    It says yes to the fsync, and has something else.
    """

    def pread(real, fd, count, offset):
        return b"\0" * count if path_of(fd).name.startswith("highest") else b""

    trial = Trial(MBOX, tmp_path / "all.mbox", AlwaysFaultyDisk(pread=pread))
    with pytest.raises(NotProved, match="other octets than written"):
        trial.archive._spool.raise_to([f"1.L0123456789abN7R{0:032x}.mx"])
    trial.archive.close()


def test_another_ledger_s_bases_raise_nothing(tmp_path):
    """
    Their numbers are not ours.
    """
    trial = with_numbers(tmp_path)
    trial.archive._spool.raise_to([f"1.LffffffffffffN7R{0:032x}.mx"])
    trial.archive._spool.raise_to([])
    found = trial.archive.highest_number()
    trial.archive.close()

    assert 0 == found


def test_locks_may_be_missing(tmp_path):
    """
    Where the file system has none, nobody sweeps, and nothing else changes.
    """
    disk = FaultyDisk({("flock", 0): errno.ENOSYS, ("flock", 1): errno.ENOSYS})
    trial = Trial(MBOX, tmp_path / "all.mbox", disk)
    swept = trial.archive.sweep(())
    trial.archive.close()

    assert 0 == swept
