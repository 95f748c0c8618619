"""
Live: how often a visit waits for Dovecot, over TLS 1.3, the handshakes included.
"""

from __future__ import annotations

import pytest

from benchmarks.measure import relay
from popfetchd.visit.glancing import LARGE
from tests.live.dovecot import free_ports
from tests.wire import Installation


pytestmark = pytest.mark.live

NEAR = 0.01
"""Seconds of a round trip to the relay: what arrives together is read together."""


@pytest.fixture
def maildrop(dovecot):
    return dovecot.add_user()


@pytest.fixture
def site(tmp_path):
    return Installation(tmp_path)


def letters(count):
    return [b"Subject: %d\n\nbody\n" % n for n in range(count)]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"tls": "implicit"}, (6, 5)),
        ({"tls": "implicit", "delete_after": "verified"}, (7, 5)),
        ({"tls": "implicit", "auth": "user"}, (6, 5)),
        ({"tls": "implicit", "auth": "login"}, (9, 8)),
        ({"tls": "stls"}, (7, 6)),
    ],
    ids=str,
)
def test_round_trips(dovecot, site, maildrop, keys, expected):
    """
    TCP, TLS, the greeting, login and listing, what is new, QUIT: one each, once known.
    """
    port = {"implicit": dovecot.ports.pop3s, "stls": dovecot.ports.pop3}[keys["tls"]]
    (listen,) = free_ports(1)

    def round_trips(new):
        maildrop.deliver(letters(new))
        with relay(port, NEAR, listen) as counted:
            report = site.fetch().report
        assert (new, None) == (report["archived"], report["reason"])
        return counted.round_trips

    site.configure(
        site.account(
            maildrop.name,
            maildrop.password,
            listen,
            ca_file=dovecot.ca_file,
            min_tls="1.3",
            **keys,
        )
    )
    first = round_trips(5)
    assert expected == (round_trips(5), round_trips(0))
    assert expected[0] < first


def test_round_trips_of_a_large_maildrop(dovecot, site, maildrop):
    """
    A glance costs five; a listing behind it, and what is new, one each.
    """
    (listen,) = free_ports(1)
    site.configure(
        site.account(maildrop.name, maildrop.password, listen, ca_file=dovecot.ca_file)
    )
    maildrop.deliver(letters(LARGE))
    trips, archived = [], []
    for new in (0, 0, 5, 0):
        maildrop.deliver(letters(new))
        with relay(dovecot.ports.pop3s, NEAR, listen) as counted:
            archived.append(site.fetch().report["archived"])
        trips.append(counted.round_trips)
    assert [LARGE, 0, 5, 0] == archived
    assert [5, 7, 5] == trips[1:]
