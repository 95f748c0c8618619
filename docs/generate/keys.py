"""
Every key of a configuration, as a person looks for it.

Rules of this file:

- What a key means, holds and is by default comes from the models; only the groups, and
  what is said of several keys at once, stand here. A key without a group stops the
  generator.
- Texts have one piece of markup, `code`, so that they fit a page as well as a manual.
- An example is what stands in one account, and loads there.
"""

from __future__ import annotations

import inspect
import re

from dataclasses import dataclass, replace

from pydantic import BaseModel, TypeAdapter

from docs.generate import schema, source
from popfetchd.config import kinds, model


@dataclass(frozen=True, slots=True)
class Key:
    """
    *name* as it is written, behind that of its section and a dot, if it stands in one;
    *place*: the mappings that it, or its section, may stand in.
    """

    name: str
    place: str
    holds: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Group:
    """
    Keys that are thought of together; *text* is what holds for all of them.
    """

    title: str
    text: str
    example: str
    keys: tuple[Key, ...]


SECTIONS: dict[str, type[BaseModel]] = {
    "http": model.Http,
    "http.tls": model.HttpTls,
    "log": model.Log,
    "metrics": model.Metrics,
    "limits": model.Limits,
    "archive": model.Archive,
}
"""Keys that hold a mapping of keys, by where they stand."""

WITHIN = {
    "Defaults": "a mapping of keys that an account may have, but for `name` and `user`",
    "tuple[Account, ...]": "a list of mappings",
    "": "a mapping, see below",
}
"""What keys hold that are of no kind."""

ELSEWHERE = {
    "ledger": "below `$STATE_DIRECTORY`, else below XDG's state",
    "port": "995 or 110",
    "hides_retrieved": "false",
    "lists_partly": "false",
    "recent": "false",
    "client_key": "in `client_cert`",
    "key_file": "in `cert_file`",
    "server_name": "`host`",
    "verify_every": "not at all",
    "max_message_size": "no limit",
}
"""Defaults that are no constant; a provider may say otherwise."""

KINDS = source.of_module(kinds)

GROUPS = {
    "Who and where": (
        ("name", "user", "host", "provider", "port"),
        (
            "Every account has a `name` and a `user`, and a `host` unless its `provider` "
            "knows it. A provider and a host stand for one server: an account that writes "
            "the one does not take the other from `defaults`."
        ),
        "name: alice\nprovider: fastmail\nuser: alice@example.com",
    ),
    "Where messages are kept": (
        ("archive", "min_free", "verify_every"),
        (
            "Every account needs an `archive`, its own or that of `defaults`. Accounts may "
            "share one. What popfetchd makes there is for its own user alone, unless "
            "`mode` says otherwise; what is there already keeps the mode that it has."
        ),
        (
            "archive: {format: mbox, path: '/srv/mail/{account}/{year}-{month}.mbox'}\n"
            "verify_every: 7d"
        ),
    ),
    "When": (
        ("every", "jitter", "cron", "timezone", "login_floor", "timeout", "deadline"),
        (
            "Every account needs a schedule: one of `every` and `cron`. An account's own "
            "replaces that of `defaults`."
        ),
        'cron: "*/10 8-18 * * mon-fri"\ntimezone: Europe/Berlin',
    ),
    "Secrets": (
        (
            "auth",
            "password_file",
            "password_command",
            "password_credential",
            "password_env",
            "password",
            "access_token_command",
            "access_token_file",
            "access_token_credential",
            "access_token_env",
        ),
        (
            "Every account needs exactly one secret, unless `auth` is `external`; an "
            "account's own replaces that of `defaults`. It is read at each visit. An access "
            "token goes with OAuth 2.0, and with TLS only."
        ),
        "password_command: [pass, show, mail/alice]",
    ),
    "The line": (
        (
            "tls",
            "min_tls",
            "ca_file",
            "fingerprint_sha256",
            "server_name",
            "client_cert",
            "client_key",
            "source_address",
            "proxy",
        ),
        (
            "By default TLS from the first octet, the certificate proved against the "
            "authorities that the system knows. An account that writes one of `tls`, "
            "`ca_file`, `client_cert`, `client_key`, `fingerprint_sha256` and `server_name` "
            "takes none of them, and no `port`, from `defaults`."
        ),
        "host: old.example.org\ntls: stls\nca_file: /etc/popfetchd/old-ca.pem",
    ),
    "What leaves the server": (
        ("delete_after", "trust_archive"),
        (
            "Nothing does unless it is written here, and then only after its copy was "
            "written, read back and recorded."
        ),
        "delete_after: 30d",
    ),
    "Messages and servers": (
        ("max_message_size", "utf8", "hides_retrieved", "lists_partly", "recent"),
        "Habits of a server; a `provider` brings its own.",
        "host: pop.example.com\nmax_message_size: 50MB",
    ),
}
"""Title → keys, what is said of them, an example."""


def top() -> tuple[Key, ...]:
    """
    Return the keys of the whole file, those of its sections behind them.
    """
    keys = []
    for key in _of(model.Configuration, "top"):
        keys.append(key)
        if key.name in SECTIONS:
            keys += _within(key.name, "top")
    return tuple(keys)


def of_accounts() -> tuple[Group, ...]:
    """
    Return the groups of an account's keys. Raises ValueError where they are not all.
    """
    own = {key.name: key for key in _of(model.Account, "account")}
    shared = {key.name: key for key in _of(model.Defaults, "account, defaults")}
    left = own | shared
    groups = []
    for title, (names, text, example) in GROUPS.items():
        keys = [left.pop(name) for name in names]
        if "archive" in names:
            keys[1:1] = _within("archive", "account, defaults")
        groups.append(Group(title, text, example, tuple(keys)))
    if left:
        raise ValueError(f"in no group of docs/generate/keys.py: {', '.join(left)}")
    return tuple(groups)


def _within(section: str, place: str) -> list[Key]:
    keys = []
    for key in _of(SECTIONS[section], place):
        name = f"{section}.{key.name}"
        keys.append(replace(key, name=name))
        if name in SECTIONS:
            keys += _within(name, place)
    return keys


def _of(of: type[BaseModel], place: str) -> list[Key]:
    return [
        Key(name, place, _holds(of, name), _default(of, name), _meaning(of, name))
        for name in of.model_fields
    ]


def _annotation(of: type[BaseModel], name: str) -> str:
    # As it is written: what it stands for has forgotten the name of its kind.
    return next(
        str(own[name])
        for own in map(inspect.get_annotations, of.__mro__)
        if name in own
    )


def _holds(of: type[BaseModel], name: str) -> str:
    annotation = _annotation(of, name)
    found = re.search(r"kinds\.(\w+)", annotation)
    if not found:
        return WITHIN.get(annotation, WITHIN[""])
    return KINDS.get(found[1]) or _words(found[1])


def _words(kind: str) -> str:
    words = TypeAdapter(getattr(kinds, kind)).json_schema()["enum"]
    *first, last = [f"`{word}`" for word in words]
    return f"{', '.join(first)} or {last}"


def _meaning(of: type[BaseModel], name: str) -> str:
    described = schema.meanings(of).get(name)
    return described or " ".join((SECTIONS[name].__doc__ or "").split())


def _default(of: type[BaseModel], name: str) -> str:
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    whole = schema.schema()
    properties = (whole["$defs"].get(of.__name__) or whole)["properties"]
    default = properties[name].get("default", "")
    if isinstance(default, bool):
        return str(default).lower()
    return "" if isinstance(default, dict) else str(default)
