"""
Every way in which a server can fail us: told in time, with a reason and a hint, and
without a credential in the open.

Rules of this file:

- A relay stands before each server and keeps what crosses the wire: what is sought there
  is sought in what was really sent.
- Servers that no Dovecot can play are dialogs; they hold the client to the letter.
- Each failure is met twice: alone, as an operator's only account, and among all the
  others, beside an account that is well.
"""

from __future__ import annotations

import ssl

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from tests.dialogs import script
from tests.dialogs.script import ScriptedServer
from tests.live.dovecot import (
    EXPIRED,
    HOST,
    UNKNOWN_CA,
    WRONG_NAME,
    Dovecot,
    User,
    free_ports,
)
from tests.relay import Relay
from tests.wire import PATIENCE, Account, Installation, leaked, spellings


pytestmark = pytest.mark.live

NAME, PASSWORD = "mary", "Tr0ub4dor&3"
SECRETS = spellings(NAME, PASSWORD)
"""The name is of a length with which the third spelling holds the second."""

TIMEOUT, DEADLINE = 1, 3
"""Seconds, as configured: for a step, and for a visit."""

SLACK = 1.0
"""Seconds that a busy machine may take on top."""

AUTH_PLAIN = SECRETS[-1].decode()

CAPABILITIES = "C: CAPA\nS: +OK\nS: USER\nS: UIDL\nS: TOP\nS: .\n"
CAPABILITIES_STLS = "C: CAPA\nS: +OK\nS: STLS\nS: .\n"
CAPABILITIES_SASL = "C: CAPA\nS: +OK\nS: SASL PLAIN\nS: .\n"
GREETED = "TLS\nS: +OK ready\n"
PASSED = f"{GREETED}{CAPABILITIES}C: USER {NAME}\nS: +OK\nC: PASS {PASSWORD}\n"
LOGGED_IN = f"{PASSED}S: +OK\n{CAPABILITIES}"
LISTED = (
    f"{LOGGED_IN}C: UIDL\nS: +OK\nS: 1 one\nS: .\nC: LIST\nS: +OK\nS: 1 24\nS: .\n"
    "C: RETR 1\n"
)
RETRIEVED = f"{LISTED}S: +OK\nS: Subject: x\nS:\nS: body\nS: .\n"
STLS = f"S: +OK ready\n{CAPABILITIES_STLS}C: STLS\n"
STLS_AGREED = f"{STLS}S: +OK begin\n"


@dataclass(frozen=True)
class Case:
    """
    What a server does, and what the operator is to be told.

    It is played from *dialog*; without one it is Dovecot, at *address*; without that
    there is nobody.
    """

    name: str
    code: int
    reason: str
    sentence: str
    dialog: str = ""
    address: str | None = None
    tls: str = "implicit"

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def silent(name: str, step: str, dialog: str = "", tls: str = "implicit") -> Case:
    """
    A server that says nothing any more once *dialog* is over.
    """
    sentence = f"no end of {step} within {TIMEOUT} s"
    return Case(
        f"silent {name}", 69, "timeout", sentence, f"{dialog}SILENCE\n", tls=tls
    )


CASES = [
    Case("nobody there", 69, "connect", "no connection: 127.0.0.1: Connection refused"),
    Case("wrong password", 77, "auth", "the server refused AUTH", address=HOST),
    Case(
        "unknown authority",
        69,
        "certificate",
        "its authority is not known here",
        address=UNKNOWN_CA,
    ),
    Case(
        "wrong name",
        69,
        "certificate",
        "it is not for localhost but",
        address=WRONG_NAME,
    ),
    Case("expired", 69, "certificate", "it has expired", address=EXPIRED),
    silent("handshake", "TLS handshake"),
    silent("greeting", "greeting", "TLS\n"),
    silent("capa", "CAPA", f"{GREETED}C: CAPA\n"),
    silent("stls", "STLS", STLS, "stls"),
    silent("stls handshake", "TLS handshake", STLS_AGREED, "stls"),
    silent("user", "USER", f"{GREETED}{CAPABILITIES}C: USER {NAME}\n"),
    silent("pass", "PASS", PASSED),
    silent("auth", "AUTH", f"{GREETED}{CAPABILITIES_SASL}C: AUTH PLAIN {AUTH_PLAIN}\n"),
    silent("second capa", "CAPA", f"{PASSED}S: +OK\nC: CAPA\n"),
    silent("uidl", "UIDL", f"{LOGGED_IN}C: UIDL\n"),
    silent("list", "LIST", f"{LOGGED_IN}C: UIDL\nS: +OK\nS: 1 one\nS: .\nC: LIST\n"),
    silent("retr", "RETR", LISTED),
    silent("retr mid body", "RETR", f"{LISTED}S: +OK\nS: Subject: x\ns: \\r\\nbo"),
    silent("quit", "QUIT", f"{RETRIEVED}C: NOOP\nS: +OK\nC: QUIT\n"),
    Case(
        "stls stripped",
        69,
        "tls",
        "STLS is not to be had: the server does not offer it",
        f"S: +OK ready\n{CAPABILITIES}",
        tls="stls",
    ),
    Case(
        "stls refused",
        69,
        "tls",
        "STLS is not to be had: the server offered it, and refused it",
        f"{STLS}S: -ERR not now\n",
        tls="stls",
    ),
    Case(
        "octets behind stls",
        69,
        "tls",
        "octets stood behind the +OK to STLS",
        f"{STLS}s: +OK begin\\r\\n+OK injected\\r\\n\n",
        tls="stls",
    ),
    Case(
        "tls in clear",
        69,
        "tls",
        "TLS failed",
        "S: +OK ready, but not in TLS\nSILENCE\n",
    ),
    Case(
        "in use",
        75,
        "in_use",
        "the server refused PASS: '[IN-USE] locked'",
        f"{PASSED}S: -ERR [IN-USE] locked\n",
    ),
    Case(
        "password echoed",
        77,
        "auth",
        "the server refused PASS: '[AUTH] not (secret)'",
        f"{PASSED}S: -ERR [AUTH] not {PASSWORD}\n",
    ),
]


