"""
`make boot`: the units of deploy/systemd, started by a real systemd.

    .boot/bookworm.tar   Debian 12 without anything of ours; made once, 40 s
    .boot/wheels         what locks/demo.lock names; fetched once
    .boot/tree           the machine of the last run
    .boot/transcript     what it did

Rules of this file:

- The machine is set up by the commands that docs/operations.md shows, taken from there.
- It has no network but loopback: what pip needs stands in a folder of it.
- All that needs a running systemd happens inside (inside.py), started by a unit of its
  own; a step that fails fails the run. Nothing of this machine is touched but `.boot`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from collections.abc import Iterator
from pathlib import Path


CHECKOUT = Path(__file__).parent.parent.parent

WORK = CHECKOUT / ".boot"
TAR, WHEELS, TREE = WORK / "bookworm.tar", WORK / "wheels", WORK / "tree"

NEEDS = ("mmdebstrap", "systemd-nspawn")

PACKAGES = "python3,python3-venv,ca-certificates,systemd,systemd-sysv,dbus,procps"
"""What an administrator's Debian has anyway."""

INSIDE = "/root/popfetchd"
"""The checkout, in the tree."""

UNIT = f"""\
[Unit]
Description=The boot test of popfetchd
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
WorkingDirectory={INSIDE}
ExecStart=/usr/bin/python3 -u tests/boot/inside.py
StandardOutput=truncate:/root/transcript
StandardError=inherit
Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin EDITOR=true
Environment=PIP_NO_INDEX=1 PIP_FIND_LINKS=/root/wheels
"""
"""Starts inside.py, and ends the machine with it."""

LONGEST = 420
"""Seconds from boot to power-off; 90 are usual."""


def main() -> int:
    """
    Run the test, print the machine's transcript, and tell how it ended.
    """
    if problem := _problem():
        print(f"make boot: {problem}", file=sys.stderr)
        return 69
    WORK.mkdir(exist_ok=True)
    _bootstrap()
    _fetch_wheels()
    _furnish()
    with (WORK / "console.log").open("wb") as console:
        _nspawn("--boot", "--console=pipe", stdout=console, timeout=LONGEST)
    shutil.copy(TREE / "root/transcript", WORK / "transcript")
    transcript = (WORK / "transcript").read_text(errors="backslashreplace")
    print(transcript)
    return 0 if transcript.rstrip().endswith("all as it should be") else 1


def _problem() -> str:
    if os.geteuid():
        return "needs root: it makes a Debian tree and boots it"
    missing = [tool for tool in NEEDS if shutil.which(tool) is None]
    if missing:
        names = " and ".join(missing)
        return f"needs {names} (Debian: apt install mmdebstrap systemd-container)"
    return ""


def _bootstrap() -> None:
    if not TAR.exists():
        fresh = TAR.with_suffix(".new.tar")
        _run(
            "mmdebstrap",
            "--variant=minbase",
            f"--include={PACKAGES}",
            "bookworm",
            fresh,
        )
        fresh.rename(TAR)


def _fetch_wheels() -> None:
    lock = CHECKOUT / "locks/demo.lock"
    if not WHEELS.exists() or WHEELS.stat().st_mtime < lock.stat().st_mtime:
        shutil.rmtree(WHEELS, ignore_errors=True)
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--dest", WHEELS)
        _run(*pip, "--require-hashes", "-r", lock)


def _furnish() -> None:
    # Debian, the checkout, the wheels, and the unit that begins.
    shutil.rmtree(TREE, ignore_errors=True)
    TREE.mkdir()
    _run("tar", "-xf", TAR, "-C", TREE)
    shutil.copytree(WHEELS, TREE / "root/wheels")
    for name in _checked_out():
        target = TREE / INSIDE[1:] / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, target)
    system = TREE / "etc/systemd/system"
    (system / "multi-user.target.wants").mkdir(parents=True, exist_ok=True)
    (system / "boot-test.service").write_text(UNIT)
    (system / "multi-user.target.wants/boot-test.service").symlink_to(
        "/etc/systemd/system/boot-test.service"
    )


def _checked_out() -> Iterator[str]:
    # What is in the checkout and is not ignored; what was deleted is not there.
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    )
    names = filter(None, listed.stdout.split("\0"))
    return (name for name in names if (CHECKOUT / name).is_file())


def _nspawn(*arguments: str, **more: object) -> None:
    machine = ("systemd-nspawn", "--quiet", "--register=no", "--keep-unit")
    alone = ("--private-network", f"--directory={TREE}")
    _run(*machine, *alone, *arguments, **more)


def _run(*argv: object, **more: object) -> None:
    subprocess.run([str(word) for word in argv], check=True, **more)


if __name__ == "__main__":
    sys.exit(main())
