"""
Every failure that popfetchd can tell, and what an operator should do about it.

Rules of this file:

- An error says whose *fault* it is, how *durable* it is, its *reason* (one word of
  a closed set: a metric label and an exit code) and a *hint*, the sentence to act on.
- An error holds fields and builds its sentence itself; nobody parses a sentence.
- Sentences carry server text only through `quote`, so that nothing a server sends
  can write to a terminal or a log line of its choice (P4). No sentence ever carries
  a secret.
- Foreign exceptions are translated once, at the edge where they arise.

The tree::

    PopfetchdError
    ├── ConfigurationError          configuration   the operator wrote what cannot work
    │   └── NotWritten              configuration   no file was made of what was answered
    ├── SecretUnavailable           secret          a password could not be read
    ├── ExtraMissing                configuration   a feature's packages are not installed
    ├── Interrupted                 interrupted     we were told to stop
    ├── AccountLocked               in_use          another popfetchd visits it
    ├── TooSoon                     login_delay     the server's floor between logins
    ├── AddressTaken                connect         our own HTTP address is not to be had
    ├── LocalProtocolError          internal        we asked for what the state forbids
    ├── Unexpected                  internal        an exception that nobody foresaw
    ├── NetworkError
    │   ├── NameNotResolved         dns
    │   ├── ConnectFailed           connect
    │   ├── SourceUnusable          connect         not from `source_address`
    │   ├── ProxyFailed             connect         not through `proxy`
    │   ├── TimedOut                timeout
    │   │   └── TooSlow             timeout         some octets, and never the last
    │   └── Disconnected            disconnected
    ├── TlsError
    │   ├── TlsFailed               tls             handshake, version, cipher
    │   ├── StlsUnavailable         tls             STLS missing or refused
    │   ├── StlsInjected            tls             octets behind the +OK to STLS
    │   └── CertificateRefused      certificate     it is no good
    │       └── CertificateUnexpected   certificate     it is not the one we were told of
    ├── RemoteError                                 the server said or did it
    │   ├── ProtocolViolation       protocol        nonsense
    │   ├── LimitExceeded           limit           more than we take from any peer
    │   ├── NoMechanism             auth            nothing that both sides may use
    │   └── ServerRefusal                           -ERR
    │       ├── CommandRefused          protocol     without a code we know
    │       │   └── Utf8Required        protocol     [UTF8]
    │       ├── AuthenticationRefused   auth
    │       │   └── TokenRefused        auth         an access token was
    │       ├── InUse                   in_use       [IN-USE]
    │       ├── LoginDelayed            login_delay  [LOGIN-DELAY]
    │       ├── SystemTemporary         sys_temp     [SYS/TEMP]
    │       └── SystemPermanent         sys_perm     [SYS/PERM]
    ├── ArchiveError                archive
    │   ├── DiskFull                disk_full
    │   ├── NearlyFull              disk_full       less is free than `min_free`
    │   ├── ArchiveLocked           archive         another program holds the mbox
    │   ├── NotProved               archive         what was read back is not what was written
    │   ├── NotPermitted            archive         `group:` or `mode:` is denied to us
    │   └── UnsafeArchive           archive         a place where we will not write
    └── LedgerError                 ledger
        ├── LedgerBehind            ledger          older than its archive, or new beside it
        ├── LedgerDamaged           ledger          cannot be read as a ledger
        │   └── LedgerNewer         ledger          written by a newer popfetchd
        ├── LedgerFull              disk_full       no room is left on its disk
        └── LedgerInUse             in_use          another popfetchd has it open
"""

from __future__ import annotations

import errno
import os

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, NamedTuple


