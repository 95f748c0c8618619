"""
The pages, over real sockets on loopback.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading

import pytest

from popfetchd.values import NEVER, AccountState
from popfetchd.web import address
from popfetchd.web import server as web


NOW = 1_800_000_000.0

STATES = {
    "alice": AccountState(
        last_poll=NOW - 40,
        last_success=NOW - 40,
        next_poll=NOW + 260,
        archived=12,
        waiting=3,
    ),
    "bob": AccountState(
        last_poll=NOW - 7200,
        next_poll=NOW - 1,
        consecutive_failures=4,
        reason="auth",
        error="the server refused PASS: '<script>alert(1)</script>'",
        hint="check user & password",
        quarantined=2,
        removals_paused=True,
    ),
    "carol": AccountState(next_poll=NEVER),
}


class World:
    """
    What the pages show; tests alter it.
    """

    healthy = True
    ready = True
    states = STATES


@pytest.fixture
def world(monkeypatch):
    for name in ("healthy", "ready", "states"):
        monkeypatch.setattr(World, name, getattr(World, name))
    return World


def make_server(host="127.0.0.1"):
    site = web.Site(
        metrics=lambda: b"popfetchd_up 1\n",
        healthy=lambda: World.healthy,
        ready=lambda: World.ready,
        accounts=lambda: World.states,
        clock=lambda: NOW,
    )
    return web.Server(host, 0, site)


@pytest.fixture(scope="module")
def server():
    server = make_server()
    server.start()
    yield server
    server.stop()


def get(server, target, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request(method, target, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def raw(server, octets):
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(octets)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


# -- pages ----------------------------------------------------------------------------


def test_metrics_are_served_as_text(server):
    """
    /metrics is the page it was given, in Prometheus' text format.
    """
    response, body = get(server, "/metrics")
    assert body == b"popfetchd_up 1\n"
    content_type = "text/plain; version=0.0.4; charset=utf-8"
    assert content_type == response.headers["Content-Type"]


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("/healthz", (b"ok\n", b"stuck: nothing is being planned\n")),
        ("/readyz", (b"ready\n", b"not ready\n")),
    ],
)
def test_health_is_told_by_status(server, world, target, told):
    """
    200 while all is well, 503 with a sentence otherwise.
    """
    well, ill = told
    response, body = get(server, target)
    assert (200, well) == (response.status, body)
    world.healthy = world.ready = False
    response, body = get(server, target)
    assert (503, ill) == (response.status, body)


def test_the_status_page_is_the_view_that_was_asked_for(server):
    """
    What stands in the query is what is shown.
    """
    response, body = get(server, "/?q=a&sort=-name")
    assert "text/html; charset=utf-8" == response.headers["Content-Type"]
    assert ["carol", "alice"] == re.findall(r'<td class="name">([a-z]+)', body.decode())


def test_what_a_server_said_cannot_become_markup(server):
    """
    Text from outside is escaped, and the policy forbids scripts in any case.
    """
    response, body = get(server, "/")
    assert b"<script" not in body
    assert b"&lt;script&gt;alert(1)" in body
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "script-src" not in policy
    assert "unsafe" not in policy


def test_the_policy_admits_the_page_s_own_style(server):
    """
    The hash in the policy is that of the one style element.
    """
    response, body = get(server, "/")
    style = re.search(rb"<style>(.*?)</style>", body, re.DOTALL)[1]
    import base64
    import hashlib

    digest = base64.b64encode(hashlib.sha256(style).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in response.headers["Content-Security-Policy"]


def test_every_answer_is_guarded(server):
    """
    Errors bear the same headers as pages, and nothing names our parts' versions.
    """
    for target in ("/", "/metrics", "/nothing"):
        response, _ = get(server, target)
        headers = response.headers
        assert "nosniff" == headers["X-Content-Type-Options"]
        assert "no-referrer" == headers["Referrer-Policy"]
        assert "no-store" == headers["Cache-Control"]
        assert "popfetchd" == headers["Server"]
    response, _ = get(server, "/", method="POST")
    assert 501 == response.status
    assert "nosniff" == response.headers["X-Content-Type-Options"]


def test_the_status_is_there_as_json(server):
    """
    `?format=json` gives every account with all that is remembered of it.
    """
    response, body = get(server, "/?format=json")
    page = json.loads(body)
    assert "application/json" == response.headers["Content-Type"]
    assert ["alice", "bob", "carol"] == list(page["accounts"])
    assert "failing" == page["accounts"]["bob"]["state"]
    assert 12 == page["accounts"]["alice"]["archived"]
    assert NOW == page["time"]
    assert 0 == page["accounts"]["carol"]["next_poll"]
    assert None is page["refusal"]


def test_head_has_no_body(server):
    """
    HEAD gives the length of the page, and no page.
    """
    response, body = get(server, "/metrics", method="HEAD")
    assert ("15", b"") == (response.headers["Content-Length"], body)


@pytest.mark.parametrize(
    ("target", "status"), [("/nothing", 404), ("http://[", 400), ("//x", 404)]
)
def test_other_pages_do_not_exist(server, target, status):
    """
    What is no page is told plainly.
    """
    reply = raw(server, f"GET {target} HTTP/1.0\r\n\r\n".encode())
    assert f" {status} ".encode() in reply.partition(b"\r\n")[0]


# -- hosts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:10995", 200),
        ("LOCALHOST.", 200),
        ("127.0.0.1", 200),
        ("127.1.2.3:80", 200),
        ("[::1]:10995", 200),
        ("attacker.example", 421),
        ("127.0.0.1.attacker.example:10995", 421),
        ("[2001:db8::1]:10995", 421),
        ("192.0.2.1", 421),
    ],
)
def test_foreign_hosts_are_refused_on_loopback(server, host, status):
    """
    A web site that rebinds its name to loopback reads nothing.
    """
    response, _ = get(server, "/metrics", Host=host)
    assert status == response.status


def test_any_host_is_served_elsewhere(server, monkeypatch):
    """
    On another address the operator's own name for it is no concern of ours.
    """
    monkeypatch.setattr(server, "loopback", False)
    response, _ = get(server, "/metrics", Host="mail.example.net")
    assert 200 == response.status


# -- hostile and unlucky clients ------------------------------------------------------


def test_a_silent_client_holds_up_nobody(server):
    """
    While one client says nothing, another is served.
    """
    with socket.create_connection(("127.0.0.1", server.port)):
        response, _ = get(server, "/healthz")
        assert 200 == response.status


@pytest.mark.parametrize("beginning", [b"", b"GET /"])
def test_a_slow_client_is_cut_off(server, monkeypatch, beginning):
    """
    A request must have arrived after REQUEST_SECONDS, however it dribbles.
    """
    monkeypatch.setattr(web, "REQUEST_SECONDS", 0.05)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(beginning)
        assert b"" == client.recv(1)


def test_time_does_not_start_anew_with_each_octet():
    """
    The last instant is fixed when the connection is made.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader = web.Bounded(ours)
        theirs.sendall(b"GET")
        assert 3 == reader.readinto(bytearray(10))
        reader._end = 0.0
        theirs.sendall(b" /")
        with pytest.raises(TimeoutError):
            reader.readinto(bytearray(10))


