"""
How a folder is reached, and made where it is missing.

Rules of this file:

- A folder is walked to from the root, by descriptors: what was looked at is what is
  used. What is missing is made with mode 0700, given the permissions of its archive, and
  the folder above it is fsynced. What is there keeps its own.
- As root, no symbolic link is followed and no folder is entered that root does not
  own: its owner could have put a link there, and made root write wherever he likes.
- A run that was killed between mkdir and fsync leaves a folder that a power cut may
  take away. So the last folder that was found is taken for such a one: before anything
  is made in it, the folder above it is fsynced. A folder with something in it is safe.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat

from contextlib import ExitStack, suppress
from pathlib import Path

from popfetchd.archive.disk import Disk
from popfetchd.archive.durable import (
    CLOSED,
    Folder,
    closing,
    let_go,
    opened,
    permit,
    step,
    sync_folder,
)
from popfetchd.errors import ArchiveError, UnsafeArchive
from popfetchd.values import PRIVATE, Permissions


FOLDER_MODE = 0o700
"""With which every folder is made, whatever mode it is given at once."""

PASSING = os.O_PATH | os.O_DIRECTORY
"""To pass through a folder takes no right to read it."""

READING = os.O_RDONLY | os.O_DIRECTORY

ROOT = 0
"""The uid of root."""


NOWHERE = Folder(CLOSED, Path())
"""Where the walk begins: the root is in no folder."""


def reach(
    disk: Disk,
    path: Path,
    permissions: Permissions = PRIVATE,
    last: Permissions | None = None,
) -> tuple[Folder, Folder]:
    """
    Open the folder at absolute *path*, making what is missing, and the one above it.

    What is made gets *permissions*, but the folder at *path* itself *last* if it is said.

    Raises UnsafeArchive where root must not write, ArchiveError where a step fails.
    """
    if not path.is_absolute():
        raise UnsafeArchive(path, "is not an absolute path", "write the whole path")
    with ExitStack() as passed:
        with step("open", NOWHERE, "/"):
            here = above = Folder(disk.open("/", PASSING), Path("/"))
        passed.callback(let_go, disk, here.fd)
        found = True
        for part in path.parts[1:]:
            given = permissions if here / part != path else last or permissions
            below = _enter(disk, here, part, PASSING)
            if below is None:
                if found:
                    sync_above(disk, above, here)
                found = False
                below = _make(disk, here, part, PASSING, given)
            passed.callback(let_go, disk, below.fd)
            above, here = here, below
        kept = _again(disk, above)
        try:
            return kept, _again(disk, here)
        except ArchiveError:
            let_go(disk, kept.fd)
            raise


def reach_within(
    disk: Disk, folder: Folder, name: str, permissions: Permissions = PRIVATE
) -> Folder:
    """
    Open the folder *name* within *folder*, making it if it is missing.

    A symbolic link is refused: it would lead elsewhere than where the ledger says.
    """
    flags = READING | os.O_NOFOLLOW
    found = _enter(disk, folder, name, flags)
    if found is not None:
        return found
    return _make(disk, folder, name, flags, permissions)


def sync_above(disk: Disk, above: Folder, folder: Folder) -> None:
    """
    Make *folder*'s name in *above* last, if it may be we who made it.
    """
    with step("stat", folder):
        mounted = disk.fstat(above.fd).st_dev != disk.fstat(folder.fd).st_dev
    if mounted:
        return
    with step("open", above):
        try:
            fd = disk.open(".", READING, 0, above.fd)
        except PermissionError:
            return  # where we may not read we have made nothing
    with closing(disk, fd, above):
        sync_folder(disk, Folder(fd, above.path))


def sync_names(disk: Disk, folder: Folder) -> None:
    """
    Make the names in *folder* last, which may be open for passing only.
    """
    with opened(disk, folder, ".") as fd:
        sync_folder(disk, Folder(fd, folder.path))


def _again(disk: Disk, folder: Folder) -> Folder:
    # A second descriptor, to keep: those of the walk are closed behind us.
    with step("open", folder):
        return Folder(disk.open(".", PASSING, 0, folder.fd), folder.path)


def _enter(disk: Disk, folder: Folder, name: str, flags: int) -> Folder | None:
    # None: there is nothing of that name.
    path = folder / name
    if disk.geteuid() == ROOT:
        flags |= os.O_NOFOLLOW
    try:
        entered = Folder(disk.open(name, flags, 0, folder.fd), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(disk, folder, name, error) from error
    try:
        _check_owner(disk, entered)
    except ArchiveError:
        let_go(disk, entered.fd)
        raise
    return entered


def _make(
    disk: Disk, folder: Folder, name: str, flags: int, permissions: Permissions
) -> Folder:
    ours = False
    with step("mkdir", folder, name), suppress(FileExistsError):  # another was quicker
        disk.mkdir(name, FOLDER_MODE, folder.fd)
        ours = True
    sync_names(disk, folder)
    made = _enter(disk, folder, name, flags)
    if made is None:
        raise ArchiveError("mkdir", folder / name, "it was removed again")
    if ours:
        try:
            _permit(disk, made, permissions)
        except ArchiveError:
            let_go(disk, made.fd)
            # Else the next visit would find it, and take it as it is.
            with suppress(OSError):
                disk.rmdir(name, folder.fd)
            raise
    return made


def _permit(disk: Disk, folder: Folder, permissions: Permissions) -> None:
    # One that is open for passing only cannot be given anything.
    if permissions != PRIVATE:
        with opened(disk, folder, ".") as fd:
            permit(disk, fd, folder.path, permissions)
            sync_folder(disk, Folder(fd, folder.path))


def _refused(disk: Disk, folder: Folder, name: str, error: OSError) -> ArchiveError:
    path = folder / name
    if error.errno in {errno.ELOOP, errno.ENOTDIR} and _is_link(disk, folder, name):
        return UnsafeArchive(
            path,
            "is a symbolic link, which popfetchd does not follow here",
            f"write the path itself: {os.path.realpath(path)}",
        )
    return ArchiveError.from_os("open", path, error)


def _is_link(disk: Disk, folder: Folder, name: str) -> bool:
    with suppress(OSError):
        return stat.S_ISLNK(disk.lstat(name, folder.fd).st_mode)
    return False


def _check_owner(disk: Disk, folder: Folder) -> None:
    with step("stat", folder):
        owner = disk.fstat(folder.fd).st_uid
    if disk.geteuid() == ROOT and owner != ROOT:
        raise UnsafeArchive(
            folder.path,
            f"belongs to {_name_of(owner)}, and root writes only where root owns all",
            f"run it as the owner: runuser -u {_name_of(owner)} -- popfetchd …",
        )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
