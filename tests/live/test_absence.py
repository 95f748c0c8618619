"""
A machine without Dovecot is told so, loudly.
"""

from __future__ import annotations

import os

from pathlib import Path

import pytest

from tests.live import conftest, dovecot


def test_a_missing_dovecot_is_named_with_what_to_install(monkeypatch):
    """
    The reason is one line, and says which packages bring it.
    """
    monkeypatch.setattr(dovecot, "BINARY", Path("/nonexistent"))
    assert (
        "no Dovecot here (/nonexistent): apt-get install dovecot-pop3d dovecot-imapd"
        == dovecot.missing()
    )


def test_whoever_is_not_root_is_told_so(monkeypatch):
    """
    Dovecot is there, and cannot be started.
    """
    monkeypatch.setattr(dovecot, "BINARY", Path("/"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "only root can start Dovecot, and this is not root" == dovecot.missing()


def test_a_skip_is_said_aloud(request, monkeypatch):
    """
    The live tests are skipped, and not in silence.
    """
    said = []
    monkeypatch.setattr(conftest, "REQUIRE", False)
    monkeypatch.setattr(conftest, "shout", lambda _, line: said.append(line))
    with pytest.raises(pytest.skip.Exception, match="no reason"):
        conftest.give_up(request.config, "no reason")
    assert ["LIVE TESTS ARE SKIPPED: no reason"] == said


def test_where_live_tests_are_required_it_is_a_failure(request, monkeypatch):
    """
    POPFETCHD_LIVE=require turns the skip into an error.
    """
    monkeypatch.setattr(conftest, "REQUIRE", True)
    with pytest.raises(pytest.fail.Exception, match="require, but no reason"):
        conftest.give_up(request.config, "no reason")
