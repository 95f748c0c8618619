"""
A session: the gate, pipelining, what breaks it, and time. Strange servers: the dialogs.
"""

from __future__ import annotations

import base64
import select
import ssl
import time

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain, count, takewhile
from pathlib import Path

import pytest
import trustme

from popfetchd.errors import (
    Disconnected,
    LimitExceeded,
    LocalProtocolError,
    NoMechanism,
    ProtocolViolation,
    ServerRefusal,
    StlsInjected,
    SystemTemporary,
    TimedOut,
)
from popfetchd.pop3 import listings, sasl, session
from popfetchd.pop3.deadline import Deadline
from popfetchd.pop3.protocol import State
from popfetchd.pop3.session import PIPELINE_DEPTH, Body, Session, open_session
from popfetchd.pop3.tls import TlsContexts
from popfetchd.pop3.transport import Transport
from popfetchd.values import AccessToken, Mechanism, Secret, Server, TlsMode, TlsPolicy
from tests.dialogs.script import PATIENCE, ScriptedServer, parse


GREETED = "S: +OK <1@host>\nC: CAPA\nS: -ERR\n"
LOGGED_IN = GREETED + "C: USER mary\nS: +OK\nC: PASS x\nS: +OK\nC: CAPA\nS: -ERR\n"
PIPELINING = LOGGED_IN.removesuffix("S: -ERR\n") + "S: +OK\nS: PIPELINING\nS: .\n"


@contextmanager
def opened(script: str, timeout: float = PATIENCE) -> Iterator[Session]:
    """
    Give a session with a server that follows *script*, and see that both kept to it.
    """
    with ScriptedServer(parse("inline", script)) as server:
        policy = TlsPolicy(TlsMode.NONE)
        place = Server("127.0.0.1", server.port, policy, timeout)
        with open_session(place, TlsContexts(), Deadline(PATIENCE)) as opened:
            yield opened
    assert [] == server.problems


@contextmanager
def logged_in(script: str, timeout: float = PATIENCE) -> Iterator[Session]:
    """
    The same, logged in; *script* begins with one of the constants above.
    """
    with opened(script, timeout) as session:
        session.login("mary", Secret("x"), Mechanism.USER)
        yield session


def messages(*bodies: str) -> str:
    """
    Script a +OK and a body for each.
    """
    return "".join(f"S: +OK\nS: {body}\nS: .\n" for body in bodies)


def sent(keyword: str, *numbers: int) -> str:
    """
    Script the commands that a client must send.
    """
    return "".join(f"C: {keyword} {number}\n" for number in numbers)


# -- logging in -----------------------------------------------------------------------


def test_the_gate() -> None:
    """Without TLS no credential is sent, unless the operator wrote `none`."""
    with opened(GREETED) as session:
        session._server = Server("h", 1, TlsPolicy(TlsMode.STLS), 1.0)
        for mechanism in Mechanism:
            with pytest.raises(LocalProtocolError, match="login without TLS"):
                session.login("mary", Secret("x"), mechanism)


def test_the_gate_for_tokens() -> None:
    """An access token is not sent in clear, whatever the operator wrote."""
    with opened(GREETED) as session:
        for mechanism in Mechanism:
            with pytest.raises(LocalProtocolError, match="login without TLS"):
                session.login("mary", AccessToken("t"), mechanism)


@pytest.mark.parametrize("octet", ["\r", "\n", "\0", "\r\nDELE 1", "\ud800"])
@pytest.mark.parametrize("mechanism", Mechanism)
def test_credentials_are_one_line(octet: str, mechanism: Mechanism) -> None:
    """A credential that cannot be sent is not, and the operator learns which."""
    with opened(GREETED) as session:
        with pytest.raises(NoMechanism, match="the user name holds"):
            session.login("mary" + octet, Secret("x"), mechanism)
        with pytest.raises(NoMechanism, match="the password holds") as caught:
            session.login("mary", Secret("tiger" + octet), mechanism)
        assert "tiger" not in str(caught.value)


