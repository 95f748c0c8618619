"""
What a header tells: any octets give three texts, at little cost.
"""

from __future__ import annotations

import base64

import pytest

from hypothesis import example, given
from hypothesis import strategies as st

from popfetchd.look.headers import LONGEST_TEXT, summary


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        (b"", ("", "", "")),
        (b"Subject: plain\r\n", ("", "", "plain")),
        (b"SUBJECT:tight\r\n", ("", "", "tight")),
        (b"Subject: folded\r\n over\r\n\tlines\r\n", ("", "", "folded over lines")),
        (b"Subject: =?utf-8?b?w7ZsZA==?=\r\n", ("", "", "öld")),
        (b"Subject: =?utf-8?q?a?= =?latin-1?q?=E9?=\r\n", ("", "", "aé")),
        (b"Subject: =?klingon?q?a?=\r\n", ("", "", "=?klingon?q?a?=")),
        (b"Subject: =?utf-8?b?a?=\r\n", ("", "", "=?utf-8?b?a?=")),
        (b"Subject: =?\xff?q?x?=\r\n", ("", "", "=?\ufffd?q?x?=")),
        (b"Subject: caf\xe9\r\n", ("", "", "caf\ufffd")),
        (b"Subject: caf\xc3\xa9\r\n", ("", "", "café")),
        (b"Subject: one\r\nSubject: two\r\n", ("", "", "one")),
        (b"From: \x1b[2Jada\r\n", ("", "\x1b[2Jada", "")),
        (b"Date: Tue, 14 Nov 2023 22:13:20 -0500\r\n", ("2023-11-14T22:13:20-05:00",)),
        (b"Date: 14 Nov 2023 22:13\r\n", ("2023-11-14T22:13:00",)),
        (b"Date: yesterday\r\n", ("",)),
        (b"Date: Tue, 99 Nov 2023 22:13:20 +0000\r\n", ("",)),
        (b"Date: Tue, 14 Nov 2023 22:13:20 +9999999999\r\n", ("",)),
        (b"no header at all", ("", "", "")),
    ],
)
def test_what_a_header_says(header, shown):
    """
    RFC 2047 is decoded where it is well formed, else the text is shown as it stands.
    """
    assert shown == summary(header)[: len(shown)]


def encoded_words():
    """
    Return a strategy of what claims to be RFC 2047, with any charset and octets.
    """
    charset = st.sampled_from(
        [b"utf-8", b"utf-7", b"idna", b"hex", b"\xff", b"a\0b", b""]
    )
    return st.builds(
        lambda name, text: b"=?%s?b?%s?=" % (name, base64.b64encode(text)),
        charset | st.binary(max_size=8),
        st.binary(max_size=20),
    )


@given(
    st.binary(max_size=400)
    | st.builds(
        lambda name, parts: name + b": " + b"".join(parts) + b"\r\n",
        st.sampled_from([b"From", b"Date", b"Subject"]),
        st.lists(st.binary(max_size=20) | encoded_words(), max_size=5),
    )
)
@example(b"Subject: =?utf-7?q?+2AA-?=\r\n")
@example(b"Date: 1 Jan 0000 00:00:00 +0000\r\n")
def test_any_octets_give_three_texts(header):
    """
    No header, however hostile, raises: one bad message must not hide the others.
    """
    shown = summary(header)
    assert [str, str, str] == [type(text) for text in shown]
    for text in shown:
        assert len(text) <= LONGEST_TEXT


@pytest.mark.parametrize(
    "field", [b"=?a?q?b?= " * 100_000, b"=?utf-8?q?b?=\r\n " * 60_000, b"(" * 1_000_000]
)
@pytest.mark.parametrize("name", [b"Subject", b"From", b"Date"])
def test_a_megabyte_of_one_field_costs_little(name, field):
    """
    What is read of a field is bounded before it is decoded; the rest is left out.
    """
    assert all(len(text) <= LONGEST_TEXT for text in summary(name + b": " + field))
