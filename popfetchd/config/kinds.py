"""
The kinds of values that keys hold: how each is read, spelled and described.

Rules of this file:

- A scalar is read as its key needs it, quoted or not: `port: "995"` is a number and
  `user: 0123` a text. Nothing is guessed from how a scalar looks.
- A refusal is a ValueError that says what is allowed. It repeats no secret, and nothing
  that is easily written in a secret's place.
- What only a later release understands is refused with that sentence.
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, SecretStr, WithJsonSchema

from popfetchd import crontab
from popfetchd.config import scalars, templates
from popfetchd.errors import quote
from popfetchd.values import ArchiveFormat, Mechanism, TlsMode


NAME = "^[a-z0-9][a-z0-9._-]{0,63}$"
"""An account's name: a path component, a metric label and a word of the shell."""

VARIABLE = "^[A-Za-z_][A-Za-z0-9_]*$"
"""POSIX: what an environment variable may be called."""

LONGEST_NAME = 253
"""Characters of a host name (RFC 1035 §2.3.4, less what the wire form adds)."""

HIGHEST_PORT = 65535

MOST_SESSIONS = 10_000
"""More threads than any one machine runs well."""

HIDDEN = "(hidden)"
"""What stands for a secret wherever a configuration is shown."""

FORMATS_NOT_YET = {"mbox": "mbox comes with a later release; use maildir"}

MECHANISMS_NOT_YET = dict.fromkeys(
    ("login", "cram-md5", "scram-sha-256", "xoauth2", "oauthbearer"),
    "this mechanism comes with a later release; use auto, user, plain or apop",
)


# -- how a value is read --------------------------------------------------------------


def written(value: object) -> str:
    """
    Return the text of a scalar. Raises ValueError for anything else.
    """
    if not isinstance(value, str):
        kind = "a list" if isinstance(value, list) else "a mapping"
        raise ValueError(f"must be a single value, not {kind}")  # noqa: TRY004
    if getattr(value, "null", False):
        raise ValueError("has no value; leave the key out, or put the word in quotes")
    return str(value)


def _scalar(read: Callable[[str], object]) -> BeforeValidator:
    return BeforeValidator(lambda value: read(written(value)))


def _word(
    choices: type[StrEnum], later: dict[str, str] | None = None
) -> BeforeValidator:
    allowed = ", ".join(choices)

    def read(text: str) -> StrEnum:
        if later and text in later:
            raise ValueError(later[text])
        if text not in list(choices):
            raise ValueError(f"{quote(text)} is not allowed; allowed are {allowed}")
        return choices(text)

    return _scalar(read)


def line(text: str) -> str:
    """
    Return *text* if it is one line of printable characters. Raises ValueError.
    """
    if not text:
        raise ValueError("is empty")
    if not text.isprintable():
        raise ValueError("holds a line end or another control character")
    return text


def _name(text: str) -> str:
    if not re.fullmatch(NAME, text):
        raise ValueError(
            f"{quote(text)} is no name; allowed are a-z, 0-9, `.`, `_` and `-`, "
            "at most 64, the first a letter or digit"
        )
    return text


def _host(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        _host_name(text)
    return text


def _host_name(text: str) -> None:
    # Not repeated: `host: user:password@…` is a mistake that people make.
    if not line(text) or re.search(r"[\s:/@\[\]]", text):
        raise ValueError(
            "must be a host name or an address alone; the port stands under `port`"
        )
    try:
        fits = len(text.encode("idna")) <= LONGEST_NAME
    except UnicodeError:
        fits = False
    if not fits:
        raise ValueError("is no host name: a part of it is empty or too long")


def _number(low: int, high: int) -> BeforeValidator:
    def read(text: str) -> int:
        number = scalars.whole(text)
        if not low <= number <= high:
            raise ValueError(f"{number} is out of range; allowed is {low} to {high}")
        return number

    return _scalar(read)


def _seconds(least: float) -> BeforeValidator:
    def read(text: str) -> float:
        seconds = scalars.duration(text)
        if seconds < least:
            raise ValueError(f"must be at least {scalars.spelled_duration(least)}")
        return seconds

    return _scalar(read)


def _octets(text: str) -> int:
    octets = scalars.size(text)
    if not octets:
        raise ValueError("must be more than 0B")
    return octets


def _delete_after(text: str) -> float | None:
    if text in {"never", "verified"}:
        return None if text == "never" else 0.0
    try:
        seconds = scalars.duration(text)
    except ValueError:
        raise ValueError(
            f"{quote(text)} is not allowed; allowed are never, verified, "
            "or a duration after archiving, such as 30d"
        ) from None
    if not seconds:
        raise ValueError("write `verified` to remove a message once its copy is proved")
    return seconds


def _cron(text: str) -> str:
    crontab.parse(line(text))
    return text


def _timezone(text: str) -> str:
    try:
        zoneinfo.ZoneInfo(line(text))
    except (KeyError, OSError, ValueError):
        raise ValueError(
            f"{quote(text)} is no time zone; allowed are UTC and names such as "
            "Europe/Berlin"
        ) from None
    return text


def _absolute(text: str) -> str:
    if text.startswith("~"):
        raise ValueError("`~` is not expanded here; write the whole path")
    if not line(text).startswith("/"):
        raise ValueError("must be an absolute path: one that begins with `/`")
    return text


def _template(text: str) -> str:
    return templates.shape(_absolute(text))


def _path(text: str) -> Path:
    return Path(_absolute(text))


def _variable(text: str) -> str:
    # Not repeated: the password itself is easily written here.
    if not re.fullmatch(VARIABLE, text):
        raise ValueError(
            "must be the name of an environment variable: A-Z, a-z, 0-9 and `_`, "
            "the first no digit"
        )
    return text


def _credential(text: str) -> str:
    if "/" in line(text) or text.startswith("."):
        raise ValueError("must be a name without `/` and without a leading dot")
    return templates.shape(text)


def _password(text: str) -> SecretStr:
    if not text:
        raise ValueError("is empty")
    if re.search("[\r\n\0]", text):
        raise ValueError("holds a line end or a NUL, which no server can be given")
    return SecretStr(text)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(written(item) for item in value) if isinstance(value, list) else ()


def _command(value: object) -> tuple[str, ...]:
    # Not repeated: arguments may hold secrets.
    try:
        words = _texts(value)
    except ValueError:
        words = ()
    if not words or not words[0] or any("\0" in word for word in words):
        raise ValueError(
            "must be a list of words such as [pass, show, mail/alice]; no shell reads it"
        )
    return words


def patterns(value: object) -> tuple[str, ...]:
    """
    Return a list of file names or patterns. Raises ValueError.
    """
    try:
        found = tuple(line(pattern) for pattern in _texts(value))
    except ValueError:
        found = ()
    if not found:
        raise ValueError("must be a list of files such as [accounts.d/*.yaml]")
    return found


def _listen(text: str) -> str:
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        _host(host[1:-1] if bracketed else host)
        fits = bracketed == (":" in host) and 0 <= scalars.whole(port) <= HIGHEST_PORT
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{quote(text)} is no address; allowed are such as 127.0.0.1:10995, "
            "0.0.0.0:10995 and [::1]:10995"
        )
    return text


