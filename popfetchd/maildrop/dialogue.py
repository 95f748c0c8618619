"""
The server's side of one POP3 session: octets in, octets out, no socket.

Rules of this file:

- What is legal is a table, `Dialogue.COMMANDS`: keyword → states and method.
- A method returns its whole answer, or raises `Refused`, which becomes -ERR.
- Only CRLF ends a line (RFC 1939 §3): a client that sends less waits for ever here,
  and is found out.
- What stands behind QUIT or STLS in the same segment is dropped, never obeyed: that
  is how commands are injected (RFC 2595 §4).
- Removal is QUIT's alone. `close` without QUIT removes nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import ClassVar

from popfetchd.maildrop.drop import CRLF, Maildrop, Message


CAPABILITIES = (
    "TOP",
    "UIDL",
    "USER",
    "SASL PLAIN",
    "RESP-CODES",
    "AUTH-RESP-CODE",
    "PIPELINING",
    "IMPLEMENTATION popfetchd-maildrop",
)
"""What CAPA says in every state (RFC 2449 §6); STLS comes and goes."""

LONGEST_LINE = 8192
"""Octets of an unfinished line: a SASL response may pass RFC 2449's 255, not this."""


class State(Enum):
    """
    Where the session stands (RFC 1939 §3). UPDATE happens inside QUIT.
    """

    AUTHORIZATION = "AUTHORIZATION"
    TRANSACTION = "TRANSACTION"
    ENDED = "ENDED"


BEFORE_LOGIN = frozenset({State.AUTHORIZATION})
AFTER_LOGIN = frozenset({State.TRANSACTION})
ALWAYS = BEFORE_LOGIN | AFTER_LOGIN


class Refused(Exception):
    """
    The answer is -ERR. Never leaves this file.
    """


Method = Callable[["Dialogue", str], bytes]
"""Takes what stands behind the keyword; returns the whole answer."""


