"""
One POP3 session, told as a visit uses it: blocking, in the RFC's words.

Rules of this file:

- One gate: nothing reaches USER, APOP or AUTH but through `Session.login`, which looks at
  the channel first (CVE-2021-39272).
- What was learnt before TLS is forgotten with it: octets behind the +OK to STLS end the
  session, and CAPA is asked again (RFC 2595 §4).
- After any failure but a plain -ERR the session is broken and its socket closed: no
  further command is sent, not even QUIT. `with` closes without QUIT. (The `*` that
  cancels AUTH is no command: it answers the challenge that made no sense.)
- What is pipelined is a generator. When it is abandoned while replies are on their way,
  the session breaks: nobody could tell any more which reply is whose.
- `retrieved` holds each message whose RETR was *sent*, whatever came of it: some servers
  hide or remove such messages at QUIT (Gmail, EXPIRE 0).
- No refusal repeats a credential, also where the server echoes what it was sent.
- The short way: who knows what the server announced last time does not ask again, and
  sends login and first question at once. There every answer is the one expected, or the
  session breaks (docs/adr/0012-the-short-way.md).
"""

from __future__ import annotations

import os

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from enum import StrEnum
from itertools import islice
from types import TracebackType
from typing import Self, TypeVar

from popfetchd.errors import (
    AuthenticationRefused,
    CommandRefused,
    InUse,
    LimitExceeded,
    LocalProtocolError,
    LoginDelayed,
    NetworkError,
    NoMechanism,
    PopfetchdError,
    ProtocolViolation,
    RemoteError,
    ServerRefusal,
    StlsInjected,
    StlsUnavailable,
    SystemPermanent,
    SystemTemporary,
    TokenRefused,
    quote,
)
from popfetchd.pop3 import auth, sasl
from popfetchd.pop3.auth import Credentials
from popfetchd.pop3.deadline import Deadline
from popfetchd.pop3.listings import (
    parse_scan_listing,
    parse_unique_id,
    parse_unique_id_listing,
)
from popfetchd.pop3.multiline import CRLF, Collector
from popfetchd.pop3.pace import Pace
from popfetchd.pop3.protocol import (
    LONGEST_COMMAND,
    BodyChunk,
    Command,
    Continuation,
    Event,
    GreetingReceived,
    NeedData,
    Protocol,
    ReplyReceived,
    State,
)
from popfetchd.pop3.replies import (
    Capabilities,
    Greeting,
    Reply,
    means_credentials,
    parse_drop_listing,
    refusal,
)
from popfetchd.pop3.tls import TlsContexts
from popfetchd.pop3.transport import Transport, connect
from popfetchd.values import (
    AccessToken,
    Announced,
    Channel,
    DropListing,
    Listing,
    Mechanism,
    MessageNumber,
    Secret,
    Server,
    SessionId,
    TlsMode,
    UniqueId,
)


CAPABILITY_OCTETS = 65_536
"""Octets of a reply to CAPA. Real ones have some hundreds."""

LISTING_OCTETS = 33_554_432
"""
Octets of a reply to LIST or UIDL: 32 MiB hold 400,000 of the longest lawful unique-ids
(RFC 1939 §7: 70 characters, and the number before them), a million of usual ones (20).
"""

TOP_OCTETS = 1_048_576
"""
Octets kept of each reply to TOP. Headers of more than this are an attack; what is behind
is thrown away, so that one such message does not hold up its maildrop.
"""

MOST_REMEMBERED = 4_096
"""Octets of capabilities that are worth remembering. Real ones have some hundreds."""

SPEAKS_OF_ITSELF = (InUse, LoginDelayed, SystemPermanent, SystemTemporary)
"""Refusals that are meant, whenever a server says them."""

_Answer = TypeVar("_Answer")

Line = tuple[Command, *tuple[bytes, ...]]
"""A command and its arguments."""

LISTING: tuple[Line, ...] = ((Command.UIDL,), (Command.LIST,))
"""The question that `Session.listing` takes the answers to."""


def glancing(number: MessageNumber) -> tuple[Line, ...]:
    """
    Return the question that `Session.glance` takes the answers to.
    """
    return (Command.STAT,), (Command.UIDL, b"%d" % number)


PIPELINE_DEPTH = 200
"""
Commands whose replies are awaited at once. Their octets (at most 18 each, 3.6 kB in all)
fit any transport's window, as RFC 2449 §6.6 asks: no system has a smaller one than 4 kB.
All of them count as `retrieved`.
"""

