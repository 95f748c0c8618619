"""
Mistakes, to be planted in popfetchd's own code: each would break P1 or P2 one day.

Rules of this file:

- A mistake is the smallest change to the true code that makes it, planted by
  monkeypatching while a story is played.
- Where another line of defence hides a mistake, that is taken away as well, and told in
  words; alone it is no mistake that its story finds.
- *story* is what was left of a counter-example after shrinking, and *broken* how it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from popfetchd import poll as poll_module
from popfetchd.archive import durable, proving
from popfetchd.archive import maildir as maildir_module
from popfetchd.archive.durable import digest, look, step
from popfetchd.archive.locking import MboxLock
from popfetchd.archive.maildir import Maildir
from popfetchd.archive.mboxfile import MboxFile
from popfetchd.archive.tail import Tail
from popfetchd.removal import Proven
from popfetchd.values import Published, Receipt, Recorded
from popfetchd.visit import archiving, confirming
from popfetchd.visit.archiving import Kept
from tests.crash.model_disk import ModelDisk
from tests.crash.model_fate import Befall, Deed
from tests.crash.model_ledger import ModelLedger
from tests.crash.model_mbox import MboxWorld
from tests.crash.model_server import Ids
from tests.crash.model_story import Mail, Plan, Story, Theirs
from tests.crash.model_world import World


Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Mistake:
    """
    How it is planted, where, and the story that it ends badly.
    """

    plant: Plant
    story: Story
    broken: str
    defence: str = ""
    """What else was taken away, and how."""
    defenceless: Plant = lambda _patch: None
    world: type[World] = World

    @contextmanager
    def planted(self) -> Iterator[None]:
        """
        Have the mistake, and not the defence.
        """
        with self.undefended(), pytest.MonkeyPatch.context() as patch:
            self.plant(patch)
            yield

    @contextmanager
    def undefended(self) -> Iterator[None]:
        """
        Have everything right, but without the defence.
        """
        with pytest.MonkeyPatch.context() as patch:
            self.defenceless(patch)
            yield


# -- making it last -------------------------------------------------------------------


def no_folder_fsync(patch):
    patch.setattr(maildir_module, "sync_folder", lambda *_: None)


def no_file_fsync(patch):
    patch.setattr(durable, "sync_file", lambda *_: None)


def second_fsync(patch):
    def sync_file(disk, fd, folder, name):
        with step("fsync", folder, name):
            try:
                disk.fsync(fd)
            except OSError:
                disk.fsync(fd)

    patch.setattr(durable, "sync_file", sync_file)


def failed_syncfs_believed(patch):
    def sync_all(disk, fd):
        with suppress(OSError):
            disk.sync_all(fd)
        return True

    patch.setattr(proving, "_sync_all", sync_all)


def no_syncfs(patch):
    patch.setattr(proving, "_sync_all", lambda *_: True)


def settle_without_fsync(patch):
    def found(disk, folder, name, content):
        return bool(look(disk, folder, name)) and digest(disk, folder, name) == content

    patch.setattr(maildir_module, "sync_found", found)


# -- the order ------------------------------------------------------------------------


def dele_before_published(patch):
    # What is to be published, by the session that has retrieved it.
    late: dict[object, list[Callable[[], object]]] = {}

    def keep_at(course, archive, _place, verified):
        ledger = course.means.ledger
        entries = ledger.record(course.account.name, verified, archive.place)
        recorded = [entry for entry in entries if isinstance(entry, Recorded)]
        course.fresh |= {each.row for each in recorded}

        def publish():
            ledger.commit(archive.publish(recorded))
            for each in verified:
                archive.discard(each.spooled.copy)

        late.setdefault(verified[0].spooled.listed.session, []).append(publish)
        return [
            Kept(v.spooled.listed, early(e, v.spooled), v.spooled)
            for v, e in zip(verified, entries, strict=True)
        ]

    def update(session, proven, ledger, *_more):
        list(session.delete(proof.number for proof in proven))
        session.quit()
        for publish in late.pop(session.id, ()):
            publish()
        rows = [proof.receipt.row for proof in proven]
        ledger.mark(rows)
        ledger.removed(rows)
        return len(rows)

    patch.setattr(archiving, "_keep_at", keep_at)
    patch.setattr(poll_module, "update", update)


def early(entry, spooled):
    """
    Return a receipt for what was only recorded.
    """
    if not isinstance(entry, Recorded):
        return entry if isinstance(entry, Receipt) else None
    listed, proof = spooled.listed, spooled.fingerprint
    return Receipt(
        entry.row, listed.unique_id, listed.octets, proof.header, proof.content, 0.0
    )


def publish_before_record(patch):
    record = ModelLedger.record

    def late(self, account, verified, placing):
        archive = placing.__self__
        copies = archive.place([each.spooled.copy for each in verified])
        archive.publish(list(map(unrecorded, copies, verified)))
        places = {copy.base: copy for copy in copies}
        entries = record(
            self, account, verified, lambda some: [places[c.base] for c in some]
        )
        archive.publish = lambda batch: done(archive, batch)
        return entries

    def done(archive, batch):
        del archive.publish
        return [Published(recorded) for recorded in batch]

    patch.setattr(ModelLedger, "record", late)


def unrecorded(copy, verified):
    """
    Return what an archive takes for a Recorded.
    """
    content = verified.spooled.fingerprint.content
    return SimpleNamespace(row=None, copy=copy, content=content)


# -- recovery -------------------------------------------------------------------------


def cur_before_new(patch):
    def found(self, recorded):
        return any(
            maildir_module.sync_found(self._disk, folder, name, recorded.content)
            for folder in (self._at.cur, self._at.new)
            for name in self._bearers(folder, recorded.copy)
        )

    patch.setattr(Maildir, "_found", found)


def one_look(patch):
    patch.setattr(maildir_module, "LOOKS", 1)
    patch.setattr(Maildir, "_filed", lambda _self, _recorded: None)


def spool_before_name(patch):
    settle = Maildir.settle

    def spool_first(self, recorded):
        copy, tmp = recorded.copy, self._at.tmp
        spooled = maildir_module.look(self._disk, tmp, copy.base)
        if spooled is None or look(self._disk, self._at.new, copy.name) is not None:
            return settle(self, recorded)
        if spooled.st_nlink > 1:
            return self._moved(recorded)
        return self.publish([recorded])[0]

    patch.setattr(Maildir, "settle", spool_first)


def links_not_counted(patch):
    seen = maildir_module.look

    def one_link(disk, folder, name):
        found = seen(disk, folder, name)
        return found and SimpleNamespace(st_nlink=1)

    patch.setattr(maildir_module, "look", one_link)


# -- what is whose, and what is which -------------------------------------------------


def rename_over(patch):
    def publish(disk, source, name, target, to):
        with step("rename", target, to):
            disk.rename(name, source.fd, to, target.fd)

    def movable(self, name, folder, _to, to_folder):
        return self._found(name, folder), self._directory(to_folder)

    patch.setattr(maildir_module, "publish", publish)
    patch.setattr(ModelDisk, "_movable", movable)  # rename(2), without NOREPLACE


def unique_id_as_proof(patch):
    patch.setattr(
        confirming,
        "proven_by_header",
        lambda receipt, listed, _header: Proven(receipt, listed.session, listed.number),
    )


# -- an mbox --------------------------------------------------------------------------


def mbox_no_fsync(patch):
    patch.setattr(MboxFile, "sync", lambda _: None)


def mbox_not_read_back(patch):
    patch.setattr(Tail, "_prove", lambda *_: None)


def mbox_cut_off_unseen(patch):
    def cut_off(self, rows):
        offset = rows[0].copy.extent.offset
        if self._file.size() > offset:
            self._file.cut(offset)
        return True

    patch.setattr(Tail, "_cut_off", cut_off)


def mbox_no_search(patch):
    patch.setattr(Tail, "_is_elsewhere", lambda *_: False)


def mbox_no_dot_lock(patch):
    patch.setattr(MboxLock, "_dot_locked", lambda *_: True)
    patch.setattr(MboxLock, "_is_ours", lambda _: False)


MISTAKES = {
    "no directory fsync": Mistake(
        no_folder_fsync, Story((Plan(mail=(Mail.PLAIN,)),)), "P2: not in the archive"
    ),
    "DELE before `published`": Mistake(
        dele_before_published,
        Story(
            (Plan(mail=(Mail.PLAIN,), befalls=(Befall(Deed.KILL, "link"),)),),
            delete_after=0.0,
        ),
        "P1: removed, and not in the archive",
    ),
    "publish before record": Mistake(
        publish_before_record,
        Story((Plan(mail=(Mail.PLAIN,)),), delete_after=90.0, lacks=("UIDL",)),
        "P2: in the archive too often",
    ),
    "no fsync before link": Mistake(
        no_file_fsync, Story((Plan(mail=(Mail.PLAIN,)),)), "half written: new/"
    ),
    "settle publishes without fsync": Mistake(
        settle_without_fsync,
        Story(
            (
                Plan(mail=(Mail.PLAIN,), befalls=(Befall(Deed.KILL, "link done"),)),
                Plan(),
            )
        ),
        "P2: not in the archive",
    ),
    "fsync again after EIO": Mistake(
        second_fsync,
        Story(
            (Plan(mail=(Mail.PLAIN,), befalls=(Befall(Deed.EIO, "fsync file"),)),),
            deaf=True,
        ),
        "half written: new/",
    ),
    "many files, and nothing synced": Mistake(
        no_syncfs, Story((Plan(mail=(Mail.PLAIN,)),), many=1), "half written: new/"
    ),
    "a syncfs that failed is believed": Mistake(
        failed_syncfs_believed,
        Story(
            (Plan(mail=(Mail.PLAIN,), befalls=(Befall(Deed.EIO, "syncfs"),)),),
            deaf=True,
            many=1,
        ),
        "half written: new/",
    ),
    "cur/ looked at before new/": Mistake(
        cur_before_new,
        Story(
            (
                Plan(mail=(Mail.PLAIN,), befalls=(Befall(Deed.KILL, "rename done"),)),
                Plan(befalls=(Befall(Deed.READER_TAKES, "listdir"),)),
            ),
            links=False,
        ),
        "P2: in the archive too often",
        "the second look (LOOKS = 1), and that into all folders",
        one_look,
    ),
    "unique-id and occurrence taken as proof": Mistake(
        unique_id_as_proof,
        Story(
            (
                Plan(mail=(Mail.PLAIN,), befalls=(Befall(Deed.KILL, "removed"),)),
                Plan(mail=(Mail.PLAIN,), ids=Ids.REUSED),
            ),
            delete_after=0.0,
            alike=True,
        ),
        "P1: removed, and not in the archive",
    ),
    "rename over an existing name": Mistake(
        rename_over,
        Story((Plan(mail=(Mail.PLAIN,), befalls=(Befall(Deed.NAMESAKE, "rename"),)),)),
        "another's file was overwritten",
    ),
    "spool looked at before the final name": Mistake(
        spool_before_name,
        Story(
            (
                Plan(mail=(Mail.PLAIN,), befalls=(Befall(Deed.KILL, "link done"),)),
                Plan(befalls=(Befall(Deed.READER_TAKES, "lstat"),)),
            )
        ),
        "P2: in the archive too often",
        "the count of the spool file's links",
        links_not_counted,
    ),
    "mbox: no fsync before `published`": Mistake(
        mbox_no_fsync,
        Story((Plan(mail=(Mail.PLAIN,)),)),
        "P2: not in the archive",
        world=MboxWorld,
    ),
    "mbox: not read back": Mistake(
        mbox_not_read_back,
        Story(
            (Plan(mail=(Mail.PLAIN,), befalls=(Befall(Deed.LIE, "fsync file", 3),)),)
        ),
        "P2: not in the archive",
        world=MboxWorld,
    ),
    "mbox: append before record": Mistake(
        publish_before_record,
        Story((Plan(mail=(Mail.PLAIN,)),), delete_after=90.0, lacks=("UIDL",)),
        "P2: in the archive too often",
        world=MboxWorld,
    ),
    "mbox: cut off though others wrote behind us": Mistake(
        mbox_cut_off_unseen,
        Story(
            (
                Plan(mail=(Mail.PLAIN,), befalls=(Befall(Deed.EIO, "fsync file", 2),)),
                Plan(theirs=(Theirs.DELIVERY,)),
            )
        ),
        "what others wrote was altered",
        world=MboxWorld,
    ),
    "mbox: appended anew without a search": Mistake(
        mbox_no_search,
        Story(
            (
                Plan(mail=(Mail.PLAIN,), befalls=(Befall(Deed.KILL, "commit"),)),
                Plan(theirs=(Theirs.FLAGS,)),
            )
        ),
        "P2: in the archive too often",
        world=MboxWorld,
    ),
    "mbox: no dot lock": Mistake(
        mbox_no_dot_lock,
        Story((Plan(mail=(Mail.PLAIN,), befalls=(Befall(Deed.KILL, "pwrite", 6),)),)),
        "half written, and no lock",
        world=MboxWorld,
    ),
}
