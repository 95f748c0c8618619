"""
What the keys of one account, or of `defaults`, must be to one another.

Rules of this file:

- An account's schedule, secret, TLS or archive replaces the default's as a whole: who
  writes `password_env` has no `password_file` from above, who writes `tls`, `ca_file`
  or another key of TLS none of those, nor the port. `jitter` and `timezone` say how a
  schedule is read and are taken over one by one; so is `min_tls`, which nothing lowers
  by the way.
- A provider and a host stand for one server: the account's own one keeps the other's
  keys from above away.
- What cannot work is refused; what works and is seldom meant raises a doubt.
- A fault has a path to its key and a sentence that says what is allowed.
"""

from __future__ import annotations

import os

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from popfetchd.config import plain, providers
from popfetchd.config.document import Mapping, Text
from popfetchd.config.model import Account, Http, Settings
from popfetchd.config.scalars import spelled_duration
from popfetchd.values import ArchiveFormat, Mechanism, TlsMode


PASSWORDS = frozenset(
    {
        "password",
        "password_file",
        "password_env",
        "password_command",
        "password_credential",
    }
)
ACCESS_TOKENS = frozenset(
    {
        "access_token_file",
        "access_token_env",
        "access_token_command",
        "access_token_credential",
    }
)
SECRETS = PASSWORDS | ACCESS_TOKENS
SCHEDULES = frozenset({"every", "cron"})
TLS = frozenset(
    {
        "tls",
        "ca_file",
        "client_cert",
        "client_key",
        "fingerprint_sha256",
        "server_name",
    }
)
NO_USE_IN_CLEAR = TLS - {"tls"} | {"min_tls"}
FILES = ("ca_file", "client_cert", "client_key")
"""Keys of files that a visit reads; one that is not there fails its own accounts only."""

SERVER = frozenset(
    {"host", "port", *TLS, "auth", "login_floor", "hides_retrieved", "lists_partly"}
)
PROVIDER = frozenset({"provider"})

_GROUPS = {key: group for group in (SECRETS, SCHEDULES, TLS) for key in group} | {
    "port": TLS
}
WHOLE = (
    _GROUPS
    | {key: _GROUPS.get(key, frozenset()) | PROVIDER for key in (*SERVER, "recent")}
    | {"provider": frozenset({"host"})}
)
"""Which of an account's keys keep a default's key away, beside that key itself."""

TOKENS = ("access_token", "oauth2")
"""How the keys of a secret that is no password begin."""

PORT_OF_THE_OTHER = {
    (110, TlsMode.IMPLICIT): "is the port of `tls: stls`, and `tls` is implicit",
    (995, TlsMode.STLS): "is the port of `tls: implicit`, and `tls` is stls",
}
"""A server may do so; most often a line was forgotten."""


@dataclass(frozen=True, slots=True)
class Fault:
    """
    What is wrong, and the path from the mapping to where it stands.

    *at*: line and column, where the path does not lead there.
    """

    path: tuple[str | int, ...]
    text: str
    at: tuple[int, int] | None = None


def beneath(own: Mapping, defaults: Mapping) -> Mapping:
    """
    Return an account's *own* keys with those of *defaults* put beneath them.
    """
    merged = Mapping(own)
    merged.line, merged.column, merged.flow = own.line, own.column, own.flow
    for key, value in defaults.items():
        if key not in own and own.keys().isdisjoint(WHOLE.get(key, ())):
            merged[key] = value
    return merged


def exclusive(own: Mapping) -> Iterator[Fault]:
    """
    Yield what is written together in *own* and excludes one another.
    """
    for group, what in ((SECRETS, "secret"), (SCHEDULES, "schedule")):
        keys = [key for key in own if key in group]
        if len(keys) > 1:
            yield Fault((keys[1],), f"one {what} is enough; `{keys[0]}` is written too")


def missing(own: Mapping, merged: Mapping) -> Iterator[Fault]:
    """
    Yield what an account has neither of its *own* nor from the defaults, *merged*.
    """
    external = merged.get("auth") == Mechanism.EXTERNAL
    if merged.keys().isdisjoint(SECRETS) and not external:
        keys = ", ".join((*sorted(PASSWORDS), *sorted(ACCESS_TOKENS)))
        yield Fault((), f"has no secret; write one of {keys}")
    provider = providers.named(_word(merged, "provider"))
    tokens = any(key.startswith(TOKENS) for key in merged)
    if provider is not None and provider.tokens_only and not tokens:
        yield Fault(
            ("provider",),
            f"{provider.title} takes no password any more; it needs an access token",
        )
    if merged.keys().isdisjoint(SCHEDULES):
        yield Fault((), "has no schedule; write `every` (such as 5m) or `cron`")
    for key, needs, has in (("jitter", "every", "cron"), ("timezone", "cron", "every")):
        if key in own and has in merged and needs not in merged:
            yield Fault((key,), f"goes with `{needs}`, and the schedule is `{has}`")


