"""
Which file is the configuration, and where the ledger stands.
"""

from __future__ import annotations

import subprocess
import sys

from pathlib import Path

import pytest

from popfetchd.config import find
from popfetchd.errors import ConfigurationError


@pytest.fixture
def system(tmp_path):
    """
    The system's configuration, not there yet.
    """
    return tmp_path / "popfetchd.yaml"


def test_given(system):
    """
    A file that is named is taken, whatever else there is.
    """
    environ = {"POPFETCHD_CONFIG": "/other.yaml"}
    assert Path("x.yaml") == find.find(Path("x.yaml"), environ, system)


def test_environment(system):
    """
    $POPFETCHD_CONFIG comes before the files that nobody named.
    """
    system.touch()
    assert Path("/x.yaml") == find.find(None, {"POPFETCHD_CONFIG": "/x.yaml"}, system)


@pytest.mark.parametrize("variable", ["XDG_CONFIG_HOME", "HOME"])
def test_system_then_own(system, tmp_path, variable):
    """
    The system's comes before the user's.
    """
    below = "popfetchd" if variable == "XDG_CONFIG_HOME" else ".config/popfetchd"
    own = tmp_path / below / "popfetchd.yaml"
    own.parent.mkdir(parents=True)
    own.touch()
    environ = {variable: str(tmp_path)}
    assert own == find.find(None, environ, system)
    system.touch()
    assert system == find.find(None, environ, system)


def test_none(system, tmp_path):
    """
    Where there is none, every place that was tried is named.
    """
    own = tmp_path / ".config/popfetchd/popfetchd.yaml"
    with pytest.raises(ConfigurationError) as caught:
        find.find(None, {"HOME": str(tmp_path)}, system)
    assert (
        f"popfetchd: no configuration: there is none at {system} or {own}; "
        "name one with -c"
    ) == str(caught.value)


def test_no_home(system):
    """
    Without a home only the system's place is tried.
    """
    with pytest.raises(ConfigurationError, match=f"none at {system}; name one with -c"):
        find.find(None, {}, system)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a/ledger.db"),
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/popfetchd/ledger.db"),
        (
            {"XDG_STATE_HOME": "relative", "HOME": "/h"},
            "/h/.local/state/popfetchd/ledger.db",
        ),
    ],
)
def test_ledger(environ, expected):
    """
    The ledger stands where systemd says, else where XDG says.
    """
    assert Path(expected) == find.ledger(environ)


def test_light():
    """
    To find a configuration, and to read one without judging it, needs no pydantic.
    """
    line = (
        "import sys, popfetchd.config.find, popfetchd.config.document;"
        "print('pydantic' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", line], capture_output=True, check=True)
    assert b"False\n" == ran.stdout


def test_no_ledger():
    """
    An environment that says nothing leaves it open.
    """
    assert find.ledger({}) is None
