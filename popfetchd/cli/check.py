"""
`popfetchd check`: connect, log in, look, QUIT. Nothing is changed on the server.
"""

from __future__ import annotations

import dataclasses
import time

from argparse import Namespace
from collections.abc import Iterator

from popfetchd.cli import exits
from popfetchd.cli.exits import OF_REASON, Exit
from popfetchd.cli.opened import Looked, looked
from popfetchd.cli.tables import octets, show_json
from popfetchd.config.providers import named
from popfetchd.errors import PopfetchdError
from popfetchd.logs import clean
from popfetchd.look import Checked, check
from popfetchd.values import Account


DAY = 86_400


def run(arguments: Namespace) -> int:
    """
    Check each account; one that fails does not keep the others from being checked.
    """
    results = []
    found = looked(arguments, arguments.accounts)
    for account in found.accounts:
        results.append((account, _check(found, account)))
        if not arguments.json:
            _tell(*results[-1])
    if arguments.json:
        show_json([_as_json(*result) for result in results])
    return exits.of_all(
        OF_REASON[seen.reason] if isinstance(seen, PopfetchdError) else Exit.OK
        for _, seen in results
    )


def _check(found: Looked, account: Account) -> Checked | PopfetchdError:
    try:
        with found.sessions.logged_in(account) as session:
            return check(session)
    except PopfetchdError as error:
        return error


def _tell(account: Account, seen: Checked | PopfetchdError) -> None:
    if isinstance(seen, PopfetchdError):
        exits.tell(seen, account.name)
        return
    print(f"{account.name}: ok")
    for name, value in _lines(account, seen):
        print(f"  {name:<13}{clean(value)}")


def _lines(account: Account, seen: Checked) -> Iterator[tuple[str, str]]:
    channel, server = seen.channel, account.server
    yield "server", f"{server.host}:{server.port} at {channel.address}"
    yield "greeting", seen.greeting
    if channel.tls_version is None:
        yield "tls", "none: everything crosses the wire in clear"
    else:
        yield "tls", f"{channel.tls_version}, {channel.cipher}"
    if channel.certificate_expiry is not None:
        days = (channel.certificate_expiry - time.time()) // DAY
        yield "certificate", f"good, ends in {days:.0f} days"
    yield "login", str(seen.mechanism)
    yield "capabilities", ", ".join(seen.capabilities) or "none announced"
    yield "maildrop", f"{seen.drop.messages} messages, {octets(seen.drop.octets)}"
    provider = named(account.provider)
    if provider is not None:
        yield "provider", provider.title
        yield from (("note", note) for note in provider.notes)


def _as_json(account: Account, seen: Checked | PopfetchdError) -> dict[str, object]:
    if isinstance(seen, PopfetchdError):
        told: dict[str, object] = {
            "reason": seen.reason,
            "error": str(seen),
            "hint": seen.hint,
        }
    else:
        told = dataclasses.asdict(seen)
    return {"account": account.name, **told}
