"""
Every way to log in, against a real server: the right credential and a wrong one.

Rules of this file:

- One Dovecot takes every mechanism. Access tokens it asks about at an introspection
  endpoint (RFC 7662), which the test serves: a token is its user's name, reversed.
- A session is opened as a visit opens it; what an operator sees is shown by `fetch`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import urllib.parse

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from popfetchd.errors import AuthenticationRefused, NoMechanism, TokenRefused
from popfetchd.pop3.deadline import Deadline
from popfetchd.pop3.session import Session, open_session
from popfetchd.pop3.tls import TlsContexts
from popfetchd.values import (
    AccessToken,
    Mechanism,
    Secret,
    Server,
    TlsMode,
    TlsPolicy,
)
from tests.live.conftest import give_up
from tests.live.dovecot import HOST, Dovecot, User, missing, running
from tests.wire import Installation


pytestmark = pytest.mark.live

EVERY_MECHANISM = """
auth_mechanisms = plain login apop cram-md5 scram-sha-1 scram-sha-256 \
  xoauth2 oauthbearer external
auth_username_chars =
ssl_verify_client_cert = yes
ssl_require_crl = no
ssl_ca = <{ca}
auth_ssl_username_from_cert = yes
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {oauth2}
}}
passdb {{
  driver = static
  mechanisms = external
  args = nopassword
}}
"""

INTROSPECTION = """
introspection_mode = post
introspection_url = http://127.0.0.1:{port}/introspect
username_attribute = sub
active_attribute = active
active_value = true
"""

PASSWORDS = [
    Mechanism.USER,
    Mechanism.APOP,
    Mechanism.PLAIN,
    Mechanism.LOGIN,
    Mechanism.CRAM_MD5,
    Mechanism.SCRAM_SHA_1,
    Mechanism.SCRAM_SHA_256,
]
TOKENS = [Mechanism.XOAUTH2, Mechanism.OAUTHBEARER]

each_password = pytest.mark.parametrize("mechanism", PASSWORDS)
each_token = pytest.mark.parametrize("mechanism", TOKENS)


class Introspection(BaseHTTPRequestHandler):
    """
    Tells whose a token is: its user, reversed; `expired` is not active.
    """

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        form = urllib.parse.parse_qs(self.rfile.read(length).decode())
        token = form.get("token", [""])[0]
        active = not token.startswith("expired")
        told = {"active": active, "sub": token[::-1]} if active else {"active": False}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def introspecting() -> Iterator[int]:
    """
    Serve the endpoint, and give its port.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), Introspection)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture(scope="module")
def people() -> trustme.CA:
    """
    Who vouches for client certificates.
    """
    return trustme.CA()


@pytest.fixture(scope="module")
def mechanisms(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    people: trustme.CA,
) -> Iterator[Dovecot]:
    """
    A Dovecot that takes every mechanism.
    """
    if reason := missing():
        give_up(request.config, reason)
    folder = tmp_path_factory.mktemp("mechanisms")
    ca, oauth2 = folder / "people.pem", folder / "oauth2.conf.ext"
    people.cert_pem.write_to_path(ca)
    with introspecting() as port:
        oauth2.write_text(INTROSPECTION.format(port=port))
        with running(EVERY_MECHANISM.format(ca=ca, oauth2=oauth2)) as server:
            yield server


@pytest.fixture(scope="module")
def user(mechanisms: Dovecot) -> User:
    return mechanisms.add_user("mary.o=hara", "right, hörse")


def token_of(user: User) -> AccessToken:
    return AccessToken(urllib.parse.quote(user.name[::-1], safe="=."))


@contextmanager
def session(
    dovecot: Dovecot, certificate: Path | None = None, mode: TlsMode = TlsMode.IMPLICIT
) -> Iterator[Session]:
    """
    Open a session as a visit opens it; *certificate* is the client's.
    """
    ports, none = dovecot.ports, mode is TlsMode.NONE
    policy = TlsPolicy(mode, None if none else dovecot.ca_file, certificate)
    port = ports.pop3s if mode is TlsMode.IMPLICIT else ports.pop3
    server = Server(HOST, port, policy, 10.0)
    with open_session(server, TlsContexts(), Deadline(30.0)) as opened:
        yield opened


