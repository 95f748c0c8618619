"""
The channel: names, addresses, TLS, and how each failure is told. Loopback only.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import ssl
import struct
import threading
import time
import warnings

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from popfetchd.errors import (
    CertificateRefused,
    ConfigurationError,
    ConnectFailed,
    Disconnected,
    NameNotResolved,
    PopfetchdError,
    TimedOut,
    TlsFailed,
)
from popfetchd.pop3 import transport
from popfetchd.pop3.transport import (
    MOST_ADDRESSES,
    Deadline,
    TlsContexts,
    Transport,
    connect,
)
from popfetchd.values import Channel, Server, TlsMode, TlsPolicy


SHORT = 0.05
"""Seconds: the time limit where one is to be met."""

LONG = 5.0
"""Seconds: the time limit where none is to be met."""

Handler = Callable[[socket.socket], None]


@contextmanager
def served(handle: Handler) -> Iterator[int]:
    """
    Let *handle* serve one connection; the port is what this gives.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LONG)

        def serve() -> None:
            try:
                connection = listener.accept()[0]
                connection.settimeout(LONG)
                with connection:
                    handle(connection)
            except OSError:
                pass  # the client has gone; what it told is what counts

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
    thread.join(2 * LONG)
    assert not thread.is_alive()


def quiet(connection: socket.socket) -> None:
    """
    Take all, say nothing.
    """
    while connection.recv(65536):
        pass


def plain(port: int, timeout: float = LONG) -> Server:
    """
    A server in clear.
    """
    return Server("127.0.0.1", port, TlsPolicy(TlsMode.NONE), timeout)


def opened(server: Server, seconds: float = 60.0) -> Transport:
    """
    Connect with contexts and a deadline of its own.
    """
    return connect(server, TlsContexts(), Deadline(seconds))


def failure(server: Server, seconds: float = 60.0) -> PopfetchdError:
    """
    Return the error that connecting to *server* ends in.
    """
    with pytest.raises(PopfetchdError) as caught:
        opened(server, seconds)
    return caught.value


# -- deadlines and contexts -----------------------------------------------------------


def test_a_deadline_counts_down() -> None:
    """What remains is told by the clock given, and falls below zero."""
    now = 100.0
    deadline = Deadline(5.0, lambda: now)
    first, now = deadline.remaining(), 106.0
    assert (5.0, -1.0) == (first, deadline.remaining())


def test_equal_policies_share_a_context() -> None:
    """A context is made once for all policies that are equal."""
    contexts = TlsContexts()
    first = contexts.get(TlsPolicy())
    assert first is contexts.get(TlsPolicy())
    assert first is not contexts.get(TlsPolicy(TlsMode.STLS))


def test_a_context_is_strict() -> None:
    """Certificates and names are verified; TLS 1.2 is the least; no common names."""
    context = TlsContexts().get(TlsPolicy())
    assert (ssl.CERT_REQUIRED, True) == (context.verify_mode, context.check_hostname)
    assert ssl.TLSVersion.TLSv1_2 == context.minimum_version
    assert context.hostname_checks_common_name is False


def test_a_ca_file_replaces_the_systems(ca_file: Path) -> None:
    """With a private authority nothing else is trusted."""
    context = TlsContexts().get(TlsPolicy(ca_file=ca_file))
    assert 1 == context.cert_store_stats()["x509_ca"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "No such file or directory"), ("", "no certificate stands in it")],
)
def test_a_ca_file_that_is_no_good(
    content: str | None, problem: str, tmp_path: Path
) -> None:
    """A ca_file that is missing or empty is the operator's mistake, told by its name."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        TlsContexts().get(TlsPolicy(ca_file=path))
    assert f"{path}: cannot be used as ca_file: {problem}" == str(caught.value)


# -- names and addresses --------------------------------------------------------------


def test_a_connection_in_clear() -> None:
    """Octets go both ways, the end is no octets, and the channel tells no TLS."""

    def echo(connection: socket.socket) -> None:
        connection.sendall(connection.recv(100))

    with served(echo) as port:
        channel = opened(plain(port))
        channel.send(b"hello", "HELLO")
        assert (b"hello", b"") == (channel.recv("HELLO"), channel.recv("HELLO"))
        assert Channel("127.0.0.1") == channel.channel
        channel.close()
        channel.close()


def test_nobody_listens() -> None:
    """A port that refuses is told as such, at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = failure(plain(port))
    sentence = f"127.0.0.1:{port}: no connection: Connection refused"
    assert (ConnectFailed, sentence) == (type(error), str(error))


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "a\0b"])
def test_what_is_no_host_name(host: str) -> None:
    """A host that cannot be a name has no address."""
    error = failure(Server(host, 1, TlsPolicy(), LONG))
    assert (NameNotResolved, host) == (type(error), error.host)


