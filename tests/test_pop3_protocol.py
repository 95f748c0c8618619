"""
The engine: the table of what is legal, events, pipelining, and how it breaks.
"""

from __future__ import annotations

import pytest

from hypothesis import example, given, settings
from hypothesis import strategies as st

from popfetchd.errors import (
    Disconnected,
    LimitExceeded,
    LocalProtocolError,
    ProtocolViolation,
    RemoteError,
)
from popfetchd.pop3.protocol import (
    LONGEST_ANSWER,
    LONGEST_COMMAND,
    LONGEST_REPLY,
    NEED_DATA,
    SENT_AHEAD,
    TRANSITIONS,
    BodyChunk,
    BodyEnd,
    Command,
    Continuation,
    Event,
    GreetingReceived,
    Protocol,
    ReplyReceived,
    State,
)
from popfetchd.pop3.replies import Greeting, Reply


def drained(protocol: Protocol) -> list[Event]:
    """
    Take every event that there is.
    """
    events: list[Event] = []
    while (event := protocol.next_event()) is not NEED_DATA:
        events.append(event)
    return events


def fed(protocol: Protocol, data: bytes) -> list[Event]:
    """
    Feed *data* and take every event.
    """
    protocol.receive(data)
    return drained(protocol)


def in_state(state: State) -> Protocol:
    """
    Bring a new engine to *state*.
    """
    protocol = Protocol()
    if state is State.BROKEN:
        protocol.abandon()
    if state in {State.CONNECTED, State.BROKEN}:
        return protocol
    fed(protocol, b"+OK\r\n")
    if state in {State.TRANSACTION, State.UPDATE}:
        protocol.send(Command.PASS, b"x")
        fed(protocol, b"+OK\r\n")
    if state in {State.UPDATE, State.CLOSED}:
        protocol.send(Command.QUIT)
    if state is State.CLOSED:
        fed(protocol, b"+OK\r\n")
    return protocol


# -- what is legal when ---------------------------------------------------------------


def test_the_table_is_complete() -> None:
    """Each state has its row, and nothing can be sent once closed or broken."""
    assert set(State) == set(TRANSITIONS)
    assert {} == TRANSITIONS[State.CLOSED] == TRANSITIONS[State.BROKEN]


def test_what_is_sent_ahead_keeps_the_state() -> None:
    """Only commands that leave the state alone may be pipelined."""
    moves = {TRANSITIONS[State.TRANSACTION][command] for command in SENT_AHEAD}
    assert {(State.TRANSACTION, State.TRANSACTION, State.TRANSACTION)} == moves


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("command", Command)
def test_what_the_table_forbids_is_refused(state: State, command: Command) -> None:
    """A command is sent where the table has it and nothing is awaited, only there."""
    protocol = in_state(state)
    assert state == protocol.state
    if command in TRANSITIONS[state] and protocol.idle:
        assert command.encode() + b"\r\n" == protocol.send(command)
    else:
        with pytest.raises(LocalProtocolError) as caught:
            protocol.send(command)
        assert (command, state) == (caught.value.command, caught.value.state)


@pytest.mark.parametrize(
    ("state", "command", "ok", "refused"),
    [
        (State.AUTHORIZATION, Command.USER, State.AUTHORIZATION, State.AUTHORIZATION),
        (State.AUTHORIZATION, Command.PASS, State.TRANSACTION, State.AUTHORIZATION),
        (State.AUTHORIZATION, Command.APOP, State.TRANSACTION, State.AUTHORIZATION),
        (State.AUTHORIZATION, Command.AUTH, State.TRANSACTION, State.AUTHORIZATION),
        (State.AUTHORIZATION, Command.STLS, State.AUTHORIZATION, State.AUTHORIZATION),
        (State.AUTHORIZATION, Command.UTF8, State.AUTHORIZATION, State.AUTHORIZATION),
        (State.AUTHORIZATION, Command.QUIT, State.CLOSED, State.CLOSED),
        (State.TRANSACTION, Command.DELE, State.TRANSACTION, State.TRANSACTION),
        (State.TRANSACTION, Command.QUIT, State.CLOSED, State.CLOSED),
    ],
)
def test_where_a_reply_leads(
    state: State, command: Command, ok: State, refused: State
) -> None:
    """The reply, not the command, moves the session on."""
    for line, expected in ((b"+OK\r\n", ok), (b"-ERR\r\n", refused)):
        protocol = in_state(state)
        protocol.send(command)
        (event,) = fed(protocol, line)
        assert (command, expected) == (event.command, protocol.state)


