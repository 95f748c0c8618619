"""
A first configuration: its text, and how it comes to be a file.

Rules of this file:

- No file is ever overwritten: the names are given by link(2), which refuses a taken one.
  What is not whole and durable has no name that anybody reads.
- The text is loaded as any configuration is, where it will stand, before it gets its
  name; so whatever was answered, what is written works, or nothing is.
- Each value is quoted by the YAML library; a comment holds nothing that was answered.
- Whatever fails or interrupts it, neither the file nor the password stays behind.
"""

from __future__ import annotations

import os
import signal

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from popfetchd.config import load, scalars
from popfetchd.config.providers import Provider
from popfetchd.errors import ConfigurationError, NotWritten
from popfetchd.values import ArchiveFormat, Secret, TlsMode


FILE_MODE = 0o600

USUAL_PAUSE = 300.0
"""Seconds between two visits: what mail programs have, and no server minds."""

JITTER = 30.0
"""Seconds that a visit may be late by, which a floor between logins does not forgive."""

MODES = "implicit: from the first octet; stls: after STLS; none: never, in clear"

SCHEMA = Path(__file__).with_name("popfetchd.schema.json")
"""For editors; docs/generate makes it from the models."""

TEXT = """\
# yaml-language-server: $schema={schema}
#
# Written by `popfetchd init`. popfetchd.yaml(5) has every key; `popfetchd config check -c`
# with the name of this file tells whether it is right.

# The ledger, a page for a browser and all else are where they usually are:
# ledger: /var/lib/popfetchd/ledger.db # default: below $STATE_DIRECTORY or ~/.local/state
# http: {{listen: "127.0.0.1:10995"}}

accounts:
  - name: {name} # unique; stands in paths and metrics
{server}
    user: {user}
    password_file: {password_file} # read at each visit; nobody else may read it
    every: {every} # from one visit to the next
    delete_after: never # from the server; or verified, or a time after archiving: 30d
    archive:
      format: {format} # maildir: a file for each message; mbox: one file of all
      path: {path} # may hold {{account}}, {{user}}, {{host}}, {{year}}, {{month}}, {{day}}
"""


@dataclass(frozen=True, slots=True)
class First:
    """
    What a first configuration says. *provider* or *host* is there, perhaps both.

    *password_file*: absolute, or beside the configuration. *tls*: None with a provider's.
    """

    name: str
    user: str
    provider: Provider | None
    host: str | None
    port: int | None
    tls: TlsMode | None
    password_file: str
    format: ArchiveFormat
    path: str


def text(first: First) -> str:
    """
    Return the commented text of a configuration with this one account.
    """
    return TEXT.format(
        schema=SCHEMA.as_uri(),
        name=quoted(first.name),
        server="\n".join(f"    {line}" for line in _server(first)),
        user=quoted(first.user),
        password_file=quoted(first.password_file),
        every=scalars.spelled_duration(_pause(first.provider)),
        format=first.format,
        path=quoted(first.path),
    )


def _server(first: First) -> Iterator[str]:
    if first.provider is not None:
        yield f"provider: {first.provider.name} # its server, and its habits"
    if first.host is not None:
        yield f"host: {quoted(first.host)}"
    if first.port is not None:
        yield f"port: {first.port}"
    if first.tls is not None:
        yield f"tls: {first.tls} # {MODES}"


def _pause(provider: Provider | None) -> float:
    floor = provider.keys.get("login_floor") if provider else None
    return max(USUAL_PAUSE, scalars.duration(floor) + JITTER if floor else 0.0)


def quoted(value: str) -> str:
    """
    Return *value*, printable and on one line, as YAML that reads as it, on one line.
    """
    dumped: str = yaml.safe_dump(value, allow_unicode=True, width=float("inf"))
    return dumped.removesuffix("...\n").rstrip("\n")  # "...": the end of a document


# -- on the disk ----------------------------------------------------------------------


def refuse_taken(path: Path) -> None:
    """
    NotWritten if there is something at *path* already, or no folder to hold it.
    """
    if os.path.lexists(path):
        raise _taken(path)
    if not path.parent.is_dir():
        raise NotWritten(str(path), "its folder does not exist", "make it with `mkdir`")


def put(
    path: Path, first: First, password: Secret | None, environ: Mapping[str, str]
) -> None:
    """
    Write the configuration to *path*, durably, all of it or nothing.

    *password*, if there is one, goes into its own file beside it. Raises NotWritten.
    """
    with (
        _told(path),
        _uninterrupted(),
        ExitStack() as temporaries,
        ExitStack() as names,
    ):
        made = _made(temporaries, path, text(first))
        _load(path, made, environ)
        if password is not None:
            secret = path.parent / first.password_file
            kept = _made(temporaries, secret, f"{password.reveal()}\n")
            _name(names, kept, secret)
        _name(names, made, path)
        _sync_folder(path.parent)
        names.pop_all()


def _made(temporaries: ExitStack, path: Path, content: str) -> Path:
    # Private from its first octet, and durable before it has its name.
    made = path.with_name(f".{path.name}.{os.getpid()}.making")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(made, flags, FILE_MODE), "w", encoding="utf-8") as file:
        temporaries.callback(made.unlink)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return made


def _name(names: ExitStack, made: Path, path: Path) -> None:
    os.link(made, path)
    names.callback(path.unlink)


def _load(path: Path, made: Path, environ: Mapping[str, str]) -> None:
    try:
        load.load(made, environ)
    except ConfigurationError as error:
        problem = "; ".join(mistake.text for mistake in error.mistakes)
        advice = "nothing was written; answer otherwise, or write the file by hand"
        raise NotWritten(str(path), f"would not work: {problem}", advice) from None


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _taken(path: object) -> NotWritten:
    advice = (
        "nothing was written; edit that file, or name another one with -c or --name"
    )
    return NotWritten(str(path), "is there already", advice)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise _taken(error.filename2 or error.filename) from None
    except OSError as error:
        problem = f"cannot be written: {error.strerror}"
        advice = "nothing was written; name another place with -c"
        raise NotWritten(str(path), problem, advice) from error


@contextmanager
def _uninterrupted() -> Iterator[None]:
    # For milliseconds: between a name given and its being noted Ctrl-C could leave it.
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