def test_a_name_without_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the resolver says is told with the name."""

    def lookup(server: Server) -> list:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(transport, "_lookup", lookup)
    error = failure(Server("pop.example", 1, TlsPolicy(), LONG))
    sentence = "pop.example: name not resolved: Name or service not known"
    assert (NameNotResolved, sentence) == (type(error), str(error))


def test_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that does not answer is left behind in time."""
    over = threading.Event()

    def lookup(server: Server) -> list:
        over.wait(LONG)
        return []

    monkeypatch.setattr(transport, "_lookup", lookup)
    error = failure(Server("pop.example", 1, TlsPolicy(), SHORT))
    over.set()
    assert "no end of name resolution within 0.05 s" == str(error)


def test_a_name_with_no_addresses_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty answer is a failure to connect, not a crash."""
    monkeypatch.setattr(transport, "_lookup", lambda server: [])
    assert "the name has no address" in str(failure(plain(1)))


def address(port: int, host: str = "127.0.0.1", family: int = socket.AF_INET) -> tuple:
    """
    Return what getaddrinfo would.
    """
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))


def test_families_alternate() -> None:
    """The preferred family comes first, then one of the other, and so on (RFC 8305)."""
    six = [address(n, "::1", socket.AF_INET6) for n in (1, 2, 3)]
    four = [address(4)]
    assert [six[0], four[0], six[1], six[2]] == transport._alternating(six + four)


@contextmanager
def deaf() -> Iterator[int]:
    """
    A port that neither takes nor refuses connections: its queue is full.
    """
    with socket.socket() as listener, socket.socket() as a, socket.socket() as b:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for sock in (a, b):
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_the_first_address_that_answers_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses that hang, refuse or belong to no family here do not hold us up."""
    monkeypatch.setattr(transport, "ATTEMPT_DELAY", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        refusing = gone.getsockname()[1]
    with served(quiet) as port, deaf() as hanging:
        places = [
            address(1, family=9999),
            address(hanging),
            address(refusing),
            address(port),
        ]
        monkeypatch.setattr(transport, "_lookup", lambda server: places)
        opened(plain(port)).close()


def test_an_address_that_cannot_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that fails at once, e.g. without a route, leaves nothing behind."""

    class Unreachable(socket.socket):
        def connect_ex(self, place: object) -> int:
            return errno.ENETUNREACH

    monkeypatch.setattr(socket, "socket", Unreachable)
    with selectors.DefaultSelector() as running:
        error = transport._start(running, address(1))
        assert (errno.ENETUNREACH, {}) == (error.errno, dict(running.get_map()))


def test_every_address_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is given up in time."""
    with deaf() as hanging:
        places = [address(hanging)] * (2 * MOST_ADDRESSES)
        monkeypatch.setattr(transport, "_lookup", lambda server: places)
        monkeypatch.setattr(transport, "ATTEMPT_DELAY", 0.001)
        error = failure(plain(hanging, SHORT))
    assert "no end of connect within 0.05 s" == str(error)


# -- time -----------------------------------------------------------------------------


def test_a_silent_server() -> None:
    """Waiting for a reply ends after the step's time."""
    with served(quiet) as port:
        channel = opened(plain(port, SHORT))
        with pytest.raises(TimedOut, match=r"no end of RETR within 0\.05 s"):
            channel.recv("RETR")
        channel.close()


def test_the_visit_is_over() -> None:
    """Past the visit's deadline no step begins, and a step under way ends with it."""
    begun, now = time.monotonic(), 0.0
    with served(quiet) as port:
        deadline = Deadline(10, lambda: now)
        channel = connect(plain(port), TlsContexts(), deadline)
        now = 11.0
        with pytest.raises(TimedOut, match=r"no end of the visit, at RETR within 10 s"):
            channel.recv("RETR")
        channel.close()
        channel = opened(plain(port), SHORT)
        with pytest.raises(
            TimedOut, match=r"no end of the visit, at TOP within 0\.05 s"
        ):
            channel.recv("TOP")
        channel.close()
    assert time.monotonic() - begun < LONG / 2


def test_a_server_that_does_not_read() -> None:
    """Sending ends after the step's time too."""
    over = threading.Event()
    with served(lambda connection: over.wait(LONG)) as port:
        channel = opened(plain(port, SHORT))
        with pytest.raises(TimedOut, match="no end of RETR"):
            channel.send(bytes(50_000_000), "RETR")
        channel.close()
        over.set()


def test_waiting_does_not_wait() -> None:
    """What has come already is given, nothing when nothing has."""
    over = threading.Event()

    def handle(connection: socket.socket) -> None:
        over.wait(LONG)
        connection.sendall(b"+OK")

    with served(handle) as port:
        channel = opened(plain(port))
        assert b"" == channel.waiting("NOOP")
        over.set()
        assert b"+OK" == channel.recv("NOOP")
        channel.close()


def test_a_reset() -> None:
    """A connection that is reset is a lost one."""

    def reset(connection: socket.socket) -> None:
        connection.recv(1)
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    with served(reset) as port:
        channel = opened(plain(port))
        channel.send(b"x", "RETR")
        with pytest.raises(Disconnected, match="lost during RETR: Connection reset"):
            channel.recv("RETR")
        channel.close()


# -- TLS ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def serving(certificate: trustme.LeafCert, then: Handler = quiet) -> Handler:
    """
    Do a handshake with *certificate*, then hand over.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            then(secure)

    return handle


def secure(port: int, ca_file: Path | None, timeout: float = LONG) -> Server:
    """
    A server with implicit TLS.
    """
    return Server("localhost", port, TlsPolicy(ca_file=ca_file), timeout)


@pytest.mark.parametrize("host", ["localhost", "localhost.", "127.0.0.1"])
def test_a_good_certificate(
    authority: trustme.CA, ca_file: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verified channel tells its version, its cipher and when its certificate ends."""
    monkeypatch.setattr(transport, "_lookup", lambda server: [address(server.port)])
    end = datetime(2035, 1, 2, 3, 4, 5, tzinfo=UTC)
    certificate = authority.issue_cert("localhost", "127.0.0.1", not_after=end)
    with served(serving(certificate)) as port:
        channel = opened(Server(host, port, TlsPolicy(ca_file=ca_file), LONG))
        told = channel.channel
        assert b"" == channel.waiting("NOOP")
        channel.close()
    assert told.address == "127.0.0.1"
    assert told.tls_version == "TLSv1.3"
    assert told.cipher
    assert end.timestamp() == told.certificate_expiry


def refused(certificate: trustme.LeafCert, ca_file: Path | None) -> str:
    """
    Return the sentence with which a certificate is refused.
    """
    with served(serving(certificate)) as port:
        error = failure(secure(port, ca_file))
    assert CertificateRefused is type(error)
    return str(error)


def test_an_unknown_authority(authority: trustme.CA) -> None:
    """The system's authorities do not know a private one."""
    sentence = "localhost: certificate refused: its authority is not known here"
    assert sentence == refused(authority.issue_cert("localhost"), None)


def test_a_foreign_authority(ca_file: Path) -> None:
    """With a ca_file, only that authority counts."""
    assert "authority is not known" in refused(
        trustme.CA(organization_name="Other").issue_cert("localhost"), ca_file
    )


def test_a_certificate_for_another_name(authority: trustme.CA, ca_file: Path) -> None:
    """A certificate for another name is refused."""
    sentence = "localhost: certificate refused: it is for another name"
    assert sentence == refused(authority.issue_cert("other.example"), ca_file)


def test_a_certificate_for_another_address(
    authority: trustme.CA, ca_file: Path
) -> None:
    """A certificate for a name is none for an address."""
    with served(serving(authority.issue_cert("localhost"))) as port:
        policy = TlsPolicy(ca_file=ca_file)
        error = failure(Server("127.0.0.1", port, policy, LONG))
    assert "127.0.0.1: certificate refused: it is for another address" == str(error)


def test_a_common_name_counts_for_nothing(authority: trustme.CA, ca_file: Path) -> None:
    """A name in the subject alone is no name (RFC 7817 §3)."""
    certificate = authority.issue_cert(common_name="localhost")
    assert "it is for another name" in refused(certificate, ca_file)


def test_an_expired_certificate(authority: trustme.CA, ca_file: Path) -> None:
    """A certificate that has expired is refused, one that is not valid yet too."""
    day, now = timedelta(days=1), datetime.now(UTC)
    old = authority.issue_cert(
        "localhost", not_before=now - 2 * day, not_after=now - day
    )
    new = authority.issue_cert(
        "localhost", not_before=now + day, not_after=now + 2 * day
    )
    assert "certificate refused: it has expired" in refused(old, ca_file)
    assert "certificate refused: it is not valid yet" in refused(new, ca_file)


def test_a_server_that_speaks_no_tls(ca_file: Path) -> None:
    """A plain server on a TLS port is told as such, with a hint."""

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"+OK ready\r\n")
        quiet(connection)

    with served(greet) as port:
        error = failure(secure(port, ca_file))
    sentence = f"localhost:{port}: TLS failed: wrong version number"
    assert (TlsFailed, sentence) == (type(error), str(error))


