"""
The power-cut model as a program: stories in plenty, and mistakes looked for anew.

    python -m tests.crash.power_cut                     the true code, 5,000 stories each
    python -m tests.crash.power_cut --planted           each mistake; prints what it is
                                                        found by, shrunk
    python -m tests.crash.power_cut --planted "no fsync before link" --seed 7

Rules of this file:

- What is found is printed as the Python that plays it: it goes to mistakes.py, or into a
  test of what it found.
- The exit code is 0 if the true code passes, and if each mistake is found; else 1.
"""

from __future__ import annotations

import argparse
import sys
import time

from collections import Counter
from random import Random

from hypothesis import HealthCheck, Phase, find, given, seed, settings
from hypothesis.errors import NoSuchExample
from hypothesis.statistics import collector, describe_statistics

from tests.crash.mistakes import MISTAKES, Mistake
from tests.crash.model_mbox import MboxWorld
from tests.crash.model_story import Story
from tests.crash.model_world import Broken, World, play
from tests.crash.stories import stories


KINDS: dict[str, type[World]] = {"maildir": World, "mbox": MboxWorld}

EXAMPLES = 5_000


def main() -> int:
    """
    Do what the command line asks for; return the exit code.
    """
    parser = argparse.ArgumentParser(prog="power_cut")
    parser.add_argument("--planted", nargs="*", choices=MISTAKES, metavar="MISTAKE")
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if asked.planted is None:
        kinds = asked.kind or KINDS
        well = [passes(kind, asked.examples, asked.seed) for kind in kinds]
    else:
        names = asked.planted or MISTAKES
        well = [is_found(name, asked.examples, asked.seed) for name in names]
    return 0 if all(well) else 1


def passes(kind: str, examples: int, number: int) -> bool:
    """
    Tell whether so many stories end well, and what came in them.
    """
    came: Counter[str] = Counter()
    latest: list[Story] = []

    @seed(number)
    @quiet(examples)
    @given(stories(mbox=KINDS[kind] is MboxWorld))
    def each(story):
        came["stories"] += 1
        latest[:] = [story]
        came.update(play(story, KINDS[kind]))

    began = time.monotonic()
    try:
        with collector.with_value(lambda found: say(describe_statistics(found))):
            each()
    except Broken as error:
        say(f"{kind}: {error}\n    {latest[0]!r}")
        return False
    seconds = time.monotonic() - began
    say(f"{kind}: {came.pop('stories')} stories end well, {seconds:.0f} s")
    say("    " + ", ".join(f"{name} {n}" for name, n in came.most_common()))
    return True


def is_found(name: str, examples: int, number: int) -> bool:
    """
    Look for a story that *name* ends badly, and print the simplest.
    """
    mistake, tried = MISTAKES[name], Counter[str]()
    began = time.monotonic()
    say(name + (f" (without {mistake.defence})" if mistake.defence else ""))
    try:
        found = find(
            stories(mbox=mistake.world is MboxWorld),
            lambda story: told(story, mistake, tried) is not None,
            settings=quiet(examples),
            random=Random(number),
        )
    except NoSuchExample:
        say(f"    NOT FOUND in {tried['stories']} stories")
        return False
    seconds = time.monotonic() - began
    say(f"    {told(found, mistake, Counter())}")
    say(f"    {found!r}")
    say(
        f"    found by story {tried['first']}, shrunk by "
        f"{tried['stories'] - tried['first']} more, {seconds:.0f} s"
    )
    return True


def told(story: Story, mistake: Mistake, tried: Counter[str]) -> str | None:
    """
    Return what *story* breaks where *mistake* was made; None if it ends well.
    """
    tried["stories"] += 1
    with mistake.planted():
        try:
            play(story, mistake.world)
        except Broken as error:
            tried["first"] = tried["first"] or tried["stories"]
            return str(error)
    return None


def quiet(examples: int) -> settings:
    """
    Return hypothesis's settings: so many examples, none from before, no hurry.
    """
    return settings(
        max_examples=examples,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),  # to explain takes ten times as long
        suppress_health_check=list(HealthCheck),
    )


def say(line: str) -> None:
    """
    Print at once: the search takes minutes.
    """
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
