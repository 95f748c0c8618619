"""
Letters that look like the mail of a working day, for the demo.

Rules of this file:

- A letter is a pure function of its number and its date: the same demo twice shows
  the same mail.
- The kinds, in `KINDS`, take turns; each shows one thing that real mail does. What
  only a hostile or broken sender writes is for the tests (tests/letters.py).
- All octets are made here: CRLF line ends, no library's idea of a boundary.
- Nobody is real: only the names of RFC 2606 and RFC 6761 stand in addresses.
"""

from __future__ import annotations

import base64
import quopri
import random

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.header import Header
from email.utils import format_datetime


PEOPLE = (
    ("Ada Byron", "ada@example.org"),
    ("Jörg Müller", "joerg@example.net"),
    ("Łucja Wiśniewska", "lucja@example.com"),
    ("Σοφία Παππά", "sofia@example.org"),
    ("Дарья Соколова", "darya@example.net"),
    ("佐藤 花子", "hanako@example.com"),
    ("محمد علي", "mohammed@example.org"),
    ("김민준", "minjun@example.net"),
    ("François Lefèvre", "francois@example.com"),
    ("O'Neil, Pat (Accounts)", "pat.oneil@example.com"),
)
"""Senders, with the alphabets that a mail reader has to show."""

SENTENCES = (
    "The invoice for March is attached and due within thirty days.",
    "Please tell us whether the second delivery arrived complete.",
    "We moved the meeting to Thursday at ten, in the small room on the first floor.",
    "Nobody knows yet who will speak first, but the agenda is nearly done.",
    "The figures look better than last year's; details below.",
    "Could you send me the signed copy before the end of the week?",
    "I shall be away until Monday and read mail only in the evening.",
    "Thanks for your patience: the printer on the second floor works again.",
    "The train was late, so I read the whole report, twice.",
    "As agreed on the telephone, here are the three open questions.",
    "If you have done this already, please ignore this reminder.",
    "It rained all day and we stayed in; the children send their love.",
)
"""What letters say."""

RECIPIENT = "demo@example.com"
"""To whom everything is addressed."""


@dataclass(frozen=True, slots=True)
class Pen:
    """
    What a kind of letter is written with: its date, its sender, and its own chance.
    """

    number: int
    date: datetime
    chance: random.Random
    sender: tuple[str, str]

    def header(self, subject: str, *more: str, hops: int = 1) -> bytes:
        """
        Return a header, without its empty line; Received stands topmost, newest first.
        """
        name, address = self.sender
        lines = [
            *(self._received(hop) for hop in range(hops)),
            f"Date: {format_datetime(self.date)}",
            f"From: {phrase(name)} <{address}>",
            f"To: {RECIPIENT}",
            f"Subject: {encoded(subject)}",
            f"Message-ID: <{self.date:%Y%m%d%H%M%S}.{self.number}@{domain(address)}>",
            *more,
        ]
        return "".join(f"{line}\r\n" for line in lines).encode("utf-8")

    def _received(self, hop: int) -> str:
        earlier = self.date - timedelta(seconds=3 * hop)
        return (
            f"Received: from relay{hop + 1}.example.net (relay{hop + 1}.example.net "
            f"[192.0.2.{hop + 1}])\r\n\tby mx{hop}.example.com with ESMTPS"
            f" id {self.number:06d}{hop};\r\n\t{format_datetime(earlier)}"
        )

    def text(self, sentences: int, end: str = "\r\n") -> str:
        """
        Return so many sentences, at most all there are, each followed by *end*.
        """
        chosen = self.chance.sample(SENTENCES, k=sentences)
        return "".join(sentence + end for sentence in chosen)


def letter(number: int, date: datetime) -> bytes:
    """
    Return letter *number* (from 0), sent at *date*, which needs a time zone.
    """
    chance = random.Random(number)  # noqa: S311 -- to be repeated, not to be secret
    pen = Pen(number, date, chance, PEOPLE[number % len(PEOPLE)])
    return KINDS[number % len(KINDS)](pen)


def letters(count: int, until: datetime, apart: timedelta) -> Iterator[bytes]:
    """
    Yield letters 0 … *count* - 1, oldest first, the last of them sent at *until*.
    """
    for number in range(count):
        yield letter(number, until - apart * (count - 1 - number))


def encoded(text: str) -> str:
    """
    Return *text* as a header may hold it: an encoded word where need be (RFC 2047).
    """
    return text if text.isascii() else Header(text, "utf-8").encode(linesep="\r\n")


def phrase(name: str) -> str:
    """
    Return *name* as it may stand before an address: quoted where need be (RFC 5322).
    """
    return f'"{name}"' if set(name) & set("(),:;<>@") else encoded(name)


def domain(address: str) -> str:
    """
    Return what stands behind the @.
    """
    return address.rpartition("@")[2]


