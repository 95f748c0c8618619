"""
Who is measured, and how each is told to fetch.

Rules of this file:

- Each is configured as its manual says for its best: TLS with a verified certificate,
  a maildir, what was seen remembered, no header fields added where it can be told so.
- popfetchd runs as it comes, with all its promises: every message is fsynced and read
  back, its folder fsynced, its row committed before it counts. Only for many accounts on
  one host `limits` are raised to as many sessions as the others' `xargs -P`.
- The maildir of account U is `U/mail` below the run's folder, for everybody.
- Who is missing here says so and is left out.
"""

from __future__ import annotations

import json
import os
import shutil
import sys

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.servers import EPOCH, HOST, Drop
from tests.live.dovecot import MAIL_USER, give_away


GETMAIL_TIMEOUT = 30
"""Seconds. getmail6 6.18 sometimes misses the end of the process that delivers (its
SIGCHLD comes before the wait for it), waits for so long, and gives up."""


@dataclass(frozen=True, slots=True)
class Job:
    """
    What is to be fetched: *drops*, through *port*, *together* of them at once.
    """

    folder: Path
    drops: Sequence[Drop]
    port: int
    keep: bool
    together: int

    def maildir(self, drop: Drop) -> Path:
        """
        Return where the messages of *drop* are delivered.
        """
        return self.folder / drop.user / "mail"


class Peer(Protocol):
    """
    A program that fetches mail.
    """

    @property
    def name(self) -> str: ...

    @property
    def program(self) -> str:
        """
        What has to be installed for it.
        """

    @property
    def well(self) -> Container[int]:
        """
        The exit codes of a run that went well.
        """

    def configure(self, job: Job) -> None:
        """
        Write its configuration, for every maildrop of *job*.
        """

    def remember(self, job: Job, unique_ids: Sequence[str]) -> bool:
        """
        Write its state as if it had seen *unique_ids* of the only maildrop of *job*.

        False: it cannot be written from outside.
        """

    def command(self, job: Job) -> list[str]:
        """
        Return what starts it. `configure` came before.
        """


# -- one process for all ----------------------------------------------------------------


class Popfetchd:
    """
    One `popfetchd fetch`.
    """

    name = "popfetchd"
    program = sys.executable
    well = (0,)

    def remember(self, job: Job, unique_ids: Sequence[str]) -> bool:  # noqa: ARG002
        return False

    def configure(self, job: Job) -> None:
        secret = job.folder / "password"
        secret.touch(0o600)
        secret.write_text(job.drops[0].password)
        defaults = {
            "every": "5m",
            "host": HOST,
            "port": job.port,
            "ca_file": str(job.drops[0].ca_file),
            "password_file": str(secret),
            "delete_after": "never" if job.keep else "verified",
            "archive": {"format": "maildir", "path": f"{job.folder}/{{account}}/mail"},
        }
        users = [drop.user for drop in job.drops]
        configuration = {
            "ledger": str(job.folder / "ledger.db"),
            "defaults": defaults,
            "accounts": [{"name": user, "user": user} for user in users],
        }
        if job.together > 1:
            at_once = {"sessions": job.together, "sessions_per_host": job.together}
            configuration["limits"] = at_once
        self._file(job).write_text(json.dumps(configuration))  # JSON is YAML

    def command(self, job: Job) -> list[str]:
        return [self.program, "-m", "popfetchd", "fetch", "-c", str(self._file(job))]

    def _file(self, job: Job) -> Path:
        return job.folder / "popfetchd.yaml"


class Floor:
    """
    benchmarks/floor.py, a thread for each session.
    """

    name = "floor"
    program = sys.executable
    well = (0,)

    def remember(self, job: Job, unique_ids: Sequence[str]) -> bool:  # noqa: ARG002
        return False

    def configure(self, job: Job) -> None:
        accounts = [
            {
                "port": job.port,
                "user": drop.user,
                "password": drop.password,
                "keep": job.keep,
                "ca": str(drop.ca_file),
            }
            for drop in job.drops
        ]
        text = json.dumps({"together": job.together, "accounts": accounts})
        (job.folder / "floor.json").write_text(text)

    def command(self, job: Job) -> list[str]:
        return [self.program, "-m", "benchmarks.floor", f"{job.folder}/floor.json"]


