"""The timers of jobs: what they should be, what is told of a change, and what a removed job leaves."""

import dataclasses
import json
import os

import pytest

from saltern import leases
from saltern.jobs import names, record, report, units
from saltern.leases import Local
from saltern.system import systemd

JOB = {
    "process": "sweep",
    "every": "10m",
    "timezone": "Europe/Berlin",
    "overlap": "forbid",
    "timeout": 600,
    "spread": 0,
    "suspended": False,
}


@pytest.fixture
def place(monkeypatch, tmp_path):
    """The directories of a host."""
    for name in ("DECLARED", "RECORDS", "RUNTIME", "UNITS", "STAMPS"):
        monkeypatch.setattr(names, name, f"{tmp_path}/{name}")
    for function in (record.note, record.runs, record.of):
        monkeypatch.setattr(function, "__defaults__", (f"{tmp_path}/RECORDS",))
    for name in ("KEPT", "HELD"):
        monkeypatch.setattr(units.local, name, f"{tmp_path}/{name}")
    own = Local("shop", "one", f"{tmp_path}/HELD", f"{tmp_path}/KEPT")
    monkeypatch.setattr(leases, "opened", lambda app: own)
    return tmp_path


@pytest.fixture
def host(on_a_host, monkeypatch):
    """A function that returns a host with a job."""
    monkeypatch.setattr(units.config, "units", lambda host: ["postgresql.service"])

    def make(**said):
        apps = {"shop": {"jobs": {"sweep": JOB | said}, "grace": {"sweep": 45}}}
        return dataclasses.replace(on_a_host, pillar=on_a_host.pillar | {"app": apps})

    return make


@pytest.fixture
def did(monkeypatch):
    """What systemd is told."""
    told = []
    monkeypatch.setattr(systemd, "_do", lambda *words: told.append(" ".join(words)))
    return told


def test_a_timer_makes_up_what_was_missed_and_is_exact(place, host):
    texts = units.wanted(host(spread=30), "shop", "sweep")
    timer = texts[f"{place}/UNITS/saltern-job-shop.sweep.timer"].splitlines()
    assert {
        "OnCalendar=*-*-* *:00/10:00 Europe/Berlin",
        "Persistent=true",
        "AccuracySec=100ms",
        "RandomizedDelaySec=30",
        "WantedBy=timers.target",
    } < set(timer)
    said = json.loads(texts[f"{place}/DECLARED/shop.sweep.json"])
    assert (said["grace"], said["timeout"], said["after"]) == (45, 600, ["postgresql.service"])


def change(host, did):
    """Have a job run as declared, and return what systemd was told."""
    did.clear()
    units.schedule_job(host, "shop", "sweep", units.wanted(host, "shop", "sweep"))
    return did


TIMER = "saltern-job-shop.sweep.timer"
ON, OFF = f"enable --now --quiet {TIMER}", f"disable --now --quiet {TIMER}"
CHANGES = {
    "another timeout": ({"timeout": 60}, ["daemon-reload", ON], False),
    "another delay": ({"spread": 30}, ["daemon-reload", ON, f"restart {TIMER}"], False),
    "another schedule": ({"every": "1h"}, [f"stop {TIMER}", "daemon-reload", ON], True),
    "suspended": ({"suspended": True}, [f"stop {TIMER}", "daemon-reload", OFF], True),
}


@pytest.mark.parametrize("said, told, forgives", CHANGES.values(), ids=CHANGES)
def test_a_change_neither_begins_a_run_nor_has_one_be_made_up(place, host, did, said, told, forgives):
    assert change(host(), did) == ["daemon-reload", ON, f"restart {TIMER}"]
    assert leases.opened("shop").read(names.moment("sweep")) is None, "a new job has nothing to make up"
    assert change(host(**said), did) == told
    assert (leases.opened("shop").read(names.moment("sweep")) is not None) is forgives
    assert units.unlike(units.wanted(host(**said), "shop", "sweep")) == {}