def test_quit_enters_update_when_sent() -> None:
    """Between QUIT and its reply the session is in UPDATE: nobody knows what is removed."""
    assert State.UPDATE == in_state(State.UPDATE).state


def test_a_refused_greeting_closes() -> None:
    """After a greeting of -ERR no command can be sent (CVE-2020-28896)."""
    protocol = Protocol()
    reply = Reply(ok=False, code=None, text="no")
    greeting = GreetingReceived(reply, Greeting("no", None))
    assert [greeting] == fed(protocol, b"-ERR no\r\n")
    assert State.CLOSED == protocol.state


# -- sending --------------------------------------------------------------------------


@pytest.mark.parametrize("octet", [b"\r", b"\n", b"\0", b"\r\nDELE 1"])
def test_a_command_is_one_line(octet: bytes) -> None:
    """No argument can smuggle in a second command (CVE-2025-15367)."""
    protocol = in_state(State.AUTHORIZATION)
    with pytest.raises(LocalProtocolError) as caught:
        protocol.send(Command.USER, b"a" + octet)
    sentence = "USER with CR, LF or NUL is not allowed in state AUTHORIZATION"
    assert (sentence, True) == (str(caught.value), protocol.idle)


def test_a_command_has_a_longest() -> None:
    """255 octets with CRLF are a command, 256 are none (RFC 2449 §4)."""
    protocol = in_state(State.AUTHORIZATION)
    fits = b"x" * (LONGEST_COMMAND - len(b"USER \r\n"))
    assert LONGEST_COMMAND == len(protocol.send(Command.USER, fits))
    protocol = in_state(State.AUTHORIZATION)
    with pytest.raises(LocalProtocolError, match="USER of over 255 octets"):
        protocol.send(Command.USER, fits + b"x")


@pytest.mark.parametrize("first", Command)
@pytest.mark.parametrize("second", Command)
def test_what_may_be_pipelined(first: Command, second: Command) -> None:
    """A command goes ahead of a reply only if both it and the awaited one may."""
    protocol = in_state(State.TRANSACTION)
    if first not in TRANSITIONS[State.TRANSACTION]:
        return
    protocol.send(first)
    if {first, second} <= SENT_AHEAD:
        assert protocol.send(second)
    else:
        with pytest.raises(LocalProtocolError):
            protocol.send(second)


def test_octets_that_nobody_asked_for() -> None:
    """What came before a command is no reply to it: the session breaks instead."""
    protocol = in_state(State.TRANSACTION)
    protocol.receive(b"+OK forged\r\n")
    with pytest.raises(ProtocolViolation, match="octets that nobody asked for"):
        protocol.send(Command.QUIT)
    assert (State.BROKEN, 12) == (protocol.state, protocol.unread)


def test_octets_that_nobody_asked_for_are_noticed_when_read() -> None:
    """They break the session also where no command follows."""
    with pytest.raises(ProtocolViolation, match="idle: octets that nobody asked for"):
        fed(in_state(State.TRANSACTION), b"+")


# -- receiving ------------------------------------------------------------------------


def test_pipelined_replies_come_in_order() -> None:
    """Replies are matched to commands in the order of these, bodies and all."""
    protocol = in_state(State.TRANSACTION)
    commands = (Command.UIDL, Command.LIST, Command.RETR, Command.DELE, Command.TOP)
    for command in commands:
        protocol.send(command)
    events = fed(
        protocol,
        b"+OK u\r\n1 a\r\n.\r\n-ERR l\r\n+OK r\r\n.\r\n+OK d\r\n+OK t\r\n..\r\n.\r\n",
    )
    assert [
        ReplyReceived(Command.UIDL, Reply(ok=True, code=None, text="u")),
        BodyChunk(Command.UIDL, b"1 a\r\n"),
        BodyEnd(Command.UIDL),
        ReplyReceived(Command.LIST, Reply(ok=False, code=None, text="l")),
        ReplyReceived(Command.RETR, Reply(ok=True, code=None, text="r")),
        BodyEnd(Command.RETR),
        ReplyReceived(Command.DELE, Reply(ok=True, code=None, text="d")),
        ReplyReceived(Command.TOP, Reply(ok=True, code=None, text="t")),
        BodyChunk(Command.TOP, b".\r\n"),
        BodyEnd(Command.TOP),
    ] == events
    assert protocol.idle


