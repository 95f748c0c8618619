"""
A glance in the listing's place: what it leaves out, when it is not enough, and that it
hides nothing for good.
"""

from __future__ import annotations

import tempfile

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from hypothesis import given, settings
from hypothesis import strategies as st

from popfetchd.errors import LedgerBehind, UnsafeArchive
from popfetchd.maildrop.dialogue import ALWAYS, Dialogue, Refused, ok
from popfetchd.maildrop.drop import Message
from popfetchd.report import Reporter, Uncounted
from popfetchd.values import DropListing, Habits, Octets, Outcome
from popfetchd.visit import glancing
from popfetchd.visit.glancing import GLANCE_SECONDS, GLANCES, LARGE
from tests.world import SECRET, USER, world


ALICE = "alice"
DAY = 86_400.0
FEW = 3
"""Messages that are many, so that the tests are quick."""


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch):
    monkeypatch.setattr(glancing, "LARGE", FEW)


@pytest.fixture
def here(tmp_path):
    with world(tmp_path) as made:
        yield made


def letters(count, start=0):
    return [b"Subject: %04d\r\n\r\nHello.\r\n" % n for n in range(start, start + count)]


def visited(here, **changes):
    """
    Return a visit's report, and whether it has listed.
    """
    before = len(here.server._wire)
    report = here.visit(**changes)
    sent = b"".join(here.server._wire[before:])
    assert report.unchanged is (b"LIST\r\n" not in sent)
    return report, b"LIST\r\n" in sent


def lists(here, **changes):
    return visited(here, **changes)[1]


def still(here, count=FEW, **changes):
    """
    Bring the maildrop to a stand: *count* messages, all archived.
    """
    here.deliver(*letters(count))
    here.visit(**changes)
    assert not lists(here, **changes)


# -- what it leaves out ---------------------------------------------------------------


def test_a_glance_goes_with_the_login(here):
    """
    Nothing new: one question with the login, QUIT, and no more.
    """
    here.deliver(*letters(FEW))
    here.visit()
    before = len(here.server._wire)
    here.visit()

    login = b"USER %s\r\nPASS %s\r\n" % (USER.encode(), SECRET.encode())
    sent = here.server._wire[before:]
    assert [login + b"CAPA\r\nSTAT\r\nUIDL 3\r\n", b"QUIT\r\n"] == sent


def test_a_glance_is_told_as_it_was(here):
    """
    The report says what the server has, and that nothing waits; so does what is
    remembered, and the log tells that nothing was listed.
    """
    still(here)
    told = []
    log = type(
        "Log", (), {"debug": lambda _self, _event, **fields: told.append(fields)}
    )
    before = here.ledger.state(ALICE)
    report = here.visit()
    Reporter(Uncounted(), log()).visit_ended(before, report)

    octets = sum(map(len, letters(FEW)))
    assert (Outcome.SUCCESS, 0, 0) == (report.outcome, report.archived, report.waiting)
    assert DropListing(FEW, Octets(octets)) == report.drop
    state = here.ledger.state(ALICE)
    assert (FEW, octets, FEW) == (
        state.maildrop_messages,
        state.maildrop_octets,
        state.archived,
    )
    assert here.time == state.last_success
    assert [True] == [fields["unchanged"] for fields in told]


def test_a_glance_looks_at_no_row(here):
    """
    What the ledger knows is not loaded.
    """
    still(here)

    def never(*_args):
        raise AssertionError

    with patch.multiple(here.ledger, known=never, known_apart=never):
        assert not lists(here)


def test_a_ledger_older_than_its_archive_is_told_all_the_same(here):
    """
    A number that the ledger never gave stops the visit before a glance.
    """
    still(here)
    path = here.files("new")[0]
    path.rename(path.with_name(path.name.replace("N1R", "N99R")))

    assert isinstance(here.visit().failure, LedgerBehind)


def test_an_archive_that_is_gone_is_told_all_the_same(here):
    """
    A disk that is not mounted fails the visit as ever.
    """
    still(here)
    (here.directory / "mail").rename(here.directory / "elsewhere")

    assert isinstance(here.visit().failure, UnsafeArchive)


def test_a_small_maildrop_is_listed(here):
    """
    Its listing costs no round trip more than a glance, which would come before it.
    """
    here.deliver(*letters(FEW - 1))
    here.visit()

    assert lists(here)
    assert 200 < LARGE < 1000


def test_without_pipelining_a_glance_is_two_questions(here):
    """
    It is less than the listing all the same.
    """
    here.server._lacks = frozenset({"PIPELINING"})
    still(here)


# -- when it is not enough ------------------------------------------------------------


