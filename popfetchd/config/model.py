"""
Every key of a configuration, and what it means.

Rules of this file:

- `Settings` are the keys that `defaults` and an account share; their defaults here are
  popfetchd's own. `load` puts an operator's defaults beneath each account before it is
  read, so that an `Account` is complete.
- What a key may hold is a kind (`kinds`); what keys must be to one another, a rule
  (`rules`). pydantic's own sentences are never shown (`mistakes`).
- The string below a key is its description in the JSON schema; it stays in the source.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from popfetchd.config import kinds
from popfetchd.values import Mechanism, TlsMode, TlsVersion


NOT_YET = {
    "oauth2": "comes with a later release; use access_token_command",
    "access_token": "lasts an hour; write access_token_command or access_token_file",
    "access_token_keyring": "keyrings come with a later release; use access_token_command",
    "password_keyring": "keyrings come with a later release; use password_command",
}
"""Keys of an account that the design has and this release has not."""


class Strict(BaseModel):
    """
    Unknown keys are refused, values cannot be altered, and errors repeat no input.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        defer_build=True,
    )


class Archive(Strict):
    """
    Where messages are kept, and how.
    """

    format: kinds.Format
    """A file for each message, or one file of all (mboxrd)."""
    path: kinds.DatedTemplate
    """Absolute; {account}, {user} and {host} are put in, and of each message's arrival
    {year}, {month} and {day} (UTC). Of a maildir a folder, of an mbox a file."""
    mode: kinds.Mode = 0o600
    """Of the files that are made; folders get x where files get r."""
    group: kinds.ArchiveGroup | None = None
    """Of the files and folders that are made; popfetchd must be one of its members."""


class Settings(Strict):
    """
    What `defaults` may set for every account, and each account for itself.
    """

    provider: kinds.Provider | None = None
    """A mail provider: its host, port, TLS and habits stand beneath what is written."""
    port: kinds.Port | None = None
    """995 with `tls: implicit`, 110 otherwise."""
    tls: kinds.Tls = TlsMode.IMPLICIT
    """implicit: from the first octet; stls: after STLS; none: never, in clear."""
    ca_file: kinds.AbsolutePath | None = None
    """A private authority (PEM) to trust instead of the system's."""
    client_cert: kinds.AbsolutePath | None = None
    """A certificate (PEM) to show to a server that asks for one."""
    client_key: kinds.AbsolutePath | None = None
    """Its key (PEM, not encrypted), unless it stands in `client_cert`."""
    fingerprint_sha256: kinds.Fingerprints = ()
    """Of the server's certificate, one or a list: it is taken as known then, whoever
    has signed it, for whichever names and until whenever; and no other is."""
    server_name: kinds.Host | None = None
    """The name in the certificate, where `host` is an address or a tunnel."""
    min_tls: kinds.MinTls = TlsVersion.TLS_1_2
    """The least version of TLS that is spoken."""
    source_address: kinds.Address | None = None
    """The address of this machine to connect from."""
    proxy: kinds.Socks = None
    """socks5://[user:password@]host:port, which also resolves the server's name; needs
    popfetchd[socks]. none: none, also where the defaults have one."""
    auth: kinds.Auth = Mechanism.AUTO
    """How to log in; auto takes the strongest that the server offers on this channel."""
    password: kinds.Password | None = None
    """Written in the file itself, which then nobody else may read; better not."""
    password_file: kinds.Template | None = None
    """The content of a file, without one final line end; read at each visit."""
    password_env: kinds.Variable | None = None
    """The value of an environment variable."""
    password_command: kinds.Command | None = None
    """The first line that a program prints; a list of words, no shell."""
    password_credential: kinds.Credential | None = None
    """A systemd credential, else a file below /run/secrets."""
    access_token_file: kinds.Template | None = None
    """For OAuth 2.0: a file that another program keeps an access token in."""
    access_token_env: kinds.Variable | None = None
    """An access token in an environment variable."""
    access_token_command: kinds.Command | None = None
    """A program that prints an access token; asked at each visit."""
    access_token_credential: kinds.Credential | None = None
    """An access token in a systemd credential, else in a file below /run/secrets."""
    utf8: kinds.Switch = True
    """Ask for messages as they are (RFC 6856), where the server announces UTF8."""
    every: kinds.Interval | None = None
    """From one visit to the next; each account at its own phase."""
    jitter: kinds.Delay = 30.0
    """Each visit is up to this much late; never more than `every`."""
    cron: kinds.CronLine | None = None
    """When to visit, as in crontab(5); instead of `every`."""
    timezone: kinds.Timezone = "UTC"
    """In which `cron` is read."""
    delete_after: kinds.DeleteAfter = None
    """When a message may leave the server: never, verified, a time after archiving, or
    {age: …}, a time after its arrival."""
    trust_archive: kinds.Switch = False
    """Remove a message also where its copy, archived by an earlier visit, is gone."""
    min_free: kinds.Room = 100_000_000
    """Nothing is fetched that would leave less than this free where the archive is."""
    verify_every: kinds.Interval | None = None
    """How often the archive is read against the ledger; not at all where it is not said."""
    max_message_size: kinds.Size | None = None
    """Larger messages stay on the server and are reported."""
    login_floor: kinds.Delay | None = None
    """Least time between two logins; a longer one that the server asks for goes before."""
    hides_retrieved: kinds.Switch | None = None
    """The server hides what was retrieved once a session ends with QUIT."""
    lists_partly: kinds.Switch | None = None
    """The server lists a part of the maildrop: what is not listed may still be there."""
    recent: kinds.Switch | None = None
    """With `provider: gmail`: the last 30 days, whatever was fetched before."""
    timeout: kinds.Limit = 60.0
    """For each step of a visit."""
    deadline: kinds.Limit = 1800.0
    """For a whole visit."""