def test_a_server_with_old_tls_only(authority: trustme.CA, ca_file: Path) -> None:
    """TLS 1.1 is not spoken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    authority.issue_cert("localhost").configure_cert(context)

    def handle(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True)

    with served(handle) as port:
        assert TlsFailed is type(failure(secure(port, ca_file)))


def test_a_server_that_is_silent_in_the_handshake(ca_file: Path) -> None:
    """The handshake has its time, and no more (CVE-2011-1947)."""
    with served(quiet) as port:
        error = failure(secure(port, ca_file, SHORT))
    assert "no end of TLS handshake within 0.05 s" == str(error)


def test_a_server_that_closes_in_the_handshake(ca_file: Path) -> None:
    """A connection lost in the handshake may come back: that is no TLS failure."""
    with served(lambda connection: connection.recv(65536) and None) as port:
        error = failure(secure(port, ca_file))
    sentence = (
        "connection lost during TLS handshake: the server ended TLS without a word"
    )
    assert (Disconnected, sentence) == (type(error), str(error))


def test_an_abrupt_end_of_tls(authority: trustme.CA, ca_file: Path) -> None:
    """TLS that ends without its closing word is the end of the stream."""

    def vanish(connection: socket.socket) -> None:
        connection.sendall(b"half")
        socket.socket.shutdown(connection, socket.SHUT_RDWR)

    with served(serving(authority.issue_cert("localhost"), vanish)) as port:
        channel = opened(secure(port, ca_file))
        assert (b"half", b"") == (channel.recv("RETR"), channel.recv("RETR"))
        channel.close()


def test_garbage_inside_tls(authority: trustme.CA, ca_file: Path) -> None:
    """Octets that are no TLS record end the connection, and are never data."""

    def garble(connection: socket.socket) -> None:
        os.write(connection.fileno(), b"+OK in clear\r\n")
        quiet(connection)

    with served(serving(authority.issue_cert("localhost"), garble)) as port:
        channel = opened(secure(port, ca_file))
        with pytest.raises(TlsFailed):
            channel.recv("RETR")
        channel.close()


# -- what we show of ourselves --------------------------------------------------------


@pytest.fixture(scope="module")
def client_cert(
    authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A certificate of ours, with its key in the same file."""
    path = tmp_path_factory.mktemp("client") / "client.pem"
    ours = authority.issue_cert(common_name="alice")
    ours.private_key_and_cert_chain_pem.write_to_path(path)
    return path


