"""
Messages in quarantine: what `popfetchd status` says of them, and `popfetchd retry`.
"""

from __future__ import annotations

import json
import re
import time

import pytest

from popfetchd.errors import AccountLocked
from popfetchd.ledger import AccountLock, Ledger
from popfetchd.maildrop.dialogue import Dialogue, error
from popfetchd.selection import NAMELESS, QUARANTINE_SECONDS
from popfetchd.values import AccountName, UniqueId
from tests.desk import desk, letter
from tests.world import dialogue


ALICE = AccountName("alice")

STRANGE = UniqueId("\x1b[31m\xe9")
"""A unique-id that would colour a terminal."""


def refusing(*unique_ids):
    """
    Return a dialogue that refuses to send the messages of these unique-ids.
    """

    def answer(self, text):
        if self._message(text).unique_id in unique_ids:
            return error("this one \x1b[2J cannot be read")
        return Dialogue._retr(self, text)

    return dialogue(RETR=answer)


@pytest.fixture
def here(tmp_path, capsys):
    """
    Three messages of alice's, of which two fail each time; two visits have been made.
    """
    with desk(tmp_path, capsys) as made:
        made.write(made.account("alice", letter(b"well")), made.account("bob"))
        drop = made.maildrops["alice"]
        drop.deliver(letter(b"bad"), "bad-1")
        drop.deliver(letter(b"worse"), STRANGE)
        made.servers["alice"].dialogue = refusing("bad-1", STRANGE)
        for _ in range(2):
            assert 69 == made.type("fetch", "alice")[0]
        yield made


def failed(here):
    """
    Return what `status` says of single messages, by unique-id.
    """
    code, out, _ = here.type("status", "--json")
    alice, bob = json.loads(out)
    assert (0, []) == (code, bob["failed_messages"])
    return {m["unique_id"]: m for m in alice["failed_messages"]}


def test_status_names_the_messages_that_failed(here):
    """
    Which, since when, how often, when they are tried next, and why; no escape of theirs.
    """
    _, out, _ = here.type("status")
    lines = out.partition("\n\n")[2].splitlines()
    moment = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.split("  +", lines[0]) == [
        "ACCOUNT",
        "UNIQUE-ID",
        "STATE",
        "FAILING SINCE",
        "VISITS",
        "NEXT TRY",
        "WHY",
    ]
    assert re.fullmatch(
        rf"alice +bad-1 +failing +{moment} +2 +next visit +the server refused RETR: .+",
        lines[1],
    )
    assert "\x1b" not in out

    here.type("fetch", "alice")
    _, out, _ = here.type("status")
    assert re.search(rf"bad-1 +quarantined +{moment} +3 +{moment} +the server", out)
    assert "messages in quarantine: 2 (hint: they stay on the server" in out


def test_status_as_json_has_them_whole(here):
    """
    The unique-id as the server gave it, and times as seconds since 1970.
    """
    here.type("fetch", "alice")
    message = failed(here)[STRANGE]
    assert (True, 3) == (message["quarantined"], message["visits"])
    assert message["last"] + QUARANTINE_SECONDS == message["next_try"]
    assert time.time() - 600 < message["failing_since"] <= message["last"]
    assert message["why"].startswith("the server refused RETR: 'this one \\x1b[2J")


def test_retry_lifts_every_quarantine(here):
    """
    They are tried at the next visit, and forgotten once they are archived.
    """
    here.type("fetch", "alice")
    assert 0 == here.type("fetch", "alice")[0]
    here.servers["alice"].dialogue = Dialogue

    code, out, err = here.type("retry", "alice")

    assert (0, "") == (code, err)
    assert re.search(r"^alice +bad-1 +3$", out, re.MULTILINE)
    assert 3 == len(out.splitlines())
    assert "\x1b" not in out
    assert not any(message["quarantined"] for message in failed(here).values())
    assert "quarantine" not in here.type("status")[1].partition("PROBLEM")[2]
    assert 0 == here.type("fetch", "alice")[0]
    assert (3, {}) == (here.archived("alice"), failed(here))


@pytest.mark.parametrize("named", [STRANGE, "\\x1b[31m\xe9"])
def test_retry_lifts_one(here, named):
    """
    Named as the server names it, or as `status` shows it.
    """
    here.type("fetch", "alice")
    code, out, _ = here.type("retry", "alice", named, "--json")
    assert 0 == code
    expected = {"account": "alice", "unique_id": STRANGE, "visits": 3}
    assert [expected] == json.loads(out)
    assert {"bad-1": True, STRANGE: False} == {
        uid: message["quarantined"] for uid, message in failed(here).items()
    }


def test_what_fails_again_counts_from_one(here):
    """
    Three more visits, and it is in quarantine again.
    """
    here.type("fetch", "alice")
    here.type("retry", "alice")
    states = []
    for _ in range(3):
        here.type("fetch", "alice")
        states.append(failed(here)["bad-1"]["quarantined"])
    assert [False, False, True] == states


def test_nothing_to_retry(here):
    """
    An account without quarantine is no mistake; a message that did not fail is.
    """
    assert (0, "", "bob: nothing is in quarantine\n") == here.type("retry", "bob")
    code, out, err = here.type("retry", "alice", "no\x1bne")
    assert (64, "") == (code, out)
    assert "popfetchd: no message no\\x1bne of alice failed\n" in err
    assert "hint: there are: " in err
    assert "\x1b" not in err
    assert "there are: none" in here.type("retry", "bob", "x")[2]
    assert 64 == here.type("retry", "carol")[0]
    assert 64 == here.type("retry")[0]


def test_retry_beside_a_ledger_that_is_open(here):
    """
    A running service has the ledger open: it need not be stopped.
    """
    here.type("fetch", "alice")
    with Ledger(here.directory / "state" / "ledger.db", now=time.time):
        assert 0 == here.type("retry", "alice")[0]


def test_what_has_no_unique_id_fails_and_is_in_no_quarantine(here):
    """
    `status` shows it at each visit; there is nothing that `retry` could lift.
    """
    with Ledger(here.directory / "state" / "ledger.db", now=time.time) as ledger:
        for _ in range(4):
            ledger.fail(AccountName("bob"), [NAMELESS], "it stalls")

    _, out, _ = here.type("status")
    assert re.search(r"bob +\(none\) +failing +\S+ \S+ +4 +next visit +it stalls", out)
    bob = json.loads(here.type("status", "--json")[1])[1]["failed_messages"][0]
    assert (False, 0.0) == (bob["quarantined"], bob["next_try"])
    assert (0, "", "bob: nothing is in quarantine\n") == here.type("retry", "bob")
    assert "there are: none" in here.type("retry", "bob", "x")[2]


def test_retry_waits_for_a_visit(here, monkeypatch):
    """
    While the account is visited nothing is lifted.
    """
    waits = []

    def acquire(self, wait=0.0):
        waits.append(wait)
        raise AccountLocked(ALICE)

    monkeypatch.setattr(AccountLock, "acquire", acquire)
    monkeypatch.setattr(Ledger, "_open", _opened_without_a_lock)
    code, _, err = here.type("retry", "alice")
    assert (75, [1800.0]) == (code, waits)
    assert "is being visited by another popfetchd" in err


def _opened_without_a_lock(self):
    from popfetchd.ledger.database import open_database

    return open_database(self.path)