# -- one process for each account -------------------------------------------------------


class Each:
    """
    A program that fetches from one account; for many it is started by xargs.
    """

    name = ""
    program = ""
    well: Container[int] = (0,)
    refuses_root = False

    def remember(self, job: Job, unique_ids: Sequence[str]) -> bool:
        (drop,) = job.drops
        name, text = self.seen(drop, job.port, sorted(unique_ids))
        state = job.folder / drop.user / name
        state.touch(0o600)
        state.write_text(text)
        self._hand_over(job)
        return True

    def configure(self, job: Job) -> None:
        for drop in job.drops:
            for folder in ("tmp", "new", "cur"):
                (job.maildir(drop) / folder).mkdir(parents=True)
            place = job.folder / drop.user
            (place / "rc").touch(0o600)
            (place / "rc").write_text(self.text(job, drop, place))
        (job.folder / "users").write_text("\n".join(drop.user for drop in job.drops))
        self._hand_over(job)

    def _hand_over(self, job: Job) -> None:
        if self.refuses_root and os.geteuid() == 0:
            give_away(job.folder)

    def command(self, job: Job) -> list[str]:
        if len(job.drops) == 1:
            command = self.one(f"{job.folder}/{job.drops[0].user}")
        else:
            command = ["xargs", "-a", f"{job.folder}/users", "-P", str(job.together)]
            command += ["-I{}", *self.one(f"{job.folder}/{{}}")]
        if self.refuses_root and os.geteuid() == 0:
            ids = [f"--reuid={MAIL_USER}", f"--regid={MAIL_USER}", "--clear-groups"]
            command = ["setpriv", *ids, *command]
        return command

    def text(self, job: Job, drop: Drop, place: Path) -> str:
        """
        Return the configuration for one account.
        """
        raise NotImplementedError

    def one(self, place: str) -> list[str]:
        """
        Return the command for the account whose folder is *place*.
        """
        raise NotImplementedError

    def seen(self, drop: Drop, port: int, ids: Sequence[str]) -> tuple[str, str]:  # noqa: ARG002
        """
        Return the name and the text of the file that remembers *ids*.
        """
        return "seen", "".join(f"{each}\n" for each in ids)


class Mpop(Each):
    """
    Pipelines; fsyncs each file; remembers at the end.
    """

    name = program = "mpop"

    def text(self, job: Job, drop: Drop, place: Path) -> str:
        return (
            f"account a\nhost {HOST}\nport {job.port}\nuser {drop.user}\n"
            f"password {drop.password}\ntls on\ntls_starttls off\n"
            f"tls_trust_file {drop.ca_file}\nkeep {'on' if job.keep else 'off'}\n"
            f"received_header off\nuidls_file {place}/seen\n"
            f"delivery maildir {place}/mail\n"
        )

    def one(self, place: str) -> list[str]:
        return ["mpop", "-C", f"{place}/rc", "-q", "a"]

    def seen(self, drop: Drop, port: int, ids: Sequence[str]) -> tuple[str, str]:
        _, lines = super().seen(drop, port, ids)
        return "seen", f" {len(ids)} {HOST} {drop.user}\n{lines}"


class Fdm(Each):
    """
    Rewrites what it remembers after each message.
    """

    name = program = "fdm"
    refuses_root = True

    def text(self, job: Job, drop: Drop, place: Path) -> str:
        shutil.copy(drop.ca_file, place / "ca.pem")  # it trusts only OpenSSL's default
        return (
            f'set lock-file "{place}/lock"\nset no-received\nset verify-certificates\n'
            f'action "store" maildir "{place}/mail"\n'
            f'account "a" pop3s server "{HOST}" port {job.port}'
            f' user "{drop.user}" pass "{drop.password}"'
            f' new-only cache "{place}/seen"{" keep" if job.keep else ""}\n'
            f'match all action "store"\n'
        )

    def one(self, place: str) -> list[str]:
        trust = ["env", f"SSL_CERT_FILE={place}/ca.pem"]
        return [*trust, "fdm", "-q", "-f", f"{place}/rc", "fetch"]

    def seen(self, drop: Drop, port: int, ids: Sequence[str]) -> tuple[str, str]:  # noqa: ARG002
        return "seen", "".join(f"{len(each)} {each}\n" for each in ids)