@dataclass(frozen=True)
class Stage:
    """
    A case's server, running at *port*; *relay* has heard what came to it.
    """

    port: int
    relay: Relay | None = None
    server: ScriptedServer | None = None

    @property
    def wire(self) -> bytes:
        """
        What the client sent, as it stood on the wire.
        """
        heard = self.relay.heard if self.relay else []
        return b"".join(bytes(each.up) for each in heard)

    @property
    def problems(self) -> list[str]:
        """
        Where the client left the dialog.
        """
        return self.server.problems if self.server else []


@contextmanager
def on_stage(case: Case, dovecot: Dovecot) -> Iterator[Stage]:
    """
    Run the server of *case* behind a relay.
    """
    if not (case.dialog or case.address):
        yield Stage(free_ports(1)[0])
        return
    with ExitStack() as stack:
        server, target = None, (case.address or HOST, dovecot.ports.pop3s)
        if case.dialog:
            dialog = script.parse(case.name, case.dialog)
            server = stack.enter_context(ScriptedServer(dialog, shown(dovecot)))
            target = (HOST, server.port)
        relay = stack.enter_context(Relay(target))
        yield Stage(relay.port, relay, server)


def shown(dovecot: Dovecot) -> ssl.SSLContext:
    """
    Return a context that shows the certificate which is right for localhost.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(dovecot.root / "right.pem", dovecot.root / "right.key")
    return context


@pytest.fixture(autouse=True)
def _patient_servers(monkeypatch):
    # Python takes longer to start than a session in this process takes to speak.
    monkeypatch.setattr(script, "PATIENCE", PATIENCE)


@pytest.fixture
def site(tmp_path):
    return Installation(tmp_path)


def account(
    site: Installation, case: Case, stage: Stage, dovecot: Dovecot, timeout=TIMEOUT
) -> Account:
    """
    Return the account of *case*, named like it.
    """
    return site.account(
        NAME,
        PASSWORD,
        stage.port,
        name=str(case),
        host="localhost",
        tls=case.tls,
        ca_file=dovecot.ca_file,
        timeout=f"{timeout}s",
        deadline=f"{DEADLINE}s",
    )


def in_the_open(site: Installation, stages: Sequence[Stage], *output: str):
    """
    Return the credentials that can be read on the wire, in the output or in the ledger.
    """
    wires = [stage.wire for stage in stages]
    told = [text.encode() for text in output]
    kept = [
        file.read_bytes() for file in site.ledger.parent.iterdir() if file.is_file()
    ]
    return list(leaked(SECRETS, [*wires, *told, *kept]))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_failure_ends_in_time_with_a_reason_and_a_hint(dovecot, site, case):
    """
    The visit ends within its deadline; exit code, reason and sentence are right; one log
    line holds them with a hint; no credential is anywhere to be read.
    """
    with on_stage(case, dovecot) as stage:
        debug = {"level": "debug", "format": "json"}
        site.configure(account(site, case, stage, dovecot), log=debug)
        done = site.fetch()

    assert (case.code, case.reason) == (done.code, done.report["reason"])
    assert case.sentence in done.report["error"]
    assert done.report["seconds"] < DEADLINE + SLACK
    (line,) = [line for line in done.log if line["event"] == "visit failed"]
    assert case.reason == line["reason"]
    assert done.report["hint"] == line["hint"] != ""
    assert [] == stage.problems
    assert [] == in_the_open(site, [stage], done.stdout, done.stderr)


def test_all_failures_at_once_hold_up_nobody(dovecot, site):
    """
    Beside every failing account one that is well is served; the exit code is of the
    failure that most needs a person; a person's log shows no credential either.
    """
    user: User = dovecot.add_user()
    user.deliver([b"Subject: x\n\nbody\n"])
    well = site.account(
        user.name, user.password, dovecot.ports.pop3s, ca_file=dovecot.ca_file
    )
    with ExitStack() as stack:
        stages = [stack.enter_context(on_stage(case, dovecot)) for case in CASES]
        failing = [
            account(site, case, stage, dovecot, timeout=DEADLINE)  # so many at once
            for case, stage in zip(CASES, stages, strict=True)
        ]
        site.configure(
            *failing,
            well,
            log={"level": "debug", "format": "console"},
            limits={"sessions_per_host": len(CASES) + 1},
        )
        done = site.fetch(json=False)

    assert 77 == done.code
    lines = done.stderr.splitlines()
    for case in CASES:
        (line,) = [t for t in lines if f"account={case} " in t and "visit failed" in t]
        assert "hint=" in line
    assert [b"Subject: x\r\n\r\nbody\r\n"] == site.archived()
    assert [] == in_the_open(site, stages, done.stdout, done.stderr)


def test_a_credential_in_the_open_would_be_found(dovecot, site):
    """
    The test itself: over a line that the operator wrote to be in clear, it is seen.
    """
    with Relay((HOST, dovecot.ports.pop3)) as relay:
        site.configure(
            site.account(NAME, PASSWORD, relay.port, tls="none", auth="plain")
        )
        done = site.fetch()
    assert 77 == done.code
    wire = Stage(relay.port, relay)
    assert SECRETS[1:] == in_the_open(site, [wire], done.stdout, done.stderr)
