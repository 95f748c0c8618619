"""
Visits to strange servers: one poisoned message, swapped numbers, Gmail's hiding.

Rules of this file:

- What a server does to its poisoned message it does each time.
- Whatever it does: each other message is archived exactly once, the poisoned one is
  quarantined and shown, and nothing leaves the listing that is not in the archive.
"""

from __future__ import annotations

import errno
import itertools

from dataclasses import replace
from hashlib import sha256

import pytest

from popfetchd.errors import DiskFull
from popfetchd.maildrop.dialogue import Dialogue, State, error, ok
from popfetchd.metrics import Metrics, Watched
from popfetchd.report import standing
from popfetchd.selection import NAMELESS, QUARANTINE_SECONDS
from popfetchd.values import Habits, Outcome, Skip
from tests.world import world


GMAIL = Habits(hides_retrieved=True, lists_partly=True)

WINDOW = 250
"""Messages that one of Gmail's sessions lists (265 were seen, too)."""

POISON = b"body of 0099"

IMPATIENT = 0.3
"""Seconds that a step may take here: a server that stalls does so for ever."""


@pytest.fixture
def here(tmp_path):
    with world(tmp_path) as made:
        server = replace(made.account.server, timeout=IMPATIENT)
        made.account = replace(made.account, server=server)
        yield made


def letters(count):
    """
    Return messages of different content and the same length.
    """
    head = b"Subject: %04d\r\nMessage-ID: <%d@example.net>\r\n\r\n"
    return [
        (head + b"body of %04d\r\n" * 3) % (n, 10_000 + n, n, n, n)
        for n in range(count)
    ]


# -- what a server does to one message ------------------------------------------------


def stalls(self, octets):
    self._answer = lambda _line: b""
    return ok("message follows") + octets[:70]


def refuses(_self, _octets):
    return error("this message cannot be read")


def refuses_with_a_code(_self, _octets):
    return error("[SYS/TEMP] internal error")


def drops_the_line(self, octets):
    self.close()
    return ok("message follows") + octets[:70]


def sends_nonsense(_self, _octets):
    return b"* 1 FETCH (\xff\x00\r\n"


def sends_nonsense_behind(_self, octets):
    return ok("message follows") + octets + b".\r\nand more of it\r\n.\r\n"


EVERY_POISON = [
    stalls,
    refuses,
    refuses_with_a_code,
    drops_the_line,
    sends_nonsense,
    sends_nonsense_behind,
]


def poisoned(poison):
    """
    Return RETR of a server that does *poison* to the message that holds POISON.
    """

    def answer(self, text):
        octets = self._message(text).octets
        if POISON in octets:
            return poison(self, octets)
        return Dialogue._retr(self, text)

    return answer


def visits(here, **changes):
    """
    Visit until a visit goes well; return the reports.
    """
    reports = []
    while len(reports) < 6:
        reports.append(here.visit(**changes))
        if reports[-1].outcome is Outcome.SUCCESS:
            return reports
    pytest.fail("the visits come to no end")


def shown(here):
    """
    Return what `status` says of the account, and Prometheus of its quarantine.
    """
    state = here.ledger.state("alice")
    metrics = Metrics()
    metrics.set_accounts({here.account.name: Watched(state, 300.0)})
    name = b'popfetchd_account_messages_quarantined{account="alice"} '
    count = metrics.page().partition(b"\n" + name)[2].partition(b"\n")[0]
    return [*(what for what, _ in standing(state, here.time)), float(count)]


def assert_exactly_once(here, sent):
    """
    Check that *sent*, and nothing else, is in the archive, each once.
    """
    archived = here.archived()
    assert sorted(sent) == archived
    assert len(sent) == len(here.rows()) == len(here.files("new"))


# -- one poisoned message among 200 ---------------------------------------------------


