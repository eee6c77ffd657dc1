"""The jobs: each runs by the clock as declared, its last run did not fail, and no other job is there."""

import json
import time

import pytest

from saltern.jobs import names, schedule


@pytest.fixture(scope="module")
def jobs(apps):
    """The declared jobs of the host's apps, by app and name."""
    found = {(app, job): its for app, one in sorted(apps.items()) for job, its in sorted(one["jobs"].items())}
    if not found:
        pytest.skip("no app of the host has a job")
    return found


@pytest.fixture(scope="module")
def known(host, jobs):
    """What is known of each job on all hosts: its last run and success, and whether it is suspended by hand."""
    ask = "/usr/local/lib/saltern/job known %s %s"
    return {one: json.loads(host.check_output(ask, *one)) for one in jobs}


def shown(host, unit, *properties):
    """Return properties of a unit, as systemd has them."""
    said = host.check_output("systemctl show %s -p %s", unit, ",".join(properties))
    return dict(line.split("=", 1) for line in said.splitlines())


def test_each_timer_is_active_now_and_at_every_boot_and_knows_when_it_elapses(host, jobs):
    for (app, job), its in jobs.items():
        timer = f"{names.unit(app, job)}.timer"
        found = shown(
            host, timer, "ActiveState", "SubState", "UnitFileState", "NextElapseUSecRealtime", "TimersCalendar"
        )
        is_on = not its["suspended"]
        assert (found["ActiveState"] == "active", found["UnitFileState"] == "enabled") == (is_on, is_on), timer
        if is_on:
            assert f"OnCalendar={_normalized(host, schedule.calendar(its))} ;" in found["TimersCalendar"], timer
            # While it starts a run, it does not know yet.
            assert found["NextElapseUSecRealtime"] or found["SubState"] == "running", timer


def _normalized(host, expression):
    said = host.check_output("systemd-analyze calendar -- %s", expression)
    return next(line.partition(": ")[2] for line in said.splitlines() if line.strip().startswith("Normalized form"))


def test_no_last_run_failed(jobs, known):
    for (app, job), its in known.items():
        # Of a job that is suspended somebody knows.
        run = {} if jobs[app, job]["suspended"] or its["suspended"] else its.get("run", {})
        assert run.get("status") != "failed", f"{app} {job}: {run['reason']}: {run.get('lines')}"


def test_the_last_success_is_not_older_than_the_schedule_allows(host, jobs, known):
    now = float(host.check_output("date +%s"))
    for (app, job), its in jobs.items():
        if its["suspended"] or known[app, job]["suspended"]:
            continue
        # A job that has never run is late once two of its moments have passed.
        begun = float(host.check_output("stat -c %%Y %s", names.declared(app, job)))
        since = max(known[app, job].get("success", 0.0), begun)
        text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))
        assert not schedule.late(schedule.calendar(its), since, its["timeout"], now), f"{app} {job}: since {text}"


def test_no_other_job_is_there(host, apps, roles):
    if "app" not in roles:
        pytest.skip("the host has no apps")
    wanted = {names.unit(app, job) for app, one in apps.items() for job in one["jobs"]}
    timers = host.run("ls /etc/systemd/system").stdout.split()
    found = {name.removesuffix(".timer") for name in timers if name.startswith("saltern-job-") and "timer" in name}
    assert found == wanted