def test_a_new_message_is_listed_and_archived(here):
    """
    In the same session.
    """
    still(here)
    here.deliver(*letters(1, FEW))
    before = here.server.wire.count(b"PASS ")
    report, listed = visited(here)

    assert (True, 1) == (listed, report.archived)
    assert letters(FEW + 1) == here.archived()
    assert 1 == here.server.wire.count(b"PASS ") - before
    assert not lists(here)


@pytest.mark.parametrize("which", [0, -1])
def test_a_message_that_another_took_away_is_missed(here, which):
    """
    Also the last one, whose UIDL is refused: that is no surprise.
    """
    still(here)
    gone = here.maildrop.messages[which]
    here.maildrop.remove({gone})
    before = here.server.wire.count(b"PASS ")
    report, listed = visited(here)

    assert (True, Outcome.SUCCESS, FEW - 1) == (
        listed,
        report.outcome,
        report.drop.messages,
    )
    assert 1 == here.server.wire.count(b"PASS ") - before


def test_another_message_in_the_last_ones_place_is_seen(here):
    """
    As many messages, of as many octets: but another unique-id.
    """
    still(here)
    here.maildrop.remove({here.maildrop.messages[-1]})
    here.deliver(*letters(1, FEW))
    report, listed = visited(here)

    assert (True, 1) == (listed, report.archived)


def test_each_twelfth_visit_lists(here):
    """
    However often a glance was enough.
    """
    here.deliver(*letters(FEW))
    here.visit()
    every = [lists(here) for _ in range(2 * (GLANCES + 1))]

    assert 2 * [*GLANCES * [False], True] == every


def test_after_some_hours_a_visit_lists(here):
    """
    However seldom the visits are; and when the clock was set back.
    """
    still(here)
    here.time += GLANCE_SECONDS
    assert lists(here)
    assert not lists(here)
    here.time -= DAY
    assert lists(here)


def test_what_comes_due_is_listed_and_removed(here):
    """
    At the first visit after its time.
    """
    wait = 3600.0
    still(here, delete_after=wait)
    here.time += wait
    report, listed = visited(here, delete_after=wait)

    assert (True, FEW) == (listed, report.removed)


def test_a_session_that_removes_is_followed_by_a_listing(here):
    """
    Whether it has removed what it marked, the next listing tells.
    """
    wait = 3600.0
    here.deliver(*letters(1))
    here.visit(delete_after=wait)
    here.time += wait
    here.deliver(*letters(FEW, 1))
    here.visit(delete_after=wait)

    assert lists(here, delete_after=wait)
    assert not lists(here, delete_after=wait)


@pytest.mark.parametrize(
    "habits", [Habits(hides_retrieved=True), Habits(lists_partly=True)], ids=str
)
def test_what_hides_or_lists_partly_is_listed(here, habits):
    """
    Its listing is never complete.
    """
    here.deliver(*letters(FEW))
    here.visit(habits=habits)

    assert lists(here, habits=habits)


def test_what_is_too_large_is_listed_each_time(here):
    """
    What waits is looked at, and told, at each visit.
    """
    here.deliver(*letters(FEW), b"Subject: large\r\n\r\n" + b"x" * 200 + b"\r\n")
    for _ in range(2):
        report, listed = visited(here, max_message_size=Octets(100))
        assert (True, 1) == (listed, report.waiting)

    assert lists(here)  # another limit, all of it
    assert FEW + 1 == len(here.archived())


def test_what_fails_is_listed_each_time(here):
    """
    What is in quarantine, too, until its day has come.
    """
    here.deliver(*letters(FEW), unique_id=None)
    here.visit()
    here.ledger.fail(ALICE, [here.maildrop.messages[0].unique_id], "broken")

    assert lists(here)


def test_what_is_damaged_is_listed_and_fetched_again(here):
    """
    A copy that verifying found damaged waits for no listing to come by itself.
    """
    still(here)
    (row,) = here.rows("id")[0]
    here.ledger.damage([row])
    (here.files("new")[0]).unlink()
    report, listed = visited(here)

    assert (True, 1) == (listed, report.archived)


def test_messages_that_share_a_unique_id_are_listed(here):
    """
    Nothing tells them apart.
    """
    here.deliver(*letters(FEW), unique_id="same")
    here.visit()
    here.visit()

    assert lists(here)


def scan(tell):
    def answer(self, argument):
        if argument:
            return Dialogue._scan(self, argument, lambda m: m.unique_id)
        lines = (tell(int(n), m) for n, m in self._kept())
        return ok("") + b"".join(line for line in lines if line) + b".\r\n"

    return answer