class Reason(StrEnum):
    """
    Why a visit failed: the label of `popfetchd_poll_failures_total`.
    """

    DNS = "dns"
    CONNECT = "connect"
    TIMEOUT = "timeout"
    TLS = "tls"
    CERTIFICATE = "certificate"
    DISCONNECTED = "disconnected"
    PROTOCOL = "protocol"
    LIMIT = "limit"
    AUTH = "auth"
    IN_USE = "in_use"
    LOGIN_DELAY = "login_delay"
    SYS_TEMP = "sys_temp"
    SYS_PERM = "sys_perm"
    SECRET = "secret"  # noqa: S105 -- the name of a reason, not a secret
    CONFIGURATION = "configuration"
    ARCHIVE = "archive"
    DISK_FULL = "disk_full"
    LEDGER = "ledger"
    INTERNAL = "internal"
    INTERRUPTED = "interrupted"


class Fault(StrEnum):
    """
    Whose fault a failure is: who has to act.
    """

    OPERATOR = "operator"
    NETWORK = "network"
    SERVER = "server"
    US = "us"


class Durability(StrEnum):
    """
    Whether waiting helps.
    """

    TRANSIENT = "transient"
    PERMANENT = "permanent"


LONGEST_QUOTE = 200
"""Characters of a peer's text that one sentence repeats: enough to recognise it."""


def quote(text: str | bytes) -> str:
    """
    Return what a peer sent as printable ASCII between quotes, shortened.

    Everything else (ESC, CR, NUL, C1 controls, bidi marks) is written as an escape.
    """
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    shown = text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + "..."
    printable = shown.encode("ascii", "backslashreplace").decode("ascii")
    escaped = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in printable)
    return f"'{escaped}'"


class PopfetchdError(Exception):
    """
    The root. Never raised itself.
    """

    reason: ClassVar[Reason] = Reason.INTERNAL
    fault: ClassVar[Fault] = Fault.US
    durability: ClassVar[Durability] = Durability.TRANSIENT

    @property
    def hint(self) -> str:
        """
        What the operator can do, one sentence.
        """
        return "please report this: it is a fault of popfetchd"


# -- the operator ---------------------------------------------------------------------


class Mistake(NamedTuple):
    """
    One mistake in a configuration, with the place where it stands.

    *line* and *column* count from 1; 0 means that the file as a whole is meant. No
    dataclass: `healthcheck` loads this file, and would pay a fifth of its time for it.
    """

    file: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.text}"


class ConfigurationError(PopfetchdError):
    """
    The configuration cannot work. Holds every mistake found, not only the first.
    """

    reason = Reason.CONFIGURATION
    fault = Fault.OPERATOR
    durability = Durability.PERMANENT

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__(mistakes)
        self.mistakes = mistakes

    def __str__(self) -> str:
        return "\n".join(str(mistake) for mistake in self.mistakes)

    @property
    def hint(self) -> str:
        return "correct the file; `popfetchd config check` tells whether it is right"


class NotWritten(ConfigurationError):
    """
    A first configuration was not written, and no other file either. *advice* is the hint.
    """

    def __init__(self, path: str, problem: str, advice: str) -> None:
        super().__init__([Mistake(path, 0, 0, problem)])
        self.advice = advice

    @property
    def hint(self) -> str:
        return self.advice


class SecretUnavailable(PopfetchdError):
    """
    A secret could not be read. *source* names where it was sought, never its value.
    """

    reason = Reason.SECRET
    fault = Fault.OPERATOR
    durability = Durability.PERMANENT

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(source, problem)
        self.source = source
        self.problem = problem

    def __str__(self) -> str:
        return f"no secret from {self.source}: {self.problem}"

    @property
    def hint(self) -> str:
        return f"see that {self.source} gives the secret to the user popfetchd runs as"


class ExtraMissing(PopfetchdError):
    """
    A feature needs a package that only an extra of popfetchd installs.
    """

    reason = Reason.CONFIGURATION
    fault = Fault.OPERATOR
    durability = Durability.PERMANENT

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(package, extra)
        self.package = package
        self.extra = extra

    def __str__(self) -> str:
        return f"the package {self.package} is not installed"

    @property
    def hint(self) -> str:
        return f"pip install popfetchd[{self.extra}]"


