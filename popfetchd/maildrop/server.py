"""
The maildrop on a socket: one port of 127.0.0.1, a thread for each session.

Rules of this file:

- TLS runs over memory buffers, so that `MaildropServer.wire` holds what really came
  over the wire, ciphertext where it was ciphertext: a test that seeks a credential
  there cannot be fooled.
- A client that vanishes ends its own session, removes nothing and disturbs nobody.
- `close` ends every session and joins every thread.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl

from collections.abc import Iterable
from threading import Lock, Thread, current_thread
from types import TracebackType
from typing import Self

from popfetchd.maildrop.dialogue import Dialogue
from popfetchd.maildrop.drop import Maildrop
from popfetchd.values import TlsMode


HOST = "127.0.0.1"
"""The only address: whoever wants this server from elsewhere wants another server."""

CHUNK = 65536
"""Octets of one read or one TLS write: a few TLS records (16 KiB each)."""

MOST_SESSIONS = 64
"""Sessions at once; the next connection is closed without a word."""

AUTOLOGOUT = 600.0
"""Seconds of silence that end a session: the least that RFC 1939 §3 allows."""

JOIN = 5.0
"""Seconds that `close` waits for a thread whose socket it has just shut down."""


class Line:
    """
    One TCP connection, in clear until `start_tls`.

    Every method may raise OSError (ssl.SSLError is one): the connection is over then.
    """

    def __init__(self, connection: socket.socket, wire: list[bytes] | None) -> None:
        self._socket = connection
        self._wire = wire
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()

    def start_tls(self, context: ssl.SSLContext) -> None:
        """
        Make the handshake, as the server.
        """
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while not self._shaken_hands(tls):
            self._fill()
        self._tls = tls

    def receive(self) -> bytes:
        """
        Return some octets of the client; none means that it has gone.
        """
        if self._tls is None:
            return self._read()
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                self._fill()

    def send(self, octets: bytes) -> None:
        """
        Send all *octets*.
        """
        if self._tls is None:
            self._socket.sendall(octets)
            return
        for start in range(0, len(octets), CHUNK):
            self._tls.write(octets[start : start + CHUNK])
            self._flush()

    def close(self) -> None:
        """
        Say goodbye in TLS where possible, and close the socket.
        """
        with self._socket, contextlib.suppress(OSError):  # the client may have gone
            if self._tls is not None:
                self._bid_farewell(self._tls)

    def _bid_farewell(self, tls: ssl.SSLObject) -> None:
        try:
            tls.unwrap()
        except ssl.SSLWantReadError:
            self._flush()  # our close_notify is enough: we do not wait for theirs

    def _shaken_hands(self, tls: ssl.SSLObject) -> bool:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._flush()  # also the alert that tells why it failed
        return True

    def _read(self) -> bytes:
        octets = self._socket.recv(CHUNK)
        if self._wire is not None:
            self._wire.append(octets)
        return octets

    def _fill(self) -> None:
        octets = self._read()
        if octets:
            self._incoming.write(octets)
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        self._socket.sendall(self._outgoing.read())


class MaildropServer:
    """
    Serves *maildrops* until `close`. Listens as soon as it is made.

    *mode* says when TLS starts, with *context*; NONE does without, for tests. *lacks*
    is Dialogue's. With *record*, every octet that any client sends is kept in `wire`.
    """

    def __init__(
        self,
        maildrops: Iterable[Maildrop],
        context: ssl.SSLContext,
        *,
        mode: TlsMode = TlsMode.IMPLICIT,
        lacks: Iterable[str] = (),
        record: bool = False,
    ) -> None:
        self._maildrops = {maildrop.user: maildrop for maildrop in maildrops}
        self._context = context
        self._mode = mode
        self._lacks = frozenset(lacks)
        self._wire: list[bytes] | None = [] if record else None
        self._guard = Lock()
        self._sessions: dict[Thread, socket.socket] = {}
        self._closing = False
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = Thread(target=self._accept, name="maildrop", daemon=True)
        self._acceptor.start()

    @property
    def wire(self) -> bytes:
        """
        Every octet that came from clients, as it stood on the wire.
        """
        return b"".join(self._wire or [])

    def close(self) -> None:
        """
        Stop listening and end every session, without UPDATE. May be called again.
        """
        with self._guard:
            self._closing = True
            sessions = dict(self._sessions)
        for connection in (self._listener, *sessions.values()):
            hang_up(connection)
        for thread in (self._acceptor, *sessions):
            thread.join(JOIN)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # `close` has shut the listener down
                return
            self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        connection.settimeout(AUTOLOGOUT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        thread = Thread(target=self._serve, args=(connection,), daemon=True)
        with self._guard:
            if self._closing or len(self._sessions) >= MOST_SESSIONS:
                connection.close()
                return
            self._sessions[thread] = connection
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        line = Line(connection, self._wire)
        dialogue = self._dialogue()
        try:
            self._converse(line, dialogue)
        except OSError:
            pass  # the client went, or fell silent: no UPDATE (RFC 1939 §6)
        finally:
            dialogue.close()
            line.close()
            with self._guard:
                del self._sessions[current_thread()]

    def _dialogue(self) -> Dialogue:
        # RFC 1939 §7: an RFC 822 msg-id, another one for each connection.
        timestamp = f"<{secrets.token_hex(8)}@localhost>"
        stls = self._mode is TlsMode.STLS
        return Dialogue(self._maildrops, timestamp, stls=stls, lacks=self._lacks)

    def _converse(self, line: Line, dialogue: Dialogue) -> None:
        if self._mode is TlsMode.IMPLICIT:
            line.start_tls(self._context)
        line.send(dialogue.greeting)
        while not dialogue.ended and (octets := line.receive()):
            for answer in dialogue.receive(octets):
                line.send(answer)
            if dialogue.wants_tls:
                line.start_tls(self._context)
                dialogue.secured()


def hang_up(connection: socket.socket) -> None:
    """
    Wake whoever waits on *connection*, which its own thread then closes.
    """
    with contextlib.suppress(OSError):  # it may have ended by itself
        connection.shutdown(socket.SHUT_RDWR)
