"""
A real Dovecot on free loopback ports, started and stopped by the tests.

Rules of this file:

- Everything lives in one temporary folder; nothing of the system's own Dovecot is
  read or touched. The main process runs in the foreground and is ended by its pid.
- It listens on four addresses of loopback, each with a certificate of its own: right,
  expired, for another name, and by an authority that nobody trusts.
- Mail is written straight into maildirs, octet by octet as given.
- Every wait is bounded.
"""

from __future__ import annotations

import datetime as dt
import imaplib
import itertools
import os
import pwd
import random
import shutil
import socket
import ssl
import subprocess
import tempfile
import time

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme


BINARY = Path("/usr/sbin/dovecot")
"""Where Debian's package puts it."""

HOST = "127.0.0.1"
EXPIRED = "127.0.0.2"
WRONG_NAME = "127.0.0.3"
UNKNOWN_CA = "127.0.0.4"
HOSTS = (HOST, EXPIRED, WRONG_NAME, UNKNOWN_CA)

MAIL_USER = "mail"
"""Who owns the maildirs: any user but root, whom Dovecot refuses."""

PATIENCE = 20.0
"""Seconds that Dovecot may take to start, or to stop."""

CONFIGURATION = """
base_dir = {root}/run
state_dir = {root}/state
log_path = {root}/log
listen = {listen}
protocols = pop3 imap
verbose_proctitle = no
shutdown_clients = yes

ssl = yes
ssl_min_protocol = TLSv1.2
ssl_cert = <{root}/right.pem
ssl_key = <{root}/right.key
local {expired} {{
  ssl_cert = <{root}/expired.pem
  ssl_key = <{root}/expired.key
}}
local {wrong_name} {{
  ssl_cert = <{root}/wrong_name.pem
  ssl_key = <{root}/wrong_name.key
}}
local {unknown_ca} {{
  ssl_cert = <{root}/unknown_ca.pem
  ssl_key = <{root}/unknown_ca.key
}}

disable_plaintext_auth = no
auth_mechanisms = plain login apop cram-md5
auth_failure_delay = 0
mail_max_userip_connections = 1000
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {root}/users/%u
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {root}/users/%u
}}
mail_location = maildir:~/Maildir
first_valid_uid = 1
mail_fsync = never
maildir_very_dirty_syncs = no

service pop3-login {{
  service_count = 0
  client_limit = 1000
  process_min_avail = 1
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = {pop3s}
    ssl = yes
  }}
}}
service imap-login {{
  service_count = 0
  client_limit = 1000
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service pop3 {{
  process_limit = 1000
}}
service anvil {{
  client_limit = 4000
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  client_limit = 4000
}}
service stats {{
  client_limit = 4000
}}
"""
"""The whole configuration. A credential in clear is taken, so that a leak would work."""


def missing() -> str:
    """
    Tell why Dovecot cannot be started here, in one line; empty if it can.
    """
    if not BINARY.exists():
        return (
            f"no Dovecot here ({BINARY}): apt-get install dovecot-pop3d dovecot-imapd"
        )
    if os.geteuid() != 0:
        return "only root can start Dovecot, and this is not root"
    return ""


@dataclass(frozen=True, slots=True)
class Ports:
    """
    Where Dovecot listens, on each of `HOSTS`. *pop3* is in clear, with STLS.
    """

    pop3: int
    pop3s: int
    imaps: int


@dataclass(frozen=True, slots=True)
class User:
    """
    One maildrop of Dovecot's, and the maildir behind it.
    """

    name: str
    password: str
    maildir: Path

    def deliver(self, messages: Iterable[bytes]) -> None:
        """
        Put *messages* into new/ as they are, in this order.
        """
        account = pwd.getpwnam(MAIL_USER)
        for message in messages:
            name = f"{time.time_ns()}.M{next(_deliveries)}.tests"
            path = self.maildir / "tmp" / name
            path.write_bytes(message)
            os.chown(path, account.pw_uid, account.pw_gid)
            path.rename(self.maildir / "new" / name)

    def files(self) -> list[Path]:
        """
        Return the messages' files, in the order of their delivery.
        """
        found = [*(self.maildir / "new").iterdir(), *(self.maildir / "cur").iterdir()]
        return sorted(found, key=lambda path: path.name)

    def count(self) -> int:
        """
        Return how many messages there are.
        """
        return len(self.files())

    def contents(self) -> list[bytes]:
        """
        Return every message's octets as stored, in the order of delivery.
        """
        return [path.read_bytes() for path in self.files()]


_deliveries = itertools.count()


