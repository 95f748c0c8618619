"""
What a certificate says of itself: any octets give a Certificate.
"""

from __future__ import annotations

import hashlib

from datetime import UTC, datetime

import pytest
import trustme

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from popfetchd.pop3.certificate import read
from popfetchd.values import Certificate


def der(
    *names: str, end: datetime = datetime(2035, 1, 2, 3, 4, 5, tzinfo=UTC)
) -> bytes:
    """
    Return a certificate for *names*, good until *end*.
    """
    chain = trustme.CA().issue_cert(*names, not_after=end).cert_chain_pems
    return x509.load_pem_x509_certificate(chain[0].bytes()).public_bytes(Encoding.DER)


REAL = der("pop.example.net", "*.example.org", "192.0.2.7", "2001:db8::7")


def test_what_a_certificate_says() -> None:
    """Its fingerprint, whom it is for, by whom and for how long are told."""
    told = x509.load_der_x509_certificate(REAL)
    assert Certificate(
        hashlib.sha256(REAL).hexdigest(),
        ", ".join(f"{SHORT[a.oid]}={a.value}" for a in told.subject),
        ", ".join(f"{SHORT[a.oid]}={a.value}" for a in told.issuer),
        ("pop.example.net", "*.example.org", "192.0.2.7", "2001:db8::7"),
        datetime(2000, 1, 1, tzinfo=UTC).timestamp(),
        datetime(2035, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp(),
    ) == read(REAL)


SHORT = {NameOID.ORGANIZATION_NAME: "O", NameOID.ORGANIZATIONAL_UNIT_NAME: "OU"}


@pytest.mark.parametrize("year", [2049, 2050, 2999, 9999])
def test_an_end_in_both_forms(year: int) -> None:
    """Until 2049 two digits tell the year, afterwards four (RFC 5280 §4.1.2.5)."""
    end = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert end.timestamp() == read(der("a.example", end=end)).not_after


def test_an_end_in_the_last_century() -> None:
    """Two digits from 50 on mean the twentieth century."""
    old = REAL.replace(b"350102030405Z", b"990102030405Z")
    assert datetime(1999, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp() == read(old).not_after


@pytest.mark.parametrize(
    "octets",
    [b"", b"\x30", b"\x30\x00", b"\x30\x84", b"\x30\xff" + bytes(130), REAL[:-1]],
)
def test_octets_that_are_no_certificate(octets: bytes) -> None:
    """What cannot be read is not told, and nothing fails."""
    assert Certificate(hashlib.sha256(octets).hexdigest()) == read(octets)


@given(st.binary(max_size=400))
def test_any_octets(octets: bytes) -> None:
    """Invariant: any octets give a Certificate, with their own fingerprint."""
    assert hashlib.sha256(octets).hexdigest() == read(octets).sha256


@given(st.integers(0, len(REAL) - 1), st.integers(0, 255))
def test_any_octet_of_a_real_one(place: int, octet: int) -> None:
    """Invariant: a certificate with any octet altered still gives a Certificate."""
    octets = REAL[:place] + bytes([octet]) + REAL[place + 1 :]
    assert isinstance(read(octets), Certificate)


def test_an_attribute_without_a_short_name() -> None:
    """It is told by the DER of its kind, its octets as far as they are UTF-8."""
    odd = REAL.replace(bytes.fromhex("55040a"), bytes.fromhex("55042d"))
    assert "55042d=trustme" in read(odd).subject
    assert "O=\ufffdrustme" in read(REAL.replace(b"trustme", b"\xffrustme")).subject
