"""
A server in memory: the embedded maildrop's own dialogue, without socket or thread.

Rules of this file:

- What speaks is popfetchd.maildrop.dialogue, and what it speaks to is the real
  session over the real engine; only the socket between them is left out.
- Each command is a moment for fate, before the server has heard it and after it was
  answered. The line may drop at each; what was heard was done, answered or not.
- A letter is itself, not its octets or its unique-id: what a server calls it, and how
  long it says it is, may change from visit to visit.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum

from popfetchd.errors import Disconnected, TimedOut
from popfetchd.maildrop.dialogue import CRLF, Dialogue, error
from popfetchd.values import Channel, Secret, UniqueId
from tests.crash.model_fate import DROPS, Deed, Fate


USER, SECRET = "alice", "secret"

TIMESTAMP = "<1@model>"

PATIENCE = 1.0
"""What a server that says nothing is told to have exceeded, in seconds."""


class Ids(Enum):
    """
    What a server does to its unique-ids between two visits.
    """

    KEPT = "kept"
    RENEWED = "all new"
    SHIFTED = "shifted: each letter has that of the one before"
    SAME = "one for all"
    REUSED = "new letters have those of old ones"

    def __repr__(self) -> str:
        return str(self)


@dataclass(eq=False)
class Letter:
    """
    A message as the server holds it.
    """

    octets: bytes = field(repr=False)
    unique_id: UniqueId


class Spoken(Dialogue):
    """
    The dialogue of a server that may lie about octets.
    """

    lie = 0

    def _list(self, argument: str) -> bytes:
        return self._scan(argument, lambda letter: len(letter.octets) + self.lie)

    COMMANDS = Dialogue.COMMANDS | {"LIST": (Dialogue.COMMANDS["LIST"][0], _list)}


class ModelServer:
    """
    A maildrop and its server. *lacks* names commands and capabilities it has not.

    It is the `Maildrop` that `Dialogue` asks for.
    """

    def __init__(self, lacks: Collection[str] = ()) -> None:
        self.user = USER
        self.secret = Secret(SECRET)
        self.lie = 0
        """Octets that LIST adds to what is true."""
        self.letters: list[Letter] = []
        self.delivered: list[bytes] = []
        """The octets of every letter that ever came."""
        self.removed: list[bytes] = []
        """Those of every letter that was removed: in UPDATE, and by us alone."""
        self._lacks = frozenset(lacks)
        self._given = 0
        self._old: list[UniqueId] = []

    # -- between visits ---------------------------------------------------------------

    def deliver(self, octets: bytes, *, reuse: bool = False) -> None:
        """
        Take a letter; *reuse*: under the unique-id of one that is gone.
        """
        name = self._old.pop(0) if reuse and self._old else self._fresh()
        self.letters.append(Letter(octets, name))
        self.delivered.append(octets)

    def rename(self, ids: Ids) -> None:
        """
        Do to the unique-ids what *ids* says.
        """
        names = [letter.unique_id for letter in self.letters]
        if ids is Ids.RENEWED:
            names = [self._fresh() for _ in names]
        elif ids is Ids.SHIFTED:
            names = names[-1:] + names[:-1]
        elif ids is Ids.SAME:
            names = [UniqueId("same") for _ in names]
        for letter, name in zip(self.letters, names, strict=True):
            letter.unique_id = name

    def _fresh(self) -> UniqueId:
        self._given += 1
        return UniqueId(f"u{self._given}")

    # -- as Dialogue's maildrop -------------------------------------------------------

    @property
    def messages(self) -> tuple[Letter, ...]:
        return tuple(self.letters)

    def remove(self, letters: Collection[Letter]) -> None:
        for letter in self.letters:
            if letter in letters:
                self.removed.append(letter.octets)
                self._old.append(letter.unique_id)
        self.letters = [letter for letter in self.letters if letter not in letters]

    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...

    # -- as a client reaches it -------------------------------------------------------

    def connect(self, fate: Fate) -> ModelTransport:
        """
        Return a line to a session of its own.
        """
        dialogue = Spoken({USER: self}, TIMESTAMP, lacks=self._lacks)
        dialogue.lie = self.lie
        return ModelTransport(dialogue, fate)


class ModelTransport:
    """
    A line, as popfetchd.pop3.transport.Transport is one: the same methods.
    """

    def __init__(self, dialogue: Dialogue, fate: Fate) -> None:
        self.channel = Channel("model")
        self._dialogue = dialogue
        self._fate = fate
        self._answers = dialogue.greeting
        self._dropped = False

    def recv(self, step: str) -> bytes:
        octets = self.waiting(step)
        if not octets and not (self._dropped or self._dialogue.ended):
            raise TimedOut(step, PATIENCE)
        return octets

    def waiting(self, _step: str) -> bytes:
        octets, self._answers = self._answers, b""
        return octets

    def send(self, data: bytes, step: str) -> None:
        if self._dropped:
            raise Disconnected(step, "the line has dropped")
        for line in data.split(CRLF)[:-1]:
            self._say(line)

    def _say(self, line: bytes) -> None:
        # What stands behind the command that the line drops at is not heard.
        if self._dropped or self._dialogue.ended:
            return
        word = line.split(b" ")[0].decode()
        deed = self._fate.meet(word)
        self._dropped = deed in DROPS
        if deed is Deed.REFUSED:
            self._answers += error("not now")
        elif deed is not Deed.UNHEARD:
            answer = b"".join(self._dialogue.receive(line + CRLF))
            self._answers += heard(answer, deed)
        self._fate.meet(f"{word} done")

    def close(self) -> None:
        self._dropped = True
        if not self._dialogue.ended:
            self._dialogue.close()


def heard(answer: bytes, deed: Deed | None) -> bytes:
    """
    Return as much of *answer* as comes through.
    """
    if deed is Deed.UNANSWERED:
        return b""
    return answer[: len(answer) // 2] if deed is Deed.HALF_ANSWERED else answer