@pytest.mark.parametrize(
    ("user", "password", "mechanism"),
    [
        ("m" * 249, "x", Mechanism.USER),
        ("m", "x" * 249, Mechanism.USER),
        ("m" * 250, "x", Mechanism.APOP),
    ],
)
def test_credentials_that_fit_no_command(
    user: str, password: str, mechanism: Mechanism
) -> None:
    """Where a command would be over 255 octets, nothing is sent at all."""
    too_long = pytest.raises(NoMechanism, match="a command of over 255 octets")
    with opened(GREETED) as session, too_long:
        session.login(user, Secret(password), mechanism)


def test_the_longest_password() -> None:
    """A password of 248 octets goes through PASS, blanks and umlauts included."""
    password = "ü b" + "x" * 244
    script = f"C: USER mary\nS: +OK\nC: PASS \\xc3\\xbc b{'x' * 244}\nS: +OK\n"
    with opened(f"{GREETED}{script}C: CAPA\nS: -ERR\n") as session:
        assert session.mechanism is None
        session.login("mary", Secret(password), Mechanism.USER)
        assert (State.TRANSACTION, Mechanism.USER) == (session.state, session.mechanism)


def test_a_long_initial_response_waits() -> None:
    """PLAIN whose line would be over 255 octets is sent in two steps (RFC 5034 §4)."""
    message = base64.b64encode(b"\0mary\0" + b"x" * 200).decode()
    script = f"C: AUTH PLAIN\nS: + \nC: {message}\nS: +OK\nC: CAPA\nS: -ERR\n"
    greeted = "S: +OK\nC: CAPA\nS: +OK\nS: SASL PLAIN\nS: .\n"
    with opened(greeted + script) as session:
        session.login("mary", Secret("x" * 200), Mechanism.AUTO)
        assert State.TRANSACTION == session.state


class Riddle(sasl.SaslMechanism):
    """
    A mechanism in which the server begins.
    """

    name = "RIDDLE"

    def initial(self) -> None:
        return None

    def respond(self, challenge: bytes) -> bytes:
        return challenge[::-1]


def test_a_mechanism_of_challenges() -> None:
    """Where the server begins, each challenge gets its answer."""
    script = "C: AUTH RIDDLE\nS: + YWI=\nC: YmE=\nS: + \nC: \nS: +OK\n"
    with opened(GREETED + script) as session:
        session._authenticate(Mechanism.PLAIN, Riddle())
        assert State.TRANSACTION == session.state


def test_challenges_without_end() -> None:
    """A server that goes on asking is left."""
    rounds = "S: + \nC: \n" * sasl.MOST_CHALLENGES
    with opened(f"{GREETED}C: AUTH RIDDLE\n{rounds}") as session:
        with pytest.raises(LimitExceeded, match="MOST_CHALLENGES"):
            session._authenticate(Mechanism.PLAIN, Riddle())
        assert State.BROKEN == session.state


def test_utf8_is_left_out_where_it_is_not_wanted() -> None:
    """`utf8: false` leaves a server's UTF8 alone."""
    script = "S: +OK\nC: CAPA\nS: +OK\nS: UTF8\nS: .\nC: USER mary\nS: +OK\nC: PASS x\n"
    with opened(f"{script}S: +OK\nC: CAPA\nS: -ERR\n") as session:
        session._server = replace(session._server, utf8=False)
        session.login("mary", Secret("x"), Mechanism.AUTO)
        assert State.TRANSACTION == session.state


def test_a_short_password_masks_no_less() -> None:
    """A password that stands within what was sent does not keep that from being masked."""
    script = "C: AUTH PLAIN\nS: + \nA: \\0mary\\0A\nS: -ERR [SYS/TEMP] AG1hcnkAQQ== A\n"
    with opened(GREETED + script) as session:
        with pytest.raises(SystemTemporary) as caught:
            session.login("mary", Secret("A"), Mechanism.PLAIN)
        assert "[SYS/TEMP] (secret) (secret)" == caught.value.text


