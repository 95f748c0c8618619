"""
The values that pass between stages: frozen, plain, and typed by what they prove.

Rules of this file:

- No I/O, no clock, no framework. A value is made once and never altered.
- A *message-number* lives in one session only; it is never stored (RFC 1939 §5).
- A *unique-id* is a hint (RFC 1939 §7 lets two copies share one); it is the server's
  octets decoded as latin-1, so that every octet survives.
- *Octets* count a message as sent: CRLF as two, byte-stuffing removed (RFC 1939 §11).
- The evidence types `Listed → Spooled → Verified → Recorded → Published → Receipt`
  make "DELE only after a proved copy" (P1) a matter of types: each is constructed in
  one home (tests/test_evidence.py holds the list), and `removal` takes receipts only.
"""

from __future__ import annotations

import hashlib
import math

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, NewType, overload

from popfetchd.errors import PopfetchdError


AccountName = NewType("AccountName", str)
"""An account's configured name, `[a-z0-9][a-z0-9._-]{0,63}`: the key of everything."""

MessageNumber = NewType("MessageNumber", int)
UniqueId = NewType("UniqueId", str)
Octets = NewType("Octets", int)

ContentDigest = NewType("ContentDigest", bytes)
"""SHA-256 (32 octets) of a message's stored form."""

HeaderDigest = NewType("HeaderDigest", bytes)
"""SHA-256 (32 octets) of the header as sent, up to and without the empty line."""

Likeness = NewType("Likeness", bytes)
"""SHA-256 of Message-ID, Date, From and topmost Received (archive/likeness.py)."""

RowId = NewType("RowId", int)
"""A ledger row's own id; never given twice."""

LedgerId = NewType("LedgerId", str)
"""Names one ledger for its whole life, `[0-9a-f]{12}`; part of each file name."""

SessionId = NewType("SessionId", str)
"""Names one POP3 session, so that a message-number is never used in another."""


# -- what the operator wants ----------------------------------------------------------


class TlsMode(StrEnum):
    """
    When TLS starts: at once (RFC 8314), after STLS (RFC 2595), or never.
    """

    IMPLICIT = "implicit"
    STLS = "stls"
    NONE = "none"


class TlsVersion(StrEnum):
    """
    The least that is spoken. (RFC 8996 ended what was before 1.2.)
    """

    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """
    How a channel is protected. Equal policies share one TLS context.
    """

    mode: TlsMode = TlsMode.IMPLICIT
    ca_file: Path | None = None
    """A private authority to trust instead of the system's; None: the system's."""
    client_cert: Path | None = None
    """What we show of ourselves, with the authorities between, PEM; None: nothing."""
    client_key: Path | None = None
    """Its key, not encrypted, PEM; None: it stands in `client_cert` too."""
    pins: tuple[str, ...] = ()
    """`Certificate.sha256` of those that are taken, and no other then; who has signed
    them, for which names and until when is not asked."""
    minimum: TlsVersion = TlsVersion.TLS_1_2


@dataclass(frozen=True, slots=True)
class Proxy:
    """
    A SOCKS 5 proxy (RFC 1928), which is told the server's name and resolves it.

    *user* and *password* (RFC 1929) are both there or both missing.
    """

    host: str
    port: int
    user: str | None = None
    password: Secret | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"socks5://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Server:
    """
    Where a maildrop is served.
    """

    host: str
    port: int
    tls: TlsPolicy
    timeout: float
    """Seconds that any one step may take."""
    utf8: bool = True
    """Ask for messages as they are (RFC 6856) where the server has another form too."""
    server_name: str | None = None
    """The name in the server's certificate, where it is not *host*."""
    source_address: str | None = None
    """The address of this machine to connect from; None: whichever."""
    proxy: Proxy | None = None

    @property
    def certified_name(self) -> str:
        """
        The name to ask for in TLS (SNI), and to be found in the certificate.

        It also tells which server it is: several may be behind tunnels of one address.
        """
        return (self.server_name or self.host).rstrip(".")


