"""
Live: the channel as an operator writes it, to Dovecot.
"""

from __future__ import annotations

import hashlib
import ssl

import pytest

from tests.socks import Socks
from tests.wire import Installation, leaked


pytestmark = pytest.mark.live

PROXY_PASSWORD = "carry-and-tell-nobody"


@pytest.fixture
def maildrop(dovecot):
    user = dovecot.add_user()
    user.deliver([b"Subject: one\n\nbody\n", b"Subject: two\n\nbody\n"])
    return user


@pytest.fixture
def site(tmp_path):
    return Installation(tmp_path)


@pytest.mark.parametrize("tls", ["implicit", "stls"])
def test_a_pinned_server(dovecot, site, maildrop, tls):
    """
    No authority and no name, but the certificate itself; another one gets no credential.
    """
    ports = {"implicit": dovecot.ports.pop3s, "stls": dovecot.ports.pop3}
    shown = ssl.get_server_certificate((dovecot.host, dovecot.ports.pop3s))
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(shown)).hexdigest()
    account = site.account(
        maildrop.name, maildrop.password, ports[tls], tls=tls, fingerprint_sha256=pin
    )
    site.configure(account)
    assert 2 == site.fetch().report["archived"]
    site.configure(account | {"fingerprint_sha256": "00" * 32})
    done = site.fetch()
    assert (69, "certificate") == (done.code, done.report["reason"])
    assert f"its SHA-256 fingerprint is {pin}, and" in done.report["error"]


def test_through_a_proxy_to_another_name(dovecot, site, maildrop):
    """
    Proxy, server_name, source_address and TLS 1.3 together; no secret is told.
    """
    names = {"pop.hidden.example": dovecot.host}
    with Socks(names, ("carrier", PROXY_PASSWORD)) as proxy:
        site.configure(
            site.account(
                maildrop.name,
                maildrop.password,
                dovecot.ports.pop3s,
                host="pop.hidden.example",
                server_name="localhost",
                ca_file=dovecot.ca_file,
                min_tls="1.3",
                source_address="127.0.0.5",
                proxy=proxy.url(f"carrier:{PROXY_PASSWORD}@"),
            ),
            log={"level": "debug", "format": "json"},
        )
        # A file with a secret is its owner's alone.
        site._configuration.chmod(0o600)
        done = site.fetch()
    assert (0, 2) == (done.code, done.report["archived"]), done.stderr
    assert [("pop.hidden.example", dovecot.ports.pop3s)] == proxy.asked
    assert ["127.0.0.5"] == proxy.peers
    secrets = [PROXY_PASSWORD.encode(), maildrop.password.encode()]
    assert [] == [*leaked(secrets, [done.stdout.encode(), done.stderr.encode()])]