# -- pipelining -----------------------------------------------------------------------


def test_the_window() -> None:
    """PIPELINE_DEPTH commands are sent ahead, and more when half of them are answered."""
    first, half = range(1, PIPELINE_DEPTH + 1), PIPELINE_DEPTH // 2
    script = (
        sent("DELE", *first)
        + "S: +OK\n" * half
        + sent("DELE", *range(PIPELINE_DEPTH + 1, PIPELINE_DEPTH + half + 1))
        + "S: +OK\n" * PIPELINE_DEPTH
    )
    with logged_in(PIPELINING + script) as session:
        outcomes = list(session.delete(range(1, PIPELINE_DEPTH + half + 1)))
        assert [(n, None) for n in range(1, PIPELINE_DEPTH + half + 1)] == outcomes


def test_the_window_of_large_messages(monkeypatch) -> None:
    """While one is received only the next is on its way, whatever depth is left."""
    monkeypatch.setattr("popfetchd.pop3.session.PIPELINE_OCTETS", 100)
    script = (
        sent("RETR", 1, 2)
        + messages("one")
        + sent("RETR", 3)
        + messages("two", "three")
    )
    with logged_in(PIPELINING + script) as session:
        bodies = session.retrieve([1, 2, 3], octets=lambda _: 1000)
        assert [b"one\r\n", b"two\r\n", b"three\r\n"] == [
            b"".join(body) for _, body in bodies
        ]


def test_no_window_without_pipelining() -> None:
    """Where CAPA does not announce it, one command waits for the other's reply."""
    script = sent("RETR", 1) + messages("one") + sent("RETR", 2) + messages("two")
    with logged_in(LOGGED_IN + script) as session:
        got = [b"".join(body) for _, body in session.retrieve([1, 2])]
        assert [b"one\r\n", b"two\r\n"] == got


def test_nothing_to_do() -> None:
    """Without numbers nothing is sent."""
    with logged_in(PIPELINING) as session:
        assert [] == [*session.retrieve([]), *session.delete([]), *session.top([])]


def test_numbers_are_taken_as_there_is_room() -> None:
    """Who gives the numbers may stop giving: only those taken are asked for."""
    asked, half = PIPELINE_DEPTH, PIPELINE_DEPTH // 2
    script = sent("DELE", *range(1, asked + 1)) + "S: +OK\n" * asked
    going = True
    numbers = takewhile(lambda _: going, count(1))
    with logged_in(PIPELINING + script) as session:
        for number, _ in session.delete(numbers):
            going = number < half
        assert (asked, State.TRANSACTION) == (number, session.state)


def test_what_was_retrieved() -> None:
    """Every message whose RETR was sent counts, refused and unread ones too."""
    script = sent("RETR", 1, 2, 3) + messages("one") + "S: -ERR\n" + messages("three")
    with logged_in(f"{PIPELINING}{script}C: QUIT\nS: +OK\n") as session:
        for _ in session.retrieve([1, 2, 3]):
            assert {1, 2, 3} == session.retrieved
        session.quit()
        assert (State.CLOSED, {1, 2, 3}) == (session.state, session.retrieved)


def test_an_unread_message_is_skipped() -> None:
    """A body left unread is thrown away, and never looks like a whole one."""
    script = sent("RETR", 1, 2) + messages("one", "two")
    with logged_in(f"{PIPELINING}{script}C: QUIT\nS: +OK\n") as session:
        bodies = [body for _, body in session.retrieve([1, 2])]
        for body in bodies:
            with pytest.raises(LocalProtocolError, match="reading a skipped message"):
                next(body)
        session.quit()


