r"""
Dialogs as data: strange servers, each a short script, fed to the engine and to a session.

A `.dialog` file, line by line:

- `# text` a comment; the first says what must be true.
- `tls: stls`, `timeout: 0.1` how the client is set up (default: none, 5).
- `expects: PIPELINING, SASL PLAIN` what the client knows of an earlier session, before
  the login and behind it: it takes the short way, `ask:plain` being a login by it that
  lists, `ask:plain:7` one that glances at message 7.
- `do: login list retrieve quit` what the client does; a word may have arguments after
  colons, e.g. `login:apop`, `retrieve:1:2`; `token:xoauth2` is a login by access token.
- `S: text` the server sends the text and CRLF; `s: text` sends it as it is;
  `S*1000: text` a thousand times. `\xNN`, `\r`, `\n`, `\t`, `\0`, `\\` are escapes.
- `C: text` the client must send exactly this, and CRLF.
- `Q: text` the server asks, as a challenge of AUTH: `+ `, the text in base64, and CRLF.
  `A: text` the client must answer exactly this, in base64; `{port}` in it is the
  server's. SCRAM's nonce is NONCE, an access token TOKEN.
- `TLS` the server does its handshake. `EOF` the server closes. `SILENCE` the server takes
  all and says nothing. At the end it waits for the client to close.
- `racy: yes` what the session sees depends on what is still on its way.
- `= result` what the client must have seen, in order, the session's state last.
- `< name` inserts `parts/name.part`.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import ssl
import threading

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from popfetchd.errors import (
    PopfetchdError,
    ProtocolViolation,
    ServerRefusal,
)
from popfetchd.pop3.deadline import Deadline
from popfetchd.pop3.protocol import (
    NEED_DATA,
    BodyChunk,
    Command,
    Protocol,
)
from popfetchd.pop3.session import LISTING, Session, glancing, open_session
from popfetchd.pop3.tls import TlsContexts
from popfetchd.values import (
    AccessToken,
    Announced,
    Listing,
    Mechanism,
    MessageNumber,
    Secret,
    Server,
    TlsMode,
    TlsPolicy,
)


HERE = Path(__file__).parent
USER, PASSWORD, TOKEN = "mary", "a secret", "ya29.token"

NONCE = b"fyko+d2lbbFgONRv9qkxdawL"
"""RFC 5802's; whoever plays a dialog puts it in place of chance."""

PATIENCE = 5.0
"""Seconds that the scripted server waits for a client before the test has failed."""

_STEP = re.compile(r"(S|s|C|Q|A)(?:\*(\d+))?: ?(.*)")
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|([rnt0\\]))")
_ESCAPES = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}


@dataclass
class Dialog:
    """
    A script: *steps* are (kind, octets), kind one of S, C, A, TLS, EOF, SILENCE.
    """

    name: str
    steps: list[tuple[str, bytes]] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    tls: TlsMode = TlsMode.NONE
    timeout: float = PATIENCE
    racy: bool = False
    expects: Announced | None = None

    def groups(self) -> Iterator[tuple[str, list[bytes]]]:
        """
        Yield the steps with neighbours of one kind taken together.
        """
        gathered: list[bytes] = []
        for (kind, octets), (following, _) in zip(
            self.steps, [*self.steps[1:], ("", b"")], strict=True
        ):
            gathered.append(octets)
            if kind != following:
                yield kind, gathered
                gathered = []


def load(path: Path) -> Dialog:
    """
    Read a dialog from its file.
    """
    return parse(path.stem, path.read_text("ascii"))


def every_dialog() -> list[Dialog]:
    """
    Read all of them.
    """
    return [load(path) for path in sorted(HERE.glob("*.dialog"))]


def parse(name: str, text: str) -> Dialog:
    """
    Read a dialog from its text.
    """
    dialog = Dialog(name)
    for line in _lines(text):
        _take(dialog, line)
    return dialog


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.startswith("< "):
            part = HERE / "parts" / f"{line[2:]}.part"
            yield from _lines(part.read_text("ascii"))
        elif line and not line.startswith("#"):
            yield line


def _take(dialog: Dialog, line: str) -> None:
    word, _, rest = line.partition(" ")
    if word == "do:":
        dialog.actions = rest.split()
    elif word == "tls:":
        dialog.tls = TlsMode(rest)
    elif word == "timeout:":
        dialog.timeout = float(rest)
    elif word == "racy:":
        dialog.racy = True
    elif word == "expects:":
        known = tuple(rest.split(", "))
        dialog.expects = Announced(known, known)
    elif word == "=":
        dialog.results.append(rest)
    elif word in {"TLS", "EOF", "SILENCE"}:
        dialog.steps.append((word, b""))
    else:
        found = _STEP.fullmatch(line)
        assert found, f"{dialog.name}: what is this? {line}"
        kind, times, content = found.groups()
        octets = _unescaped(content)
        if kind == "Q":
            kind, octets = "S", b"+ " + base64.b64encode(octets)
        octets += b"" if kind in "sA" else b"\r\n"
        dialog.steps.append((kind.upper(), octets * int(times or 1)))


