"""
The POP3 engine: octets in, events out; commands in, octets out. No socket, no clock.

Rules of this file:

- What is legal when is a table, `TRANSITIONS`: state by command.
- Replies come in the order of the commands (RFC 2449 §6.6). Only commands that keep the
  state may be sent ahead of replies; STLS and QUIT stand alone. Behind a login that is
  not answered yet goes what asks of the maildrop, and nothing that retrieves or marks.
- A login that is refused while commands stand behind it breaks the session: they were
  said in a state that did not come. A challenge then cannot be answered any more.
- A server speaks when asked. Octets that nobody awaits are no reply to a later command:
  they end the session (a message that ended early would otherwise answer for us).
- Broken stays broken: after an error no command can be sent, not even QUIT, which would
  turn marks into removals.
- Any octets, split anywhere, give the same events, or a RemoteError; nothing else.
- No error and no event repeats what was sent: it may be a password.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Literal, NamedTuple

from popfetchd.errors import (
    Disconnected,
    LimitExceeded,
    LocalProtocolError,
    ProtocolViolation,
    RemoteError,
)
from popfetchd.pop3.multiline import CRLF, MultilineReader
from popfetchd.pop3.replies import Greeting, Reply, parse_reply


LONGEST_COMMAND = 255
"""Octets of a command with its CRLF: what RFC 2449 §4 has every server take."""

LONGEST_ANSWER = 12_288
"""
Octets of an answer to a SASL challenge with its CRLF: what RFC 4954 §4 has SMTP take. RFC
5034 §4 sets POP3 no limit.
"""

LONGEST_REPLY = 16_384
"""
Octets of a status line with its line end. RFC 2449 §4 says 512; but a challenge is such
a line too, of up to 12,288 octets (RFC 4954 §4), and some greetings are talkative.
"""


class State(StrEnum):
    """
    The states of RFC 1939 §3, and three of ours.

    CONNECTED: the greeting is awaited. CLOSED: ended properly. BROKEN: out of step.
    """

    CONNECTED = "CONNECTED"
    AUTHORIZATION = "AUTHORIZATION"
    TRANSACTION = "TRANSACTION"
    UPDATE = "UPDATE"
    CLOSED = "CLOSED"
    BROKEN = "BROKEN"


class Command(StrEnum):
    """
    The keywords. GREETING is none, but is awaited like the reply to one.
    """

    GREETING = "greeting"
    CAPA = "CAPA"
    STLS = "STLS"
    UTF8 = "UTF8"
    USER = "USER"
    PASS = "PASS"  # noqa: S105 -- the keyword
    APOP = "APOP"
    AUTH = "AUTH"
    STAT = "STAT"
    LIST = "LIST"
    UIDL = "UIDL"
    TOP = "TOP"
    RETR = "RETR"
    DELE = "DELE"
    NOOP = "NOOP"
    RSET = "RSET"
    QUIT = "QUIT"


class Move(NamedTuple):
    """
    Where a command leads: once sent, after +OK, and after -ERR.
    """

    sent: State
    ok: State
    refused: State


_STAY_OUT = Move(State.AUTHORIZATION, State.AUTHORIZATION, State.AUTHORIZATION)
_LOG_IN = Move(State.AUTHORIZATION, State.TRANSACTION, State.AUTHORIZATION)
_STAY_IN = Move(State.TRANSACTION, State.TRANSACTION, State.TRANSACTION)

TRANSITIONS: dict[State, dict[Command, Move]] = {
    State.CONNECTED: {
        Command.GREETING: Move(State.CONNECTED, State.AUTHORIZATION, State.CLOSED),
    },
    State.AUTHORIZATION: {
        Command.CAPA: _STAY_OUT,
        Command.STLS: _STAY_OUT,  # RFC 2595 §4: in this state only
        Command.UTF8: _STAY_OUT,  # RFC 6856 §2: in this state only
        Command.USER: _STAY_OUT,
        Command.PASS: _LOG_IN,
        Command.APOP: _LOG_IN,
        Command.AUTH: _LOG_IN,
        Command.QUIT: Move(State.AUTHORIZATION, State.CLOSED, State.CLOSED),
    },
    State.TRANSACTION: {
        Command.CAPA: _STAY_IN,
        Command.STAT: _STAY_IN,
        Command.LIST: _STAY_IN,
        Command.UIDL: _STAY_IN,
        Command.TOP: _STAY_IN,
        Command.RETR: _STAY_IN,
        Command.DELE: _STAY_IN,
        Command.NOOP: _STAY_IN,
        Command.RSET: _STAY_IN,
        # RFC 1939 §6: QUIT enters UPDATE, and the server closes also after -ERR.
        Command.QUIT: Move(State.UPDATE, State.CLOSED, State.CLOSED),
    },
    State.UPDATE: {Command.QUIT: Move(State.UPDATE, State.CLOSED, State.CLOSED)},
    State.CLOSED: {},
    State.BROKEN: {},
}
"""What may be sent in each state, and where it leads."""

LOGGING_IN = frozenset({Command.USER, Command.PASS, Command.APOP, Command.AUTH})
"""The commands of a login: what stands behind one that is refused is of no use."""

SENT_AHEAD = frozenset(
    {
        Command.CAPA,
        Command.STAT,
        Command.LIST,
        Command.UIDL,
        Command.TOP,
        Command.RETR,
        Command.DELE,
        Command.NOOP,
    }
)
"""What may be pipelined: commands that leave the state, and each other, alone."""

_ASKING = frozenset({Command.CAPA, Command.STAT, Command.LIST, Command.UIDL})

SENT_BEHIND: dict[Command, frozenset[Command]] = {
    Command.UTF8: frozenset({Command.USER, Command.APOP, Command.AUTH}),
    Command.USER: frozenset({Command.PASS}),
    Command.PASS: _ASKING,
    Command.APOP: _ASKING,
    Command.AUTH: _ASKING,
    Command.CAPA: _ASKING,
    Command.STAT: _ASKING,
    Command.LIST: _ASKING,
    Command.UIDL: _ASKING,
}
"""
What may be sent right behind each command before we are logged in: the login whole, and
questions. RFC 2449 §6.6 excludes no command; a server that cannot take these so must not
announce PIPELINING in AUTHORIZATION.
"""

MULTILINE = frozenset(
    {Command.CAPA, Command.LIST, Command.UIDL, Command.TOP, Command.RETR}
)
"""Commands whose +OK a body follows; LIST and UIDL with an argument have none."""


# -- events ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GreetingReceived:
    """
    The server spoke first. After -ERR (`reply.ok` is false) the session is closed.
    """

    reply: Reply
    greeting: Greeting


@dataclass(frozen=True, slots=True)
class ReplyReceived:
    """
    A status line; where it is a +OK to one of MULTILINE, a body follows.
    """

    command: Command
    reply: Reply


@dataclass(frozen=True, slots=True)
class BodyChunk:
    """
    Octets of a message or a listing, unstuffed.
    """

    command: Command
    data: bytes


@dataclass(frozen=True, slots=True)
class BodyEnd:
    """
    The message or listing is complete.
    """

    command: Command


@dataclass(frozen=True, slots=True)
class Continuation:
    """
    AUTH: a challenge, still in base64, that `answer` has to answer (RFC 5034 §4).
    """

    data: bytes


Event = GreetingReceived | ReplyReceived | BodyChunk | BodyEnd | Continuation


class NeedData(Enum):
    """
    No event: more octets are needed first.
    """

    NEED_DATA = "NEED_DATA"


NEED_DATA: Literal[NeedData.NEED_DATA] = NeedData.NEED_DATA


# -- the engine -----------------------------------------------------------------------


class _Awaited(NamedTuple):
    command: Command
    multiline: bool


class Protocol:
    """
    One session's state, as a client sees it.

    Feed it with `receive`, then take `next_event` until NEED_DATA; write what `send` and
    `answer` return to the server.
    """

    def __init__(self) -> None:
        self._state = State.CONNECTED
        self._prospect = State.CONNECTED
        """Where the session stands once all that is awaited has been +OK."""
        self._awaited = deque([_Awaited(Command.GREETING, multiline=False)])
        self._challenged = False
        self._body: MultilineReader | None = None
        self._buffer = b""
        self._at = 0

    @property
    def state(self) -> State:
        """
        Where the session stands.
        """
        return self._state

    @property
    def step(self) -> str:
        """
        What the server has to do next: a keyword, "greeting", or "idle".
        """
        return self._awaited[0].command if self._awaited else "idle"

    @property
    def idle(self) -> bool:
        """
        Whether no reply, or part of one, is awaited.
        """
        return not self._awaited

    @property
    def unread(self) -> int:
        """
        Octets that were received and belong to no event yet.
        """
        return len(self._buffer) - self._at

    def send(self, command: Command, *arguments: bytes) -> bytes:
        """
        Return the octets of *command*, whose reply is awaited from now on.

        Raises LocalProtocolError when the state forbids it, or when the arguments make
        it more than one line or too long a line; ProtocolViolation when the server has
        already said what nobody asked for.
        """
        move = TRANSITIONS[self._prospect].get(command)
        if move is None or not self._may_follow(command):
            raise LocalProtocolError(command, self._state)
        line = self._line(command, b" ".join((command.encode(), *arguments)))
        self._refuse_unasked(command)
        if not self._awaited:
            self._state = move.sent
        self._prospect = move.ok
        single = bool(arguments) and command in {Command.LIST, Command.UIDL}
        self._awaited.append(_Awaited(command, command in MULTILINE and not single))
        return line

    def answer(self, data: bytes) -> bytes:
        """
        Return the octets that answer a challenge with *data*, already in base64.

        Raises LocalProtocolError when there was no challenge, or *data* fits no line.
        """
        if not self._challenged:
            raise LocalProtocolError("an answer without challenge", self._state)
        line = self._line("an answer", data, LONGEST_ANSWER)
        self._challenged = False
        return line

    def receive(self, data: bytes) -> None:
        """
        Take octets from the server.
        """
        self._buffer = self._buffer[self._at :] + data
        self._at = 0

    def receive_eof(self) -> None:
        """
        Take notice that the server sends no more; every event was taken before.

        Raises Disconnected, unless the session had been closed.
        """
        if self._state is not State.CLOSED:
            self.abandon()
            raise Disconnected(self.step, "the server closed the connection")

    def abandon(self) -> None:
        """
        Break the session: no command can be sent any more.
        """
        if self._state is not State.CLOSED:
            self._state = self._prospect = State.BROKEN

    def next_event(self) -> Event | Literal[NeedData.NEED_DATA]:
        """
        Return what the server said next, or NEED_DATA.

        Raises RemoteError, which breaks the session; LocalProtocolError once broken.
        """
        if self._state is State.BROKEN:
            raise LocalProtocolError("reading", self._state)
        try:
            return self._read_body(self._body) if self._body else self._read_line()
        except RemoteError:
            self.abandon()
            raise

    # -- sending

    def _may_follow(self, command: Command) -> bool:
        """
        Tell whether *command* may be sent before the replies that are awaited.
        """
        if not self._awaited:
            return True
        last = self._awaited[-1].command
        if self._state is State.AUTHORIZATION:
            return command in SENT_BEHIND.get(last, ())
        return {command, last} <= SENT_AHEAD

    def _line(self, name: str, text: bytes, longest: int = LONGEST_COMMAND) -> bytes:
        if any(octet in text for octet in (b"\r", b"\n", b"\0")):
            raise LocalProtocolError(f"{name} with CR, LF or NUL", self._state)
        if len(text) + len(CRLF) > longest:
            raise LocalProtocolError(f"{name} of over {longest} octets", self._state)
        return text + CRLF

    def _refuse_unasked(self, step: str) -> None:
        if self.idle and self.unread:
            self.abandon()
            unasked = self._buffer[self._at :]
            raise ProtocolViolation(step, "octets that nobody asked for", unasked)

    # -- receiving

    def _read_line(self) -> Event | Literal[NeedData.NEED_DATA]:
        self._refuse_unasked(self.step)
        end = self._buffer.find(b"\n", self._at) + 1
        length = end - self._at if end else self.unread + 1
        if length > LONGEST_REPLY:
            raise LimitExceeded("LONGEST_REPLY", LONGEST_REPLY)
        if not end:
            return NEED_DATA
        line, self._at = self._buffer[self._at : end], end
        return self._understand(line)

    def _understand(self, line: bytes) -> Event:
        """
        Turn a line, with its line end, into the event it is for the command awaited.
        """
        command, multiline = self._awaited[0]
        line_end = CRLF if line.endswith(CRLF) else b"\n"
        text = line.removesuffix(line_end)
        if command is Command.AUTH and (text == b"+" or text.startswith(b"+ ")):
            if len(self._awaited) > 1:  # what stands behind it is taken for the answer
                raise ProtocolViolation(
                    command, "a challenge to all that there is", text
                )
            self._challenged = True
            return Continuation(text[2:])
        reply = parse_reply(command, text)
        if multiline and reply.ok:
            self._at -= len(line_end)
            self._body = MultilineReader(line_end)
        else:
            self._conclude(reply.ok)
        if command is Command.GREETING:
            return GreetingReceived(reply, Greeting.of(reply))
        return ReplyReceived(command, reply)

    def _read_body(self, body: MultilineReader) -> Event | Literal[NeedData.NEED_DATA]:
        command = self._awaited[0].command
        if not body.ended:
            chunk, self._at = body.read(self._buffer, self._at)
            if chunk:
                return BodyChunk(command, chunk)
        if not body.ended:
            return NEED_DATA
        self._body = None
        self._conclude(ok=True)
        return BodyEnd(command)

    def _conclude(self, ok: bool) -> None:
        """
        Count the reply that was awaited as received, and go where it leads.
        """
        command = self._awaited.popleft().command
        move = TRANSITIONS[self._state][command]
        self._state = move.ok if ok else move.refused
        self._challenged = False
        if not self._awaited:
            self._prospect = self._state
        elif not ok and command in LOGGING_IN:
            self.abandon()
