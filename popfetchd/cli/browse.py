"""
`popfetchd browse ACCOUNT`: go through a maildrop, message by message.

Rules of this file:

- Choices are collected. At the end what is to be archived is archived, by the machinery
  of every visit; then what is to be deleted is named, one line each, and only the whole
  word "yes" sends a DELE.
- Until then the server has been told nothing: Ctrl-C, the end of the input or an error
  leave everything as it was.
- What is not archived is deleted only if a person says so twice. Archived means proven
  in this session, and the copy looked at when the choice is made.
- The account's lock is held: no visit comes between.
"""

from __future__ import annotations

import signal
import sys

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from popfetchd.browsing import Browsed, browse
from popfetchd.cli import exits
from popfetchd.cli.conversation import Conversation, on_terminal
from popfetchd.cli.exits import Exit
from popfetchd.cli.opened import opened, reading
from popfetchd.cli.tables import Style, octets
from popfetchd.errors import PopfetchdError, ServerRefusal
from popfetchd.look import Shown
from popfetchd.look.reading import lines
from popfetchd.removal import Order, Proven
from popfetchd.values import MessageNumber


PATIENCE = 10.0
"""Seconds that a person waits for a visit of the same account to end."""

MENU = "[s]how [k]eep [a]rchive [d]elete [b]ack [q]uit, ? for help:"

HELP = (
    "s  show it, page by page, with TOP: nothing is marked as read",
    "k  keep it, whatever was chosen before, and go on",
    "a  archive it at the end, and go on",
    "d  delete it from the server at the end, after a question, and go on",
    "b  back to the message before",
    "q  to the end: archive what is chosen, ask before deleting",
    "Enter goes on, a number goes to that message, Ctrl-C leaves all as it was",
)

UNTOUCHED = "popfetchd: nothing was deleted"

UNARCHIVED = "It is not archived"

RETRIEVED = (
    "A message was retrieved and could not be archived: the server might hide it, so "
    "the session ends without QUIT, and nothing is deleted."
)

UNCERTAIN = "popfetchd: what was deleted is not certain: `popfetchd list` shows it"


def run(arguments: Namespace) -> int:
    """
    Browse the maildrop of one account.
    """
    if not on_terminal():
        print("popfetchd: browse needs a terminal", file=sys.stderr)
        print("  hint: `popfetchd list` can be piped", file=sys.stderr)
        return Exit.USAGE
    # A parent may have had it ignored; who answers must be able to stop as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        opened(reading(arguments), [arguments.account]) as found,
        browse(found.visits, found.accounts[0], PATIENCE) as browsed,
        _ending(browsed),
    ):
        talk = Conversation(browsed.drop.stay)
        drop = browsed.drop.drop
        talk.say(
            f"{arguments.account}: {drop.messages} messages, {octets(drop.octets)}"
        )
        numbers = browsed.drop.numbers
        tour = Tour(browsed, talk, numbers if arguments.oldest else numbers[::-1])
        tour.go()
        return End(browsed, talk, tour.choices).come()


@contextmanager
def _ending(browsed: Browsed) -> Iterator[None]:
    # Whatever ends it early: say what became of the messages.
    try:
        yield
    except (PopfetchdError, KeyboardInterrupt, EOFError) as error:
        print(UNCERTAIN if browsed.removing else UNTOUCHED, file=sys.stderr)
        if isinstance(error, EOFError):
            raise KeyboardInterrupt from None
        raise


@dataclass
class Choices:
    """
    What a person wants done at the end; what is in neither is kept.

    A message in both is archived first. A proof of None in *delete*, of a message that
    is not in *archive*: it is to go without a copy, as was said twice.
    """

    archive: dict[MessageNumber, Shown] = field(default_factory=dict)
    delete: dict[MessageNumber, tuple[Shown, Proven | None]] = field(
        default_factory=dict
    )

    def keep(self, number: MessageNumber) -> None:
        """
        Take back what was chosen for a message.
        """
        self.archive.pop(number, None)
        self.delete.pop(number, None)

    def told(self, number: MessageNumber) -> str:
        """
        Say what is chosen for a message; nothing if it is kept.
        """
        archive = ["archive"] * (number in self.archive)
        delete = ["delete"] * (number in self.delete)
        return " and ".join(archive + delete)


Verb = Callable[[int, Shown], int | None]
"""Takes the place in the order, and the message there; returns the next place, or None."""


