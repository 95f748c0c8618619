"""
A server with two forms of one message (RFC 6856): which is archived, and what if it
changes its mind.
"""

from __future__ import annotations

import pytest

from popfetchd.maildrop.dialogue import (
    AFTER_LOGIN,
    BEFORE_LOGIN,
    Dialogue,
    multiline,
    ok,
    top,
)
from popfetchd.values import Outcome
from tests.world import world


@pytest.fixture
def here(tmp_path):
    with world(tmp_path) as made:
        yield made


HEADER = (
    "Received: from a by b; Mon, 2 Nov 2026 10:00:00 +0000\r\n"
    "Message-ID: <1@example.net>\r\n"
    "Date: Mon, 2 Nov 2026 09:59:59 +0000\r\n"
)
BODY = "\r\nGrüße\r\n"
ORIGINAL = f"{HEADER}From: m@example.net\r\nSubject: Grüße\r\n{BODY}".encode()
SURROGATE = f"{HEADER}From: m@example.net\r\nSubject: Gr??e\r\n{BODY}".encode()


class TwoForms(Dialogue):
    """
    Sends a message as it is in UTF-8 mode, and its surrogate otherwise.
    """

    announces = True
    utf8 = False

    def _capa(self, argument):
        told = super()._capa(argument)
        return told.replace(b"\r\n.", b"\r\nUTF8\r\n.") if self.announces else told

    def _utf8(self, _argument):
        self.utf8 = True
        return ok("UTF8")

    def _form(self, number):
        return self._message(number).octets if self.utf8 else SURROGATE

    def _retr(self, argument):
        return ok("") + multiline(self._form(argument))

    def _top(self, argument):
        number, _, lines = argument.partition(" ")
        return ok("") + multiline(top(self._form(number), int(lines)))

    COMMANDS = Dialogue.COMMANDS | {
        "CAPA": (BEFORE_LOGIN | AFTER_LOGIN, _capa),
        "UTF8": (BEFORE_LOGIN, _utf8),
        "RETR": (AFTER_LOGIN, _retr),
        "TOP": (AFTER_LOGIN, _top),
    }


class Silent(TwoForms):
    """
    The same, which no longer announces UTF8.
    """

    announces = False


def test_the_message_itself_is_archived(here):
    """
    Where UTF8 is announced, the archive holds the message and not its surrogate, and only
    then it leaves the server.
    """
    here.server.dialogue = TwoForms
    here.deliver(ORIGINAL)
    report = here.visit(delete_after=0.0)
    assert (Outcome.SUCCESS, 1, 1) == (report.outcome, report.archived, report.removed)
    assert [ORIGINAL] == here.archived()


@pytest.mark.parametrize("before", [TwoForms, Silent])
def test_a_server_that_changes_its_mind(here, before):
    """
    What was archived in one form is not archived again in the other, nor removed for it.
    """
    here.server.dialogue = before
    here.deliver(ORIGINAL)
    here.visit()
    here.server.dialogue = Silent if before is TwoForms else TwoForms
    for _ in range(2):
        report = here.visit(delete_after=0.0)
        assert (0, 0) == (report.archived, report.removed)
    assert [ORIGINAL] == here.waiting()
    assert 1 == len(here.archived())


def test_a_surrogate_of_another_sender_is_a_message_of_its_own(here):
    """
    Where not even From stays the same, both forms are archived before either is removed.
    """
    here.server.dialogue = TwoForms
    original = ORIGINAL.replace(b"m@example", "mü@example".encode())
    here.deliver(original)
    here.visit()
    here.server.dialogue = Silent
    here.visit(delete_after=0.0)
    assert sorted([original, SURROGATE]) == here.archived()
