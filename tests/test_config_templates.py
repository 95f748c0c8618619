"""
Paths with words in them: which words, and what may be put in.
"""

from __future__ import annotations

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.config import templates


ALICE = {"account": "alice", "user": "alice@example.net", "host": "pop.example.net"}


def test_fill():
    """
    Each word is replaced wherever it stands, once.
    """
    template = templates.shape("/srv/{host}/{user}/{account}-{account}")
    expected = "/srv/pop.example.net/alice@example.net/alice-alice"
    assert expected == templates.fill(template, **ALICE)


def test_no_second_turn():
    """
    Braces in what is put in are text.
    """
    given_words = ALICE | {"user": "{host}"}
    assert "/srv/{host}" == templates.fill("/srv/{user}", **given_words)


@pytest.mark.parametrize(
    "template", ["/{name}", "/{}", "/{account", "/account}", "/{{user}}"]
)
def test_other_braces(template):
    """
    Braces hold nothing but known words.
    """
    with pytest.raises(ValueError, match="braces may only hold"):
        templates.shape(template)


def test_dates_stay():
    """
    A date is not known yet; only where none is known ever is it refused.
    """
    template = templates.shape("/srv/{account}/{year}-{month}-{day}", dated=True)
    assert "/srv/alice/{year}-{month}-{day}" == templates.fill(template, **ALICE)
    with pytest.raises(ValueError, match="braces may only hold"):
        templates.shape("/srv/{account}/{year}-{month}")


@pytest.mark.parametrize(
    ("user", "problem"),
    [
        ("../x", "holds a `/` or a NUL"),
        ("a\0b", "holds a `/` or a NUL"),
        (".ssh", "begins with a dot"),
        ("..", "begins with a dot"),
        ("x{day}", "holds {day}, which is a date's place"),
    ],
)
def test_unfit(user, problem):
    """
    What would leave its place in the path, or hide there, is refused.
    """
    with pytest.raises(
        ValueError, match=f"{{user}} cannot be put into a path: it {problem}"
    ):
        templates.fill("/srv/{user}", **(ALICE | {"user": user}))


def test_unfit_and_unused():
    """
    What the template does not ask for may be anything.
    """
    assert "/srv/alice" == templates.fill("/srv/{account}", **(ALICE | {"user": "a/b"}))


@given(st.text())
def test_any_text(text):
    """
    Whatever is put in, the result is one component or a ValueError.
    """
    try:
        path = templates.fill("/srv/{user}", **(ALICE | {"user": text}))
    except ValueError:
        return
    assert 2 == path.count("/")
    assert f"/srv/{text}" == path
