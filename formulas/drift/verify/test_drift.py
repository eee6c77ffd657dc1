"""Drift: the host looks for drift as often as declared, and has found none."""

import datetime
import json

import pytest

STATUS = "/var/lib/saltern/drift.json"


@pytest.fixture(scope="module")
def interval(settings):
    """The declared interval."""
    return datetime.timedelta(minutes=settings["drift"]["interval"])


def test_the_timer_runs_now_and_at_every_boot_or_not_at_all(host, interval):
    timer = host.service("saltern-drift.timer")
    assert (timer.is_running, timer.is_enabled) == (bool(interval), bool(interval))


def test_it_asks_as_often_as_is_declared(host, interval):
    if interval:
        monotonic = host.check_output("systemctl show saltern-drift.timer --property=TimersMonotonic")
        asked = host.check_output("systemd-analyze timespan %s", f"{interval.total_seconds():.0f}s")
        (human,) = [line.partition(":")[2].strip() for line in asked.splitlines() if "Human" in line]
        assert f"OnUnitActiveUSec={human} ;" in monotonic


def test_the_last_dry_run_found_none_and_is_not_long_ago(host, interval):
    status = host.file(STATUS)
    if not status.exists:
        # The timer is off, or has not asked yet.
        return
    found = json.loads(status.content_string)
    assert (found["result"], found["would_change"], found["failed"]) == ("none", [], [])
    age = int(host.check_output("date +%s")) - datetime.datetime.fromisoformat(found["time"]).timestamp()
    # Time for the timer's random delay, and for a dry run that waited for a converge.
    assert age < (1.5 * interval + datetime.timedelta(hours=1)).total_seconds()


def test_everybody_may_read_the_status(host):
    status = host.file(STATUS)
    assert not status.exists or (status.user, status.group, status.mode) == ("root", "root", 0o644)