class Tour:
    """
    The way through the messages *order*; afterwards *choices* hold what was chosen.
    """

    def __init__(
        self, browsed: Browsed, talk: Conversation, order: Sequence[MessageNumber]
    ) -> None:
        self.choices = Choices()
        self._browsed = browsed
        self._talk = talk
        self._order = order

    def go(self) -> None:
        """
        Stop at each message until the last has been left, or there is enough.
        """
        at = 0
        while at < len(self._order):
            at = self._stop(at)

    def _stop(self, at: int) -> int:
        # Returns where to stop next.
        shown = self._browsed.drop.show(self._order[at])
        self._introduce(at, shown)
        there: int | None = None
        while there is None:
            answer = self._talk.ask(MENU)
            there = self._numbered(answer)
            if there is None:
                there = self._verb(answer)(at, shown)
        return there

    def _verb(self, answer: str) -> Verb:
        verbs: dict[str, Verb] = {
            "": lambda at, _: at + 1,
            "show": self._show,
            "keep": self._keep,
            "archive": self._archive,
            "delete": self._delete,
            "back": lambda at, _: max(0, at - 1),
            "quit": lambda _at, _: len(self._order),
        }
        named = (verb for name, verb in verbs.items() if answer in {name, name[:1]})
        return next(named, self._help)

    def _keep(self, at: int, shown: Shown) -> int:
        self.choices.keep(shown.listed.number)
        return at + 1

    def _archive(self, at: int, shown: Shown) -> int | None:
        if shown.proven:
            self._talk.say("It is archived.")
            return None
        self.choices.archive[shown.listed.number] = shown
        return at + 1

    def _delete(self, at: int, shown: Shown) -> int | None:
        return at + 1 if self._deletes(shown) else None

    def _introduce(self, at: int, shown: Shown) -> None:
        number, told = shown.listed.number, self.choices.told(shown.listed.number)
        size = "" if shown.listed.octets is None else octets(shown.listed.octets)
        archived = "archived" if shown.proven else "not archived"
        chosen = f"  chosen: {told}" if told else ""
        self._talk.say()
        self._talk.say(
            f"message {number} ({at + 1} of {len(self._order)})  {size}  {archived}"
            f"{chosen}",
            Style.HEAD,
        )
        self._talk.say(f"  date     {shown.summary.date}")
        self._talk.say(f"  from     {shown.summary.sender}")
        self._talk.say(f"  subject  {shown.summary.subject}")

    def _show(self, _at: int, shown: Shown) -> None:
        try:
            opened = self._browsed.drop.open(shown.listed.number)
        except ServerRefusal as refusal:
            self._talk.say(f"{refusal}; archive it to read it", Style.ODD)
            return
        cut = ["", "(cut here: TOP was asked for no more)"] if opened.cut else []
        self._talk.read_out([*lines(opened.octets), *cut])

    def _deletes(self, shown: Shown) -> bool:
        # Returns whether that is decided.
        number, proof = shown.listed.number, shown.proven
        if number in self.choices.archive:
            self.choices.delete[number] = (shown, None)
            return True
        if proof is not None and self._browsed.still_archived(proof):
            self.choices.delete[number] = (shown, proof)
            return True
        return self._deletes_unarchived(shown, was=proof is not None)

    def _deletes_unarchived(self, shown: Shown, *, was: bool) -> bool:
        state = "Its copy is gone from the archive, or altered" if was else UNARCHIVED
        self._talk.say(f"{state}: once deleted it is lost.", Style.BAD)
        answer = self._talk.ask(
            "Type archive to archive it first, delete to lose it, Enter to go back:"
        )
        if answer == "archive":
            self.choices.archive[shown.listed.number] = shown
        if answer in {"archive", "delete"}:
            self.choices.delete[shown.listed.number] = (shown, None)
        return answer in {"archive", "delete"}

    def _numbered(self, answer: str) -> int | None:
        if answer.isdecimal() and len(answer) < 10:
            wanted = MessageNumber(int(answer))
            return self._order.index(wanted) if wanted in self._order else None
        return None

    def _help(self, _at: int, _shown: Shown) -> None:
        for line in HELP:
            self._talk.say(f"  {line}")


class End:
    """
    What is done when the tour is over: archive, ask, delete.
    """

    def __init__(self, browsed: Browsed, talk: Conversation, choices: Choices) -> None:
        self._browsed = browsed
        self._talk = talk
        self._choices = choices
        self._code = Exit.OK

    def come(self) -> Exit:
        """
        Do what was chosen, and return the exit code.
        """
        self._talk.say()
        proofs = self._archive()
        orders = [*self._orders(proofs)]
        if orders and self._agrees(orders):
            self._delete(orders)
        else:
            self._talk.say("Nothing was deleted.")
        return self._code

    def _archive(self) -> dict[MessageNumber, Proven]:
        chosen = self._choices.archive
        if not chosen:
            return {}
        done = self._browsed.archive(chosen.keys())
        for sentence in done.report.failed_messages:
            self._talk.say(sentence, Style.BAD)
        self._talk.say(f"Archived {done.report.archived} of {len(chosen)} messages.")
        if done.report.failure is not None:
            raise done.report.failure
        self._code = exits.of_report(done.report)
        return {proof.number: proof for proof in done.proven}

    def _orders(self, proofs: dict[MessageNumber, Proven]) -> Iterator[Order]:
        for number, (shown, proof) in self._choices.delete.items():
            first = number in self._choices.archive
            proven = proofs.get(number) if first else proof
            if first and proven is None:
                self._talk.say(f"{number} was not archived: it stays.", Style.BAD)
            else:
                yield Order(shown.listed, proven)

    def _agrees(self, orders: Sequence[Order]) -> bool:
        if not self._browsed.may_end:
            self._talk.say(RETRIEVED, Style.BAD)
            return False
        self._talk.say(f"Delete {len(orders)} of the server's messages:", Style.HEAD)
        for order in orders:
            shown, _ = self._choices.delete[order.listed.number]
            lost = "" if order.proven else "  NOT ARCHIVED"
            date, sender, subject = shown.summary
            line = f"  {order.listed.number}{lost}  {date}  {sender}  {subject}"
            self._talk.say(line, None if order.proven else Style.BAD)
        return self._talk.agrees("Delete them?")

    def _delete(self, orders: Sequence[Order]) -> None:
        removed = self._browsed.remove(orders)
        for order in orders:
            if order.listed.number not in removed:
                self._talk.say(f"The server keeps {order.listed.number}.", Style.BAD)
                self._code = Exit.UNAVAILABLE
        self._talk.say(f"Deleted {len(removed)}.")
