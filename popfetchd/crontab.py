"""
What a crontab line means, and when it is next due.

Rules of this file:

- Pure: no clock, no framework. `parse` takes text, `Crontab.next` takes a time.
- Fields mean what crontab(5) says: minute, hour, day of the month, month, day of the
  week; lists, ranges, steps, English three-letter names; 0 and 7 are both Sunday.
- Day of the month and day of the week: where both are restricted, either will do.
  A field is restricted unless it begins with `*` (crontab(5), Vixie's and cronie's);
  where one of the two begins with `*`, a day must satisfy both.
- When clocks go forward, what would have been due in the missing hour is due once, at
  the end of it. When they go back, a line whose hour begins with `*` goes on through
  the repeated hour; any other line is due in the first of the two only.
- A line that can never be due is refused, as is what crontab has not: seconds, `?`,
  `L`, `W`, `#`, `@reboot`.
"""

from __future__ import annotations

import calendar

from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo


MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
"""The words of crontab(5); `@reboot` is missing, for a visit belongs to a time."""

LEAP_YEAR = 2024
"""Any leap year: in it each month has as many days as it can ever have."""


@dataclass(frozen=True, slots=True)
class Field:
    """
    One of the five: its name in sentences, its bounds, and the names of its values.
    """

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    """Lower case; the first stands for *low*."""

    def values(self, text: str) -> frozenset[int]:
        """
        Return the values that *text* stands for. Raises ValueError.
        """
        parts = (self._part(part) for part in text.split(","))
        return frozenset().union(*parts)

    def _part(self, text: str) -> range:
        span, slash, step = text.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            low, high = self.low, self.high
        elif dash:
            low, high = self._value(first), self._last(last)
        else:
            low = high = self._value(first)
        if low > high:
            raise ValueError(f"{self.name}: the range {span!r} runs backwards")
        if slash and span != "*" and not dash:
            raise ValueError(f"{self.name}: {text!r} needs a range before the step")
        return range(low, high + 1, self._step(step, high - low) if slash else 1)

    def _last(self, text: str) -> int:
        # `sat-sun` can only mean the Sunday that comes after.
        value = self._value(text)
        return 7 if value == 0 and text.lower() in self.names else value

    def _value(self, text: str) -> int:
        if text.lower() in self.names:
            return self.low + self.names.index(text.lower())
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"{self.name}: {text!r} is no value; {self._allowed}")
        if not self.low <= int(text) <= self.high:
            raise ValueError(f"{self.name}: {text} is out of range; {self._allowed}")
        return int(text)

    def _step(self, text: str, span: int) -> int:
        if not (text.isascii() and text.isdigit() and int(text)):
            raise ValueError(f"{self.name}: the step {text!r} is no positive number")
        if int(text) > span:
            raise ValueError(f"{self.name}: the step {text} leaves its range at once")
        return int(text)

    @property
    def _allowed(self) -> str:
        names = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        return f"allowed is {self.low}-{self.high}{names}"


MINUTES = Field("minute", 0, 59)
HOURS = Field("hour", 0, 23)
DAYS = Field("day of the month", 1, 31)
MONTHS = Field("month", 1, 12, tuple(m.lower() for m in calendar.month_abbr[1:]))
WEEKDAYS = Field(
    "day of the week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
)


