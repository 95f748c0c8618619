"""
The short way to a maildrop: what it saves, and that nothing is lost where it fails.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from popfetchd.errors import AuthenticationRefused, Disconnected, InUse
from popfetchd.ledger.recollecting import recollection_of
from popfetchd.maildrop.dialogue import ALWAYS, BEFORE_LOGIN, Dialogue, Refused, ok
from popfetchd.values import (
    Habits,
    InlineSecret,
    Login,
    Mechanism,
    Outcome,
    Secret,
)
from popfetchd.visit.arriving import REMEMBERED
from tests.world import SECRET, USER, world


DAY = 86_400.0

ALICE = "alice"

AT_ONCE = b"USER %s\r\nPASS %s\r\nCAPA\r\nUIDL\r\nLIST\r\n" % (
    USER.encode(),
    SECRET.encode(),
)


@pytest.fixture
def here(tmp_path):
    with world(tmp_path) as made:
        yield made


def letters(count, start=0):
    return [b"Subject: %04d\r\n\r\nHello.\r\n" % n for n in range(start, start + count)]


def visited(here, **changes):
    """
    Return a visit's report, and what it sent in each of its segments.
    """
    before = len(here.server._wire)
    report = here.visit(**changes)
    return report, here.server._wire[before:]


def short(sent):
    return AT_ONCE in sent


def logins(sent):
    return b"".join(sent).count(b"PASS ")


# -- the way --------------------------------------------------------------------------


def test_the_second_visit_sends_login_and_listing_at_once(here):
    """
    The first visit asks; the second knows, and archives as well as the first.
    """
    here.deliver(*letters(2))
    first, asked = visited(here)
    here.deliver(*letters(2, 2))
    second, sent = visited(here)

    assert (2, 2) == (first.archived, second.archived)
    assert (False, True) == (short(asked), short(sent))
    assert [AT_ONCE, b"RETR 3\r\nRETR 4\r\nNOOP\r\n", b"QUIT\r\n"] == sent
    assert letters(4) == here.archived()


def test_plain_goes_ahead_with_its_initial_response(here):
    """
    AUTH, CAPA and the listing are one write where AUTO takes PLAIN.
    """
    login = Login(USER, InlineSecret(Secret(SECRET)), Mechanism.AUTO)
    here.visit(login=login)
    _, sent = visited(here, login=login)

    assert sent[0].startswith(b"AUTH PLAIN ")
    assert sent[0].endswith(b"\r\nCAPA\r\nUIDL\r\nLIST\r\n")


def test_an_account_that_was_never_visited_begins_from_its_servers_other(here):
    """
    What is said before a login is said to all; wherever that fails, as ever.
    """
    here.visit()
    assert short(visited(here, name="bob")[1])
    here.ledger.save_visit("bob", here.ledger.state("bob"), None)
    assert not short(visited(here, name="bob")[1])

    other = replace(here.account.server, timeout=4.0)
    floor = Habits(login_floor=1.0)
    assert not short(visited(here, name="carol", server=other)[1])
    assert not short(visited(here, name="dave", habits=floor)[1])


def test_a_server_that_surprised_one_is_not_tried_by_the_next(here):
    """
    Where the usual way led there after the short one had not.
    """
    here.visit()
    here.server.dialogue = type("Harm", (Hasty,), {"harm": _hangs_up})
    reports = [visited(here, name=name) for name in ("bob", "carol")]

    assert [None, None] == [report.failure for report, _ in reports]
    assert [True, False] == [short(sent) for _, sent in reports]


@pytest.mark.parametrize(
    "changes",
    [
        {"server": "another timeout"},
        {"max_message_size": 1000},
        {"login": Login(USER, InlineSecret(Secret(SECRET)), Mechanism.PLAIN)},
    ],
    ids=str,
)
def test_a_changed_configuration_begins_anew(here, changes):
    """
    What was learnt with one configuration says nothing of another.
    """
    if "server" in changes:
        changes = {"server": replace(here.account.server, timeout=4.0)}
    here.visit()
    _, sent = visited(here, **changes)

    assert b"CAPA\r\n" == sent[0]


def test_a_week_later_the_server_is_asked_again(here):
    """
    However often the short way was taken: it may have learnt a better mechanism.
    """
    here.visit()
    for _ in range(6):
        here.time += DAY
        assert short(visited(here)[1])
    here.time += DAY

    assert not short(visited(here)[1])
    assert short(visited(here)[1])


def test_a_clock_that_was_set_back_begins_anew(here):
    """
    What was learnt in the future is not believed.
    """
    here.visit()
    here.time -= DAY

    assert not short(visited(here)[1])


def test_what_the_listing_tells_replaces_what_was_known(here):
    """
    PIPELINING that is gone is gone for the next visit; this one ends well.
    """
    here.visit()
    here.deliver(*letters(2))
    here.speak(CAPA=lambda _self, _text: ok("") + b"TOP\r\n.\r\n")
    here.server.dialogue.COMMANDS |= {"CAPA": (ALWAYS, _capabilities(b"TOP"))}
    report, sent = visited(here)

    assert short(sent)
    assert (Outcome.SUCCESS, 2) == (report.outcome, report.archived)
    assert [b"RETR 1\r\n", b"RETR 2\r\n", b"NOOP\r\n"] == sent[1:4]
    assert [b"USER alice@example.net\r\n"] == visited(here)[1][:1]


def _capabilities(*lines):
    return lambda _self, _text: ok("") + b"\r\n".join([*lines, b".", b""])


@pytest.mark.parametrize(
    "lacks", ["PIPELINING", "CAPA", "UIDL"], ids=lambda it: f"without {it}"
)
def test_a_server_that_lacks_something_is_asked_each_time(here, lacks):
    """
    Nothing is sent ahead to a server that does not announce it, or refuses a listing.
    """
    here.server._lacks = frozenset({lacks})
    here.deliver(*letters(2))
    here.visit()
    report, sent = visited(here)

    assert Outcome.SUCCESS == report.outcome
    assert not short(sent)
    assert letters(2) == here.archived()


def test_a_login_floor_keeps_to_the_usual_way(here):
    """
    A second login could not follow the first, be it known or announced.
    """
    here.visit(habits=Habits(login_floor=30.0))
    assert not short(visited(here, habits=Habits(login_floor=30.0))[1])

    lines = (b"PIPELINING", b"LOGIN-DELAY 30")
    here.server.dialogue = type("Slow", (Dialogue,), {})
    here.server.dialogue.COMMANDS = Dialogue.COMMANDS | {
        "CAPA": (ALWAYS, _capabilities(*lines))
    }
    here.visit()
    assert not short(visited(here)[1])


def test_a_session_without_quit_leaves_nothing(here):
    """
    A server may need a while to see that we have gone: the next visit takes its time.
    """
    here.deliver(*letters(1))
    here.visit()
    here.deliver(*letters(1, 1))
    here.speak(RETR=_refusing("[SYS/TEMP] not now"))
    here.visit()
    here.speak()

    assert not short(visited(here)[1])


def _refusing(text):
    def answer(_self, _argument):
        raise Refused(text)

    return answer


# -- surprises ------------------------------------------------------------------------


class Hasty(Dialogue):
    """
    A server that announces PIPELINING, and does *harm* to what comes with a login.
    """

    harm = None

    def receive(self, octets):
        if octets.count(b"\r\n") > 1 and b"PASS" in octets:
            octets = self.harm(octets)
        return super().receive(octets)


def _drops_the_rest(_self, octets):
    first, second, *_ = octets.split(b"\r\n")
    return first + b"\r\n" + second + b"\r\n"


def _hangs_up(self, _octets):
    self.close()
    return b""


def _drops_the_listing(_self, octets):
    return octets.replace(b"UIDL\r\nLIST\r\n", b"QUIT\r\n")


def _takes_the_listing_first(_self, octets):
    return octets.replace(b"USER", b"UIDL\r\nUSER", 1)


def _refuses_the_login(_self, octets):
    return octets.replace(b"PASS ", b"PASS not-")


def _knows_no_listing(_self, octets):
    return octets.replace(b"UIDL", b"XIDL")


def _knows_no_capa(_self, octets):
    return octets.replace(b"CAPA", b"XAPA")


HARMS = (
    _drops_the_rest,
    _hangs_up,
    _drops_the_listing,
    _takes_the_listing_first,
    _knows_no_listing,
    _knows_no_capa,
)


@pytest.mark.parametrize("harm", HARMS, ids=lambda it: it.__name__)
def test_a_surprise_is_met_by_the_usual_way_in_the_same_visit(here, harm):
    """
    The visit archives what there is; the short way is not tried again for a week.
    """
    here.deliver(*letters(2))
    server = replace(here.account.server, timeout=0.5)
    here.visit(server=server)
    here.deliver(*letters(2, 2))
    here.server.dialogue = type("Harm", (Hasty,), {"harm": harm})

    report, sent = visited(here, server=server)

    assert (Outcome.SUCCESS, 2) == (report.outcome, report.archived)
    assert letters(4) == here.archived()
    assert short(sent)
    assert 2 == logins(sent)
    assert report.surprise
    for _ in range(3):
        report, sent = visited(here, server=server)
        assert (Outcome.SUCCESS, 1) == (report.outcome, logins(sent))
        assert not short(sent)
        assert not report.surprise
    here.time += REMEMBERED
    here.server.dialogue = Dialogue
    visited(here, server=server)
    assert short(visited(here, server=server)[1])


@pytest.mark.parametrize("at", [0, 1], ids=["at once", "in the next visit"])
def test_what_fails_besides_does_not_make_the_short_way_good(here, at):
    """
    A server that is busy with the session it has dropped refuses the next one: that the
    short way failed is known all the same, or each second visit would fail for good.
    """
    here.visit()
    harmed = type("Harm", (Hasty,), {"harm": _hangs_up})
    commands = {"PASS": (BEFORE_LOGIN, _refusing("[IN-USE] wait"))}
    busy = type("Busy", (harmed,), {"COMMANDS": Dialogue.COMMANDS | commands})
    failures = []
    for visit in range(2):
        here.server.dialogue = busy if visit == at else harmed
        failures.append(visited(here)[0].failure)

    assert isinstance(failures[at], InUse)
    here.server.dialogue = harmed
    assert [False] * 3 == [short(visited(here)[1]) for _ in range(3)]
    here.time += REMEMBERED
    here.server.dialogue = Dialogue
    here.visit()
    assert short(visited(here)[1])


def refusing_logins(text):
    """
    Return a dialogue whose PASS is refused with *text*.
    """
    commands = {"PASS": (BEFORE_LOGIN, _refusing(text))}
    return type("No", (Dialogue,), {"COMMANDS": Dialogue.COMMANDS | commands})


def test_wrong_credentials_are_believed_at_once(here):
    """
    [AUTH] means what it says: one login, and no second one that might lock the account.
    """
    here.visit()
    here.server.dialogue = refusing_logins("[AUTH] wrong password")
    report, sent = visited(here)

    assert isinstance(report.failure, AuthenticationRefused)
    assert (True, 1) == (short(sent), logins(sent))


def test_a_refusal_without_a_code_costs_one_more_login_once(here):
    """
    It may come of the short way; the usual way tells, and is what the next visit takes.
    """
    here.visit()
    here.server.dialogue = refusing_logins("no")
    report, sent = visited(here)

    assert isinstance(report.failure, AuthenticationRefused)
    assert 2 == logins(sent)
    assert 1 == logins(visited(here)[1])
    assert 2 == here.ledger.state(ALICE).consecutive_failures


def test_a_refusal_that_comes_of_the_short_way_is_no_failure(here):
    """
    The usual way logs in: nothing is reported, and no back-off begins.
    """
    here.visit()
    here.server.dialogue = type("Harm", (Hasty,), {"harm": _refuses_the_login})
    commands = {"PASS": (BEFORE_LOGIN, _password_without_code)}
    here.server.dialogue.COMMANDS = Dialogue.COMMANDS | commands
    report, sent = visited(here)

    assert (None, 2) == (report.failure, logins(sent))
    assert 0 == here.ledger.state(ALICE).consecutive_failures


def _password_without_code(self, text):
    with suppress(Refused):
        return Dialogue._password(self, text)
    raise Refused("wrong")


def test_what_a_server_says_of_itself_is_believed_at_once(here):
    """
    [IN-USE] means what it says, too.
    """
    here.visit()
    here.server.dialogue = refusing_logins("[IN-USE] another session")
    report, sent = visited(here)

    assert isinstance(report.failure, InUse)
    assert 1 == logins(sent)


def test_no_second_way_is_begun_once_a_stop_is_asked_for(here):
    """
    What went wrong on the short way ends the visit then.
    """
    here.visit()

    def stopping(self, octets):
        here.stop.set()
        return _hangs_up(self, octets)

    here.server.dialogue = type("Harm", (Hasty,), {"harm": stopping})
    report, sent = visited(here)

    assert isinstance(report.failure, Disconnected)
    assert 1 == logins(sent)


# -- what is kept ---------------------------------------------------------------------


def test_no_secret_is_kept(here):
    """
    A server that echoes the password in CAPA gets none of that into the ledger.
    """

    def echoing(self, text):
        return ok("") + b"PIPELINING\r\nX-YOU " + SECRET.encode() + b"\r\n.\r\n"

    here.server.dialogue = type("Echo", (Dialogue,), {})
    here.server.dialogue.COMMANDS = Dialogue.COMMANDS | {"CAPA": (ALWAYS, echoing)}
    here.visit()

    assert here.ledger.recollection(ALICE) is None


@pytest.mark.parametrize("secret", ["PLAIN", "SASL", "A", "PIPELINING", "5"])
def test_a_password_that_is_a_word_of_the_server_weakens_no_login(here, secret):
    """
    What is remembered without it would be of another server, which lacks a mechanism.
    """
    here.maildrop.secret = Secret(secret)
    login = Login(USER, InlineSecret(Secret(secret)), Mechanism.AUTO)
    sent = [visited(here, login=login, name=name)[1] for name in ("a", "a", "b")]

    assert [True] * 3 == [b"AUTH PLAIN " in b"".join(each) for each in sent]


def test_a_talkative_server_is_asked_each_time(here):
    """
    Nobody fills the ledger with capabilities.
    """
    lines = [b"PIPELINING", *(b"X-%0100d" % n for n in range(100))]
    here.server.dialogue = type("Talk", (Dialogue,), {})
    here.server.dialogue.COMMANDS = Dialogue.COMMANDS | {
        "CAPA": (ALWAYS, _capabilities(*lines))
    }
    here.visit()

    assert here.ledger.recollection(ALICE) is None


@pytest.mark.parametrize(
    "text", [None, "", "null", "[]", "{", '{"announced": 1}', '{"announced": {}}', "7"]
)
def test_what_cannot_be_read_is_no_recollection(text):
    """
    Whatever stands in the ledger, the visit asks, and goes on.
    """
    assert recollection_of(text) is None
