"""
Any octets, any split: a value or a RemoteError, within limits, never another exception.

Rules of this file:

- The invariant stands in `visit`, `engine` and `parsers`; hypothesis (test_fuzz.py) and
  atheris (engine.py) only bring octets. What breaks it raises something that is not ours.
- A `Story` is what a server says: segments, each what one read of the socket gives, and
  the end of the stream behind the last. One that begins with UNASKED has come before
  anybody asked.
- Nothing hangs on chance or on much computing: the nonce of SCRAM is NONCE, and its
  iterations are few.
- The session is the real one; its channel is a list. A refusal (-ERR) that leaves the
  session whole is passed by, as a visit would, so that all of it is reached.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from unittest.mock import patch

from popfetchd.errors import (
    LocalProtocolError,
    NetworkError,
    NoMechanism,
    PopfetchdError,
    RemoteError,
    ServerRefusal,
    TlsError,
)
from popfetchd.pop3 import auth, sasl
from popfetchd.pop3.auth import TOKEN_MECHANISMS, Credentials
from popfetchd.pop3.listings import (
    LONGEST_UNIQUE_ID,
    parse_scan_listing,
    parse_unique_id_listing,
)
from popfetchd.pop3.multiline import MultilineReader
from popfetchd.pop3.protocol import NEED_DATA, BodyChunk, Command, Protocol
from popfetchd.pop3.replies import (
    Capabilities,
    Greeting,
    parse_drop_listing,
    parse_reply,
    refusal,
)
from popfetchd.pop3.sasl import scram
from popfetchd.pop3.session import LISTING, TOP_OCTETS, Session
from popfetchd.pop3.tls import TlsContexts
from popfetchd.values import (
    AccessToken,
    Announced,
    Channel,
    Mechanism,
    MessageNumber,
    Secret,
    Server,
    TlsMode,
    TlsPolicy,
)
from tests.dialogs.script import every_dialog


PASSWORD = "tiger-0-tiger"
NONCE = b"nonce"
CERTIFICATE = Path("client.pem")
"""Never read: no TLS is spoken."""

UNASKED = b"\x01"
BOUNDARY = b"\xfe\xfe"
"""Between two segments, where a story is read from octets."""

NUMBERS = (MessageNumber(1), MessageNumber(2), MessageNumber(7))

LONGEST_SEED = 4096
"""Octets: a longer story shows a limit, and would only slow the fuzzer down."""

EXPECTED = Announced(
    ("PIPELINING", "SASL PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256 EXTERNAL", "UTF8"),
    ("PIPELINING",),
)
"""What the client knows that takes the short way."""

SHORT = len(TlsMode) * len(Mechanism)
"""What makes a story's choice one of the short way."""

COMMANDS: tuple[tuple[Command, ...], ...] = (
    (Command.CAPA,),
    (Command.AUTH,),
    (Command.PASS,),
    (Command.UIDL, Command.LIST),
    (Command.RETR, Command.TOP, Command.RETR, Command.DELE),
    (Command.QUIT,),
)
"""What the engine is asked for before the octets come."""


class Foul(Exception):
    """
    The invariant does not hold.
    """


@dataclass(frozen=True)
class Story:
    """
    What a server says, and to whom. *choice* picks the mechanism, the TLS mode, and whether
    the client takes the short way.
    """

    choice: int
    segments: tuple[bytes, ...]

    @classmethod
    def read(cls, octets: bytes) -> Story:
        """
        Read a story from any octets.
        """
        first = octets[0] if octets else 0
        return cls(first, tuple(octets[1:].split(BOUNDARY)))

    @property
    def octets(self) -> bytes:
        """
        All that the server says.
        """
        return b"".join(self.segments)

    def written(self) -> bytes:
        """
        Return octets that `read` makes this story of.
        """
        return bytes([self.choice]) + BOUNDARY.join(self.segments)