class Dovecot:
    """
    One instance. *settings* are further lines for its configuration.
    """

    host = HOST

    def __init__(self, settings: str = "") -> None:
        self.root = Path(tempfile.mkdtemp(prefix="dovecot-"))
        self.ca_file = self.root / "ca.pem"
        self.ports = Ports(*free_ports(3))
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._users = itertools.count(1)

    def start(self) -> None:
        """
        Start it, and return when its ports answer.
        """
        self.root.chmod(0o755)  # Dovecot's unprivileged processes pass through it
        self._write_certificates()
        self._write_configuration()
        (self.root / "users").mkdir()
        command = [BINARY, "-F", "-c", self.root / "dovecot.conf"]
        with (self.root / "errors").open("wb") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stderr=errors
            )
        self._await_ports()

    def stop(self) -> None:
        """
        End it with all its processes, and remove its folder.
        """
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(PATIENCE)
            self._process = None
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def log(self) -> str:
        """
        What Dovecot has logged until now.
        """
        files = [self.root / "errors", self.root / "log"]
        return "".join(f.read_text("utf-8", "replace") for f in files if f.exists())

    def add_user(
        self,
        name: str | None = None,
        password: str = "right horse",
        *,
        maildir: Path | None = None,
        lock_session: bool = False,
    ) -> User:
        """
        Add a user whose maildrop is empty, or a copy of *maildir*; return the maildrop.

        With *lock_session*, a second session is refused with [IN-USE], after Dovecot has
        waited ten seconds for the first to end.
        """
        name = name or f"user{next(self._users)}"
        user = User(name, password, self.root / "homes" / name / "Maildir")
        if maildir is not None:
            shutil.copytree(maildir, user.maildir)
        for folder in ("tmp", "new", "cur"):
            (user.maildir / folder).mkdir(parents=True, exist_ok=True)
        give_away(user.maildir.parent)
        self._enrol(user, "userdb_pop3_lock_session=yes" if lock_session else "")
        return user

    def imap_count(self, user: User) -> int:
        """
        Return how many messages Dovecot itself counts.
        """
        context = ssl.create_default_context(cafile=self.ca_file)
        port = self.ports.imaps
        with imaplib.IMAP4_SSL(HOST, port, ssl_context=context, timeout=10) as imap:
            imap.login(user.name, user.password)
            _, found = imap.select(readonly=True)
        return int(found[0] or b"0")

    def _enrol(self, user: User, extra: str) -> None:
        account = pwd.getpwnam(MAIL_USER)
        ids = f"{account.pw_uid}:{account.pw_gid}"
        line = f"{user.name}:{user.password}:{ids}::{user.maildir.parent}::{extra}\n"
        # A file for each: Dovecot rereads one that changes only at the next second.
        (self.root / "users" / user.name).write_text(line, encoding="utf-8")

    def _write_certificates(self) -> None:
        trusted, unknown = trustme.CA(), trustme.CA()
        trusted.cert_pem.write_to_path(self.ca_file)
        past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        certificates = {
            # A common name is what elderly clients look for (benchmarks).
            "right": trusted.issue_cert(HOST, "localhost", common_name="localhost"),
            "expired": trusted.issue_cert(EXPIRED, "localhost", not_after=past),
            "wrong_name": trusted.issue_cert("other.example"),
            "unknown_ca": unknown.issue_cert(UNKNOWN_CA, "localhost"),
        }
        for name, certificate in certificates.items():
            chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
            (self.root / f"{name}.pem").write_bytes(chain)
            certificate.private_key_pem.write_to_path(self.root / f"{name}.key")

    def _write_configuration(self) -> None:
        text = CONFIGURATION.format(
            root=self.root,
            listen=", ".join(HOSTS),
            expired=EXPIRED,
            wrong_name=WRONG_NAME,
            unknown_ca=UNKNOWN_CA,
            pop3=self.ports.pop3,
            pop3s=self.ports.pop3s,
            imaps=self.ports.imaps,
        )
        path = self.root / "dovecot.conf"
        path.write_text(text + self._settings, encoding="utf-8")

    def _await_ports(self) -> None:
        end = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"Dovecot ended at once:\n{self.log}")
            if time.monotonic() > end:
                raise RuntimeError(f"Dovecot does not answer:\n{self.log}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.ports.pop3), 1) as connection:
                return connection.recv(3) == b"+OK"
        except OSError:
            return False


@contextmanager
def running(settings: str = "") -> Iterator[Dovecot]:
    """
    Start a Dovecot, lend it, and stop it.
    """
    dovecot = Dovecot(settings)
    try:
        dovecot.start()
        yield dovecot
    finally:
        dovecot.stop()


def free_ports(count: int) -> list[int]:
    """
    Return ports that were free on all of `HOSTS` a moment ago.
    """
    # Below Linux's ephemeral ports, lest a client is given one of them meanwhile; and
    # by the system's chance, as pytest-randomly gives every worker the same seed.
    chosen = random.SystemRandom().sample(range(10_000, 32_000), 50 * count)
    return list(itertools.islice(filter(is_free, chosen), count))


def is_free(port: int) -> bool:
    """
    Tell whether nobody listens on *port* on any of `HOSTS`.
    """
    try:
        for host in HOSTS:
            socket.create_server((host, port)).close()
    except OSError:
        return False
    return True


def give_away(folder: Path) -> None:
    """
    Make `MAIL_USER` the owner of *folder* and all that is in it.
    """
    account = pwd.getpwnam(MAIL_USER)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid)