def test_a_removed_job_leaves_nothing_and_another_one_all(place, host, did):
    (place / "UNITS").mkdir()
    (place / "STAMPS").mkdir()
    change(host(), did)
    for one in ("sweep", "mail"):
        record.note("shop", one, {"run": "1", "status": "failed", "started": 1.0})
        leases.opened("shop").advance(names.moment(one), None, "{}")
        (place / f"STAMPS/stamp-saltern-job-shop.{one}.timer").touch()
    (place / "UNITS/saltern-job-own.timer").write_text("[Timer]\n")
    assert units.there() == {("shop", "sweep"), ("shop", "mail")}
    did.clear()
    units.remove([("shop", "sweep")])
    assert did == [
        OFF,
        "stop saltern-job-shop.sweep.*.service",
        "daemon-reload",
        "reset-failed saltern-job-shop.sweep.*",
    ]
    left = {name for _, directories, files in os.walk(place) for name in [*directories, *files] if "sweep" in name}
    assert left == set()
    assert units.there() == {("shop", "mail")}
    assert (place / "UNITS/saltern-job-own.timer").exists()


def test_what_is_suspended_by_hand_stays_so_until_it_is_resumed(place, host, monkeypatch):
    monkeypatch.setattr(report.history, "who", lambda: "anna")
    one = host()
    assert report.suspend(one, "shop", "sweep").startswith("shop: the job sweep is suspended, until")
    assert report.suspend(one, "shop", "sweep") == "shop: the job sweep is suspended already"
    (note,) = report.notes(one, "shop")
    assert note.startswith("shop: the job sweep is suspended by anna at ")
    assert report.resume(one, "shop", "sweep") == "shop: the job sweep runs by the clock again"
    assert report.notes(one, "shop") == []
    assert leases.opened("shop").read(names.moment("sweep")), "nothing is made up"
    said = report.resume(host(suspended=True), "shop", "sweep")
    assert said.endswith("not suspended by hand; app.shop.jobs.sweep.suspended still suspends it")


def ended(status, at, **more):
    return {"run": str(at), "status": status, "started": at, "ended": at + 1, "host": "one", "reason": ""} | more


NOW = 1795990800.0
TROUBLES = {
    "never ran, declared just now": ([], {}, NOW - 60, []),
    "never ran, for too long": ([], {}, NOW - 7200, ["shop sweep: has not succeeded since 2026-11-29T20:20:00Z"]),
    "succeeded": ([ended("succeeded", NOW - 60)], {}, NOW - 7200, []),
    "failed": (
        [ended("succeeded", NOW - 600), ended("failed", NOW - 60, reason="exit status 3", release=2)],
        {},
        NOW - 7200,
        ["shop sweep: failed at 2026-11-29T22:19:00Z on one, exit status 3"],
    ),
    "failed and succeeded again": ([ended("failed", NOW - 600), ended("succeeded", NOW - 60)], {}, NOW - 7200, []),
    "skipped since": ([ended("succeeded", NOW - 600), ended("skipped", NOW - 60)], {}, NOW - 7200, []),
    "suspended": ([ended("failed", NOW - 60)], {"suspended": True}, NOW - 7200, []),
}


@pytest.mark.parametrize("runs, said, since, expected", TROUBLES.values(), ids=TROUBLES)
def test_what_failed_or_was_missed_is_told(place, host, monkeypatch, runs, said, since, expected):
    monkeypatch.setattr(report.time, "time", lambda: NOW)
    for run in runs:
        record.note("shop", "sweep", run)
    (place / "DECLARED").mkdir()
    (place / "DECLARED/shop.sweep.json").write_text("{}")
    os.utime(place / "DECLARED/shop.sweep.json", (since, since))
    assert report.troubles(host(**said)) == expected
    (row,) = report.listed(host(**said))
    assert row["next"] == ("" if said else "2026-11-29T22:30:00Z")
    successes = [run["ended"] for run in runs if run["status"] == "succeeded"]
    assert report.successes(host(**said)) == {"shop": {"sweep": max(successes, default=0.0)}}


def test_a_run_whose_runner_is_gone_is_no_run_under_way(place, host, monkeypatch):
    record.note("shop", "sweep", {"run": "1", "status": "running", "started": NOW, "host": "one", "release": 2})
    monkeypatch.setattr(systemd, "shown", lambda *_: {"ActiveState": "inactive"})
    (row,) = report.log(host(), "shop", "sweep")
    assert (row["status"], row["reason"]) == ("failed", "ended: its runner was killed, or the host went down")
    monkeypatch.setattr(systemd, "shown", lambda *_: {"ActiveState": "active"})
    assert report.log(host(), "shop", "sweep")[0]["status"] == "running"