@pytest.mark.parametrize("poison", EVERY_POISON)
def test_one_poisoned_message_among_200(here, poison):
    """
    199 are archived once and removed; the poisoned one is quarantined, and retried daily.
    """
    sent = letters(200)
    here.deliver(*sent)
    here.speak(RETR=poisoned(poison))

    reports = visits(here, delete_after=0.0)

    assert len(reports) <= 4
    well = [octets for octets in sent if POISON not in octets]
    assert_exactly_once(here, well)
    assert 199 == sum(report.archived for report in reports)
    assert 199 == sum(report.removed for report in reports)
    assert [sent[99]] == here.waiting()
    last = reports[-1]
    assert (Outcome.SUCCESS, 1) == (last.outcome, last.quarantined)
    assert {Skip.QUARANTINED: 1} == last.skipped
    assert ["messages in quarantine: 1", 1.0] == shown(here)

    here.time += QUARANTINE_SECONDS
    assert 1 == len(here.visit(delete_after=0.0).failed_messages)
    here.speak()
    assert 0 == here.visit().archived  # it rests for another day
    here.time += QUARANTINE_SECONDS
    assert (1, 0) == _archived_and_quarantined(here.visit(delete_after=0.0))
    assert_exactly_once(here, sent)


def _archived_and_quarantined(report):
    return report.archived, report.quarantined


def test_three_poisoned_messages_hold_up_nobody(here):
    """
    Each costs the visits that find it; the others are archived once all the same.
    """
    sent = letters(40)
    here.deliver(*sent)
    bad = (sent[0], sent[17], sent[39])

    def answer(self, text):
        octets = self._message(text).octets
        return stalls(self, octets) if octets in bad else Dialogue._retr(self, text)

    here.speak(RETR=answer)

    for _ in range(4):
        here.visit(delete_after=0.0)

    assert_exactly_once(here, [octets for octets in sent if octets not in bad])
    assert sorted(bad) == here.waiting()
    for _ in range(6):
        here.visit(delete_after=0.0)
    assert 3 == here.ledger.state("alice").quarantined


def no_unique_ids():
    return lambda *_: error("unknown command")


def one_unique_id():
    return lambda self, text: self._scan(text, lambda _: "the-same")


def new_unique_ids():
    sessions = itertools.count()

    def answer(self, text):
        session = next(sessions)
        return self._scan(text, lambda message: f"{session}-{message.unique_id}")

    return answer


@pytest.mark.parametrize("naming", [no_unique_ids, one_unique_id, new_unique_ids])
@pytest.mark.parametrize("poison", [stalls, drops_the_line, sends_nonsense_behind])
def test_a_poisoned_message_without_a_name_holds_up_nobody(here, naming, poison):
    """
    Where no unique-id tells which it is, those behind it are archived all the same, and
    `status` shows that there is one until there is none.
    """
    sent = letters(120)
    here.deliver(*sent)
    here.speak(RETR=poisoned(poison), UIDL=naming())

    here.visit()
    here.visit()

    assert_exactly_once(here, [octets for octets in sent if POISON not in octets])
    for _ in range(3):
        assert Outcome.FAILURE is here.visit().outcome
    assert 0 == here.ledger.state("alice").quarantined
    assert here.ledger.failures("alice")

    here.speak(UIDL=no_unique_ids())
    assert Outcome.SUCCESS is here.visit().outcome
    assert_exactly_once(here, sent)
    assert NAMELESS not in here.ledger.failures("alice")


@pytest.mark.parametrize("naming", [no_unique_ids, new_unique_ids])
def test_a_poisoned_header_without_a_name_holds_up_nobody(here, naming):
    """
    There TOP tells what is archived already. A message that breaks the session at TOP,
    too, does so before any RETR in one visit only; the next ones ask for no TOP.
    """
    sent = letters(120)
    here.deliver(*sent[:60])
    here.speak(UIDL=naming())
    here.visit()
    here.deliver(*sent[60:])

    def answer(self, text):
        octets = self._message(text.split()[0]).octets
        return stalls(self, octets) if POISON in octets else Dialogue._top(self, text)

    here.speak(UIDL=naming(), RETR=poisoned(stalls), TOP=answer)
    for _ in range(8):
        here.visit()

    assert_exactly_once(here, [octets for octets in sent if POISON not in octets])


# -- numbers that change --------------------------------------------------------------