class Mechanism(StrEnum):
    """
    How to log in. AUTO takes the strongest that the server offers on this channel.
    """

    AUTO = "auto"
    USER = "user"
    APOP = "apop"
    PLAIN = "plain"
    LOGIN = "login"
    CRAM_MD5 = "cram-md5"
    SCRAM_SHA_1 = "scram-sha-1"
    SCRAM_SHA_256 = "scram-sha-256"
    XOAUTH2 = "xoauth2"
    OAUTHBEARER = "oauthbearer"
    EXTERNAL = "external"


class Secret:
    """
    A secret that does not print, format, compare by accident or pickle.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """
        Return the secret itself, for the wire only.
        """
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __reduce__(self) -> str:
        message = "a secret is not to be pickled"
        raise TypeError(message)


class AccessToken(Secret):
    """
    A secret that is no password but a bearer token (RFC 6750).
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class InlineSecret:
    """
    Written in the configuration itself.
    """

    secret: Secret


@dataclass(frozen=True, slots=True)
class SecretFile:
    """
    The content of a file, without one final line end.
    """

    path: Path


@dataclass(frozen=True, slots=True)
class SecretVariable:
    """
    The value of an environment variable.
    """

    name: str


@dataclass(frozen=True, slots=True)
class SecretCommand:
    """
    The first line that a command prints. *argv* goes to no shell.
    """

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SecretCredential:
    """
    A file below $CREDENTIALS_DIRECTORY (systemd), else below /run/secrets.
    """

    name: str


PasswordSource = (
    InlineSecret | SecretFile | SecretVariable | SecretCommand | SecretCredential
)


@dataclass(frozen=True, slots=True)
class TokenSource:
    """
    An access token, from where a password may come from too.
    """

    source: PasswordSource


@dataclass(frozen=True, slots=True)
class NoSecret:
    """
    None is needed: the client certificate is the proof (EXTERNAL).
    """


SecretSource = PasswordSource | TokenSource | NoSecret


@dataclass(frozen=True, slots=True)
class Login:
    """
    Who logs in, and how.
    """

    user: str
    secret: SecretSource
    mechanism: Mechanism = Mechanism.AUTO


class ArchiveFormat(StrEnum):
    """
    The formats an archive may have.
    """

    MAILDIR = "maildir"
    MBOX = "mbox"


@dataclass(frozen=True, slots=True)
class Destination:
    """
    Where an account's messages are archived; *path* is absolute, templates resolved
    but for `{year}`, `{month}` and `{day}`, which each message's arrival decides.
    """

    format: ArchiveFormat
    path: Path
    spool: Path | None = None
    """The folder of the spool files, where it is not the format's usual one."""


@dataclass(frozen=True, slots=True)
class Group:
    """
    A group of this machine; *name* is how the operator wrote it.
    """

    name: str
    gid: int


@dataclass(frozen=True, slots=True)
class Permissions:
    """
    What the files and folders get that are made for an archive: *mode* is a file's.
    """

    mode: int = 0o600
    group: Group | None = None
    """None: whichever group the system gives them."""

    @property
    def folder_mode(self) -> int:
        """
        The mode of a folder: who may read a file may also pass.
        """
        return self.mode | (self.mode & 0o444) >> 2


PRIVATE = Permissions()
"""Mail is nobody else's to read (P4) unless the operator wrote so."""


@dataclass(frozen=True, slots=True)
class Every:
    """
    A visit each *seconds*, each up to *jitter* seconds late.
    """

    seconds: float
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Cron:
    """
    Visits as a crontab line says (0 and 7 are Sunday), in an IANA time zone.
    """

    expression: str
    timezone: str


Schedule = Every | Cron


@dataclass(frozen=True, slots=True)
class Habits:
    """
    What a server does that no listing shows; of a provider, or as an operator writes.
    """

    login_floor: float = 0.0
    """Least seconds between two logins."""
    hides_retrieved: bool = False
    """A session's QUIT hides, or removes, whatever the session retrieved."""
    lists_partly: bool = False
    """A listing holds a part of the maildrop: what is missing from it may be there."""

    @property
    def drains(self) -> bool:
        """
        Whether retrieving brings forth what the next session lists.
        """
        return self.hides_retrieved and self.lists_partly


class Since(StrEnum):
    """
    From when the time counts after which a message may leave the server.
    """

    ARCHIVED = "archived"
    ARRIVED = "arrived"
    """As its topmost Received header says, else when it was fetched."""


