"""
The channel to a server: the only sockets, and the only TLS, of the client.

Rules of this file:

- Every wait is bounded, by the server's `timeout` for one step and by the visit's
  deadline for all of them (CVE-2011-1947: a client hung in STLS for a week).
- The certificate is verified for the configured host name; there is no switch to turn
  that off. TLS 1.2 or later; a name in the certificate's subject counts for nothing
  (RFC 8314 §5, RFC 7817 §3).
- Making a TLS context costs 20 ms, so equal policies share one.
- Every error of the system or of OpenSSL is translated here, once, into ours. The step it
  happened in is a word of the caller's: "RETR", "greeting".
- `getaddrinfo` cannot be interrupted: it runs in a thread that is left behind when it
  takes too long.
"""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import re
import selectors
import socket
import ssl
import threading
import time

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from socket import IPPROTO_TCP, SO_ERROR, SOL_SOCKET, TCP_NODELAY
from typing import Any

from popfetchd.errors import (
    CertificateRefused,
    ConfigurationError,
    ConnectFailed,
    Disconnected,
    Mistake,
    NameNotResolved,
    TimedOut,
    TlsFailed,
)
from popfetchd.values import Certificate, Channel, Server, TlsMode, TlsPolicy


LARGEST_READ = 65_536
"""Octets of one read: a plain connection fills it, TLS gives one record (16 KiB)."""

ATTEMPT_DELAY = 0.25
"""Seconds that an address has for itself before the next is tried too (RFC 8305 §5)."""

MOST_ADDRESSES = 16
"""Addresses of one name that are tried: no honest name needs more."""

_Address = tuple[Any, ...]
"""What getaddrinfo returns: family, type, protocol, canonical name, socket address."""