@pytest.mark.parametrize("poison", [None, refuses, drops_the_line])
def test_a_server_that_swaps_numbers_between_sessions(here, poison):
    """
    Each session numbers the messages otherwise: each is archived once, and what is
    removed is what was archived.
    """

    class Swapping(Dialogue):
        sessions = 0

        def _login(self, user, proof, given):
            answer = super()._login(user, proof, given)
            type(self).sessions += 1
            messages = list(self._numbered.values())
            step = type(self).sessions * 7 % len(messages)
            turned = [*messages[step:], *messages[:step]][::-1]
            self._numbered = {str(n): m for n, m in enumerate(turned, 1)}
            return answer

    retr = poisoned(poison) if poison else Dialogue._retr
    answers = {"RETR": (Dialogue.COMMANDS["RETR"][0], retr)}
    Swapping.COMMANDS = Dialogue.COMMANDS | answers
    here.server.dialogue = Swapping
    sent = letters(200)
    here.deliver(*sent)

    reports = visits(here, delete_after=3600.0)
    well = [octets for octets in sent if poison is None or POISON not in octets]
    assert_exactly_once(here, well)
    assert sorted(sent) == here.waiting()
    assert len(well) == sum(report.archived for report in reports)

    here.time += 3600
    assert len(well) == here.visit(delete_after=3600.0).removed
    assert sorted(set(sent) - set(well)) == here.waiting()
    assert_exactly_once(here, well)


# -- Gmail ----------------------------------------------------------------------------


def gmail(retr=Dialogue._retr, capa=(), **answers):
    """
    Return a dialogue that lists the oldest WINDOW messages not retrieved yet, and hides
    what a session has retrieved once it ends with QUIT. *popped* is what it hides.
    """
    hides = set()

    class Gmail(Dialogue):
        popped = hides
        sessions = 0

        def _login(self, user, proof, given):
            answer = super()._login(user, proof, given)
            type(self).sessions += 1
            kept = [m for m in self._maildrop.messages if m not in self.popped]
            self._numbered = {str(n): m for n, m in enumerate(kept[:WINDOW], 1)}
            self.retrieved = set()
            return answer

        def _retr(self, text):
            self.retrieved.add(self._message(text))
            return retr(self, text)

        def _quit(self, text):
            if self._state is State.TRANSACTION:
                self.popped.update(self.retrieved)
            return super()._quit(text)

        def _capa(self, _text):
            tags = ("UIDL", "TOP", "USER", *capa)
            return ok("") + b"".join(b"%s\r\n" % t.encode() for t in tags) + b".\r\n"

    methods = {"RETR": Gmail._retr, "QUIT": Gmail._quit, "CAPA": Gmail._capa}
    methods |= answers
    own = {word: (Dialogue.COMMANDS[word][0], how) for word, how in methods.items()}
    Gmail.COMMANDS = Dialogue.COMMANDS | own
    return Gmail


def hidden(here):
    """
    Return, sorted, the octets of the messages that the server shows no more.
    """
    return sorted(message.octets for message in here.server.dialogue.popped)


def test_gmail_is_drained_in_one_visit(here):
    """
    1,000 messages, 250 to a session: each is retrieved once, archived once, hidden.
    """
    sent = letters(1000)
    here.deliver(*sent)
    here.server.dialogue = gmail()

    report = here.visit(habits=GMAIL)

    assert (Outcome.SUCCESS, 1000, 0) == (
        report.outcome,
        report.archived,
        report.waiting,
    )
    assert_exactly_once(here, sent)
    assert sorted(sent) == hidden(here)
    assert 1000 == here.server.wire.count(b"RETR ")
    assert 5 == here.server.dialogue.sessions
    again = here.visit(habits=GMAIL)
    assert (0, 0, False) == (again.archived, again.matched, again.reset)


