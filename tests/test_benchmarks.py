"""
The benchmarks still work, in their smallest form; no figure is looked at.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys

from pathlib import Path

import pytest

from benchmarks.measure import relay
from benchmarks.plots import Bar, bars, lines, ticks
from tests.wire import unmeasured


ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


def test_a_small_profile_is_measured_from_end_to_end(tmp_path):
    """
    A run of popfetchd and one of a poplib client are made, checked, and told of on a page with plots.
    """
    options = ["--server", "embedded", "--rounds", "1", "--peers", "popfetchd,poplib"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "tiny", *options, "--pages", tmp_path],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=ROOT,
        env=unmeasured(),
    )
    assert 0 == done.returncode, done.stderr
    page = (tmp_path / "tiny.md").read_text("utf-8")
    assert 2 == page.count("| **popfetchd** |") == page.count("| poplib |")
    assert {"tiny-keep.svg", "tiny-delete.svg"} == {
        path.name for path in tmp_path.glob("*.svg")
    }


def round_trips(*portions):
    """
    Send *portions*, each when the one before was echoed; return what the relay counts.
    """
    address = ("127.0.0.1", 0)
    with (
        socket.create_server(address) as listener,
        relay(listener.getsockname()[1], 0.002) as counted,
        socket.create_connection(("127.0.0.1", counted.port), 10) as client,
    ):
        server, _ = listener.accept()
        with server:
            for portion in portions:
                client.sendall(portion)
                server.sendall(server.recv(100))
                assert portion == client.recv(100)
    return counted.round_trips


def test_a_round_trip_is_what_has_to_be_waited_for():
    """
    What is sent together shares one round trip; TCP's handshake counts as one.
    """
    assert [2, 4] == [round_trips(b"abc"), round_trips(b"a", b"b", b"c")]


def test_plots_are_drawn_to_scale():
    """
    A bar of the highest value is the longest, and an axis has round figures.
    """
    drawn = bars("x", [Bar("a", 1, 2, 3), Bar("b & c", 4, 8, 9)], "s", "a")
    short, long = map(float, re.findall(r'width="([\d.]+)" height="17"', drawn))
    assert 0 < short < long
    assert "b &amp; c" in drawn
    assert "<polyline" in lines("x", "n", {"a": [(1, 10.0), (10, 20.0)]})
    assert [0, 5, 10, 15, 20] == list(ticks(23))
