"""
`popfetchd browse`: what a person is shown, asked, and may do; and that nothing else is done.

Rules of this file:

- Most tests play a person's answers in this process; those of the terminal itself type
  them into one, each after what it answers was seen, with a limit on every wait.
"""

from __future__ import annotations

import os
import pty
import re
import sqlite3
import termios

import pytest

from popfetchd.cli import browse
from popfetchd.cli.conversation import Conversation, folded
from popfetchd.cli.tables import cells
from popfetchd.ledger import Ledger
from popfetchd.maildrop.dialogue import Dialogue, error
from popfetchd.values import AccountName, TlsMode
from tests.desk import desk, letter
from tests.typist import Typist
from tests.world import dialogue


HOSTILE = b"=?utf-8?q?=1B[2J=E2=80=AEevil?= \x9b31m"


@pytest.fixture
def here(tmp_path, capsys):
    with desk(tmp_path, capsys) as made:
        yield made


@pytest.fixture
def play(here, monkeypatch):
    """
    Return a function that browses alice's maildrop, giving these answers.
    """

    def browsed(*answers, options=()):
        left = iter(answers)

        class Person(Conversation):
            def __init__(self, idle):
                self._idle, self._input = idle, 0

            def ask(self, question):
                answer = next(left)
                self.say(f"{question} {answer}")
                if isinstance(answer, type):
                    raise answer
                return answer

        monkeypatch.setattr(browse, "Conversation", Person)
        monkeypatch.setattr(termios, "tcflush", lambda *_: None)
        monkeypatch.setattr(browse, "on_terminal", lambda: True)
        told = here.type("browse", "alice", *options)
        assert [] == list(left)
        return told

    return browsed


def open_maildrop(here, *messages, **keys):
    """
    Give alice a maildrop whose wire can be read.
    """
    alice = here.account("alice", *messages, tls="none", ca_file=None, **keys)
    here.servers["alice"]._mode = TlsMode.NONE
    here.write(alice)
    return here.servers["alice"]


def rows(here):
    """
    Return what the ledger holds: unique-id, state and mark of each message.
    """
    db = sqlite3.connect(here.directory / "state" / "ledger.db")
    found = db.execute("SELECT unique_id, state, marked FROM message ORDER BY id")
    told = found.fetchall()
    db.close()
    return told


# -- looking --------------------------------------------------------------------------


def test_newest_first_and_nothing_is_touched(here, play):
    """
    Date, sender, subject, octets, archived or not; TOP and QUIT are all that is said.
    """
    server = open_maildrop(here, letter(b"one"), letter(b"two"))
    code, out, _ = play("", "")
    assert 0 == code
    assert out.index("message 2 (1 of 2)") < out.index("message 1 (2 of 2)")
    assert "alice: 2 messages, 184 B\n" in out
    assert "message 2 (1 of 2)  92 B  not archived\n" in out
    assert "  date     2023-11-14T22:13:20+00:00\n  from     Ada <ada@ex" in out
    assert "  subject  two\n" in out
    assert out.endswith("Nothing was deleted.\n")
    assert server.wire.endswith(b"TOP 2 0\r\nTOP 1 0\r\nQUIT\r\n")
    assert (2, 0) == (here.waiting("alice"), here.archived("alice"))


def test_oldest_first_back_by_number_and_help(here, play):
    """
    Every way through the maildrop; what is no answer is answered with help.
    """
    open_maildrop(here, *(letter(b"%d" % n) for n in range(3)))
    _, out, _ = play("", "b", "3", "b", "9", "what", "q", options=["--oldest"])
    assert ["1", "2", "1", "3", "2"] == re.findall(r"^message (\d)", out, re.MULTILINE)
    assert 2 == out.count("  Enter goes on, a number goes to that message")


def test_an_empty_maildrop_is_soon_seen(here, play):
    """
    Nothing is asked.
    """
    open_maildrop(here)
    assert (0, "alice: 0 messages, 0 B\n\nNothing was deleted.\n") == play()[:2]