@pytest.mark.parametrize("poison", EVERY_POISON)
def test_gmail_with_a_poisoned_message(here, poison):
    """
    999 of 1,000 are archived once and hidden; the poisoned one is quarantined, and never
    hidden.
    """
    sent = letters(1000)
    here.deliver(*sent)
    here.server.dialogue = gmail(poisoned(poison))

    reports = visits(here, habits=GMAIL)

    assert len(reports) <= 4
    well = [octets for octets in sent if POISON not in octets]
    assert_exactly_once(here, well)
    assert sorted(well) == hidden(here)
    assert 999 == sum(report.archived for report in reports)
    assert (1, 1) == (reports[-1].quarantined, here.ledger.state("alice").quarantined)
    assert ["messages in quarantine: 1", 1.0] == shown(here)
    assert not any(report.reset for report in reports)

    here.server.dialogue.COMMANDS |= {
        "RETR": (Dialogue.COMMANDS["RETR"][0], _retrieved_after_all)
    }
    here.time += QUARANTINE_SECONDS
    here.visit(habits=GMAIL)
    assert_exactly_once(here, sent)
    assert sorted(sent) == hidden(here)


def _retrieved_after_all(self, text):
    self.retrieved.add(self._message(text))
    return Dialogue._retr(self, text)


def test_nothing_is_hidden_by_a_disk_that_is_full(here, monkeypatch):
    """
    An archive that fails amid the second session ends it without QUIT: what that session
    retrieved is still listed, and archived once there is room.
    """
    sent = letters(600)
    here.deliver(*sent)
    here.server.dialogue = gmail()
    full = DiskFull("write", "/srv/mail", errno.errorcode[errno.ENOSPC])
    open_archive = here.open_archive

    def filling_up(account, destination):
        archive = open_archive(account, destination)
        write, archive_spool = [], archive.spool

        def spool(listed, number):
            write.append(listed)
            if here.server.dialogue.sessions == 2 and len(write) == 120:
                raise full
            return archive_spool(listed, number)

        archive.spool = spool
        return archive

    with monkeypatch.context():
        here.means = replace(here.means, archive=filling_up)
        report = here.visit(habits=GMAIL)

    assert report.failure is full
    assert sorted(sent[:250]) == hidden(here)
    assert set(hidden(here)) < set(here.archived())

    here.means = replace(here.means, archive=open_archive)
    here.visit(habits=GMAIL)
    assert_exactly_once(here, sent)
    assert sorted(sent) == hidden(here)


def test_a_drain_honours_the_floor_between_logins(here):
    """
    With LOGIN-DELAY a visit is one session; the next visits go on.
    """
    sent = letters(600)
    here.deliver(*sent)
    here.server.dialogue = gmail(capa=("LOGIN-DELAY 60",))

    counts = [here.visit(habits=GMAIL).archived for _ in range(4)]

    assert [250, 250, 100, 0] == counts
    assert_exactly_once(here, sent)


def test_with_a_floor_a_poisoned_message_comes_last_in_the_session(here):
    """
    There is one session to a visit; what failed before is tried in it, until it rests.
    """
    sent = letters(300)
    here.deliver(*sent)
    here.server.dialogue = gmail(poisoned(refuses), capa=("LOGIN-DELAY 60",))

    reports = [here.visit(habits=GMAIL) for _ in range(6)]

    well = [octets for octets in sent if POISON not in octets]
    assert_exactly_once(here, well)
    assert sorted(well) == hidden(here)
    assert 1 == reports[-1].quarantined


def test_equal_messages_on_gmail_are_two(here):
    """
    A copy that comes when the first one is hidden is a message of its own.
    """
    sent = letters(260)
    here.deliver(*sent, sent[3])
    here.server.dialogue = gmail()

    assert 261 == here.visit(habits=GMAIL).archived
    assert sorted([*sent, sent[3]]) == here.archived()


def test_new_unique_ids_on_gmail_archive_nothing_again(here):
    """
    What could not be hidden and has another unique-id at the next visit is matched.
    """
    sent = letters(30)
    here.deliver(*sent)
    here.server.dialogue = gmail(QUIT=drops_at_quit)
    here.visit(habits=GMAIL)
    here.maildrop.remove(here.maildrop.messages)
    here.deliver(*sent)
    here.server.dialogue = gmail()

    report = here.visit(habits=GMAIL)

    assert (0, 30, False) == (report.archived, report.matched, report.reset)
    assert_exactly_once(here, sent)
    assert sorted(sent) == hidden(here)