@pytest.mark.parametrize(
    "tell",
    [
        lambda n, _m: b"%d %d\r\n" % (n, n),
        lambda n, m: b"%d %s\r\n" % (n, m.unique_id.encode()) if n > 1 else b"",
        lambda n, m: b"%d %s\r\n" % (2 * n, m.unique_id.encode()),
    ],
    ids=["numbers", "not all", "with gaps"],
)
def test_a_listing_that_is_not_whole_is_no_stand(here, tell):
    """
    Each message has a number, from 1 on, octets and a unique-id, or all are listed anew.
    """
    here.deliver(*letters(FEW))
    here.speak(UIDL=scan(tell))
    here.visit()

    assert lists(here)


def test_a_pause_of_removals_lists(here):
    """
    What it waits for is matched by listings alone.
    """
    still(here)
    state = here.ledger.state(ALICE)
    left = here.ledger.recollection(ALICE)
    here.ledger.save_visit(ALICE, replace(state, removals_paused=True), left)

    assert lists(here)


def test_another_configuration_lists(here):
    """
    What was settled by other rules is looked at by these.
    """
    still(here)

    assert lists(here, max_message_size=Octets(10_000))


def test_a_rebuilt_account_lists(here):
    """
    Nothing is left from before.
    """
    still(here)
    here.ledger.save_visit(ALICE, here.ledger.state(ALICE), None)

    assert lists(here)


def _refusing(text):
    def answer(_self, _argument):
        raise Refused(text)

    return answer


def test_a_refused_stat_is_met_by_the_usual_way(here):
    """
    On the short way it may have come too soon; elsewhere the server has its reason.
    """
    still(here)
    here.speak(STAT=_refusing("[SYS/TEMP] no"))
    assert "sys_temp" == here.visit().failure.reason
    here.speak()
    here.visit()
    assert not lists(here)
    here.speak(STAT=_refusing("no"))
    before = here.server.wire.count(b"PASS ")
    assert "protocol" == here.visit().failure.reason
    assert 2 == here.server.wire.count(b"PASS ") - before
    assert lists(here)


def test_a_glance_without_quit_leaves_no_stand(here):
    """
    Not even where it is remembered that the short way had failed.
    """
    still(here)
    left = here.ledger.recollection(ALICE)
    left = replace(left, trusted=False)
    here.ledger.save_visit(ALICE, here.ledger.state(ALICE), left)
    here.speak(QUIT=lambda self, _text: self.close() or b"")
    report, listed = visited(here)
    here.speak()

    assert (Outcome.FAILURE, False) == (report.outcome, listed)
    assert left.warning == here.ledger.recollection(ALICE)
    assert lists(here)


def test_a_login_floor_leaves_nothing(here):
    """
    Such a server is visited seldom, and listed each time.
    """
    here.deliver(*letters(FEW))
    lines = b"PIPELINING\r\nLOGIN-DELAY 30\r\n.\r\n"
    here.server.dialogue = type("Slow", (Dialogue,), {})
    here.server.dialogue.COMMANDS = Dialogue.COMMANDS | {
        "CAPA": (ALWAYS, lambda _self, _text: ok("") + lines)
    }
    here.visit()

    assert lists(here)


# -- nothing is hidden for good -------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(0, 9), st.sampled_from([0, 0, 7])),
        st.tuples(st.just("lose"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("swap"), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("visit"), st.just(0), st.just(0)),
    ),
    max_size=12,
)


def act(here, step, at, more, number):
    messages = here.maildrop._messages
    octets = b"Subject: %04d\r\n\r\nHello.%s\r\n" % (
        number,
        b"." * more * (step != "swap"),
    )
    if step == "visit":
        return here.visit()
    if step in {"lose", "swap"} and messages:
        messages.pop(at % len(messages))
    if step in {"deliver", "swap"}:
        place = more if step == "swap" else at
        messages.insert(place % (len(messages) + 1), Message(f"u{number}", octets))
    return None


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_no_message_is_hidden_for_good(steps):
    """
    Whatever comes and goes, wherever the server lists it: what is in the maildrop is in
    the archive once, after as many visits as may go without a listing, and never twice.
    """
    with tempfile.TemporaryDirectory() as folder, world(Path(folder)) as here:
        here.deliver(*letters(FEW, 5000))
        here.visit()
        for number, (step, at, more) in enumerate(steps):
            act(here, step, at, more, number)
        for _ in range(GLANCES + 1):
            report = here.visit()
            assert Outcome.SUCCESS == report.outcome
        archived = here.archived()
        assert len(set(archived)) == len(archived)
        assert set(here.waiting()) <= set(archived)