def test_a_message_is_shown_without_retr(here, play):
    """
    Its fields and text, cleaned; nothing on the terminal is the sender's choice.
    """
    server = open_maildrop(here, letter(HOSTILE, b"H\xc3\xa9llo \x1b[2J\r\n" * 3))
    _, out, _ = play("show", "q")
    assert 3 == out.count(r"Héllo \x1b[2J")
    assert r"Subject: \x1b[2J\u202eevil" in out
    assert r"  subject  \x1b[2J\u202eevil" in out
    assert not {"\x1b", "\u202e", "\x9b"} & set(out)
    assert b"RETR" not in server.wire


def test_a_long_message_is_cut_and_says_so(here, play, monkeypatch):
    """
    TOP is asked for a limited number of lines.
    """
    monkeypatch.setenv("LINES", "99999")  # one page
    open_maildrop(here, letter(b"long", b"line\r\n" * 11_000))
    _, out, _ = play("s", "q")
    assert 10_000 == out.count("\nline")
    assert "\n(cut here: TOP was asked for no more)\n" in out


def test_where_top_is_refused(here, play):
    """
    The message is there all the same, and the person is told what to do.
    """
    open_maildrop(here, letter(b"one")).dialogue = dialogue(TOP=lambda *_: error("no"))
    code, out, _ = play("s", "q")
    assert 0 == code
    assert "the server refused TOP: 'no'; archive it to read it\n" in out


def test_without_sizes_none_is_shown(here, play):
    """
    Where LIST is refused.
    """
    refuse = dialogue(LIST=lambda *_: error("no"))
    open_maildrop(here, letter(b"one")).dialogue = refuse
    assert "message 1 (1 of 1)    not archived\n" in play("q")[1]


# -- archiving ------------------------------------------------------------------------


def test_what_is_chosen_is_archived_and_nothing_else(here, play):
    """
    By the machinery of a visit: row, file, log; the maildrop stays as it was.
    """
    server = open_maildrop(here, letter(b"one"), letter(b"two"), letter(b"three"))
    code, out, err = play("", "a", "")
    assert (0, 1, 3) == (code, here.archived("alice"), here.waiting("alice"))
    assert "Archived 1 of 1 messages.\nNothing was deleted.\n" in out
    assert "visit ended" not in err
    assert server.wire.endswith(b"RETR 2\r\nNOOP\r\nQUIT\r\n")
    assert ["published"] == [state for _, state, _ in rows(here)]
    # A visit then archives the others, and this one not again.
    assert 0 == here.type("fetch")[0]
    assert 3 == here.archived("alice")


def test_browsing_is_no_visit(here, play):
    """
    When the last visit was, and how it ended, is remembered as before.
    """
    open_maildrop(here, letter(b"one"))
    play("a")
    with Ledger(here.directory / "state" / "ledger.db", now=lambda: 0.0) as ledger:
        state = ledger.state(AccountName("alice"))
    assert (0.0, 0.0, 1) == (state.last_poll, state.last_success, state.archived)


def test_what_is_archived_says_so(here, play):
    """
    It is proven by its header, and need not be archived again.
    """
    open_maildrop(here, letter(b"one"))
    here.type("fetch")
    _, out, _ = play("a", "q")
    assert "message 1 (1 of 1)  92 B  archived\n" in out
    assert "It is archived.\n" in out
    assert 1 == here.archived("alice")


def test_another_message_under_a_known_unique_id_is_not_archived(here, play):
    """
    The unique-id alone is no proof.
    """
    server = open_maildrop(here, letter(b"one"))
    here.type("fetch")
    (message,) = here.maildrops["alice"].messages
    here.maildrops["alice"].remove([message])
    here.maildrops["alice"].deliver(letter(b"two"), message.unique_id)
    assert "(1 of 1)  92 B  not archived\n" in play("q")[1]
    assert server.wire.count(b"RETR") == 1


def test_an_archive_that_fails_deletes_nothing(here, play):
    """
    The failure is told with its code, and the session ends without QUIT.
    """
    server = open_maildrop(here, letter(b"one"))
    (here.directory / "mail").write_text("no folder")
    code, _, err = play("a")
    assert 73 == code
    assert "popfetchd: nothing was deleted\n" in err
    assert not server.wire.endswith(b"QUIT\r\n")
    assert 1 == here.waiting("alice")


