"""
The boot test, within the booted machine: installs popfetchd as docs/operations.md says,
and looks at what systemd makes of it. What it prints is the transcript.

Rules of this file:

- The machine's own Python and its standard library are enough.
- What is expected is a line that begins with "ok"; the first that is not ends the run.
- Nothing is waited for by a fixed time: what is waited for has a name and an end.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

from collections.abc import Callable, Iterator
from pathlib import Path


ETC = Path("/etc/popfetchd")
UNITS = Path("/etc/systemd/system")
DOCS = Path("docs/operations.md")
MAILDROP = Path("/root/maildrop")
HOME = Path("/home") / "alice"
SECRET = "correct horse battery staple"

LONGEST_WAIT = 60.0
"""Seconds until something that is waited for counts as missing."""

PATIENCE = 10
"""Seconds of WatchdogSec= here, where the unit has 60: nobody wants to wait for them."""

MOST_EXPOSURE = {"popfetchd@": "1.3"}
"""What `systemd-analyze security` may say; 1.1 where nothing stands here."""


# -- what a step is made of -----------------------------------------------------------


def title(text: str) -> None:
    print(f"\n=== {text}  [{time.monotonic() - BEGUN:.0f} s]\n")


def ran(command: str, *, code: int = 0, silent: bool = False) -> str:
    """
    Run *command* in a shell, show it and what it prints; it must exit with *code*.
    """
    done = subprocess.run(
        ["sh", "-c", command],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if not silent:
        print(f"# {command}")
        print("".join(f"  {line}\n" for line in done.stdout.splitlines()), end="")
    expect(f"exit code {code}", code, done.returncode, silent=code == 0)
    return done.stdout


def expect(what: str, wanted: object, found: object, *, silent: bool = False) -> None:
    """
    Go on only if *found* is what was *wanted*.
    """
    if wanted != found:
        print(f"NOT AS EXPECTED: {what}: {found!r}, not {wanted!r}")
        sys.exit(1)
    if not silent:
        print(f"ok: {what}")


def until(what: str, is_so: Callable[[], bool]) -> None:
    """
    Wait until *is_so*.
    """
    begun = time.monotonic()
    while not is_so():
        if time.monotonic() - begun > LONGEST_WAIT:
            print(f"NOT AS EXPECTED: {what}: not after {LONGEST_WAIT:.0f} s")
            sys.exit(1)
        time.sleep(0.1)
    print(f"ok: {what} (after {time.monotonic() - begun:.1f} s)")


def shown(unit: str, *names: str) -> dict[str, str]:
    """
    Return properties of *unit*, as systemd has them.
    """
    command = ["systemctl", "show", unit, f"--property={','.join(names)}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(line.split("=", 1) for line in printed.splitlines())


def state(unit: str) -> str:
    found = shown(unit, "ActiveState", "SubState")
    return f"{found['ActiveState']} ({found['SubState']})"


def status_of(unit: str) -> str:
    return shown(unit, "StatusText")["StatusText"]


def pid_of(unit: str) -> int:
    return int(shown(unit, "MainPID")["MainPID"])


def journal(options: str) -> list[dict[str, str]]:
    """
    Return entries of the journal.
    """
    printed = ran(f"journalctl --sync; journalctl -o json {options}", silent=True)
    return [json.loads(line) for line in printed.splitlines()]


def write(path: Path, text: str, mode: int, owner: str) -> None:
    """
    Write a file as `install -m` does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    ran(f"chown {owner} {path} && chmod {mode:04o} {path}", silent=True)
    print(f"# cat {path}   ({mode:04o} {owner})")
    print("".join(f"  {line}\n" for line in text.splitlines()), end="")


def documented(heading: str) -> Iterator[str]:
    """
    Yield the commands of the first block below *heading* in docs/operations.md.
    """
    text = DOCS.read_text()
    below = text[text.index(f"\n## {heading}\n") :]
    block = re.search(r"```console\n(.*?)```", below, re.DOTALL)
    yield from (line.removeprefix("# ") for line in block[1].splitlines())


