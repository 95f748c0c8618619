"""
A certificate for loopback and the authority behind it, made on the spot.

Rules of this file:

- Nothing is shipped and nothing is reused: each call makes a new authority, whose key
  never leaves memory.
- trustme is imported late: only the demo and the tests need it.
"""

from __future__ import annotations

import ssl

from dataclasses import dataclass
from pathlib import Path

from popfetchd.errors import ExtraMissing


NAMES = ("localhost", "127.0.0.1")
"""What the certificate is for: both ways to write the only address we serve."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """
    What a server shows (*context*), and what its clients have to trust (*ca_file*).
    """

    ca_file: Path
    context: ssl.SSLContext


def certify(directory: Path) -> Certificate:
    """
    Make an authority and a certificate by it; write the authority to *directory*.

    Raises ExtraMissing where trustme is not installed.
    """
    try:
        import trustme  # noqa: PLC0415 -- an extra, see the rules above
    except ImportError:
        raise ExtraMissing("trustme", "demo") from None
    authority = trustme.CA()
    ca_file = directory / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*NAMES).configure_cert(context)
    return Certificate(ca_file, context)
