"""
How a log line looks, and what may never stand in one.

Rules of this file:

- structlog (`lines`) through the standard library's logging: lines of other libraries get
  the same shape. It is loaded with the first line, or by `load`. Everything goes to standard error; journald, Docker or a file take it on.
- `sanitize` is the last step before a line is rendered: nothing that a peer sent can
  move a cursor, forge a line, or reverse the text (P4). It covers the event, every
  value, and tracebacks.
- What is called a password, secret or token is never shown, whatever it holds.
- A traceback shows code, never the values of variables.
- A logger that fails does so in silence: mail comes first.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback

from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from popfetchd import journal
from popfetchd.values import Secret


if TYPE_CHECKING:  # who shows a table cleans its cells, and writes no line
    from structlog.typing import EventDict, Processor, WrappedLogger


class Format(StrEnum):
    """
    How lines are written (`log: {format: …}`).
    """

    AUTO = "auto"
    """CONSOLE on a terminal, JSON otherwise."""
    CONSOLE = "console"
    JSON = "json"


LEVELS = ("debug", "info", "warning", "error")
"""What `log: {level: …}` may be."""

NAME = "popfetchd"
"""Our logger's, for the standard library."""

LONGEST_VALUE = 2048
"""Characters of one value: a reply of POP3 has 512, a hostile one has no end."""

LONGEST_TRACEBACK = 16384
"""Characters of a traceback; its end says most and is what is kept."""

DEEPEST = 4
"""Levels of nested values that are told apart; below, a value is written as text."""

HIDDEN = "(hidden)"

_UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0 and C1: ESC, CSI, CR, LF …
    "\u2028\u2029"  # line and paragraph separators: some readers break there
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks
    "\xad\u180e\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb"  # not to be seen
    "\U000e0000-\U000e007f"  # tags: a whole sentence of them is invisible
    "\ud800-\udfff"  # what cannot be encoded
    "]"
)
_CONFIDENTIAL = re.compile(
    r"passw|passphrase|secret|token|authorization|cookie|api_?key|private_?key",
    re.IGNORECASE,
)


def clean(text: str) -> str:
    """
    Return *text* with each unsafe character written as an escape, on one line.
    """
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def shorten(text: str) -> str:
    """
    Return *text*, or its beginning and how much was left out.
    """
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{text[:LONGEST_VALUE]}… ({len(text) - LONGEST_VALUE} more)"


def sanitize(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """
    Make every key, value and traceback of *event* safe to write; when, how grave and
    what come first.
    """
    first = {key: event.pop(key, "") for key in ("timestamp", "level", "event")}
    return {
        clean(key): _traceback(value) if key == "exception" else _safe(key, value)
        for key, value in {**first, **event}.items()
    }


def _safe(key: str, value: object, depth: int = 0) -> object:
    if isinstance(value, Secret) or _CONFIDENTIAL.search(key):
        return HIDDEN
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping) and depth < DEEPEST:
        return {
            clean(str(inner)): _safe(str(inner), item, depth + 1)
            for inner, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset) and depth < DEEPEST:
        return [_safe(key, item, depth + 1) for item in value]
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return shorten(clean(str(value)))


def _traceback(text: object) -> str:
    """
    Return a traceback, each line indented: none can pass for a log line of its own.
    """
    kept = str(text)[-LONGEST_TRACEBACK:]
    return "\n".join(f"  | {clean(line)}" for line in kept.split("\n"))


def _format_exception(
    _logger: WrappedLogger, _name: str, event: EventDict
) -> EventDict:
    """
    Turn `exc_info` into text without the values of variables.
    """
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["exception"] = "".join(traceback.format_exception(error)).rstrip()
    return event


class _Journal:
    """
    Puts the priority before each line, as journald reads it.
    """

    def __init__(self, render: Processor) -> None:
        self._render = render

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> str:
        level = str(event.get("level"))
        return journal.marked(str(self._render(logger, name, event)), level)


def configure(
    level: str,
    format_: Format,
    *,
    stream: TextIO,
    environ: Mapping[str, str],
) -> None:
    """
    Make every log line of this process go to *stream*; may be called again.

    *level* is one of LEVELS. *environ*: NO_COLOR and JOURNAL_STREAM are heeded.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Late(lambda: _formatter(format_, stream, environ)))
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level.upper())
    logging.raiseExceptions = False
    logging.captureWarnings(capture=True)
    # Two INFO lines for each visit would say nothing that ours do not.
    logging.getLogger("apscheduler").setLevel(logging.WARNING)


class _Late(logging.Formatter):
    """
    A formatter that is made when the first line is written.
    """

    def __init__(self, make: Callable[[], logging.Formatter]) -> None:
        super().__init__()
        self._made = cache(make)

    def format(self, record: logging.LogRecord) -> str:
        return self._made().format(record)


def set_up(level: str, format_: str, environ: Mapping[str, str]) -> None:
    """
    Make every log line of this process, and what nobody caught, go to standard error.
    """
    configure(level, Format(format_), stream=sys.stderr, environ=environ)
    catch_uncaught()


def _formatter(
    format_: Format, stream: TextIO, environ: Mapping[str, str]
) -> logging.Formatter:
    from popfetchd import lines  # noqa: PLC0415 -- with the first line

    terminal = stream.isatty()
    if format_ is Format.CONSOLE or (format_ is Format.AUTO and terminal):
        render = lines.for_people(colors=terminal and not environ.get("NO_COLOR"))
    else:
        render = lines.for_programs()
    if journal.is_journal(stream, environ):
        render = _Journal(render)
    return lines.formatter([_format_exception, sanitize, render])


class Log:
    """
    The logger of popfetchd: an event, and what varies in fields.
    """

    def debug(self, event: str, **fields: object) -> None:
        """Tell what helps to find a fault."""
        self._say(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Tell what went as it should."""
        self._say(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Tell what may need a person."""
        self._say(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Tell what needs a person."""
        self._say(logging.ERROR, event, fields)

    def critical(self, event: str, **fields: object) -> None:
        """Tell a fault of ours."""
        self._say(logging.CRITICAL, event, fields)

    def _say(self, level: int, event: str, fields: Mapping[str, object]) -> None:
        if not logging.getLogger(NAME).isEnabledFor(level):
            return  # nothing is loaded for what nobody hears
        with suppress(ImportError, OSError):  # no file left to open: mail comes first
            from popfetchd import lines  # noqa: PLC0415 -- with the first line

            lines.logger(NAME).log(level, event, **fields)


def get() -> Log:
    """
    Return the logger of popfetchd. It writes as `configure` said last.
    """
    return Log()


def load() -> None:
    """
    Load now what writes lines: a service may have no file left to open for it later.
    """
    from popfetchd import lines  # noqa: F401, PLC0415 -- to have it


def catch_uncaught() -> None:
    """
    Let exceptions that nobody caught, in any thread, become log lines.
    """
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def _uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        get().critical("uncaught exception", exc_info=error)


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        thread = args.thread.name if args.thread else None
        get().critical("uncaught exception", thread=thread, exc_info=args.exc_value)