def test_keep_takes_back_what_was_chosen(here, play):
    """
    Also what was chosen to be archived first and then deleted.
    """
    open_maildrop(here, letter(b"one"), letter(b"two"))
    _, out, _ = play("d", "archive", "b", "k", "q")
    assert "message 2 (1 of 2)  92 B  not archived  chosen: archive and delete\n" in out
    assert out.endswith("Nothing was deleted.\n")
    assert (2, 0) == (here.waiting("alice"), here.archived("alice"))


# -- deleting -------------------------------------------------------------------------


def test_what_is_archived_is_deleted_after_one_yes(here, play):
    """
    DELE of that message alone, then QUIT; the ledger remembers it as removed.
    """
    server = open_maildrop(here, letter(b"one"), letter(b"two"))
    here.type("fetch")
    first, second = (m.unique_id for m in here.maildrops["alice"].messages)
    code, out, _ = play("", "d", "yes")
    assert 0 == code
    assert (
        "Delete 1 of the server's messages:\n"
        "  1  2023-11-14T22:13:20+00:00  Ada <ada@example.org>  one\n"
    ) in out
    assert out.endswith("Deleted 1.\n")
    assert server.wire.endswith(b"DELE 1\r\nQUIT\r\n")
    assert [second] == [m.unique_id for m in here.maildrops["alice"].messages]
    assert [(first, "removed", 0), (second, "published", 0)] == rows(here)
    here.type("fetch")
    assert 2 == here.archived("alice")


@pytest.mark.parametrize("answer", ["no", "y", "", "yes please", "q"])
def test_only_yes_is_a_yes(here, play, answer):
    """
    Any other answer sends no DELE.
    """
    server = open_maildrop(here, letter(b"one"))
    here.type("fetch")
    code, out, _ = play("d", answer)
    assert (0, 1) == (code, here.waiting("alice"))
    assert out.endswith("Nothing was deleted.\n")
    assert b"DELE" not in server.wire
    assert server.wire.endswith(b"QUIT\r\n")


def test_what_is_not_archived_is_deleted_after_two_words(here, play):
    """
    "delete" once it is said that it would be lost, and "yes" at the end.
    """
    open_maildrop(here, letter(b"one"), letter(b"two"))
    code, out, _ = play("d", "delete", "", "yes")
    assert (0, 1, 0) == (code, here.waiting("alice"), here.archived("alice"))
    assert "It is not archived: once deleted it is lost.\n" in out
    assert "  2  NOT ARCHIVED  2023-" in out
    assert [] == rows(here)


@pytest.mark.parametrize("answer", ["", "d", "yes", "del"])
def test_what_is_not_archived_stays_without_the_second_word(here, play, answer):
    """
    The menu comes again.
    """
    open_maildrop(here, letter(b"one"))
    code, out, _ = play("d", answer, "q")
    assert (0, 1) == (code, here.waiting("alice"))
    assert out.endswith("Nothing was deleted.\n")


@pytest.mark.parametrize("answers", [("d", "archive"), ("a", "2", "d")])
def test_archive_first_and_then_delete(here, play, answers):
    """
    The copy is made, proven by its content, and only then the message goes.
    """
    open_maildrop(here, letter(b"zero"), letter(b"one"))
    code, out, _ = play(*answers, "q", "yes")
    assert (0, 1, 1) == (code, here.waiting("alice"), here.archived("alice"))
    assert "NOT ARCHIVED" not in out
    assert ["removed"] == [state for _, state, _ in rows(here)]


def test_what_could_not_be_archived_stays(here, play):
    """
    RETR is refused: the message stays, and as it was asked for, QUIT is not said.
    """
    server = open_maildrop(here, letter(b"one"), letter(b"two"))
    here.type("fetch")
    here.account("alice", letter(b"three"))
    server.dialogue = dialogue(RETR=lambda *_: error("no"))
    code, out, _ = play("d", "archive", "d", "q")
    assert (69, 3) == (code, here.waiting("alice"))
    assert "3 was not archived: it stays.\n" in out
    assert "ends without QUIT, and nothing is deleted.\nNothing was deleted.\n" in out
    assert not server.wire.endswith(b"QUIT\r\n")


def test_a_copy_that_is_gone_is_no_archive(here, play):
    """
    It is looked at when the choice is made.
    """
    open_maildrop(here, letter(b"one"))
    here.type("fetch")
    (copy,) = (here.directory / "mail" / "alice" / "new").iterdir()
    copy.unlink()
    _, out, _ = play("d", "", "q")
    assert "Its copy is gone from the archive, or altered: once deleted it is" in out
    assert 1 == here.waiting("alice")


