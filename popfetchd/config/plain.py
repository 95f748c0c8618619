"""
From the configuration to the plain values that the rest of popfetchd works with.

Rules of this file:

- No pydantic model leaves `popfetchd.config`: a visit takes `values.Account`, so that a
  queue worker, which has no configuration file, can one day make the same visit.
- Nothing is judged here: a `Configuration` that `load` returned has been.
"""

from __future__ import annotations

import re

from collections.abc import Hashable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, cast

from popfetchd import values
from popfetchd.config import providers, templates
from popfetchd.config.model import Account, Configuration, Settings
from popfetchd.values import TlsMode


MOST_SHARED = 1024
"""Values that are looked through for an equal one; beyond, each account has its own."""

T = TypeVar("T", bound=Hashable)

PLAIN_PATH = "(/[^/.][^/]*)+"
"""An absolute path without an empty part or one that begins with a dot."""

PORTS = {TlsMode.IMPLICIT: 995, TlsMode.STLS: 110, TlsMode.NONE: 110}
"""Where POP3 is served when nobody says (RFC 8314 §3.1, RFC 1939 §3)."""


def accounts(configuration: Configuration) -> tuple[values.Account, ...]:
    """
    Return the accounts of *configuration*, in the order written.
    """
    return tuple(_account(account) for account in configuration.accounts)


def by_name(
    configuration: Configuration,
    former: Configuration,
    known: Mapping[values.AccountName, values.Account],
) -> dict[values.AccountName, values.Account]:
    """
    Return them by name; *known* ones stay where *former* has the same object for them.
    """
    before = {account.name: account for account in former.accounts}
    found = {}
    for account in configuration.accounts:
        name = values.AccountName(account.name)
        same = before.get(name) is account and name in known
        found[name] = known[name] if same else _account(account)
    return found


def port(account: Account) -> int:
    """
    Return the port of *account*'s server.
    """
    return PORTS[account.tls] if account.port is None else account.port


def habits(settings: Settings) -> values.Habits:
    """
    Return what the server does that no listing shows.
    """
    return values.Habits(
        login_floor=settings.login_floor or 0.0,
        # What the last days hold is shown whether it was retrieved or not.
        hides_retrieved=bool(settings.hides_retrieved) and not settings.recent,
        lists_partly=bool(settings.lists_partly),
    )


def filled(account: Account, template: str) -> str:
    """
    Return *template* with what *account* puts into it. Raises ValueError.
    """
    return templates.fill(
        template, account=account.name, user=account.user, host=account.host
    )


def archive_path(account: Account) -> Path:
    """
    Return where *account* is archived, words for dates left. Raises ValueError.
    """
    return Path(filled(account, account.archive.path))


def archive_text(account: Account) -> str:
    """
    Return that path as text. Raises ValueError.
    """
    path = filled(account, account.archive.path)
    # What nothing has to be taken out of needs no Path, of which thousands take long.
    return path if re.fullmatch(PLAIN_PATH, path) else str(Path(path))


def _account(account: Account) -> values.Account:
    size, removal = account.max_message_size, account.delete_after
    return values.Account(
        name=values.AccountName(account.name),
        server=_shared(_server(account)),
        login=values.Login(_login_user(account), _secret(account), account.auth),
        destination=values.Destination(account.archive.format, archive_path(account)),
        schedule=_shared(_schedule(account)),
        delete_after=None if removal is None else removal[0],
        delete_since=values.Since.ARCHIVED if removal is None else removal[1],
        trust_archive=account.trust_archive,
        max_message_size=None if size is None else values.Octets(size),
        verify_every=account.verify_every,
        min_free=values.Octets(account.min_free),
        deadline=account.deadline,
        provider=account.provider,
        habits=_shared(habits(account)),
        permissions=_shared(
            values.Permissions(account.archive.mode, account.archive.group)
        ),
    )


@lru_cache(MOST_SHARED)
def _secret_file(path: str) -> values.SecretFile:
    return values.SecretFile(Path(path))


def _shared(value: T) -> T:
    """
    Return *value*, or one that is equal and was made for another account: thousands of
    accounts are on few servers.
    """
    return cast(T, _equal(value))


@lru_cache(MOST_SHARED)
def _equal(value: Hashable) -> Hashable:
    return value


def _server(account: Account) -> values.Server:
    return values.Server(
        host=account.host,
        port=port(account),
        tls=_tls(account),
        timeout=account.timeout,
        utf8=account.utf8,
        server_name=account.server_name,
        source_address=account.source_address,
        proxy=account.proxy,
    )


def _tls(account: Account) -> values.TlsPolicy:
    return values.TlsPolicy(
        mode=account.tls,
        ca_file=account.ca_file,
        client_cert=account.client_cert,
        client_key=account.client_key,
        pins=account.fingerprint_sha256,
        minimum=account.min_tls,
    )


def _login_user(account: Account) -> str:
    provider = providers.named(account.provider)
    if account.recent and provider is not None and provider.recent_user:
        return provider.recent_user.replace("{user}", account.user)
    return account.user


def _schedule(account: Account) -> values.Schedule:
    if account.every is None:
        return values.Cron(account.cron or "", account.timezone)
    return values.Every(account.every, min(account.jitter, account.every))


def _secret(account: Account) -> values.SecretSource:
    if account.auth is values.Mechanism.EXTERNAL:
        return values.NoSecret()
    if account.password is not None:
        return values.InlineSecret(values.Secret(account.password.get_secret_value()))
    if password := _source(account, "password"):
        return password
    token = _source(account, "access_token")
    assert token  # noqa: S101 -- an account without a secret was refused
    return values.TokenSource(token)


def _source(account: Account, secret: str) -> values.PasswordSource | None:
    """
    Return where *account* has the *secret* of this name, if anywhere.
    """
    endings = ("file", "env", "command", "credential")
    file, name, argv, credential = (getattr(account, f"{secret}_{e}") for e in endings)
    if file is not None:
        return _secret_file(filled(account, file))
    if name is not None:
        return values.SecretVariable(name)
    if argv is not None:
        return values.SecretCommand(argv)
    if credential is not None:
        return values.SecretCredential(filled(account, credential))
    return None