class Defaults(Settings):
    """
    What holds for each account that does not say otherwise.
    """

    host: kinds.Host | None = None
    """The server."""
    archive: Archive | None = None
    """Where messages are kept."""


def _as_written(schema: dict[str, Any]) -> None:
    """
    Require what an account itself must hold: the rest may stand in `defaults`.
    """
    schema["required"] = ["name", "user"]


class Account(Settings):
    """
    One maildrop: where it is, who logs in, and what is to become of its messages.
    """

    model_config = ConfigDict(json_schema_extra=_as_written)

    name: kinds.Name
    """Unique; used in paths and metrics."""
    host: kinds.Host
    """The server."""
    user: kinds.Line
    """Who logs in; with many providers the whole address."""
    archive: Archive
    """Where messages are kept."""


class HttpTls(Strict):
    """
    With which certificate the pages are served; read again at each reload.
    """

    cert_file: kinds.AbsolutePath
    """The certificate (PEM), and the authorities between."""
    key_file: kinds.AbsolutePath | None = None
    """Its key (PEM, not encrypted), unless it stands in `cert_file`."""


class Http(Strict):
    """
    What is served over HTTP: /metrics, /healthz, /readyz and a status page.
    """

    listen: kinds.Listen = "127.0.0.1:10995"
    """address:port"""
    tls: HttpTls | None = None
    """With it, everything is served over TLS, and nothing in clear."""
    basic_auth_users: kinds.Users | None = None
    """Who may see the pages: names, and bcrypt hashes of their passwords, as in
    Prometheus' web configuration; needs popfetchd[basic-auth]. /healthz and /readyz stay
    open."""


class Log(Strict):
    """
    What is logged, to standard error.
    """

    level: kinds.LogLevel = kinds.Level.INFO
    """The least severe event that is written. Where it is not set, only the service writes
    info; of `fetch` and other verbs that show what they did, warnings and worse."""
    format: kinds.LogFormat = kinds.Rendering.AUTO
    """auto: console on a terminal, JSON otherwise."""

    @property
    def of_a_verb(self) -> kinds.Level:
        """
        The level of a verb, whose output tells what would be info.
        """
        return self.level if "level" in self.model_fields_set else kinds.Level.WARNING


class Metrics(Strict):
    """
    What Prometheus sees.
    """

    per_account: kinds.MetricsPerAccount = kinds.PerAccount.AUTO
    """auto: of every account up to 2,000, beyond that of those that fail."""


class Limits(Strict):
    """
    How much is done at once.
    """

    sessions: kinds.Bound = 64
    """POP3 sessions."""
    sessions_per_host: kinds.Bound = 4
    """POP3 sessions with one host, which its `server_name` tells if it has one."""


class Configuration(Strict):
    """
    A whole configuration, files that it includes among it.
    """

    ledger: kinds.AbsolutePath
    """Where the record of what is archived stands; SQLite."""
    http: Http = Http()
    log: Log = Log()
    metrics: Metrics = Metrics()
    limits: Limits = Limits()
    include: Annotated[kinds.Patterns, Field(exclude=True)] = ()
    """Files with further accounts, relative to this one; a bad one holds back its own."""
    accounts_dir: Annotated[kinds.Line | None, Field(exclude=True)] = None
    """A folder whose *.yaml and *.yml files hold further accounts."""
    defaults: Defaults = Field(default_factory=Defaults, exclude=True)
    """What holds for each account that does not say otherwise."""
    accounts: tuple[Account, ...] = ()
    """The maildrops, each with a name."""
