"""
The demo's letters are real mail, each in its own way.
"""

from __future__ import annotations

import datetime as dt
import email
import email.policy

from email.utils import parsedate_to_datetime

import pytest

from popfetchd.maildrop.letters import KINDS, letter, letters


NOW = dt.datetime(2026, 3, 14, 15, 9, 26, tzinfo=dt.UTC)
FEW = range(3 * len(KINDS))


def parsed(number: int) -> email.message.EmailMessage:
    """
    Return letter *number* as the standard library reads it.
    """
    return email.message_from_bytes(letter(number, NOW), policy=email.policy.default)


@pytest.mark.parametrize("number", FEW)
def test_a_letter_has_the_header_of_mail(number):
    """
    Every letter names sender, subject, date and id, and parses without a defect.
    """
    message = parsed(number)
    assert [] == [d for part in message.walk() for d in part.defects]
    assert message["From"].addresses[0].domain.startswith("example.")
    assert message["Subject"]
    assert message["Date"].datetime == NOW


@pytest.mark.parametrize("number", FEW)
def test_the_topmost_received_tells_the_date(number):
    """
    What an archive takes for the arrival is the date that was asked for.
    """
    topmost = parsed(number).get_all("Received")[0]
    assert parsedate_to_datetime(topmost.rpartition(";")[2].strip()) == NOW


@pytest.mark.parametrize("number", FEW)
def test_only_crlf_ends_lines(number):
    """
    No letter holds a bare CR or LF.
    """
    octets = letter(number, NOW)
    assert octets.count(b"\r") == octets.count(b"\n") == octets.count(b"\r\n")


def test_the_same_number_and_date_give_the_same_letter():
    """
    Two demos show the same mail.
    """
    assert [letter(n, NOW) for n in FEW] == [letter(n, NOW) for n in FEW]


def test_no_two_letters_are_equal():
    """
    Sixty letters are sixty messages, by content and by Message-ID.
    """
    numbers = range(60)
    assert 60 == len({letter(number, NOW) for number in numbers})
    assert 60 == len({parsed(number)["Message-ID"] for number in numbers})


def test_the_kinds_show_what_real_mail_does():
    """
    Attachments, alphabets, dots, long lines, several hops, no body, no final line end.
    """
    some = [letter(number, NOW) for number in FEW]
    assert any(b"Content-Disposition: attachment" in octets for octets in some)
    assert any("会議" in parsed(number)["Subject"] for number in FEW)
    assert any(b"\r\n.\r\n" in octets for octets in some)
    assert any(b"\r\nFrom what" in octets for octets in some)
    assert any(len(line) > 998 for octets in some for line in octets.split(b"\r\n"))
    assert any(octets.count(b"Received: ") > 3 for octets in some)
    assert any(octets.endswith(b"\r\n\r\n") for octets in some)
    assert any(not octets.endswith(b"\r\n") for octets in some)
    assert any(not octets.isascii() for octets in some)


def test_an_attachment_decodes():
    """
    The file in a multipart letter is what was put into it.
    """
    number = [kind.__name__ for kind in KINDS].index("attachment")
    (file,) = parsed(number).iter_attachments()
    assert file.get_content().startswith(b"%PDF-1.4\n")


def test_letters_end_at_the_date_asked_for():
    """
    They are apart as asked, the oldest first, the last at the end.
    """
    hour = dt.timedelta(hours=1)
    expected = [letter(0, NOW - 2 * hour), letter(1, NOW - hour), letter(2, NOW)]
    assert expected == list(letters(3, NOW, hour))
