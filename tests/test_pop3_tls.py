"""
TLS: what is proved before a channel is one, and how a proof fails. Loopback only.
"""

from __future__ import annotations

import os
import socket
import ssl
import warnings

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from popfetchd.errors import (
    CertificateRefused,
    CertificateUnexpected,
    ConfigurationError,
    Disconnected,
    Fault,
    PopfetchdError,
    TlsFailed,
    quote,
)
from popfetchd.pop3 import reaching, tls
from popfetchd.pop3.deadline import Deadline, Limit
from popfetchd.pop3.tls import TlsContexts
from popfetchd.pop3.transport import (
    FULL_RECORD,
    LARGEST_READ,
    Transport,
    connect,
)
from popfetchd.values import Channel, Server, TlsMode, TlsPolicy, TlsVersion
from tests.certificates import Forged, fingerprint, forge, written
from tests.channels import (
    LONG,
    SHORT,
    Handler,
    address,
    failure,
    opened,
    plain,
    quiet,
    served,
)


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


# -- TLS ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def serving(certificate: trustme.LeafCert | Forged, then: Handler = quiet) -> Handler:
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
    monkeypatch.setattr(reaching, "_lookup", lambda host, port: [address(port)])
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


def refused(
    certificate: trustme.LeafCert, ca_file: Path | None, **server: object
) -> CertificateRefused:
    """
    Return the error with which a certificate is refused.
    """
    with served(serving(certificate)) as port:
        error = failure(replace(secure(port, ca_file), **server))
    assert isinstance(error, CertificateRefused)
    return error


UNKNOWN = (
    "no credential was sent; `ca_file:` names a private authority; from a public one, "
    "the server leaves out the certificates between"
)


def test_an_unknown_authority(authority: trustme.CA) -> None:
    """The system's authorities do not know a private one: the operator is told (T17)."""
    error = refused(authority.issue_cert("localhost"), None)
    sentence = "localhost: certificate refused: its authority is not known here"
    assert (sentence, UNKNOWN, Fault.OPERATOR) == (str(error), error.hint, error.fault)


def test_a_foreign_authority(ca_file: Path) -> None:
    """With a ca_file, only that authority counts."""
    other = trustme.CA(organization_name="Other")
    assert UNKNOWN == refused(other.issue_cert("localhost"), ca_file).hint


def test_a_certificate_signed_by_itself(ca_file: Path) -> None:
    """Its fingerprint is told, and no pinning offered (T17, RFC 8314 §5.4)."""
    forged = forge("localhost")
    error = refused(forged, ca_file)
    assert (
        "localhost: certificate refused: it is signed by itself; its SHA-256 "
        f"fingerprint is {fingerprint(forged)}"
    ) == str(error)
    assert (
        "no credential was sent; ask whoever runs the server for it: `ca_file:` takes "
        "that too"
    ) == error.hint
    assert Fault.OPERATOR is error.fault


MISNAMED = (
    "no credential was sent; `host:` must be a name in the certificate; where it is an "
    "address or a tunnel, `server_name:` is that name"
)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["other.example"], "but for 'other.example'"),
        (["a.example", "192.0.2.7"], "but for 'a.example', '192.0.2.7'"),
        (
            [f"{letter}.example" for letter in "abcdef"],
            "but for 'a.example', 'b.example', 'c.example', 'd.example', 2 more",
        ),
        (["*.localhost"], "but for '*.localhost'"),
    ],
)
def test_a_certificate_for_another_name(
    authority: trustme.CA, ca_file: Path, names: list[str], told: str
) -> None:
    """A certificate for other names is refused, and they are told (T17)."""
    error = refused(authority.issue_cert(*names), ca_file)
    assert f"localhost: certificate refused: it is not for localhost {told}" == str(
        error
    )
    assert (MISNAMED, Fault.OPERATOR) == (error.hint, error.fault)


def test_a_certificate_for_another_address(
    authority: trustme.CA, ca_file: Path
) -> None:
    """A certificate for a name is none for an address."""
    error = refused(authority.issue_cert("localhost"), ca_file, host="127.0.0.1")
    assert (
        "127.0.0.1: certificate refused: it is not for 127.0.0.1 but for 'localhost'"
    ) == str(error)


def test_a_common_name_counts_for_nothing(authority: trustme.CA, ca_file: Path) -> None:
    """A name in the subject alone is no name, with other names or without (T26)."""
    alone = authority.issue_cert(common_name="localhost")
    sentence = "it is not for localhost, nor does it name any other host"
    assert sentence in str(refused(alone, ca_file))
    beside = authority.issue_cert("other.example", common_name="localhost")
    assert "it is not for localhost but for" in str(refused(beside, ca_file))


