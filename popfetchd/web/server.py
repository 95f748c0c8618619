"""
What is served: /metrics, /healthz, /readyz, and a status page at /.

Rules of this file:

- Reads only: GET and HEAD. What it shows it is given by callables.
- On a loopback address only requests for a loopback host are answered: a web site
  that rebinds its name to 127.0.0.1 reads nothing.
- Whatever a client does is bounded: octets, seconds, connections. One that is silent
  holds up nobody else.
- With a certificate each connection shakes hands in its own thread, within the same
  seconds as a request. With passwords every page wants one but /healthz and /readyz:
  they say one word, and what asks for them (a container, a balancer) has no password.
- Nothing is logged: the request line is a stranger's text, and the scrape is routine.
"""

from __future__ import annotations

import errno
import io
import socket
import socketserver
import sys
import time

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from threading import BoundedSemaphore, Thread
from typing import cast
from urllib.parse import parse_qs, urlsplit

from popfetchd.metrics import CONTENT_TYPE
from popfetchd.values import AccountName, AccountState
from popfetchd.web import listing
from popfetchd.web.address import host_of, is_loopback
from popfetchd.web.guard import Access
from popfetchd.web.page import POLICY, Refusal, Status, as_html, as_json


CONNECTIONS = 32
"""Served at once; one more is closed at once. Prometheus and a person need two."""

REQUEST_SECONDS = 10.0
"""For a whole request to arrive, and for each part of the answer to be taken."""

REQUEST_OCTETS = 16384
"""Of a request line and its header together: a browser's are below 4 KB."""

OPEN = frozenset({"/healthz", "/readyz"})
"""What needs no password."""

STOP_SECONDS = 0.2
"""How soon a stop is noticed: the standard library looks for it this often."""


CHALLENGE = 'Basic realm="popfetchd", charset="UTF-8"'
"""RFC 7617 §2.1."""


@dataclass(frozen=True, slots=True)
class Site:
    """
    Where the pages come from. Each is called for each request, in any thread.
    """

    metrics: Callable[[], bytes]
    """The page for Prometheus, as `metrics.CONTENT_TYPE` says."""
    healthy: Callable[[], bool]
    """False: the service is stuck, and is best started anew."""
    ready: Callable[[], bool]
    """A configuration is taken, the ledger is open, visits are being planned."""
    accounts: Callable[[], Mapping[AccountName, AccountState]]
    refusal: Callable[[], Refusal | None] = lambda: None
    """What of the configuration, as it stands in its files, is not in effect."""
    clock: Callable[[], float] = time.time


