"""
The channel to a server: octets in both directions, in clear or inside TLS.

Rules of this file:

- The only sockets of the client are here and below: `reaching` connects, `tls` proves.
- Every wait is bounded (`deadline`).
- Every error of the system or of OpenSSL is translated here, once, into ours. The step it
  happened in is a word of the caller's: "RETR", "greeting".
"""

from __future__ import annotations

import select
import socket
import ssl

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from popfetchd.errors import Disconnected
from popfetchd.pop3 import reaching, tls
from popfetchd.pop3.deadline import Deadline, Limit
from popfetchd.pop3.tls import TlsContexts
from popfetchd.problems import problem
from popfetchd.values import Certificate, Channel, Server, TlsMode


LARGEST_READ = 65_536
"""Octets of one read: a plain connection fills it, of TLS several records do."""

FULL_RECORD = 4_096
"""
Octets of a TLS record behind which another may have come already: so much does Dovecot put
into one, others 16 KiB. Behind a shorter one the server has said what it had to say.
"""

NOTHING_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What is raised instead of waiting."""


def connect(server: Server, contexts: TlsContexts, deadline: Deadline) -> Transport:
    """
    Return a channel to *server*: with TLS already if its mode is IMPLICIT.

    Raises NetworkError or TlsError; ConfigurationError when a file of the policy is no
    good; ExtraMissing.
    """
    limit = Limit(server.timeout, deadline)
    sock, channel = reaching.reach(server, limit)
    transport = Transport(server, sock, channel, limit)
    if server.tls.mode is TlsMode.IMPLICIT:
        transport.start_tls(contexts)
    return transport


class Transport:
    """
    A connection to a server, with or without TLS.
    """

    def __init__(
        self, server: Server, sock: socket.socket, channel: Channel, limit: Limit
    ) -> None:
        self._server = server
        self._sock = sock
        self._limit = limit
        self._patience: float | None = None
        self._arrivals = select.poll()
        self._arrivals.register(
            sock.fileno(), select.POLLIN
        )  # TLS keeps the descriptor
        self._owed: OSError | None = None
        """How a read failed that had octets to return first."""
        self.channel = channel
        """What the channel is made of, as of now."""

    def recv(self, step: str) -> bytes:
        """
        Return the octets that came, none at the end of the stream.

        Waits for the first only; what has come behind them is taken along. Raises
        TimedOut, Disconnected, TlsFailed.
        """
        with self._translated(step):
            octets = self._read(LARGEST_READ)
            if len(octets) < FULL_RECORD or not isinstance(self._sock, ssl.SSLSocket):
                return octets
            return b"".join([octets, *self._behind(LARGEST_READ - len(octets))])

    def waiting(self, step: str) -> bytes:
        """
        Return octets that have come already, none when there are none; never wait.

        Raises what `recv` raises.
        """
        with self._translated(step):
            if not self._has_come():
                return b""
            self._wait_at_most(0.0)
            try:
                return self._read(LARGEST_READ)
            except NOTHING_YET:
                return b""

    def send(self, data: bytes, step: str) -> None:
        """
        Send *data*, all of it. Raises TimedOut, Disconnected, TlsFailed.
        """
        with self._translated(step):
            self._sock.sendall(data)

    def start_tls(self, contexts: TlsContexts) -> None:
        """
        Do the handshake, and see that the certificate is good for the host, or pinned.

        Raises CertificateRefused, TlsFailed, TimedOut, Disconnected, ConfigurationError;
        the connection is closed then.
        """
        try:
            context = contexts.get(self._server.tls)
            with self._translated("TLS handshake"):
                self._sock = sock = self._wrapped(context)
                sock.do_handshake()
            shown = tls.prove(self._server, sock)
            self.channel = _described(self.channel, sock, shown)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """
        Close the connection. Never raises; may be called again.

        TLS is told that it ends, and is not waited for (RFC 8314 §3.4): without that a
        server cannot tell the end from an attack, and many log it as one.
        """
        with suppress(OSError, ValueError):  # it may have ended, or never begun
            if isinstance(self._sock, ssl.SSLSocket):
                self._sock.settimeout(0.0)
                self._sock.unwrap()
        with suppress(OSError):  # all that counts was said and answered before
            self._sock.close()

    def _read(self, most: int) -> bytes:
        owed, self._owed = self._owed, None
        if owed is not None:
            raise owed
        return self._sock.recv(most)

    def _has_come(self) -> bool:
        """
        Tell whether there may be something to read: an octet, an end, or an error.

        One system call, where to try it without waiting are four and an exception.
        """
        if self._owed is not None:
            return True
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            return True
        return bool(self._arrivals.poll(0))

    def _behind(self, room: int) -> Iterator[bytes]:
        """
        Yield what has come already, *room* octets at most. Never waits, never raises.
        """
        self._wait_at_most(0.0)
        try:
            while room and (octets := self._sock.recv(room)):
                room -= len(octets)
                yield octets
        except NOTHING_YET:
            pass
        except OSError as error:
            self._owed = error

    def _wrapped(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        return context.wrap_socket(
            self._sock,
            server_hostname=reaching.ascii_name(self._server.certified_name),
            do_handshake_on_connect=False,
        )

    @contextmanager
    def _translated(self, step: str) -> Iterator[None]:
        """
        Limit what is done in this block, and translate how it fails.
        """
        self._wait_at_most(self._limit.seconds(step))
        try:
            yield
        except TimeoutError:
            raise self._limit.passed(step) from None
        except ssl.SSLCertVerificationError as error:
            raise tls.refused(self._server, self._sock, error) from error
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise Disconnected(step, "the server ended TLS without a word") from error
        except ssl.SSLError as error:
            raise tls.failed(self._server, error) from error
        except OSError as error:
            raise Disconnected(step, problem(error)) from error

    def _wait_at_most(self, seconds: float) -> None:
        if seconds != self._patience:  # settimeout is a system call
            self._sock.settimeout(seconds)
            self._patience = seconds


def _described(channel: Channel, sock: ssl.SSLSocket, shown: Certificate) -> Channel:
    cipher = sock.cipher()
    return replace(
        channel,
        tls_version=sock.version(),
        cipher=cipher[0] if cipher else None,
        certificate_expiry=shown.not_after,
        certificate=shown,
    )