def _word(merged: Mapping, key: str) -> str | None:
    word = merged.get(key)
    return word if isinstance(word, Text) else None


def impossible(own: Mapping, settings: Settings) -> Iterator[Fault]:
    """
    Yield which values of *settings*, the effective ones, *own* makes impossible.
    """
    for key in own:
        if key in NO_USE_IN_CLEAR and settings.tls is TlsMode.NONE:
            yield Fault((key,), "has no use with `tls: none`")
    if "client_key" in own and settings.client_cert is None:
        yield Fault(("client_key",), "goes with `client_cert`, which is not written")
    if "ca_file" in own and settings.fingerprint_sha256:
        yield Fault(
            ("ca_file",),
            "has no use beside `fingerprint_sha256`, which takes its place",
        )
    yield from _of_no_use_to_a_group(own, settings)
    yield from _impossible_there(own, settings)
    limits = [key for key in own if key in {"timeout", "deadline"}]
    if limits and settings.deadline < settings.timeout:
        yield Fault(
            (limits[0],),
            f"the whole visit (deadline: {spelled_duration(settings.deadline)}) may "
            f"not be shorter than a step (timeout: {spelled_duration(settings.timeout)})",
        )


def _of_no_use_to_a_group(own: Mapping, settings: Settings) -> Iterator[Fault]:
    archive = getattr(settings, "archive", None)
    if "archive" in own and archive and archive.group and not archive.mode & 0o040:
        yield Fault(
            ("archive", "group"),
            f"may not even read with mode {archive.mode:04o}; write `mode` too, such as "
            '"0640"',
        )


def _impossible_there(own: Mapping, settings: Settings) -> Iterator[Fault]:
    # What the server's habits forbid; told where the account writes its part of it.
    hidden = plain.habits(settings).hides_retrieved
    if hidden and settings.delete_after and settings.delete_after[0] > 0:
        causes = ("delete_after", "hides_retrieved", "provider", "recent")
        for key in [key for key in causes if key in own][:1]:
            yield Fault(
                (key,),
                "a message is hidden by this server once it was retrieved, and cannot be "
                "removed later; `delete_after` may be never or verified",
            )
    provider = providers.named(settings.provider)
    if "recent" in own and settings.recent and not (provider and provider.recent_user):
        yield Fault(("recent",), "goes with `provider: gmail`, and no other server")


def unfit(own: Mapping, settings: Settings) -> Iterator[Fault]:
    """
    Yield what in *own* makes mechanism, secret and TLS of *settings* not go together.

    What stands in the defaults alone is told there.
    """
    auth = settings.auth
    secret = next((key for key in SECRETS if getattr(settings, key) is not None), "")
    if auth is Mechanism.EXTERNAL:
        yield from _unproven(own, settings)
        return
    at = next((key for key in ("auth", secret) if key in own), None)
    of_tokens = auth in {Mechanism.XOAUTH2, Mechanism.OAUTHBEARER}
    if at and of_tokens and secret in PASSWORDS:
        yield Fault((at,), f"`auth: {auth}` takes an access token, not `{secret}`")
    elif at and secret in ACCESS_TOKENS and not of_tokens and auth != Mechanism.AUTO:
        yield Fault((at,), f"`auth: {auth}` takes a password, not `{secret}`")
    at = next((key for key in (secret, "tls") if key in own), None)
    if at and secret in ACCESS_TOKENS and settings.tls is TlsMode.NONE:
        yield Fault((at,), "an access token is not sent with `tls: none`")


def _unproven(own: Mapping, settings: Settings) -> Iterator[Fault]:
    for key in own:
        if key in SECRETS:
            text = "`auth: external` takes no secret; the certificate is the proof"
            yield Fault((key,), text)
    if isinstance(settings, Account) and settings.client_cert is None:
        at = ("auth",) if "auth" in own else ()
        yield Fault(at, "`auth: external` needs a `client_cert`")


def unfillable(account: Account) -> Iterator[Fault]:
    """
    Yield which templates of *account* its own words cannot be put into.
    """
    for path, template in (
        (("archive", "path"), account.archive.path),
        (("password_file",), account.password_file),
        (("password_credential",), account.password_credential),
        (("access_token_file",), account.access_token_file),
        (("access_token_credential",), account.access_token_credential),
    ):
        if template is None:
            continue
        try:
            plain.filled(account, template)
        except ValueError as error:
            yield Fault(path, str(error))


