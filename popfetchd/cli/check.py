"""
`popfetchd check`: connect, log in, look, QUIT. Nothing is changed on the server.

Rules of this file:

- Each account is told as soon as it was looked at; one that fails keeps none of the
  others from it, and what was seen before it failed is told too.
- What was seen goes to stdout, why it ended early to stderr. `--json` has both.
"""

from __future__ import annotations

import sys
import time

from argparse import Namespace
from collections.abc import Iterator

from popfetchd.cli import exits
from popfetchd.cli.exits import OF_REASON, Exit
from popfetchd.cli.opened import Looked, looked
from popfetchd.cli.tables import (
    Fact,
    Style,
    as_plain,
    octets,
    paint,
    show_facts,
    show_json,
)
from popfetchd.config.providers import named
from popfetchd.errors import PopfetchdError
from popfetchd.look import Checked, Connected, check
from popfetchd.values import Account, Certificate, TlsMode


DAY = 86_400

SOON = 14
"""Days before its end from which a certificate stands out, as the service warns."""

MODES = {
    TlsMode.IMPLICIT: "TLS from the start",
    TlsMode.STLS: "TLS after STLS",
    TlsMode.NONE: "no TLS",
}

OCCASIONS = {"greeting": "capabilities", "stls": "after STLS", "login": "after login"}
"""How what CAPA said each time is called."""


def run(arguments: Namespace) -> int:
    """
    Check each account.
    """
    found = looked(arguments, arguments.accounts)
    results = []
    for account in found.accounts:
        results.append((account, _check(found, account)))
        if not arguments.json:
            _tell(*results[-1])
    if arguments.json:
        show_json([_as_json(*result) for result in results])
    failures = (_failure(seen) for _, seen in results)
    return exits.of_all(
        OF_REASON[failure.reason] if failure else Exit.OK for failure in failures
    )


def _check(found: Looked, account: Account) -> Checked | PopfetchdError:
    try:
        with found.sessions.connected(account) as session:
            return check(session, account, found.sessions.log_in, time.time())
    except PopfetchdError as error:
        return error


def _failure(seen: Checked | PopfetchdError) -> PopfetchdError | None:
    return seen if isinstance(seen, PopfetchdError) else seen.failure


# -- for people -----------------------------------------------------------------------


def _tell(account: Account, seen: Checked | PopfetchdError) -> None:
    failure = _failure(seen)
    if isinstance(seen, Checked):
        ended = paint("failed", Style.BAD) if failure else paint("ok", Style.GOOD)
        print(f"{account.name}: {ended}")
        show_facts(_facts(account, seen))
        sys.stdout.flush()  # before what stderr says of it
    if failure:
        exits.tell(failure, account.name)


def _facts(account: Account, seen: Checked) -> Iterator[Fact]:
    yield from _of_channel(account, seen.connected)
    yield from _of_capabilities(seen)
    yield Fact("logins", ", ".join(seen.connected.mechanisms) or "none is announced")
    if seen.mechanism is not None:
        yield Fact("login", f"{seen.mechanism}, {seen.why}")
    if seen.drop is not None:
        count = f"{seen.drop.messages} messages, {octets(seen.drop.octets)}"
        yield Fact("maildrop", count)
    for number, quirk in enumerate(seen.quirks):
        yield Fact("" if number else "quirks", quirk.text, Style.ODD)
    if not seen.quirks and seen.failure is None:
        yield Fact("quirks", "none seen")
    provider = named(account.provider)
    if provider is not None:
        yield Fact("provider", provider.title)
        yield from (Fact("  note", note) for note in provider.notes)


def _of_channel(account: Account, seen: Connected) -> Iterator[Fact]:
    channel, server = seen.channel, account.server
    yield Fact("server", f"{server.host}:{server.port}, {MODES[server.tls.mode]}")
    yield Fact("address", channel.address)
    if channel.proxy is not None:
        yield Fact("  through", channel.proxy)
    if channel.tried:
        yield Fact("  tried too", ", ".join(channel.tried))
    yield Fact("greeting", seen.greeting)
    if channel.tls_version is None:
        yield Fact("tls", "none: everything crosses the wire in clear", Style.ODD)
    else:
        yield Fact("tls", f"{channel.tls_version}, {channel.cipher}")
    if channel.certificate is not None:
        proof = "as pinned" if server.tls.pins else "good"
        yield from _of_certificate(channel.certificate, proof)


def _of_certificate(shown: Certificate, proof: str) -> Iterator[Fact]:
    yield _term(shown, proof)
    facts = {
        "  for": ", ".join(shown.names),
        "  subject": shown.subject,
        "  issuer": shown.issuer,
    }
    yield from (Fact(name, text) for name, text in facts.items() if text)
    yield Fact("  sha256", shown.sha256)


def _term(shown: Certificate, proof: str) -> Fact:
    if shown.not_before is None or shown.not_after is None:
        return Fact("certificate", proof)
    days = (shown.not_after - time.time()) // DAY
    first, last = (
        time.strftime("%Y-%m-%d", time.gmtime(moment))
        for moment in (shown.not_before, shown.not_after)
    )
    left = f"{days:.0f} days left" if days >= 0 else f"ended {-days:.0f} days ago"
    text = f"{proof}, {left} ({first} to {last})"
    return Fact("certificate", text, Style.ODD if days < SOON else None)


def _of_capabilities(seen: Checked) -> Iterator[Fact]:
    before: tuple[str, ...] | None = None
    for number, (occasion, said) in enumerate(seen.announced.items()):
        text = "CAPA is refused" if said is None else ", ".join(said) or "none"
        same = number > 0 and said == before
        yield Fact(OCCASIONS[occasion], "the same" if same else text)
        before = said


# -- for programs ---------------------------------------------------------------------


def _as_json(account: Account, seen: Checked | PopfetchdError) -> dict[str, object]:
    told: dict[str, object] = {"account": account.name}
    if isinstance(seen, Checked):
        facts = as_plain(seen) | as_plain(seen.connected)
        told |= {k: v for k, v in facts.items() if k not in {"connected", "failure"}}
        told["quirks"] = {quirk.name: quirk.text for quirk in seen.quirks}
    failure = _failure(seen)
    if failure:
        told |= {
            "reason": failure.reason,
            "error": str(failure),
            "hint": failure.hint,
        }
    return told