# -- configurations -------------------------------------------------------------------


def account(name: str, folder: str, *, every: str = "1s") -> str:
    port = (MAILDROP / "port").read_text()
    return (
        f"  - name: {name}\n"
        f"    host: 127.0.0.1\n"
        f"    port: {port}\n"
        f"    ca_file: /etc/popfetchd/ca.pem\n"
        f"    user: alice@example.net\n"
        f"    password_credential: alice\n"
        f"    every: {every}\n"
        f"    jitter: 0s\n"
        f"    archive: {{format: maildir, path: {folder}}}\n"
    )


def configuration(*accounts: str, state: str = "popfetchd") -> str:
    return f"ledger: /var/lib/{state}/ledger.db\naccounts:\n" + "".join(accounts)


def drop_in(unit: str, name: str, text: str) -> None:
    write(
        UNITS / f"{unit}.d" / f"{name}.conf", f"[Service]\n{text}", 0o644, "root:root"
    )
    ran("systemctl daemon-reload")


def letters(folder: str) -> list[Path]:
    return sorted(Path(folder).glob("new/*"))


def another_letter() -> None:
    os.kill(pid_of("maildrop"), signal.SIGUSR1)
    print("(the maildrop has one letter more)")


# -- the steps ------------------------------------------------------------------------


def install() -> None:
    title("Install, as docs/operations.md says")
    for command in documented("Install"):
        ran(command)
    ran("/opt/popfetchd/bin/popfetchd --version")


def units() -> None:
    title("systemd, as docs/operations.md says")
    for command in documented("systemd"):
        ran(command)
    ran("ls -ld /etc/popfetchd /etc/popfetchd/* /srv/mail /var/lib/popfetchd")
    expect("the example runs", "active (running)", state("popfetchd"))
    ran("systemctl stop popfetchd")


def exposure() -> None:
    title("What each unit could do beyond its task")
    for unit in sorted(Path("deploy/systemd").glob("*.service")):
        most = MOST_EXPOSURE.get(unit.stem, "1.1")
        tenths = round(float(most) * 10)
        options = f"--offline=yes --no-pager --threshold={tenths}"
        ran(f"systemd-analyze security {options} {unit} | tail -1")
        ran(f"systemd-analyze security {options} {unit}", silent=True)
        print(f"ok: {unit.name}: {most} at most")
    ran(
        "systemd-analyze verify --man=no deploy/systemd/*.service deploy/systemd/*.timer"
    )


def maildrop() -> None:
    title("A maildrop with TLS on loopback, in an environment of its own")
    ran("python3 -m venv /opt/maildrop")
    ran("/opt/maildrop/bin/pip install --quiet --require-hashes -r locks/demo.lock")
    ran("/opt/maildrop/bin/pip install --quiet --no-deps .")
    MAILDROP.mkdir()
    (MAILDROP / "secret").write_text(SECRET)
    serve = f"/opt/maildrop/bin/python {Path.cwd()}/tests/boot/maildrop.py {MAILDROP}"
    ran(f"systemd-run --unit=maildrop {serve}")
    until("it listens", (MAILDROP / "port").exists)