PIPELINE_OCTETS = 4 * 1024**2
"""
Octets, as listed, of the messages that are awaited at once, two of them at least: enough
for a gigabit a second at 30 ms. More would come all the same when a visit is to stop.
"""


def weightless(_number: MessageNumber) -> int:
    """
    Say that a message has no octets: nobody knows how many.
    """
    return 0


class Occasion(StrEnum):
    """
    When CAPA is asked: behind the greeting, behind STLS, behind the login.
    """

    GREETING = "greeting"
    STLS = "stls"
    LOGIN = "login"


def open_session(
    server: Server,
    contexts: TlsContexts,
    deadline: Deadline,
    expected: Announced | None = None,
) -> Session:
    """
    Connect, and return a session that is ready for `login`.

    Takes the greeting, asks CAPA unless the answer is *expected*, and starts TLS by STLS
    where the policy says so.

    Raises NetworkError; TlsError (StlsUnavailable, StlsInjected, CertificateRefused …);
    ServerRefusal when the server turns us away; RemoteError; ConfigurationError.
    """
    session = Session(server, connect(server, contexts, deadline), expected=expected)
    session.begin(contexts)
    return session


class Session:
    """
    One connection to one maildrop, from the greeting to QUIT.

    Each method may raise NetworkError and RemoteError (ProtocolViolation, LimitExceeded),
    after which the session is broken; LocalProtocolError when it was called out of place;
    and ServerRefusal for a -ERR, which leaves the session as it was.
    """

    def __init__(
        self,
        server: Server,
        transport: Transport,
        pace: Pace | None = None,
        expected: Announced | None = None,
    ) -> None:
        self.id = SessionId(os.urandom(8).hex())
        self.greeting = Greeting("", None)
        self.capabilities = Capabilities()
        """As of now: they may change with TLS and with the login."""
        self.announced: dict[Occasion, Capabilities | None] = {}
        """What CAPA said each time; None where it was refused. For people only."""
        self.mechanism: Mechanism | None = None
        """How we logged in; never AUTO."""
        self.tried: Mechanism | None = None
        """How we tried to; never AUTO."""
        self.retrieved: set[MessageNumber] = set()
        """Every message whose RETR was sent, also those that never came."""
        self._server = server
        self._transport = transport
        self._protocol = Protocol()
        self._pace = pace or Pace()
        self._expected = expected
        self._sent: tuple[Line, ...] = ()
        """The question that went with the login, and is not answered yet."""
        self._ahead = False
        """Whether any did."""
        self._lists_all = True
        """Whether neither UIDL nor LIST was refused."""
        self._to_ask = False
        """Whether CAPA is still to be asked behind the login."""
        self._unspoken: tuple[bytes, ...] = ()
        """What no error of this session may repeat: some servers echo, also later."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def channel(self) -> Channel:
        """
        What the connection is made of.
        """
        return self._transport.channel

    @property
    def state(self) -> State:
        """
        Where the session stands; CLOSED and BROKEN take no command.
        """
        return self._protocol.state

    @property
    def unread(self) -> int:
        """
        Octets of what the server had begun to say, also where the line dropped then.
        """
        return self._protocol.unread

    # -- beginning

    def begin(self, contexts: TlsContexts) -> None:
        """
        Take the greeting, ask CAPA if it is not known, and start TLS by STLS.

        `open_session` does this; it is done once.
        """
        with self._breaking():
            self._take_greeting()
            self._learn_capabilities(Occasion.GREETING)
            if self._server.tls.mode is TlsMode.STLS:
                self._start_tls(contexts)
                self._learn_capabilities(Occasion.STLS)

    def _take_greeting(self) -> None:
        event = self._event()
        assert isinstance(event, GreetingReceived)  # noqa: S101 -- what comes first
        if not event.reply.ok:
            raise refusal(Command.GREETING, event.reply)
        self.greeting = event.greeting

    def _learn_capabilities(self, occasion: Occasion) -> None:
        """
        Take those that are expected, or ask.
        """
        if self._expected is None:
            self._ask_capabilities(occasion)
        else:
            self.capabilities = Capabilities.of(self._expected.before)

    def _ask_capabilities(self, occasion: Occasion) -> None:
        """
        Ask CAPA (RFC 2449 §5). Where it is refused, what was known before stays.
        """
        self._hear_capabilities(occasion, self._exchange(Command.CAPA))

    def _hear_capabilities(self, occasion: Occasion, reply: Reply) -> None:
        self.announced[occasion] = None
        if reply.ok:
            body = self._collect("CAPABILITY_OCTETS", CAPABILITY_OCTETS)
            self.capabilities = Capabilities.parse(body)
            self.announced[occasion] = Capabilities.parse(self._masked(body))

    def _start_tls(self, contexts: TlsContexts) -> None:
        """
        Start TLS inside this connection (RFC 2595 §4), or raise TlsError.
        """
        host = self._server.host
        if self._expected is None and not self.capabilities.has("STLS"):
            raise StlsUnavailable(host, "the server does not offer it")
        if not self._exchange(Command.STLS).ok:
            raise StlsUnavailable(host, "the server offered it, and refused it")
        self._protocol.receive(self._transport.waiting(Command.STLS))
        if self._protocol.unread:
            raise StlsInjected(host, self._protocol.unread)
        self._transport.start_tls(contexts)
        self.capabilities = Capabilities()

    # -- logging in

    def login(
        self,
        user: str,
        secret: Secret,
        mechanism: Mechanism,
        *,
        question: tuple[Line, ...] = (),
    ) -> None:
        """
        Log in with *mechanism*, and ask CAPA again (RFC 2449 §5): now, or together with
        the *question* that comes next (LISTING) where that saves a round trip. Where it
        is known that the server takes both with the login, they go with it.

        AUTO takes the strongest that the server offers on this channel (`auth.choose`).
        Raises AuthenticationRefused, InUse, LoginDelayed, SystemTemporary,
        SystemPermanent; and NoMechanism, with no credential sent, when the mechanism or
        the credentials cannot be used here.
        """
        self._gate(secret)
        credentials = Credentials(user, secret, mechanism)
        tls = self.channel.tls_version is not None
        chosen = auth.choose(mechanism, credentials, self.capabilities, tls=tls)
        self.tried = chosen
        exchange = auth.exchange(chosen, credentials, self._server)
        self._unspoken = (credentials.proof,)
        lines = self._login_lines(chosen, exchange, credentials)
        if lines and question and self._takes_ahead:
            self._log_in_ahead(chosen, exchange, lines, question)
        else:
            self._log_in(chosen, exchange, lines)
        self.mechanism = chosen
        self._to_ask = self._ahead or (
            bool(question) and self.capabilities.has("PIPELINING")
        )
        if not self._to_ask:
            self._ask_capabilities(Occasion.LOGIN)

    @property
    def _takes_ahead(self) -> bool:
        """
        Whether the server announced PIPELINING in both states: in one says nothing of
        the other, and of the login itself least.
        """
        known = self._expected
        return known is not None and all(
            Capabilities.of(lines).has("PIPELINING")
            for lines in (known.before, known.after)
        )

    def _gate(self, secret: Secret) -> None:
        """
        Let credentials pass over TLS; in clear only where the operator wrote `none`.

        An access token never does (RFC 6750 §5.3): whoever sees it can use it.
        """
        written_out = self._server.tls.mode is TlsMode.NONE
        may_be_seen = written_out and not isinstance(secret, AccessToken)
        if self.channel.tls_version is None and not may_be_seen:
            raise LocalProtocolError("login without TLS", self.state)

    @property
    def _wants_utf8(self) -> bool:
        """
        Whether to have messages sent as they are, and not in a form for older clients
        (RFC 6856).

        Before the login it is allowed, after STLS. A refusal is the server's loss of what
        it announced, no reason to leave its mail there. Why at all, and why no LANG:
        docs/adr/0009-utf8.md.
        """
        return self._server.utf8 and self.capabilities.has("UTF8")

    def _log_in(
        self,
        chosen: Mechanism,
        exchange: sasl.SaslMechanism | None,
        lines: tuple[Line, ...],
    ) -> None:
        """
        Log in step by step: by an *exchange*, or by *lines*.
        """
        if self._wants_utf8:
            self._exchange(Command.UTF8)
        if exchange:
            self._authenticate(chosen, exchange)
        else:
            for line in lines:
                self._demand(*line)

    def _log_in_ahead(
        self,
        chosen: Mechanism,
        exchange: sasl.SaslMechanism | None,
        lines: tuple[Line, ...],
        question: tuple[Line, ...],
    ) -> None:
        """
        Send *lines*, CAPA and *question* at once, and hear what becomes of the login.

        Nothing of this is sent before the greeting, none of it retrieves or marks. After
        a refusal the session is broken: what stood behind it was said to nobody.
        """
        utf8: tuple[Line, ...] = ((Command.UTF8,),) if self._wants_utf8 else ()
        self._listen_before(lines[0][0])
        self._ahead, self._sent = True, question
        with self._breaking():
            every = (*utf8, *lines, (Command.CAPA,), *question)
            self._write(b"".join(self._protocol.send(*line) for line in every))
            for _ in utf8:
                _reply(self._event())
            for command, *_ in lines:
                reply = _reply(self._event())
                if not reply.ok:
                    raise self._login_refusal(command, chosen, exchange, reply)
            if exchange:
                exchange.finish()

    def _login_refusal(
        self,
        command: Command,
        chosen: Mechanism,
        exchange: sasl.SaslMechanism | None,
        reply: Reply,
    ) -> RemoteError:
        if exchange:
            return self._auth_refusal(chosen, exchange, reply)
        return self._refusal(command, reply)

    def _login_lines(
        self,
        chosen: Mechanism,
        exchange: sasl.SaslMechanism | None,
        credentials: Credentials,
    ) -> tuple[Line, ...]:
        """
        Return the commands that are the whole of a login; none where it takes answers.
        """
        if exchange:
            line = self._auth_line(exchange) if exchange.whole else None
            return () if line is None else (line,)
        if chosen is Mechanism.APOP:
            return self._apop_lines(credentials)
        name, password = credentials.name, credentials.proof
        _must_fit(Mechanism.USER, b"USER", name)
        _must_fit(Mechanism.USER, b"PASS", password)
        return (Command.USER, name), (Command.PASS, password)

    def _apop_lines(self, credentials: Credentials) -> tuple[Line, ...]:
        if self.greeting.timestamp is None:
            problem = "the greeting has no timestamp of the form that is safe to answer"
            raise NoMechanism(Mechanism.APOP, problem)
        name, digest = auth.apop(self.greeting.timestamp, credentials)
        _must_fit(Mechanism.APOP, b"APOP", name, digest)
        self._unspoken = (credentials.proof, digest)
        return ((Command.APOP, name, digest),)

    def _authenticate(self, chosen: Mechanism, exchange: sasl.SaslMechanism) -> None:
        """
        Do one exchange of AUTH (RFC 5034 §4). Raises the refusal of a -ERR.
        """
        self._listen_before(Command.AUTH)
        with self._breaking():
            reply = self._converse(exchange)
            if reply.ok:
                exchange.finish()
                return
        raise self._auth_refusal(chosen, exchange, reply)

    def _auth_refusal(
        self, chosen: Mechanism, exchange: sasl.SaslMechanism, reply: Reply
    ) -> RemoteError:
        """
        Return what a -ERR to AUTH means: of what was sent, or of AUTH itself.
        """
        refused = self._refusal(Command.AUTH, reply)
        if type(refused) is not AuthenticationRefused:
            return refused
        if len(self._unspoken) == 1 and reply.code is None:  # nothing was sent
            problem = f"the server does not take it: {quote(refused.text)}"
            return NoMechanism(chosen, problem)
        said = (Command.AUTH, refused.text, exchange.name, self._masked(exchange.told))
        if chosen in auth.TOKEN_MECHANISMS:
            return TokenRefused(*said, len(self._unspoken[0]))
        return AuthenticationRefused(*said)

    def _converse(self, exchange: sasl.SaslMechanism) -> Reply:
        owed = self._begin_auth(exchange)
        for _ in range(sasl.MOST_CHALLENGES):
            event = self._event()
            if not isinstance(event, Continuation):
                return _reply(event)
            with self._cancelling():
                challenge = sasl.decode(event.data)
                answer = exchange.respond(challenge) if owed is None else owed
            owed = None
            self._write(self._protocol.answer(self._spoken(answer)))
        raise LimitExceeded("MOST_CHALLENGES", sasl.MOST_CHALLENGES)

    def _begin_auth(self, exchange: sasl.SaslMechanism) -> bytes | None:
        """
        Send AUTH; return the initial response if it has yet to be sent.
        """
        line = self._auth_line(exchange)
        if line is not None:
            self._write(self._protocol.send(*line))
            return None
        self._write(self._protocol.send(Command.AUTH, exchange.name.encode()))
        return exchange.initial()

    def _auth_line(self, exchange: sasl.SaslMechanism) -> Line | None:
        """
        Return AUTH with the initial response, where it may stand in its line.

        RFC 5034 §4: with the command only if CAPA listed SASL and the line is not too
        long; otherwise it answers an empty challenge.
        """
        name, initial = exchange.name.encode(), exchange.initial()
        listed = exchange.ahead and exchange.name in self.capabilities.sasl
        if initial is None or not listed:
            return None
        encoded = sasl.encode_initial(initial)
        if not _fits(b"AUTH", name, encoded):
            return None
        self._spoken(initial)
        return Command.AUTH, name, encoded

    def _spoken(self, answer: bytes) -> bytes:
        """
        Return *answer* in base64, which no error is to repeat.
        """
        encoded = sasl.encode(answer)
        if encoded not in self._unspoken:
            self._unspoken = (*self._unspoken, encoded)
        return encoded

    @contextmanager
    def _cancelling(self) -> Iterator[None]:
        """
        Tell the server when its challenge makes no sense (RFC 5034 §4: MUST).
        """
        try:
            yield
        except RemoteError:
            with suppress(NetworkError):
                self._write(self._protocol.answer(sasl.CANCEL))
            raise

    # -- the maildrop

    def stat(self) -> DropListing:
        """
        Return what STAT claims (RFC 1939 §5): bounded, otherwise not to be believed.
        """
        text = self._demand(Command.STAT).text
        with self._breaking():
            return parse_drop_listing(text)

    def listing(self) -> Listing:
        """
        Return the unique-id listing and the scan listing (RFC 1939 §7 and §5).

        UIDL is tried also where CAPA does not list it. Where it is refused, there are no
        unique-ids; where only LIST is, there are no octets; where both are, the refusal
        is raised unless STAT tells that the maildrop is empty. A refusal that has a
        response code, e.g. [SYS/TEMP], is always raised.
        """
        answers = dict(self._asked(LISTING, self._listing_answer))
        return self._listed(answers[Command.UIDL], answers[Command.LIST])

    def _asked(
        self, question: tuple[Line, ...], answer: Callable[[Command], _Answer]
    ) -> Iterator[tuple[Command, _Answer]]:
        """
        Yield the *answer* to each line of *question*; ask first, unless that is done.
        """
        pipelined = self._sent == question or self.capabilities.has("PIPELINING")
        for group in [question] if pipelined else [(line,) for line in question]:
            self._send_all(group)
            for command, *_ in group:
                yield command, answer(command)

    def _send_all(self, question: tuple[Line, ...]) -> None:
        """
        Send *question*, unless it went with the login, behind the CAPA that is owed since
        then, and hear that.
        """
        if self._sent != question:
            lines = ((Command.CAPA,), *question) if self._to_ask else question
            self._listen_before(lines[0][0])
            with self._breaking():
                self._write(b"".join(self._protocol.send(*line) for line in lines))
        self._sent = ()
        if self._to_ask:
            self._to_ask = False
            self._hear_capabilities(Occasion.LOGIN, self._hear(Command.CAPA))

    def _hear(self, command: Command) -> Reply:
        """
        Return the next reply. On the short way its -ERR to *command* ends the session.

        It may be an answer to where the session stood before the login: believed, it
        would make strangers of all messages.
        """
        with self._breaking():
            reply = _reply(self._event())
            if self._ahead and not reply.ok:
                raise self._refusal(command, reply)
        return reply

    def _listing_answer(self, command: Command) -> bytes | ServerRefusal:
        reply = self._hear(command)
        if reply.ok:
            return self._collect("LISTING_OCTETS", LISTING_OCTETS)
        self._lists_all = False
        return self._refusal(command, reply)

    def _listed(
        self, ids: bytes | ServerRefusal, sizes: bytes | ServerRefusal
    ) -> Listing:
        refusals = [it for it in (ids, sizes) if isinstance(it, ServerRefusal)]
        for refused in refusals:
            if type(refused) is not CommandRefused:
                raise refused
        if len(refusals) == 2 and self.stat().messages:
            raise refusals[-1]
        with self._breaking():
            return Listing(
                self.id,
                parse_scan_listing(sizes) if isinstance(sizes, bytes) else {},
                parse_unique_id_listing(ids) if isinstance(ids, bytes) else {},
            )

    def glance(self, number: MessageNumber) -> tuple[DropListing, UniqueId | None]:
        """
        Return what STAT claims, and the unique-id of message *number*, if it is there.
        """
        answers = dict(self._asked(glancing(number), self._glance_answer))
        with self._breaking():
            drop = parse_drop_listing(answers[Command.STAT].text)
            named = answers[Command.UIDL]
            return drop, parse_unique_id(named.text, number) if named.ok else None

    def _glance_answer(self, command: Command) -> Reply:
        # A message of this number there may be no more; a maildrop there is.
        if command is Command.UIDL:
            return _reply(self._event())
        reply = self._hear(command)
        if not reply.ok:
            raise self._refusal(command, reply)
        return reply

    # -- what it was like

    @property
    def announced_in_all(self) -> Announced | None:
        """
        What CAPA said before the login and behind it, for a later session to expect.

        None where it was not asked, or refused, or said more than is worth to remember;
        or where the listing was refused in part: no short way leads there. Nor where
        credentials stand in it: masked, it might announce something else, and a weaker
        mechanism be chosen for that.
        """
        known = self._expected
        before = known.before if known else self._announced_before()
        after = self.announced.get(Occasion.LOGIN)
        if before is None or after is None or not self._lists_all:
            return None
        said = "\n".join((*before, *after.lines)).encode("latin-1")
        masked = after != self.capabilities or self._masked(said) != said
        if masked or len(said) > MOST_REMEMBERED:
            return None
        return Announced(before, after.lines)

    def _announced_before(self) -> tuple[str, ...] | None:
        occasions = (Occasion.STLS, Occasion.GREETING)  # what TLS made void, is
        asked = next((each for each in occasions if each in self.announced), None)
        said = self.announced[asked] if asked else None
        return None if said is None else said.lines

    def may_be_untimely(self, error: PopfetchdError) -> bool:
        """
        Tell whether *error* may come of the short way: of what was not asked, or was
        said too soon. What the server says of itself or, with a code, of the credentials
        is believed (no second login, which might lock the account).
        """
        if self._expected is None or not isinstance(error, NetworkError | RemoteError):
            return False
        if isinstance(error, AuthenticationRefused):
            return self._ahead and not means_credentials(error.text)
        return not isinstance(error, SPEAKS_OF_ITSELF)

    # -- some messages

    def top(
        self, numbers: Iterable[MessageNumber], lines: int = 0
    ) -> Iterator[tuple[MessageNumber, bytes | ServerRefusal]]:
        """
        Yield the header of each message and *lines* of its body (TOP, RFC 1939 §7).

        Pipelined. Of each, TOP_OCTETS are kept at most.
        """
        with self._undivided(Command.TOP):
            for number, reply in self._pipelined(Command.TOP, numbers, b"%d" % lines):
                if reply.ok:
                    yield number, _head(Body(self._event))
                else:
                    yield number, self._refusal(Command.TOP, reply)

    def retrieve(
        self,
        numbers: Iterable[MessageNumber],
        *,
        octets: Callable[[MessageNumber], int] = weightless,
        followed: bool = False,
    ) -> Iterator[tuple[MessageNumber, Body | ServerRefusal]]:
        """
        Yield each message as an iterator of its octets (RETR, RFC 1939 §5).

        Pipelined: up to PIPELINE_DEPTH messages are on their way, or PIPELINE_OCTETS by
        what *octets* says of each, when it was taken from *numbers*. A body that was not
        read to its end is skipped when the next message is asked for, and cannot be read
        any more. Closing this generator early breaks the session. With *followed*, NOOP is
        said behind the last one: an answer shows that it had ended where it seemed to.
        Behind a refusal it is said only where it had to be sent ahead.
        """
        with self._undivided(Command.RETR):
            behind = Command.NOOP if followed else None
            replies = self._pipelined(
                Command.RETR, numbers, behind=behind, octets=octets
            )
            reply = None
            for number, reply in replies:
                if reply.ok:
                    body = Body(self._event)
                    yield number, body
                    body.skip()
                else:
                    yield number, self._refusal(Command.RETR, reply)
            if followed and ((reply and reply.ok) or not self._protocol.idle):
                self._end_with(Command.NOOP)
                self._hear_nothing(Command.NOOP)

    def delete(
        self, numbers: Iterable[MessageNumber]
    ) -> Iterator[tuple[MessageNumber, ServerRefusal | None]]:
        """
        Mark each message as deleted (DELE, RFC 1939 §5), as this generator is read.

        Pipelined. Yields None where the server agreed. Only the +OK to QUIT removes.
        """
        with self._undivided(Command.DELE):
            for number, reply in self._pipelined(Command.DELE, numbers):
                yield number, None if reply.ok else self._refusal(Command.DELE, reply)

    def reset(self) -> None:
        """
        Unmark every message (RSET, RFC 1939 §5).
        """
        self._demand(Command.RSET)

    def noop(self) -> None:
        """
        Show the server that we are there (NOOP, RFC 1939 §5).
        """
        self._demand(Command.NOOP)

    # -- ending

    def quit(self) -> None:
        """
        End the session: returns when the server has removed what was marked.

        Raises the refusal of a -ERR (RFC 1939 §6: not all of it was removed). After any
        error it is not known what was. Closes the connection in each case.
        """
        try:
            self._demand(Command.QUIT)
        finally:
            self.close()

    def close(self) -> None:
        """
        Close the connection without QUIT: nothing is removed. May be called again.
        """
        self._protocol.abandon()
        self._transport.close()

    # -- commands and replies

    def _exchange(self, command: Command, *arguments: bytes) -> Reply:
        """
        Send one command and return its reply.
        """
        self._listen_before(command)
        with self._breaking():
            self._write(self._protocol.send(command, *arguments))
            return _reply(self._event())

    def _demand(self, command: Command, *arguments: bytes) -> Reply:
        """
        Send one command and return its +OK, or raise what its -ERR means.
        """
        reply = self._exchange(command, *arguments)
        if not reply.ok:
            raise self._refusal(command, reply)
        return reply

    def _refusal(self, command: Command, reply: Reply) -> ServerRefusal:
        """
        Return what a -ERR means, without the credentials.
        """
        text = self._masked(reply.text.encode("latin-1")).decode("latin-1")
        return refusal(command, replace(reply, text=text))

    def _masked(self, octets: bytes) -> bytes:
        # The longest first: a short one may stand within it.
        for credential in sorted(filter(None, self._unspoken), key=len, reverse=True):
            octets = octets.replace(credential, b"(secret)")
        return octets

    def _pipelined(
        self,
        command: Command,
        numbers: Iterable[MessageNumber],
        *more: bytes,
        behind: Command | None = None,
        octets: Callable[[MessageNumber], int] = weightless,
    ) -> Iterator[tuple[MessageNumber, Reply]]:
        """
        Send *command* for each of *numbers*, ahead where that is allowed.

        Yields each reply; its body, if any, must be read before the next one. *numbers*
        is asked when there is room only, so that it may end early. *behind* the last one
        goes a command whose reply is the caller's to take, with `_end_with`.
        """
        depth = PIPELINE_DEPTH if self.capabilities.has("PIPELINING") else 1
        window = Window(iter(numbers), depth, octets)
        while True:
            if window.half_empty:
                batch = window.fill()
                last = behind if window.ended and window.awaited else None
                self._send_ahead(command, batch, more, last)
            if not window.awaited:
                return
            yield window.next(), _reply(self._event())

    def _send_ahead(
        self,
        command: Command,
        batch: list[MessageNumber],
        more: tuple[bytes, ...],
        last: Command | None,
    ) -> None:
        send = self._protocol.send
        with self._breaking():
            lines = [send(command, b"%d" % number, *more) for number in batch]
            if command is Command.RETR:
                self.retrieved.update(batch)
            if last is not None:
                lines.append(send(last))
            if lines:
                self._write(b"".join(lines))

    def _end_with(self, command: Command) -> Reply:
        """
        Return the reply to *command*, which a pipeline may have sent already.
        """
        if self._protocol.step == command:
            return _reply(self._event())
        return self._exchange(command)

    def _collect(self, limit: str, allowed: int) -> bytes:
        """
        Return a body whole. Raises LimitExceeded.
        """
        collector = Collector(limit, allowed)
        with self._breaking():
            for chunk in Body(self._event):
                collector.add(chunk)
        return collector.octets()

    def _event(self) -> Event:
        with self._breaking():
            while isinstance(event := self._protocol.next_event(), NeedData):
                if data := self._received():
                    self._protocol.receive(data)
                else:
                    self._protocol.receive_eof()
            if not isinstance(event, BodyChunk):
                self._pace.begin()
            return event

    def _received(self) -> bytes:
        step, begun = self._protocol.step, self._pace.clock()
        data = self._transport.recv(step)
        self._pace.received(len(data), self._pace.clock() - begun, step)
        return data

    def _write(self, data: bytes) -> None:
        self._transport.send(data, self._protocol.step)

    # -- staying in step

    def _listen_before(self, command: Command) -> None:
        """
        Hear whether the server speaks unasked before *command*, which nothing precedes.

        The engine refuses the command then: the octets would be taken for its reply.
        Raises LocalProtocolError when replies are awaited, or none can come any more.
        """
        if self.state in {State.CLOSED, State.BROKEN}:
            raise LocalProtocolError(command, self.state)
        if not self._protocol.idle:
            raise LocalProtocolError(
                f"{command} amid {self._protocol.step}", self.state
            )
        with self._breaking():
            self._protocol.receive(self._transport.waiting(command))

    def _hear_nothing(self, step: Command) -> None:
        """
        Break the session, with ProtocolViolation, if the server goes on unasked.

        The last reply was then none, but the rest of what seemed to have ended.
        """
        with self._breaking():
            self._protocol.receive(self._transport.waiting(step))
            self._protocol.next_event()

    def _breaking(self) -> Breaking:
        """
        Break the session when anything fails in this block.
        """
        return Breaking(self)

    def _break(self, error: BaseException) -> None:
        self.close()
        if isinstance(error, ProtocolViolation):
            error.octets = self._masked(error.octets)
            error.args = (error.step, error.problem, error.octets)

    @contextmanager
    def _undivided(self, command: Command) -> Iterator[None]:
        """
        Begin *command*; break the session if the block is left while replies are awaited.
        """
        self._listen_before(command)
        try:
            yield
        finally:
            if not self._protocol.idle:
                self.close()


class Window:
    """
    Messages that are awaited: at most *depth*, of so many *octets* each.
    """

    def __init__(
        self,
        numbers: Iterator[MessageNumber],
        depth: int,
        octets: Callable[[MessageNumber], int],
    ) -> None:
        self._numbers = numbers
        self._depth = depth
        self._octets = octets
        self._ahead = 0
        self.awaited: deque[tuple[MessageNumber, int]] = deque()
        self.ended = False
        """There are no more numbers."""

    @property
    def half_empty(self) -> bool:
        """
        Whether it is time to ask for more.
        """
        return not self.ended and self._has_room(0.5)

    def _has_room(self, part: float) -> bool:
        # Behind the one that is being received, the next is always on its way.
        few, light = len(self.awaited) < 2, self._ahead < PIPELINE_OCTETS * part
        return len(self.awaited) <= self._depth * part and (few or light)

    def fill(self) -> list[MessageNumber]:
        """
        Return what there is room for.
        """
        before = len(self.awaited)
        while len(self.awaited) < self._depth and self._has_room(1.0):
            number = next(self._numbers, None)
            if number is None:
                self.ended = True
                break
            self.awaited.append((number, self._octets(number)))
            self._ahead += self.awaited[-1][1]
        return [number for number, _ in islice(self.awaited, before, None)]

    def next(self) -> MessageNumber:
        """
        Return the one whose reply comes next. It is awaited no longer.
        """
        number, octets = self.awaited.popleft()
        self._ahead -= octets
        return number


class Breaking:
    """
    What `Session._breaking` returns. It is entered for each event.
    """

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> None: ...

    def __exit__(
        self, _kind: object, error: BaseException | None, _trace: object
    ) -> None:
        if error is not None:
            self._session._break(error)  # noqa: SLF001 -- its own other half


class Body:
    """
    The octets of one message, in chunks, as they come.

    Reading raises what `Session` raises; LocalProtocolError once it was skipped, so that
    half a message is never taken for a whole one.
    """

    def __init__(self, events: Callable[[], Event]) -> None:
        self._events = events
        self._ended = False
        self._skipped = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._skipped:
            raise LocalProtocolError("reading a skipped message", "skipped")
        if not self._ended:
            event = self._events()
            if isinstance(event, BodyChunk):
                return event.data
            self._ended = True
        raise StopIteration

    def skip(self) -> None:
        """
        Throw away what was not read.
        """
        if not self._ended:
            deque(self, maxlen=0)
            self._skipped = True


def _head(body: Body) -> bytes:
    kept = bytearray()
    for chunk in body:
        kept += chunk[: TOP_OCTETS - len(kept)]
    return bytes(kept)


def _reply(event: Event) -> Reply:
    assert isinstance(event, ReplyReceived)  # noqa: S101 -- the engine answers in order
    return event.reply


# -- credentials ----------------------------------------------------------------------


def _fits(*words: bytes) -> bool:
    return len(b" ".join(words)) + len(CRLF) <= LONGEST_COMMAND


def _must_fit(mechanism: Mechanism, *words: bytes) -> None:
    if not _fits(*words):
        problem = f"the credentials make a command of over {LONGEST_COMMAND} octets"
        raise NoMechanism(mechanism, problem)