@dataclass(slots=True)
class Places:
    """
    Which paths the archives of the accounts so far make files, and which folders.

    Each with the name of the account that did so first. Dates stay words: what only one
    date would bring together is found when it is written. What is above a folder is a
    folder, and no file: of thousands of neighbours each looks no further than to what
    they have in common.
    """

    files: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)

    def take(self, account: Account) -> Iterator[Fault]:
        """
        Yield why the archive of *account* cannot be where it is to be; note its paths.
        """
        path = plain.archive_text(account)
        is_file = account.archive.format is ArchiveFormat.MBOX
        above = [*self._above(path)]
        text = self._refusal(path, above, is_file=is_file)
        if text:
            yield Fault(("archive", "path"), text)
            return
        for folder in above if is_file else (path, *above):
            self.folders.setdefault(folder, account.name)
        if is_file:
            self.files.setdefault(path, account.name)

    def _above(self, path: str) -> Iterator[str]:
        """
        Yield the folders above *path*, up to the first that is known to be one.
        """
        while path not in self.folders and (parent := _parent(path)) != path:
            yield parent
            path = parent

    def _refusal(self, path: str, above: list[str], *, is_file: bool) -> str:
        file = next((parent for parent in above if parent in self.files), None)
        if file is not None:
            return f"{file} is an mbox, of account '{self.files[file]}', and no folder"
        if is_file:
            return self._no_file(path)
        return (
            f"is an mbox, of account '{self.files[path]}'" if path in self.files else ""
        )

    def _no_file(self, path: str) -> str:
        if path in self.folders:
            return (
                f"is a folder, of account '{self.folders[path]}'; an mbox is one file"
            )
        if os.path.isdir(path):  # noqa: PTH112 -- it answers also where we may not look
            return "is a folder; an mbox is one file"
        if os.path.splitext(path)[1] == ".lock":  # noqa: PTH122 -- as above
            return "ends in .lock, as mail readers call the lock of an mbox"
        return ""


def _parent(path: str) -> str:
    return path[: path.rindex("/")] or "/"


def doubts(own: Mapping, settings: Settings) -> Iterator[Fault]:
    """
    Yield what in *own* works and is seldom meant.
    """
    if "password" in own:
        yield Fault(
            ("password",), "is written in the file; password_file keeps it out of it"
        )
    if "tls" in own and settings.tls is TlsMode.NONE:
        yield Fault(("tls",), "password and mail cross the network in clear")
    for key in FILES:
        if key in own and (problem := _unreadable(getattr(settings, key))):
            yield Fault((key,), problem)
    if settings.proxy and "proxy" in own and not find_spec("python_socks"):
        yield Fault(
            ("proxy",), "needs what is not installed: pip install popfetchd[socks]"
        )
    yield from _too_often(own, settings)
    doubt = PORT_OF_THE_OTHER.get((settings.port or 0, settings.tls))
    if "port" in own and doubt:
        yield Fault(("port",), f"{settings.port} {doubt}")


def _too_often(own: Mapping, settings: Settings) -> Iterator[Fault]:
    least = plain.habits(settings).login_floor
    if not least or settings.every is None:
        return
    # The visit before may have been late by all of the jitter.
    jitter = min(settings.jitter, settings.every)
    keys = [key for key in ("every", "login_floor", "provider") if key in own]
    if keys and settings.every - jitter < least:
        yield Fault(
            (keys[0],),
            f"the server wants {spelled_duration(least)} between logins: some visits "
            f"will be skipped; `every: {spelled_duration(least + settings.jitter)}` is "
            "often enough",
        )


def unserved(http: Http) -> Iterator[Fault]:
    """
    Yield what the pages would need and is not there. No doubt: they would stand open.
    """
    if http.basic_auth_users and not find_spec("bcrypt"):
        yield Fault(
            ("http", "basic_auth_users"),
            "needs what is not installed: pip install popfetchd[basic-auth]",
        )


def inline(own: Mapping) -> Iterator[tuple[str, str]]:
    """
    Yield the keys of *own* that hold a secret themselves, and what to do instead.
    """
    if "password" in own:
        yield "password", ", or use password_file"
    if "@" in str(own.get("proxy", "")):
        yield "proxy", ""


def _unreadable(path: Path) -> str:
    try:
        # Not to be kept waiting, should it be a pipe.
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return ""
