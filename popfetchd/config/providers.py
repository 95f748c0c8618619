"""
What is known of mail providers: the presets that `provider:` names.

Rules of this file:

- The knowledge is data, in providers.yaml, with its sources; it is read when the first
  `provider:` is.
- A preset is keys of an account as an operator would write them, put beneath the
  account's own. So each may be written otherwise, and each is judged as if written.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from popfetchd.config.document import LOADER, Mapping, Text
from popfetchd.errors import quote


FILE = Path(__file__).with_name("providers.yaml")


@dataclass(frozen=True, slots=True)
class Provider:
    """
    One provider. *keys* are keys of an account, each as it would be written.
    """

    name: str
    title: str
    keys: dict[str, str]
    sources: dict[str, str]
    """For each key, or several with commas between, who says so."""
    notes: tuple[str, ...]
    """What an operator has to know."""
    also: tuple[str, ...] = ()
    """Its further names."""
    domains: tuple[str, ...] = ()
    """Of addresses whose mail is there, in lower case."""
    tokens_only: bool = False
    """It refuses passwords: an access token is needed."""
    recent_user: str | None = None
    """Who logs in with `recent: true`; {user} stands for the user."""


@cache
def providers() -> dict[str, Provider]:
    """
    Return every provider under each of its names.
    """
    # BaseLoader: each scalar stays a text, as in a configuration.
    found = yaml.load(FILE.read_text("utf-8"), Loader=LOADER)  # noqa: S506
    known = [_provider(name, entry) for name, entry in found.items()]
    return {name: p for p in known for name in (p.name, *p.also)}


def _provider(name: str, entry: dict[str, Any]) -> Provider:
    return Provider(
        name,
        title=entry["title"],
        keys=entry["keys"],
        sources=entry["sources"],
        notes=tuple(entry["notes"]),
        also=tuple(entry.get("also", ())),
        domains=tuple(entry.get("domains", ())),
        tokens_only=entry.get("tokens_only") == "true",
        recent_user=entry.get("recent_user"),
    )


def read(text: str) -> str:
    """
    Read the name of a provider. Raises ValueError with what is allowed.
    """
    known = providers()
    if text in known:
        return known[text].name
    import difflib  # noqa: PLC0415 -- for who mistyped one

    near = difflib.get_close_matches(text.lower(), known, 1)
    advice = f"did you mean `{near[0]}`? " if near else ""
    raise ValueError(
        f"{quote(text)} is no provider known here; {advice}known are "
        f"{', '.join(sorted(known))}; for any other write `host`"
    )


def named(name: str | None) -> Provider | None:
    """
    Return the provider of that name; None where there is none.
    """
    return None if name is None else providers().get(name)


def of_address(address: str) -> Provider | None:
    """
    Return the provider that is known to have the mail of *address*; None if none is.
    """
    domain = address.rpartition("@")[2].lower()
    return next((p for p in providers().values() if domain in p.domains), None)


def beneath(own: Mapping) -> Mapping:
    """
    Return the keys of an account with those of its provider put beneath them.

    They stand where the provider is named.
    """
    word = own.get("provider")
    provider = named(word) if isinstance(word, Text) else None
    if provider is None or not isinstance(word, Text):
        return own
    merged = Mapping(own)
    merged.line, merged.column, merged.flow = own.line, own.column, own.flow
    for key, value in provider.keys.items():
        if key not in own and not (key == "port" and "tls" in own):
            merged[key] = word.replaced(value)
    return merged