NEVER = math.inf
"""A time that does not come, in seconds since 1970."""


class Due(NamedTuple):
    """
    A message may leave the server when it is *wait* seconds *since*, by *now*.
    """

    since: Since
    wait: float
    now: float


@dataclass(frozen=True, slots=True)
class Account:
    """
    One maildrop, and what is to become of its messages.
    """

    name: AccountName
    server: Server
    login: Login
    destination: Destination
    schedule: Schedule
    delete_after: float | None = None
    """Seconds until a message may leave the server; 0.0: once verified; None: never."""
    delete_since: Since = Since.ARCHIVED
    """From when those seconds count."""
    trust_archive: bool = False
    """Remove also what has been archived earlier and is not found in the archive now."""
    max_message_size: Octets | None = None
    min_free: Octets = Octets(0)
    """Octets that retrieving leaves free where the archive is."""
    deadline: float = 1800.0
    """Seconds that a whole visit may take."""
    verify_every: float | None = None
    """Seconds between two verifications of the archive by the service; None: never."""
    provider: str | None = None
    """Whose preset was taken."""
    habits: Habits = Habits()
    permissions: Permissions = PRIVATE
    """Of what is made for the archive from now on, wherever it stands."""

    @property
    def digest(self) -> str:
        """
        Return what tells this configuration from any other; no secret is in it.
        """
        return hashlib.sha256(repr(self).encode()).hexdigest()[:32]

    def removable_at(self, archived_at: float, arrived_at: float) -> float:
        """
        Return when a message may leave the server (seconds since 1970), or NEVER.
        """
        if self.delete_after is None:
            return NEVER
        by_age = self.delete_since is Since.ARRIVED
        return (arrived_at if by_age else archived_at) + self.delete_after

    def due(self, now: float) -> Due:
        """
        Return the same as a rule, by which the ledger can tell whose time has come.
        """
        wait = NEVER if self.delete_after is None else self.delete_after
        return Due(self.delete_since, wait, now)


# -- what the server shows ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DropListing:
    """
    The answer to STAT: messages in the maildrop and their octets, as claimed.
    """

    messages: int
    octets: Octets


@dataclass(frozen=True, slots=True)
class Listed:
    """
    Evidence 1: a message that stands in this session's listing.

    *octets* is the server's claim, None where it listed none. *times* is how often the
    unique-id stands in the listing: more than once, and it says nothing.
    """

    session: SessionId
    number: MessageNumber
    unique_id: UniqueId | None
    octets: Octets | None
    times: int = 1


@dataclass(frozen=True)
class Listing:
    """
    A maildrop's scan listing and unique-id listing, taken together.

    *unique_ids* is empty where the server has no UIDL; a number may stand in one of
    the two only. Nothing is made per message until it is asked for.
    """

    session: SessionId
    octets: Mapping[MessageNumber, Octets]
    unique_ids: Mapping[MessageNumber, UniqueId]

    @cached_property
    def repeated(self) -> Counter[UniqueId]:
        """
        How often each unique-id stands in the listing that stands there more than once.
        """
        if len(set(self.unique_ids.values())) == len(self.unique_ids):
            return Counter()  # as nearly always: a count of each would be large
        times = Counter(self.unique_ids.values())
        return Counter({uid: n for uid, n in times.items() if n > 1})

    @cached_property
    def numbers(self) -> tuple[MessageNumber, ...]:
        """
        Every message-number that either listing gives, ascending.
        """
        numbers = [*self.octets]
        if numbers != [*self.unique_ids]:
            numbers = [*{*numbers, *self.unique_ids}]
        return tuple(sorted(numbers))

    @property
    def named(self) -> Listing:
        """
        The listing without unique-ids that are but the message-numbers.

        A server that has no unique-ids and lists its numbers in their place shifts them
        all when one message goes; they say nothing then.
        """
        if any(str(n) != unique_id for n, unique_id in self.unique_ids.items()):
            return self
        return Listing(self.session, self.octets, {})

    @property
    def drop(self) -> DropListing:
        """
        The whole as STAT would say it.
        """
        return DropListing(len(self.numbers), Octets(sum(self.octets.values())))

    def listed(self, number: MessageNumber) -> Listed:
        """
        Return the evidence that message *number* stands in this listing.
        """
        unique_id = self.unique_ids.get(number)
        return Listed(
            self.session,
            number,
            unique_id,
            self.octets.get(number),
            1 if unique_id is None else self.repeated.get(unique_id, 1),
        )


