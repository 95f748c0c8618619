"""
Paths with `{account}`, `{user}` and `{host}` in them, and dates.

Rules of this file:

- A brace stands for nothing but one of these words. There is no escape: no one needs a
  brace in a path badly enough.
- What is put in must stay one component of the path: no `/`, no NUL, no leading dot.
- `{year}`, `{month}` and `{day}` stay: each message's arrival decides
  (popfetchd/archive/dated.py). So what is put in must not look like one of them.
- Refusals are ValueErrors; `shape` judges the template, `fill` what is put in.
"""

from __future__ import annotations

import re


WORDS = ("account", "user", "host")
"""What a path may ask for."""

DATES = ("year", "month", "day")
"""What an archive's path may ask for as well."""

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def shape(template: str, *, dated: bool = False) -> str:
    """
    Return *template* if its braces are well used, for dates if *dated*.

    Raises ValueError.
    """
    allowed = (*WORDS, *DATES) if dated else WORDS
    rest = PLACEHOLDER.sub("", template)
    words = set(PLACEHOLDER.findall(template))
    if words.difference(allowed) or "{" in rest or "}" in rest:
        raise ValueError(f"braces may only hold {_in_braces(allowed)}")
    return template


def fill(template: str, *, account: str, user: str, host: str) -> str:
    """
    Return *template* with its words put in. Raises ValueError naming the word.
    """
    if "{" not in template:
        return template
    given = {"account": account, "user": user, "host": host}
    for word in PLACEHOLDER.findall(template):
        if unfit := _unfit(given.get(word, "")):
            raise ValueError(f"{{{word}}} cannot be put into a path: it {unfit}")
    return PLACEHOLDER.sub(lambda found: given.get(found[1], found[0]), template)


def _unfit(value: str) -> str:
    if "/" in value or "\0" in value:
        return "holds a `/` or a NUL"
    if value.startswith("."):
        return "begins with a dot"
    date = next((word for word in DATES if f"{{{word}}}" in value), None)
    return f"holds {{{date}}}, which is a date's place" if date else ""


def _in_braces(words: tuple[str, ...]) -> str:
    return ", ".join(f"{{{word}}}" for word in words)
