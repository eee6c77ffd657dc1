"""Mistakes in the jobs of an app, by path."""

import pytest

from saltern.jobs import declared, schedule

JOB = {"process": "sweep", "timezone": "UTC", "overlap": "forbid", "timeout": 60, "spread": 0, "suspended": False}
PATH = "app.shop.jobs.sweep"
MISTAKES = {
    "fine": ({"every": "10m"}, None),
    "fine by a calendar": ({"calendar": "Mon..Fri 08..18:00/15", "timezone": "Europe/Berlin"}, None),
    "it does not say when": ({}, f"{PATH}: does not say when it runs; expected one of every, at, calendar"),
    "two ways": ({"every": "10m", "at": "03:15"}, f"{PATH}: has every and at; expected one of every, at, calendar"),
    "no divisor": (
        {"every": "7m"},
        f"{PATH}.every: does not divide a minute, an hour or a day, so the moments of each day would be others; "
        "expected 6m or 10m, or a calendar",
    ),
    "a zone that is none": (
        {"at": "03:15", "timezone": "Europe/Berln"},
        f"{PATH}.timezone: this machine knows no such time zone; expected one such as Europe/Berlin; "
        "did you mean 'Europe/Berlin'?",
    ),
    "a calendar that is none": (
        {"calendar": "every day"},
        f"{PATH}.calendar: systemd does not take it; expected a calendar as `systemd-analyze calendar` takes it, "
        "without a time zone, which is timezone",
    ),
    "a zone in the calendar": (
        {"calendar": "daily Europe/Berlin"},
        f"{PATH}.calendar: systemd does not take it; expected a calendar as `systemd-analyze calendar` takes it, "
        "without a time zone, which is timezone",
    ),
    "a calendar of the past": (
        {"calendar": "2020-01-01"},
        f"{PATH}.calendar: has no moment to come; expected a calendar that has one",
    ),
    "a delay as long as the period": (
        {"every": "10m", "spread": 600},
        f"{PATH}.spread: is as long as the 600 s between two runs; expected less",
    ),
}


@pytest.mark.parametrize("said, message", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_by_its_path(said, message):
    found = declared.mistakes({"shop": {"jobs": {"sweep": JOB | said}}, "faq": {"jobs": {}}})
    assert found == ([message] if message else [])


def test_where_there_is_no_systemd_the_host_judges_the_calendar(monkeypatch):
    def absent(*_):
        raise FileNotFoundError

    monkeypatch.setattr(schedule, "moments", absent)
    assert declared.mistakes({"shop": {"jobs": {"sweep": JOB | {"calendar": "every day"}}}}) == []


def test_names_that_make_no_unit_together_are_refused():
    name = "a" + "-b" * 15
    (message,) = declared.of_job(name, name, JOB | {"process": name, "every": "10m"})
    assert message == (
        f"app.{name}.jobs.{name}: the names of the app, the process type and the job are too long together; "
        "expected shorter"
    )
    assert declared.of_job("a" * 31, "b" * 31, JOB | {"process": "c" * 31, "every": "10m"}) == []
