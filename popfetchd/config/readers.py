"""
From what was written to what is meant: one function for each kind of value.

Rules of this file:

- A scalar is read as its key needs it, quoted or not: `port: "995"` is a number and
  `user: 0123` a text. Nothing is guessed from how a scalar looks.
- Each refuses by a ValueError that says what is allowed. It repeats no secret, and nothing
  that is easily written in a secret's place.
"""

from __future__ import annotations

import grp
import ipaddress
import re

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote

from popfetchd.config import scalars, templates
from popfetchd.errors import quote
from popfetchd.values import Group, Proxy, Secret, Since


Reader = Callable[[str], object]
"""Takes the text that was written; raises ValueError."""

NAME = "^[a-z0-9][a-z0-9._-]{0,63}$"
"""An account's name: a path component, a metric label and a word of the shell."""

VARIABLE = "^[A-Za-z_][A-Za-z0-9_]*$"
"""POSIX: what an environment variable may be called."""

LONGEST_NAME = 253
"""Characters of a host name (RFC 1035 §2.3.4, less what the wire form adds)."""

UNFIT_IN_HOST = r"[\s!-,/:-@\[-^`{-~\u00ab\u00bb\u2018-\u201f]"
"""ASCII that no host name has, and the quotation marks of word processors."""

HIGHEST_PORT = 65535


def written(value: object) -> str:
    """
    Return the text of a scalar, and of nothing else.
    """
    if not isinstance(value, str):
        kind = "a list" if isinstance(value, list) else "a mapping"
        raise ValueError(f"must be a single value, not {kind}")  # noqa: TRY004
    if getattr(value, "null", False):
        raise ValueError("has no value; leave the key out, or put the word in quotes")
    return str(value)


def word(choices: type[StrEnum]) -> Reader:
    """
    Return a reader of *choices*.
    """
    allowed = ", ".join(choices)

    def read(text: str) -> StrEnum:
        if text not in list(choices):
            raise ValueError(f"{quote(text)} is not allowed; allowed are {allowed}")
        return choices(text)

    return read


def line(text: str) -> str:
    """
    Read one line of printable characters.
    """
    if not text:
        raise ValueError("is empty")
    if not text.isprintable():
        raise ValueError("holds a line end or another control character")
    return text


def name(text: str) -> str:
    """
    Read an account's name.
    """
    if not re.fullmatch(NAME, text):
        raise ValueError(
            f"{quote(text)} is no name; allowed are a-z, 0-9, `.`, `_` and `-`, "
            "at most 64, the first a letter or digit"
        )
    return text


def host(text: str) -> str:
    """
    Read a host name, also an international one, or an address without brackets.
    """
    try:
        ipaddress.ip_address(text)
    except ValueError:
        _host_name(text)
    return text


def _host_name(text: str) -> None:
    # Not repeated: `host: user:password@…` is a mistake that people make.
    if not line(text) or re.search(UNFIT_IN_HOST, text):
        raise ValueError(
            "must be a host name or an address alone; the port stands under `port`"
        )
    try:
        fits = len(text.encode("idna")) <= LONGEST_NAME
    except UnicodeError:
        fits = False
    if not fits:
        raise ValueError("is no host name: a part of it is empty or too long")


def address(text: str) -> str:
    """
    Read an IPv4 or IPv6 address.
    """
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(
            "must be an address, such as 192.0.2.7 or 2001:db8::7; no name, no interface"
        ) from None
    return text


def proxy(text: str) -> Proxy | None:
    """
    Read the address of a SOCKS 5 proxy, and perhaps a user and a password there.
    """
    if text == "none":
        return None
    # Nothing is repeated: a password may stand anywhere in it.
    found = re.fullmatch(PROXY, line(text))
    if not found or not found["host"]:
        raise ValueError(PROXY_FORM)
    try:
        where = host(found["host"].removeprefix("[").removesuffix("]"))
        port = between(1, HIGHEST_PORT)(found["port"] or SOCKS_PORT)
    except ValueError:
        raise ValueError(PROXY_FORM) from None
    if found["login"] is None:
        return Proxy(where, port)
    words = [unquote(word) for word in found["login"].split(":")]
    if len(words) != 2 or not all(map(_fits_socks, words)):
        raise ValueError(
            "user and password of a proxy are 1 to 255 characters of ASCII each; `:`, "
            "`@` and `/` in them are written as %3A, %40 and %2F"
        )
    return Proxy(where, port, words[0], Secret(words[1]))