class FakeTransport:
    """
    A channel that is a list of segments, and keeps what is sent.
    """

    def __init__(self, segments: tuple[bytes, ...]) -> None:
        self.channel = Channel("127.0.0.1")
        self.sent_in_clear = b""
        self._coming = deque(segments)

    def recv(self, step: str) -> bytes:
        while self._coming:
            if segment := self._coming.popleft().removeprefix(UNASKED):
                return segment
        return b""

    def waiting(self, step: str) -> bytes:
        unasked = self._coming and self._coming[0].startswith(UNASKED)
        return self.recv(step) if unasked else b""

    def send(self, data: bytes, step: str) -> None:
        if self.channel.tls_version is None:
            self.sent_in_clear += data

    def start_tls(self, contexts: TlsContexts) -> None:
        self.channel = replace(self.channel, tls_version="TLSv1.3")

    def close(self) -> None:
        self._coming.clear()


@contextmanager
def _foreseeable() -> Iterator[None]:
    # Also a decorator: to patch costs more than what is tried.
    with (
        patch.object(auth, "new_nonce", lambda: NONCE),
        patch.object(scram, "MOST_ITERATIONS", scram.LEAST_ITERATIONS),
    ):
        yield


@_foreseeable()
def visit(story: Story) -> list[str]:
    """
    Do all that a session can, with a server that says what *story* has.

    Returns the names of what was refused or raised. Raises Foul, or what nobody foresaw.
    """
    told: list[str] = []
    modes = list(TlsMode)
    mode = modes[story.choice % len(modes)]
    transport = FakeTransport(story.segments)
    if mode is TlsMode.IMPLICIT:
        transport.start_tls(TlsContexts())
    server = Server("h", 110, TlsPolicy(mode, client_cert=CERTIFICATE), 1.0)
    mechanisms = list(Mechanism)
    short = story.choice // SHORT % 2
    expected = EXPECTED if short else None
    session = Session(server, transport, expected=expected)  # type: ignore[arg-type]
    mechanism = mechanisms[story.choice // len(modes) % len(mechanisms)]
    for step in _steps(session, mechanism, _secret(mechanism, mode), short=bool(short)):
        with _expecting(told):
            step()
        if session.state in {"BROKEN", "CLOSED"}:
            break
        if told and session.state == "AUTHORIZATION":
            break
    _check_gate(mode, transport)
    session.close()
    return told


def _secret(mechanism: Mechanism, mode: TlsMode) -> Secret:
    # No access token in clear: the session takes that for a mistake of ours.
    token = mechanism in TOKEN_MECHANISMS and mode is not TlsMode.NONE
    return (AccessToken if token else Secret)(PASSWORD)


def _steps(
    session: Session, mechanism: Mechanism, secret: Secret, *, short: bool
) -> Iterator[Callable[[], object]]:
    yield lambda: session.begin(TlsContexts())
    question = LISTING if short else ()
    yield lambda: session.login("mary", secret, mechanism, question=question)
    if short:
        yield lambda: _see_listing(session)
    yield session.stat
    yield lambda: _see_listing(session)
    yield lambda: [_see_head(head) for _, head in session.top(NUMBERS)]
    yield lambda: [deque(body, maxlen=0) for _, body in _bodies(session)]
    yield lambda: list(session.delete(NUMBERS))
    yield session.noop
    yield session.reset
    yield session.quit


def _bodies(session: Session) -> Iterator[tuple[MessageNumber, Iterator[bytes]]]:
    for number, body in session.retrieve(NUMBERS):
        if not isinstance(body, ServerRefusal):
            yield number, body


def _see_listing(session: Session) -> None:
    listing = session.listing().named
    for number in listing.numbers:
        listed = listing.listed(number)
        if number < 1 or (listed.octets or 0) < 0 or listed.times < 1:
            raise Foul(repr(listed))
        if listed.unique_id is not None and not (
            1 <= len(listed.unique_id) <= LONGEST_UNIQUE_ID
        ):
            raise Foul(repr(listed))
    if listing.drop.messages != len(listing.numbers):
        raise Foul("the drop listing does not count the listing")


def _see_head(head: bytes | ServerRefusal) -> None:
    if isinstance(head, bytes) and len(head) > TOP_OCTETS:
        raise Foul("more of a header than TOP_OCTETS")


@contextmanager
def _expecting(told: list[str]) -> Iterator[None]:
    """
    Take what a server may cause; it must be told in printable ASCII, without a secret.
    """
    try:
        yield
    except LocalProtocolError:
        raise  # a server cannot make *us* break the rules
    except (RemoteError, NetworkError, TlsError, NoMechanism) as error:
        _check_sentence(error)
        told.append(type(error).__name__)


def _check_sentence(error: PopfetchdError) -> None:
    sentence = f"{error} {error.hint}"
    if not (sentence.isascii() and sentence.isprintable()):
        raise Foul(f"not printable: {sentence!a}") from error
    if PASSWORD in sentence:
        raise Foul(f"the password is told: {sentence}") from error


def _check_gate(mode: TlsMode, transport: FakeTransport) -> None:
    if mode is not TlsMode.NONE and b"mary" in transport.sent_in_clear:
        raise Foul(f"a credential in clear: {transport.sent_in_clear!r}")


# -- the engine alone, at every split of the story ------------------------------------


def engine(story: Story) -> None:
    """
    The engine gives the same events for the segments as for the whole.
    """
    commands = COMMANDS[story.choice % len(COMMANDS)]
    whole = events(commands, (story.octets,))
    if whole != events(commands, story.segments):
        raise Foul(f"it depends on the split: {story!r}")


def events(
    commands: tuple[Command, ...], segments: tuple[bytes, ...]
) -> list[tuple[object, ...]]:
    """
    Return the events of *segments*, bodies joined, and the error that ended them.
    """
    protocol = _ready(commands)
    told: list[tuple[object, ...]] = []
    bodies: list[bytearray] = []
    try:
        for segment in segments:
            protocol.receive(segment)
            while (event := protocol.next_event()) is not NEED_DATA:
                if not isinstance(event, BodyChunk):
                    told.append(("event", event))
                elif told[-1][0] == "body":
                    bodies[-1] += event.data
                else:
                    bodies.append(bytearray(event.data))
                    told.append(("body", bodies[-1]))
    except RemoteError as error:
        told.append(("error", type(error), error.args[:2]))
    return [*told, ("state", protocol.state)]


def _ready(commands: tuple[Command, ...]) -> Protocol:
    protocol = Protocol()
    opening = [(Command.PASS, b"x")]
    if commands[0] in {Command.AUTH, Command.PASS}:
        opening = []
    protocol.receive(b"+OK\r\n")
    protocol.next_event()
    for command, argument in opening:
        protocol.send(command, argument)
        protocol.receive(b"+OK\r\n")
        protocol.next_event()
    for command in commands:
        protocol.send(command)
    return protocol


# -- each parser ----------------------------------------------------------------------


def parsers(octets: bytes) -> None:
    """
    Each parser gives a value or a RemoteError for any octets.
    """
    for parse in (
        _see_reply,
        Capabilities.parse,
        lambda it: parse_drop_listing(it.decode("latin-1")),
        parse_scan_listing,
        parse_unique_id_listing,
        sasl.decode,
        _see_multiline,
    ):
        with _expecting([]):
            parse(octets)  # type: ignore[operator]


def _see_reply(octets: bytes) -> None:
    reply = parse_reply("RETR", octets)
    timestamp = Greeting.of(reply).timestamp
    if timestamp is not None and not timestamp.isascii() and b"\xff" in timestamp:
        raise Foul(f"a timestamp that is no msg-id: {timestamp!r}")
    _check_sentence(refusal(Command.PASS, reply))


def _see_multiline(octets: bytes) -> None:
    """
    What is read of a body is never more than was sent, and ends where it ends.
    """
    for line_end in (b"\r\n", b"\n"):
        reader, buffer, at, got = MultilineReader(line_end), line_end + octets, 0, 0
        while True:
            chunk, at = reader.read(buffer, at)
            got += len(chunk)
            if reader.ended or not chunk:
                break
        if got > len(octets):
            raise Foul("more octets than were sent")


@_foreseeable()
def exchanges(octets: bytes) -> None:
    """
    The mechanism that the first octet picks answers any challenges, or raises a RemoteError.
    """
    mechanisms = list(Mechanism)
    mechanism = mechanisms[sum(octets[:1]) % len(mechanisms)]
    server = Server("h", 995, TlsPolicy(client_cert=CERTIFICATE), 1.0)
    credentials = Credentials("mary", _secret(mechanism, TlsMode.IMPLICIT), mechanism)
    with _expecting([]):
        exchange = auth.exchange(mechanism, credentials, server)
        if exchange is not None:
            for challenge in octets[1:].split(BOUNDARY):
                exchange.respond(challenge)
            exchange.finish()


# -- seeds ----------------------------------------------------------------------------

_MAIL = b"+OK\r\nSubject: x\r\n\r\n..y\r\n.\r\n"
_IDS = b"+OK\r\n1 a\r\n2  b \r\n7 a\r\n.\r\n"
_SIZES = b"+OK\r\n1 120\r\n2 -1\r\n7 9999999999999999999 x\r\n.\r\n"

_CAPABILITIES = (
    b"",
    b"PIPELINING\r\nTOP\r\nUIDL\r\nLOGIN-DELAY 900 USER\r\nEXPIRE NEVER\r\nSTLS\r\n",
    b"SASL PLAIN LOGIN CRAM-MD5 XOAUTH2\r\nSTLS\r\n",
    b"SASL SCRAM-SHA-256 SCRAM-SHA-1 OAUTHBEARER\r\nSTLS\r\nUTF8 USER\r\n",
)

_LOGINS = (
    (b"+OK\r\n", b"+OK\r\n"),
    (b"+OK\r\n",),
    (b"+ \r\n", b"+OK\r\n"),
    (b"+ PDEuMkBob3N0Pg==\r\n", b"+OK\r\n"),
    (b"+ VXNlciBOYW1lAA==\r\n", b"+ UGFzc3dvcmQA\r\n", b"+OK\r\n"),
    (b"+ \r\n", b"+ cj1ub25jZVgscz1jMkZzZEE9PSxpPTQwOTY=\r\n", b"+ dj1hYmNk\r\n"),
    (b"+ eyJzdGF0dXMiOiI0MDEifQ==\r\n", b"-ERR [AUTH]\r\n"),
)


def seeds() -> Iterator[Story]:
    """
    Yield what the servers of tests/dialogs say, and whole visits to a good one.
    """
    for dialog in every_dialog():
        said = tuple(b"".join(run) for kind, run in dialog.groups() if kind == "S")
        if sum(map(len, said)) <= LONGEST_SEED:
            short = SHORT if dialog.expects else 0
            yield Story(list(TlsMode).index(dialog.tls) + short, said)
    for mode, mechanism, told, login in product(
        range(len(TlsMode)), range(len(Mechanism)), _CAPABILITIES, _LOGINS
    ):
        choice = mode + len(TlsMode) * mechanism
        yield Story(choice, _whole_visit(list(TlsMode)[mode], told, login))
    plain = len(TlsMode) * list(Mechanism).index(Mechanism.PLAIN)
    for number, mode in enumerate(TlsMode):
        yield Story(number + plain + SHORT, _short_visit(mode))


def _whole_visit(
    mode: TlsMode, told: bytes, login: tuple[bytes, ...]
) -> tuple[bytes, ...]:
    capabilities = b"+OK\r\n" + told + b".\r\n"
    tls = (b"+OK\r\n", capabilities) if mode is TlsMode.STLS else ()
    begun = (b"+OK <1.2@host>\r\n", capabilities, *tls, *login, capabilities)
    listings = (b"+OK 3 600\r\n", _IDS, _SIZES)
    messages = (*[_MAIL] * 3, *[_MAIL] * 3, *[b"+OK\r\n"] * 3)
    if b"PIPELINING" in told:  # all of a pipeline's replies may come in one read
        listings = (listings[0], _IDS + _SIZES)
        messages = tuple(b"".join(messages[at : at + 3]) for at in (0, 3, 6))
    return (*begun, *listings, *messages, *[b"+OK\r\n"] * 3)


def _short_visit(mode: TlsMode) -> tuple[bytes, ...]:
    usual = _whole_visit(mode, b"PIPELINING\r\n", ())
    tls = (b"+OK\r\n",) if mode is TlsMode.STLS else ()
    logged_in = 2 * b"+OK\r\n" + usual[1] + _IDS + _SIZES  # UTF8, AUTH, CAPA, …
    begun = 5 if mode is TlsMode.STLS else 3
    return (usual[0], *tls, logged_in, *usual[begun:])


def write_seeds(folder: Path) -> None:
    """
    Write the seeds as files into *folder*.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, story in enumerate(seeds()):
        (folder / f"seed{number:04}").write_bytes(story.written())