@pytest.mark.parametrize("command", [Command.LIST, Command.UIDL])
def test_a_listing_of_one_message_has_no_body(command: Command) -> None:
    """LIST and UIDL with an argument are answered by one line (RFC 1939 §5)."""
    protocol = in_state(State.TRANSACTION)
    protocol.send(command, b"1")
    reply = Reply(ok=True, code=None, text="1 120")
    assert [ReplyReceived(command, reply)] == fed(protocol, b"+OK 1 120\r\n")
    assert protocol.idle


def test_the_step_names_what_is_awaited() -> None:
    """The step is what the server has to do next."""
    protocol = Protocol()
    steps = [protocol.step]
    fed(protocol, b"+OK\r\n")
    steps.append(protocol.step)
    protocol.send(Command.CAPA)
    fed(protocol, b"+OK\r\nTOP\r\n")
    steps.append(protocol.step)
    assert ["greeting", "idle", "CAPA"] == steps


@pytest.mark.parametrize("ending", [b"\r\n", b""])
def test_a_reply_has_a_longest(ending: bytes) -> None:
    """A line of LONGEST_REPLY octets is a reply; one more, ended or not, is too much."""
    line = b"+OK " + b"x" * (LONGEST_REPLY - 6)
    assert 1 == len(fed(Protocol(), line + b"\r\n"))
    protocol = Protocol()
    with pytest.raises(LimitExceeded) as caught:
        fed(protocol, line + b"xx" + ending)
    assert ("LONGEST_REPLY", State.BROKEN) == (caught.value.limit, protocol.state)


def test_auth_is_a_conversation() -> None:
    """A challenge asks for one answer; the status line ends the matter."""
    protocol = in_state(State.AUTHORIZATION)
    protocol.send(Command.AUTH, b"X")
    assert [Continuation(b"Y2hhbGxlbmdl")] == fed(protocol, b"+ Y2hhbGxlbmdl\r\n")
    assert b"YW5zd2Vy\r\n" == protocol.answer(b"YW5zd2Vy")
    assert [Continuation(b"")] == fed(protocol, b"+\r\n")
    assert b"\r\n" == protocol.answer(b"")
    assert 1 == len(fed(protocol, b"+OK\r\n"))
    assert State.TRANSACTION == protocol.state


