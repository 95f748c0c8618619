"""
A recollection as text, and back.

Rules of this file:

- What cannot be read, or is another version's, is no recollection: the next visit asks
  for everything, and nothing else is lost.
"""

from __future__ import annotations

import json

from dataclasses import asdict
from typing import Any

from popfetchd.values import Announced, Recollection, Standstill


def text_of(recollection: Recollection | None) -> str | None:
    """
    Return *recollection* as it is kept.
    """
    return None if recollection is None else json.dumps(asdict(recollection))


def recollection_of(text: str | None) -> Recollection | None:
    """
    Return what *text* keeps; None where nothing can be made of it.
    """
    try:
        return _read(json.loads(text or "null"))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _read(kept: Any) -> Recollection:  # noqa: ANN401 -- whatever stands there
    said = {when: _texts(lines) for when, lines in kept.pop("announced").items()}
    still = kept.pop("standstill", None)
    standstill = None if still is None else Standstill(**still)
    return Recollection(announced=Announced(**said), standstill=standstill, **kept)


def _texts(lines: Any) -> tuple[str, ...]:  # noqa: ANN401
    return tuple(map(str, lines))