@pytest.mark.parametrize(
    "name", ["localhost\0.evil.example", "evil.example\0localhost"]
)
def test_a_nul_in_a_name_ends_nothing(
    authority: trustme.CA, name: str, tmp_path: Path
) -> None:
    """A name that holds a NUL is the whole name and no part of it (T8, CVE-2009-2666)."""
    forged = forge(name, authority)
    told = quote(name)
    assert f"it is not for localhost but for {told}" in str(
        refused(forged, written(authority, tmp_path))
    )


HOSTILE = b"\x1b[31m\r\n+OK\xff"
"""What would write to a terminal, to a log and over a line, if it were let."""


@pytest.mark.parametrize("named", [True, False])
def test_hostile_words_in_a_certificate(
    authority: trustme.CA, tmp_path: Path, named: bool
) -> None:
    """Subject, issuer and names write nowhere, in errors and in what is told (T9)."""
    forged = forge("localhost" if named else "other", authority, hostile=HOSTILE)
    ca_file = written(authority, tmp_path)
    if not named:
        assert str(refused(forged, ca_file)).isprintable()
        return
    with (
        served(serving(forged)) as port,
        closing(opened(secure(port, ca_file))) as line,
    ):
        told = line.channel
    assert ("localhost", HOSTILE.decode("latin-1")) == told.certificate.names


EXPIRED = (
    "no credential was sent; tell whoever runs the server to renew it, or see whether "
    "this machine's clock is right"
)


def test_an_expired_certificate(authority: trustme.CA, ca_file: Path) -> None:
    """A certificate that has expired is the server's fault (T17); a new one ours too."""
    day, now = timedelta(days=1), datetime.now(UTC)
    old = authority.issue_cert(
        "localhost", not_before=now - 2 * day, not_after=now - day
    )
    new = authority.issue_cert(
        "localhost", not_before=now + day, not_after=now + 2 * day
    )
    error = refused(old, ca_file)
    assert "localhost: certificate refused: it has expired" == str(error)
    assert (EXPIRED, Fault.SERVER) == (error.hint, error.fault)
    error = refused(new, ca_file)
    assert "localhost: certificate refused: it is not valid yet" == str(error)
    assert (
        "no credential was sent; see whether this machine's clock is right, or tell "
        "whoever runs the server to renew it"
    ) == error.hint


# -- pins and names -------------------------------------------------------------------


@pytest.mark.parametrize("days", [30, -1])
@pytest.mark.parametrize("mode", [TlsMode.IMPLICIT, TlsMode.STLS])
def test_a_pinned_certificate(mode: TlsMode, days: int) -> None:
    """
    The certificate that is pinned needs no authority, no name and no future: it is known.
    """
    forged = forge("elsewhere.example", days=days)
    policy = TlsPolicy(mode, pins=("00" * 32, fingerprint(forged)))
    with served(serving(forged)) as port:
        channel = connect(Server("localhost", port, policy, LONG), *fresh())
        if mode is TlsMode.STLS:
            channel.start_tls(TlsContexts())
        told = channel.channel
        channel.close()
    assert (fingerprint(forged), ("elsewhere.example",)) == (
        told.certificate.sha256,
        told.certificate.names,
    )
    assert forged.expires == told.certificate_expiry


def fresh() -> tuple[TlsContexts, Deadline]:
    """
    Return what a visit brings along.
    """
    return TlsContexts(), Deadline(60.0)


def test_another_certificate_than_the_pinned(authority: trustme.CA) -> None:
    """
    The fingerprint that was shown is told, to compare it; no octet follows the handshake.
    """
    heard: list[bytes] = []
    forged = forge("localhost", authority)
    policy = TlsPolicy(pins=("00" * 32,))
    with served(serving(forged, lambda line: heard.append(line.recv(100)))) as port:
        error = failure(Server("localhost", port, policy, LONG))
    assert (
        "localhost: certificate refused: its SHA-256 fingerprint is "
        f"{fingerprint(forged)}, and `fingerprint_sha256` has another"
    ) == str(error)
    assert (
        "no credential was sent; somebody may stand between: ask whoever runs the "
        "server which it is"
    ) == error.hint
    assert (CertificateUnexpected, Fault.OPERATOR) == (type(error), error.fault)
    assert [b""] == heard


def test_a_pin_counts_for_no_other_account() -> None:
    """What one account has pinned is nothing to another (RFC 8314 §5.4)."""
    forged, contexts = forge("localhost"), TlsContexts()
    pins = [(fingerprint(forged),), ("00" * 32,)]
    for pinned in pins:
        with served(serving(forged)) as port:
            server = Server("localhost", port, TlsPolicy(pins=pinned), LONG)
            told = outcome(server, contexts)
        assert ("taken" if pinned == pins[0] else "CertificateUnexpected") == told


