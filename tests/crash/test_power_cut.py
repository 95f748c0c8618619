"""
Whole visits on a disk that forgets: P1 and P2 whatever happens, and whenever.

POPFETCHD_EXAMPLES=5000 looks harder (docs/crash.md).
"""

from __future__ import annotations

import os

import pytest

from hypothesis import HealthCheck, given, settings

from tests.crash.model_world import play
from tests.crash.stories import stories


EXAMPLES = int(os.environ.get("POPFETCHD_EXAMPLES", "200"))

SECONDS = 1 + EXAMPLES
"""An example takes a twentieth of that; the rest is for shrinking what is found."""


@pytest.mark.timeout(120 + SECONDS)
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(stories())
def test_no_story_ends_badly(story):
    """
    Nothing is lost, nothing is there twice or half, and nobody has to lend a hand.
    """
    play(story)
