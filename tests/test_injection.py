"""
A server that sends for the terminal: what it says, and where it must not get to (P4).

Rules of this file: the server is a real one on loopback, and hostile in every text that it
may choose; popfetchd is the command line and the service. What each of them wrote is a
sink, and each sink is looked at for the same characters.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import socketserver
import threading

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.desk import Desk, desk, until


pytestmark = pytest.mark.slow

EVIL = b"\x1b[2J\x1b]0;t\x07\r\x9b31m\xe2\x80\xae\xe2\x80\xa8\0evil<script>'\"&{}%s"
"""ESC, BEL, CR, C1, U+202E, U+2028, NUL, markup, and what quotes and formats."""

ENCODED = b"=?utf-8?q?=1B[2J=E2=80=AE=0D=0A=00evil=C2=9B<script>?="
"""The same for a header, where LF can be smuggled in as well."""

LETTER = (
    b"From: %b <a@b>\r\nMessage-ID: <%b@x>\r\nDate: %b\r\nSubject: %b %b\r\n"
    b"Received: from %b; Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\nbody\r\n"
) % (ENCODED, EVIL, EVIL, ENCODED, EVIL, EVIL)

GREETED = b"+OK " + EVIL + b"\r\n"
STUFFED = LETTER + b".\r\n"


class HostilePop3(socketserver.StreamRequestHandler):
    """
    Serves two messages, of which the second cannot be had; refuses `refused`.
    """

    def handle(self) -> None:
        self.wfile.write(GREETED)
        refused = False
        while line := self.rfile.readline():
            keyword, *words = line.decode("latin-1").split()
            refused |= words == ["refused"]
            self.wfile.write(reply(keyword.upper(), words, refused=refused))
            if keyword.upper() == "QUIT":
                return


def reply(keyword: str, words: list[str], *, refused: bool) -> bytes:
    """
    Return what is said to one command.
    """
    if keyword == "CAPA":
        tags = (b"X-" + EVIL, b"SASL " + EVIL, b"IMPLEMENTATION " + EVIL, b"TOP")
        return GREETED + b"\r\n".join([*tags, b"UIDL", b"."]) + b"\r\n"
    if keyword == "UIDL":
        return b"%b1 one%b\r\n2 two%b\r\n.\r\n" % (GREETED, EVIL, EVIL)
    if keyword == "LIST":
        return b"%b1 10 %b\r\n2 20\r\n.\r\n" % (GREETED, EVIL)
    if keyword == "STAT":
        return b"+OK 2 30 %b\r\n" % EVIL
    if (keyword, words[:1]) == ("RETR", ["2"]) or (keyword == "PASS" and refused):
        return b"-ERR " + EVIL + b"\r\n"
    return GREETED + (STUFFED if keyword in {"RETR", "TOP"} else b"")


class Service(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextmanager
def hostile_server() -> Iterator[int]:
    """
    Give the port of the hostile server.
    """
    with Service(("127.0.0.1", 0), HostilePop3) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def configure(here: Desk, port: int, **keys: object) -> None:
    """
    Write a configuration of two accounts on the hostile server.
    """
    accounts = []
    for name in ("served", "refused"):
        here.private(f"{name}.pass", "tiger\n")
        accounts.append(
            {
                "name": name,
                "host": "127.0.0.1",
                "port": port,
                "tls": "none",
                "auth": "user",
                "user": name,
                "password_file": f"{name}.pass",
                "every": "1s",
                "jitter": "0s",
                "delete_after": "verified",
                "archive": {
                    "format": "maildir",
                    "path": f"{here.directory}/mail/{name}/{{year}}-{{month}}",
                },
            }
        )
    here.write(*accounts, **keys)


LOOKING = (
    ("check",),
    ("check", "--json"),
    ("list", "served"),
    ("list", "served", "--json"),
    ("fetch", "--dry-run"),
)
TELLING = (("status",), ("status", "--json"))
VERBS = (*LOOKING, ("fetch",), ("fetch", "--json"), *TELLING)

PAGES = ("/", "/metrics", "/?format=json")


@pytest.fixture(scope="module")
def sinks(tmp_path_factory) -> dict[str, str]:
    """
    What popfetchd wrote, and where.
    """
    directory = tmp_path_factory.mktemp("hostile")
    with desk(directory) as here, hostile_server() as port:
        found = service(here, port) | typed(here, *LOOKING)
        found |= typed(here, ("fetch",)) | typed(here, ("fetch", "--json"))
        found |= typed(here, *TELLING)
        return found | {"file names": names(directory)}


def typed(here: Desk, *verbs: tuple[str, ...]) -> dict[str, str]:
    """
    Run *verbs* side by side; return what each wrote.
    """
    found = {}
    for verb, process in [(" ".join(verb), here.spawn(*verb)) for verb in verbs]:
        out, err = process.communicate(timeout=60)
        found |= {verb: out, f"stderr of {verb}": err}
    return found


def service(here: Desk, port: int) -> dict[str, str]:
    """
    Run the service until both accounts were visited; return its log and its pages.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        http_port = free.getsockname()[1]
    listen = f"127.0.0.1:{http_port}"
    configure(here, port, http={"listen": listen}, log={"format": "console"})
    log = here.directory / "log"
    with log.open("wb") as stderr:
        process = here.spawn("run", stderr=stderr)

        def told() -> bool:
            text = log.read_bytes()
            return b"refused PASS" in text and b"account=served" in text

        until(told)
        pages = {page: fetched(http_port, page) for page in PAGES}
        process.terminate()
        process.wait(30)
    return pages | {"log": log.read_bytes().decode()}