class Deadline:
    """
    The instant at which a whole visit has to be over.

    *seconds* count from now, by *clock*, which must never go back.
    """

    def __init__(
        self, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """
        Return the seconds that are left, negative once it has passed.
        """
        return self._end - self._clock()


class TlsContexts:
    """
    One TLS context for each policy, made when first asked for. Safe among threads.

    A file is read once; a new TlsContexts sees what became of it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contexts: dict[TlsPolicy, ssl.SSLContext] = {}

    def get(self, policy: TlsPolicy) -> ssl.SSLContext:
        """
        Return the context of *policy*.

        Raises ConfigurationError when a file of it cannot be read or is no good.
        """
        with self._lock:
            if policy not in self._contexts:
                self._contexts[policy] = _context(policy)
            return self._contexts[policy]


def _context(policy: TlsPolicy) -> ssl.SSLContext:
    with _used_as("ca_file", policy.ca_file):
        context = ssl.create_default_context(cafile=policy.ca_file)
    if policy.client_cert is not None:
        _show(context, policy.client_cert, policy.client_key)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    return context


def _show(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    """
    Let *context* show a certificate to the server that asks for one.
    """
    with _used_as("client_cert", cert):  # alone first: then what fails is the key
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cert)
    with _used_as("client_key", key or cert):
        context.load_cert_chain(cert, key, password=_no_password)


def _no_password() -> str:
    # Otherwise OpenSSL would ask for it on the terminal.
    raise ValueError("it is encrypted; write it without a password, mode 0600")


@contextmanager
def _used_as(key: str, path: Path | None) -> Iterator[None]:
    """
    Name *path* and the configuration's *key* in what fails in this block.
    """
    try:
        yield
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        problem = f"cannot be used as {key}: {_problem(error)}"
        raise ConfigurationError([Mistake(str(path), 0, 0, problem)]) from error


# -- connecting -----------------------------------------------------------------------


def connect(server: Server, contexts: TlsContexts, deadline: Deadline) -> Transport:
    """
    Return a channel to *server*: with TLS already if its mode is IMPLICIT.

    Raises NetworkError or TlsError; ConfigurationError when a file of the policy is no good.
    """
    limit = Limit(server.timeout, deadline)
    addresses = _resolve(server, limit)
    sock, address = _reach(server, addresses, limit)
    transport = Transport(server, sock, address, limit)
    if server.tls.mode is TlsMode.IMPLICIT:
        transport.start_tls(contexts)
    return transport


class Limit:
    """
    What one step may take: its own timeout, or what is left of the visit.
    """

    def __init__(self, timeout: float, deadline: Deadline) -> None:
        self._timeout = timeout
        self._deadline = deadline

    def seconds(self, step: str) -> float:
        """
        Return the seconds for *step*. Raises TimedOut when none are left.
        """
        left = min(self._timeout, self._deadline.remaining())
        if left <= 0:
            raise self.passed(step)
        return left

    def passed(self, step: str) -> TimedOut:
        """
        Return the error that *step*, or the visit in this step, took too long.
        """
        if self._deadline.remaining() <= 0:
            return TimedOut(f"the visit, at {step}", self._deadline.seconds)
        return TimedOut(step, self._timeout)


def _resolve(server: Server, limit: Limit) -> list[_Address]:
    """
    Return the addresses of the server, in the order in which to try them.
    """
    answers: queue.SimpleQueue[list[_Address] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_lookup(server))
        except (OSError, ValueError) as error:  # ValueError: no host name at all
            answers.put(error)

    threading.Thread(target=ask, name=f"resolve {server.host}", daemon=True).start()
    try:
        answer = answers.get(timeout=limit.seconds("name resolution"))
    except queue.Empty:
        raise limit.passed("name resolution") from None
    if isinstance(answer, Exception):
        raise NameNotResolved(server.host, _problem(answer)) from answer
    return _alternating(answer)[:MOST_ADDRESSES]


def _lookup(server: Server) -> list[_Address]:
    return list(socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM))


def _alternating(addresses: list[_Address]) -> list[_Address]:
    """
    Alternate between the families, beginning with the one preferred (RFC 8305 §4).
    """
    first = [address for address in addresses if address[0] == addresses[0][0]]
    other = [address for address in addresses if address[0] != addresses[0][0]]
    pairs = zip_longest(first, other)
    return [address for pair in pairs for address in pair if address]


def _reach(
    server: Server, addresses: list[_Address], limit: Limit
) -> tuple[socket.socket, str]:
    """
    Connect to the first of *addresses* that lets us.
    """
    seconds = limit.seconds("connect")
    try:
        return _race(addresses, Deadline(seconds))
    except TimeoutError:
        raise limit.passed("connect") from None
    except OSError as error:
        raise ConnectFailed(server.host, server.port, _problem(error)) from error


def _race(addresses: list[_Address], deadline: Deadline) -> tuple[socket.socket, str]:
    """
    Try each address ATTEMPT_DELAY after the last, at once when that has failed.

    The first connection wins and is returned with its address; the others are closed.
    Raises the last OSError; TimeoutError at the *deadline*.
    """
    waiting = deque(addresses)
    problem = OSError("the name has no address")
    with selectors.DefaultSelector() as running:
        try:
            while waiting or running.get_map():
                if waiting:
                    problem = _start(running, waiting.popleft()) or problem
                for sock, address in _settled(running, bool(waiting), deadline):
                    running.unregister(sock)
                    if not (number := sock.getsockopt(SOL_SOCKET, SO_ERROR)):
                        return sock, address
                    sock.close()
                    problem = OSError(number, os.strerror(number))
        finally:
            for key in list(running.get_map().values()):
                key.data[0].close()
    raise problem


def _start(running: selectors.BaseSelector, address: _Address) -> OSError | None:
    """
    Begin to connect to *address*; return the error when that fails at once.
    """
    family, kind, protocol, _, place = address
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError as error:  # a family that this machine does not have
        return error
    sock.setblocking(False)
    sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    number = sock.connect_ex(place)
    if number not in {0, errno.EINPROGRESS}:
        sock.close()
        return OSError(number, os.strerror(number))
    running.register(sock, selectors.EVENT_WRITE, data=(sock, place[0]))
    return None


def _settled(
    running: selectors.BaseSelector, more: bool, deadline: Deadline
) -> list[tuple[socket.socket, str]]:
    """
    Wait for attempts that have succeeded or failed; with *more* to try, not for long.
    """
    if not running.get_map():
        return []
    left = deadline.remaining()
    if left <= 0:
        raise TimeoutError
    ready = running.select(min(left, ATTEMPT_DELAY) if more else left)
    return [key.data for key, _ in ready]


# -- connected ------------------------------------------------------------------------


class Transport:
    """
    A connection to a server, with or without TLS.
    """

    def __init__(
        self, server: Server, sock: socket.socket, address: str, limit: Limit
    ) -> None:
        self._server = server
        self._sock = sock
        self._limit = limit
        self._patience: float | None = None
        self.channel = Channel(address)
        """What the channel is made of, as of now."""

    def recv(self, step: str) -> bytes:
        """
        Return the octets that came, none at the end of the stream.

        Raises TimedOut, Disconnected, TlsFailed.
        """
        with self._translated(step):
            return self._sock.recv(LARGEST_READ)

    def waiting(self, step: str) -> bytes:
        """
        Return octets that have come already, none when there are none; never wait.

        Raises what `recv` raises.
        """
        with self._translated(step):
            self._wait_at_most(0.0)
            try:
                return self._sock.recv(LARGEST_READ)
            except (BlockingIOError, ssl.SSLWantReadError):
                return b""

    def send(self, data: bytes, step: str) -> None:
        """
        Send *data*, all of it. Raises TimedOut, Disconnected, TlsFailed.
        """
        with self._translated(step):
            self._sock.sendall(data)

    def start_tls(self, contexts: TlsContexts) -> None:
        """
        Do the handshake, and see that the certificate is good for the host.

        Raises CertificateRefused, TlsFailed, TimedOut, Disconnected, ConfigurationError;
        the connection is closed then.
        """
        try:
            context = contexts.get(self._server.tls)
            with self._translated("TLS handshake"):
                self._sock = sock = self._wrapped(context)
                sock.do_handshake()
                self.channel = _described(self.channel, sock)
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

    def _wrapped(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        return context.wrap_socket(
            self._sock,
            server_hostname=self._server.host.rstrip("."),
            do_handshake_on_connect=False,
        )

    @contextmanager
    def _translated(self, step: str) -> Iterator[None]:
        """
        Limit what is done in this block, and translate how it fails.
        """
        self._wait_at_most(self._limit.seconds(step))
        host, port = self._server.host, self._server.port
        try:
            yield
        except TimeoutError:
            raise self._limit.passed(step) from None
        except ssl.SSLCertVerificationError as error:
            raise CertificateRefused(host, _certificate_problem(error)) from error
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise Disconnected(step, "the server ended TLS without a word") from error
        except ssl.SSLError as error:
            raise TlsFailed(host, port, _problem(error)) from error
        except OSError as error:
            raise Disconnected(step, _problem(error)) from error

    def _wait_at_most(self, seconds: float) -> None:
        if seconds != self._patience:  # settimeout is a system call
            self._sock.settimeout(seconds)
            self._patience = seconds


def _described(channel: Channel, sock: ssl.SSLSocket) -> Channel:
    cipher = sock.cipher()
    certificate = _certificate(sock)
    return replace(
        channel,
        tls_version=sock.version(),
        cipher=cipher[0] if cipher else None,
        certificate_expiry=certificate.not_after,
        certificate=certificate,
    )


def _certificate(sock: ssl.SSLSocket) -> Certificate:
    digest = hashlib.sha256(sock.getpeercert(binary_form=True) or b"").hexdigest()
    told: Mapping[str, Any] = sock.getpeercert() or {}  # nothing if it was not verified
    return Certificate(
        digest,
        _name(told.get("subject", ())),
        _name(told.get("issuer", ())),
        tuple(name for _, name in told.get("subjectAltName", ())),
        _seconds(told.get("notBefore")),
        _seconds(told.get("notAfter")),
    )


SHORT_NAMES = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
}
"""How RFC 4514 §3 writes what Python's ssl spells out."""


def _name(parts: Iterable[Iterable[tuple[str, str]]]) -> str:
    pairs = (pair for part in parts for pair in part)
    return ", ".join(f"{SHORT_NAMES.get(key, key)}={value}" for key, value in pairs)


def _seconds(told: str | None) -> float | None:
    return float(ssl.cert_time_to_seconds(told)) if told else None


# -- how a failure is told ------------------------------------------------------------

CERTIFICATE_PROBLEMS = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is signed by itself",
    19: "its authority is not known here",
    20: "its authority is not known here",
    21: "its authority is not known here",
    62: "it is for another name",
    64: "it is for another address",
}
"""OpenSSL's X509_V_ERR_… (x509_vfy.h) that an operator meets, in words."""

PLACE = re.compile(r"^\[\S+\] | \(_ssl\.c:\d+\)$")
"""Where in OpenSSL and in Python an error arose: for neither has an operator a use."""

OPENSSL_PROBLEMS = {
    "pem lib": "no key that can be read stands in it",
    "key values mismatch": "it is the key of another certificate",
    "no certificate or crl found": "no certificate stands in it",
}
"""OpenSSL's reasons that name nothing an operator knows, in words."""


def _certificate_problem(error: ssl.SSLCertVerificationError) -> str:
    return CERTIFICATE_PROBLEMS.get(error.verify_code, error.verify_message)


def _problem(error: Exception) -> str:
    """
    Say what the system or OpenSSL said, without the place in its source.
    """
    if isinstance(error, ssl.SSLError):
        words = PLACE.sub("", error.reason or str(error)).lower().replace("_", " ")
        return OPENSSL_PROBLEMS.get(words, words) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