def drops_at_quit(self, _text):
    self.close()
    return b""


def test_what_gmail_shows_again_is_hidden_again(here):
    """
    The owner switched POP on "for all mail": everything is listed once more, and nothing
    archived twice.
    """
    sent = letters(300)
    here.deliver(*sent)
    here.server.dialogue = gmail()
    here.visit(habits=GMAIL)
    here.server.dialogue.popped.clear()

    report = here.visit(habits=GMAIL)

    assert (0, 300) == (report.archived, report.matched)
    assert_exactly_once(here, sent)
    assert sorted(sent) == hidden(here)


@pytest.mark.parametrize(
    ("harm", "trusting", "again"),
    [
        (lambda path: path.write_bytes(b"rot"), False, 20),
        (lambda path: path.write_bytes(b"rot"), True, 0),
        (lambda path: path.unlink(), False, 0),
    ],
    ids=["altered", "altered, and trusted", "thrown away"],
)
def test_what_would_be_hidden_replaces_a_copy_gone_bad(here, harm, trusting, again):
    """
    Its octets may be the last ones; what a person has thrown away does not come back.
    """
    sent = letters(20)
    here.deliver(*sent)
    here.server.dialogue = gmail(QUIT=drops_at_quit)
    here.visit(habits=GMAIL)
    for path in here.files("new"):
        harm(path)
    here.server.dialogue = gmail()

    report = here.visit(habits=GMAIL, trust_archive=trusting)

    assert (again, 20 - again) == (report.archived, report.matched)
    assert 20 == len(here.rows())
    assert sorted(sent) == hidden(here)
    whole = {sha256(path.read_bytes()).digest() for path in here.files("new")}
    assert again == sum(content in whole for (content,) in here.rows("content_digest"))


def test_a_server_that_does_not_hide_is_not_asked_without_end(here):
    """
    Who takes an ordinary server for one that hides retrieves each message twice at most.
    """
    sent = letters(20)
    here.deliver(*sent)

    for _ in range(4):
        here.visit(habits=GMAIL)

    assert 20 == here.server.wire.count(b"RETR ")
    assert_exactly_once(here, sent)


def test_a_hiding_server_without_unique_ids(here):
    """
    Content tells what is archived; nothing is archived twice, hidden or not.
    """
    sent = letters(270)
    here.deliver(*sent)
    here.server.dialogue = gmail(UIDL=lambda *_: error("unknown command"))

    assert 270 == here.visit(habits=GMAIL).archived
    assert_exactly_once(here, sent)

    here.server.dialogue.popped.clear()
    here.visit(habits=GMAIL)
    assert_exactly_once(here, sent)


def test_verified_messages_on_gmail_are_deleted_where_they_are_retrieved(here):
    """
    `delete_after: verified` sends DELE in the session of the RETR.
    """
    sent = letters(260)
    here.deliver(*sent)
    here.server.dialogue = gmail()

    report = here.visit(habits=GMAIL, delete_after=0.0)

    assert (260, 260) == (report.archived, report.removed)
    assert [] == here.waiting()
    assert_exactly_once(here, sent)


# -- others that list a part, or remove what was retrieved ----------------------------


def newest(count):
    """
    Return a dialogue that lists the newest *count* messages, as Wild Duck's does.
    """

    class Newest(Dialogue):
        def _login(self, user, proof, given):
            answer = super()._login(user, proof, given)
            kept = self._maildrop.messages[-count:]
            self._numbered = {str(n): m for n, m in enumerate(kept, 1)}
            return answer

    return Newest


def test_what_a_listing_in_part_does_not_show_has_not_vanished(here):
    """
    Messages that fall out of the listing are no reset; what comes back is known.
    """
    partly = Habits(lists_partly=True)
    sent = letters(60)
    here.deliver(*sent[:30])
    here.server.dialogue = newest(30)
    assert 30 == here.visit(habits=partly).archived
    here.deliver(*sent[30:])

    report = here.visit(habits=partly)
    assert (30, False, False) == (
        report.archived,
        report.reset,
        report.removals_paused,
    )

    here.maildrop.remove(here.maildrop.messages[30:])
    back = here.visit(habits=partly)
    assert (0, 0, 0) == (back.archived, back.matched, back.waiting)
    assert 60 == here.server.wire.count(b"RETR ")
    assert_exactly_once(here, sent)