def part(kind: str, body: bytes) -> bytes:
    """
    Return one part of a multipart letter, with its boundary line before it.
    """
    return b"--=_part\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + body + b"\r\n"


def wrapped(octets: bytes) -> bytes:
    """
    Return *octets* as base64 in lines of 76 characters (RFC 2045 §6.8).
    """
    return base64.encodebytes(octets).replace(b"\n", b"\r\n")


# -- the kinds ------------------------------------------------------------------------


def plain(pen: Pen) -> bytes:
    """
    Text and a signature: most of all mail.
    """
    text = pen.text(6) + f"\r\n-- \r\n{pen.sender[0]}\r\n"
    kind = "Content-Type: text/plain; charset=utf-8"
    return pen.header("Thursday at ten", kind) + b"\r\n" + text.encode()


def attachment(pen: Pen) -> bytes:
    """
    A note and a file in base64.
    """
    file = part(
        'application/pdf; name="invoice.pdf"\r\nContent-Transfer-Encoding: base64\r\n'
        'Content-Disposition: attachment; filename="invoice.pdf"',
        wrapped(b"%PDF-1.4\n" + pen.chance.randbytes(24_000 + 900 * (pen.number % 50))),
    )
    kind = 'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="=_part"'
    note = part("text/plain", pen.text(2).encode())
    head = pen.header(f"Invoice {2000 + pen.number}", kind)
    return head + b"\r\n" + note + file + b"--=_part--\r\n"


def html(pen: Pen) -> bytes:
    """
    The same text twice, plain and as HTML.
    """
    text = pen.text(4)
    page = f"<html><body><h1>News</h1><p>{text}</p></body></html>\r\n"
    kind = 'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="=_part"'
    parts = part("text/plain", text.encode()) + part("text/html", page.encode())
    return pen.header("Our newsletter", kind) + b"\r\n" + parts + b"--=_part--\r\n"


def eight_bit(pen: Pen) -> bytes:
    """
    Text in latin-1, unencoded.
    """
    kind = (
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
        "Content-Transfer-Encoding: 8bit"
    )
    text = "Schöne Grüße aus Köln, à bientôt, mañana más.\r\n" * 3
    return pen.header("Grüße", kind) + b"\r\n" + text.encode("latin-1")


def quoted_printable(pen: Pen) -> bytes:
    """
    Text of another alphabet in quoted-printable, with soft line breaks.
    """
    kind = (
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: quoted-printable"
    )
    text = "Встреча перенесена на четверг. 会議は木曜日に変更されました。\n" * 2
    body = quopri.encodestring(text.encode()).replace(b"\n", b"\r\n")
    return pen.header("会議の変更 / Встреча", kind) + b"\r\n" + body


def mailing_list(pen: Pen) -> bytes:
    """
    List mail: several Received, folded header fields, a quotation.
    """
    more = (
        f"References: <1.{pen.number}@example.org>\r\n\t<2.{pen.number}@example.org>",
        "List-Id: People who talk <talk.example.org>",
        "List-Unsubscribe: <mailto:talk-leave@example.org>",
        "Precedence: list",
    )
    quotation = "".join(f"> {line}\r\n" for line in pen.text(3).splitlines())
    head = pen.header("Re: [talk] The agenda", *more, hops=4)
    return head + b"\r\n" + (quotation + "\r\n" + pen.text(4)).encode()


def long_lines(pen: Pen) -> bytes:
    """
    One paragraph to a line, as some programs write: far beyond 998 octets.
    """
    text = (pen.text(12, end=" ") * 7 + "\r\n") * 3
    return pen.header("Minutes") + b"\r\n" + text.encode()


def dots(pen: Pen) -> bytes:
    """
    Lines that begin with a dot, and one that is only a dot: byte-stuffing at work.
    """
    text = ".profile is attached.\r\n.\r\n..\r\n. and so on\r\n" + pen.text(2)
    return pen.header("My dot files") + b"\r\n" + text.encode()


def from_lines(pen: Pen) -> bytes:
    """
    Lines that an mbox would have to quote.
    """
    text = f"{pen.text(1)}\r\nFrom what I hear, it works.\r\n>From here too.\r\n"
    return pen.header("From us to you") + b"\r\n" + text.encode()


def empty(pen: Pen) -> bytes:
    """
    No body: all is in the subject.
    """
    return pen.header("Call me back, please (EOM)") + b"\r\n"


def unfinished(pen: Pen) -> bytes:
    """
    The last line has no end; the server has to add one.
    """
    return pen.header("Sent from a phone") + b"\r\n" + pen.text(1).strip().encode()


KINDS: tuple[Callable[[Pen], bytes], ...] = (
    plain,
    attachment,
    html,
    mailing_list,
    eight_bit,
    quoted_printable,
    dots,
    long_lines,
    from_lines,
    empty,
    unfinished,
)
"""The kinds, in the order in which they take turns."""