class Interrupted(PopfetchdError):
    """
    The visit was abandoned because the process is to stop.
    """

    reason = Reason.INTERRUPTED
    fault = Fault.OPERATOR

    def __str__(self) -> str:
        return "interrupted"

    @property
    def hint(self) -> str:
        return "nothing is lost: the next visit goes on from here"


class AccountLocked(PopfetchdError):
    """
    Another process of popfetchd is visiting this account.
    """

    reason = Reason.IN_USE
    fault = Fault.OPERATOR

    def __init__(self, account: str) -> None:
        super().__init__(account)
        self.account = account

    def __str__(self) -> str:
        return f"account '{self.account}' is being visited by another popfetchd"

    @property
    def hint(self) -> str:
        return "wait for that visit to end; nothing is lost"


class TooSoon(PopfetchdError):
    """
    The server asked for a longer time between logins than has passed (RFC 2449 §6.5).
    """

    reason = Reason.LOGIN_DELAY
    fault = Fault.OPERATOR

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"the server wants {self.seconds:.0f} s more before the next login"

    @property
    def hint(self) -> str:
        return "make `every:` longer than the server's LOGIN-DELAY, or `login_floor:`"


class AddressTaken(PopfetchdError):
    """
    The address that is to be served is not to be had. It may be, a moment later.
    """

    reason = Reason.CONNECT
    fault = Fault.OPERATOR

    def __init__(self, listen: str, problem: str) -> None:
        super().__init__(listen, problem)
        self.listen = listen
        self.problem = problem

    def __str__(self) -> str:
        return f"http.listen: {self.listen}: {self.problem}"

    @property
    def hint(self) -> str:
        """
        What the operator can do, one sentence.
        """
        return "another program, or another popfetchd, listens there: end it, or write another port"


class LocalProtocolError(PopfetchdError):
    """
    popfetchd asked for a command that the state of the session forbids.
    """

    durability = Durability.PERMANENT

    def __init__(self, command: str, state: str) -> None:
        super().__init__(command, state)
        self.command = command
        self.state = state

    def __str__(self) -> str:
        return f"{self.command} is not allowed in state {self.state}"


class Unexpected(PopfetchdError):
    """
    An exception that nobody foresaw; the cause is chained. It ended one visit only.
    """

    def __init__(self, kind: str, where: str) -> None:
        super().__init__(kind, where)
        self.kind = kind
        self.where = where

    def __str__(self) -> str:
        return f"unexpected {self.kind} in {self.where}"


# -- the network ----------------------------------------------------------------------


class NetworkError(PopfetchdError):
    """
    The way to the server failed.
    """

    fault = Fault.NETWORK

    @property
    def hint(self) -> str:
        return "popfetchd tries again by itself; if it lasts, look at the network"


class NameNotResolved(NetworkError):
    """
    The host name has no address.
    """

    reason = Reason.DNS

    def __init__(self, host: str, problem: str) -> None:
        super().__init__(host, problem)
        self.host = host
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.host}: name not resolved: {self.problem}"

    @property
    def hint(self) -> str:
        return f"check the spelling of host '{self.host}' and this machine's DNS"


