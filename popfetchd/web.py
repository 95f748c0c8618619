"""
What is served: /metrics, /healthz, /readyz, and a status page at /.

Rules of this file:

- Reads only: GET and HEAD, no form, no script. What it shows it is given by callables.
- Every text on the page is escaped, and the Content-Security-Policy allows nothing but
  the page's own style sheet, by its hash (P4).
- On a loopback address only requests for a loopback host are answered: a web site
  that rebinds its name to 127.0.0.1 reads nothing.
- Whatever a client does is bounded: octets, seconds, connections. One that is silent
  holds up nobody else.
- Nothing is logged: the request line is a stranger's text, and the scrape is routine.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import ipaddress
import json
import socket
import socketserver
import sys
import time

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from threading import BoundedSemaphore, Thread
from typing import cast
from urllib.parse import parse_qs, urlsplit

from popfetchd import __version__
from popfetchd.metrics import CONTENT_TYPE, Condition
from popfetchd.report import standing
from popfetchd.values import NEVER, AccountName, AccountState


CONNECTIONS = 32
"""Served at once; one more is closed at once. Prometheus and a person need two."""

REQUEST_SECONDS = 10.0
"""For a whole request to arrive, and for each part of the answer to be taken."""

REQUEST_OCTETS = 16384
"""Of a request line and its header together: a browser's are below 4 KB."""

STOP_SECONDS = 0.2
"""How soon a stop is noticed: the standard library looks for it this often."""

MOST_ROWS = 1000
"""Accounts on the status page, failing ones first; `?format=json` has them all."""

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 80rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h1 small { font-weight: normal; opacity: .7 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .6rem; vertical-align: top;
  border-bottom: 1px solid color-mix(in srgb, currentColor 18%, transparent) }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.ok { color: light-dark(#176b2c, #7fd694) }
.failing { color: light-dark(#a51d2d, #ff9aa2); font-weight: 600 }
.pending, .hint { opacity: .75 }
"""

POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'"
)


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
    clock: Callable[[], float] = time.time


# -- the address ----------------------------------------------------------------------


def parse_listen(text: str) -> tuple[str, int]:
    """
    Return host and port of "host:port" or "[v6]:port"; port 0 lets the system choose.

    Raises ValueError with a sentence for the operator.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address stands in brackets: [::1]:10995")
    if not (colon and host and port.isascii() and port.isdigit()):
        raise ValueError(
            f"{text!r} is no address; write 127.0.0.1:10995 or [::1]:10995"
        )
    if int(port) > 65535:
        raise ValueError(f"{text!r}: a port is at most 65535")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """
    Tell whether *host*, a name or an address, means this machine to itself.
    """
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """
    Return the host of a Host header, without port and brackets (RFC 9110 §7.2).
    """
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


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
            as_json = parse_qs(url.query).get("format") == ["json"]
            return _status_json(site) if as_json else _status_page(site)
        case _:
            return said(HTTPStatus.NOT_FOUND, "no such page")


def _whether(well: bool, yes: str, no: str) -> Answer:
    status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
    return said(status, yes if well else no)


def _status_json(site: Site) -> Answer:
    accounts = {
        name: {"state": Condition.of(state).value, **asdict(_finite(state))}
        for name, state in sorted(site.accounts().items())
    }
    page = {"version": __version__, "time": site.clock(), "accounts": accounts}
    body = json.dumps(page, indent=1).encode()
    return Answer(HTTPStatus.OK, "application/json", body)


def _finite(state: AccountState) -> AccountState:
    """
    JSON has no infinity: a visit that is not planned is at 0, as for Prometheus.
    """
    return state if state.next_poll < NEVER else replace(state, next_poll=0.0)


def _status_page(site: Site) -> Answer:
    now, accounts = site.clock(), site.accounts()
    order = sorted(accounts.items(), key=lambda item: (not item[1].reason, item[0]))
    rows = "\n".join(_row(name, state, now) for name, state in order[:MOST_ROWS])
    failing = sum(bool(state.reason) for state in accounts.values())
    left_out = len(order) - MOST_ROWS
    more = f"<p>{left_out} more: see ?format=json</p>" if left_out > 0 else ""
    body = _PAGE.format(
        style=STYLE,
        version=escape(__version__),
        accounts=len(accounts),
        failing=f", {failing} failing" if failing else "",
        rows=rows,
        more=more,
        time=_moment(now),
    )
    return Answer(HTTPStatus.OK, "text/html; charset=utf-8", body.encode())


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>popfetchd</title>
<style>{style}</style>
</head>
<body>
<h1>popfetchd <small>{version} · accounts: {accounts}{failing}</small></h1>
<table>
<thead><tr><th>account<th>state<th>last visit<th>next visit<th class="n">archived\
<th class="n">waiting<th class="n">quarantined<th>what is wrong, and what to do</tr>\
</thead>
<tbody>
{rows}
</tbody>
</table>
{more}
<p class="hint">As of {time}. <a href="/metrics">metrics</a> ·\
 <a href="/?format=json">JSON</a></p>
</body>
</html>
"""


def _row(name: AccountName, state: AccountState, now: float) -> str:
    condition = Condition.of(state).value
    cells = [
        f"<td>{escape(name)}",
        f'<td class="{condition}">{_condition(state)}',
        f"<td>{_ago(state.last_poll, now)}",
        f"<td>{_until(state.next_poll, now)}",
        f'<td class="n">{state.archived}',
        f'<td class="n">{state.waiting}',
        f'<td class="n">{state.quarantined}',
        f"<td>{_trouble(state, now)}",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _condition(state: AccountState) -> str:
    times = f", {state.consecutive_failures} in a row" if state.reason else ""
    return f"{Condition.of(state)}{times}"


def _trouble(state: AccountState, now: float) -> str:
    return "<br>".join(
        f'{escape(what)}<br><span class="hint">{escape(hint)}</span>'
        for what, hint in standing(state, now)
    )


def _ago(moment: float, now: float) -> str:
    if not moment:
        return "never"
    return f'<span title="{_moment(moment)}">{_span(now - moment)} ago</span>'


def _until(moment: float, now: float) -> str:
    if not 0 < moment < NEVER:
        return "not planned"
    if moment <= now:
        return "now"
    return f'<span title="{_moment(moment)}">in {_span(moment - now)}</span>'


def _span(seconds: float) -> str:
    """
    Return a span as a person says it, in its largest unit.
    """
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


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
        self.end_headers()
        if with_body:
            self.wfile.write(found.body)

    def _find(self) -> Answer:
        server, host = cast(Server, self.server), self.headers.get("Host")
        if server.loopback and host and not is_loopback(host_of(host)):
            return said(HTTPStatus.MISDIRECTED_REQUEST, "no such host here")
        return answer(server.site, self.path)

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


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """
    Serves *site* on *host* and *port*, each connection in a thread of its own.

    Raises OSError if the address is not to be had.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = CONNECTIONS

    def __init__(self, host: str, port: int, site: Site) -> None:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self.address_family = family
        self.site = site
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
        return f"http://{host}:{self.port}/"

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

    def handle_error(self, _request: object, _client_address: object) -> None:
        """
        A client that went away or was too slow concerns nobody; a fault of ours does.
        """
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            raise error