# -- passwords ------------------------------------------------------------------------


@each_password
@pytest.mark.parametrize("mode", TlsMode)
def test_the_right_password(
    mechanisms: Dovecot, user: User, mechanism: Mechanism, mode: TlsMode
) -> None:
    """Each mechanism opens the maildrop, in TLS, after STLS and in clear."""
    with session(mechanisms, mode=mode) as opened:
        opened.login(user.name, Secret(user.password), mechanism)
        assert (0, mechanism) == (opened.stat().messages, opened.mechanism)
        opened.quit()


@each_password
def test_a_wrong_password(
    mechanisms: Dovecot, user: User, mechanism: Mechanism
) -> None:
    """Each mechanism is refused in the same way, and nothing else is tried."""
    with session(mechanisms) as opened:
        with pytest.raises(AuthenticationRefused, match=r"\[AUTH\]") as caught:
            opened.login(user.name, Secret("wrong horse"), mechanism)
        assert (None, "AUTHORIZATION") == (opened.mechanism, opened.state)
    assert "horse" not in str(caught.value)


# -- access tokens --------------------------------------------------------------------


@each_token
@pytest.mark.parametrize("mode", [TlsMode.IMPLICIT, TlsMode.STLS])
def test_the_right_token(
    mechanisms: Dovecot, user: User, mechanism: Mechanism, mode: TlsMode
) -> None:
    """An access token that is active, and the user's, opens the maildrop."""
    with session(mechanisms, mode=mode) as opened:
        opened.login(user.name, token_of(user), mechanism)
        assert (0, mechanism) == (opened.stat().messages, opened.mechanism)
        opened.quit()


@each_token
@pytest.mark.parametrize("token", ["expired", "ydobon"])
def test_a_wrong_token(
    mechanisms: Dovecot, user: User, mechanism: Mechanism, token: str
) -> None:
    """A token that is not active, or another's, is refused with what Dovecot tells."""
    with session(mechanisms) as opened:
        with pytest.raises(TokenRefused, match=r"\[AUTH\]") as caught:
            opened.login(user.name, AccessToken(token), mechanism)
        assert "AUTHORIZATION" == opened.state
    told = json.loads(caught.value.told)["status"]
    assert ("401" if mechanism is Mechanism.XOAUTH2 else "invalid_token") == told


# -- certificates ---------------------------------------------------------------------


def certificate_of(name: str, people: trustme.CA, folder: Path) -> Path:
    """
    Write a client certificate with its key for *name*.
    """
    path = folder / f"{name}.pem"
    path.touch(0o600)
    issued = people.issue_cert("client.example", common_name=name)
    issued.private_key_and_cert_chain_pem.write_to_path(path)
    return path


def test_external(
    mechanisms: Dovecot, user: User, people: trustme.CA, tmp_path: Path
) -> None:
    """The certificate of the user opens the maildrop, without any secret."""
    certificate = certificate_of(user.name, people, tmp_path)
    for mode in (TlsMode.IMPLICIT, TlsMode.STLS):
        with session(mechanisms, certificate, mode) as opened:
            opened.login(user.name, Secret(""), Mechanism.EXTERNAL)
            assert Mechanism.EXTERNAL == opened.mechanism
            opened.quit()


def test_another_ones_certificate(
    mechanisms: Dovecot, user: User, people: trustme.CA, tmp_path: Path
) -> None:
    """Who shows another one's certificate gets nobody's mail."""
    certificate = certificate_of("nobody", people, tmp_path)
    with session(mechanisms, certificate) as opened:
        with pytest.raises(AuthenticationRefused):
            opened.login(user.name, Secret(""), Mechanism.EXTERNAL)
        assert "AUTHORIZATION" == opened.state