class ConnectFailed(NetworkError):
    """
    No address of the host took the connection.
    """

    reason = Reason.CONNECT

    def __init__(
        self,
        host: str,
        port: int,
        problem: str,
        tried: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(host, port, problem)
        self.host = host
        self.port = port
        self.problem = problem
        self.tried = dict(tried or {})
        """What became of each address."""

    def __str__(self) -> str:
        problem = self.problem
        if self.tried.keys() - {self.host}:
            problem = "; ".join(
                f"{where}: {what}" for where, what in self.tried.items()
            )
        return f"{self.host}:{self.port}: no connection: {problem}"

    @property
    def hint(self) -> str:
        return "check host and port, and that no firewall stands between"


class SourceUnusable(NetworkError):
    """
    We cannot connect from the address that is configured.
    """

    reason = Reason.CONNECT
    fault = Fault.OPERATOR

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(source, problem)
        self.source = source
        self.problem = problem

    def __str__(self) -> str:
        return f"source_address {self.source}: {self.problem}"

    @property
    def hint(self) -> str:
        return (
            "`source_address:` must be an address of this machine, of a family that the "
            "server has too"
        )


class ProxyFailed(NetworkError):
    """
    The proxy was reached, and no connection to the server was to be had through it.

    *proxy* is told without its user and password.
    """

    reason = Reason.CONNECT

    def __init__(self, proxy: str, host: str, port: int, problem: str) -> None:
        super().__init__(proxy, host, port, problem)
        self.proxy = proxy
        self.host = host
        self.port = port
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.host}:{self.port}: not through {self.proxy}: {self.problem}"

    @property
    def hint(self) -> str:
        return (
            "check host, port, user and password in `proxy:`, and that the proxy lets "
            "this machine connect to the server"
        )


class TimedOut(NetworkError):
    """
    A step, or the whole visit, took longer than its deadline.
    """

    reason = Reason.TIMEOUT

    def __init__(self, step: str, seconds: float) -> None:
        super().__init__(step, seconds)
        self.step = step
        self.seconds = seconds

    def __str__(self) -> str:
        return f"no end of {self.step} within {self.seconds:g} s"

    @property
    def hint(self) -> str:
        return "the server or the network is slow; `timeout:` and `deadline:` set the limits"


class TooSlow(TimedOut):
    """
    A reply came in dribbles: fewer than *least* octets a second.
    """

    def __init__(self, step: str, seconds: float, least: int) -> None:
        super().__init__(step, seconds)
        self.args = (step, seconds, least)
        self.least = least

    def __str__(self) -> str:
        return (
            f"no end of {self.step} after {self.seconds:.0f} s: "
            f"fewer than {self.least} octets a second"
        )

    @property
    def hint(self) -> str:
        return "popfetchd tries again by itself; if it lasts, the server or the network is hardly working"


class Disconnected(NetworkError):
    """
    The connection ended before the step was over.
    """

    reason = Reason.DISCONNECTED

    def __init__(self, step: str, problem: str) -> None:
        super().__init__(step, problem)
        self.step = step
        self.problem = problem

    def __str__(self) -> str:
        return f"connection lost during {self.step}: {self.problem}"


# -- TLS ------------------------------------------------------------------------------


class TlsError(PopfetchdError):
    """
    No channel that credentials may cross.
    """

    reason = Reason.TLS
    fault = Fault.SERVER
    durability = Durability.PERMANENT


class TlsFailed(TlsError):
    """
    The handshake failed for another cause than the server's certificate.

    *remedy*: what to do, where the problem tells.
    """

    def __init__(
        self, host: str, port: int, problem: str, remedy: str | None = None
    ) -> None:
        super().__init__(host, port, problem, remedy)
        self.host = host
        self.port = port
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.host}:{self.port}: TLS failed: {self.problem}"

    @property
    def hint(self) -> str:
        return self.remedy or (
            "port 995 wants `tls: implicit`, port 110 `tls: stls`; "
            "the server must speak TLS 1.2 or later"
        )


class StlsUnavailable(TlsError):
    """
    `tls: stls` was asked for and the server does not offer it, or refused it.

    Someone between us and the server may have taken it away (RFC 2595 section 9).
    """

    def __init__(self, host: str, problem: str) -> None:
        super().__init__(host, problem)
        self.host = host
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.host}: STLS is not to be had: {self.problem}"

    @property
    def hint(self) -> str:
        return "no credential was sent; use `tls: implicit` on port 995 if the server has it"


class StlsInjected(TlsError):
    """
    Octets stood behind the +OK to STLS: an attack, or a server that is broken.
    """

    def __init__(self, host: str, count: int) -> None:
        super().__init__(host, count)
        self.host = host
        self.count = count

    def __str__(self) -> str:
        return f"{self.host}: {self.count} octets stood behind the +OK to STLS"

    @property
    def hint(self) -> str:
        return (
            "someone may be tampering with the line; no credential was sent; "
            "prefer `tls: implicit` on port 995"
        )