@dataclass(frozen=True)
class Messages(Sequence[Listed]):
    """
    Some messages of a listing, in an order of their own; each is made when asked for.
    """

    listing: Listing
    numbers: Sequence[MessageNumber]

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, at: int) -> Listed: ...

    @overload
    def __getitem__(self, at: slice) -> Messages: ...

    def __getitem__(self, at: int | slice) -> Listed | Messages:
        if isinstance(at, slice):
            return Messages(self.listing, self.numbers[at])
        return self.listing.listed(self.numbers[at])

    @property
    def told_apart(self) -> bool:
        """
        Whether the listing gives every message a unique-id, and each only once.
        """
        names = self.listing.unique_ids
        return len(names) == len(self.listing.numbers) and not self.listing.repeated

    def without(self, numbers: Container[MessageNumber]) -> Messages:
        """
        Return them without those of *numbers*.
        """
        return Messages(self.listing, [n for n in self.numbers if n not in numbers])


# -- what a visit leaves to the next one ----------------------------------------------


@dataclass(frozen=True, slots=True)
class Announced:
    """
    What a server said it can, each capability one text, as CAPA gave it.

    *before* the login, in TLS where there is any, and *after* it.
    """

    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Standstill:
    """
    A complete listing of which nothing was left to do: all archived, nothing failing.

    Times are seconds since 1970 (docs/adr/0014-nothing-new.md).
    """

    messages: int
    octets: Octets
    last: UniqueId
    """Of the message listed last."""
    listed: float
    """When the server was asked for all of it."""
    due: float
    """When the first of these messages may leave the server, or NEVER."""
    visits: int = 0
    """Made since then, without a listing."""

    def once_more(self) -> Standstill:
        """
        Return this with a visit more.
        """
        listed = (self.messages, self.octets, self.last, self.listed)
        return Standstill(*listed, self.due, self.visits + 1)


@dataclass(frozen=True, slots=True)
class Recollection:
    """
    What one visit leaves to the next, so that it need not ask for all of it again.

    No message is archived or removed because of it (docs/adr/0012-the-short-way.md).
    """

    account: str
    """`Account.digest` of how the account was configured; another one, and all is void."""
    announced: Announced
    learnt: float
    """Seconds since 1970 when the server was asked before the login, too."""
    trusted: bool = True
    """Nothing went wrong on the short way since then."""
    standstill: Standstill | None = None
    """None: the next visit has to list."""

    @property
    def warning(self) -> Recollection | None:
        """
        What of this is true also if the session does not end with QUIT: that the short
        way fails. None if it does not.
        """
        return None if self.trusted else self.at(None)

    def at(self, standstill: Standstill | None) -> Recollection:
        """
        Return this with what the maildrop was like in the end.
        """
        known = (self.account, self.announced, self.learnt, self.trusted)
        return Recollection(*known, standstill)


# -- what a message is, and where its copy stands -------------------------------------


class StoredForm(StrEnum):
    """
    What was done to a message's octets for storage; recorded, hence reversible.

    LF: each CRLF became LF (the message holds no other CR or LF). EXACT: unchanged.
    """

    LF = "lf"
    EXACT = "exact"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """
    What a message is, apart from its place in a maildrop or an archive.
    """

    octets: Octets
    """As received."""
    stored: Octets
    """Of the stored form: the size of the file."""
    form: StoredForm
    header: HeaderDigest
    content: ContentDigest
    likeness: Likeness | None = None
    """What names the message; None where its header does not."""
    arrived_at: float = 0.0
    """Seconds since 1970: its topmost Received, else when the visit began."""


class Extent(NamedTuple):
    """
    Where a message stands in an mbox, in octets from the file's start.

    *bare* is the SHA-256 of the stored form without the headers that mail readers
    change: it finds the message again after a reader wrote the file anew.
    """

    offset: int
    length: int
    bare: ContentDigest


