"""
Paths with `{account}`, `{user}` and `{host}` in them.

Rules of this file:

- A brace stands for nothing but one of these words. There is no escape: no one needs a
  brace in a path badly enough.
- What is put in must stay one component of the path: no `/`, no NUL, no leading dot.
- Refusals are ValueErrors; `shape` judges the template, `fill` what is put in.
"""

from __future__ import annotations

import re


WORDS = ("account", "user", "host")
"""What a path may ask for today."""

LATER = ("year", "month", "day")
"""What it may ask for once archives are split by date."""

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def shape(template: str) -> str:
    """
    Return *template* if its braces are well used. Raises ValueError.
    """
    words = set(PLACEHOLDER.findall(template))
    late = sorted(words.intersection(LATER))
    if late:
        raise ValueError(
            f"{{{late[0]}}} comes with a later release; allowed are {_allowed()}"
        )
    rest = PLACEHOLDER.sub("", template)
    if words.difference(WORDS) or "{" in rest or "}" in rest:
        raise ValueError(f"braces may only hold {_allowed()}")
    return template


def fill(template: str, *, account: str, user: str, host: str) -> str:
    """
    Return *template* with its words put in. Raises ValueError naming the word.
    """
    given = {"account": account, "user": user, "host": host}
    for word in PLACEHOLDER.findall(template):
        if unfit := _unfit(given[word]):
            raise ValueError(f"{{{word}}} cannot be put into a path: it {unfit}")
    return PLACEHOLDER.sub(lambda found: given[found[1]], template)


def _unfit(value: str) -> str:
    if "/" in value or "\0" in value:
        return "holds a `/` or a NUL"
    return "begins with a dot" if value.startswith(".") else ""


def _allowed() -> str:
    return ", ".join(f"{{{word}}}" for word in WORDS)
