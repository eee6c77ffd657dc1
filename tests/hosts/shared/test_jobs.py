"""Jobs: each scheduled moment has one run, with the release that served when it began, and what fails is told.

``clock`` (tests/apps/clock) writes down when each run begins and ends, and with which code and config.
"""

import json
import time

import pytest

from tests.hosts.applied import apply, converged
from tests.hosts.conftest import ROOT

pytestmark = pytest.mark.alike("trixie")

TOLD, GO = "/var/tmp/clock.log", "/var/tmp/clock.go"
JOBS = {
    "tick": {"process": "tick", "every": "2s"},
    "long": {"process": "long", "every": "1d"},
    "fail": {"process": "fail", "calendar": "monthly"},
    "stubborn": {"process": "stubborn", "at": "03:15", "timezone": "Europe/Berlin", "timeout": 2},
}
CLOCK = {"port": 8900, "grace": {"stubborn": 1}, "jobs": JOBS}
TIMERS = {f"app-job-clock.{job}" for job in JOBS}


@pytest.fixture(scope="module")
def clock(host, lab, pillar):
    """A host with the app clock and its jobs, as a dry run told."""
    host.sh(f"rm -f {TOLD} {GO}")
    lab.build(ROOT / "tests/apps/clock", host.python)
    pillar.merge(app={"clock": CLOCK | {"config": {"WORD": "the-first-word"}}})
    assert converged(host) > TIMERS
    yield host
    host.sh(f"rm -f {TOLD} {GO}")
    pillar.restore()
    apply(host).succeeded()


def told(host, kind):
    """Return what the runs of a process type have written down: word, time, config."""
    lines = [line.split() for line in host.sh(f"cat {TOLD} 2>/dev/null || true").stdout.splitlines()]
    return [(word, float(at), config) for its, word, at, _, config, _ in lines if its == kind]