# -- pages ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """
    A status, a type, and the octets of a page.
    """

    status: HTTPStatus
    type: str
    body: bytes


def said(status: HTTPStatus, text: str) -> Answer:
    """
    Return an answer of one line.
    """
    return Answer(status, "text/plain; charset=utf-8", f"{text}\n".encode())


def answer(site: Site, target: str) -> Answer:
    """
    Return what a GET of *target* gets.
    """
    try:
        url = urlsplit(target)
    except ValueError:
        return said(HTTPStatus.BAD_REQUEST, "that is no address")
    match url.path:
        case "/metrics":
            return Answer(HTTPStatus.OK, CONTENT_TYPE, site.metrics())
        case "/healthz":
            return _whether(site.healthy(), "ok", "stuck: nothing is being planned")
        case "/readyz":
            return _whether(site.ready(), "ready", "not ready")
        case "/":
            return _status(site, url.query)
        case _:
            return said(HTTPStatus.NOT_FOUND, "no such page")


def _whether(well: bool, yes: str, no: str) -> Answer:
    status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
    return said(status, yes if well else no)


def _status(site: Site, query: str) -> Answer:
    status = Status(site.clock(), site.accounts(), site.refusal())
    if parse_qs(query).get("format") == ["json"]:
        return Answer(HTTPStatus.OK, "application/json", as_json(status).encode())
    page = as_html(status, listing.read(query))
    return Answer(HTTPStatus.OK, "text/html; charset=utf-8", page.encode())


# -- the server -----------------------------------------------------------------------


class Bounded(io.RawIOBase):
    """
    Reads a connection up to a number of octets and an instant, and then refuses.
    """

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self._left = REQUEST_OCTETS
        self._end = time.monotonic() + REQUEST_SECONDS

    def readable(self) -> bool:
        """
        It can be read.
        """
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """
        Read what is there. Raises TimeoutError after the last instant, and OSError
        after the last octet: half a request is none.
        """
        rest = self._end - time.monotonic()
        if rest <= 0:
            raise TimeoutError
        if not self._left:
            raise OSError(errno.EMSGSIZE, "the request is too long")
        self._connection.settimeout(rest)
        count = self._connection.recv_into(buffer, min(len(buffer), self._left))
        self._connection.settimeout(REQUEST_SECONDS)
        self._left -= count
        return count


class Handler(BaseHTTPRequestHandler):
    """
    One request; the connection is closed behind the answer (HTTP/1.0).
    """

    def setup(self) -> None:
        """
        Bound what is read.
        """
        super().setup()
        self.rfile = io.BufferedReader(Bounded(self.connection))  # type: ignore[type-var]

    def do_GET(self) -> None:
        """
        Answer with the page.
        """
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """
        Answer without the page (RFC 9110 §9.3.2).
        """
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        found = self._find()
        self.send_response(found.status)
        self.send_header("Content-Type", found.type)
        self.send_header("Content-Length", str(len(found.body)))
        if found.status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", CHALLENGE)
        self.end_headers()
        if with_body:
            self.wfile.write(found.body)

    def _find(self) -> Answer:
        server, host = cast(Server, self.server), self.headers.get("Host")
        if server.loopback and host and not is_loopback(host_of(host)):
            return said(HTTPStatus.MISDIRECTED_REQUEST, "no such host here")
        if not self._admitted(server.access):
            return said(HTTPStatus.UNAUTHORIZED, "who are you?")
        return answer(server.site, self.path)

    def _admitted(self, access: Access) -> bool:
        if access.guard is None or self.path in OPEN:
            return True
        return access.guard.admits(self.headers.get("Authorization", ""))

    def end_headers(self) -> None:
        """
        Every answer, errors too, forbids whatever a browser might do with it.
        """
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def version_string(self) -> str:
        """
        Name us, not the versions of what we are made of.
        """
        return "popfetchd"

    def log_message(self, *_args: object) -> None:
        """
        Say nothing.
        """


IN_THE_OPEN = Access()


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """
    Serves *site* on *host* and *port*, each connection in a thread of its own.

    `access` may be replaced at any time; it holds for connections that come later.
    Raises OSError if the address is not to be had.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = CONNECTIONS

    def __init__(
        self, host: str, port: int, site: Site, access: Access = IN_THE_OPEN
    ) -> None:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self.address_family = family
        self.site = site
        self.access = access
        self._places = BoundedSemaphore(CONNECTIONS)
        self._thread = Thread(
            target=self.serve_forever, args=(STOP_SECONDS,), name="web", daemon=True
        )
        super().__init__(address, Handler)  # type: ignore[arg-type]
        self.loopback = is_loopback(self.host)

    @property
    def host(self) -> str:
        """
        The address that is bound.
        """
        return str(self.socket.getsockname()[0])

    @property
    def port(self) -> int:
        """
        The port that is bound.
        """
        return int(self.socket.getsockname()[1])

    @property
    def url(self) -> str:
        """
        Where a person finds the status page.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "https" if self.access.context else "http"
        return f"{scheme}://{host}:{self.port}/"

    def start(self) -> None:
        """
        Serve in a thread of its own.
        """
        self._thread.start()

    def stop(self) -> None:
        """
        Accept nothing any more. Must follow `start`.
        """
        self.shutdown()
        self.server_close()
        self._thread.join()

    def process_request(self, request: object, client_address: object) -> None:
        """
        Serve a connection, or close it at once if there are too many.
        """
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type]
            return
        try:
            super().process_request(request, client_address)  # type: ignore[arg-type]
        except RuntimeError:  # the system gives no more threads
            self.shutdown_request(request)  # type: ignore[arg-type]
            self._places.release()

    def process_request_thread(self, request: object, client_address: object) -> None:
        """
        Give the place back, however the connection ended.
        """
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._places.release()

    def finish_request(self, request: object, client_address: object) -> None:
        """
        Answer, over TLS if there is a certificate. In the connection's own thread.
        """
        context = self.access.context
        if context is None:
            super().finish_request(request, client_address)  # type: ignore[arg-type]
            return
        connection = cast(socket.socket, request)
        connection.settimeout(REQUEST_SECONDS)
        with context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        ) as channel:
            channel.do_handshake()  # as a whole within that time
            super().finish_request(channel, client_address)

    def handle_error(self, _request: object, _client_address: object) -> None:
        """
        A client that went away or was too slow concerns nobody; a fault of ours does.
        """
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            raise error
