"""Schedules: what is declared as systemd's calendars, and what is due, missed and late by them."""

import datetime
import itertools

import pytest

from saltern.jobs import schedule


def at(text):
    """Return a time as seconds since 1970."""
    return datetime.datetime.fromisoformat(f"{text}+00:00").timestamp()


CALENDARS = [
    ({"every": "1s"}, "*-*-* *:*:00/1 UTC"),
    ({"every": "15s"}, "*-*-* *:*:00/15 UTC"),
    ({"every": "60s"}, "*-*-* *:00/1:00 UTC"),
    ({"every": "10m"}, "*-*-* *:00/10:00 UTC"),
    ({"every": "60m"}, "*-*-* 00/1:00:00 UTC"),
    ({"every": "6h", "timezone": "Europe/Berlin"}, "*-*-* 00/6:00:00 Europe/Berlin"),
    ({"every": "1d"}, "*-*-* 00:00:00 UTC"),
    ({"at": "03:15", "timezone": "Europe/Berlin"}, "*-*-* 03:15:00 Europe/Berlin"),
    ({"at": "03:15:30"}, "*-*-* 03:15:30 UTC"),
    ({"calendar": "Mon..Fri 08..18:00/15"}, "Mon..Fri 08..18:00/15 UTC"),
]


@pytest.mark.parametrize("job, expression", CALENDARS, ids=[one[1] for one in CALENDARS])
def test_what_is_declared_is_a_calendar_that_systemd_takes(job, expression):
    assert schedule.calendar({"timezone": "UTC"} | job) == expression
    assert len(schedule.moments(expression, at("2026-11-29T12:00:00"), 3)) == 3


@pytest.mark.parametrize("span", schedule.SPANS)
def test_each_span_has_the_same_moments_on_each_day(span):
    expression = schedule.calendar({"every": schedule.shown(span), "timezone": "UTC"})
    base = at("2026-11-29T00:00:00")
    first = schedule.moments(expression, base - 1, 2 + min(86400 // span, 50))
    assert first[:2] == [base, base + span]
    assert schedule.moments(expression, base + 86400 - 1)[0] == base + 86400
    assert {later - before for before, later in itertools.pairwise(first)} == {span}


@pytest.mark.parametrize(
    "span, near",
    [("7m", ["6m", "10m"]), ("90m", ["1h", "2h"]), ("5h", ["4h", "6h"]), ("7d", ["1d"]), ("45s", ["30s", "1m"])],
)
def test_the_nearest_spans_are_named(span, near):
    assert schedule.seconds(span) not in schedule.SPANS
    assert [schedule.shown(one) for one in schedule.nearest(schedule.seconds(span))] == near


MOMENTS = {
    "the next one comes after the base, never at it": (
        "*-*-* *:00/10:00 UTC",
        "2026-11-29T12:10:00",
        ["2026-11-29T12:20:00", "2026-11-29T12:30:00"],
    ),
    "summer time": (
        "*-*-* 03:15:00 Europe/Berlin",
        "2026-10-24T00:00:00",
        ["2026-10-24T01:15:00", "2026-10-25T02:15:00"],
    ),
    "a time that a day does not have is left out": (
        "*-*-* 02:30:00 Europe/Berlin",
        "2027-03-27T12:00:00",
        ["2027-03-29T00:30:00"],
    ),
    "a time that a day has twice comes once": (
        "*-*-* 02:30:00 Europe/Berlin",
        "2026-10-24T12:00:00",
        ["2026-10-25T00:30:00", "2026-10-26T01:30:00"],
    ),
    "the last one": ("2027-01-01 00:00:00 UTC", "2026-11-29T00:00:00", ["2027-01-01T00:00:00"]),
    "none": ("2026-01-01 00:00:00 UTC", "2026-11-29T00:00:00", []),
}


@pytest.mark.parametrize("expression, base, expected", MOMENTS.values(), ids=MOMENTS)
def test_the_moments_of_a_calendar(expression, base, expected):
    count = 1 if expression.startswith("*") and len(expected) == 1 else 2
    assert schedule.moments(expression, at(base), count) == [at(one) for one in expected]


def test_a_fraction_of_a_second_is_not_lost():
    assert schedule.moments("*-*-* *:*:00/5 UTC", 1795991465.2)[0] == 1795991470
    assert schedule.moments("*-*-* *:*:00/5 UTC", 1795991464.9)[0] == 1795991465


@pytest.mark.parametrize(
    "expression", ["nonsense UTC", "*-*-* 03:15 Europe/Berlin UTC", "daily Nowhere/Land", "-- UTC"]
)
def test_what_systemd_does_not_take_is_refused(expression):
    with pytest.raises(schedule.Refused):
        schedule.moments(expression, 0)


TENS = "*-*-* *:00/10:00 UTC"
DUE = {
    "nothing has come since": ("2026-11-29T12:10:00", "2026-11-29T12:19:59", False),
    "the moment has come": ("2026-11-29T12:10:00", "2026-11-29T12:20:00", True),
    "several were missed": ("2026-11-22T12:10:00", "2026-11-29T12:20:00", True),
    "this host's clock is behind the one that took it": ("2026-11-29T12:20:00", "2026-11-29T12:19:50", False),
    "this host's clock is ahead of the one that took it": ("2026-11-29T12:20:00", "2026-11-29T12:20:10", False),
    "the one that took it was late": ("2026-11-29T12:24:00", "2026-11-29T12:24:01", False),
}


@pytest.mark.parametrize("taken, now, expected", DUE.values(), ids=DUE)
def test_a_moment_is_due_once(taken, now, expected):
    assert schedule.due(TENS, at(taken), at(now)) is expected


LATE = {
    "within the period": ("2026-11-29T12:01:00", "2026-11-29T12:15:00", False),
    "one run was missed": ("2026-11-29T12:01:00", "2026-11-29T12:19:00", False),
    "the second one may still run": ("2026-11-29T12:01:00", "2026-11-29T12:24:00", False),
    "two moments and the time of a run have passed": ("2026-11-29T12:01:00", "2026-11-29T12:26:00", True),
}


@pytest.mark.parametrize("success, now, expected", LATE.values(), ids=LATE)
def test_a_success_is_late_after_two_moments_and_the_time_of_a_run(success, now, expected):
    assert schedule.late(TENS, at(success), 300, at(now)) is expected