def _schema(kind: str, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, **more})


def _spelled_delete_after(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    return scalars.spelled_duration(seconds) if seconds else "verified"


def _spelled_command(argv: tuple[str, ...] | None) -> list[str] | None:
    # The arguments may hold secrets; which program it is helps and tells none.
    return None if argv is None else [argv[0], *[HIDDEN] * (len(argv) - 1)]


def _optionally(spell: Callable[[Any], str]) -> PlainSerializer:
    return PlainSerializer(lambda value: None if value is None else spell(value))


# -- the types of values --------------------------------------------------------------


Name = Annotated[str, _scalar(_name), _schema("string", pattern=NAME)]
Line = Annotated[str, _scalar(line), _schema("string", minLength=1)]
Host = Annotated[str, _scalar(_host), _schema("string", minLength=1)]
Port = Annotated[
    int, _number(1, HIGHEST_PORT), _schema("integer", minimum=1, maximum=HIGHEST_PORT)
]
Bound = Annotated[
    int, _number(1, MOST_SESSIONS), _schema("integer", minimum=1, maximum=MOST_SESSIONS)
]
_spelled = _optionally(scalars.spelled_duration)
_duration = _schema("string", pattern=scalars.DURATION)
Delay = Annotated[float, _seconds(0), _spelled, _duration]
Limit = Annotated[float, _seconds(0.001), _spelled, _duration]
Interval = Annotated[float, _seconds(1), _spelled, _duration]
Size = Annotated[
    int,
    _scalar(_octets),
    _optionally(scalars.spelled_size),
    _schema("string", pattern=scalars.SIZE),
]
DeleteAfter = Annotated[
    float | None,
    _scalar(_delete_after),
    PlainSerializer(_spelled_delete_after),
    _schema("string", pattern=f"^never$|^verified$|{scalars.DURATION}"),
]
CronLine = Annotated[str, _scalar(_cron), _schema("string", minLength=1)]
Timezone = Annotated[str, _scalar(_timezone), _schema("string", minLength=1)]
AbsolutePath = Annotated[Path, _scalar(_path), _schema("string", minLength=1)]
Template = Annotated[str, _scalar(_template), _schema("string", minLength=1)]
Variable = Annotated[str, _scalar(_variable), _schema("string", pattern=VARIABLE)]
Credential = Annotated[
    str, _scalar(_credential), _schema("string", pattern="^[^/.][^/]*$")
]
Password = Annotated[
    SecretStr,
    _scalar(_password),
    _optionally(lambda _: HIDDEN),
    _schema("string", format="password", writeOnly=True),
]
Command = Annotated[
    tuple[str, ...],
    BeforeValidator(_command),
    PlainSerializer(_spelled_command),
    _schema("array", items={"type": "string"}, minItems=1),
]
Patterns = Annotated[
    tuple[str, ...],
    BeforeValidator(patterns),
    _schema("array", items={"type": "string"}, minItems=1),
]
Listen = Annotated[str, _scalar(_listen), _schema("string", minLength=1)]
Tls = Annotated[TlsMode, _word(TlsMode)]
Auth = Annotated[Mechanism, _word(Mechanism, MECHANISMS_NOT_YET)]
Format = Annotated[ArchiveFormat, _word(ArchiveFormat, FORMATS_NOT_YET)]


class Level(StrEnum):
    """
    The least severe log event that is written.
    """

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Rendering(StrEnum):
    """
    AUTO: console on a terminal, JSON otherwise.
    """

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class PerAccount(StrEnum):
    """
    AUTO: each account's metrics up to 2,000 accounts, beyond that of failing ones.
    """

    AUTO = "auto"
    ALWAYS = "always"
    FAILING = "failing"
    NEVER = "never"


LogLevel = Annotated[Level, _word(Level)]
LogFormat = Annotated[Rendering, _word(Rendering)]
MetricsPerAccount = Annotated[PerAccount, _word(PerAccount)]
