"""
The strange servers of tests/dialogs, each at every split, and through a whole session.
"""

from __future__ import annotations

import ssl

from pathlib import Path

import pytest
import trustme

from popfetchd.pop3 import auth
from tests.dialogs.script import (
    NONCE,
    Dialog,
    act,
    every_dialog,
    longest_run,
    replay,
)


MOST_SPLITS = 600
"""Places at which a long run of octets is cut, spread evenly; short runs: at each."""

DIALOGS = every_dialog()
each_dialog = pytest.mark.parametrize("dialog", DIALOGS, ids=lambda it: it.name)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="module")
def context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(autouse=True)
def _no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "new_nonce", lambda: NONCE)


def test_there_are_enough_of_them() -> None:
    """More than a hundred strange servers are kept as dialogs."""
    assert len(DIALOGS) >= 125


@each_dialog
def test_at_every_split(dialog: Dialog) -> None:
    """The engine tells the same, wherever the server's octets are cut in two."""
    whole = replay(dialog, set())
    length = longest_run(dialog)
    for cut in range(1, length, max(1, length // MOST_SPLITS)):
        assert whole == replay(dialog, {cut})


@each_dialog
def test_octet_by_octet(dialog: Dialog) -> None:
    """The engine tells the same when the server's octets come one by one."""
    assert replay(dialog, set()) == replay(dialog, None)


@each_dialog
def test_through_a_session(
    dialog: Dialog, ca_file: Path, context: ssl.SSLContext
) -> None:
    """A session sends what the dialog says, and the mail is what must result."""
    assert (dialog.results, []) == act(dialog, ca_file, context)


@each_dialog
def test_through_a_session_that_dribbles(
    dialog: Dialog, ca_file: Path, context: ssl.SSLContext
) -> None:
    """The same holds when each segment carries a few octets only."""
    piece = max(1, longest_run(dialog) // 200)
    results, problems = act(dialog, ca_file, context, piece)
    if dialog.racy:
        assert "quit" not in results
    else:
        assert (dialog.results, []) == (results, problems)
