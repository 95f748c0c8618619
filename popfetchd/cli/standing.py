"""
How accounts are: as the running service tells it, or else as the ledger remembers it.

Rules of this file:

- The service is asked at `http: listen:`, as `?format=json`. Whoever listens there may
  be anybody: its answer is bounded, and each value is of its field's type, or none of it
  is taken.
- Over TLS it must show the certificate that our configuration names. That is proof
  enough on one machine, where no name fits an address of loopback.
- All or nothing: one that is of another version, or does not know an account of ours,
  may be another configuration's, or wait for a reload. Then the ledger is read, and why
  is told.
- Messages that failed are in the ledger only. They are not known where it cannot be read.
"""

from __future__ import annotations

import http.client
import json
import ssl

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any

from popfetchd import __version__
from popfetchd.cli.healthcheck import EVERYWHERE
from popfetchd.config.model import Http
from popfetchd.errors import quote
from popfetchd.ledger import Glimpse
from popfetchd.values import Account, AccountName, AccountState


SECONDS = 5.0
"""For each step of the service's answer; it keeps everything at hand."""

LONGEST_ANSWER = 64 * 1024 * 1024
"""Octets; 10,000 accounts of which each fails take 10 MB."""

LARGEST = 2.0**53
"""Of any number: what JSON carries exactly (RFC 8259 §6), and a clock can still show."""

NOT_OURS = "what answers there is no popfetchd"

REFUSED: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "it wants a password (http: basic_auth_users)",
    HTTPStatus.FORBIDDEN: "it refuses the question",
}

States = Mapping[AccountName, AccountState]


class Source(StrEnum):
    """
    Who told how accounts are.
    """

    SERVICE = "service"
    LEDGER = "ledger"


@dataclass(frozen=True, slots=True)
class Seen:
    """
    How each account is, and who told so; *told* is one line about that, for a person.
    """

    source: Source
    told: str
    states: States
    """In the order in which they are to be shown."""

    def failing(self) -> Seen:
        """
        Return this of the accounts that fail only.
        """
        found = {name: state for name, state in self.states.items() if state.reason}
        return replace(self, states=found)


class NotTold(Exception):
    """
    The service did not tell; the text says why, and may be a stranger's.
    """


def seen(listen: Http, ledger: Glimpse, accounts: Sequence[Account]) -> Seen:
    """
    Return how *accounts* are. One that nobody knows is as if never visited.

    Raises LedgerError: the service does not tell, and the ledger cannot be read.
    """
    url = address(listen)
    try:
        found = asked(url, listen, [account.name for account in accounts])
        return Seen(Source.SERVICE, f"from the service at {url}", found)
    except NotTold as why:
        reason = quote(str(why))[1:-1]
    known = ledger.states()
    found = {
        account.name: known.get(account.name, AccountState()) for account in accounts
    }
    return Seen(Source.LEDGER, f"from the ledger ({url}: {reason})", found)


def address(listen: Http) -> str:
    """
    Return the URL of a service that listens so; of every address, loopback's.
    """
    host, _, port = listen.listen.rpartition(":")
    return f"http{'s' if listen.tls else ''}://{EVERYWHERE.get(host, host)}:{port}"


# -- the question ---------------------------------------------------------------------


def asked(url: str, listen: Http, names: Sequence[AccountName]) -> States:
    """
    Return what the service at *url* tells of the accounts called *names*.

    Raises NotTold.
    """
    try:
        page = _page(url, listen)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NotTold(str(error) or type(error).__name__) from error
    try:
        return _read(page, names)
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
        raise NotTold(NOT_OURS) from error


def _page(url: str, listen: Http) -> bytes:
    connection = _connection(url.partition("//")[2], listen)
    try:
        connection.request("GET", "/?format=json")
        response = connection.getresponse()
        octets = response.read(LONGEST_ANSWER + 1)
    finally:
        connection.close()
    if response.status != HTTPStatus.OK:
        otherwise = f"it answers {response.status}"
        raise NotTold(REFUSED.get(response.status, otherwise))
    if len(octets) > LONGEST_ANSWER:
        raise NotTold(NOT_OURS)
    return octets


def _connection(where: str, listen: Http) -> http.client.HTTPConnection:
    if listen.tls is None:
        return http.client.HTTPConnection(where, timeout=SECONDS)
    context = _trusting(listen.tls.cert_file)
    return http.client.HTTPSConnection(where, timeout=SECONDS, context=context)


def _trusting(cert_file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # itself, not its authority
    context.load_verify_locations(cert_file)
    return context


# -- the answer -----------------------------------------------------------------------


def _read(octets: bytes, names: Sequence[AccountName]) -> States:
    # What is not as `web.page` writes it raises whatever it raises.
    page = json.loads(octets)
    version, accounts = page["version"], page["accounts"]
    if version != __version__:
        raise NotTold(f"it is of version {version}, this is {__version__}: restart it")
    unknown = [name for name in names if name not in accounts.keys()]  # noqa: SIM118 -- of a mapping only
    if unknown:
        raise NotTold(f"it knows no account {unknown[0]}: reload it, if it is ours")
    return {name: _state(accounts[name]) for name in names}


FIELDS = {field.name: type(field.default) for field in fields(AccountState)}


def _state(told: Mapping[str, object]) -> AccountState:
    state = AccountState()
    taken: dict[str, Any] = {
        name: _value(told[name], kind) for name, kind in FIELDS.items()
    }
    return replace(state, **taken)


def _value(value: object, kind: type) -> object:
    allowed = {int, float} if kind is float else {kind}  # JSON has 0 for 0.0 too
    if type(value) not in allowed:
        raise TypeError
    if isinstance(value, int | float) and not 0 <= value <= LARGEST:  # NaN neither
        raise ValueError
    return kind(value)
