"""
The same stories, into an mbox: whole visits on a disk that forgets.
"""

from __future__ import annotations

import os

import pytest

from hypothesis import HealthCheck, given, settings

from tests.crash.model_mbox import MboxWorld
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