def first_visit() -> None:
    title("Active after READY, a credential, mail in the archive")
    ran(f"install -m 0644 {MAILDROP}/ca.pem /etc/popfetchd/")
    write(ETC / "secrets/alice", SECRET + "\n", 0o640, "root:popfetchd")
    write(
        ETC / "popfetchd.yaml",
        configuration(account("ann", '"/srv/mail/{account}"')),
        0o640,
        "root:popfetchd",
    )
    drop_in(
        "popfetchd.service",
        "secrets",
        "LoadCredential=alice:/etc/popfetchd/secrets/alice\n",
    )
    ran("systemctl start popfetchd")
    expect("state", "active (running)", state("popfetchd"))
    expect("status", "1 account", status_of("popfetchd"))
    until("five letters are archived", lambda: len(letters("/srv/mail/ann")) == 5)
    ran("systemctl status --no-pager --lines=0 popfetchd")
    ran(
        "ls -ld /srv/mail /srv/mail/ann; ls -l /srv/mail/ann/new; ls -lA /var/lib/popfetchd"
    )
    found = letters("/srv/mail/ann")[0].stat()
    expect("a letter's mode", 0o100600, found.st_mode)
    expect("and its owner", "popfetchd", Path("/srv/mail/ann").owner())
    ran(
        "grep -E '^(Uid|Gid|CapEff|CapBnd|NoNewPrivs|Seccomp):' "
        f"/proc/{pid_of('popfetchd')}/status"
    )
    ran("/opt/popfetchd/bin/popfetchd healthcheck")
    ran("/opt/popfetchd/bin/popfetchd status")


def reloads() -> None:
    title("Reload: a good configuration, then one that cannot work")
    main = pid_of("popfetchd")
    two = account("ann", "/srv/mail/ann"), account("bob", "/srv/mail/bob")
    write(ETC / "popfetchd.yaml", configuration(*two), 0o640, "root:popfetchd")
    ran("systemctl reload popfetchd")
    until("two accounts", lambda: status_of("popfetchd") == "2 accounts")
    until("bob's letters are archived, too", lambda: len(letters("/srv/mail/bob")) == 5)
    expect("the process is the same", main, pid_of("popfetchd"))

    wrong = configuration(*two).replace("jitter", "jiter")
    write(ETC / "popfetchd.yaml", wrong, 0o640, "root:popfetchd")
    ran("systemctl reload popfetchd")
    until("it tells", lambda: "refused" in status_of("popfetchd"))
    ran("systemctl status --no-pager --lines=0 popfetchd | grep -E 'Active|Status'")
    expect("state", "active (running)", state("popfetchd"))
    expect("the process is the same", main, pid_of("popfetchd"))
    another_letter()
    until("it still fetches", lambda: len(letters("/srv/mail/ann")) == 6)
    ran("journalctl --sync; journalctl -u popfetchd -p err -o cat --no-pager | tail -1")

    write(ETC / "popfetchd.yaml", configuration(*two), 0o640, "root:popfetchd")
    ran("systemctl reload popfetchd")
    until("mended", lambda: status_of("popfetchd") == "2 accounts")


def watchdog() -> None:
    title("Watchdog: the process is stopped, and started anew")
    drop_in("popfetchd.service", "impatient", f"WatchdogSec={PATIENCE}\nRestartSec=1\n")
    ran("systemctl restart popfetchd")
    stopped = pid_of("popfetchd")
    ran(f"kill -STOP {stopped}; grep State /proc/{stopped}/status")
    until("another runs", lambda: pid_of("popfetchd") not in {0, stopped})
    until("it is ready", lambda: state("popfetchd") == "active (running)")
    ran("systemctl show popfetchd -p NRestarts,Result,ActiveState,StatusText")
    ran(
        "journalctl --sync; journalctl -u popfetchd --no-pager -o cat _PID=1 "
        "| grep -i watchdog"
    )
    another_letter()
    until("it fetches", lambda: len(letters("/srv/mail/ann")) == 7)
    (UNITS / "popfetchd.service.d/impatient.conf").unlink()
    ran("systemctl daemon-reload && systemctl restart popfetchd")


def stop() -> None:
    title("A clean stop")
    begun = time.monotonic()
    ran("systemctl stop popfetchd")
    took = time.monotonic() - begun
    expect(f"it took {took:.2f} s, less than 2", True, took < 2)
    found = shown("popfetchd", "Result", "ExecMainStatus", "ActiveState")
    expect("result", "success", found["Result"])
    expect("exit code", "0", found["ExecMainStatus"])
    ran("journalctl --sync; journalctl -u popfetchd -n 4 --no-pager -o short-precise")


