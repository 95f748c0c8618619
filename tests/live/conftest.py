"""
Fixtures for the tests against Dovecot, which say loudly when there is none.
"""

from __future__ import annotations

import os
import sys

from collections.abc import Iterator

import pytest

from tests.live.dovecot import Dovecot, missing, running


REQUIRE = os.environ.get("POPFETCHD_LIVE") == "require"
"""POPFETCHD_LIVE=require: no Dovecot is an error, not a reason to skip."""

MESSAGES = int(os.environ.get("POPFETCHD_ARCHIVE", "300"))
"""What a whole archive is to a test: POPFETCHD_ARCHIVE=10000 takes that many messages."""


@pytest.fixture(scope="session")
def dovecot(request: pytest.FixtureRequest) -> Iterator[Dovecot]:
    """
    A Dovecot for the whole run; each test adds users of its own.
    """
    if reason := missing():
        give_up(request.config, reason)
    with running() as server:
        yield server


def give_up(config: pytest.Config, reason: str) -> None:
    """
    Skip with *reason*, said so that nobody overlooks it.
    """
    if REQUIRE:
        pytest.fail(f"POPFETCHD_LIVE=require, but {reason}", pytrace=False)
    shout(config, f"LIVE TESTS ARE SKIPPED: {reason}")
    pytest.skip(reason)


def shout(config: pytest.Config, line: str) -> None:
    """
    Write *line* to the terminal, past pytest's capture.
    """
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        sys.stderr.write(f"\n{line}\n")
