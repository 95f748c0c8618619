"""
Whether another session of the same visit would do what this one could not.

Rules of this file:

- A round must come nearer to the end than the one before it, or it would be the same
  without end.
- A server that forbids a login so soon gets no second one.
"""

from __future__ import annotations

from collections.abc import Sequence

from popfetchd.removal import Proven
from popfetchd.values import NEVER, RowId
from popfetchd.visit.archiving import Kept
from popfetchd.visit.course import Course


ANOTHER = 0.5
"""The part of the deadline that must be left for another session to be begun."""


class Rounds:
    """
    The sessions of one visit, one after another.
    """

    def __init__(self, course: Course) -> None:
        self.course = course
        self.gone: set[RowId] = set()
        """What was to leave the listing when a session of this visit ended."""
        self.left_out: float = NEVER
        """How many messages the last session left for another."""

    def makes_room(
        self, kept: Sequence[Kept], proven: Sequence[Proven], *, left: bool
    ) -> bool:
        """
        Whether this session, or the same again without what failed in it, lets the
        next one list what this one did not. *left*: it ended with QUIT.
        """
        rows = {proof.receipt.row for proof in proven}
        if self.course.habits.drains:
            rows |= {message.receipt.row for message in kept if message.receipt}
        news = rows - self.gone  # what comes back all the same makes no room
        self.gone |= rows if left else set()
        if not self.course.habits.lists_partly or None in self.course.gave_up:
            return False
        return bool(news) and self._has_room_for_another()

    def another_helps(
        self,
        later: int,
        proven: Sequence[Proven],
        *,
        nearer: bool,
        left: bool,
    ) -> bool:
        """
        Whether the next session can do the *later* messages, or what this one, which
        was not *left*, could not remove. *nearer*: this one has come nearer to the end.
        """
        if not self._has_room_for_another():
            return False
        # Once a message without unique-id has failed, none of them is tried again.
        nameless = None not in self.course.gave_up
        again = any(nameless or proof.receipt.unique_id for proof in proven)
        blocked = again and not left
        before, self.left_out = self.left_out, later
        fewer = 0 < self.left_out < before  # or it would be the same round without end
        return blocked or (fewer and nearer)

    def _has_room_for_another(self) -> bool:
        course = self.course
        if course.stop.is_set() or course.full or course.habits.login_floor:
            return False
        return course.has_time(ANOTHER)
