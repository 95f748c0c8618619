"""
The power-cut model is shown mistakes: it has to find each, or it proves nothing.

Rules of this file:

- Looking for them anew takes minutes (`python -m tests.crash.power_cut --planted`). Here
  the stories play that were left of what was found (mistakes.py).
"""

from __future__ import annotations

import pytest

from hypothesis import strategies as st

from tests.crash import power_cut
from tests.crash.mistakes import MISTAKES
from tests.crash.model_world import Broken, play


EACH = pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)

HIDDEN = {name: mistake for name, mistake in MISTAKES.items() if mistake.defence}


@EACH
def test_story_of_a_mistake_ends_badly(mistake):
    """
    Where the mistake was made, its story breaks what it is said to break.
    """
    with mistake.planted(), pytest.raises(Broken) as broken:
        play(mistake.story, mistake.world)

    assert mistake.broken in str(broken.value)


@EACH
def test_same_story_ends_well_without_it(mistake):
    """
    The true code comes through the story of each mistake.
    """
    came = play(mistake.story, mistake.world)

    assert 1 <= came["cuts of the power"]


@pytest.mark.parametrize("mistake", HIDDEN.values(), ids=HIDDEN)
def test_mistake_is_found_and_not_what_hid_it(mistake):
    """
    Where only the second line of defence is missing, the story ends well; where it is
    there, it ends well in spite of the mistake.
    """
    with mistake.undefended():
        play(mistake.story, mistake.world)
    with pytest.MonkeyPatch.context() as patch:
        mistake.plant(patch)
        play(mistake.story, mistake.world)


def run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["power_cut", *words])
    return power_cut.main()


def test_search_prints_the_simplest_story(monkeypatch, capsys):
    """
    The program finds a mistake anew, and shrinks the story to what is told of it here.
    """
    name = "no directory fsync"

    found = run(monkeypatch, "--planted", name, "--examples", "20")

    told = capsys.readouterr().out
    assert (0, True) == (found, repr(MISTAKES[name].story) in told)


def test_search_that_finds_nothing_fails(monkeypatch, capsys):
    """
    A mistake that no story shows is told, and is the model's failure.
    """
    name = "cur/ looked at before new/"

    found = run(monkeypatch, "--planted", name, "--examples", "1")

    assert 1 == found
    assert "NOT FOUND in 1 stories" in capsys.readouterr().out


def test_figures_of_the_true_code(monkeypatch, capsys):
    """
    The program tells how many stories ended well, and how often the power was cut.
    """
    ended = run(monkeypatch, "--kind", "mbox", "--examples", "3")

    told = capsys.readouterr().out
    assert 0 == ended
    assert "mbox: 3 stories end well" in told
    assert "cuts of the power" in told


def test_fault_in_the_true_code_is_told(monkeypatch, capsys):
    """
    What the program finds in the code as it is makes it fail, and is printed to be played.
    """
    mistake = MISTAKES["no directory fsync"]
    monkeypatch.setattr(power_cut, "stories", lambda mbox: st.just(mistake.story))

    with mistake.planted():
        ended = run(monkeypatch, "--kind", "maildir", "--examples", "5")

    told = capsys.readouterr().out
    assert (1, True) == (ended, repr(mistake.story) in told)
    assert f"maildir: {mistake.broken}" in told
