"""
`popfetchd healthcheck`: ask the running service whether it is well. For containers.

Rules of this file:

- It imports next to nothing: it runs every half minute, for years. So the question is
  put on a socket (`http.client` would double the time), in HTTP/1.0: the answer ends
  where the connection does.
- The address is read from the configuration by one regular expression: to load YAML
  and pydantic for it would cost a hundred times what the question costs.
- A certificate is not verified, as a kubelet does not: the question holds no secret, the
  answer is one word, and on loopback the name in the certificate is another one.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time

from argparse import Namespace
from pathlib import Path

from popfetchd.config.find import find
from popfetchd.errors import quote


LISTEN = re.compile(
    r"""^(?:http:[^\n#]*?|[ \t]+)\blisten:[ \t]*["']?([^"'\s,}]+)""", re.MULTILINE
)
CERTIFICATE = re.compile(r"^[^#\n]*\bcert_file:", re.MULTILINE)
"""The key by which everything is served over TLS; no account has one of that name."""

DEFAULT = "127.0.0.1:10995"
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 -- asks, binds not
SECONDS = 5.0
"""Until the whole answer is there; Docker asks with the same patience."""
LONGEST_ANSWER = 4096
"""Octets, the header with them; the service says one line."""

URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[^\[\]\s/]+\]|[^\[\]\s:/]+)(?::(?P<port>[0-9]{1,5}))?(?P<path>/[!-~]*)?",
    re.ASCII,
)
STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r\n]")
OK = 200


def run(arguments: Namespace) -> int:
    """
    Return 0 if the service says that it is well, 1 otherwise.
    """
    url = arguments.url or f"{_service(arguments.config)}/healthz"
    try:
        status, told = _ask(url)
    except (OSError, ValueError) as error:
        print(f"popfetchd: {_quoted(url)}: {_quoted(error)}", file=sys.stderr)
        print("  hint: is the service running, and listening there?", file=sys.stderr)
        return 1
    print(_quoted(told))
    return 0 if status == OK else 1


def _ask(url: str) -> tuple[int, str]:
    where = URL.fullmatch(url)
    if where is None:
        raise ValueError("that is no address")
    end = time.monotonic() + SECONDS
    with _connected(where) as line:
        host, path = url.split("/")[2], where["path"] or "/healthz"
        line.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        return _read(_received(line, end))


def _connected(where: re.Match[str]) -> socket.socket:
    host, secure = where["host"].strip("[]"), where["scheme"] == "https"
    port = int(where["port"] or (443 if secure else 80))
    line = socket.create_connection((host, port), SECONDS)
    return _secured(line) if secure else line


def _secured(line: socket.socket) -> socket.socket:
    import ssl  # noqa: PLC0415 -- where it is needed only, see the rules above

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(line)


def _received(line: socket.socket, end: float) -> bytes:
    octets = b""
    while len(octets) < LONGEST_ANSWER:
        line.settimeout(max(end - time.monotonic(), 0.001))
        more = line.recv(LONGEST_ANSWER)
        if not more:
            break
        octets += more
    return octets[:LONGEST_ANSWER]


def _read(octets: bytes) -> tuple[int, str]:
    status = STATUS.match(octets)
    if status is None:
        raise ValueError("that is no answer in HTTP")
    body = octets.partition(b"\r\n\r\n")[2]
    return int(status[1]), body.decode("ascii", "replace").strip()


def _quoted(told: object) -> str:
    # `--url` may lead anywhere: nothing there writes to the terminal (P4).
    return quote(str(told))[1:-1]


def _service(config: Path | None) -> str:
    try:
        text = find(config, os.environ).read_text("utf-8", "replace")
    except OSError as error:
        print(f"popfetchd: {error}; asking {DEFAULT}", file=sys.stderr)
        return f"http://{DEFAULT}"
    found = LISTEN.search(text)
    address = found[1] if found else DEFAULT
    host, _, port = address.rpartition(":")
    scheme = "https" if CERTIFICATE.search(text) else "http"
    return f"{scheme}://{EVERYWHERE.get(host, host)}:{port}"