class Dialogue:
    """
    One session with one client.

    *timestamp* is APOP's (RFC 1939 §7). *stls*: the channel is in clear and may become
    TLS. *lacks* names commands and capabilities that this server shall not have.
    """

    def __init__(
        self,
        maildrops: Mapping[str, Maildrop],
        timestamp: str,
        *,
        stls: bool = False,
        lacks: frozenset[str] = frozenset(),
    ) -> None:
        self._maildrops = maildrops
        self._timestamp = timestamp
        self._stls = stls
        self._lacks = lacks
        self._state = State.AUTHORIZATION
        self._rest = b""
        self._user = ""
        self._answering_sasl = False
        self._maildrop: Maildrop | None = None
        self._numbered: dict[str, Message] = {}
        self._marked: set[Message] = set()
        self.wants_tls = False
        """The +OK to STLS was said: the next octets are a handshake."""

    @property
    def greeting(self) -> bytes:
        """
        The first line, with APOP's timestamp unless the server lacks APOP.
        """
        stamp = "" if "APOP" in self._lacks else f" {self._timestamp}"
        return ok(f"popfetchd maildrop ready{stamp}")

    @property
    def ended(self) -> bool:
        """
        Nothing more is read or said.
        """
        return self._state is State.ENDED

    def receive(self, octets: bytes) -> Iterator[bytes]:
        """
        Yield the answer to each complete line, in order; a rest waits for more.
        """
        *lines, self._rest = (self._rest + octets).split(CRLF)
        for line in lines:
            yield self._answer(line)
            if self.ended or self.wants_tls:
                self._rest = b""
                return
        if len(self._rest) > LONGEST_LINE:
            self._state = State.ENDED
            yield error("line too long")

    def secured(self) -> None:
        """
        The channel is TLS now; whatever was said before is forgotten (RFC 2595 §4).
        """
        self.wants_tls = False
        self._stls = False
        self._user = ""

    def close(self) -> None:
        """
        End the session without UPDATE. May be called again.
        """
        self._state = State.ENDED
        if self._maildrop is not None:
            self._maildrop.release()
            self._maildrop = None

    def _answer(self, line: bytes) -> bytes:
        try:
            if self._answering_sasl:
                return self._sasl_response(line)
            return self._command(line)
        except Refused as refused:
            return error(str(refused))

    def _command(self, line: bytes) -> bytes:
        word, _, rest = line.partition(b" ")
        keyword = word.decode("latin-1").upper()
        if keyword not in self.COMMANDS or keyword in self._lacks:
            raise Refused("unknown command")
        states, method = self.COMMANDS[keyword]
        if self._state not in states:
            raise Refused(f"{keyword} is not for {self._state.value}")
        return method(self, rest.decode("utf-8", "surrogateescape"))

    # -- AUTHORIZATION ----------------------------------------------------------------

    def _capa(self, _argument: str) -> bytes:
        lines = [*CAPABILITIES, *(["STLS"] if self._stls_now else [])]
        kept = (line for line in lines if line.split()[0] not in self._lacks)
        return ok("capabilities follow") + listing(kept)

    @property
    def _stls_now(self) -> bool:
        return self._stls and self._state is State.AUTHORIZATION

    def _start_tls(self, _argument: str) -> bytes:
        if not self._stls:
            raise Refused("no TLS to begin here")
        self.wants_tls = True
        return ok("begin TLS")

    def _name(self, argument: str) -> bytes:
        # RFC 1939 §7: a server may say +OK to any name, and tells nobody which exist.
        self._user = argument
        return ok("and the password?")

    def _password(self, argument: str) -> bytes:
        if not self._user:
            raise Refused("USER first")
        user, self._user = self._user, ""
        return self._login(user, str, argument)

    def _apop(self, argument: str) -> bytes:
        user, _, digest = argument.rpartition(" ")
        return self._login(user, self._apop_digest, digest)

    def _apop_digest(self, secret: str) -> str:
        text = (self._timestamp + secret).encode("utf-8", "surrogateescape")
        return hashlib.md5(text, usedforsecurity=False).hexdigest()

    def _auth(self, argument: str) -> bytes:
        mechanism, _, initial = argument.partition(" ")
        if mechanism.upper() != "PLAIN":
            raise Refused("unknown mechanism")
        if initial:
            return self._plain(initial.encode("utf-8", "surrogateescape"))
        self._answering_sasl = True
        return b"+ \r\n"

    def _sasl_response(self, line: bytes) -> bytes:
        self._answering_sasl = False
        if line == b"*":
            raise Refused("given up")
        return self._plain(line)

    def _plain(self, encoded: bytes) -> bytes:
        """
        Log in by RFC 4616: authzid NUL authcid NUL password, in strict base64.
        """
        try:
            message = base64.b64decode(encoded, validate=True)
            identity, user, password = message.split(b"\0")
        except (binascii.Error, ValueError):
            raise Refused("no PLAIN message") from None
        name = user.decode("utf-8", "surrogateescape")
        if identity not in {b"", user}:
            raise Refused("[AUTH] nobody acts for another here")
        given = password.decode("utf-8", "surrogateescape")
        return self._login(name, str, given)

    def _login(self, user: str, proof: Callable[[str], str], given: str) -> bytes:
        """
        Open the maildrop of *user* if *given* equals what *proof* makes of the secret.
        """
        maildrop = self._maildrops.get(user)
        if maildrop is None or not same(proof(maildrop.secret.reveal()), given):
            raise Refused("[AUTH] wrong user or password")
        if not maildrop.acquire():
            raise Refused("[IN-USE] another session holds the maildrop")
        self._maildrop = maildrop
        self._numbered = {str(n): m for n, m in enumerate(maildrop.messages, 1)}
        self._state = State.TRANSACTION
        return ok(f"maildrop has {len(self._numbered)} messages")

    # -- TRANSACTION ------------------------------------------------------------------

    def _kept(self) -> Iterator[tuple[str, Message]]:
        pairs = self._numbered.items()
        return ((n, m) for n, m in pairs if m not in self._marked)

    def _message(self, argument: str) -> Message:
        """
        Return the message with that number, unless it is marked as deleted.
        """
        message = self._numbered.get(argument)
        if message is None or message in self._marked:
            raise Refused("no such message")
        return message

    def _stat(self, _argument: str) -> bytes:
        sizes = [len(message.octets) for _, message in self._kept()]
        return ok(f"{len(sizes)} {sum(sizes)}")

    def _list(self, argument: str) -> bytes:
        return self._scan(argument, lambda message: len(message.octets))

    def _uidl(self, argument: str) -> bytes:
        return self._scan(argument, lambda message: message.unique_id)

    def _scan(self, argument: str, tell: Callable[[Message], object]) -> bytes:
        if argument:
            return ok(f"{argument} {tell(self._message(argument))}")
        return ok("listing follows") + listing(
            f"{number} {tell(message)}" for number, message in self._kept()
        )

    def _retr(self, argument: str) -> bytes:
        octets = self._message(argument).octets
        return ok(f"{len(octets)} octets") + multiline(octets)

    def _top(self, argument: str) -> bytes:
        number, _, lines = argument.partition(" ")
        if not re.fullmatch("[0-9]{1,9}", lines):
            raise Refused("TOP wants a number and a count of lines")
        octets = self._message(number).octets
        return ok("top follows") + multiline(top(octets, int(lines)))

    def _dele(self, argument: str) -> bytes:
        self._marked.add(self._message(argument))
        return ok("marked as deleted")

    def _rset(self, _argument: str) -> bytes:
        self._marked.clear()
        return ok("nothing is marked")

    def _noop(self, _argument: str) -> bytes:
        return ok("")

    def _quit(self, _argument: str) -> bytes:
        if self._maildrop is not None:
            self._maildrop.remove(self._marked)
        self.close()
        return ok("bye")

    COMMANDS: ClassVar[Mapping[str, tuple[frozenset[State], Method]]] = {
        "CAPA": (ALWAYS, _capa),
        "STLS": (BEFORE_LOGIN, _start_tls),
        "USER": (BEFORE_LOGIN, _name),
        "PASS": (BEFORE_LOGIN, _password),
        "APOP": (BEFORE_LOGIN, _apop),
        "AUTH": (BEFORE_LOGIN, _auth),
        "STAT": (AFTER_LOGIN, _stat),
        "LIST": (AFTER_LOGIN, _list),
        "UIDL": (AFTER_LOGIN, _uidl),
        "RETR": (AFTER_LOGIN, _retr),
        "TOP": (AFTER_LOGIN, _top),
        "DELE": (AFTER_LOGIN, _dele),
        "RSET": (AFTER_LOGIN, _rset),
        "NOOP": (AFTER_LOGIN, _noop),
        "QUIT": (ALWAYS, _quit),
    }
    """Which command is legal when (RFC 1939, 2449, 2595, 5034), and who answers it."""


