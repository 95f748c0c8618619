"""
The benchmark of what a hostile or huge server costs, small: its cases end as they should.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.wire import unmeasured


@pytest.mark.slow
def test_every_case_ends_as_it_should() -> None:
    """
    A listing is taken, what has no end is refused, each within its memory.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.limits", "--messages", "20000"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=unmeasured(),
    )
    assert (0, "") == (done.returncode, done.stderr)
    listed, known, listing, status, line = done.stdout.splitlines()
    assert "5000 to retrieve, 15000 left for later" in listed
    assert "0 to retrieve, 0 left for later" in known
    assert "LISTING_OCTETS" in listing
    assert "LONGEST_REPLY" in status
    assert "LISTING_OCTETS" in line