class Fetchmail(Each):
    """
    Has no maildir of its own: a shell script for each message.
    """

    name = program = "fetchmail"
    well = (0, 1, 123)  # 1: no mail; 123: so xargs tells of it
    refuses_root = True

    def text(self, job: Job, drop: Drop, place: Path) -> str:
        script = place / "deliver"
        script.write_text(
            f'#!/bin/sh\nfile=$(mktemp {place}/mail/tmp/XXXXXXXXXX) && cat >"$file" &&'
            f' mv "$file" {place}/mail/new/\n'
        )
        script.chmod(0o755)
        return (
            f'set no bouncemail\nset idfile "{place}/seen"\nset pidfile "{place}/pid"\n'
            f"poll {HOST} proto pop3 service {job.port} uidl\n"
            f'user "{drop.user}" password "{drop.password}" ssl sslproto "auto"\n'
            f'sslcommonname "localhost" sslcertfile "{drop.ca_file}"\n'
            f'{"keep" if job.keep else "no keep"} no rewrite mda "{script}"\n'
        )

    def one(self, place: str) -> list[str]:
        return ["fetchmail", "--invisible", "-s", "-f", f"{place}/rc"]

    def seen(self, drop: Drop, port: int, ids: Sequence[str]) -> tuple[str, str]:  # noqa: ARG002
        return "seen", "".join(f"{drop.user}@{HOST} {each}\n" for each in ids)


class Getmail(Each):
    """
    A process for each delivery.
    """

    name = "getmail6"
    program = "getmail"
    refuses_root = True

    def text(self, job: Job, drop: Drop, place: Path) -> str:
        return (
            f"[retriever]\ntype = SimplePOP3SSLRetriever\nserver = {HOST}\n"
            f"port = {job.port}\nusername = {drop.user}\npassword = {drop.password}\n"
            f"ca_certs = {drop.ca_file}\ntimeout = {GETMAIL_TIMEOUT}\n"
            f"[destination]\ntype = Maildir\npath = {place}/mail/\n"
            f"[options]\nverbose = 0\nread_all = false\ndelivered_to = false\n"
            f"received = false\ndelete = {'false' if job.keep else 'true'}\n"
        )

    def one(self, place: str) -> list[str]:
        return ["getmail", "--getmaildir", place, "--rcfile", f"{place}/rc"]

    def seen(self, drop: Drop, port: int, ids: Sequence[str]) -> tuple[str, str]:
        text = "".join(f"{each}\0{EPOCH}\n" for each in ids)
        return f"oldmail-{HOST}-{port}-{drop.user}", text


class Textbook(Each):
    """
    benchmarks/textbook.py.
    """

    name = "poplib"
    program = sys.executable

    def text(self, job: Job, drop: Drop, place: Path) -> str:
        told = {
            "port": job.port,
            "user": drop.user,
            "password": drop.password,
            "ca": str(drop.ca_file),
            "keep": job.keep,
            "maildir": str(job.maildir(drop)),
            "state": f"{place}/seen",
        }
        return json.dumps(told)

    def one(self, place: str) -> list[str]:
        return [self.program, "-m", "benchmarks.textbook", f"{place}/rc"]


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Popfetchd(),
        Mpop(),
        Floor(),
        Textbook(),
        Fdm(),
        Fetchmail(),
        Getmail(),
    )
}


def missing(peer: Peer) -> bool:
    """
    Tell whether *peer* is not installed here.
    """
    return shutil.which(peer.program) is None