# -- auto -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "in_tls", "in_clear"),
    [
        ("plain login apop cram-md5", "plain", "cram-md5"),
        ("login", "login", "login"),
        ("plain scram-sha-1", "scram-sha-1", "scram-sha-1"),
        ("cram-md5", "cram-md5", "cram-md5"),
    ],
)
def test_auto(
    request: pytest.FixtureRequest, offered: str, in_tls: str, in_clear: str
) -> None:
    """AUTO takes the strongest that this Dovecot offers, and it works."""
    if reason := missing():
        give_up(request.config, reason)
    with running(f"auth_mechanisms = {offered}\n") as dovecot:
        user = dovecot.add_user()
        for mode, taken in (
            (TlsMode.IMPLICIT, in_tls),
            (TlsMode.STLS, in_tls),
            (TlsMode.NONE, in_clear),
        ):
            with session(dovecot, mode=mode) as opened:
                opened.login(user.name, Secret(user.password), Mechanism.AUTO)
                assert taken == opened.mechanism
                opened.quit()


def test_auto_with_everything(mechanisms: Dovecot, user: User) -> None:
    """Of all mechanisms AUTO takes SCRAM-SHA-256 for a password, OAUTHBEARER for a token."""
    for secret, taken in (
        (Secret(user.password), Mechanism.SCRAM_SHA_256),
        (token_of(user), Mechanism.OAUTHBEARER),
    ):
        with session(mechanisms) as opened:
            opened.login(user.name, secret, Mechanism.AUTO)
            assert taken == opened.mechanism
            opened.quit()


def test_auto_does_not_fall(mechanisms: Dovecot) -> None:
    """
    Where the password is kept hashed, SCRAM is refused, and PLAIN not tried unasked; the
    hint names it, and it works when it is named.
    """
    digest = base64.b64encode(hashlib.sha256(b"right horse").digest()).decode()
    hashed = mechanisms.add_user(password=f"{{SHA256}}{digest}")
    with session(mechanisms) as opened:
        with pytest.raises(AuthenticationRefused) as caught:
            opened.login(hashed.name, Secret("right horse"), Mechanism.AUTO)
        assert "name another, such as `auth: plain`" in caught.value.hint
        opened.login(hashed.name, Secret("right horse"), Mechanism.PLAIN)
        assert Mechanism.PLAIN == opened.mechanism


def test_a_token_where_none_is_taken(dovecot: Dovecot) -> None:
    """A server of passwords is not shown a token."""
    user = dovecot.add_user()
    refused = pytest.raises(NoMechanism, match="neither OAUTHBEARER nor XOAUTH2")
    with session(dovecot) as opened, refused:
        opened.login(user.name, token_of(user), Mechanism.AUTO)


# -- as an operator has it ------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def test_a_token_from_a_command(
    mechanisms: Dovecot, site: Installation, tmp_path: Path
) -> None:
    """
    A visit asks the command for its token; one that is refused is told with the server's
    words, and the next visit asks anew.
    """
    user = mechanisms.add_user()
    user.deliver([b"Subject: x\n\nbody\n"])
    token = tmp_path / "token"
    keys = {
        "password_file": None,
        "access_token_command": ["cat", str(token)],
        "ca_file": mechanisms.ca_file,
    }
    site.configure(site.account(user.name, "", mechanisms.ports.pop3s, **keys))

    token.write_text("expired\n")
    refused = site.fetch()
    assert (77, "auth") == (refused.code, refused.report["reason"])
    assert "invalid_token" in refused.report["error"]
    assert "is asked for anew at the next visit" in refused.report["hint"]

    token.write_text(token_of(user).reveal() + "\n")
    done = site.fetch()
    assert (0, 1) == (done.code, done.report["archived"])
    assert [b"Subject: x\r\n\r\nbody\r\n"] == site.archived()


def test_a_certificate_in_place_of_a_secret(
    mechanisms: Dovecot, site: Installation, people: trustme.CA, tmp_path: Path
) -> None:
    """With `auth: external` a visit needs no secret."""
    user = mechanisms.add_user()
    user.deliver([b"Subject: x\n\nbody\n"])
    keys = {
        "auth": "external",
        "password_file": None,
        "client_cert": certificate_of(user.name, people, tmp_path),
        "ca_file": mechanisms.ca_file,
    }
    site.configure(site.account(user.name, "", mechanisms.ports.pop3s, **keys))
    done = site.fetch()
    assert (0, 1) == (done.code, done.report["archived"])