def begin(host, job):
    """Begin a run by hand, and do not wait for it; return its number once its process has begun."""
    number, before = str(time.time_ns() // 1_000_000), len(told(host, job))
    host.run("systemd-run", "-q", "/usr/local/lib/saltern/job", "start", "clock", job, "hand", number)
    until(lambda: len(told(host, job)) > before)
    return number


def until(check, seconds=60):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def noted(host, job, number):
    """Return what is noted of a run, once it has ended."""

    def known():
        runs = json.loads(host.sh(f"cat /var/lib/saltern/jobs/clock/{job}.json").stdout)
        return next((one for one in runs if one["run"] == number and one["status"] != "running"), None)

    until(known)
    return known()


def row(host, job):
    return next(one for one in host.salt("job.list", "clock") if one["job"] == job)


def test_each_moment_has_one_run_as_the_apps_user_in_its_slice_with_its_lines_in_the_journal(clock):
    until(lambda: len(told(clock, "tick")) >= 12)
    begins = [at for word, at, _ in told(clock, "tick") if word == "begins"]
    assert {word for word, _, _ in told(clock, "tick")} == {"begins", "ends"}
    # A run may begin late on a busy host, and the next one in time.
    assert len(begins) <= (begins[-1] - begins[0]) / 2 + 2, "never two for one moment"
    begin(clock, "long")
    (group,) = clock.sh("cat /proc/$(pgrep -u clock -f 'clock.py long' | head -1)/cgroup | grep 0::").stdout.split()
    assert "/app.slice/app-clock.slice/app-clock-long-long." in group
    clock.sh(f"touch {GO}")
    until(lambda: told(clock, "long")[-1][0] == "ends")
    clock.sh(f"rm {GO}; journalctl --sync")
    lines = clock.run("journalctl", "-q", "-o", "cat", "-t", "clock[long]").stdout.splitlines()
    assert any(line.startswith("long begins ") for line in lines)
    assert any(" succeeded after " in line for line in lines)
    status = row(clock, "tick")["status"]
    assert status == "succeeded" or status.startswith("running since ")


def test_a_run_goes_on_through_releases_a_restart_of_supervisor_and_a_reload_with_its_own_build_and_config(
    clock, pillar
):
    number = begin(clock, "long")
    first = clock.sh("readlink /srv/apps/clock/current").stdout.strip()
    for word in ("second", "third", "last"):
        pillar.merge(app={"clock": {"config": {"WORD": f"the-{word}-word"}, "keep_releases": 2}})
        apply(clock).succeeded()
    clock.sh("systemctl restart supervisor; systemctl daemon-reload")
    assert clock.sh(f"cd /srv/apps/clock && test -d {first} && readlink current").stdout.strip() != first
    again = clock.run("salt-call", "job.run", "clock", "long", check=False)
    assert again.returncode and "is still under way" in again.stderr + again.stdout
    clock.sh(f"touch {GO}")
    run = noted(clock, "long", number)
    assert (run["status"], f"releases/{run['release']}") == ("succeeded", first)
    assert told(clock, "long")[-1][0::2] == ("ends", "the-first-word")
    begin(clock, "long")
    assert told(clock, "long")[-1][2] == "the-last-word", "the next run has the release that serves"
    clock.sh(f"rm {GO}")


def test_a_run_that_fails_is_told_with_its_last_lines_and_without_a_value(clock):
    done = clock.run("salt-call", "--retcode-passthrough", "job.run", "clock", "fail", check=False)
    assert done.returncode == 3
    assert "the word is the-last-word" in done.stderr, "who runs it by hand sees its lines"
    said = row(clock, "fail")
    assert said["status"] == "failed"
    assert "exit status 3" in said["reason"] and "the word is <WORD>" in said["reason"]
    drift = clock.run("/usr/local/lib/saltern/drift", check=False)
    assert drift.returncode == 2 and "clock fail: failed at " in drift.stdout
    assert clock.run("systemctl", "is-system-running").stdout.strip() == "running", "no unit has failed"


def test_a_run_whose_time_is_over_or_whose_runner_is_killed_leaves_nothing(clock):
    begun = time.monotonic()
    number = begin(clock, "stubborn")
    run = noted(clock, "stubborn", number)
    assert run["reason"] == "not done after 2 s (app.clock.jobs.stubborn.timeout)"
    assert time.monotonic() - begun < 30
    number = begin(clock, "long")
    unit = f"saltern-job-clock.long.{number}.service"
    clock.sh(f"kill -9 $(systemctl show -p MainPID --value {unit})")
    assert noted(clock, "long", number)["reason"] == "ended: its runner was killed, or the host went down"
    assert clock.run("pgrep", "-u", "clock", "-f", "clock.py (long|stubborn)", check=False).returncode == 1


def test_a_job_that_is_suspended_does_not_run_and_each_converge_says_so(clock):
    clock.salt("job.suspend", "clock", "tick")
    until(lambda: told(clock, "tick")[-1][0] == "ends")
    count = len(told(clock, "tick"))
    said = apply(clock).changed_nothing()
    assert "clock: the job tick is suspended by " in said.output
    assert len(told(clock, "tick")) == count
    clock.salt("job.resume", "clock", "tick")
    until(lambda: len(told(clock, "tick")) > count)


def test_what_was_missed_while_the_host_was_off_runs_once_at_its_boot(clock):
    clock.sh(f"touch {GO}")
    before = len(told(clock, "long"))
    days_ago = "date -d '-3 days' +%s"
    kept = "/var/lib/saltern/leases/clock/job/long/moment"
    clock.sh(
        f"""printf '{{"value": "{{\\\\"at\\\\": %s}}", "holder": ""}}' $({days_ago}) >{kept}
        touch -d '-3 days' /var/lib/systemd/timers/stamp-saltern-job-clock.long.timer"""
    )
    clock.reboot()
    until(lambda: len(told(clock, "long")) == before + 2)
    apply(clock).changed_nothing()
    assert len(told(clock, "long")) == before + 2, "it began and ended once"


def test_a_job_and_an_app_that_are_gone_leave_nothing(clock, pillar, verify):
    clock.sh(f"rm -f {GO}; true")
    begin(clock, "long")
    jobs = {job: its for job, its in JOBS.items() if job not in ("fail", "long", "stubborn")}
    path = pillar.directory / "common.sls"
    pillar.merge(app={"clock": {"jobs": None}})
    pillar.merge(app={"clock": {"jobs": jobs}})
    assert path.exists()
    assert "app-jobs-retired" in converged(clock)
    found = "find /etc /var/lib/saltern /var/lib/systemd /run/saltern -name '*clock*long*' -o -path '*clock/job/long*'"
    assert clock.sh(found).stdout == ""
    assert clock.run("pgrep", "-u", "clock", "-f", "clock.py long", check=False).returncode == 1
    verify(clock, "app")
    # What the app's user has written outside is its data, which stays.
    clock.salt("job.suspend", "clock", "tick")
    until(lambda: not told(clock, "tick") or told(clock, "tick")[-1][0] == "ends")
    clock.sh(f"sleep 3; rm -f {TOLD} {GO}")
    pillar.restore()
    converged(clock)
    assert clock.sh("find /etc /var/lib/saltern /var/lib/systemd/timers /run/saltern -name '*clock*'").stdout == ""
    assert clock.sh("systemctl list-units --all --plain --no-legend 'saltern-job-*'").stdout == ""
