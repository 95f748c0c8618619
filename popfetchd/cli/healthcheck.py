"""
`popfetchd healthcheck`: ask the running service whether it is well. For containers.

Rules of this file:

- It imports next to nothing: it runs every half minute, for years.
- The address is read from the configuration by one regular expression: to load YAML
  and pydantic for it would cost a hundred times what the question costs.
- A certificate is not verified, as a kubelet does not: the question holds no secret, the
  answer is one word, and on loopback the name in the certificate is another one.
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
import sys

from argparse import Namespace
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

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
LONGEST_ANSWER = 200
"""Octets; the service says one line."""


def run(arguments: Namespace) -> int:
    """
    Return 0 if the service says that it is well, 1 otherwise.
    """
    url = arguments.url or f"{_service(arguments.config)}/healthz"
    try:
        status, told = _ask(url)
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"popfetchd: {url}: {_quoted(error)}", file=sys.stderr)
        print("  hint: is the service running, and listening there?", file=sys.stderr)
        return 1
    print(_quoted(told))
    return 0 if status == http.client.OK else 1


def _ask(url: str) -> tuple[int, str]:
    where = urlsplit(url)
    connection = _connection(where)
    try:
        connection.request("GET", where.path or "/healthz")
        response = connection.getresponse()
        told = response.read(LONGEST_ANSWER).decode("ascii", "replace")
    finally:
        connection.close()
    return response.status, told.strip()


def _connection(where: SplitResult) -> http.client.HTTPConnection:
    if where.scheme != "https":
        return http.client.HTTPConnection(where.netloc, timeout=SECONDS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(where.netloc, timeout=SECONDS, context=context)


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