@dataclass(frozen=True, slots=True)
class Copy:
    """
    Where the archived copy stands.

    *directory* is the maildir, or the mbox, which is a file. *base* is the unique name
    without its size; the spool file bears it. *name* is the final name, without the
    flags that a mail reader adds; in an mbox nothing bears a name, and it is the base.
    """

    format: ArchiveFormat
    directory: Path
    base: str
    name: str
    spool: Path | None = None
    """The folder of the spool file; None: the maildir's tmp/."""
    extent: Extent | None = None
    """Of an mbox, once its place is known."""


class Condition(StrEnum):
    """
    How an archived copy was found. MOVED: whole, at another place in its archive.
    """

    WHOLE = "whole"
    MOVED = "moved"
    ALTERED = "altered"
    TRUNCATED = "truncated"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Spooled:
    """
    Evidence 2: the complete octets were received and written to a spool file.
    """

    listed: Listed
    number: int
    """The ledger's sequence number, part of the name."""
    copy: Copy
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class Verified:
    """
    Evidence 3: fsynced, read back from the file, and found equal by digest.
    """

    spooled: Spooled


@dataclass(frozen=True, slots=True)
class Recorded:
    """
    Evidence 4: the ledger has durably recorded what is about to be published.
    """

    row: RowId
    copy: Copy
    content: ContentDigest


class LeftOpen(NamedTuple):
    """
    The open rows of one place in an archive, whichever account's, oldest first.

    *claimed* says, for the `bare` digest of each, how many archived messages there
    have the same one.
    """

    rows: Sequence[Recorded]
    claimed: Mapping[ContentDigest, int]