def test_challenges_may_be_long() -> None:
    """What limits a reply to 512 octets limits no challenge (RFC 5034 §4)."""
    protocol = in_state(State.AUTHORIZATION)
    protocol.send(Command.AUTH, b"X")
    challenge = b"YWFh" * (LONGEST_ANSWER // 4 - 1)
    assert [Continuation(challenge)] == fed(protocol, b"+ " + challenge + b"\r\n")


@pytest.mark.parametrize("received", [b"", b"-ERR no\r\n"])
def test_no_answer_without_a_challenge(received: bytes) -> None:
    """Nothing is answered that was not asked, nor after the end."""
    protocol = in_state(State.AUTHORIZATION)
    protocol.send(Command.AUTH, b"X")
    fed(protocol, received)
    with pytest.raises(LocalProtocolError, match="an answer without challenge"):
        protocol.answer(b"")


def test_one_challenge_has_one_answer() -> None:
    """A second answer to the same challenge is refused, as is one that is too long."""
    protocol = in_state(State.AUTHORIZATION)
    protocol.send(Command.AUTH, b"X")
    fed(protocol, b"+ \r\n")
    with pytest.raises(LocalProtocolError, match="an answer of over 12288 octets"):
        protocol.answer(b"x" * (LONGEST_ANSWER - 1))
    assert LONGEST_ANSWER == len(protocol.answer(b"x" * (LONGEST_ANSWER - 2)))
    with pytest.raises(LocalProtocolError):
        protocol.answer(b"")


def test_challenges_belong_to_auth() -> None:
    """A plus line in answer to anything else is nonsense."""
    protocol = in_state(State.AUTHORIZATION)
    protocol.send(Command.PASS, b"x")
    with pytest.raises(ProtocolViolation):
        fed(protocol, b"+ \r\n")


# -- what goes behind a login ----------------------------------------------------------


def ahead(*commands: Command) -> Protocol:
    """
    Return an engine that has sent *commands* before the answer to the first.
    """
    protocol = in_state(State.AUTHORIZATION)
    for command in commands:
        protocol.send(command)
    return protocol


@pytest.mark.parametrize(
    "login",
    [
        (Command.AUTH,),
        (Command.APOP,),
        (Command.USER, Command.PASS),
        (Command.UTF8, Command.USER, Command.PASS),
        (Command.UTF8, Command.AUTH),
    ],
    ids=str,
)
def test_questions_go_behind_a_login(login: tuple[Command, ...]) -> None:
    """They are answered in their order, and we are logged in by the login's answer."""
    protocol = ahead(*login, Command.CAPA, Command.STAT, Command.UIDL, Command.LIST)
    assert State.AUTHORIZATION == protocol.state
    fed(protocol, b"+OK\r\n" * len(login))
    assert State.TRANSACTION == protocol.state
    fed(protocol, b"+OK\r\n.\r\n+OK 0 0\r\n+OK\r\n.\r\n+OK\r\n.\r\n")
    assert protocol.idle
    protocol.send(Command.RETR, b"1")


@pytest.mark.parametrize("asked", [(), (Command.CAPA,), (Command.CAPA, Command.UIDL)])
@pytest.mark.parametrize("command", Command)
def test_what_retrieves_or_marks_waits_for_the_login(
    command: Command, asked: tuple[Command, ...]
) -> None:
    """Behind a login that is not answered go questions of the maildrop, nothing else."""
    protocol = ahead(Command.AUTH, *asked)
    if command in {Command.CAPA, Command.STAT, Command.LIST, Command.UIDL}:
        assert protocol.send(command)
    else:
        with pytest.raises(LocalProtocolError):
            protocol.send(command)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Command.STLS, Command.AUTH),
        (Command.STLS, Command.CAPA),
        (Command.CAPA, Command.AUTH),
        (Command.CAPA, Command.STLS),
        (Command.USER, Command.CAPA),
        (Command.CAPA, Command.UIDL),
        (Command.AUTH, Command.AUTH),
        (Command.QUIT, Command.CAPA),
    ],
)
def test_what_stands_alone_before_the_login(first: Command, second: Command) -> None:
    """Nothing goes with STLS, nothing before a login, and no half of a login alone."""
    with pytest.raises(LocalProtocolError):
        ahead(first, second)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ((Command.AUTH, Command.CAPA), b"-ERR no\r\n"),
        ((Command.USER, Command.PASS, Command.CAPA), b"-ERR no\r\n"),
        ((Command.USER, Command.PASS, Command.CAPA), b"+OK\r\n-ERR no\r\n"),
    ],
)
def test_a_refused_login_breaks_what_stands_behind_it(
    sent: tuple[Command, ...], said: bytes
) -> None:
    """Its reply is told; nothing more is read or sent."""
    protocol = ahead(*sent)
    protocol.receive(said + b"+OK\r\n.\r\n")
    events = [protocol.next_event() for _ in range(said.count(b"\r\n"))]
    assert not events[-1].reply.ok
    assert State.BROKEN == protocol.state
    with pytest.raises(LocalProtocolError):
        protocol.next_event()
    with pytest.raises(LocalProtocolError):
        protocol.send(Command.QUIT)


def test_a_refused_utf8_breaks_nothing() -> None:
    """It is no part of the login."""
    protocol = ahead(Command.UTF8, Command.AUTH, Command.CAPA)
    fed(protocol, b"-ERR\r\n+OK\r\n+OK\r\n.\r\n")
    assert (State.TRANSACTION, True) == (protocol.state, protocol.idle)