PROXY = (
    r"^none$|^socks5h?://((?P<login>[^@/?#]*)@)?"
    r"(?P<host>\[[^\[\]@/?#]+\]|[^\[\]:@/?#]+)(:(?P<port>[0-9]+))?/?$"
)
PROXY_FORM = (
    "must be such as socks5://127.0.0.1:1080 or socks5://user:password@[::1]:1080; "
    "or none"
)
SOCKS_PORT = "1080"
"""Where a proxy listens when nobody says (RFC 1928 §3)."""


def _fits_socks(word: str) -> bool:
    # RFC 1929 §2; what octets another character would be, it does not say.
    return word.isascii() and word.isprintable() and 1 <= len(word) <= 255


FINGERPRINT = "^([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}$|^[0-9A-Fa-f]{64}$"


def fingerprints(value: object) -> tuple[str, ...]:
    """
    Read the SHA-256 fingerprints of certificates, one or a list of some.
    """
    texts = value if isinstance(value, list) else [value]
    found = tuple(fingerprint(written(text)) for text in texts)
    if not found:
        raise ValueError("is an empty list; leave the key out")
    return found


def fingerprint(text: str) -> str:
    """
    Read one of them, as 64 lower-case digits.
    """
    if not re.fullmatch(FINGERPRINT, text):
        raise ValueError(
            "must be the SHA-256 fingerprint of a certificate: 64 hexadecimal digits, "
            "with a colon after each two or without; or a list of such"
        )
    return text.replace(":", "").lower()


def between(low: int, high: int) -> Callable[[str], int]:
    """
    Return a reader of whole numbers from *low* to *high*.
    """

    def read(text: str) -> int:
        number = scalars.whole(text)
        if not low <= number <= high:
            raise ValueError(f"{number} is out of range; allowed is {low} to {high}")
        return number

    return read


def at_least(least: float) -> Reader:
    """
    Return a reader of durations, in seconds, of *least* or more.
    """

    def read(text: str) -> float:
        seconds = scalars.duration(text)
        if seconds < least:
            raise ValueError(f"must be at least {scalars.spelled_duration(least)}")
        return seconds

    return read


def octets(text: str) -> int:
    """
    Read a size, in octets, above none.
    """
    count = scalars.size(text)
    if not count:
        raise ValueError("must be more than 0B")
    return count


def delete_after(value: object) -> tuple[float, Since] | None:
    """
    Read after how many seconds, since when; None is never, 0.0 once verified.
    """
    if isinstance(value, dict):
        if list(value) != ["age"]:
            raise ValueError(f"must hold `age` and nothing else; {DELETE_AFTER}")
        return _delay(written(value["age"])), Since.ARRIVED
    text = written(value)
    if text in {"never", "verified"}:
        return None if text == "never" else (0.0, Since.ARCHIVED)
    return _delay(text), Since.ARCHIVED


def _delay(text: str) -> float:
    try:
        seconds = scalars.duration(text)
    except ValueError:
        raise ValueError(f"{quote(text)} is not allowed; {DELETE_AFTER}") from None
    if not seconds:
        raise ValueError("write `verified` to remove a message once its copy is proved")
    return seconds


DELETE_AFTER = (
    "allowed are never, verified, a duration after archiving, such as 30d, "
    "or {age: 30d}, which counts from the message's arrival"
)


def switch(text: str) -> bool:
    """
    Read true or false, as YAML 1.2 writes them.
    """
    if text.lower() not in {"true", "false"}:
        raise ValueError(f"{quote(text)} is not allowed; allowed are true, false")
    return text.lower() == "true"


def cron(text: str) -> str:
    """
    Read a line of crontab(5) that is due at some time.
    """
    from popfetchd import crontab  # noqa: PLC0415 -- most visit at intervals

    crontab.parse(line(text))
    return text


def timezone(text: str) -> str:
    """
    Read the name of a time zone in the IANA data base.
    """
    import zoneinfo  # noqa: PLC0415 -- it goes with `cron`

    try:
        zoneinfo.ZoneInfo(line(text))
    except (KeyError, OSError, ValueError):
        raise ValueError(
            f"{quote(text)} is no time zone; allowed are UTC and names such as "
            "Europe/Berlin"
        ) from None
    return text


def absolute(text: str) -> str:
    """
    Read an absolute path.
    """
    if text.startswith("~"):
        raise ValueError("`~` is not expanded here; write the whole path")
    if not line(text).startswith("/"):
        raise ValueError("must be an absolute path: one that begins with `/`")
    return text


def template(text: str) -> str:
    """
    Read an absolute path with words in braces.
    """
    return templates.shape(absolute(text))


