"""
Certificates that no authority would make: hostile, signed by themselves, soon to end.
"""

from __future__ import annotations

import hashlib
import ssl
import tempfile

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID


@dataclass
class Forged:
    """
    A certificate and its key, as trustme's do.
    """

    pem: bytes
    der: bytes
    expires: float

    def configure_cert(self, context: ssl.SSLContext) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.pem)
            file.flush()
            context.load_cert_chain(file.name)


def forge(
    name: str,
    authority: trustme.CA | None = None,
    hostile: bytes = b"",
    days: int = 30,
) -> Forged:
    """
    Return a certificate for *name*, good for *days*, signed by *authority* or by itself.

    *hostile* stands in its subject, and as one more name.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    octets = [name.encode(), *([hostile] if hostile else [])]
    names = b"".join(bytes([0x82, len(one)]) + one for one in octets)
    extension = x509.UnrecognizedExtension(
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes([0x30, len(names)]) + names
    )
    common = hostile.decode("latin-1") or name
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    issuer, signer = subject, key
    if authority is not None:
        issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).subject
        signer = serialization.load_pem_private_key(
            authority.private_key_pem.bytes(), None
        )
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=99))
        .not_valid_after(end)
        .add_extension(extension, critical=False)
        .sign(signer, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Forged(private + public, der, end.timestamp())


def fingerprint(certificate: Forged) -> str:
    """
    Return the SHA-256 of the whole certificate, as `check` tells it.
    """
    return hashlib.sha256(certificate.der).hexdigest()


def written(authority: trustme.CA, folder: Path) -> Path:
    """
    Return a file with the certificate of *authority*.
    """
    path = folder / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path