def test_a_dele_that_is_refused_is_told(here, play):
    """
    The row is as before, and the code says that something was left.
    """
    open_maildrop(here, letter(b"one"))
    here.type("fetch")
    here.servers["alice"].dialogue = dialogue(DELE=lambda *_: error("no"))
    code, out, _ = play("d", "yes")
    assert 69 == code
    assert out.endswith("The server keeps 1.\nDeleted 0.\n")
    assert [("published", 0)] == [row[1:] for row in rows(here)]


def test_a_quit_that_fails_leaves_it_open(here, play):
    """
    Nobody knows what was removed: that is what is said, and the next visit finds out.
    """
    open_maildrop(here, letter(b"one"))
    here.type("fetch")
    server = here.servers["alice"]
    server.dialogue = dialogue(QUIT=lambda *_: error("not all"))
    code, _, err = play("d", "yes")
    assert 69 == code
    assert "what was deleted is not certain: `popfetchd list` shows it" in err
    assert [("published", 1)] == [row[1:] for row in rows(here)]


# -- leaving early --------------------------------------------------------------------


@pytest.mark.parametrize("end", [KeyboardInterrupt, EOFError])
@pytest.mark.parametrize("before", [(), ("d",), ("d", "delete"), ("d", "archive")])
def test_leaving_early_undoes_everything(here, play, end, before):
    """
    Ctrl-C or the end of the input: no DELE, no QUIT, nothing archived, code 130.
    """
    server = open_maildrop(here, letter(b"one"), letter(b"two"))
    code, _, err = play(*before, end)
    assert (130, 2, 0) == (code, here.waiting("alice"), here.archived("alice"))
    assert err.endswith("popfetchd: nothing was deleted\n")
    assert not server.wire.endswith(b"QUIT\r\n")
    assert b"DELE" not in server.wire


def test_leaving_at_the_last_question_undoes_the_deletion(here, play):
    """
    What was archived before it stays archived.
    """
    open_maildrop(here, letter(b"one"))
    code, _, err = play("d", "archive", KeyboardInterrupt)
    assert (130, 1, 1) == (code, here.waiting("alice"), here.archived("alice"))
    assert "nothing was deleted" in err


def test_a_line_that_drops_is_told(here, play):
    """
    With the failure's code.
    """
    server = open_maildrop(here, letter(b"one"), letter(b"two"))

    def hang_up(session, text):
        if text == "1 0":
            raise OSError
        return Dialogue._top(session, text)

    server.dialogue = dialogue(TOP=hang_up)
    code, _, err = play("d", "delete")
    assert (69, 2) == (code, here.waiting("alice"))
    assert "popfetchd: nothing was deleted\n" in err
    assert "connection lost during TOP" in err


def test_while_another_visits_the_maildrop_is_not_opened(here, play, monkeypatch):
    """
    The account's lock is waited for, not for long.
    """
    monkeypatch.setattr(browse, "PATIENCE", 0.0)
    server = open_maildrop(here, letter(b"one"))
    with (
        Ledger(here.directory / "state" / "ledger.db", now=lambda: 0.0) as ledger,
        ledger.lock(AccountName("alice")),
    ):
        code, out, err = play()
    assert (75, "", b"") == (code, out, server.wire)
    assert "is being visited by another popfetchd" in err


def test_a_floor_between_logins_is_heeded_and_counts(here, play):
    """
    Within it no server is asked; after a browse a visit has to wait for it.
    """
    server = open_maildrop(here, letter(b"one"), login_floor="1h")
    assert 0 == play("q")[0]
    wire = server.wire
    code, _, err = play()
    assert (75, wire) == (code, server.wire)
    assert "s more before the next login" in err
    assert 75 == here.type("fetch")[0]
    assert wire == server.wire


@pytest.mark.parametrize(("hides", "popped"), [(True, 1), (False, 0)])
def test_what_a_server_hides_after_it_was_archived_is_noted(here, play, hides, popped):
    """
    As after a visit: the next listing will not show it, and that is no reset.
    """
    keys = {"hides_retrieved": True} if hides else {}
    open_maildrop(here, letter(b"one"), **keys)
    play("a")
    db = sqlite3.connect(here.directory / "state" / "ledger.db")
    assert [(popped,)] == db.execute("SELECT popped FROM message").fetchall()
    db.close()


