"""
What a POP3 server says, as values: replies, the greeting, capabilities, STAT.

Rules of this file:

- A text is the server's octets decoded as latin-1: every octet survives, none fails.
- Framing is strict, content is tolerant. A reply begins with `+OK` or `-ERR` or it is no
  reply.
- Nothing depends on a text but what the RFCs say: the timestamp, the response code, the
  numbers of STAT. The one exception is `…_WORDS`, for servers without codes.
- A number that a server claims is only a claim. It is bounded here, and believed nowhere.
"""

from __future__ import annotations

import math
import re

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from popfetchd.errors import (
    AuthenticationRefused,
    CommandRefused,
    InUse,
    LoginDelayed,
    ProtocolViolation,
    ServerRefusal,
    SystemPermanent,
    SystemTemporary,
    Utf8Required,
)
from popfetchd.values import DropListing, Octets


LOCK_WORDS = re.compile(r"\block|\bin use\b|\bbusy\b", re.IGNORECASE)
"""
How servers without response codes say at login that another session holds the maildrop:
"lock busy" (qpopper), "maildrop already locked", "mailbox in use". `\\b` keeps "blocked"
out.
"""

DELAY_WORDS = re.compile(r"\blogin limit\b|\blogin[ -]delay\b", re.IGNORECASE)
"""
How servers without response codes say that we came back too soon: "Exceeded the login
limit for a 15 minute period" (Outlook).
"""

LOCKED_OUT_WORDS = re.compile(
    r"\block(?:ed[ -]?)?out\b|\baccount\b.*\block", re.IGNORECASE
)
"""
How servers say that it is the *account* that is locked. That is no other session: to try
again soon would only keep it locked.
"""

LONGEST_REASON = 512
"""Characters of a refusal that are searched for words: a reply of RFC 2449 §4 is no longer."""

LONGEST_LOGIN_DELAY = 86_400.0
"""Seconds between two logins that a server is believed to want: who asks for more (it may
mean milliseconds) would keep an account from its mail, and for 31 years at worst."""

LOGIN_COMMANDS = frozenset({"USER", "PASS", "APOP", "AUTH"})
"""Where -ERR without a code means the credentials (RFC 3206 came late, and to few)."""


# -- replies --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ResponseCode:
    """
    The bracketed word of a reply, e.g. `[SYS/TEMP]` (RFC 2449 §8), in upper case.
    """

    levels: tuple[str, ...]

    def within(self, name: str) -> bool:
        """
        Tell whether this is *name* or stands below it: codes are hierarchical.
        """
        wanted = tuple(name.split("/"))
        return self.levels[: len(wanted)] == wanted

    def __str__(self) -> str:
        return "/".join(self.levels)


@dataclass(frozen=True, slots=True)
class Reply:
    """
    A status line: its indicator, its response code, and its whole text.
    """

    ok: bool
    code: ResponseCode | None
    text: str


_STATUS = re.compile(rb"(\+OK|-ERR)(?:[ \t]+(.*))?", re.DOTALL)
_RESPONSE_CODE = re.compile(r"\[([!-.0-Z\\^-~]+(?:/[!-.0-Z\\^-~]+)*)\]")


def parse_reply(step: str, line: bytes) -> Reply:
    """
    Parse a status line without its line end.

    Raises ProtocolViolation naming *step* when it has no status indicator: those are
    upper case, and followed by a blank or nothing (RFC 1939 §3).
    """
    found = _STATUS.fullmatch(line)
    if found is None:
        raise ProtocolViolation(step, "neither +OK nor -ERR", line)
    text = (found[2] or b"").decode("latin-1")
    return Reply(found[1] == b"+OK", _response_code(text), text)


def _response_code(text: str) -> ResponseCode | None:
    found = _RESPONSE_CODE.match(text)
    return ResponseCode(tuple(found[1].upper().split("/"))) if found else None


_REFUSALS: tuple[tuple[str, type[ServerRefusal]], ...] = (
    ("IN-USE", InUse),
    ("LOGIN-DELAY", LoginDelayed),
    ("SYS/PERM", SystemPermanent),
    ("SYS", SystemTemporary),
    ("AUTH", AuthenticationRefused),
    ("UTF8", Utf8Required),
)
"""RFC 2449 §8.1, RFC 3206, RFC 6856 §5: the first that fits; others say nothing to us."""


def refusal(command: str, reply: Reply) -> ServerRefusal:
    """
    Return the error that a reply of -ERR to *command* (its keyword) means.
    """
    return _refusal_class(command, reply)(command, reply.text)


def _refusal_class(command: str, reply: Reply) -> type[ServerRefusal]:
    for name, meaning in _REFUSALS:
        if reply.code is not None and reply.code.within(name):
            return meaning
    if command not in LOGIN_COMMANDS:
        return CommandRefused
    text = reply.text[:LONGEST_REASON]
    if LOCKED_OUT_WORDS.search(text):
        return AuthenticationRefused
    if LOCK_WORDS.search(text):
        return InUse
    return LoginDelayed if DELAY_WORDS.search(text) else AuthenticationRefused


