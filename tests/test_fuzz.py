"""
The whole session, the engine and each parser against any octets; see fuzz/target.py.

Here a small sample; `HYPOTHESIS_PROFILE=fuzz`: 100,000 examples of each. `make fuzz` lets
libFuzzer look for them.
"""

from __future__ import annotations

import pytest

from hypothesis import example, given
from hypothesis import strategies as st

from popfetchd.pop3 import session
from popfetchd.pop3.protocol import Protocol
from popfetchd.pop3.session import Session
from popfetchd.values import Mechanism, TlsMode
from tests.fuzz import target
from tests.fuzz.target import Foul, Story, engine, exchanges, parsers, seeds, visit


SEEDS = list(seeds())

CHOICES = st.integers(0, len(TlsMode) * len(Mechanism) - 1)

WORDS = [
    b"+OK",
    b"-ERR",
    b"+OK 3 600",
    b"-ERR [SYS/TEMP] ",
    b"-ERR [IN-USE]",
    b"<1.2@host>",
    b" ",
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b".",
    b"..",
    b"\r\n.\r\n",
    b"+ ",
    b"1 a",
    b"2 120",
    b"9" * 30,
    b"PIPELINING\r\n",
    b"SASL PLAIN\r\n",
    b"STLS\r\n",
    b"x" * 600,
]

TOKENS = st.sampled_from(WORDS)

OCTETS = st.lists(TOKENS | st.binary(max_size=5), max_size=20).map(b"".join)

LINES = st.lists(
    st.sampled_from(
        [b"+OK\r\n", b"-ERR\r\n", b"+ \r\n", b"+OK 1 2\r\n", b"+OK\r\n1 a\r\n.\r\n"]
    )
    | OCTETS,
    max_size=30,
)
"""Mostly replies, so that a story is long before it becomes nonsense."""


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """
    Octets of a server: made up, or a story that makes sense with one thing wrong.
    """
    segments = list(draw(LINES))
    if draw(st.booleans()):
        seed = draw(st.sampled_from(SEEDS))
        segments = list(seed.segments)
        at = draw(st.integers(0, len(segments)))
        segments[at : at + draw(st.integers(0, 2))] = [draw(OCTETS)]
    if segments and draw(st.booleans()):
        at = draw(st.integers(0, len(segments) - 1))
        segments[at] = target.UNASKED + segments[at]
    return Story(draw(CHOICES), tuple(segments))


@given(stories())
def test_any_octets_in_a_session(story: Story) -> None:
    """Any octets, any split, greeting to QUIT: a value or an error that names the server."""
    visit(story)


@given(stories())
def test_any_octets_in_the_engine(story: Story) -> None:
    """The engine tells the same, wherever the story is cut."""
    engine(story)
    pieces = (story.octets[at : at + 1] for at in range(len(story.octets)))
    engine(Story(story.choice, tuple(pieces)))


def spelt(octets: bytes) -> Story:
    """
    Return a story of one word for each octet; the largest octets part two segments.
    """
    segments: list[list[bytes]] = [[]]
    for octet in octets[1:]:
        if octet >= 230:
            segments.append([])
        else:
            segments[-1].append(WORDS[octet % len(WORDS)])
    return Story(sum(octets[:1]), tuple(map(b"".join, segments)))


@given(st.binary(max_size=80).map(spelt))
def test_any_words_in_the_engine(story: Story) -> None:
    """The same for stories that are quickly made: 100,000 take four minutes."""
    engine(story)


@given(OCTETS | st.binary(max_size=300))
@example(b"1 " + b"x" * 5000)
def test_any_octets_in_each_parser(octets: bytes) -> None:
    """Each parser gives a value or a RemoteError."""
    parsers(octets)


FIRST = b"r=nonceX,s=c2FsdA==,i=4096"


@given(st.sampled_from(range(len(Mechanism))), OCTETS | st.binary(max_size=300))
@example(list(Mechanism).index(Mechanism.SCRAM_SHA_256), FIRST)
@example(list(Mechanism).index(Mechanism.SCRAM_SHA_1), FIRST + b"\xfe\xfev=abcd")
@example(list(Mechanism).index(Mechanism.SCRAM_SHA_1), FIRST + b"9999999999999999")
def test_any_octets_as_challenges(mechanism: int, octets: bytes) -> None:
    """Each mechanism of AUTH answers any challenges, or raises a RemoteError."""
    exchanges(bytes([mechanism]) + octets)


@pytest.mark.parametrize("mode", TlsMode)
def test_a_good_server_is_understood_to_the_end(mode: TlsMode) -> None:
    """The seeds reach QUIT, on every kind of channel: the fuzzer begins there."""
    whole = [s for s in SEEDS if list(TlsMode)[s.choice % len(TlsMode)] is mode]
    assert [] in [visit(story) for story in whole]


def test_a_story_is_written_as_it_is_read() -> None:
    """What is a file of the corpus is the same story again."""
    for story in SEEDS:
        assert story.octets == Story.read(story.written()).octets


# -- it finds what it is there for ----------------------------------------------------


def visit_all() -> None:
    """
    Make a visit to the server of each seed.
    """
    for story in SEEDS:
        visit(story)


def test_an_unforeseen_exception_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no error of ours leaves the visit."""

    def careless(text: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(session, "parse_drop_listing", careless)
    with pytest.raises(ZeroDivisionError):
        visit_all()


def test_a_credential_in_clear_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user name that crosses the wire before TLS is a finding."""
    monkeypatch.setattr(Session, "_start_tls", lambda self, contexts: None)
    monkeypatch.setattr(Session, "_gate", lambda self, secret: None)
    with pytest.raises(Foul, match="a credential in clear"):
        visit_all()


def test_a_limit_that_does_not_hold_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of a header than TOP_OCTETS is a finding."""
    monkeypatch.setattr(target, "TOP_OCTETS", 3)
    with pytest.raises(Foul, match="more of a header"):
        visit_all()


def test_a_password_that_is_told_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that echoes finds a session that forgets to mask."""
    monkeypatch.setattr(Session, "_masked", lambda self, octets: octets)
    echo = f"-ERR {target.PASSWORD}\r\n".encode()
    none = list(TlsMode).index(TlsMode.NONE)
    user = list(Mechanism).index(Mechanism.USER)
    choice = none + len(TlsMode) * user
    with pytest.raises(Foul, match="the password is told"):
        visit(Story(choice, (b"+OK\r\n", b"-ERR\r\n", b"+OK\r\n", echo)))


def test_a_split_that_counts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that forgets what it has not used is a finding."""

    def forgetful(self: Protocol, data: bytes) -> None:
        self._buffer, self._at = data, 0

    monkeypatch.setattr(Protocol, "receive", forgetful)
    with pytest.raises(Foul, match="depends on the split"):
        engine(Story(0, (b"+O", b"K\r\n.\r\n")))
