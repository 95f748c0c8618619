"""
The certificate is good for loopback, and its absence is told.
"""

from __future__ import annotations

import ssl
import sys

import pytest

from popfetchd.errors import ExtraMissing
from popfetchd.maildrop.certificate import certify


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """
    Make a handshake in memory, or raise what the client finds.
    """
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname=name),
        server.wrap_bio(up, down, server_side=True),
    ]
    while ends:
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_the_certificate_is_good_for_loopback(tmp_path, name):
    """
    A client that trusts the authority takes it, under either name.
    """
    certificate = certify(tmp_path)
    client = ssl.create_default_context(cafile=certificate.ca_file)
    handshake(certificate.context, client, name)


def test_the_certificate_is_good_for_nothing_else(tmp_path):
    """
    Another name is refused, and so is whoever does not trust the authority.
    """
    certificate = certify(tmp_path)
    client = ssl.create_default_context(cafile=certificate.ca_file)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(certificate.context, client, "example.org")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get"):
        handshake(certificate.context, ssl.create_default_context(), "localhost")


def test_without_trustme_the_extra_is_named(tmp_path, monkeypatch):
    """
    Whoever lacks the package is told what to install.
    """
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ExtraMissing) as caught:
        certify(tmp_path)
    assert "the package trustme is not installed" == str(caught.value)
    assert "pip install popfetchd[demo]" == caught.value.hint