@dataclass(frozen=True, slots=True)
class Published:
    """
    Evidence 5: the copy stands in the archive under its final name, durably.
    """

    recorded: Recorded


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    Evidence 6: the ledger has durably committed `published`.
    """

    row: RowId
    unique_id: UniqueId | None
    octets: Octets | None
    """As last listed."""
    header: HeaderDigest
    content: ContentDigest
    archived_at: float
    """Seconds since 1970, when the copy was published."""
    arrived_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Alike:
    """
    No evidence: a row whose message is named as this one is, with other octets.

    A server that alters what it sends makes such. It is not archived a second time, and
    never removed.
    """

    row: RowId


class Known(NamedTuple):
    """
    A published row, as much of it as selection needs.

    *accounted*: the last complete listing had it. *doubtful*: its unique-id was seen
    twice, or vanished and came back, and says nothing any more. *marked*: a DELE was
    sent for it and no +OK to QUIT came. *altered*: the server sends other octets at each
    RETR, so that nothing can ever prove its removal. *popped*: a session that retrieved
    it ended with the +OK to QUIT, on a server that hides what was retrieved.
    """

    row: RowId
    unique_id: UniqueId | None
    octets: Octets | None
    archived_at: float
    accounted: bool
    doubtful: bool
    marked: bool
    altered: bool = False
    arrived_at: float = 0.0
    popped: bool = False


@dataclass(frozen=True, slots=True)
class Plain:
    """
    Published rows of which no more is to be said than what they bear, in columns.

    The last complete listing had each, nothing speaks against its unique-id, and its
    message is not due to be removed yet. A maildrop's rows are nearly all of this kind.
    """

    unique_ids: Sequence[UniqueId] = ()
    octets: Sequence[Octets] = ()
    rows: Sequence[RowId] = ()

    def one_by_one(self) -> list[Known]:
        """
        Return what each row says of itself, but for when it was archived: not yet due.
        """
        columns = zip(self.rows, self.unique_ids, self.octets, strict=True)
        return [
            Known(
                *of_one,
                archived_at=NEVER,
                accounted=True,
                doubtful=False,
                marked=False,
                arrived_at=NEVER,
            )
            for of_one in columns
        ]


@dataclass(frozen=True, slots=True)
class Seen:
    """
    The rows of which a complete listing shows something else than the last one did.
    """

    vanished: frozenset[RowId] = frozenset()
    """It does not show them. The last one did, or a DELE was sent for them since."""
    returned: frozenset[RowId] = frozenset()
    """It shows them, which the last one did not, or in spite of a DELE."""
    hidden: frozenset[RowId] = frozenset()
    """They are gone as the server was to make them go; they count as removed."""

    def without(self, rows: Iterable[RowId]) -> Seen:
        """
        Return the same, had the listing not shown *rows*.
        """
        not_shown = frozenset(rows)
        return Seen(self.vanished | not_shown, self.returned - not_shown, self.hidden)


@dataclass(frozen=True, slots=True)
class Failure:
    """
    How often a message failed to be retrieved. Times are seconds since 1970.
    """

    visits: int
    last: float
    first: float = 0.0
    """0.0: not known."""
    why: str = ""
    """What was wrong last, one sentence."""

    def once_more(self) -> Failure:
        """
        Return this with a visit more.
        """
        return Failure(self.visits + 1, self.last, self.first, self.why)


# -- what an archive holds ------------------------------------------------------------


class Archived(NamedTuple):
    """
    A row whose copy has to stand in the archive; no evidence that it does.

    *damaged*: it did not when it was looked for last.
    """

    row: RowId
    copy: Copy
    content: ContentDigest
    stored: Octets
    damaged: bool


@dataclass(frozen=True, slots=True)
class Held:
    """
    A message that stands in an archive, whoever put it there.
    """

    copy: Copy
    path: Path
    """Where it is now."""
    key: str
    """What its row would bear: its base; in an mbox its `bare` digest, in hex."""
    number: int = 0
    """The one in its name, if a popfetchd gave it one."""


@dataclass(frozen=True, slots=True)
class Found:
    """
    A message that was found in an archive, and read. *archived_at*: since 1970.
    """

    held: Held
    fingerprint: Fingerprint
    archived_at: float


@dataclass(frozen=True, slots=True)
class Damage:
    """
    A copy that is not as it was archived. *path* is where it was put then.
    """

    row: RowId
    path: Path
    condition: Condition


@dataclass(frozen=True, slots=True)
class Verification:
    """
    What reading one account's archive against the ledger showed.

    Times are seconds since 1970. *failure* is what ended it early. *healed* counts the
    copies that were damaged when last looked for and are whole now, *moved* those that a
    mail reader put into another folder of the archive: no damage. *unknown* is what no
    row of the ledger knows: no damage either.
    """

    account: AccountName
    started: float
    ended: float
    messages: int = 0
    octets: int = 0
    moved: int = 0
    healed: int = 0
    damage: tuple[Damage, ...] = ()
    unknown: tuple[Path, ...] = ()
    failure: PopfetchdError | None = None


# -- what a visit reports -------------------------------------------------------------


class Stage(StrEnum):
    """
    The steps of a visit, in order (docs/flow.md).
    """

    SETTLE = "settle"
    CONNECT = "connect"
    LOGIN = "login"
    LIST = "list"
    RETRIEVE = "retrieve"
    ARCHIVE = "archive"
    REMOVE = "remove"


class Outcome(StrEnum):
    """
    How a visit ended: PARTIAL is a visit that archived, and yet left something undone.
    """

    SUCCESS = "success"
    PARTIAL = "partial"
    FAILURE = "failure"


class Skip(StrEnum):
    """
    Why a message was left where it is.
    """

    TOO_LARGE = "too_large"
    QUARANTINED = "quarantined"
    CAPPED = "capped"
    FAILED = "failed"


class Unproven(StrEnum):
    """
    Why a removal that was due was refused (3.3 of the design, docs/flow.md).
    """

    PAUSED = "paused"
    MISMATCH = "mismatch"
    ALTERED = "altered"
    MISSING = "missing"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Certificate:
    """
    What a server showed to be known by; times are seconds since 1970.

    The texts are its own words, whoever speaks for them; empty, and the times None, where
    they cannot be read. *sha256* is the fingerprint of the certificate (DER), 64
    lower-case hex digits.
    """

    sha256: str
    subject: str = ""
    issuer: str = ""
    names: tuple[str, ...] = ()
    """Whom it is for: DNS names and addresses."""
    not_before: float | None = None
    not_after: float | None = None


@dataclass(frozen=True, slots=True)
class Channel:
    """
    What the channel to the server is made of.
    """

    address: str
    tls_version: str | None = None
    cipher: str | None = None
    certificate_expiry: float | None = None
    """Seconds since 1970; None without TLS."""
    certificate: Certificate | None = None
    """None without TLS."""
    tried: tuple[str, ...] = ()
    """Addresses that were tried as well, and did not answer first."""
    proxy: str | None = None
    """The proxy, whose the address is then; without its user and password."""


class Skipped(StrEnum):
    """
    Why a visit that was due did not take place: no server was asked for anything.
    """

    OVERRUN = "overrun"
    """The account's last visit is still waiting for a thread, or running."""
    LOCKED = "locked"
    """Another process of popfetchd is visiting the account."""
    LOGIN_DELAY = "login_delay"
    """The server wants a longer time between logins."""
    UNREACHABLE = "unreachable"
    """Another account's visit found that the server does not answer: put off."""
    STOPPING = "stopping"
    """The service is shutting down."""