def outcome(server: Server, contexts: TlsContexts) -> str:
    """
    Return what comes of connecting to *server*.
    """
    try:
        connect(server, contexts, Deadline(60.0)).close()
    except PopfetchdError as error:
        return type(error).__name__
    return "taken"


def test_a_certificate_signed_by_itself_as_its_own_authority(tmp_path: Path) -> None:
    """As a ca_file, a certificate that is signed by itself proves its server."""
    forged = forge("localhost")
    path = tmp_path / "ca.pem"
    path.write_bytes(forged.pem)
    with served(serving(forged)) as port:
        opened(secure(port, path)).close()


def test_a_pin_is_no_authority(authority: trustme.CA, ca_file: Path) -> None:
    """Beside a pin the authority says nothing: another certificate of it is refused."""
    policy = TlsPolicy(ca_file=ca_file, pins=("00" * 32,))
    with served(serving(authority.issue_cert("localhost"))) as port:
        error = failure(Server("localhost", port, policy, LONG))
    assert CertificateUnexpected is type(error)


def test_a_server_name_takes_the_place_of_the_host(
    authority: trustme.CA, ca_file: Path
) -> None:
    """Through a tunnel, the server is asked for by its name, and proved for it."""
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("pop.example.net").configure_cert(context)
    context.sni_callback = lambda line, name, _: asked.append(name)

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as line:
            quiet(line)

    with served(handle) as port:
        tunnel = replace(secure(port, ca_file), server_name="pop.example.net.")
        opened(tunnel).close()
    assert ["pop.example.net"] == asked


def test_a_server_name_that_is_not_in_the_certificate(
    authority: trustme.CA, ca_file: Path
) -> None:
    """The host's own name counts for nothing beside a server_name."""
    certificate = authority.issue_cert("localhost")
    error = refused(certificate, ca_file, server_name="pop.example.net")
    assert (
        "localhost: certificate refused: it is not for pop.example.net but for "
        "'localhost'"
    ) == str(error)


# -- versions -------------------------------------------------------------------------


VERSION = "the server speaks no TLS that `min_tls:` takes; the least is 1.2"


@pytest.mark.parametrize(
    ("least", "spoken"),
    [
        (TlsVersion.TLS_1_2, ssl.TLSVersion.TLSv1_1),
        (TlsVersion.TLS_1_3, ssl.TLSVersion.TLSv1_2),
    ],
)
def test_a_server_with_old_tls_only(
    authority: trustme.CA, ca_file: Path, least: TlsVersion, spoken: ssl.TLSVersion
) -> None:
    """TLS before the least version is not spoken, and the hint says so."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = spoken
    context.set_ciphers("ALL:@SECLEVEL=0")  # otherwise it would not speak 1.1 either
    authority.issue_cert("localhost").configure_cert(context)

    def handle(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True)

    policy = TlsPolicy(ca_file=ca_file, minimum=least)
    with served(handle) as port:
        error = failure(Server("localhost", port, policy, LONG))
    assert (TlsFailed, VERSION) == (type(error), error.hint)


@pytest.mark.parametrize("least", TlsVersion)
def test_the_least_version_is_spoken(
    authority: trustme.CA, ca_file: Path, least: TlsVersion
) -> None:
    """A server that speaks just the least version is taken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = tls.VERSIONS[least]
    authority.issue_cert("localhost").configure_cert(context)

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as line:
            quiet(line)

    policy = TlsPolicy(ca_file=ca_file, minimum=least)
    with served(handle) as port:
        channel = opened(Server("localhost", port, policy, LONG))
        assert f"TLSv{least}" == channel.channel.tls_version
        channel.close()


def test_a_server_that_speaks_no_tls(ca_file: Path) -> None:
    """A plain server on a TLS port is told as such, with a hint."""

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"+OK ready\r\n")
        quiet(connection)

    with served(greet) as port:
        error = failure(secure(port, ca_file))
    sentence = f"localhost:{port}: TLS failed: wrong version number"
    assert (TlsFailed, sentence) == (type(error), str(error))


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
    path.touch(0o600)
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
    for name in ("key.pem", "cert.pem"):
        (folder / name).touch(0o600)
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

    with served(asking(authority, version)) as port, pytest.raises(TlsFailed) as caught:
        greeted(secure(port, ca_file))
    if version is ssl.TLSVersion.TLSv1_3:  # before, the alert could mean anything
        assert "client_cert" in caught.value.hint


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