def dated_template(text: str) -> str:
    """
    Read an absolute path with words in braces, also those of a date.
    """
    return templates.shape(absolute(text), dated=True)


def path(text: str) -> Path:
    """
    Read an absolute path without such words.
    """
    return Path(absolute(text))


def variable(text: str) -> str:
    """
    Read the name of an environment variable.
    """
    # Not repeated: the password itself is easily written here.
    if not re.fullmatch(VARIABLE, text):
        raise ValueError(
            "must be the name of an environment variable: A-Z, a-z, 0-9 and `_`, "
            "the first no digit"
        )
    return text


def credential(text: str) -> str:
    """
    Read the name of a credential, with words in braces.
    """
    if "/" in line(text) or text.startswith("."):
        raise ValueError("must be a name without `/` and without a leading dot")
    return templates.shape(text)


def password(text: str) -> str:
    """
    Read a password.
    """
    if not text:
        raise ValueError("is empty")
    if re.search("[\r\n\0]", text):
        raise ValueError("holds a line end or a NUL, which no server can be given")
    return text


def _texts(value: object) -> tuple[str, ...]:
    return tuple(written(item) for item in value) if isinstance(value, list) else ()


def command(value: object) -> tuple[str, ...]:
    """
    Read an argv.
    """
    # Not repeated: arguments may hold secrets.
    try:
        words = _texts(value)
    except ValueError:
        words = ()
    if not words or not words[0] or any("\0" in w for w in words):
        raise ValueError(
            "must be a list of words such as [pass, show, mail/alice]; no shell reads it"
        )
    return words


MODE = "^(0o?)?6(00|40|60|44|64)$"
MODES = (0o600, 0o640, 0o660, 0o644, 0o664)


def mode(text: str) -> int:
    """
    Read the mode of a file: octal digits, as chmod(1) takes them.
    """
    if re.fullmatch(MODE, text):
        return int(text[-3:], 8)
    # 416 is what a program that reads YAML 1.1 makes of 0640. No mode of ours looks so.
    decimal = {str(mode): mode for mode in MODES}.get(text)
    if decimal is not None:
        raise ValueError(
            f"{text} is {decimal:04o} as a decimal number; write it in quotes, "
            f'"{decimal:04o}"'
        )
    allowed = ", ".join(f"{mode:04o}" for mode in MODES)
    raise ValueError(
        f"{quote(text)} is no mode of an archive's files; allowed are {allowed}. "
        "Folders get x where files get r"
    )


def group(text: str) -> Group:
    """
    Read the name of a group of this machine, or a number.
    """
    try:
        return Group(text, grp.getgrnam(line(text)).gr_gid)
    except KeyError:
        if re.fullmatch("[0-9]{1,9}", text):
            return Group(text, int(text))
    raise ValueError(
        f"this machine has no group {quote(text)}; `getent group` shows which there are"
    )


def patterns(value: object) -> tuple[str, ...]:
    """
    Read a list of file names or patterns.
    """
    try:
        found = tuple(line(pattern) for pattern in _texts(value))
    except ValueError:
        found = ()
    if not found:
        raise ValueError("must be a list of files such as [accounts.d/*.yaml]")
    return found


def listen(text: str) -> str:
    """
    Read `address:port`; an IPv6 address stands in brackets, port 0 means any.
    """
    place, _, port = text.rpartition(":")
    bracketed = place.startswith("[") and place.endswith("]")
    try:
        host(place[1:-1] if bracketed else place)
        fits = bracketed == (":" in place) and 0 <= scalars.whole(port) <= HIGHEST_PORT
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{quote(text)} is no address; allowed are such as 127.0.0.1:10995, "
            "0.0.0.0:10995 and [::1]:10995"
        )
    return text


BCRYPT = r"^\$2[aby]\$(0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}$"
"""Up to a cost of 14: a second of CPU for each guess is enough."""

USERS = (
    "must be a mapping of names to bcrypt hashes of a cost of 4 to 14, such as "
    "`htpasswd -nBC 10 NAME` prints: $2y$10$ and 53 characters more"
)


def users(value: object) -> dict[str, str]:
    """
    Read names and the bcrypt hashes of their passwords.
    """
    # Nothing is repeated: the password itself is easily written here.
    if not isinstance(value, dict) or not value:
        raise ValueError(USERS)
    for user, hashed in value.items():
        if not re.fullmatch(BCRYPT, written(hashed)):
            raise ValueError(USERS)
        if ":" in line(str(user)):
            raise ValueError("holds a name with `:`, which no browser can send")
    return {str(user): str(hashed) for user, hashed in value.items()}
