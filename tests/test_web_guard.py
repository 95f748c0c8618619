"""
Passwords and certificates of the pages.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl

import bcrypt
import pytest
import trustme

from popfetchd import pem
from popfetchd.cli import healthcheck
from popfetchd.errors import ConfigurationError
from popfetchd.web import Access, Guard, Server, Site, guard, tls_context


CHEAP = 4
"""The least cost that bcrypt has: tests need not wait."""


def hashed(password):
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(CHEAP)).decode()


LONG = "x" * guard.LONGEST_PASSWORD
USERS = {"prom": hashed("tiger"), "jürgen": hashed("löwe:1"), "long": hashed(LONG)}


def basic(user, password, scheme="Basic"):
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    return f"{scheme} {token}"


# -- passwords ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "admitted"),
    [
        (basic("prom", "tiger"), True),
        (basic("prom", "tiger", "bAsIc"), True),
        (basic("jürgen", "löwe:1"), True),
        (basic("long", LONG), True),
        (basic("long", LONG + "y"), False),
        (basic("prom", "tige"), False),
        (basic("prom", "tiger\0"), False),
        (basic("prom", ""), False),
        (basic("PROM", "tiger"), False),
        (basic("", ""), False),
        (basic("nobody", "tiger"), False),
        (basic("nobody", LONG), False),
        (basic("prom", "tiger", "Bearer"), False),
        ("Basic cHJvb", False),
        ("Basic \xff", False),
        ("Basic /////w==", False),
        ("Basic", False),
        ("", False),
    ],
)
def test_who_is_admitted(header, admitted):
    """
    A known name with its own password; twice over, so that memory changes nothing.
    """
    door = Guard(USERS)
    assert (admitted, admitted) == (door.admits(header), door.admits(header))


def test_a_right_password_is_hashed_once(monkeypatch):
    """
    Each scrape bears it; a wrong one is tried anew, and makes no room for itself.
    """
    tried = []
    check = bcrypt.checkpw
    monkeypatch.setattr(
        bcrypt, "checkpw", lambda *given: tried.append(given) or check(*given)
    )
    door = Guard(USERS)
    for _ in range(3):
        assert door.admits(basic("prom", "tiger"))
    assert 1 == len(tried)
    for _ in range(2):
        assert not door.admits(basic("prom", "wrong"))
    assert 3 == len(tried)
    assert door.admits(basic("prom", "tiger"))
    assert ["prom"] == list(door._known)


def test_a_name_that_is_unknown_costs_the_same(monkeypatch):
    """
    It is tried against the dearest hash there is.
    """
    tried = []
    monkeypatch.setattr(bcrypt, "checkpw", lambda *given: tried.append(given[1]))
    dear = "$2y$10$" + 53 * "x"
    Guard(USERS | {"dear": dear}).admits(basic("nobody", "tiger"))
    assert [dear.encode()] == tried


def test_a_guess_that_would_match_somebody_admits_nobody():
    """
    The dearest hash belongs to a user; his password under another name does not pass.
    """
    assert not Guard({"prom": USERS["prom"]}).admits(basic("nobody", "tiger"))


# -- the certificate ------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def files(tmp_path, authority):
    """
    Write a certificate and its key; return both paths.
    """

    def write(name="cert"):
        leaf = authority.issue_cert("localhost", "127.0.0.1")
        cert, key = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
        leaf.cert_chain_pems[0].write_to_path(cert)
        leaf.private_key_pem.write_to_path(key)
        key.chmod(0o640)
        return cert, key

    return write


def test_a_key_may_stand_in_the_certificate_s_file(files):
    """
    One file is enough; TLS 1.2 is the least.
    """
    cert, key = files()
    cert.write_text(cert.read_text() + key.read_text())
    cert.chmod(0o600)
    assert ssl.TLSVersion.TLSv1_2 == tls_context(cert, None).minimum_version


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda cert, key: cert.unlink(), "cert_file: No such file or directory"),
        (lambda cert, key: key.unlink(), "key_file: No such file or directory"),
        (lambda cert, key: cert.write_text("x"), "cert_file: "),
        (lambda cert, key: key.write_text("x"), "key_file: "),
        (lambda cert, key: key.chmod(0o644), "key_file: everyone may read or write it"),
        (lambda cert, key: (key.unlink(), key.mkdir()), "key_file: it is not a file"),
        (
            lambda cert, key: key.write_text(
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n"
                "-----END ENCRYPTED PRIVATE KEY-----\n"
            ),
            "key_file: ",
        ),
    ],
)
def test_files_that_are_no_good_are_named(files, spoil, told):
    """
    Which of the two, and why; nothing is asked on the terminal.
    """
    cert, key = files()
    spoil(cert, key)
    with pytest.raises(ConfigurationError, match=f"as http: tls: {told}"):
        tls_context(cert, key)


def test_an_encrypted_key_is_refused():
    """
    Nobody is there to type its password.
    """
    with pytest.raises(ValueError, match="it is encrypted"):
        pem.no_password()


# -- the pages, so guarded ------------------------------------------------------------


@pytest.fixture
def serve():
    servers = []

    def serve_(access):
        site = Site(lambda: b"up 1\n", lambda: True, lambda: True, dict)
        server = Server("127.0.0.1", 0, site, access)
        server.start()
        servers.append(server)
        return server

    yield serve_
    for server in servers:
        server.stop()


def get(server, target, authority=None, **headers):
    if authority is None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    else:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", server.port, timeout=5, context=context
        )
    connection.request("GET", target, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


@pytest.mark.parametrize(
    "target", ["/", "/metrics", "/?format=json", "/x", "/healthz?x"]
)
def test_pages_want_a_password(serve, target):
    """
    Without one, or with a wrong one, nothing is told but that it is wanted.
    """
    server = serve(Access(guard=Guard(USERS)))
    for headers in ({}, {"Authorization": basic("prom", "wrong")}):
        response, body = get(server, target, **headers)
        assert (401, b"who are you?\n") == (response.status, body)
        challenge = 'Basic realm="popfetchd", charset="UTF-8"'
        assert challenge == response.headers["WWW-Authenticate"]
    response, _ = get(server, target, Authorization=basic("prom", "tiger"))
    assert 401 != response.status
    assert "WWW-Authenticate" not in response.headers


@pytest.mark.parametrize("target", ["/healthz", "/readyz"])
def test_health_needs_no_password(serve, target):
    """
    What asks for it has none, and one word is no secret.
    """
    response, _ = get(serve(Access(guard=Guard(USERS))), target)
    assert 200 == response.status


def test_the_pages_are_served_over_tls(serve, files, authority):
    """
    With the certificate that is configured, and a password beside it.
    """
    server = serve(Access(tls_context(*files()), Guard(USERS)))
    assert f"https://127.0.0.1:{server.port}/" == server.url
    assert 401 == get(server, "/metrics", authority)[0].status
    allowed = {"Authorization": basic("prom", "tiger")}
    _, body = get(server, "/?format=json", authority, **allowed)
    assert {} == json.loads(body)["accounts"]


def test_a_silent_client_holds_up_no_handshake(serve, files, authority):
    """
    While some say nothing, or half of a hello, another is served.
    """
    server = serve(Access(tls_context(*files())))
    address = ("127.0.0.1", server.port)
    with socket.create_connection(address), socket.create_connection(address) as half:
        half.sendall(b"\x16\x03\x01\x02")
        assert 200 == get(server, "/healthz", authority)[0].status


@pytest.mark.parametrize("beginning", [b"", b"\x16\x03\x01\x02\x00"])
def test_a_slow_handshake_is_cut_off(serve, files, monkeypatch, beginning):
    """
    It has the seconds of a request, and its place comes back.
    """
    monkeypatch.setattr("popfetchd.web.server.REQUEST_SECONDS", 0.05)
    monkeypatch.setattr("popfetchd.web.server.CONNECTIONS", 1)
    server = serve(Access(tls_context(*files())))
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(beginning)
        assert b"" == client.recv(1)
    assert server._places.acquire(timeout=5)
    server._places.release()


def test_what_is_no_tls_is_left(serve, files, authority):
    """
    A request in clear gets no page, and disturbs nobody.
    """
    server = serve(Access(tls_context(*files())))
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        try:
            told = b"".join(iter(lambda: client.recv(4096), b""))
        except ConnectionResetError:
            told = b""
    assert b"up 1" not in told
    assert 200 == get(server, "/metrics", authority)[0].status


def test_access_may_be_replaced(serve, files, authority):
    """
    A certificate that was renewed is shown to who comes next; so are passwords asked.
    """
    server = serve(Access(tls_context(*files())))
    seen = []
    for name in ("cert", "other"):
        server.access = Access(tls_context(*files(name)))
        seen.append(ssl.get_server_certificate(("127.0.0.1", server.port), timeout=5))
    assert seen[0] != seen[1]
    server.access = Access(guard=Guard(USERS))
    assert 401 == get(server, "/metrics")[0].status


def test_the_health_check_gets_through(serve, files):
    """
    It asks over TLS, has no password, and knows no authority.
    """
    server = serve(Access(tls_context(*files()), Guard(USERS)))
    assert (200, "ok") == healthcheck._ask(f"{server.url}healthz")