def asking(authority: trustme.CA, maximum: ssl.TLSVersion) -> Handler:
    """
    Do a handshake that asks for a certificate, and tell whose it was.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode, context.maximum_version = ssl.CERT_REQUIRED, maximum

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            names = dict(pair for (pair,) in secure.getpeercert()["subject"])
            secure.sendall(names["commonName"].encode())
            quiet(secure)

    return handle


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_is_shown(
    authority: trustme.CA,
    ca_file: Path,
    client_cert: Path,
    tmp_path: Path,
    *,
    version: ssl.TLSVersion,
    apart: bool,
) -> None:
    """A server that asks for a certificate is shown ours, its key apart or not."""
    key = None
    if apart:
        key, client_cert = parted(client_cert, tmp_path)
    policy = TlsPolicy(ca_file=ca_file, client_cert=client_cert, client_key=key)
    with served(asking(authority, version)) as port:
        channel = opened(Server("localhost", port, policy, LONG))
        assert b"alice" == channel.recv("greeting")
        channel.close()


def parted(path: Path, folder: Path) -> tuple[Path, Path]:
    """
    Return files with the key and with the certificate that are together in *path*.
    """
    key, certificate, end = path.read_text().partition("-----BEGIN CERTIFICATE-----")
    (folder / "key.pem").write_text(key)
    (folder / "cert.pem").write_text(certificate + end)
    return folder / "key.pem", folder / "cert.pem"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_a_client_certificate(
    authority: trustme.CA, ca_file: Path, version: ssl.TLSVersion
) -> None:
    """Where we have none to show, the error is of TLS: in TLS 1.3 at the first read."""

    def greeted(server: Server) -> None:
        with closing(opened(server)) as channel:
            channel.recv("greeting")

    with served(asking(authority, version)) as port, pytest.raises(TlsFailed):
        greeted(secure(port, ca_file))


ENCRYPTED = """\
-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-256-CBC,8D87A0F2B1AFE0CE1E1B0D0B4C0D3F2A

