"""
A configuration read in a process of its own, while this one loads what it needs itself.

Rules of this file:

- What judges a configuration takes as long to load as all that a visit needs, and more
  memory. Where the start counts, a child reads it: both load at once, and what only the
  judge needs ends with the child.
- A child is forked only where no other thread runs (it would inherit their locks) and
  the judge is not here already. It says nothing, and hands over values, through a pipe
  that no other program has.
- Between the fork and the answer no garbage is looked for: what is loaded then stays, and
  looking through it again and again took a tenth of the start.
- Whatever does not go well is done again in this process, where it is told as ever: a
  mistake, a fault of ours, a child that was killed, a secret that stands in the file (no
  secret crosses the pipe: it refuses to be pickled).
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import threading

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

from popfetchd.errors import Mistake
from popfetchd.values import Account


JUDGE = "popfetchd.config.load"


NO_PLUGINS = {"PYDANTIC_DISABLE_PLUGINS": "__all__"}
"""pydantic would seek some in the metadata of every package that is installed."""


class Whole(NamedTuple):
    """
    What a visit needs of a configuration, without its models.
    """

    ledger: Path
    accounts: tuple[Account, ...]
    log: tuple[str, str]
    """Level and format."""
    sessions: int
    sessions_per_host: int
    held_back: tuple[Mistake, ...]
    doubts: tuple[Mistake, ...]


Reading = Callable[[], Whole]
"""Waits for the configuration; raises ConfigurationError."""


def whole(path: Path, environ: Mapping[str, str]) -> Whole:
    """
    Read the configuration in *path* here and now, as `load.load` does.
    """
    from popfetchd.config import load, plain  # noqa: PLC0415 -- in a child, if possible

    loaded = load.load(path, environ)
    configuration = loaded.configuration
    return Whole(
        configuration.ledger,
        plain.accounts(configuration),
        (configuration.log.of_a_verb.value, configuration.log.format.value),
        configuration.limits.sessions,
        configuration.limits.sessions_per_host,
        loaded.held_back,
        loaded.doubts,
    )


def begin(path: Path, environ: Mapping[str, str]) -> Reading:
    """
    Begin to read the configuration in *path*, apart if that can be.
    """
    here = partial(whole, path, environ)
    if JUDGE in sys.modules or threading.active_count() > 1:
        return here
    try:
        child, pipe = _forked(here)
    except OSError:  # no process, or no file, is left to us
        return here
    gc.disable()
    return partial(_received, child, pipe, here)


def _forked(here: Reading) -> tuple[int, int]:
    """
    Return the child that does *here*, and the pipe that it writes to. Raises OSError.
    """
    readable, writable = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(readable)
        raise
    else:
        if not child:
            _hand_over(here, writable)
    finally:
        os.close(writable)
    return child, readable


def _hand_over(here: Reading, pipe: int) -> NoReturn:
    code = 1
    gc.disable()
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent tells of Ctrl-C
        os.environ.update(NO_PLUGINS)
        with open(pipe, "wb", closefd=False) as file:
            file.write(pickle.dumps(here()))
        code = 0
    finally:  # whatever was raised: the parent comes upon it as well
        os._exit(code)


def _received(child: int, pipe: int, here: Reading) -> Whole:
    gc.freeze()
    gc.enable()
    status = 1
    with open(pipe, "rb") as file:
        octets = file.read()
    with suppress(ChildProcessError):  # SIGCHLD was ignored when we were started
        status = os.waitpid(child, 0)[1]
    if status:
        return here()
    received: Whole = pickle.loads(octets)  # noqa: S301 -- our own fork has written it
    return received
