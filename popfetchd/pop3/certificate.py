"""
What a certificate says of itself, from its DER octets (RFC 5280 §4.1).

Rules of this file:

- Any octets give a Certificate: what cannot be read is not told. Nothing is judged here,
  that is OpenSSL's, or the operator's who has pinned it.
- Only what is shown to a person is read. `ssl.getpeercert` tells nothing of a
  certificate that was not verified, and fails where a name is no UTF-8 (T9).
- All texts are the peer's, to be quoted wherever they go; a host's name is decoded as
  latin-1, so that every octet survives.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re

from collections.abc import Iterator
from datetime import datetime

from popfetchd.values import Certificate


UTC_TIME = 0x17
VERSION, EXTENSIONS = 0xA0, 0xA3
"""Tags of a tbsCertificate's optional parts (RFC 5280 §4.1)."""

DNS_NAME, IP_ADDRESS = 0x82, 0x87
"""Tags of those GeneralNames that a host may have (RFC 5280 §4.2.1.6)."""

SUBJECT_ALT_NAME = bytes.fromhex("551d11")
"""2.5.29.17, without tag and length."""

SHORT_NAMES = {
    "550403": "CN",
    "55040a": "O",
    "55040b": "OU",
    "550406": "C",
    "550408": "ST",
    "550407": "L",
}
"""Attributes of a subject (X.520), as RFC 4514 §3 writes them; others stand as DER."""


def read(der: bytes) -> Certificate:
    """
    Return what the certificate in *der* says.
    """
    sha256 = hashlib.sha256(der).hexdigest()
    try:
        ((_, certificate),) = _parts(der)
        parts = [part for part in _parts(_first(certificate)) if part[0] != VERSION]
        _, _, (_, issuer), (_, validity), (_, subject), *_ = parts
        not_before, not_after = map(_moment, *zip(*_parts(validity), strict=True))
        return Certificate(
            sha256,
            _spelled(subject),
            _spelled(issuer),
            tuple(_names(parts)),
            not_before,
            not_after,
        )
    except (ValueError, TypeError, IndexError):
        return Certificate(sha256)


def _parts(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """
    Yield the tag and the content of each part that *octets* hold. Raises ValueError.
    """
    place = 0
    while place < len(octets):
        tag, length = octets[place], octets[place + 1]
        place += 2
        if length & 0x80:  # the length of the length
            more = length & 0x7F
            length = int.from_bytes(octets[place : place + more], "big")
            place += more
        content = octets[place : place + length]
        if len(content) < length:
            raise ValueError("it ends too early")
        yield tag, content
        place += length


def _first(octets: bytes) -> bytes:
    (_, content), *_ = _parts(octets)
    return content


def _moment(tag: int, octets: bytes) -> float:
    """
    Return a Time (RFC 5280 §4.1.2.5), in seconds since 1970.
    """
    text = octets.decode("ascii")
    if tag == UTC_TIME:
        text = ("20" if text < "50" else "19") + text
    if not re.fullmatch("[0-9]{14}Z", text):
        raise ValueError("it has a date of another form")
    # Not strptime: what it loads costs more than the rest of the certificate.
    return datetime.fromisoformat(f"{text[:8]}T{text[8:14]}+0000").timestamp()


def _spelled(name: bytes) -> str:
    """
    Return a Name (RFC 5280 §4.1.2.4) as one line of `CN=…, O=…`.
    """
    attributes = [[*_parts(one)] for _, some in _parts(name) for _, one in _parts(some)]
    return ", ".join(
        f"{SHORT_NAMES.get(kind.hex(), kind.hex())}={value.decode('utf-8', 'replace')}"
        for (_, kind), (_, value) in attributes
    )


def _names(parts: list[tuple[int, bytes]]) -> Iterator[str]:
    for content in (content for tag, content in parts if tag == EXTENSIONS):
        for _, extension in _parts(_first(content)):
            (_, kind), *_, (_, value) = _parts(extension)
            if kind == SUBJECT_ALT_NAME:
                yield from _hosts(_first(value))


def _hosts(names: bytes) -> Iterator[str]:
    for tag, name in _parts(names):
        if tag == DNS_NAME:
            yield name.decode("latin-1")
        elif tag == IP_ADDRESS and len(name) in {4, 16}:
            yield str(ipaddress.ip_address(name))
