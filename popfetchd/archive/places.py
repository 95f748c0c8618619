"""
Where the copies of a destination stand by now, dates in its path or not.

Rules of this file:

- It only reads. What looks as if a date had been put into the template is one of its
  places, and nothing else is.
"""

from __future__ import annotations

import re

from collections.abc import Iterator
from pathlib import Path

from popfetchd.archive.dated import WORD, dateless
from popfetchd.archive.spooling import NAME
from popfetchd.errors import ArchiveError
from popfetchd.values import ArchiveFormat, Destination


DIGITS = {"year": r"\d{4}", "month": r"\d{2}", "day": r"\d{2}"}


def places(destination: Destination) -> list[Destination]:
    """
    Return the places of *destination*, each without a date to be put in.

    One without dates is the only one, whether or not it is there. ArchiveError when a
    folder cannot be read.
    """
    template = destination.path
    if WORD.search(str(template)) is None:
        return [destination]
    above = dateless(template)
    parts = template.relative_to(above).parts
    spool = destination.spool or above / NAME
    found = _below(above, [_pattern(part) for part in parts])
    return [Destination(destination.format, path, spool) for path in sorted(found)]


def is_there(destination: Destination) -> bool:
    """
    Tell whether anything is left of an archive that was at *destination*.

    Where its disk is not mounted there is nothing, or an empty folder. A reader may take
    an mbox away; the folder of its spool files stays. ArchiveError when the disk does
    not tell.
    """
    spool = destination.spool or dateless(destination.path) / NAME
    return exists(spool) or any(
        exists(place.path / "cur" if _is_maildir(place) else place.path)
        for place in places(destination)
    )


def exists(path: Path) -> bool:
    """
    Tell whether *path* is there. ArchiveError when the disk does not tell.
    """
    try:
        return path.exists()
    except OSError as error:
        raise ArchiveError.from_os("look for", path, error) from error


def stood_at(destination: Destination, former: Destination) -> bool:
    """
    Tell whether *former*, a place without dates, is one of *destination*'s.
    """
    if WORD.search(str(destination.path)) is None:
        return former.path == destination.path
    return former.spool == (destination.spool or dateless(destination.path) / NAME)


def _is_maildir(place: Destination) -> bool:
    return place.format is ArchiveFormat.MAILDIR


def _pattern(part: str) -> re.Pattern[str]:
    # The words stand at the odd places.
    split = WORD.split(part)
    texts = [DIGITS[s] if n % 2 else re.escape(s) for n, s in enumerate(split)]
    return re.compile("".join(texts))


def _below(folder: Path, patterns: list[re.Pattern[str]]) -> Iterator[Path]:
    try:
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:
        raise ArchiveError.from_os("list", folder, error) from error
    for path in (folder / name for name in names if patterns[0].fullmatch(name)):
        if len(patterns) == 1:
            yield path
        else:
            yield from _below(path, patterns[1:])