class CertificateRefused(TlsError):
    """
    The certificate is not to be trusted: whoever runs the server has to renew it.
    """

    reason = Reason.CERTIFICATE

    def __init__(self, host: str, problem: str, remedy: str) -> None:
        super().__init__(host, problem, remedy)
        self.host = host
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.host}: certificate refused: {self.problem}"

    @property
    def hint(self) -> str:
        return f"no credential was sent; {self.remedy}"


class CertificateUnexpected(CertificateRefused):
    """
    The certificate may be in order, and the configuration does not speak for it.

    Its authority, its name or its fingerprint is another than the operator's.
    """

    fault = Fault.OPERATOR


# -- the server -----------------------------------------------------------------------


class RemoteError(PopfetchdError):
    """
    The server said or did it.
    """

    reason = Reason.PROTOCOL
    fault = Fault.SERVER


class ProtocolViolation(RemoteError):
    """
    What came is no POP3.
    """

    def __init__(self, step: str, problem: str, octets: bytes = b"") -> None:
        super().__init__(step, problem, octets)
        self.step = step
        self.problem = problem
        self.octets = octets

    def __str__(self) -> str:
        seen = f": {quote(self.octets)}" if self.octets else ""
        return f"{self.step}: {self.problem}{seen}"

    @property
    def hint(self) -> str:
        return "is host:port really a POP3 server? nothing was removed"


class LimitExceeded(RemoteError):
    """
    A peer sent more than popfetchd takes. *limit* is the constant's name.
    """

    reason = Reason.LIMIT

    def __init__(self, limit: str, allowed: int) -> None:
        super().__init__(limit, allowed)
        self.limit = limit
        self.allowed = allowed

    def __str__(self) -> str:
        return f"the server sent more than {self.limit} allows ({self.allowed})"

    @property
    def hint(self) -> str:
        return (
            "the server misbehaves, or a limit is too low for it; nothing was removed"
        )


class ServerRefusal(RemoteError):
    """
    A reply of -ERR. *command* is its keyword only; *text* what the server gave.
    """

    def __init__(self, command: str, text: str) -> None:
        super().__init__(command, text)
        self.command = command
        self.text = text

    def __str__(self) -> str:
        return f"the server refused {self.command}: {quote(self.text)}"


class CommandRefused(ServerRefusal):
    """
    -ERR without a response code that says more.
    """

    @property
    def hint(self) -> str:
        return "popfetchd tries again by itself; the server's text may tell more"


class Utf8Required(CommandRefused):
    """
    The server would give it to a client that has said UTF8 only (RFC 6856 section 5).
    """

    @property
    def hint(self) -> str:
        return (
            "the message is in UTF-8 and the session is not: `utf8: false` may be why, "
            "or a server that announces no UTF8"
        )


class AuthenticationRefused(ServerRefusal):
    """
    User or password were refused ([AUTH], RFC 3206, or -ERR without a code).

    *mechanism* is the one of AUTH that was used, e.g. SCRAM-SHA-256; else empty. *told* is
    what the server's challenge said of the refusal, as it came.
    """

    reason = Reason.AUTH
    fault = Fault.OPERATOR
    durability = Durability.PERMANENT

    def __init__(
        self, command: str, text: str, mechanism: str = "", told: bytes = b""
    ) -> None:
        super().__init__(command, text)
        self.mechanism = mechanism
        self.told = told

    def __str__(self) -> str:
        told = f", and told {quote(self.told)}" if self.told else ""
        return super().__str__() + told

    @property
    def hint(self) -> str:
        if self.mechanism == "EXTERNAL":
            return "check `client_cert`, and that it is the certificate of this user"
        if self.mechanism.startswith(("SCRAM", "CRAM")):
            return (
                "check user and password; if they are right, the server may not keep "
                f"them as {self.mechanism} needs: name another, such as `auth: plain`"
            )
        return (
            "check user and password; the provider may want POP switched on, "
            "or a password for this application"
        )


