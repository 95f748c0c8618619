"""
What crontab lines mean, checked against a walk through every minute.
"""

from __future__ import annotations

import re

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd import crontab


BERLIN = ZoneInfo("Europe/Berlin")
HAVANA = ZoneInfo("America/Havana")  # puts its clock forward at midnight
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # by half an hour


def due(line: str, start: str, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    """
    The next *count* times after *start*, as the clock on the wall shows them.
    """
    moment = datetime.fromisoformat(start).replace(tzinfo=zone)
    times = []
    for _ in range(count):
        moment = crontab.parse(line).next(moment)
        times.append(moment.strftime("%a %d %b %H:%M %z"))
    return times


@pytest.mark.parametrize("sunday", ["0", "7", "sun", "SUN"])
def test_sunday_has_four_names(sunday):
    """
    0 and 7 are both Sunday, as crontab(5) says.
    """
    assert ["Sun 04 Jan 06:00 +0100"] == due(f"0 6 * * {sunday}", "2026-01-01", 1)


def test_lists_ranges_steps_and_names():
    """
    A field may hold lists, ranges, steps and names, mixed.
    """
    assert [
        "Fri 02 Jan 18:40 +0100",
        "Mon 05 Jan 08:00 +0100",
        "Mon 05 Jan 08:20 +0100",
    ] == due("*/20 8-18/5,18 * jan-mar Mon,fri", "2026-01-02T18:30", 3)


def test_weekend_runs_over_sunday():
    """
    `sat-sun` and `5-7` reach the Sunday after, and `sun-mon` begins with one.
    """
    line = crontab.parse("0 0 * * sat-sun")
    assert frozenset({6, 0}) == line.weekdays
    assert frozenset({5, 6, 0}) == crontab.parse("0 0 * * 5-7").weekdays
    assert frozenset({0, 1}) == crontab.parse("0 0 * * sun-mon").weekdays


def test_two_restricted_days_are_alternatives():
    """
    Where day of the month and of the week are both restricted, either will do.
    """
    assert [
        "Fri 09 Jan 00:00 +0100",
        "Tue 13 Jan 00:00 +0100",
        "Fri 16 Jan 00:00 +0100",
    ] == due("0 0 13 * fri", "2026-01-08", 3)


def test_a_star_makes_both_days_necessary():
    """
    A day field that begins with `*` is not restricted, not even with a step.
    """
    assert [
        "Mon 05 Jan 00:00 +0100",
        "Mon 19 Jan 00:00 +0100",
    ] == due("0 0 */2 * mon", "2026-01-01", 2)


def test_rare_days_are_found():
    """
    29 February is due in leap years only, also across 2100, which is none.
    """
    assert ["Fri 29 Feb 00:00 +0100", "Wed 29 Feb 00:00 +0100"] == due(
        "0 0 29 2 *", "2096-03-01", 2
    )


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        (" @Midnight ", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ],
)
def test_nicknames(word, line):
    """
    The words of crontab(5) stand for their lines.
    """
    assert crontab.parse(line) == crontab.parse(word)


FIVE = (
    "five fields are needed, {} are there: "
    "minute, hour, day of the month, month, day of the week"
)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "* * * *",
            FIVE.format(4),
        ),
        (
            "0 * * * * *",
            FIVE.format(6),
        ),
        (
            "@reboot",
            "'@reboot' is unknown; allowed are " + ", ".join(crontab.NICKNAMES),
        ),
        ("60 * * * *", "minute: 60 is out of range; allowed is 0-59"),
        ("* 24 * * *", "hour: 24 is out of range; allowed is 0-23"),
        ("* * 0 * *", "day of the month: 0 is out of range; allowed is 1-31"),
        ("* * L * *", "day of the month: 'L' is no value; allowed is 1-31"),
        ("* * * 13 *", "month: 13 is out of range; allowed is 1-12 or jan-dec"),
        (
            "* * * * mond",
            "day of the week: 'mond' is no value; allowed is 0-7 or sun-sat",
        ),
        ("* * ? * *", "day of the month: '?' is no value; allowed is 1-31"),
        ("-1 * * * *", "minute: '' is no value; allowed is 0-59"),
        ("1,,2 * * * *", "minute: '' is no value; allowed is 0-59"),
        ("² * * * *", "minute: '²' is no value; allowed is 0-59"),
        ("* 18-8 * * *", "hour: the range '18-8' runs backwards"),
        ("5/15 * * * *", "minute: '5/15' needs a range before the step"),
        ("*/0 * * * *", "minute: the step '0' is no positive number"),
        ("*/x * * * *", "minute: the step 'x' is no positive number"),
        ("*/90 * * * *", "minute: the step 90 leaves its range at once"),
        ("0 0 30 2 *", "no day is ever due: the month has no such day"),
        ("0 0 31 4,6 */2", "no day is ever due: the month has no such day"),
    ],
)
def test_what_cannot_work_is_refused(line, sentence):
    """
    Each mistake has its own sentence, which says what is allowed.
    """
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        crontab.parse(line)