def test_without_a_terminal_it_refuses(here):
    """
    A pipe gets a clear word and code 64, and no server is asked.
    """
    server = open_maildrop(here, letter(b"one"))
    code, out, err = here.type("browse", "alice")
    assert (64, "", b"") == (code, out, server.wire)
    assert err.startswith("popfetchd: browse needs a terminal\n  hint: ")


# -- the terminal itself --------------------------------------------------------------


def person_at(here):
    """
    Return a person before whom `browse` runs.
    """
    whose = {"COLUMNS": "", "LINES": ""}  # the terminal's own size, not our parent's
    environ = {"TERM": "xterm", "NO_COLOR": "1", **whose}
    return Typist(
        lambda **popen: here.spawn("browse", "alice", environ=environ, **popen)
    )


def test_a_person_at_a_terminal(here):
    """
    Shows a long message page by page, archives, deletes with yes.
    """
    body = b"".join(b"line %d\r\n" % n for n in range(50)) + b"x" * 150 + b"\r\n"
    open_maildrop(here, letter(b"one", body), letter(b"two"))
    person = person_at(here)
    person.answer("help:", b"d\n")
    person.answer("go back:", b"archive\n")
    person.answer("help:", b"show\n")
    person.answer("--", b"\n")
    assert "line 17\r\n-- 36 more lines: Enter, or q --" in person.seen
    person.answer("--", b"q\n")
    person.answer("help:", b"q\n")
    person.answer("yes or no:", b"yes\n")
    assert 0 == person.end()
    assert "Deleted 1.\r\n" in person.seen
    assert (1, 1) == (here.archived("alice"), here.waiting("alice"))


def test_what_was_typed_ahead_is_no_yes(here):
    """
    A question that matters is answered after it was asked.
    """
    open_maildrop(here, letter(b"one"))
    here.type("fetch")
    person = person_at(here)
    person.answer("help:", b"d\nyes\n")
    person.answer("yes or no:", b"\x04")
    assert 130 == person.end()
    assert "nothing was deleted" in person.seen
    assert 1 == here.waiting("alice")


def test_ctrl_c_at_a_terminal(here):
    """
    Everything is as it was, and the code is 130.
    """
    open_maildrop(here, letter(b"one"))
    person = person_at(here)
    person.answer("help:", b"d\n")
    person.answer("go back:", b"delete\n")
    person.answer("yes or no:", b"\x03")
    assert 130 == person.end()
    assert "nothing was deleted" in person.seen
    assert 1 == here.waiting("alice")


def test_while_nobody_answers_somebody_else_is_looked_after(monkeypatch, capsys):
    """
    *idle* is called again and again, and its error ends the waiting.
    """
    master, slave = pty.openpty()
    times = []

    def idle():
        times.append(1)
        if len(times) == 3:
            os.write(master, "Ärger\n".encode())

    class Stdin:
        def fileno(self):
            return slave

    monkeypatch.setattr("sys.stdin", Stdin())
    try:
        assert "ärger" == Conversation(idle, every=0.001).ask("now?")
    finally:
        os.close(master)
        os.close(slave)
    assert len(times) >= 3
    assert "now? " == capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ("", [""]),
        ("abcdefgh", ["abcde", "fgh"]),
        ("日本語日本", ["日本", "語日", "本"]),
        ("a\tb", ["a    ", "   b"]),
        ("\x1b[2J", ["\\x1b[", "2J"]),
        ("e" + "\u0301" * 30, ["e" + "\u0301" * 19, "\u0301" * 11]),
    ],
)
def test_rows_of_a_page(line, rows):
    """
    Cleaned, and no row wider than the terminal.
    """
    assert rows == list(folded(line, 5))
    assert all(cells(row) <= 5 for row in rows)


def test_a_line_of_a_megabyte_is_folded_at_once():
    """
    The time for a row does not grow with what is behind it.
    """
    assert 26_215 == sum(1 for _ in folded("日" * 2**20, 80))


def test_a_terminal_of_one_cell_shows_wide_characters_too():
    """
    However little room there is, each row is a step forward.
    """
    assert ["日", "本"] == list(folded("日本", 1))