def test_removing_shows_what_was_not_listed(here):
    """
    Where a part is listed and removed, the visit goes on with what appears.
    """
    sent = letters(70)
    here.deliver(*sent)
    here.server.dialogue = newest(30)

    report = here.visit(habits=Habits(lists_partly=True), delete_after=0.0)

    assert (70, 70, 0) == (report.archived, report.removed, report.waiting)
    assert_exactly_once(here, sent)


def test_expire_0_is_no_reset(here):
    """
    A server that removes what was retrieved has announced it (RFC 2449 section 6.7).
    """
    capa = ("EXPIRE 0",)
    sent = letters(60)
    here.deliver(*sent[:30])
    here.server.dialogue = gmail(capa=capa)
    here.visit()
    here.deliver(*sent[30:])

    report = here.visit()

    assert (30, False, False) == (
        report.archived,
        report.reset,
        report.removals_paused,
    )
    assert_exactly_once(here, sent)


# -- listings and messages of every strange kind --------------------------------------


def scan(tell):
    """
    Return LIST or UIDL of a server that says *tell(number, message)* of each message.
    """

    def answer(self, text):
        if text:
            return error("one at a time is not to be had")
        said = (tell(int(n), m) for n, m in self._kept())
        return ok("") + b"".join(b"%s\r\n" % line for line in said if line) + b".\r\n"

    return answer


