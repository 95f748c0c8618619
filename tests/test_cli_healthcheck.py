"""
`popfetchd healthcheck`: asks whoever listens where the configuration says.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from popfetchd.cli import healthcheck
from tests.desk import desk


@pytest.fixture
def here(tmp_path, capsys):
    with desk(tmp_path, capsys) as made:
        yield made


@contextmanager
def service(status=200, body=b"ok\n"):
    """
    Serve one answer on a free port of loopback; give the port, and what was asked.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()
            thread.join()


def test_a_service_that_is_well_is_0(here):
    """
    What it says is told, and the code is for Docker.
    """
    with service() as (port, asked):
        here.write(http={"listen": f"127.0.0.1:{port}"})
        assert (0, "ok\n", "") == here.type("healthcheck")
    assert ["/healthz"] == asked


def test_a_service_that_is_stuck_is_1(here):
    """
    Any answer but 200 is unhealthy.
    """
    with service(503, b"stuck: nothing is being planned\n") as (port, _):
        here.write(http={"listen": f"127.0.0.1:{port}"})
        told = "stuck: nothing is being planned\n"
        assert (1, told, "") == here.type("healthcheck")


def test_no_service_is_1(here):
    """
    One line and a hint.
    """
    with service() as (port, _):
        pass
    here.write(http={"listen": f"127.0.0.1:{port}"})
    code, out, err = here.type("healthcheck")
    assert (1, "") == (code, out)
    assert (
        f"popfetchd: http://127.0.0.1:{port}/healthz: [Errno 111] Connection refused\n"
        "  hint: is the service running, and listening there?\n"
    ) == err


def test_the_address_may_be_given(here):
    """
    `--url` goes before the configuration, which need not be there.
    """
    with service() as (port, asked):
        url = f"http://127.0.0.1:{port}"
        assert 0 == here.type("healthcheck", "--url", url)[0]
        assert 0 == here.type("healthcheck", "--url", f"{url}/readyz")[0]
    assert ["/healthz", "/readyz"] == asked


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:x/",
        "http://[::1/",
        "http://a b/",
        "http://127.0.0.1:1/\r\nX: y",
        "ftp://127.0.0.1:1/",
        "nonsense",
    ],
)
def test_an_address_that_is_none_is_1(here, url):
    """
    What cannot be asked is not well, and no traceback.
    """
    code, out, err = here.type("healthcheck", "--url", url)
    assert (1, "") == (code, out)
    assert 2 == len(err.splitlines())


def test_what_answers_does_not_write_to_the_terminal(here):
    """
    Whoever listens there may be anybody.
    """
    with service(body=b"\x1b[2J\xff" + b"x" * 1000) as (port, _):
        _, out, _ = here.type("healthcheck", "--url", f"http://127.0.0.1:{port}")
    assert out.startswith(r"\x1b[2J\ufffdxxx")
    assert len(out) < 300


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http: {listen: '127.0.0.1:1234'}\n", "127.0.0.1:1234"),
        ('http: {listen: "[::1]:1234"}\n', "[::1]:1234"),
        ("http:\n  listen: 127.0.0.1:1234 # here\n", "127.0.0.1:1234"),
        ("http:\n    listen: 0.0.0.0:1234\n", "127.0.0.1:1234"),
        ("http: {listen: '[::]:1234'}\n", "[::1]:1234"),
        ("http: { listen: 0.0.0.0:1234 }\n", "127.0.0.1:1234"),
        ("# http: {listen: '127.0.0.1:1'}\n", "127.0.0.1:10995"),
        ("accounts: []\n", "127.0.0.1:10995"),
    ],
)
def test_the_address_is_read_from_the_configuration(tmp_path, text, address):
    """
    However the one key is written; without it, the default.
    """
    path = tmp_path / "popfetchd.yaml"
    path.write_text(text)
    assert f"http://{address}" == healthcheck._service(path)


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("http:\n  tls:\n    cert_file: /x\n", "https"),
        ("http: {tls: {key_file: /k, cert_file: /x}}\n", "https"),
        ("# http: {tls: {cert_file: /x}}\n", "http"),
        ("accounts:\n  - tls: implicit\n    client_cert: /x\n", "http"),
    ],
)
def test_a_certificate_is_read_from_the_configuration(tmp_path, text, scheme):
    """
    Where the pages have one, it asks over TLS.
    """
    path = tmp_path / "popfetchd.yaml"
    path.write_text(text)
    assert f"{scheme}://127.0.0.1:10995" == healthcheck._service(path)


def test_without_a_configuration_the_default_is_asked(capsys):
    """
    That it could not be read is told.
    """
    assert "http://127.0.0.1:10995" == healthcheck._service(Path("/nonexistent/x.yaml"))
    assert "asking 127.0.0.1:10995" in capsys.readouterr().err


@contextmanager
def line(answer, *, then=lambda connection: None):
    """
    Say *answer* to whoever connects, do *then*, and hang up; give the address.
    """

    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)
            then(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join()


@pytest.mark.parametrize(
    "answer", [b"", b"220 ready\r\n", b"HTTP/1.1 \r\n\r\nok", b"HTTP/1.0 2000 \r\n"]
)
def test_what_is_no_http_is_1(here, answer):
    """
    Another service that took the port does not pass for this one.
    """
    with line(answer) as url:
        code, out, err = here.type("healthcheck", "--url", url)
    assert (1, "") == (code, out)
    assert f"popfetchd: {url}: that is no answer in HTTP\n" in err


def test_an_answer_without_end_is_not_waited_for(here, monkeypatch):
    """
    Octets that drip do not make the patience longer.
    """
    monkeypatch.setattr(healthcheck, "SECONDS", 0.05)
    with line(b"HTTP/1.0 200 OK\r\n", then=lambda c: c.recv(1)) as url:
        code, out, err = here.type("healthcheck", "--url", url)
    assert (1, "") == (code, out)
    assert f"popfetchd: {url}: timed out\n" in err


def test_it_loads_next_to_nothing():
    """
    It runs every half minute for years: no YAML, pydantic or structlog for it, and of the
    standard library nothing that costs more than the question.
    """
    code = (
        "import sys; from popfetchd.cli import main; "
        "main(['healthcheck', '--url', 'http://127.0.0.1:1/']); "
        "print(*{'yaml', 'pydantic', 'structlog', 'apscheduler', 'popfetchd.values', "
        "'http.client', 'email', 'ssl', 'dataclasses', 'inspect'} "
        "& set(sys.modules))"
    )
    # -S: what this machine loads into every Python is not ours.
    found = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\n" == found.stdout
