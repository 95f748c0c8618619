"""
The same stories, into an mbox: whole visits on a disk that forgets.
"""

from __future__ import annotations

import os

import pytest

from hypothesis import HealthCheck, given, settings

from tests.crash.model_fate import Befall, Deed
from tests.crash.model_mbox import MboxWorld
from tests.crash.model_story import Mail, Plan, Story, Theirs
from tests.crash.model_world import play
from tests.crash.stories import stories


EXAMPLES = int(os.environ.get("POPFETCHD_EXAMPLES", "60"))


@pytest.mark.timeout(121 + EXAMPLES)
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(stories(mbox=True))
def test_no_story_ends_badly(story):
    """
    Nothing is lost, nothing is there twice, no reader sees half of it, and nobody has to
    lend a hand.
    """
    play(story, MboxWorld)


def test_lock_that_another_broke_does_not_come_back():
    """
    A visit died with its dot lock; an agent broke that, and delivered. A power cut, for
    which nothing of that need have lasted, leaves no lock that nobody would break.
    """
    dies = Plan(mail=(Mail.PLAIN,), befalls=(Befall(Deed.KILL, "commit done"),))
    broken = Plan(theirs=(Theirs.DELIVERY,), cut_after=True, survivors=8)

    came = play(Story((dies, broken)), MboxWorld)

    assert 2 == came["cuts of the power"]