def test_a_message_that_was_read_stays_read() -> None:
    """Reading past the end gives nothing more, also after the session went on."""
    script = sent("RETR", 1) + messages("one")
    with logged_in(PIPELINING + script) as session:
        ((_, body),) = ((n, (list(body), body)) for n, body in session.retrieve([1]))
        assert ([b"one\r\n"], []) == (body[0], list(body[1]))


def test_leaving_early_breaks() -> None:
    """Who stops while replies are on their way can send nothing any more, not even QUIT."""
    script = sent("RETR", 1, 2) + messages("one", "two")
    with logged_in(PIPELINING + script) as session:
        for _, body in session.retrieve([1, 2]):
            assert isinstance(body, Body)
            assert b"one\r\n" == b"".join(body)
            break
        assert (State.BROKEN, {1, 2}) == (session.state, session.retrieved)
        with pytest.raises(LocalProtocolError):
            session.quit()


@pytest.mark.parametrize("method", ["top", "delete"])
def test_leaving_early_breaks_elsewhere(method: str) -> None:
    """The same holds for TOP and DELE."""
    lines = {"top": "C: TOP 1 0\nC: TOP 2 0\n", "delete": sent("DELE", 1, 2)}[method]
    answers = {"top": messages("one"), "delete": "S: +OK\n"}[method]
    with logged_in(PIPELINING + lines + answers) as session:
        next(getattr(session, method)([1, 2]))
        assert State.BROKEN == session.state


def test_leaving_after_the_last_is_no_harm() -> None:
    """Who stops when no reply is on its way goes on as before."""
    script = sent("RETR", 1) + messages("one") + "C: NOOP\nS: +OK\n"
    with logged_in(PIPELINING + script) as session:
        for _, body in session.retrieve([1]):
            list(body)
            break
        session.noop()


def test_one_thing_at_a_time() -> None:
    """No other command slips in between a message and its end."""
    script = sent("RETR", 1) + messages("one") + "C: NOOP\nS: +OK\n"
    with logged_in(PIPELINING + script) as session:
        for _, body in session.retrieve([1]):
            for method in (session.noop, session.listing, session.stat):
                with pytest.raises(LocalProtocolError, match="amid RETR"):
                    method()
            with pytest.raises(LocalProtocolError, match="DELE amid RETR"):
                next(session.delete([1]))
            assert b"one\r\n" == b"".join(body)
        session.noop()


# -- limits ---------------------------------------------------------------------------


def test_a_header_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a reply to TOP no more than TOP_OCTETS are kept; the next one is whole."""
    monkeypatch.setattr(session, "TOP_OCTETS", 5)
    script = "C: TOP 1 0\nC: TOP 2 0\n" + messages("much too long", "x")
    with logged_in(PIPELINING + script) as opened_session:
        assert [(1, b"much "), (2, b"x\r\n")] == list(opened_session.top([1, 2]))


def test_lines_of_the_body() -> None:
    """TOP asks for as many lines as it was told to."""
    with logged_in(LOGGED_IN + "C: TOP 7 10\n" + messages("x")) as session:
        assert [(7, b"x\r\n")] == list(session.top([7], 10))


def test_a_listing_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing of more than LISTING_OCTETS breaks the session."""
    monkeypatch.setattr(session, "LISTING_OCTETS", 100)
    script = "C: UIDL\nC: LIST\nS: +OK\nS*30: 1 a\n"
    with logged_in(PIPELINING + script) as opened_session:
        with pytest.raises(LimitExceeded, match=r"LISTING_OCTETS allows \(100\)"):
            opened_session.listing()
        assert State.BROKEN == opened_session.state


def test_a_listing_of_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """So does one of more than MOST_MESSAGES."""
    monkeypatch.setattr(listings, "MOST_MESSAGES", 2)
    script = "C: UIDL\nC: LIST\nS: +OK\nS*3: 1 a\nS: .\nS: +OK\nS: .\n"
    with logged_in(PIPELINING + script) as session:
        with pytest.raises(LimitExceeded, match="MOST_MESSAGES"):
            session.listing()
        assert State.BROKEN == session.state