def _answer(text: bytes, port: int) -> bytes:
    """
    Return the line that says *text* in answer to a challenge of AUTH.
    """
    return base64.b64encode(text.replace(b"{port}", b"%d" % port)) + b"\r\n"


def _unescaped(text: str) -> bytes:
    def one(found: re.Match[str]) -> str:
        return chr(int(found[1], 16)) if found[1] else _ESCAPES[found[2]]

    return _ESCAPE.sub(one, text).encode("latin-1")


# -- the engine alone -----------------------------------------------------------------


def replay(dialog: Dialog, cuts: set[int] | None = None) -> list[str]:
    """
    Feed the server's octets to the engine, and return the events it gave.

    Each run of octets is cut at *cuts* (places counted within it); None: at every place.
    """
    protocol, events = Protocol(), list[str]()
    try:
        for kind, octets in dialog.groups():
            if kind in "CA":
                _send(
                    protocol, [_answer(it, 0) if kind == "A" else it for it in octets]
                )
            elif kind == "S":
                for piece in _pieces(b"".join(octets), cuts):
                    protocol.receive(piece)
                    _drain(protocol, events)
            elif kind == "EOF":
                protocol.receive_eof()
    except PopfetchdError as error:
        events.append(_told(error))
    return [*_merged(events), f"state {protocol.state}"]


def longest_run(dialog: Dialog) -> int:
    """
    Return how many octets the server sends at most before the client speaks.
    """
    runs = (len(b"".join(run)) for kind, run in dialog.groups() if kind == "S")
    return max(runs, default=0)


def _pieces(octets: bytes, cuts: set[int] | None) -> Iterator[bytes]:
    places = range(1, len(octets)) if cuts is None else sorted(cuts)
    last = 0
    for place in [*places, len(octets)]:
        if last < place <= len(octets):
            yield octets[last:place]
            last = place


def _send(protocol: Protocol, lines: list[bytes]) -> None:
    challenged = protocol.step == "AUTH"
    for line in lines:
        if challenged:
            sent = protocol.answer(line[:-2])
        else:
            keyword, *arguments = line[:-2].split(b" ", 1)
            sent = protocol.send(Command(keyword.decode()), *arguments)
        assert line == sent


def _drain(protocol: Protocol, events: list[str]) -> None:
    while (event := protocol.next_event()) is not NEED_DATA:
        if isinstance(event, BodyChunk):
            events.append(f"chunk {event.data.hex()}")
        else:
            events.append(repr(event))


def _merged(events: list[str]) -> list[str]:
    """
    Join chunks: where a body is cut into them is nobody's business.
    """
    merged: list[str] = []
    for event in events:
        if event.startswith("chunk ") and merged and merged[-1].startswith("chunk "):
            merged[-1] += event.removeprefix("chunk ")
        else:
            merged.append(event)
    return merged


def _told(error: PopfetchdError) -> str:
    """
    Name *error*, without the octets that it happened to see by then.
    """
    if isinstance(error, ProtocolViolation):
        return f"ProtocolViolation {error.step} {error.problem}"
    return f"{type(error).__name__} {error}"


# -- a whole session ------------------------------------------------------------------


class ScriptedServer:
    """
    Plays the server's part of a dialog once, on a loopback port of its own.

    *piece* is how many octets each segment carries; None: as many as there are.
    `problems` says where the client did not keep to the script.
    """

    def __init__(
        self,
        dialog: Dialog,
        context: ssl.SSLContext | None = None,
        piece: int | None = None,
    ) -> None:
        self.problems: list[str] = []
        self._dialog = dialog
        self._context = context
        self._piece = piece
        self._heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        try:
            self._sock = self._listener.accept()[0]
        except OSError:
            self.problems.append("nobody came")
            return
        self._sock.settimeout(PATIENCE)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._play()
        except OSError:
            pass  # the client has gone: what it told is what counts
        finally:
            self._sock.close()

    def _play(self) -> None:
        for kind, lines in self._dialog.groups():
            octets = b"".join(lines)
            if kind == "S":
                self._say(octets)
            elif kind in "CA":
                said = (
                    lines if kind == "C" else [_answer(it, self.port) for it in lines]
                )
                if not self._hear(b"".join(said)):
                    return
            elif kind == "TLS":
                assert self._context
                self._sock = self._context.wrap_socket(self._sock, server_side=True)
            else:
                while kind == "SILENCE" and self._sock.recv(1000):
                    pass
                return
        if rest := self._heard + self._sock.recv(1000):
            self.problems.append(f"the client went on: {rest!r}")

    def _say(self, octets: bytes) -> None:
        size = self._piece or len(octets)
        for at in range(0, len(octets), size):
            self._sock.sendall(octets[at : at + size])

    def _hear(self, wanted: bytes) -> bool:
        while len(self._heard) < len(wanted) and (data := self._sock.recv(1000)):
            self._heard += data
        if not self._heard.startswith(wanted):
            self.problems.append(f"not {wanted!r} but {self._heard!r}")
            return False
        self._heard = self._heard[len(wanted) :]
        return True


