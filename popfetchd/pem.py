"""
Certificates and keys that an operator names in the configuration (PEM, RFC 7468).

Rules of this file:

- A private key that everyone may read is not used, as no password is; nor is one that
  is encrypted: OpenSSL would ask for its password on the terminal.
- What is wrong is told with the file and the key of the configuration that names it.
"""

from __future__ import annotations

import ssl
import stat

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from popfetchd.errors import ConfigurationError, Mistake
from popfetchd.problems import problem


def load(
    context: ssl.SSLContext, cert: Path, key: Path | None, names: tuple[str, str]
) -> None:
    """
    Let *context* show *cert*; its private key stands in *key*, or beside it.

    *names*: what the configuration calls the two. Raises ConfigurationError when one
    cannot be read, or is no good.
    """
    with used_as(names[0], cert):  # alone first: then what fails is the key
        judge(cert)
        ssl.SSLContext(context.protocol).load_verify_locations(cert)
    with used_as(names[1], key or cert):
        judge(key or cert, guarded=True)
        context.load_cert_chain(cert, key, password=no_password)


def judge(path: Path, *, guarded: bool = False) -> None:
    """
    Raise ValueError unless *path* is a file; OSError when that cannot be told.

    *guarded*: it is one that nobody but its owner and group may read or write, too.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):  # OpenSSL would wait for who writes to a pipe
        raise ValueError("it is not a file")
    if guarded and mode & stat.S_IRWXO:
        raise ValueError(
            f"everyone may read or write it (mode {stat.S_IMODE(mode):04o}); "
            "take that away with `chmod o-rwx`"
        )


def no_password() -> str:
    """
    Raise ValueError: asked for a key's password, there is none.
    """
    raise ValueError("it is encrypted; write it without a password, mode 0600")


@contextmanager
def used_as(name: str, path: Path | None) -> Iterator[None]:
    """
    Name *path*, and what the configuration calls it, in what fails in this block.

    Raises ConfigurationError.
    """
    try:
        yield
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        text = f"cannot be used as {name}: {problem(error)}"
        raise ConfigurationError([Mistake(str(path), 0, 0, text)]) from error