STRANGE_SIZES = {
    "zero": lambda n, _m: b"%d 0" % n,
    "negative": lambda n, _m: b"%d -5" % n,
    "rounded": lambda n, _m: b"%d 1024" % n,
    "too small": lambda n, m: b"%d %d" % (n, len(m.octets) // 2),
    "in LF": lambda n, m: b"%d %d" % (n, len(m.octets) - m.octets.count(b"\n")),
    "absurd": lambda n, _m: b"%d 999999999999999999" % n,
    "endless": lambda n, _m: b"%d %s" % (n, b"9" * 400),
    "no number": lambda n, _m: b"%d large" % n,
    "none": lambda n, _m: b"%d" % n,
    "not listed": lambda n, m: b"%d %d" % (n, len(m.octets)) if n % 2 else None,
}

STRANGE_UNIQUE_IDS = {
    "empty": lambda n, _m: b"%d " % n,
    "some empty": lambda n, m: b"%d %s" % (n, m.unique_id.encode() if n % 2 else b""),
    "all the same": lambda n, _m: b"%d x" % n,
    "in pairs": lambda n, m: b"%d %d" % (n, int(m.unique_id, 16) // 2),
    "too long": lambda n, m: b"%d %s%s" % (n, b"y" * 5000, m.unique_id.encode()),
    "very long": lambda n, m: b"%d %s%s" % (n, b"y" * 4000, m.unique_id.encode()),
    "beyond ASCII": lambda n, m: b"%d \x1b[31m\xff\x00%s" % (n, m.unique_id.encode()),
    "with blanks": lambda n, m: b"  %d   %s  and more " % (n, m.unique_id.encode()),
    "the number": lambda n, _m: b"%d %d" % (n, n),
    "not listed": lambda n, m: b"%d %s" % (n, m.unique_id.encode()) if n % 2 else None,
}


FRESH = itertools.count()


def _new():
    return b"fresh-%d" % next(FRESH)


@pytest.mark.parametrize("tell", STRANGE_SIZES.values(), ids=STRANGE_SIZES)
def test_sizes_of_any_kind_are_a_hint(here, tell):
    """
    Whatever LIST claims, each message is archived once and removed once it is.
    """
    assert_settled_in_a_few_visits(here, LIST=scan(tell))


@pytest.mark.parametrize("tell", STRANGE_UNIQUE_IDS.values(), ids=STRANGE_UNIQUE_IDS)
def test_unique_ids_of_any_kind_are_a_hint(here, tell):
    """
    Whatever UIDL says, each message is archived once and removed once it is.
    """
    assert_settled_in_a_few_visits(here, UIDL=scan(tell))


def assert_settled_in_a_few_visits(here, **answers):
    sent = letters(12)
    here.deliver(*sent)
    here.speak(**answers)

    first, second = here.visit(), here.visit()
    assert Outcome.SUCCESS == first.outcome == second.outcome
    assert (12, 0) == (first.archived, second.archived)
    assert_exactly_once(here, sent)

    for _ in range(3):
        here.visit(delete_after=0.0)
    assert_exactly_once(here, sent)
    assert [] == here.waiting()


def test_sizes_of_messages_that_are_not_there(here):
    """
    LIST names numbers that nobody has: the others are archived once, and removed in a
    session that does not ask for those.
    """
    sent = letters(12)
    here.deliver(*sent)
    here.speak(LIST=scan(lambda n, m: b"%d %d\r\n77%d 12" % (n, len(m.octets), n)))

    report = here.visit(delete_after=0.0)

    assert (Outcome.PARTIAL, 12, 12) == (
        report.outcome,
        report.archived,
        report.removed,
    )
    assert_exactly_once(here, sent)
    assert [] == here.waiting()


def test_another_unique_id_each_time(here):
    """
    Each message is archived once; as everything is renamed each time, nothing goes.
    """
    sent = letters(12)
    here.deliver(*sent)
    here.speak(UIDL=scan(lambda n, _m: b"%d %s" % (n, _new())))

    reports = [here.visit(delete_after=3600.0) for _ in range(3)]

    assert [12, 0, 0] == [report.archived for report in reports]
    assert_exactly_once(here, sent)
    assert sorted(sent) == here.waiting()


def test_a_message_that_goes_between_uidl_and_retr(here):
    """
    Somebody else removed it: it is counted, the others are archived, nothing lasts.
    """
    sent = letters(12)
    here.deliver(*sent)
    gone = here.maildrop.messages[4]

    def answer(self, text):
        if self._message(text) is gone:
            here.maildrop.remove([gone])
            return error("no such message")
        return Dialogue._retr(self, text)

    here.speak(RETR=answer)
    report = here.visit(delete_after=0.0)

    well = [*sent[:4], *sent[5:]]
    assert (Outcome.PARTIAL, 11, 11) == (
        report.outcome,
        report.archived,
        report.removed,
    )
    assert_exactly_once(here, well)
    assert Outcome.SUCCESS == here.visit(delete_after=0.0).outcome
    here.time += 3 * QUARANTINE_SECONDS
    here.visit()
    assert {} == here.ledger.failures("alice")


def without_final_line_end(self, octets):
    self._answer = lambda _line: b""  # it has nothing more to say
    return ok("") + octets.removesuffix(b"\r\n") + b".\r\n"


def test_a_message_without_final_line_end_is_never_taken_for_whole(here):
    """
    Its dot is glued to its last line, so it does not end (Exchange 2000): poison.
    """
    sent = letters(12)
    here.deliver(*sent)
    bad = here.maildrop.messages[5].octets

    def answer(self, text):
        octets = self._message(text).octets
        if octets == bad:
            return without_final_line_end(self, octets)
        return Dialogue._retr(self, text)

    here.speak(RETR=answer)
    reports = visits(here, delete_after=0.0)

    assert_exactly_once(here, [octets for octets in sent if octets != bad])
    assert [bad] == here.waiting()
    assert 1 == reports[-1].quarantined


def test_a_server_that_speaks_lf_only(here):
    """
    Each of its messages is archived once, as it was sent, and removed.
    """

    class Unixoid(Dialogue):
        @property
        def greeting(self):
            return super().greeting.replace(b"\r\n", b"\n")

        def receive(self, octets):
            for answer in super().receive(octets):
                yield answer.replace(b"\r\n", b"\n")

    sent = letters(12)
    here.deliver(*sent)
    here.server.dialogue = Unixoid

    reports = visits(here, delete_after=0.0)

    assert 12 == sum(report.removed for report in reports)
    assert [] == here.waiting()
    assert_exactly_once(here, [octets.replace(b"\r\n", b"\n") for octets in sent])