def test_a_key_that_everyone_may_read(client_cert: Path, tmp_path: Path) -> None:
    """A key is a secret as a password is; a certificate alone may be read."""
    key, cert = parted(client_cert, tmp_path)
    cert.chmod(0o644)
    TlsContexts().get(TlsPolicy(client_cert=cert, client_key=key))
    key.chmod(0o644)
    with pytest.raises(ConfigurationError) as caught:
        TlsContexts().get(TlsPolicy(client_cert=cert, client_key=key))
    assert (
        f"{key}: cannot be used as client_key: everyone may read or write it (mode "
        "0644); take that away with `chmod o-rwx`"
    ) == str(caught.value)


@pytest.mark.parametrize("name", ["ca_file", "client_cert"])
def test_a_pipe_holds_up_nobody(name: str, tmp_path: Path) -> None:
    """What is no file is not opened: nobody may ever write to it."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match=f"used as {name}: it is not a file"):
        TlsContexts().get(TlsPolicy(**{name: tmp_path / "pipe"}))


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


def test_a_certificate_problem_without_a_word_of_ours() -> None:
    """What OpenSSL says is told where we have no word for it."""
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = 999, "strange"
    told = tls.refused(plain(1), None, error)
    assert "127.0.0.1: certificate refused: strange" == str(told)


# -- records --------------------------------------------------------------------------


RECORD = b"x" * FULL_RECORD


@pytest.fixture
def ends(
    authority: trustme.CA, ca_file: Path
) -> Iterator[tuple[Transport, ssl.SSLSocket]]:
    """
    Give a channel and its server's end: what one has sent, the other has at once.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ours, theirs = socket.socketpair()
    theirs.settimeout(LONG)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LARGEST_READ)
    place = secure(0, ca_file)
    channel = Transport(place, ours, Channel(""), Limit(LONG, Deadline(60)))
    with ThreadPoolExecutor(1) as shaking:
        wrapped = shaking.submit(context.wrap_socket, theirs, server_side=True)
        channel.start_tls(TlsContexts())
    with wrapped.result() as server, closing(channel):
        yield channel, server


def test_records_that_have_come_are_one_read(
    ends: tuple[Transport, ssl.SSLSocket],
) -> None:
    """Full records are taken together with what is behind them; none is waited for."""
    channel, server = ends
    for sent in ([RECORD], [RECORD, RECORD, b"end"], [RECORD, RECORD]):
        for record in sent:
            server.sendall(record)
        assert b"".join(sent) == channel.recv("RETR")


def test_a_short_record_ends_a_read(ends: tuple[Transport, ssl.SSLSocket]) -> None:
    """Behind what fills no record nothing is looked for: the reply is used at once."""
    channel, server = ends
    server.sendall(b"+OK")
    server.sendall(b"-ERR")
    assert (b"+OK", b"-ERR") == (channel.recv("NOOP"), channel.recv("NOOP"))


@pytest.mark.parametrize("read", [Transport.recv, Transport.waiting])
def test_a_read_is_bounded(
    read: Callable[[Transport, str], bytes], ends: tuple[Transport, ssl.SSLSocket]
) -> None:
    """A read returns LARGEST_READ octets; the rest of that record waits inside TLS."""
    channel, server = ends
    sent = os.urandom(LARGEST_READ + 100)
    for at in range(0, len(sent), 12_000):
        server.sendall(sent[at : at + 12_000])
    assert sent[:LARGEST_READ] == channel.recv("RETR")
    assert sent[LARGEST_READ:] == read(channel, "RETR")


@pytest.mark.parametrize("read", [Transport.recv, Transport.waiting])
def test_the_end_comes_behind_the_octets(
    read: Callable[[Transport, str], bytes], ends: tuple[Transport, ssl.SSLSocket]
) -> None:
    """Where the server ends behind full records, they are returned first."""
    channel, server = ends
    server.sendall(RECORD)
    server.shutdown(socket.SHUT_WR)
    assert (RECORD, b"") == (channel.recv("RETR"), read(channel, "RETR"))


@pytest.mark.parametrize("read", [Transport.recv, Transport.waiting])
def test_an_error_comes_behind_the_octets(
    read: Callable[[Transport, str], bytes], ends: tuple[Transport, ssl.SSLSocket]
) -> None:
    """Where TLS breaks behind full records, they are returned first."""
    channel, server = ends
    server.sendall(RECORD)
    socket.socket.sendall(server, b"this is no record of TLS")
    assert RECORD == channel.recv("RETR")
    with pytest.raises(TlsFailed):
        read(channel, "RETR")