# -- how things are said --------------------------------------------------------------


def ok(text: str) -> bytes:
    """
    Return a reply of +OK.
    """
    return f"+OK {text}\r\n".encode("utf-8", "surrogateescape")


def error(text: str) -> bytes:
    """
    Return a reply of -ERR.
    """
    return f"-ERR {text}\r\n".encode()


def listing(lines: Iterator[str]) -> bytes:
    """
    Return a multi-line response of plain lines. Unique-ids go out as latin-1.
    """
    return multiline("".join(f"{line}\r\n" for line in lines).encode("latin-1"))


def multiline(octets: bytes) -> bytes:
    """
    Return *octets*, which end with CRLF or are none, byte-stuffed and terminated.
    """
    stuffed = octets.replace(b"\r\n.", b"\r\n..")
    first = b"." if octets.startswith(b".") else b""
    return first + stuffed + b".\r\n"


def top(octets: bytes, lines: int) -> bytes:
    """
    Return the header, the empty line and the first *lines* of the body.
    """
    if octets.startswith(CRLF):
        header, body = CRLF, octets[2:]
    else:
        head, empty, body = octets.partition(CRLF + CRLF)
        header = head + empty
    whole = body.split(CRLF)[:-1]
    return header + b"".join(line + CRLF for line in whole[:lines])


def same(wanted: str, given: str) -> bool:
    """
    Compare in a time that tells nothing of *wanted*.
    """
    return hmac.compare_digest(
        wanted.encode("utf-8", "surrogateescape"),
        given.encode("utf-8", "surrogateescape"),
    )
