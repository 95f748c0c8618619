"""
popfetchd from outside: the command line as a process, and what it leaves on the disk.

Rules of this file:

- Nothing of popfetchd is called. What is archived is told by the ledger's table and by
  the files alone, and restored here once more: its mistakes are not ours.
- Between the archive and the ledger there is no give and take: each file has its row,
  each row its file, or `archived` fails.
- Secrets are sought as the wire would carry them, in clear and in base64.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any


PATIENCE = 300.0
"""Seconds after which a process of popfetchd is taken to hang: on a machine that does
much else, a whole maildrop has taken a minute."""

ALICE = "alice"
"""The account of a test that needs only one."""

Account = dict[str, Any]
"""An account as it stands in the configuration."""


@dataclass(frozen=True)
class Fetched:
    """
    How one `fetch` ended, and all that it said.
    """

    code: int
    stdout: str
    stderr: str

    @property
    def reports(self) -> dict[str, dict[str, Any]]:
        """
        What `--json` told of each account.
        """
        assert self.stdout, self.stderr  # it ended before it could tell
        return {report["account"]: report for report in json.loads(self.stdout)}

    @property
    def report(self) -> dict[str, Any]:
        """
        What it told of the only account.
        """
        (report,) = self.reports.values()
        return report

    @property
    def log(self) -> list[dict[str, Any]]:
        """
        The lines of a log in JSON.
        """
        return [json.loads(line) for line in self.stderr.splitlines()]


class Installation:
    """
    popfetchd as an operator has it: a configuration, a ledger, maildirs, in *directory*.
    """

    def __init__(self, directory: Path) -> None:
        self.ledger = directory / "state" / "ledger.db"
        self._directory = directory
        self._configuration = directory / "popfetchd.yaml"

    # -- what the operator writes -----------------------------------------------------

    def account(
        self, user: str, password: str, port: int, *, name: str = ALICE, **keys: object
    ) -> Account:
        """
        Return an account, its password in a file of its own; None leaves a key out.
        """
        secret = self._directory / f"{name}.pass"
        secret.touch(0o600)
        secret.write_text(f"{password}\n", encoding="utf-8")
        account = {
            "name": name,
            "host": "127.0.0.1",
            "port": port,
            "user": user,
            "password_file": str(secret),
            **keys,
        }
        return {key: value for key, value in account.items() if value is not None}

    def configure(self, *accounts: Account, **settings: object) -> None:
        """
        Write the configuration. (JSON is YAML.)
        """
        archive = {"format": "maildir", "path": f"{self._directory}/mail/{{account}}"}
        configuration = {
            "ledger": str(self.ledger),
            "defaults": {"every": "5m", "archive": archive},
            "accounts": accounts,
            **settings,
        }
        text = json.dumps(configuration, default=str, indent=2)
        self._configuration.write_text(text, encoding="utf-8")

    # -- what the operator types ------------------------------------------------------

    def fetch(self, *options: str, json: bool = True) -> Fetched:
        """
        Run `fetch` to its end.
        """
        done = subprocess.run(
            self.command("fetch", *options, *(["--json"] if json else [])),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Fetched(done.returncode, done.stdout, done.stderr)

    def finish(self, process: subprocess.Popen[str]) -> Fetched:
        """
        Wait until what `start` has started ends.
        """
        stdout, stderr = process.communicate(timeout=PATIENCE)
        return Fetched(process.returncode, stdout, stderr)

    def start(self) -> subprocess.Popen[str]:
        """
        Start `fetch --json`. Its coverage is not measured: it may be killed.
        """
        return subprocess.Popen(
            self.command("fetch", "--json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=unmeasured(),
        )

    def command(self, verb: str, *options: str) -> list[str]:
        """
        Return the command line of *verb*.
        """
        program = [sys.executable, "-m", "popfetchd", verb]
        return [*program, "-c", str(self._configuration), *options]

    # -- what is left on the disk -----------------------------------------------------

    def rows(self, columns: str, account: str = ALICE) -> list[tuple[Any, ...]]:
        """
        Return *columns* of the ledger's rows, as the next process would find them.
        """
        sql = f"SELECT {columns} FROM message WHERE account = ? ORDER BY id"
        # A copy: to open the ledger after a kill would mend it.
        with tempfile.TemporaryDirectory() as copies:
            copy = shutil.copytree(self.ledger.parent, Path(copies), dirs_exist_ok=True)
            with closing(sqlite3.connect(copy / self.ledger.name)) as database:
                return database.execute(sql, (account,)).fetchall()

    def visiting(self, account: str = ALICE) -> bool:
        """
        Tell whether a visit is under way: somebody holds the account's lock.
        """
        lock = self.ledger.with_name(f"{self.ledger.name}.locks") / account
        try:
            with lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def change(self, sql: str) -> None:
        """
        Alter the ledger behind popfetchd's back.
        """
        with closing(sqlite3.connect(self.ledger)) as database, database:
            database.execute(sql)

    def maildir(self, account: str = ALICE) -> Path:
        """
        Return where the account's messages are.
        """
        return self._directory / "mail" / account

    def files(self, folder: str, account: str = ALICE) -> list[Path]:
        """
        Return what is in tmp, new or cur; nothing when there is no maildir yet.
        """
        return sorted(self.maildir(account).glob(f"{folder}/*"))

    def archived(self, account: str = ALICE) -> list[bytes]:
        """
        Return, sorted, the octets that the server sent of each message in the archive.
        """
        forms = dict(self.rows("name, form", account))
        files = [*self.files("new", account), *self.files("cur", account)]
        assert sorted(forms) == sorted(path.name for path in files)
        return sorted(restored(path, forms[path.name]) for path in files)

    def unfinished(self, account: str = ALICE) -> list[str]:
        """
        Return what a visit has left undone: spool files, and rows still open or marked.
        """
        done = "state = 'removed' OR state = 'published' AND NOT marked"
        rows = self.rows(f"name, {done}", account)
        undone = [name for name, is_done in rows if not is_done]
        return [*undone, *(path.name for path in self.files("tmp", account))]


def restored(path: Path, form: str) -> bytes:
    """
    Return what the server sent, from a file of the archive and its recorded form.
    """
    stored = path.read_bytes()
    return stored if form == "exact" else stored.replace(b"\n", b"\r\n")


def unmeasured() -> dict[str, str]:
    """
    Return this process's environment, but for what makes its children measure coverage.
    """
    return {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}


def spellings(user: str, password: str) -> list[bytes]:
    """
    Return each way in which a password would stand on a wire that is not encrypted.
    """
    plain = base64.b64encode(f"\0{user}\0{password}".encode())
    return [password.encode(), base64.b64encode(password.encode()), plain]


def leaked(secrets: Iterable[bytes], places: Sequence[bytes]) -> Iterator[bytes]:
    """
    Yield those of *secrets* that stand in any of *places*.
    """
    for secret in secrets:
        if any(secret in place for place in places):
            yield secret
