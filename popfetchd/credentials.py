"""
Where a secret comes from: read at the visit, so that a rotated one needs no reload.

Rules of this file:

- A secret is one line of UTF-8 text, not empty. One line end after it is dropped; any
  other CR or LF, and NUL, is refused: it would end the command that carries it (P4).
- A `password_file` that everyone may read is refused; owner and group may read it.
  Credentials are not asked: systemd guards its own, and a container's /run/secrets,
  which often are 0444, have nobody else in the container to read them.
- A command is an argv and goes to no shell. It gets no input, no terminal, a time limit
  and a bounded output; its first line counts. One that overruns is killed with its whole
  process group. What it says on standard error is dropped, as it may hold the secret.
- An access token is printable ASCII without blanks, quotation marks and braces: a program
  that printed JSON, or an excuse, gave none.
- Nothing of a secret is ever in an error: only where it was sought and what failed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import stat

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from popfetchd.errors import SecretUnavailable, quote
from popfetchd.values import (
    AccessToken,
    InlineSecret,
    NoSecret,
    PasswordSource,
    Secret,
    SecretCommand,
    SecretCredential,
    SecretFile,
    SecretSource,
    SecretVariable,
    TokenSource,
)


if TYPE_CHECKING:
    import subprocess


LONGEST_SECRET = 64 * 2**10
"""Octets; the longest tokens in use take a few thousand."""

COMMAND_TIMEOUT = 30.0
"""Seconds; a password manager that unlocks itself over the network needs some."""

RUN_SECRETS = Path("/run/secrets")
"""Where Docker, Podman and Compose put the secrets of a container."""


def read(
    source: SecretSource,
    *,
    environ: Mapping[str, str],
    timeout: float = COMMAND_TIMEOUT,
    run_secrets: Path = RUN_SECRETS,
) -> Secret:
    """
    Return the secret from *source*, which is asked anew at each call.

    *environ* is searched for variables and handed to commands, *timeout* is a command's
    time in seconds. Raises SecretUnavailable.
    """

    def found(place: PasswordSource) -> Secret:
        return _read(place, environ, timeout, run_secrets)

    match source:
        case TokenSource(place):
            return _token(place, found(place))
        case NoSecret():
            return Secret("")
        case _:
            return found(source)


def _read(
    source: PasswordSource,
    environ: Mapping[str, str],
    timeout: float,
    run_secrets: Path,
) -> Secret:
    match source:
        case InlineSecret():
            return source.secret
        case SecretFile():
            return _from_file(_origin(source), source.path)
        case SecretVariable():
            return _from_variable(_origin(source), source.name, environ)
        case SecretCommand():
            return _from_command(_origin(source), source.argv, environ, timeout)
        case SecretCredential():
            return _from_credential(_origin(source), source.name, environ, run_secrets)
        case _:
            assert_never(source)


def _origin(source: PasswordSource) -> str:
    """
    Name *source* for people.
    """
    match source:
        case InlineSecret():
            return "the configuration"
        case SecretFile():
            return f"the file {quote(str(source.path))}"
        case SecretVariable():
            return f"the variable {quote(source.name)}"
        case SecretCommand():
            # Its arguments may hold secrets.
            return f"the command {quote(source.argv[0])}"
        case SecretCredential():
            return f"the credential {quote(source.name)}"
        case _:
            assert_never(source)


def _token(source: PasswordSource, found: Secret) -> AccessToken:
    """
    Return what was *found* as an access token (RFC 6749 appendix A.12: VSCHAR; RFC 6750
    §2.1 allows less, and some servers give more).
    """
    text = found.reveal()
    if not re.fullmatch("[!#-z|~]+", text):
        problem = "it is no access token, which has neither blanks nor quotation marks"
        raise SecretUnavailable(_origin(source), problem)
    return AccessToken(text)


def _secret(origin: str, octets: bytes) -> Secret:
    """
    Return *octets*, whose line end has been dropped, as a secret.
    """
    if not octets:
        raise SecretUnavailable(origin, "it is empty")
    if any(octet in octets for octet in b"\r\n\0"):
        raise SecretUnavailable(origin, "it holds a line end or a NUL")
    try:
        return Secret(octets.decode())
    except UnicodeDecodeError:
        # `from None`: the error that was holds the octets.
        raise SecretUnavailable(origin, "it is not UTF-8") from None


def _first_line(octets: bytes) -> bytes:
    return octets.partition(b"\n")[0].removesuffix(b"\r")


# -- files ----------------------------------------------------------------------------


def _from_file(origin: str, path: Path, *, guarded: bool = True) -> Secret:
    try:
        octets = _content(origin, path, guarded=guarded)
    except OSError as error:
        raise SecretUnavailable(origin, error.strerror or "unreadable") from error
    line = _first_line(octets)
    rest = octets[len(line) :]
    return _secret(origin, line if rest in {b"\n", b"\r\n"} else octets)


def _content(origin: str, path: Path, *, guarded: bool) -> bytes:
    # O_NONBLOCK: a FIFO must not hold us up before we can see that it is one.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _judge(origin, os.fstat(descriptor).st_mode, guarded=guarded)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            octets = file.read(LONGEST_SECRET + 1)
    finally:
        os.close(descriptor)
    if len(octets) > LONGEST_SECRET:
        raise SecretUnavailable(origin, f"it is longer than {LONGEST_SECRET} octets")
    return octets


def _judge(origin: str, mode: int, *, guarded: bool) -> None:
    if not stat.S_ISREG(mode):
        raise SecretUnavailable(origin, "it is not a file")
    if guarded and mode & stat.S_IRWXO:
        raise SecretUnavailable(
            origin,
            f"everyone may read or write it (mode {stat.S_IMODE(mode):04o}); "
            "take that away with `chmod o-rwx`",
        )


def _from_credential(
    origin: str, name: str, environ: Mapping[str, str], run_secrets: Path
) -> Secret:
    if not name or "/" in name or name.startswith("."):
        raise SecretUnavailable(origin, "its name would lead elsewhere")
    # systemd.exec(5): set only where the unit loads credentials.
    folder = Path(environ.get("CREDENTIALS_DIRECTORY") or run_secrets)
    return _from_file(origin, folder / name, guarded=False)


# -- the environment ------------------------------------------------------------------


def _from_variable(origin: str, name: str, environ: Mapping[str, str]) -> Secret:
    value = environ.get(name)
    if value is None:
        raise SecretUnavailable(origin, "it is not set")
    return _secret(origin, os.fsencode(value))


# -- commands -------------------------------------------------------------------------


def _from_command(
    origin: str, argv: tuple[str, ...], environ: Mapping[str, str], timeout: float
) -> Secret:
    import subprocess  # noqa: PLC0415 -- most secrets are in files

    try:
        status, output = _run(argv, environ, timeout)
    except subprocess.TimeoutExpired:
        problem = f"it did not end within {timeout:g} s and was killed"
        raise SecretUnavailable(origin, problem) from None
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "it cannot be started"
        raise SecretUnavailable(origin, problem) from None
    if status:
        raise SecretUnavailable(origin, _ending(status))
    return _secret(origin, _first_line(output))


def _ending(status: int) -> str:
    if status < 0:
        return f"it was killed by signal {-status}"
    return f"it ended with status {status}"


def _run(
    argv: tuple[str, ...], environ: Mapping[str, str], timeout: float
) -> tuple[int, bytes]:
    """
    Run *argv*; return its exit status and what it wrote to standard output.

    Raises OSError, ValueError (NUL in an argument) and subprocess.TimeoutExpired.
    """
    import subprocess  # noqa: PLC0415 -- most secrets are in files

    with _bounded_memory() as memory:
        process = subprocess.Popen(  # noqa: S603 -- the operator's own command, no shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=memory,
            stderr=subprocess.DEVNULL,
            env=environ,
            start_new_session=True,
        )
        with _killed_unless_ended(process):
            status = process.wait(timeout)
        written = os.lseek(memory, 0, os.SEEK_CUR)
        return status, os.pread(memory, written, 0)


@contextlib.contextmanager
def _bounded_memory() -> Iterator[int]:
    """
    Yield a descriptor of a file in memory that takes LONGEST_SECRET octets and no more.

    Not a pipe: a process that a command leaves behind (gpg-agent) would hold it open.
    """
    memory = os.memfd_create("secret", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(memory, LONGEST_SECRET)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
        yield memory
    finally:
        os.close(memory)


@contextlib.contextmanager
def _killed_unless_ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