def test_thirty_february_is_well_with_a_weekday():
    """
    A day that never comes is harmless beside a day of the week.
    """
    assert ["Mon 02 Feb 00:00 +0100"] == due("0 0 30 2 mon", "2026-01-01", 1)


def test_the_missing_hour_is_made_up_once():
    """
    What would be due in the hour that spring takes away is due once, at its end.
    """
    assert [
        "Sat 28 Mar 02:30 +0100",
        "Sun 29 Mar 03:00 +0200",
        "Mon 30 Mar 02:15 +0200",
    ] == due("15,30 2 * * *", "2026-03-28T02:20", 3)


def test_the_end_of_the_missing_hour_is_met_exactly():
    """
    Wherever one starts, the clock's change is found to the second.
    """
    line, end = crontab.parse("30 2 * * *"), datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    starts = (end - timedelta(seconds=1 + 97 * n) for n in range(60))
    assert {end} == {line.next(start.astimezone(BERLIN)) for start in starts}


def test_a_missing_midnight_is_made_up():
    """
    A day whose midnight does not exist begins at one o'clock.
    """
    assert ["Sun 08 Mar 01:00 -0400", "Mon 09 Mar 00:00 -0400"] == due(
        "@daily", "2026-03-07T12:00", 2, HAVANA
    )


def test_the_repeated_hour_counts_once_for_a_fixed_hour():
    """
    A line with its hour written out is not due twice when autumn repeats it.
    """
    assert ["Sun 25 Oct 02:30 +0200", "Mon 26 Oct 02:30 +0100"] == due(
        "30 2 * * *", "2026-10-25T00:00", 2
    )


def test_the_repeated_hour_is_no_hole():
    """
    A line for every hour goes on through the hour that autumn repeats.
    """
    assert [
        "Sun 25 Oct 02:30 +0200",
        "Sun 25 Oct 02:00 +0100",
        "Sun 25 Oct 02:30 +0100",
        "Sun 25 Oct 03:00 +0100",
    ] == due("*/30 * * * *", "2026-10-25T02:00", 4)


def test_a_start_inside_the_repeated_hour():
    """
    Who starts in the second of two equal hours waits for the next day's fixed hour.
    """
    start = datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1)
    found = crontab.parse("30 2 * * *").next(start)
    assert datetime(2026, 10, 26, 2, 30, tzinfo=BERLIN) == found


def test_a_time_without_a_zone_is_refused():
    """
    A naive time is a mistake of the caller, told at once.
    """
    with pytest.raises(ValueError, match="without a time zone"):
        crontab.parse("@hourly").next(datetime(2026, 1, 1))  # noqa: DTZ001


LINES = st.sampled_from(
    [
        "* * * * *",
        "*/7 * * * *",
        "13 */5 * * *",
        "0 0 * * *",
        "30 2 * * *",
        "59 23 * * sat-sun",
        "5,45 1-3 * * *",
        "0 12 */2 * mon",
        "15 2 25 10 sun",
    ]
)
ZONES = st.sampled_from([UTC, BERLIN, HAVANA, LORD_HOWE])
DST_SEASONS = st.one_of(
    st.datetimes(datetime(2026, 3, 6), datetime(2026, 4, 7)),  # noqa: DTZ001
    st.datetimes(datetime(2026, 10, 1), datetime(2026, 11, 3)),  # noqa: DTZ001
)


def fields_match(line: crontab.Crontab, wall: datetime) -> bool:
    in_month = wall.day in line.days
    in_week = wall.isoweekday() % 7 in line.weekdays
    return (
        wall.minute in line.minutes
        and wall.hour in line.hours
        and wall.month in line.months
        and (in_month or in_week if line.either_day else in_month and in_week)
    )


@given(line=LINES, zone=ZONES, naive=DST_SEASONS)
def test_next_is_the_first_minute_that_matches(line, zone, naive):
    """
    Any line, any zone: no minute in between is due, and the result is later and due.
    """
    parsed = crontab.parse(line)
    after = naive.replace(tzinfo=UTC).astimezone(zone)
    found = parsed.next(after)
    assert found > after
    before = (found.astimezone(UTC) - timedelta(minutes=1)).astimezone(zone)
    put_forward = before.utcoffset() < found.utcoffset()
    assert fields_match(parsed, found) or put_forward
    assert parsed.each_hour or not found.fold
    assert (0, 0) == (found.second, found.microsecond)
    moment = after.astimezone(UTC).replace(second=0, microsecond=0)
    last = min(found.astimezone(UTC), moment + timedelta(hours=30))
    while (moment := moment + timedelta(minutes=1)) < last:
        wall = moment.astimezone(zone)
        repeated = wall.fold and not parsed.each_hour
        assert repeated or not fields_match(parsed, wall)