def for_a_group() -> None:
    title("An archive for a group, as docs/operations.md says")
    right = (ETC / "popfetchd.yaml").read_text()
    shared = account("team", "/srv/mail/team").replace(
        "format: maildir", 'format: maildir, mode: "0640", group: mail'
    )
    write(ETC / "popfetchd.yaml", configuration(shared), 0o640, "root:popfetchd")
    ran("useradd --groups mail reader; chgrp mail /srv/mail")
    ran("systemctl start popfetchd")
    until("without the group it tells", lambda: "failing" in status_of("popfetchd"))
    ran("/opt/popfetchd/bin/popfetchd status | tail -1")
    (own,) = re.findall(
        r"```ini\n\[Service\]\n(Group=.*?)```", DOCS.read_text(), re.DOTALL
    )
    drop_in("popfetchd.service", "group", own)
    ran("systemctl restart popfetchd && systemctl reload popfetchd")
    until("letters", lambda: len(letters("/srv/mail/team")) == 7)
    ran(
        "ls -ld /srv/mail /srv/mail/team /srv/mail/team/new; ls -l /srv/mail/team/new | head -3"
    )
    ran("runuser -u reader -- sh -c 'cat /srv/mail/team/new/* | grep -c ^Subject:'")
    ran("runuser -u reader -- touch /srv/mail/team/new/x", code=1)
    ran("runuser -u nobody -- ls /srv/mail/team", code=2)
    ran("systemctl stop popfetchd; chgrp popfetchd /srv/mail; chmod 0750 /srv/mail")
    (UNITS / "popfetchd.service.d/group.conf").unlink()
    ran("systemctl daemon-reload")
    (ETC / "popfetchd.yaml").write_text(right)


def wrong_at_start() -> None:
    title("A configuration that cannot work, at the start: 78, and no second try")
    right = (ETC / "popfetchd.yaml").read_text()
    (ETC / "popfetchd.yaml").write_text(right.replace("every: 1s", "every: often"))
    ran("systemctl start popfetchd", code=1)
    found = shown("popfetchd", "ExecMainStatus", "NRestarts")
    expect("exit code", "78", found["ExecMainStatus"])
    expect("state, not auto-restart", "failed (failed)", state("popfetchd"))
    ran("journalctl --sync; journalctl -u popfetchd -p err -n 4 -o cat --no-pager")
    said = journal("-u popfetchd -p err -n 20")
    told = [entry for entry in said if "every" in entry["MESSAGE"]]
    expect("the mistakes are errors to the journal", True, bool(told))
    (ETC / "popfetchd.yaml").write_text(right)
    ran("systemctl reset-failed popfetchd")


def once() -> None:
    title("popfetchd-fetch.timer in place of the service")
    ran("cp deploy/systemd/popfetchd-fetch.* /etc/systemd/system/")
    secret = "LoadCredential=alice:/etc/popfetchd/secrets/alice\n"
    drop_in("popfetchd-fetch.service", "secrets", secret)
    ran("systemctl start popfetchd")
    ran(
        "systemctl disable --now popfetchd && systemctl enable --now popfetchd-fetch.timer"
    )
    ran("systemctl list-timers --no-pager popfetchd-fetch.timer")
    another_letter()
    ran("systemctl start popfetchd-fetch.service")
    expect("one letter more", 8, len(letters("/srv/mail/ann")))
    found = shown("popfetchd-fetch", "Result", "ExecMainStatus")
    expect("result", {"Result": "success", "ExecMainStatus": "0"}, found)
    ran("journalctl --sync; journalctl -u popfetchd-fetch -n 8 -o cat --no-pager")
    ran("systemctl start popfetchd")
    expect(
        "the service ends the timer", "inactive (dead)", state("popfetchd-fetch.timer")
    )
    ran("systemctl disable popfetchd-fetch.timer; systemctl stop popfetchd")


