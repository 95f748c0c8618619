"""
The units under deploy/systemd, as far as they can be judged without booting them.
"""

from __future__ import annotations

import re
import shutil
import subprocess

from pathlib import Path

import pytest

from popfetchd.cli.parser import build_parser


UNITS = Path(__file__).parent.parent / "deploy/systemd"

SERVICES = sorted(UNITS.glob("*.service"))

WIDEST_EXPOSURE = {"popfetchd@.service": 13}
"""Tenths of `systemd-analyze security`: one that writes into homes must see them."""


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_a_service_is_hardly_exposed(unit):
    """
    There is hardly anything that a service could do beyond its task.
    """
    if shutil.which("systemd-analyze") is None:
        pytest.skip("NOT CHECKED: systemd-analyze is absent")
    most = str(WIDEST_EXPOSURE.get(unit.name, 11))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"--threshold={most}", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout[-200:] + done.stderr


def hardening(unit):
    lines = unit.read_text().splitlines()
    return set(lines[lines.index("CapabilityBoundingSet=") :]) - {""}


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_services_are_hardened_alike(unit):
    """
    A service lacks nothing that another one is denied, but what homes need.
    """
    whole = hardening(UNITS / "popfetchd.service")
    missing = whole - hardening(unit) - {"[Install]", "WantedBy=multi-user.target"}
    homes = {"ProtectHome=yes", "PrivateUsers=yes"}
    assert (homes if "@" in unit.name else set()) == missing


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_a_service_runs_a_verb_that_exists(unit):
    """
    What a unit starts is a command line that popfetchd takes.
    """
    (line,) = re.findall(r"(?m)^ExecStart=\S+/popfetchd (.*)$", unit.read_text())
    assert build_parser().parse_args(line.split()).config


def test_whoever_a_service_runs_as_reaches_its_configuration():
    """
    popfetchd@alice reads a file below /etc/popfetchd, which is not alice's.
    """
    tmpfiles = (UNITS / "popfetchd.tmpfiles").read_text()
    modes = dict(re.findall(r"(?m)^d (\S+)\s+(\d{4}) ", tmpfiles))
    assert ("0755", "0750") == (
        modes["/etc/popfetchd"],
        modes["/etc/popfetchd/secrets"],
    )


def test_the_service_and_the_timer_end_each_other():
    """
    Else the timer's next visit would end a service that was started meanwhile.
    """
    timer = (UNITS / "popfetchd-fetch.timer").read_text()
    assert "Conflicts=popfetchd.service" in timer.splitlines()