@dataclass(frozen=True, slots=True)
class Crontab:
    """
    A line of a crontab without its command. Made by `parse`.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday; 7 does not occur."""
    either_day: bool
    """Day of the month and day of the week are both restricted: one suffices."""
    each_hour: bool
    """The hour begins with `*`: the line goes on through a repeated hour."""

    def next(self, after: datetime) -> datetime:
        """
        Return the first time later than *after* at which the line is due.

        *after* is aware; its time zone is the one in which the line is read, and that
        of the result.
        """
        if after.tzinfo is None:
            raise ValueError("a time without a time zone says nothing")
        due = self._due(after.astimezone(UTC), after.tzinfo)
        while due.fold and not self.each_hour:  # fold: the second of two equal hours
            due = self._due(due.astimezone(UTC), after.tzinfo)
        return due

    def _due(self, moment: datetime, zone: tzinfo) -> datetime:
        offset = _offset(moment, zone)
        wall = self._wall(_wall_clock(moment, offset))
        while _offset(found := _instant(wall, offset), zone) != offset:
            # The clock is put forward or back between *moment* and *found*.
            moment = _change(moment, found, zone)
            offset = _offset(moment, zone)
            resumed = _wall_clock(moment, offset)
            if wall < resumed:  # *wall* never was: it fell into the missing hour
                return moment.astimezone(zone)
            wall = self._wall(resumed - MINUTE)
        return found.astimezone(zone)

    def _wall(self, after: datetime) -> datetime:
        """
        Return the first matching naive time in a later minute than *after*.
        """
        start = after.replace(second=0, microsecond=0) + MINUTE
        if self._matches(start.date()) and (found := self._within(start)):
            return found
        day = self._later_day(start.date())
        return datetime.combine(day, time(self.hours[0], self.minutes[0]))

    def _within(self, start: datetime) -> datetime | None:
        """
        Return the first matching time from *start* to the end of its day.
        """
        minute = bisect_left(self.minutes, start.minute)
        if start.hour in self.hours and minute < len(self.minutes):
            return start.replace(minute=self.minutes[minute])
        hour = bisect_left(self.hours, start.hour + 1)
        if hour == len(self.hours):
            return None
        return start.replace(hour=self.hours[hour], minute=self.minutes[0])

    def _later_day(self, day: date) -> date:
        day += DAY
        while not self._matches(day):
            if day.month in self.months:
                day += DAY
            else:
                day = (day.replace(day=1) + 31 * DAY).replace(day=1)
        return day

    def _matches(self, day: date) -> bool:
        in_month = day.day in self.days
        in_week = day.isoweekday() % 7 in self.weekdays
        either = in_month or in_week if self.either_day else in_month and in_week
        return day.month in self.months and either


def parse(text: str) -> Crontab:
    """
    Return what *text* says: five fields, or one of the words `@hourly` … `@yearly`.

    Raises ValueError with a sentence for the operator.
    """
    fields = _fields(text)
    minute, hour, day, month, weekday = fields
    crontab = Crontab(
        minutes=tuple(sorted(MINUTES.values(minute))),
        hours=tuple(sorted(HOURS.values(hour))),
        days=DAYS.values(day),
        months=MONTHS.values(month),
        weekdays=frozenset(value % 7 for value in WEEKDAYS.values(weekday)),
        either_day=not day.startswith("*") and not weekday.startswith("*"),
        each_hour=hour.startswith("*"),
    )
    _refuse_never(crontab)
    return crontab


def _fields(text: str) -> list[str]:
    word = text.strip().lower()
    if word.startswith("@") and word not in NICKNAMES:
        raise ValueError(f"{word!r} is unknown; allowed are {', '.join(NICKNAMES)}")
    fields = NICKNAMES.get(word, text).split()
    if len(fields) != 5:
        raise ValueError(
            f"five fields are needed, {len(fields)} are there: "
            "minute, hour, day of the month, month, day of the week"
        )
    return fields


def _refuse_never(crontab: Crontab) -> None:
    """
    Raise ValueError where no day can match, such as 30 February.
    """
    longest = max(calendar.monthrange(LEAP_YEAR, m)[1] for m in crontab.months)
    if min(crontab.days) > longest and not crontab.either_day:
        raise ValueError("no day is ever due: the month has no such day")


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _instant(wall: datetime, offset: timedelta) -> datetime:
    return (wall - offset).replace(tzinfo=UTC)


def _wall_clock(moment: datetime, offset: timedelta) -> datetime:
    return (moment + offset).replace(tzinfo=None)


def _change(early: datetime, late: datetime, zone: tzinfo) -> datetime:
    """
    Return a time between the two at which the offset ceases to be that of *early*.

    Both are in UTC and their offsets differ; the result is exact to the second.
    """
    offset = _offset(early, zone)
    low, high = int(early.timestamp()), int(late.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(datetime.fromtimestamp(middle, UTC), zone) == offset:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)