# -- broken and closed ----------------------------------------------------------------


COMMANDS = {
    "STAT": Session.stat,
    "UIDL": Session.listing,
    "NOOP": Session.noop,
    "RSET": Session.reset,
    "TOP": lambda session: next(session.top([1])),
    "RETR": lambda session: next(session.retrieve([1])),
    "DELE": lambda session: next(session.delete([1])),
    "USER": lambda session: session.login("mary", Secret("x"), Mechanism.USER),
    "AUTH": lambda session: session.login("mary", Secret("x"), Mechanism.PLAIN),
    "QUIT": Session.quit,
}


@pytest.mark.parametrize("ending", ["C: NOOP\nS: what?\n", "C: NOOP\nEOF\n"])
def test_no_command_after_a_failure(ending: str) -> None:
    """After nonsense or a lost line nothing more is sent, and closing is in order."""
    with logged_in(LOGGED_IN + ending) as session:
        with pytest.raises((ProtocolViolation, Disconnected)):
            session.noop()
        for keyword, attempt in COMMANDS.items():
            with pytest.raises(LocalProtocolError, match=f"{keyword} is not allowed"):
                attempt(session)
        session.close()
        assert State.BROKEN == session.state


def test_leaving_the_block_sends_no_quit() -> None:
    """`with` closes without QUIT, so that nothing is removed; closing twice is no harm."""
    with logged_in(PIPELINING + sent("DELE", 1) + "S: +OK\n") as session:
        assert [(1, None)] == list(session.delete([1]))
        with session:
            pass
        session.close()
        assert State.BROKEN == session.state


def test_a_command_out_of_place() -> None:
    """A command before the login is our own fault, and is not sent."""
    misplaced = pytest.raises(
        LocalProtocolError, match="STAT is not allowed in state A"
    )
    with opened(GREETED) as session, misplaced:
        session.stat()


@pytest.mark.parametrize("answer", ["+OK", "-ERR some were not removed"])
def test_quit_closes(answer: str) -> None:
    """After QUIT the connection is closed, whatever the server said."""
    with logged_in(f"{LOGGED_IN}C: QUIT\nS: {answer}\n") as session:
        with suppress(ServerRefusal):
            session.quit()
        assert (State.CLOSED, -1) == (session.state, session._transport._sock.fileno())


def test_sessions_have_names_of_their_own() -> None:
    """No two sessions share an id, and a listing carries its session's."""
    script = "C: UIDL\nS: +OK\nS: .\nC: LIST\nS: +OK\nS: .\n"
    ids = set()
    for _ in range(2):
        with logged_in(LOGGED_IN + script) as session:
            assert session.id == session.listing().session
            ids.add(session.id)
    assert 2 == len(ids)


# -- time -----------------------------------------------------------------------------

