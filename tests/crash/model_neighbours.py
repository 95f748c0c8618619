"""
Who else works in a maildir: a mail reader, a cleaner of tmp/, and a stranger.

Rules of this file:

- They act between two of our calls, and nobody tells us.
- A reader moves and flags what he sees at any instant. He deletes only what was
  committed as published: what is deleted before never was archived.
- What they did is remembered, for the judge: a letter that a reader deleted counts as
  archived, and one that nobody can know of any more is excused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from popfetchd.archive import names
from tests.crash.model_disk import Directory, File, ModelDisk
from tests.crash.model_fate import Deed


class Neighbours:
    """
    Those who work in the maildir at *path* on *disk*; *promised* holds the bases of what
    was committed as published.
    """

    def __init__(self, disk: ModelDisk, path: str, promised: set[str]) -> None:
        self._disk = disk
        self._path = path
        self._promised = promised
        self._refiled: set[File] = set()
        self.deleted: set[File] = set()
        self.foreign: set[File] = set()
        self.excused: Counter[bytes] = Counter()
        """Octets of what a reader moved elsewhere before it counted as published, and
        whose spool file was lost then: it is fetched again (P1 goes before P2)."""

    def act(self, deed: Deed) -> None:
        """
        Do *deed*, if there is a maildir yet.
        """
        tmp, new, cur = (self._folder(name) for name in ("tmp", "new", "cur"))
        if tmp is None or new is None or cur is None:
            return
        if deed is Deed.READER_TAKES:
            self._rename(new, cur, lambda name: f"{name}:2,S")
        elif deed is Deed.READER_FLAGS:
            self._rename(cur, cur, flagged)
        elif deed is Deed.READER_REFILES:
            self._refile(new, cur)
        elif deed is Deed.READER_DELETES:
            self._delete(new, cur)
        elif deed is Deed.CLEANER:
            self._clean(tmp)
        elif deed is Deed.NAMESAKE:
            self._occupy(tmp, new)

    def excuse(self) -> None:
        """
        Find out what nobody can know of any more. To be asked after a power cut.
        """
        files = list(self._disk.files())
        spooled = {file for folder, _, file in files if folder == "tmp"}
        self._refiled -= {
            file for _, name, file in files if names.base_of(name) in self._promised
        }
        for file in self._refiled - spooled:
            self.excused[file.octets] += 1
        self._refiled &= spooled

    def _folder(self, name: str) -> Directory | None:
        return self._disk.folder(f"{self._path}/{name}")

    def _rename(
        self, source: Directory, target: Directory, to: Callable[[str], str]
    ) -> None:
        for name in list(source.names):
            self._disk.move(source, name, target, to(name))

    def _refile(self, *folders: Directory) -> None:
        other = self._disk.folder(f"{self._path}/.Other/cur", make=True)
        assert other is not None
        for folder in folders:
            self._refiled |= {
                file
                for name, file in folder.names.items()
                if isinstance(file, File) and not self._is_promised(name)
            }
            self._rename(folder, other, flagged)
        self.excuse()  # without links there is no spool file that could tell

    def _delete(self, *folders: Directory) -> None:
        for folder in folders:
            for name, file in list(folder.names.items()):
                if self._is_promised(name) and file not in self.foreign:
                    self._disk.remove(folder, name)
                    self.deleted.add(file)

    def _clean(self, tmp: Directory) -> None:
        for name in list(tmp.names):
            self._disk.remove(tmp, name)
        self.excuse()

    def _occupy(self, tmp: Directory, new: Directory) -> None:
        for name, file in list(tmp.names.items()):
            final = names.final_name(name, len(file.octets))
            if final not in new.names:
                self.foreign.add(self._disk.put(new, final, b"somebody else's\n"))

    def _is_promised(self, name: str) -> bool:
        return names.base_of(name) in self._promised


def flagged(name: str) -> str:
    """
    Return *name* with its flag R changed.
    """
    plain, _, flags = name.partition(":2,")
    return f"{plain}:2,{'S' if 'R' in flags else 'RS'}"