def test_a_challenge_to_all_that_there_is_breaks() -> None:
    """What stands behind AUTH has been taken for the answer."""
    protocol = ahead(Command.AUTH, Command.CAPA)
    with pytest.raises(ProtocolViolation, match="a challenge to all that there is"):
        fed(protocol, b"+ \r\n")
    assert State.BROKEN == protocol.state


# -- ending ---------------------------------------------------------------------------


@pytest.mark.parametrize("state", [it for it in State if it is not State.CLOSED])
def test_an_early_end_breaks(state: State) -> None:
    """A stream that ends before QUIT was answered is a lost connection."""
    protocol = in_state(state)
    with pytest.raises(Disconnected):
        protocol.receive_eof()
    assert State.BROKEN == protocol.state


def test_the_end_after_quit_is_in_order() -> None:
    """After the reply to QUIT the server may close."""
    protocol = in_state(State.CLOSED)
    protocol.receive_eof()
    protocol.abandon()
    assert State.CLOSED == protocol.state


def test_broken_stays_broken() -> None:
    """After nonsense nothing is sent, nothing is read, and no QUIT ends it well."""
    protocol = in_state(State.TRANSACTION)
    protocol.send(Command.DELE, b"1")
    with pytest.raises(ProtocolViolation):
        fed(protocol, b"what?\r\n+OK\r\n")
    with pytest.raises(LocalProtocolError, match="reading is not allowed"):
        protocol.next_event()
    with pytest.raises(LocalProtocolError):
        protocol.send(Command.QUIT)


def test_nothing_repeats_a_password() -> None:
    """No error, event or repr of the engine holds what was sent."""
    protocol = in_state(State.AUTHORIZATION)
    protocol.send(Command.PASS, b"tiger")
    with pytest.raises(ProtocolViolation) as caught:
        fed(protocol, b"what?\r\n")
    assert "tiger" not in repr(caught.value) + repr(vars(protocol))


# -- any octets, any split ------------------------------------------------------------

OCTETS = st.lists(
    st.sampled_from(
        [
            b"+OK",
            b"-ERR",
            b" ",
            b"\r\n",
            b"\r",
            b"\n",
            b".",
            b"..",
            b"\r\n.\r\n",
            b"+ ",
            b"x",
        ]
    )
    | st.binary(max_size=5)
).map(b"".join)

SENT = st.sampled_from(
    [
        [Command.CAPA],
        [Command.AUTH],
        [Command.PASS],
        [Command.AUTH, Command.CAPA, Command.UIDL, Command.LIST],
        [Command.USER, Command.PASS, Command.CAPA, Command.STAT],
        [Command.UIDL, Command.LIST],
        [Command.RETR, Command.RETR, Command.DELE],
        [Command.QUIT],
    ]
)


def told(commands: list[Command], pieces: list[bytes]) -> list[object]:
    """
    Return the events of *pieces*, bodies joined, and what ended them: an error, or a login
    that was refused amid a pipeline.
    """
    state = State.TRANSACTION
    if commands[0] in {Command.AUTH, Command.USER, Command.PASS}:
        state = State.AUTHORIZATION
    protocol, story = in_state(state), list[object]()
    for command in commands:
        protocol.send(command)
    try:
        for piece in pieces:
            protocol.receive(piece)
            while (event := protocol.next_event()) is not NEED_DATA:
                if isinstance(event, BodyChunk) and isinstance(story[-1], BodyChunk):
                    event = BodyChunk(event.command, story.pop().data + event.data)
                story.append(event)
                if protocol.state is State.BROKEN:
                    return [*story, protocol.state]
    except RemoteError as error:
        story.append((type(error), error.args[:2]))
    return [*story, protocol.state]


@settings(max_examples=300)
@example([Command.AUTH, Command.CAPA, Command.UIDL, Command.LIST], b"-ERR\r\n", 3)
@given(SENT, OCTETS, st.integers(0))
def test_any_octets_any_split(
    commands: list[Command], octets: bytes, where: int
) -> None:
    """Any octets, split anywhere, give the same events or a RemoteError, nothing else."""
    cut = where % (len(octets) + 1)
    whole = told(commands, [octets])
    assert whole == told(commands, [octets[:cut], octets[cut:]])
    assert whole == told(commands, [octets[at : at + 1] for at in range(len(octets))])