STEPS = {
    "greeting": ("", "greeting"),
    "CAPA": ("S: +OK\nC: CAPA\n", "CAPA"),
    "CAPA's end": ("S: +OK\nC: CAPA\nS: +OK\nS: TOP\n", "CAPA"),
    "USER": (GREETED + "C: USER mary\n", "USER"),
    "PASS": (GREETED + "C: USER mary\nS: +OK\nC: PASS x\n", "PASS"),
    "UIDL": (LOGGED_IN + "C: UIDL\nS: +OK\nS: 1 a\n", "UIDL"),
    "LIST": (LOGGED_IN + "C: UIDL\nS: +OK\nS: .\nC: LIST\n", "LIST"),
    "RETR": (
        LOGGED_IN + "C: UIDL\nS: -ERR\nC: LIST\nS: +OK\nS: .\nC: RETR 1\n",
        "RETR",
    ),
    "message": (
        LOGGED_IN
        + "C: UIDL\nS: -ERR\nC: LIST\nS: +OK\nS: .\nC: RETR 1\nS: +OK\nS: a\n",
        "RETR",
    ),
    "QUIT": (
        LOGGED_IN
        + "C: UIDL\nS: -ERR\nC: LIST\nS: +OK\nS: .\nC: RETR 1\n"
        + messages("a")
        + "C: QUIT\n",
        "QUIT",
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_silence_at_each_step(name: str) -> None:
    """A server that falls silent is left within the step's time, wherever it is."""
    script, step = STEPS[name]
    begun = time.monotonic()
    with pytest.raises(TimedOut, match=rf"no end of {step} within 0\.1 s"):
        visit(script + "SILENCE\n", 0.1)
    assert time.monotonic() - begun < 2


def visit(script: str, timeout: float) -> None:
    """
    Do all that a visit does.
    """
    with logged_in(script, timeout) as session:
        session.listing()
        for _, body in session.retrieve([1]):
            assert isinstance(body, Body)
            deque(body)
        session.quit()


# -- TLS ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def secured(
    script: str, authority: trustme.CA, folder: Path, piece: int | None = None
) -> Iterator[Session]:
    """
    Give a session under TLS from the start, logged in; *piece*: octets of each record.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    with ScriptedServer(parse("inline", "TLS\n" + script), context, piece) as server:
        policy = TlsPolicy(ca_file=folder / "ca.pem")
        place = Server("127.0.0.1", server.port, policy, PATIENCE)
        with open_session(place, TlsContexts(), Deadline(60)) as session:
            session.login("mary", Secret("x"), Mechanism.USER)
            yield session
    assert [] == server.problems


def test_an_abrupt_end_of_tls_in_a_message(
    authority: trustme.CA, tmp_path: Path
) -> None:
    """A message whose TLS connection drops is not complete."""
    script = f"{LOGGED_IN}C: RETR 1\nS: +OK\nS: half\nEOF\n"
    with secured(script, authority, tmp_path) as session:
        assert session.channel.tls_version == "TLSv1.3"
        with pytest.raises(Disconnected, match="connection lost during RETR"):
            list(chain.from_iterable(body for _, body in session.retrieve([1])))
        assert State.BROKEN == session.state


def test_unasked_octets_under_tls(authority: trustme.CA, tmp_path: Path) -> None:
    """A reply forged inside a mail is found also when it stands in another record."""
    script = f"{LOGGED_IN}C: DELE 1\nS: +OK\nS: +OK\nS: mail\n"
    with secured(script, authority, tmp_path, piece=len("+OK\r\n")) as session:
        assert [(1, None)] == list(session.delete([1]))
        select.select([session._transport._sock], [], [], PATIENCE)
        with pytest.raises(
            ProtocolViolation, match="QUIT: octets that nobody asked for"
        ):
            session.quit()
        assert State.BROKEN == session.state


def test_octets_injected_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Octets behind the +OK to STLS count also when they come in a segment of their own."""
    script = "S: +OK\nC: CAPA\nS: +OK\nS: STLS\nS: .\nC: STLS\nS: +OK\n"
    unasked = iter([b"", b"", b"-ERR late"])
    monkeypatch.setattr(Transport, "waiting", lambda self, step: next(unasked))
    with ScriptedServer(parse("inline", script)) as server:
        place = Server("127.0.0.1", server.port, TlsPolicy(TlsMode.STLS), PATIENCE)
        with pytest.raises(StlsInjected, match="9 octets stood behind"):
            open_session(place, TlsContexts(), Deadline(PATIENCE))
    assert [] == server.problems


def test_bulk(authority: trustme.CA, tmp_path: Path) -> None:
    """20 MB over TLS cost this thread well under half a second."""
    script = f"{LOGGED_IN}C: RETR 1\nS: +OK\nS*312500: {'x' * 62}\nS: .\n"
    with secured(script, authority, tmp_path) as session:
        begun = time.thread_time()
        for _, body in session.retrieve([1]):
            octets = sum(len(chunk) for chunk in body)
        assert time.thread_time() - begun < 0.5
        assert 20_000_000 == octets
