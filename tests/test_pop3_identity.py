"""
Whose certificate it is: which names in it are those of the server (RFC 7817, RFC 6125).

Rules of this file: the whole client connects, over loopback, whatever the name; what
decides is the certificate. OpenSSL compares the names: here it is seen to do so rightly.
"""

from __future__ import annotations

import socket
import ssl

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from popfetchd.errors import CertificateRefused
from popfetchd.pop3 import reaching
from popfetchd.pop3.deadline import Deadline
from popfetchd.pop3.tls import TlsContexts
from popfetchd.pop3.transport import connect
from popfetchd.values import Server, TlsPolicy
from tests.channels import LONG, address, served


OTHER = "it is not for "


def problem(folder: Path, host: str, *names: x509.GeneralName) -> str:
    """
    Return why a certificate for *names* is refused where *host* is configured, "" if it
    is not. *folder* is for the certificate.
    """
    ca_file, context = certificate(folder, *names)

    def handle(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True).close()

    with served(handle) as port:
        server = Server(host, port, TlsPolicy(ca_file=ca_file), LONG)
        try:
            connect(server, TlsContexts(), Deadline(LONG)).close()
        except CertificateRefused as refused:
            return refused.problem
    return ""


def certificate(folder: Path, *names: x509.GeneralName) -> tuple[Path, ssl.SSLContext]:
    """
    Make a certificate, signed by itself; return whom to trust, and what shows it.
    """
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    ca_file, key_file = folder / "self.pem", folder / "self.key"
    ca_file.write_bytes(made.public_bytes(Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca_file, key_file)
    return ca_file, context


@pytest.fixture(autouse=True)
def every_name_leads_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "_lookup", lambda host, port: [address(port)])


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("pop.example.net", "pop.example.net"),
        ("POP.example.NET", "pop.Example.net"),
        ("pop.example.net.", "pop.example.net"),
        ("pop.example.net", "*.example.net"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("pop.bücher.example", "*.xn--bcher-kva.example"),
    ],
)
def test_a_name_matches(host: str, name: str, tmp_path: Path) -> None:
    """A DNS name counts in any case, as A-labels, with one wildcard on the left."""
    names = x509.DNSName("other.example"), x509.DNSName(name)
    assert "" == problem(tmp_path, host, *names)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("example.net", "*.example.net"),
        ("a.b.example.net", "*.example.net"),
        ("pop.example.net", "p*.example.net"),
        ("pop.example.net", "*op.example.net"),
        ("pop.example.net", "p*p.example.net"),
        ("pop.example.net", "pop.*.net"),
        ("pop.example.net", "*.*.net"),
        ("pop.example.net", "*.net"),
        ("pop.example.net", "*"),
        ("pop.example.net", "example.net"),
        ("pop.example.net", "pop.example.net.other.example"),
        ("bücher.example", "xn--*.example"),
    ],
)
def test_a_name_does_not_match(host: str, name: str, tmp_path: Path) -> None:
    """A wildcard is no part of a label, stands for one label, and only the first."""
    assert OTHER in problem(tmp_path, host, x509.DNSName(name))


def test_the_configured_name_is_what_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the DNS says that a name is another name for is nobody's reference."""
    canonical = "farm7.example.org"

    def lookup(host: str, port: int) -> list[tuple]:
        family, kind, protocol, _, place = address(port)
        return [(family, kind, protocol, canonical, place)]

    monkeypatch.setattr(reaching, "_lookup", lookup)
    host = "pop.example.net"
    assert OTHER in problem(tmp_path, host, x509.DNSName(canonical))
    assert "" == problem(tmp_path, host, x509.DNSName(host))


@pytest.mark.parametrize(
    "name",
    [
        x509.UniformResourceIdentifier("pop://pop.example.net/"),
        x509.UniformResourceIdentifier("pop.example.net"),
        x509.RFC822Name("alice@pop.example.net"),
    ],
)
def test_what_is_no_dns_name_counts_for_nothing(
    name: x509.GeneralName, tmp_path: Path
) -> None:
    """A URI of the same host is no name of the server's, a mail address neither."""
    assert OTHER in problem(tmp_path, "pop.example.net", name)


def test_the_suites_of_bcp_195_are_offered() -> None:
    """What BCP 195 (RFC 9325 §4.2) recommends is offered, and nothing that is weak."""
    offered = {it["name"] for it in TlsContexts().get(TlsPolicy()).get_ciphers()}
    assert offered >= {
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES256-GCM-SHA384",
    }
    weak = ("NULL", "RC4", "DES", "EXP", "anon", "ADH")
    assert [] == [it for it in offered if any(word in it for word in weak)]