def homes() -> None:
    title("popfetchd@alice, delivering into a home")
    ran("useradd --create-home alice; useradd --create-home bob")
    ran("cp deploy/systemd/popfetchd@.service /etc/systemd/system/")
    write(
        ETC / "alice.yaml",
        'http: {listen: "127.0.0.1:10996"}\n'
        + configuration(account("alice", f"{HOME}/Maildir"), state="popfetchd-alice"),
        0o640,
        "root:alice",
    )
    secret = "LoadCredential=alice:/etc/popfetchd/secrets/alice\n"
    drop_in("popfetchd@alice.service", "secrets", secret)
    ran("systemctl enable --now popfetchd@alice")
    expect("state", "active (running)", state("popfetchd@alice"))
    until("her letters are there", lambda: len(letters(f"{HOME}/Maildir")) == 8)
    ran(f"cd {HOME}; ls -ld Maildir Maildir/new; ls -l Maildir/new | head -3")
    expect("the owner", "alice", (HOME / "Maildir").owner())
    ran(f"nsenter -t {pid_of('popfetchd@alice')} -m ls /home")
    ran("systemctl disable --now popfetchd@alice")


def dynamic_user() -> None:
    title("The same service with dynamic-user.conf, on a machine without the user")
    ran("userdel popfetchd; rm -r /var/lib/popfetchd /srv/mail /etc/popfetchd/secrets")
    for command in commented("deploy/systemd/dynamic-user.conf"):
        ran(command)
    write(ETC / "secrets/alice", SECRET + "\n", 0o600, "root:root")
    folder = '"/var/lib/popfetchd/mail/{account}"'
    write(
        ETC / "popfetchd.yaml",
        configuration(account("alice", folder)),
        0o644,
        "root:root",
    )
    ran("systemctl daemon-reload && systemctl start popfetchd")
    expect("state", "active (running)", state("popfetchd"))
    until("letters", lambda: len(letters("/var/lib/popfetchd/mail/alice")) == 8)
    ran(
        "ls -ld /var/lib/popfetchd /var/lib/private/popfetchd; ls -lA /var/lib/popfetchd/"
    )
    ran(
        f"grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' /proc/{pid_of('popfetchd')}/status"
    )
    ran("systemctl stop popfetchd")


def commented(path: str) -> Iterator[str]:
    """
    Yield the commands in the comment at the head of *path*.
    """
    return (
        line.removeprefix("#   # ")
        for line in Path(path).read_text().splitlines()
        if line.startswith("#   # ")
    )


def levels() -> None:
    title("What the journal has of it")
    counts: dict[str, int] = {}
    for entry in journal("-t popfetchd"):
        counts[entry["PRIORITY"]] = counts.get(entry["PRIORITY"], 0) + 1
        if entry["MESSAGE"].startswith("{"):
            level = json.loads(entry["MESSAGE"])["level"]
            wanted = {"info": "6", "warning": "4", "error": "3"}[level]
            expect("a line's priority", wanted, entry["PRIORITY"], silent=True)
    print(f"lines of each priority: {dict(sorted(counts.items()))}")
    expect("errors and the rest", {"3", "6"}, set(counts))
    ran("journalctl -t popfetchd -p err -o cat --no-pager | cut -c -100")
    ran(
        'journalctl -u popfetchd -o cat --no-pager --grep \'"account": "bob"\' | tail -2'
    )


STEPS = (
    install,
    units,
    exposure,
    maildrop,
    first_visit,
    reloads,
    watchdog,
    stop,
    for_a_group,
    wrong_at_start,
    once,
    homes,
    dynamic_user,
    levels,
)

BEGUN = time.monotonic()


if __name__ == "__main__":
    ran(
        "systemctl --version | head -1; uname -sr; . /etc/os-release; echo $PRETTY_NAME"
    )
    for step in STEPS:
        step()
    print("\nall as it should be")
