"""
What holds for every test.

Rules of this file:

- Tests speak to loopback only: a connection to anywhere else fails the test, whatever
  the code under test catches. (Child processes are not watched.)
- Property tests are short by default and find their time limit in the examples they
  are given, not in a clock: the machine may be busy. HYPOTHESIS_PROFILE=deep looks
  harder, and fuzz (for tests/test_fuzz.py) for an hour.
"""

from __future__ import annotations

import ipaddress
import os
import socket

import hypothesis
import pytest


hypothesis.settings.register_profile("small", max_examples=50, deadline=None)
hypothesis.settings.register_profile("deep", max_examples=5000, deadline=None)
hypothesis.settings.register_profile(
    "fuzz", max_examples=100_000, deadline=None, database=None
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "small"))


def is_loopback(host):
    """
    Tell whether *host* is this machine; a name but `localhost` is taken to be not.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def guarded(connect):
    """
    Return *connect*, refusing what is neither on loopback nor a local socket.

    `pytest.fail` raises a BaseException: no `except Exception` on the way takes it.
    """

    def guard(self, address):
        inet = self.family in {socket.AF_INET, socket.AF_INET6}
        if inet and not is_loopback(address[0]):
            pytest.fail(f"a test connects to {address[0]}, which is not loopback")
        return connect(self, address)

    return guard


@pytest.fixture(autouse=True, scope="session")
def _loopback_only():
    """
    Put the guard in place for the whole run.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
        yield