def means_credentials(text: str) -> bool:
    """
    Tell whether the *text* of a -ERR says with a code that they are wrong (RFC 3206 §4).
    """
    code = _response_code(text)
    return code is not None and code.within("AUTH")


# -- the greeting ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Greeting:
    """
    The server's first line. *timestamp* is APOP's challenge, with its brackets.
    """

    text: str
    timestamp: bytes | None

    @classmethod
    def of(cls, reply: Reply) -> Greeting:
        """
        Read the greeting out of the server's first reply.
        """
        return cls(reply.text, _timestamp(reply.text.encode("latin-1")))


_ATOMS = rb"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*"
_MESSAGE_ID = re.compile(rb"<" + _ATOMS + rb"@(?:" + _ATOMS + rb"|\[[!-Z^-~]*\])>")


def _timestamp(text: bytes) -> bytes | None:
    """
    Return what stands between the first `<` and the last `>`, if it is a msg-id.

    RFC 1939 §7 asks for a msg-id of RFC 822. A challenge of another form is how APOP is
    broken (CVE-2007-1558): whoever chooses it can learn the password's first characters.
    """
    first, last = text.find(b"<"), text.rfind(b">")
    found = _MESSAGE_ID.fullmatch(text, first, last + 1) if first >= 0 else None
    return found[0] if found else None


# -- capabilities ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Capabilities:
    """
    What a server says it can (RFC 2449). Empty where it knows no CAPA.

    *arguments* maps each tag, in upper case, to its words as sent.
    """

    arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, body: bytes) -> Capabilities:
        """
        Read the lines of a reply to CAPA; a tag that stands twice gathers its words.
        """
        arguments: dict[str, tuple[str, ...]] = {}
        for line in body.decode("latin-1").split("\n"):
            tag, *words = line.split() or [""]
            arguments[tag.upper()] = arguments.get(tag.upper(), ()) + tuple(words)
        arguments.pop("", None)
        return cls(arguments)

    @classmethod
    def of(cls, lines: Iterable[str]) -> Capabilities:
        """
        Read what `lines` gave.
        """
        return cls.parse("\n".join(lines).encode("latin-1"))

    @property
    def lines(self) -> tuple[str, ...]:
        """
        Each capability as one text, in the order of their tags.
        """
        tags = sorted(self.arguments.items())
        return tuple(" ".join((tag, *words)) for tag, words in tags)

    def has(self, tag: str) -> bool:
        """
        Tell whether the server announced *tag* (in upper case).
        """
        return tag in self.arguments

    @property
    def sasl(self) -> frozenset[str]:
        """
        The mechanisms that AUTH takes, in upper case (RFC 5034 §3).
        """
        return frozenset(word.upper() for word in self.arguments.get("SASL", ()))

    @property
    def utf8_user(self) -> bool:
        """
        Whether USER, PASS and APOP take UTF-8 (RFC 6856 §2.2).
        """
        return "USER" in (word.upper() for word in self.arguments.get("UTF8", ()))

    @property
    def login_delay(self) -> float | None:
        """
        Seconds that must pass between two logins (RFC 2449 §6.5); bounded.
        """
        delay = self._number("LOGIN-DELAY")
        return None if delay is None else min(delay, LONGEST_LOGIN_DELAY)

    @property
    def expire(self) -> float | None:
        """
        Days that messages stay on the server; 0: RETR removes; infinite: NEVER (§6.7).
        """
        if self.arguments.get("EXPIRE", ("",))[:1] == ("NEVER",):
            return math.inf
        return self._number("EXPIRE")

    @property
    def implementation(self) -> str | None:
        """
        What the server calls itself: for people only, no behaviour hangs on it (§6.9).
        """
        words = self.arguments.get("IMPLEMENTATION")
        return None if words is None else " ".join(words)

    def _number(self, tag: str) -> float | None:
        word = next(iter(self.arguments.get(tag, ())), "")
        return float(word) if re.fullmatch("[0-9]{1,9}", word) else None


# -- the drop listing -----------------------------------------------------------------

_CLAIM = r"(-?[0-9]{1,18})"
_DROP_LISTING = re.compile(rf"\s*{_CLAIM}[0-9]*\s+{_CLAIM}")


def parse_drop_listing(text: str) -> DropListing:
    """
    Read the text of a +OK to STAT: "messages octets", and whatever stands behind.

    A negative number counts as 0; digits beyond the 18th, which fit no file, are not read. Raises
    ProtocolViolation when there are no two numbers (RFC 1939 §5).
    """
    found = _DROP_LISTING.match(text)
    if found is None:
        raise ProtocolViolation("STAT", "no two numbers", text.encode("latin-1"))
    messages, octets = (max(0, int(digits)) for digits in found.groups())
    return DropListing(messages, Octets(octets))