def fetched(port: int, page: str) -> str:
    """
    Return a page of the service.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", page)
    body = connection.getresponse().read()
    connection.close()
    return body.decode()


def names(directory: Path) -> str:
    """
    Return the name of each file there is, a line each.
    """
    paths = (path.relative_to(directory) for path in directory.rglob("*"))
    return "".join(f"{str(path)!r}\n" for path in paths)


SINKS = [
    *(" ".join(verb) for verb in VERBS),
    *(f"stderr of {' '.join(verb)}" for verb in VERBS),
    *PAGES,
    "log",
    "file names",
]

REACHED = [
    "check",
    "list served",
    "list served --json",
    "fetch --json",
    "stderr of fetch",
    "status",
    "/",
    "/?format=json",
    "log",
]
"""Where an operator has to see what the server said: harmless, but there."""


def test_every_sink_is_looked_at(sinks):
    """
    The list of sinks is what was written, no less.
    """
    assert set(SINKS) == set(sinks)


@pytest.mark.parametrize("sink", SINKS)
def test_nothing_a_server_sends_gets_to_a_terminal(sinks, sink):
    """
    No sink holds a character that is not printable, but for the ends of its own lines.
    """
    found = {c for c in sinks[sink] if not c.isprintable() and c != "\n"}
    assert set() == found, sinks[sink]


@pytest.mark.parametrize("sink", REACHED)
def test_what_the_server_said_is_seen(sinks, sink):
    """
    It is escaped, not dropped: the operator sees what went wrong.
    """
    assert "evil" in sinks[sink]


def test_no_markup_gets_to_the_status_page(sinks):
    """
    What a server sends is text of the page.
    """
    assert "<script" not in sinks["/"]
    assert "evil&lt;script&gt;" in sinks["/"]


def test_no_label_is_a_server_s(sinks):
    """
    Labels are configured names and closed sets: nothing of the server's is among them.
    """
    assert "evil" not in sinks["/metrics"]
    labels = set(re.findall(r'account="([^"]*)"', sinks["/metrics"]))
    assert {"served", "refused"} == labels


@pytest.mark.parametrize(
    "sink", [s for s in SINKS if re.match(r"(?!stderr).*json$", s)]
)
def test_json_is_json(sinks, sink):
    """
    What is told to programs can be read by them.
    """
    assert json.loads(sinks[sink])


def test_no_file_is_named_by_a_server(sinks):
    """
    File names hold nothing of the server's: a plain ASCII word each.
    """
    assert "mail/served/2026-11/new/" in sinks["file names"]
    assert "evil" not in sinks["file names"]
    assert re.fullmatch(r"(?:'[A-Za-z0-9._,:=/-]+'\n)+", sinks["file names"])
