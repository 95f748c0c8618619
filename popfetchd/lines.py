"""
Log lines, by structlog: the only file that imports it.

Rules of this file:

- It is imported when the first line is written: structlog takes 100 ms, and a visit
  that finds nothing has nothing to say.
- What may never stand in a line is `logs`' business; here is only their shape.
"""

from __future__ import annotations

import logging

from collections.abc import Iterable
from functools import cache

import structlog

from structlog.typing import Processor


_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
"""What our own lines and those of other libraries have in common."""


def formatter(processors: Iterable[Processor]) -> logging.Formatter:
    """
    Return what gives the lines of every library one shape; *processors* end with a
    renderer.
    """
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *processors,
        ],
    )


def for_people(*, colors: bool) -> Processor:
    """
    Return the renderer of lines that a person reads.
    """
    return structlog.dev.ConsoleRenderer(
        colors=colors,
        exception_formatter=structlog.dev.plain_traceback,
        sort_keys=False,
    )


def for_programs() -> Processor:
    """
    Return the renderer of lines in JSON.
    """
    # The standard library's json escapes all that is not ASCII.
    return structlog.processors.JSONRenderer(default=str)


@cache
def logger(name: str) -> structlog.stdlib.BoundLogger:
    """
    Return the logger of the standard library that is called *name*, wrapped.
    """
    wrapped: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return wrapped