def act(
    dialog: Dialog,
    ca_file: Path | None = None,
    context: ssl.SSLContext | None = None,
    piece: int | None = None,
) -> tuple[list[str], list[str]]:
    """
    Let a session play the dialog; return its results, and the server's problems.
    """
    results: list[str] = []
    with ScriptedServer(dialog, context, piece) as server:
        policy = TlsPolicy(dialog.tls, ca_file)
        place = Server("127.0.0.1", server.port, policy, dialog.timeout)
        with _telling(results):
            session = open_session(
                place, TlsContexts(), Deadline(PATIENCE), dialog.expects
            )
            with session:
                with _telling(results):
                    for action in dialog.actions:
                        results.extend(_acted(session, *action.split(":")))
                results.append(f"state {session.state}")
    return results, server.problems


@contextmanager
def _telling(results: list[str]) -> Iterator[None]:
    try:
        yield
    except PopfetchdError as error:
        results.append(f"{type(error).__name__}: {error}")


def _acted(session: Session, action: str, *arguments: str) -> Iterator[str]:
    """
    Do one action, and yield what came of it, as `= ` lines tell it.
    """
    if action == "login":
        session.login(USER, Secret(PASSWORD), Mechanism(*arguments or ("auto",)))
        yield "login"
    elif action == "ask":
        mechanism = Mechanism(arguments[0] if arguments else "auto")
        glance = glancing(MessageNumber(int(arguments[1]))) if arguments[1:] else None
        session.login(USER, Secret(PASSWORD), mechanism, question=glance or LISTING)
        yield "login"
    elif action == "glance":
        drop, last = session.glance(MessageNumber(int(arguments[0])))
        yield f"glance {drop.messages} {drop.octets} {last!a}"
    elif action == "mechanism":
        yield f"mechanism {session.mechanism}"
    elif action == "token":
        session.login(USER, AccessToken(TOKEN), Mechanism(*arguments))
        yield "login"
    elif action == "stat":
        drop = session.stat()
        yield f"stat {drop.messages} {drop.octets}"
    elif action == "list":
        yield from _listed(session.listing())
    elif action == "capabilities":
        tags = " ".join(sorted(session.capabilities.arguments))
        yield f"capabilities {tags!a}"
    elif action in {"top", "retrieve", "delete"}:
        yield from _messages(session, action, arguments)
    else:
        getattr(session, action)()
        yield action


def _listed(listing: Listing) -> Iterator[str]:
    if not listing.numbers:
        yield "listed none"
    for number in listing.numbers:
        listed = listing.listed(number)
        times = f" x{listed.times}" if listed.times > 1 else ""
        yield f"listed {number} {_shown(listed.unique_id)} {listed.octets}{times}"


def _messages(session: Session, action: str, words: tuple[str, ...]) -> Iterator[str]:
    numbers = [MessageNumber(int(word)) for word in words]
    if action == "delete":
        for number, refused in session.delete(numbers):
            yield f"delete {number} {_outcome(refused)}"
    elif action == "top":
        for number, head in session.top(numbers):
            yield f"top {number} {_outcome(head)}"
    else:
        for number, body in session.retrieve(numbers):
            refused = isinstance(body, ServerRefusal)
            yield f"mail {number} {_outcome(body if refused else b''.join(body))}"


def _outcome(outcome: object) -> str:
    if isinstance(outcome, ServerRefusal):
        return f"{type(outcome).__name__} {outcome.text!r}"
    return "done" if outcome is None else _shown(outcome)


def _shown(content: object) -> str:
    shown = ascii(content).removeprefix("b")
    if isinstance(content, bytes | str) and len(content) > 200:
        octets = content if isinstance(content, bytes) else content.encode("latin-1")
        return f"{len(content)} octets {hashlib.sha256(octets).hexdigest()[:8]}"
    return shown