LONGEST_TOKEN_OF_EXCHANGE = 4096
"""Characters: Exchange Online refuses longer access tokens on POP3 since July 2025."""


class TokenRefused(AuthenticationRefused):
    """
    An access token was refused. *told* is often JSON (RFC 7628 §3.2.2), *length* the
    token's, in characters.
    """

    def __init__(
        self, command: str, text: str, mechanism: str, told: bytes, length: int
    ) -> None:
        super().__init__(command, text, mechanism, told)
        self.length = length

    @property
    def hint(self) -> str:
        if self.length > LONGEST_TOKEN_OF_EXCHANGE:
            return (
                f"the token has {self.length} characters, and Exchange takes "
                f"{LONGEST_TOKEN_OF_EXCHANGE} on POP3: ask for fewer scopes"
            )
        return (
            "the token may have expired, be another user's, or lack the scope for POP; "
            "it is asked for anew at the next visit"
        )


class InUse(ServerRefusal):
    """
    Another session holds the maildrop (RFC 2449 section 8.1.2).
    """

    reason = Reason.IN_USE

    @property
    def hint(self) -> str:
        return (
            "another program reads this maildrop, or an old session has not ended yet"
        )


class LoginDelayed(ServerRefusal):
    """
    We logged in too soon again (RFC 2449 section 8.1.1).
    """

    reason = Reason.LOGIN_DELAY

    @property
    def hint(self) -> str:
        return "make `every:` longer: the server limits how often one may log in"


class SystemTemporary(ServerRefusal):
    """
    The server is in trouble for now (RFC 3206).
    """

    reason = Reason.SYS_TEMP

    @property
    def hint(self) -> str:
        return "the server is in trouble; popfetchd tries again by itself"


class SystemPermanent(ServerRefusal):
    """
    The server is in trouble and someone there has to act (RFC 3206).
    """

    reason = Reason.SYS_PERM
    durability = Durability.PERMANENT

    @property
    def hint(self) -> str:
        return "tell the provider: the maildrop needs a person on the server's side"


class NoMechanism(RemoteError):
    """
    No way to log in that the configuration allows and the server offers.
    """

    reason = Reason.AUTH
    fault = Fault.OPERATOR
    durability = Durability.PERMANENT

    def __init__(self, wanted: str, problem: str) -> None:
        super().__init__(wanted, problem)
        self.wanted = wanted
        self.problem = problem

    def __str__(self) -> str:
        return f"no way to log in with auth: {self.wanted}: {self.problem}"

    @property
    def hint(self) -> str:
        return "no credential was sent; `popfetchd check` shows what the server offers"


# -- ourselves ------------------------------------------------------------------------


class ArchiveError(PopfetchdError):
    """
    A step of the durable write failed.

    *step* is the step's name ("fsync"), *path* the file or folder.
    """

    reason = Reason.ARCHIVE
    fault = Fault.OPERATOR

    def __init__(self, step: str, path: str | os.PathLike[str], problem: str) -> None:
        super().__init__(step, path, problem)
        self.step = step
        self.path = os.fspath(path)
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.step}: {self.problem}"

    @property
    def hint(self) -> str:
        return "nothing was removed from the server; check the disk and its permissions"

    @classmethod
    def from_os(
        cls, step: str, path: str | os.PathLike[str], error: OSError
    ) -> ArchiveError:
        """
        Translate *error*: no space and no quota left are a full disk.
        """
        problem = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return DiskFull(step, path, problem)
        return ArchiveError(step, path, problem)


class DiskFull(ArchiveError):
    """
    No space, or no quota, is left.
    """

    reason = Reason.DISK_FULL

    @property
    def hint(self) -> str:
        return (
            "make room; nothing was removed from the server, fetching resumes by itself"
        )


