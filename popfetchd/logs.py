"""
How a log line looks, and what may never stand in one.

Rules of this file:

- structlog through the standard library's logging: lines of other libraries get the
  same shape. Everything goes to standard error; journald, Docker or a file take it on.
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

from collections.abc import Mapping
from enum import StrEnum
from types import TracebackType
from typing import TextIO

import structlog

from structlog.typing import EventDict, Processor, WrappedLogger

from popfetchd import journal
from popfetchd.values import Secret


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


_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
"""What our own lines and those of other libraries have in common."""


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
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _format_exception,
                sanitize,
                _renderer(format_, stream, environ),
            ],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level.upper())
    logging.raiseExceptions = False
    logging.captureWarnings(capture=True)
    # Two INFO lines for each visit would say nothing that ours do not.
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def set_up(level: str, format_: str, environ: Mapping[str, str]) -> None:
    """
    Make every log line of this process, and what nobody caught, go to standard error.
    """
    configure(level, Format(format_), stream=sys.stderr, environ=environ)
    catch_uncaught()


def _renderer(format_: Format, stream: TextIO, environ: Mapping[str, str]) -> Processor:
    terminal = stream.isatty()
    renderer: Processor
    if format_ is Format.CONSOLE or (format_ is Format.AUTO and terminal):
        renderer = structlog.dev.ConsoleRenderer(
            colors=terminal and not environ.get("NO_COLOR"),
            exception_formatter=structlog.dev.plain_traceback,
            sort_keys=False,
        )
    else:
        # The standard library's json escapes all that is not ASCII.
        renderer = structlog.processors.JSONRenderer(default=str)
    return _Journal(renderer) if journal.is_journal(stream, environ) else renderer


def get() -> structlog.stdlib.BoundLogger:
    """
    Return the logger of popfetchd. It writes as `configure` said last.
    """
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("popfetchd")
    return logger


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