@dataclass(frozen=True, slots=True)
class PollReport:
    """
    What one visit did. There is always one, also when a step failed.

    Times are seconds since 1970; *stages* holds seconds spent. *failure* is what ended
    the visit early. *waiting* counts messages listed and not yet archived.
    """

    account: AccountName
    started: float
    ended: float
    failure: PopfetchdError | None = None
    stages: Mapping[Stage, float] = field(default_factory=dict)
    drop: DropListing | None = None
    archived: int = 0
    archived_octets: int = 0
    matched: int = 0
    """Retrieved, and found to be archived already."""
    removed: int = 0
    skipped: Mapping[Skip, int] = field(default_factory=dict)
    unproven: Mapping[Unproven, int] = field(default_factory=dict)
    waiting: int = 0
    quarantined: int = 0
    removals_paused: bool = False
    reset: bool = False
    settled: int = 0
    """Messages that an earlier, interrupted visit had left open and this one closed."""
    lost_spools: int = 0
    """Rows whose copy was not found: those messages are fetched anew."""
    fragments: int = 0
    """Messages that stand half in an mbox as well, where others wrote behind them."""
    failed_messages: tuple[str, ...] = ()
    """One sentence for each message that failed alone."""
    logged_in: float | None = None
    """When the last login of this visit succeeded; where it did not, when it was tried."""
    login_delay: float | None = None
    """Seconds between logins that the server asks for (RFC 2449 §6.5)."""
    channel: Channel | None = None
    surprise: str = ""
    """What went otherwise than expected on the short way; the usual one was taken then."""
    unchanged: bool = False
    """Nothing was listed: the server has what it had at the last complete listing."""
    recollection: Recollection | None = None
    """What the next visit may begin from; None: from nothing."""
    stamp: str = ""
    """Of the archive, when it held nothing that the ledger does not know; "": none."""

    @property
    def outcome(self) -> Outcome:
        """
        Tell how it ended.
        """
        if self.failure is None and not self.failed_messages:
            return Outcome.SUCCESS
        worked = self.archived or self.removed or self.failure is None
        return Outcome.PARTIAL if worked else Outcome.FAILURE

    @property
    def duration(self) -> float:
        """
        Seconds from start to end.
        """
        return self.ended - self.started


@dataclass(frozen=True, slots=True)
class AccountState:
    """
    What is remembered of an account between visits, also over a restart.

    Times are seconds since 1970; 0.0 means never. *reason*, *error* and *hint* tell the
    last failure; empty while all is well.
    """

    last_poll: float = 0.0
    last_success: float = 0.0
    next_poll: float = 0.0
    consecutive_failures: int = 0
    reason: str = ""
    error: str = ""
    hint: str = ""
    archived: int = 0
    """Messages archived over the account's life."""
    maildrop_messages: int = 0
    maildrop_octets: int = 0
    waiting: int = 0
    quarantined: int = 0
    too_large: int = 0
    refused: int = 0
    """Removals that were due and lack a proof that another visit can bring."""
    removals_paused: bool = False
    certificate_expiry: float = 0.0
    last_login: float = 0.0
    login_delay: float = 0.0
    """Seconds between logins that the server asked for at the last visit."""
    last_verified: float = 0.0
    damaged: int = 0
    """Copies that were missing or altered when the archive was last verified."""