class NearlyFull(ArchiveError):
    """
    What is to be fetched would leave less free than `min_free`. Nothing has failed yet.
    """

    reason = Reason.DISK_FULL

    def __init__(self, path: str | os.PathLike[str], free: int, least: int) -> None:
        super().__init__("retrieve", path, f"{free} octets are free")
        self.free = free
        self.least = least

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.free} octets are free, and min_free keeps {self.least}"
        )

    @property
    def hint(self) -> str:
        """
        What the operator can do, one sentence.
        """
        return "make room, or lower `min_free:`; fetching resumes by itself"


class ArchiveLocked(ArchiveError):
    """
    Other programs held the mbox for *seconds*.
    """

    def __init__(self, path: str | os.PathLike[str], seconds: float) -> None:
        super().__init__("lock", path, f"locked by another program for {seconds:g} s")
        self.seconds = seconds

    @property
    def hint(self) -> str:
        """
        What the operator can do, one sentence.
        """
        return f"end the mail reader that uses it; if nothing does, remove {self.path}.lock"


class NotProved(ArchiveError):
    """
    What was read back differs from what was written. The file was condemned.
    """

    @property
    def hint(self) -> str:
        return "the disk returned other octets than it was given: check the hardware"


class NotPermitted(ArchiveError):
    """
    The system denies us to give a file the group or the mode that the operator wrote.
    """

    durability = Durability.PERMANENT

    @property
    def hint(self) -> str:
        return (
            "popfetchd's user must be a member of the `group:` of the archive, and be "
            "started anew then; under systemd docs/operations.md says how"
        )


class UnsafeArchive(ArchiveError):
    """
    A place where popfetchd will not write: another's folder as root, two devices, …
    """

    durability = Durability.PERMANENT

    def __init__(self, path: str | os.PathLike[str], problem: str, remedy: str) -> None:
        super().__init__("open", path, problem)
        self.remedy = remedy

    @property
    def hint(self) -> str:
        return self.remedy


class LedgerError(PopfetchdError):
    """
    The ledger cannot be read or written.
    """

    reason = Reason.LEDGER
    fault = Fault.OPERATOR
    durability = Durability.PERMANENT

    def __init__(self, path: str | os.PathLike[str], problem: str) -> None:
        super().__init__(path, problem)
        self.path = os.fspath(path)
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"

    @property
    def hint(self) -> str:
        return "no maildrop is visited without its ledger; check the file and its disk"


class LedgerBehind(LedgerError):
    """
    The archive holds messages of which this ledger does not know: it is older, or new.
    """

    @property
    def hint(self) -> str:
        return (
            "put its newest copy back, or make it again from the archive: "
            "`popfetchd rebuild`; until then nothing is fetched"
        )


class LedgerDamaged(LedgerError):
    """
    The file cannot be read as a ledger.
    """

    @property
    def hint(self) -> str:
        return (
            "put its newest copy back, or make it again from the archive: "
            "`popfetchd rebuild` (it keeps the old file under another name)"
        )


class LedgerNewer(LedgerDamaged):
    """
    The file was written by a newer popfetchd.
    """

    @property
    def hint(self) -> str:
        return (
            "install that popfetchd again; or let this one make a ledger from the "
            "archive: `popfetchd rebuild` (it keeps the old file under another name)"
        )


class LedgerFull(LedgerError):
    """
    No room is left on the ledger's disk.
    """

    reason = Reason.DISK_FULL
    durability = Durability.TRANSIENT

    @property
    def hint(self) -> str:
        return "make room; nothing was removed from the server, nothing is lost"


class LedgerInUse(LedgerError):
    """
    Another process has the ledger open, and one of the two needs it alone.
    """

    reason = Reason.IN_USE
    durability = Durability.TRANSIENT

    @property
    def hint(self) -> str:
        return "stop the service first, and wait for every other popfetchd to end"
