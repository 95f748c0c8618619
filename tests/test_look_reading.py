"""
A message as a person reads it: any octets give lines, in bounded time.
"""

from __future__ import annotations

import base64

import pytest

from hypothesis import example, given
from hypothesis import strategies as st

from popfetchd.look import reading
from popfetchd.look.reading import MOST_PARTS, lines


HEAD = b"From: Ada <ada@example.org>\r\nSubject: =?utf-8?q?=C3=A4?=\r\nX-Other: no\r\n"

TOLD = ["From: Ada <ada@example.org>", "Subject: ä", ""]


def part(kind, text, *more):
    """
    Return a part of a message, with *more* fields.
    """
    return b"\r\n".join([b"--b", b"Content-Type: " + kind, *more, b"", text, b""])


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"\r\nHello.\r\n", ["Hello.", ""]),
        (b"\r\nH\xc3\xa4\r\n", ["Hä", ""]),
        (b"\r\n\xff\r\n", ["\ufffd", ""]),
        (b"Content-Type: text/plain; charset=latin-1\r\n\r\n\xe4", ["ä"]),
        (b"Content-Type: text/plain; charset=klingon\r\n\r\n\xe4", ["ä"]),
        (b"Content-Transfer-Encoding: base64\r\n\r\nSGVsbG8=\r\n", ["Hello"]),
        (b"Content-Transfer-Encoding: base64\r\n\r\n!\r\n", [""]),
        (b"Content-Type: text/html\r\n\r\n<p>x\r\n", ["[text/html]", "<p>x", ""]),
        (b"Content-Type: image/png\r\n\r\n\x89PNG", ["[image/png]"]),
        (b"", [""]),
    ],
)
def test_texts_are_decoded_and_the_rest_is_named(body, shown):
    """
    The main fields first; of the body what is text, decoded as it says.
    """
    assert TOLD + shown == lines(HEAD + body)


def test_parts_are_shown_in_their_order():
    """
    Plain text as it is, HTML under its name, an attachment by its name alone.
    """
    body = part(b"text/plain", b"one") + part(b"text/html", b"two")
    body += part(b"application/pdf", b"three") + b"--b--\r\n"
    message = HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + body
    assert [*TOLD, "one", "[text/html]", "two", "[application/pdf]"] == lines(message)


def test_no_message_has_too_many_parts():
    """
    What is behind the hundredth is left out.
    """
    body = part(b"image/png", b"") * (MOST_PARTS + 50) + b"--b--\r\n"
    message = HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + body
    assert MOST_PARTS - 1 == len(lines(message)) - len(TOLD)


def test_a_message_nested_too_deeply_is_shown_as_it_stands():
    """
    The parser is not asked.
    """
    nested = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
        for n in range(2000)
    )
    assert nested.decode().replace("\r\n", "\n").split("\n") == lines(nested)


MIXED = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"


@pytest.mark.parametrize(
    "octets",
    [
        HEAD + b"Content-Type: " + b";" * 1_000_000 + b"\r\n\r\nx",
        HEAD + b"Content-Type: a/b" + b";\r\n a=b" * 100_000 + b"\r\n\r\nx",
        HEAD + b"Content-Type: message/rfc822\r\n\r\n" * 20_000,
        HEAD + b"Content-Type: text/plain; charset=punycode\r\n\r\n" + b"a" * 1_000_000,
        HEAD + b"\r\n" + b"x" * 1_000_000,
        HEAD + MIXED + b"--b\r\n\r\n" * 140_000,
        HEAD
        + b"Content-Type: message/delivery-status\r\n\r\n"
        + b"a:\r\n\r\n" * 140_000,
    ],
    ids=[
        "semicolons",
        "parameters",
        "messages",
        "punycode",
        "one line",
        "parts",
        "blocks",
    ],
)
def test_a_megabyte_of_malice_costs_little(octets):
    """
    What Python's parser takes a minute and more for is not given to it.
    """
    assert lines(octets)


def test_what_the_parser_cannot_take_is_shown_as_it_stands(monkeypatch):
    """
    Whatever it stumbles over.
    """

    def stumble(_self, _octets):
        raise AttributeError

    monkeypatch.setattr(reading.BytesParser, "parsebytes", stumble)
    assert ["a", "b"] == lines(b"a\r\nb")


def test_a_text_without_octets_is_none():
    """
    A part that says it is text, and holds a message.
    """
    message = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: x\r\n\r\nhi"
    assert ["", "hi"] == lines(message)


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda b: HEAD + b))
@example(b"Content-Type: message/rfc822\r\n\r\n")
@example(b"Content-Type: multipart/mixed\r\n\r\n--")
@example(b"Content-Transfer-Encoding: uuencode\r\n\r\nbegin 1 x\r\n\xff")
@example(b"Content-Type: text/plain; charset*=utf-8''%ff\r\n\r\nx")
@example(b"Content-Type: text/plain; charset=idna\r\n\r\n" + b"x" * 99)
@example(b'Content-Type: text/plain; charset="\0"\r\n\r\nx')
@example(b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(b"x")[:-1])
def test_any_octets_give_lines(octets):
    """
    Invariant: no message, however hostile, raises, and no line holds a line end.
    """
    for line in lines(octets):
        assert "\n" not in line
