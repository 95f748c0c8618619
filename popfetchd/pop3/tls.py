"""
What TLS has to prove before a channel is one: contexts, pins, and how a proof fails.

Rules of this file:

- The certificate is verified for the configured name; there is no switch to turn that
  off. A pin that the operator has written takes its place (RFC 8314 §5.4): the
  certificate itself is known then, so that its authority, names and dates say nothing.
  No error offers to pin what was refused.
- TLS 1.2 or later; a name in the certificate's subject counts for nothing (RFC 8314 §5,
  RFC 7817 §3).
- Making a TLS context costs 20 ms, so equal policies share one.
- A refused certificate is told with whose fault it is and what to do about it.
"""

from __future__ import annotations

import ssl
import threading

from pathlib import Path
from typing import Any, NamedTuple

from popfetchd import pem
from popfetchd.errors import (
    CertificateRefused,
    CertificateUnexpected,
    TlsFailed,
    quote,
)
from popfetchd.pop3.certificate import read
from popfetchd.problems import problem
from popfetchd.values import Certificate, Server, TlsPolicy, TlsVersion


VERSIONS = {
    TlsVersion.TLS_1_2: ssl.TLSVersion.TLSv1_2,
    TlsVersion.TLS_1_3: ssl.TLSVersion.TLSv1_3,
}


class TlsContexts:
    """
    One TLS context for each policy, made when first asked for. Safe among threads.

    A file is read once; a new TlsContexts sees what became of it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contexts: dict[TlsPolicy, ssl.SSLContext] = {}

    def get(self, policy: TlsPolicy) -> ssl.SSLContext:
        """
        Return the context of *policy*.

        Raises ConfigurationError when a file of it cannot be read or is no good.
        """
        with self._lock:
            if policy not in self._contexts:
                self._contexts[policy] = _context(policy)
            return self._contexts[policy]


def _context(policy: TlsPolicy) -> ssl.SSLContext:
    context = _pinning() if policy.pins else _trusting(policy.ca_file)
    if policy.client_cert is not None:
        names = ("client_cert", "client_key")
        pem.load(context, policy.client_cert, policy.client_key, names)
    context.minimum_version = VERSIONS[policy.minimum]
    context.hostname_checks_common_name = False
    return context


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    with pem.used_as("ca_file", ca_file):
        if ca_file is not None:
            pem.judge(ca_file)
        return ssl.create_default_context(cafile=ca_file)


def _pinning() -> ssl.SSLContext:
    # Without the system's authorities: 20 ms, and 840 kB that no pin needs (10 kB do).
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # `prove` compares
    return context


# -- the server's certificate ---------------------------------------------------------


def prove(server: Server, sock: ssl.SSLSocket) -> Certificate:
    """
    Return the certificate of a handshake that is over: it is the pinned one, if any is.

    Raises CertificateUnexpected.
    """
    shown = read(sock.getpeercert(binary_form=True) or b"")
    if server.tls.pins and shown.sha256 not in server.tls.pins:
        raise CertificateUnexpected(
            server.host,
            f"its SHA-256 fingerprint is {shown.sha256}, "
            "and `fingerprint_sha256` has another",
            "somebody may stand between: ask whoever runs the server which it is",
        )
    return shown


class Flaw(NamedTuple):
    """
    What OpenSSL found wrong with a certificate, in words, and what to do about it.
    """

    kind: type[CertificateRefused]
    problem: str
    remedy: str


TELL_THEM = "tell whoever runs the server to renew it"
CLOCK = "see whether this machine's clock is right"
_UNKNOWN = Flaw(
    CertificateUnexpected,
    "its authority is not known here",
    "`ca_file:` names a private authority; from a public one, the server leaves out "
    "the certificates between",
)
_ALONE = Flaw(
    CertificateUnexpected,
    "it is signed by itself",
    "ask whoever runs the server for it: `ca_file:` takes that too",
)
_OTHER = Flaw(
    CertificateUnexpected,
    "it is for another name",
    "`host:` must be a name in the certificate; where it is an address or a tunnel, "
    "`server_name:` is that name",
)

FLAWS = {
    9: Flaw(CertificateRefused, "it is not valid yet", f"{CLOCK}, or {TELL_THEM}"),
    10: Flaw(CertificateRefused, "it has expired", f"{TELL_THEM}, or {CLOCK}"),
    18: _ALONE,
    19: _UNKNOWN,
    20: _UNKNOWN,
    21: _UNKNOWN,
    62: _OTHER,
    64: _OTHER,
}
"""By OpenSSL's X509_V_ERR_… (x509_vfy.h), those that an operator meets."""

MOST_NAMES = 4
"""Names of a certificate that one sentence tells."""


def refused(
    server: Server, sock: object, error: ssl.SSLCertVerificationError
) -> CertificateRefused:
    """
    Return the error that tells why OpenSSL refused the certificate shown on *sock*.
    """
    unknown = Flaw(CertificateRefused, error.verify_message, TELL_THEM)
    flaw = FLAWS.get(error.verify_code, unknown)
    told, shown = flaw.problem, _shown(sock)
    if shown is not None and flaw is _OTHER:
        told = _misnamed(server.certified_name, shown.names)
    elif shown is not None and flaw is _ALONE:
        told += f"; its SHA-256 fingerprint is {shown.sha256}"
    return flaw.kind(server.host, told, flaw.remedy)


def _misnamed(wanted: str, names: tuple[str, ...]) -> str:
    if not names:
        return f"it is not for {wanted}, nor does it name any other host"
    more = [f"{len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
    return f"it is not for {wanted} but for {', '.join([*map(quote, names[:MOST_NAMES]), *more])}"


def _shown(sock: Any) -> Certificate | None:  # noqa: ANN401 -- its inside has no type
    """
    Return the certificate of a handshake that failed. Only to be told of.
    """
    # Public as SSLSocket.get_unverified_chain since Python 3.13.
    chain_of = getattr(getattr(sock, "_sslobj", None), "get_unverified_chain", None)
    chain = chain_of() if chain_of is not None else None
    return read(ssl.PEM_cert_to_DER_cert(chain[0].public_bytes())) if chain else None


# -- other failures -------------------------------------------------------------------


_MODE = "port 995 wants `tls: implicit`, port 110 `tls: stls`"
_VERSION = "the server speaks no TLS that `min_tls:` takes; the least is 1.2"
_OURS = "the server wants to be shown a certificate that it trusts: `client_cert:`"

REMEDIES = {
    "wrong version number": _MODE,
    "http request": _MODE,
    "unsupported protocol": _VERSION,
    "tlsv1 alert protocol version": _VERSION,
    "tlsv13 alert certificate required": _OURS,
    "tlsv1 alert unknown ca": _OURS,
    "tlsv1 alert access denied": _OURS,
    "sslv3 alert bad certificate": _OURS,
    "sslv3 alert certificate unknown": _OURS,
    "sslv3 alert certificate expired": _OURS,
    "sslv3 alert certificate revoked": _OURS,
}
"""What to do about OpenSSL's reasons, those that tell enough."""


def failed(server: Server, error: ssl.SSLError) -> TlsFailed:
    """
    Return the error that tells why there is no TLS.
    """
    words = problem(error)
    return TlsFailed(server.host, server.port, words, REMEDIES.get(words))
