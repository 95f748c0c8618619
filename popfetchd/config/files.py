"""
Which further files a configuration takes in, and the names of its accounts.

Rules of this file:

- `include` takes the files of each pattern in the order of their names, `accounts_dir`
  those of a folder; each file once, and never the main one.
- Nothing is judged here but whether a file is there: a shell that completes a name waits
  for it, and the file may be half written. So no pydantic, which takes a second to load.
"""

from __future__ import annotations

import glob
import os
import re

from collections.abc import Iterator
from pathlib import Path

from popfetchd.config import readers
from popfetchd.config.document import Document, Mapping, Sequence, read


Refused = tuple[tuple[str | int, ...], str]
"""The path to what names a file that is not there, and a sentence."""


def taken_in(main: Document, root: Mapping) -> tuple[list[Path], list[Refused]]:
    """
    Return the files that *main* takes in, in order, and what is refused.
    """
    refused: list[Refused] = []
    found: dict[str, Path] = {}
    for file in (*_included(main, root, refused), *_in_folder(main, root, refused)):
        found.setdefault(os.path.realpath(file), file)
    found.pop(os.path.realpath(main.file), None)
    return list(found.values()), refused


def _included(main: Document, root: Mapping, refused: list[Refused]) -> Iterator[Path]:
    try:
        patterns = readers.patterns(root.get("include"))
    except ValueError:
        return  # absent, or refused with the other keys
    folder = Path(main.file).parent
    for index, pattern in enumerate(patterns):
        # Path.glob takes no absolute pattern.
        names = sorted(glob.glob(pattern, root_dir=folder))  # noqa: PTH207
        yield from (folder / name for name in names)
        if not names and not glob.has_magic(pattern):
            refused.append((("include", index), "there is no such file"))


def _in_folder(main: Document, root: Mapping, refused: list[Refused]) -> Iterator[Path]:
    try:
        name = readers.line(readers.written(root.get("accounts_dir", Sequence())))
    except ValueError:
        return  # absent, or refused with the other keys
    try:
        files = sorted((Path(main.file).parent / name).iterdir())
    except OSError as error:
        refused.append((("accounts_dir",), f"cannot be read: {error.strerror}"))
        return
    for file in files:
        if file.suffix in {".yaml", ".yml"} and not file.name.startswith("."):
            yield file


def names(path: Path) -> Iterator[str]:
    """
    Yield the names of the accounts in *path* and the files that it takes in, as far as
    they can be read. A name may come twice where the configuration is mistaken.
    """
    main = read(path)
    if not isinstance(main.root, Mapping):
        return
    files, _ = taken_in(main, main.root)
    for document in (main, *map(read, files)):
        yield from _names(document.root)


def _names(root: object) -> Iterator[str]:
    accounts = root.get("accounts") if isinstance(root, Mapping) else root
    for account in accounts if isinstance(accounts, Sequence) else ():
        name = account.get("name") if isinstance(account, Mapping) else None
        if isinstance(name, str) and re.fullmatch(readers.NAME, name):
            yield name