TmV2ZXIgZGVjcnlwdGVkOiB0aGUgcGFzc3dvcmQgaXMgbm90IGFza2VkIGZvci4u
-----END EC PRIVATE KEY-----
"""


@pytest.mark.parametrize(
    ("cert", "key", "sentence"),
    [
        (None, None, "cert.pem: cannot be used as client_cert: No such file or"),
        ("", None, "cert.pem: cannot be used as client_cert: no certificate stands"),
        (
            "good",
            None,
            "cert.pem: cannot be used as client_key: no key that can be read",
        ),
        ("good", "", "key.pem: cannot be used as client_key: no key that can be read"),
        ("good", "gone", "key.pem: cannot be used as client_key: No such file or"),
        ("good", "other", "key.pem: cannot be used as client_key: it is the key of an"),
        ("good", ENCRYPTED, "key.pem: cannot be used as client_key: it is encrypted"),
    ],
)
def test_a_client_certificate_that_is_no_good(
    client_cert: Path,
    authority: trustme.CA,
    tmp_path: Path,
    *,
    cert: str | None,
    key: str | None,
    sentence: str,
) -> None:
    """What is wrong with a certificate or its key is told by the file and by the key."""
    _, good = parted(client_cert, tmp_path)
    if cert != "good":
        good.unlink() if cert is None else good.write_text(cert)
    path = tmp_path / "key.pem"
    if key == "gone":
        path.unlink()
    elif key == "other":
        authority.issue_cert("other").private_key_pem.write_to_path(path)
    elif key is not None:
        path.write_text(key)
    policy = TlsPolicy(client_cert=good, client_key=None if key is None else path)
    with pytest.raises(ConfigurationError) as caught:
        TlsContexts().get(policy)
    assert f"{tmp_path}/{sentence}" in str(caught.value)


def test_a_context_that_cannot_be_made_closes(tmp_path: Path) -> None:
    """Nothing stays open when the ca_file is no good."""
    with served(quiet) as port, pytest.raises(ConfigurationError):
        opened(secure(port, tmp_path / "missing.pem"))


def test_tls_is_ended_before_the_connection(
    authority: trustme.CA, ca_file: Path
) -> None:
    """A server hears that TLS ends, and is not waited for (RFC 8314 §3.4)."""
    ends: list[bytes] = []

    def hear(connection: socket.socket) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        connection.sendall(b"+OK\r\n")
        connection.suppress_ragged_eofs = False
        ends.append(connection.recv(100))

    with served(serving(authority.issue_cert("localhost"), hear)) as port:
        channel = opened(secure(port, ca_file))
        assert b"+OK\r\n" == channel.recv("greeting")
        channel.close()
        channel.close()
    assert [b""] == ends


def test_a_failing_close_is_no_failure() -> None:
    """What close(2) says of a connection takes nothing back that a server answered."""
    with served(quiet) as port:
        channel = opened(plain(port))
        os.close(channel._sock.fileno())
        channel.close()


@pytest.mark.parametrize(
    ("error", "problem"),
    [(OSError("in words"), "in words"), (OSError(), "OSError"), (ValueError("x"), "x")],
)
def test_a_problem_is_always_told(error: Exception, problem: str) -> None:
    """Even an error that says nothing is told by its name."""
    assert problem == transport._problem(error)


def test_a_certificate_problem_without_a_word_of_ours() -> None:
    """What OpenSSL says is told where we have no word for it."""
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = 999, "strange"
    assert "strange" == transport._certificate_problem(error)