def test_an_endless_request_is_cut_off():
    """
    No more than REQUEST_OCTETS are read of a request line and its header.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader = web.Bounded(ours)
        theirs.sendall(bytes(web.REQUEST_OCTETS + 1))
        assert web.REQUEST_OCTETS == reader.readinto(bytearray(web.REQUEST_OCTETS + 1))
        with pytest.raises(OSError, match="too long"):
            reader.readinto(bytearray(1))


def test_half_a_request_is_not_answered(server):
    """
    A header that reaches the limit gets no page, though its beginning was good.
    """
    endless = b"GET /metrics HTTP/1.0\r\n" + b"X-Y: z\r\n" * 50
    long = b"X: " + bytes(web.REQUEST_OCTETS) + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(endless + long)
        try:
            reply = client.recv(65536)
        except ConnectionResetError:
            reply = b""
    assert b"" == reply


def test_too_many_connections_are_closed(monkeypatch):
    """
    One connection more than CONNECTIONS is closed at once, and places come back.
    """
    monkeypatch.setattr(web, "CONNECTIONS", 2)
    server = make_server()
    server.start()
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as third:
        assert b"" == third.recv(1)
    for client in silent:
        client.shutdown(socket.SHUT_WR)
        assert b"" == client.recv(1)
        client.close()
    for _ in range(2):
        assert server._places.acquire(timeout=5)
        server._places.release()
    server.stop()


def test_no_thread_to_be_had(monkeypatch):
    """
    If the system gives no thread, that connection is closed, and its place is free.
    """
    monkeypatch.setattr(web, "CONNECTIONS", 1)
    server = make_server()
    server.start()
    start = threading.Thread.start

    def refuse(thread):
        monkeypatch.setattr(threading.Thread, "start", start)
        raise RuntimeError

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert b"" == raw(server, b"")
    response, _ = get(server, "/healthz")
    server.stop()
    assert 200 == response.status


def test_a_fault_of_ours_is_not_silent(server, world, monkeypatch):
    """
    An exception in a page reaches the thread's excepthook; the server goes on.
    """
    seen = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    world.states = None
    assert b"" == raw(server, b"GET / HTTP/1.0\r\n\r\n")
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(5)
    assert [AttributeError] == [args.exc_type for args in seen]
    response, _ = get(server, "/healthz")
    assert 200 == response.status


# -- the address ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:10995", ("127.0.0.1", 10995)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:80", ("::1", 80)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_listen_addresses(text, expected):
    """
    host:port and [v6]:port are read.
    """
    assert expected == address.parse_listen(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("10995", "'10995' is no address; write 127.0.0.1:10995 or [::1]:10995"),
        (":10995", "':10995' is no address; write 127.0.0.1:10995 or [::1]:10995"),
        ("localhost:", "'localhost:' is no address; write 127.0.0.1:10995 or"),
        ("localhost:x", "'localhost:x' is no address; write 127.0.0.1:10995 or"),
        ("::1:80", "'::1:80': an IPv6 address stands in brackets: [::1]:10995"),
        ("localhost:65536", "'localhost:65536': a port is at most 65535"),
    ],
)
def test_addresses_that_are_none(text, sentence):
    """
    Anything else is refused in a plain sentence.
    """
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        address.parse_listen(text)


def test_the_bound_address_is_told(server):
    """
    With port 0 the system chooses, and url says what it chose; also for IPv6.
    """
    assert f"http://127.0.0.1:{server.port}/" == server.url
    six = make_server("::1")
    assert f"http://[::1]:{six.port}/" == six.url
    assert six.loopback
    six.server_close()
