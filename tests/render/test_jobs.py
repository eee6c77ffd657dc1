"""Jobs: the states of their timers, and what is refused before anything is changed."""

import pytest

from .minion import BUILD, SUITES, Host
from .refused import assert_refused

JOBS = {
    "sweep": {"process": "sweep", "every": "10m"},
    "night-report": {"process": "report", "at": "03:15", "timezone": "Europe/Berlin", "overlap": "replace"},
}
APP = {"build": BUILD | {"processes": ["web", "sweep", "report", "release"]}, "port": 8400, "jobs": JOBS}


def host_of(directory, app, suite="bookworm"):
    """Return the host dev with an app beside the others."""
    host = Host(directory, "dev", suite)
    host.declare("hosts.yaml", {"dev": {"environment": "dev", "roles": ["app"], "address": "10.0.0.1"}})
    host.declare("common.sls", {"app": {"shop": app}})
    host.declare("environments/dev.sls", {"ephemeral": True})
    return host


@pytest.mark.parametrize("suite", SUITES)
def test_a_timer_comes_after_the_release_and_schedules_are_judged_before_all(tmp_path, suite):
    states = host_of(tmp_path, APP, suite).states()
    ids = [state["__id__"] for state in states]
    assert len(set(ids)) == len(ids)
    order = ["app-jobs-judged", "app-user-shop", "app-release-shop", "app-jobs-retired", "app-job-shop.sweep"]
    assert sorted(order, key=ids.index) == order
    (timer,) = [state for state in states if state["__id__"] == "app-job-shop.night-report"]
    assert (timer["name"], timer["app"], timer["job"]) == (
        "saltern-job-shop.night-report.timer",
        "shop",
        "night-report",
    )


def test_a_host_without_jobs_looks_for_those_that_are_gone(tmp_path):
    ids = [state["__id__"] for state in host_of(tmp_path, APP | {"jobs": {}}).states()]
    assert "app-jobs-retired" in ids
    assert "app-jobs-judged" not in ids


ANY = "app.shop.jobs"
REFUSED = {
    "a process type that the build lacks": (
        {"sweep": {"process": "swep", "every": "10m"}},
        f"{ANY}.sweep.process: the declared build has no such process type; expected one of report, sweep; "
        "did you mean 'sweep'?",
    ),
    "the process type with a port": (
        {"sweep": {"process": "web", "every": "10m"}},
        f"{ANY}.sweep.process: not acceptable; expected a process type of the Procfile without a port, so not web",
    ),
    "no process type": (
        {"sweep": {"every": "10m"}},
        f"{ANY}.sweep.process: missing; expected a process type of the Procfile without a port, so not web",
    ),
    "a name that is none": (
        {"Sweep": {"process": "sweep", "every": "10m"}},
        f"{ANY}.Sweep: a name that cannot be used here; expected a name of lower-case letters, digits, hyphens and "
        "underscores that is not `release` or `contract`",
    ),
    "a time that YAML reads as a number": (
        {"sweep": {"process": "sweep", "at": 795}},
        f"{ANY}.sweep.at: found integer; expected a time of day such as '03:15'; put it in quotes",
    ),
    "a time that is none": (
        {"sweep": {"process": "sweep", "at": "24:00"}},
        f"{ANY}.sweep.at: not acceptable; expected a time of day such as '03:15'",
    ),
    "a span that is none": (
        {"sweep": {"process": "sweep", "every": "10 minutes"}},
        f"{ANY}.sweep.every: not acceptable; expected a span such as 10m, in s, m, h or d",
    ),
    "a span that divides no hour": (
        {"sweep": {"process": "sweep", "every": "25m"}},
        f"{ANY}.sweep.every: does not divide a minute, an hour or a day, so the moments of each day would be others; "
        "expected 20m or 30m, or a calendar",
    ),
    "a calendar that systemd would expand": (
        {"sweep": {"process": "sweep", "calendar": "%H:00"}},
        f"{ANY}.sweep.calendar: not acceptable; expected a calendar of systemd's such as Mon..Fri 08..18:00/15, in "
        "whole seconds",
    ),
    "a calendar in parts of a second": (
        {"sweep": {"process": "sweep", "calendar": "*:*:0/0.5"}},
        f"{ANY}.sweep.calendar: not acceptable; expected a calendar of systemd's such as Mon..Fri 08..18:00/15, in "
        "whole seconds",
    ),
    "a calendar that systemd does not take": (
        {"sweep": {"process": "sweep", "calendar": "Blursday"}},
        f"{ANY}.sweep.calendar: systemd does not take it; expected a calendar as `systemd-analyze calendar` takes it, "
        "without a time zone, which is timezone",
    ),
    "a zone that is none": (
        {"sweep": {"process": "sweep", "every": "1h", "timezone": "Europe/Berln"}},
        f"{ANY}.sweep.timezone: this machine knows no such time zone; expected one such as Europe/Berlin; did you mean "
        "'Europe/Berlin'?",
    ),
    "nothing of when": (
        {"sweep": {"process": "sweep"}},
        f"{ANY}.sweep: does not say when it runs; expected one of every, at, calendar",
    ),
    "an overlap that is none": (
        {"sweep": {"process": "sweep", "every": "1h", "overlap": "forbidden"}},
        f"{ANY}.sweep.overlap: expected one of allow, forbid, replace; did you mean 'forbid'?",
    ),
}


@pytest.mark.parametrize("jobs, message", REFUSED.values(), ids=REFUSED)
def test_a_job_that_cannot_be_is_refused_by_its_path(tmp_path, jobs, message):
    code, output = host_of(tmp_path, APP | {"jobs": jobs}).call("--out", "json", "state.show_lowstate")
    assert_refused(code, output, [message])


def test_an_environment_may_suspend_a_job_and_not_schedule_it(tmp_path):
    host = host_of(tmp_path, APP)
    host.declare("environments/dev.sls", {"ephemeral": True, "app": {"shop": {"jobs": {"sweep": {"suspended": True}}}}})
    assert host.ask("settings.load", "app")["shop"]["jobs"]["sweep"]["suspended"] is True
    host.declare("environments/dev.sls", {"ephemeral": True, "app": {"shop": {"jobs": {"sweep": {"every": "1h"}}}}})
    code, output = host.call("--out", "json", "state.show_lowstate")
    message = f"{ANY}.sweep.every: does not vary; expected in pillar/common.sls, not in pillar/environments/dev.sls"
    assert_refused(code, output, [message])
