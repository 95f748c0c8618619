"""
The kinds of values that keys hold: how each is read, spelled and described.

Rules of this file:

- A kind joins a reader, the JSON schema that an editor is given, and how the value is
  spelled where a configuration is shown.
- The string below a kind tells an operator what to write; each example in it can be
  read. A kind of words alone needs none: its words say it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import (
    BeforeValidator,
    GetCoreSchemaHandler,
    PlainSerializer,
    SecretStr,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from popfetchd.config import providers, readers, scalars
from popfetchd.values import (
    ArchiveFormat,
    Group,
    Mechanism,
    Proxy,
    Since,
    TlsMode,
    TlsVersion,
)


MOST_SESSIONS = 10_000
"""More threads than any one machine runs well."""

HIDDEN = "(hidden)"
"""What stands for a secret wherever a configuration is shown."""


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


MOST_REMEMBERED = 64
"""Texts of one kind whose meaning is remembered: what `defaults` says is read once, and
not for each of thousands of accounts."""


def _scalar(read: readers.Reader) -> BeforeValidator:
    remembered = lru_cache(MOST_REMEMBERED)(read)
    return BeforeValidator(lambda value: remembered(readers.written(value)))


def _unremembered(read: readers.Reader) -> BeforeValidator:
    """
    For what is secret, or changes outside of the configuration.
    """
    return BeforeValidator(lambda value: read(readers.written(value)))


def _schema(kind: str, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, **more})


def _spelled_delete_after(value: tuple[float, Since] | None) -> str | dict[str, str]:
    if value is None:
        return "never"
    seconds, since = value
    spelled = scalars.spelled_duration(seconds) if seconds else "verified"
    return {"age": spelled} if since is Since.ARRIVED else spelled


def _spelled_command(argv: tuple[str, ...] | None) -> list[str] | None:
    # The arguments may hold secrets; which program it is helps and tells none.
    return None if argv is None else [argv[0], *[HIDDEN] * (len(argv) - 1)]


def _spelled_proxy(proxy: Proxy) -> str:
    login = f"{quote(proxy.user, safe='')}:{HIDDEN}@" if proxy.user else ""
    return str(proxy).replace("//", f"//{login}", 1)


def _spelled_pins(pins: tuple[str, ...]) -> list[str] | None:
    return [*pins] or None


def _spelled_users(users: dict[str, SecretStr] | None) -> dict[str, str] | None:
    return None if users is None else dict.fromkeys(users, HIDDEN)


def _optionally(spell: Callable[[Any], str]) -> PlainSerializer:
    return PlainSerializer(lambda value: None if value is None else spell(value))


class _AsItIs:
    """
    Takes what a reader made of a text: pydantic would take a dataclass apart, which costs
    as much as all other keys.
    """

    def __get_pydantic_core_schema__(
        self, _source: object, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.any_schema()


class _ProviderNames:
    """
    The schema of a provider's name; made when it is asked for, from the data file.
    """

    def __get_pydantic_json_schema__(self, *_: object) -> JsonSchemaValue:
        return {"type": "string", "enum": sorted(providers.providers())}


# -- the types of values --------------------------------------------------------------


Name = Annotated[str, _scalar(readers.name), _schema("string", pattern=readers.NAME)]
"""1 to 64 of a-z, 0-9, dot, underscore and hyphen, the first a letter or digit, such as
`alice`"""

Line = Annotated[str, _scalar(readers.line), _schema("string", minLength=1)]
"""a text of one line"""

Host = Annotated[str, _scalar(readers.host), _schema("string", minLength=1)]
"""a host name or an address, without a port, such as `pop.example.net` or `2001:db8::7`"""

Provider = Annotated[str, _scalar(providers.read), _ProviderNames()]
Port = Annotated[
    int,
    _scalar(readers.between(1, readers.HIGHEST_PORT)),
    _schema("integer", minimum=1, maximum=readers.HIGHEST_PORT),
]
"""a number from 1 to 65535"""

Bound = Annotated[
    int,
    _scalar(readers.between(1, MOST_SESSIONS)),
    _schema("integer", minimum=1, maximum=MOST_SESSIONS),
]
"""a number from 1 to 10000"""

_spelled = _optionally(scalars.spelled_duration)
_duration = _schema("string", pattern=scalars.DURATION)
Delay = Annotated[float, _scalar(readers.at_least(0)), _spelled, _duration]
"""a duration, such as `30s`"""

Limit = Annotated[float, _scalar(readers.at_least(0.001)), _spelled, _duration]
"""a duration, more than none, such as `90s` or `1h30m`"""

Interval = Annotated[float, _scalar(readers.at_least(1)), _spelled, _duration]
"""a duration of a second or more, such as `5m` or `1d12h`"""

Size = Annotated[
    int,
    _scalar(readers.octets),
    _optionally(scalars.spelled_size),
    _schema("string", pattern=scalars.SIZE),
]
"""a size, more than none, such as `50MB` or `64MiB`"""

Room = Annotated[
    int,
    _scalar(scalars.size),
    _optionally(scalars.spelled_size),
    _schema("string", pattern=scalars.SIZE),
]
"""a size, such as `1GB` or `0B`"""

DeleteAfter = Annotated[
    tuple[float, Since] | None,
    BeforeValidator(readers.delete_after),
    PlainSerializer(_spelled_delete_after),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "string",
                    "pattern": f"^never$|^verified$|{scalars.DURATION}",
                },
                {
                    "type": "object",
                    "properties": {
                        "age": {"type": "string", "pattern": scalars.DURATION}
                    },
                    "required": ["age"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
"""`never`, `verified`, a duration such as `30d`, or `{age: 30d}`"""

Switch = Annotated[bool, _scalar(readers.switch), _schema("boolean")]
"""`true` or `false`"""

CronLine = Annotated[str, _scalar(readers.cron), _schema("string", minLength=1)]
"""a line of crontab(5), such as `"*/10 8-18 * * mon-fri"`"""

Timezone = Annotated[str, _scalar(readers.timezone), _schema("string", minLength=1)]
"""`UTC`, or a name such as `Europe/Berlin`"""

AbsolutePath = Annotated[Path, _scalar(readers.path), _schema("string", minLength=1)]
"""a path, absolute or from the folder of the file that it is written in"""

Template = Annotated[str, _scalar(readers.template), _schema("string", minLength=1)]
"""a path, perhaps with {account}, {user} and {host} in it, such as
`/etc/popfetchd/{account}.pass`"""

DatedTemplate = Annotated[
    str, _scalar(readers.dated_template), _schema("string", minLength=1)
]
"""an absolute path, such as `/srv/mail/{account}`"""

Mode = Annotated[
    int,
    _scalar(readers.mode),
    _optionally("{:04o}".format),
    WithJsonSchema({"type": ["string", "integer"], "pattern": readers.MODE}),
]
"""`0600`, `0640`, `0660`, `0644` or `0664`: octal, in quotes or not"""

ArchiveGroup = Annotated[
    Group,
    _AsItIs(),
    _unremembered(readers.group),
    _optionally(lambda group: group.name),
    _schema("string", minLength=1),
]
"""a group of this machine, or its number, such as `1000`"""

Variable = Annotated[
    str, _scalar(readers.variable), _schema("string", pattern=readers.VARIABLE)
]
"""the name of an environment variable, such as `ALICE_PASSWORD`"""

Credential = Annotated[
    str, _scalar(readers.credential), _schema("string", pattern="^[^/.][^/]*$")
]
"""a name, perhaps with {account}, {user} and {host} in it, such as
`"{account}.pass"`"""

Password = Annotated[
    SecretStr,
    _unremembered(readers.password),
    _optionally(lambda _: HIDDEN),
    _schema("string", format="password", writeOnly=True),
]
"""a text of one line"""

Command = Annotated[
    tuple[str, ...],
    BeforeValidator(readers.command),
    PlainSerializer(_spelled_command),
    _schema("array", items={"type": "string"}, minItems=1),
]
"""a list of words, such as `[pass, show, mail/alice]`"""

Patterns = Annotated[
    tuple[str, ...],
    BeforeValidator(readers.patterns),
    _schema("array", items={"type": "string"}, minItems=1),
]
"""a list of files or patterns, such as `[accounts.d/*.yaml]`"""

Listen = Annotated[str, _scalar(readers.listen), _schema("string", minLength=1)]
"""an address and a port, such as `127.0.0.1:10995` or `"[::1]:10995"`"""

Users = Annotated[
    dict[str, SecretStr],
    BeforeValidator(readers.users),
    PlainSerializer(_spelled_users),
    _schema(
        "object",
        additionalProperties={"type": "string", "pattern": readers.BCRYPT},
        minProperties=1,
    ),
]
"""a mapping of names to bcrypt hashes, as htpasswd -nBC 10 NAME prints them"""

_fingerprint = {"type": "string", "pattern": readers.FINGERPRINT}
Fingerprints = Annotated[
    tuple[str, ...],
    BeforeValidator(readers.fingerprints),
    PlainSerializer(_spelled_pins),
    WithJsonSchema(
        {
            "anyOf": [
                _fingerprint,
                {"type": "array", "items": _fingerprint, "minItems": 1},
            ]
        }
    ),
]
"""64 hexadecimal digits, with a colon after each two or without; or a list of such"""

Address = Annotated[str, _scalar(readers.address), _schema("string", minLength=1)]
"""an IPv4 or IPv6 address, such as `192.0.2.7`"""

Socks = Annotated[
    Proxy | None,
    _AsItIs(),
    _scalar(readers.proxy),
    _optionally(_spelled_proxy),
    _schema("string", pattern=r"^none$|^socks5h?://.+$"),
]
"""`none`, or an address such as `socks5://127.0.0.1:1080`"""

MinTls = Annotated[TlsVersion, _scalar(readers.word(TlsVersion))]
Tls = Annotated[TlsMode, _scalar(readers.word(TlsMode))]
Auth = Annotated[Mechanism, _scalar(readers.word(Mechanism))]
Format = Annotated[ArchiveFormat, _scalar(readers.word(ArchiveFormat))]

LogLevel = Annotated[Level, _scalar(readers.word(Level))]
LogFormat = Annotated[Rendering, _scalar(readers.word(Rendering))]
MetricsPerAccount = Annotated[PerAccount, _scalar(readers.word(PerAccount))]
