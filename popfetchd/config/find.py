"""
Which file is the configuration, and where the ledger stands when nobody says.

Rules of this file:

- Whoever names a file gets that file: only the places nobody named are tried.
- The environment is passed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from popfetchd.errors import ConfigurationError, Mistake


SYSTEM = Path("/etc/popfetchd/popfetchd.yaml")


def find(given: Path | None, environ: Mapping[str, str], system: Path = SYSTEM) -> Path:
    """
    Return the configuration file: *given*, $POPFETCHD_CONFIG, *system*, or XDG's.

    Raises ConfigurationError where none is named and none is there.
    """
    if given is not None:
        return given
    if named := environ.get("POPFETCHD_CONFIG"):
        return Path(named)
    own = _below(environ, "XDG_CONFIG_HOME", ".config", "popfetchd.yaml")
    places = [system] if own is None else [system, own]
    for place in places:
        if place.exists():
            return place
    sought = " or ".join(str(place) for place in places)
    text = f"no configuration: there is none at {sought}; name one with -c"
    raise ConfigurationError([Mistake("popfetchd", 0, 0, text)])


def ledger(environ: Mapping[str, str]) -> Path | None:
    """
    Return where the ledger stands: below $STATE_DIRECTORY, else below XDG's.

    None where the environment names neither.
    """
    if given := environ.get("STATE_DIRECTORY"):
        # systemd.exec(5): several directories are separated by colons.
        return Path(given.split(":")[0]) / "ledger.db"
    return _below(environ, "XDG_STATE_HOME", ".local/state", "ledger.db")


def _below(
    environ: Mapping[str, str], variable: str, otherwise: str, name: str
) -> Path | None:
    # XDG Base Directory Specification: a relative path is to be ignored.
    base = environ.get(variable, "")
    home = environ.get("HOME", "")
    if base.startswith("/"):
        return Path(base) / "popfetchd" / name
    return Path(home) / otherwise / "popfetchd" / name if home else None
