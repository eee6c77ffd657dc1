"""What people are told of jobs: when each runs, how its last run ended, and which need somebody to look."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern import leases
from saltern.host import Host
from saltern.jobs import names, record, schedule, units
from saltern.leases import Unreachable
from saltern.releases import history
from saltern.system import systemd, terminal

# How many runs `job.log` shows.
SHOWN = 30


def declared(host: Host, app: str, job: str) -> dict[str, Any]:
    """Return the settings of a job.

    :param host: the host.
    :param app: the app's name, as somebody typed it.
    :param job: the job's name, as somebody typed it.
    :raises CommandExecutionError: when no app of the host has the name, or the app has no such job.
    """
    jobs = host.app(app)["jobs"]
    if job not in jobs:
        known = ", ".join(sorted(jobs)) or "none"
        raise CommandExecutionError(terminal.escaped(f"{job}: {app} has no job of this name; expected one of {known}"))
    return dict(jobs[job])


def settle(app: str, job: str) -> list[record.Run]:
    """Return the runs of a job on this host. One whose runner is gone has ended.

    :param app: the app's name.
    :param job: the job's name.
    """
    found = []
    for run in record.runs(app, job):
        if run["status"] == record.RUNNING and not _is_up(app, job, run["run"]):
            # It may have ended between the two looks.
            run = record.of(app, job, run["run"]) or run
            if run["status"] == record.RUNNING:
                run = run | {"status": record.FAILED, "reason": record.KILLED}
        found.append(run)
    return found


def _is_up(app: str, job: str, run: str) -> bool:
    state = systemd.shown(names.run_unit(app, job, run), "ActiveState").get("ActiveState")
    return state in ("active", "activating", "deactivating")


class Asked:
    """What is kept of an app's jobs for all hosts. Where nobody answers, nobody is asked a second time.

    :param app: the app's name.
    """

    def __init__(self, app: str) -> None:
        self.app = app
        self.error: Unreachable | None = None

    def read(self, name: str) -> leases.Entry | None:
        """Return what is kept under a name; see ``leases.Leases.read``."""
        if self.error:
            raise self.error
        try:
            return leases.opened(self.app).read(name)
        except Unreachable as error:
            self.error = error
            raise


def suspension(asked: Asked, job: str) -> dict[str, Any]:
    """Return who has suspended a job, and when; empty where nobody has, by hand.

    :param asked: whom to ask.
    :param job: the job's name.
    :raises Unreachable: where that cannot be said.
    """
    entry = asked.read(names.suspended(job))
    return record.mapping(entry.value if entry else None)


def latest(asked: Asked, job: str) -> dict[str, Any]:
    """Return the last run that has ended, and when one succeeded last, on any host of the environment.

    :param asked: whom to ask.
    :param job: the job's name.
    :return: ``run`` and ``success``, each where there is one. Those of this host where nobody answers for all.
    """
    own = settle(asked.app, job)
    text = None
    with contextlib.suppress(Unreachable):
        entry = asked.read(names.last(job))
        text = entry.value if entry else None
    for run in own:
        if run["status"] not in (record.RUNNING, record.SKIPPED):
            text = record.merged(text, {"ended": run["started"]} | run)
    return record.mapping(text)


def successes(host: Host) -> dict[str, dict[str, float]]:
    """Return when a run of each job succeeded last, on any host of the environment.

    :param host: the host.
    :return: seconds since 1970, by app and job. 0 where none has.
    """
    found = {}
    for app, one in sorted(host.pillar["app"].items()):
        asked = Asked(app)
        found[app] = {job: latest(asked, job).get("success", 0.0) for job in sorted(one["jobs"])}
    return found


def listed(host: Host, app: str | None = None) -> list[dict[str, Any]]:
    """List the jobs of a host's apps.

    :param host: the host.
    :param app: one app's only.
    :return: a mapping for each.
    :raises CommandExecutionError: when no app of the host has the name.
    """
    apps = {app: host.app(app)} if app else host.pillar["app"]
    rows = []
    for name, one in sorted(apps.items()):
        asked = Asked(name)
        rows += [_row(asked, job, its) for job, its in sorted(one["jobs"].items())]
    return list(terminal.shown(rows))


def _row(asked: Asked, job: str, one: Mapping[str, Any]) -> dict[str, Any]:
    app, now, known = asked.app, time.time(), latest(asked, job)
    run, success = known.get("run") or {}, known.get("success")
    under_way = [one for one in settle(app, job) if one["status"] == record.RUNNING]
    status, is_off = run.get("status", "never ran"), bool(one["suspended"])
    try:
        by_hand = suspension(asked, job)
    except Unreachable as error:
        by_hand, status = {}, f"{status} ({error})"
    if by_hand:
        is_off, status = True, f"suspended by {by_hand['who']} at {by_hand['time']}; last {status}"
    elif is_off:
        status = f"suspended by the pillar; last {status}"
    if under_way:
        status = f"running since {record.moment(under_way[-1]['started'])}; last {status}"
    following = [] if is_off else schedule.moments(schedule.calendar(one), now)
    lines = run.get("lines", []) if run.get("status") == record.FAILED else []
    return {
        "app": app,
        "job": job,
        "when": next(f"{way} {one[way]}" for way in schedule.WAYS if way in one)
        + ("" if one["timezone"] == "UTC" else f" {one['timezone']}"),
        "next": record.moment(following[0]) if following else "",
        "last": record.moment(run["started"]) if run else "",
        "success": record.moment(success) if success else "",
        "status": status,
        "host": run.get("host", ""),
        "release": f"v{run['release']}" if "release" in run else "",
        "reason": "\n".join(filter(None, [run.get("reason", ""), *lines])),
    }


def log(host: Host, app: str, job: str) -> list[dict[str, Any]]:
    """List the last runs of a job on this host, oldest first.

    :param host: the host.
    :param app: the app's name.
    :param job: the job's name.
    :return: a mapping for each.
    :raises CommandExecutionError: when there is no such job.
    """
    declared(host, app, job)
    rows = [
        {
            "started": record.moment(run["started"]),
            "took": f"{run['ended'] - run['started']:.1f} s" if "ended" in run and "release" in run else "",
            "by": run.get("by", ""),
            "release": f"v{run['release']}" if "release" in run else "",
            "status": run["status"],
            "reason": "\n".join(filter(None, [run.get("reason", ""), *run.get("lines", [])])),
        }
        for run in settle(app, job)[-SHOWN:]
    ]
    return list(terminal.shown(rows))


def troubles(host: Host) -> list[str]:
    """List the jobs that somebody must look at: the last run failed, or none has succeeded for too long.

    :param host: the host.
    :return: a sentence for each.
    """
    found = []
    for app, one in sorted(host.pillar["app"].items()) if "app" in host.roles else ():
        asked = Asked(app)
        for job, its in sorted(one["jobs"].items()):
            found += [f"{app} {job}: {said}" for said in _trouble(asked, job, its)]
    return list(terminal.shown(found))


def _trouble(asked: Asked, job: str, one: Mapping[str, Any]) -> list[str]:
    with contextlib.suppress(Unreachable):
        if one["suspended"] or suspension(asked, job):
            return []
    known = latest(asked, job)
    run = known.get("run") or {}
    if run.get("status") == record.FAILED:
        return [f"failed at {record.moment(run['started'])} on {run['host']}, {run['reason']}"]
    since = max(known.get("success", 0.0), units.since(asked.app, job))
    if since and schedule.late(schedule.calendar(one), since, one["timeout"], time.time()):
        return [f"has not succeeded since {record.moment(since)}"]
    return []


def notes(host: Host, app: str) -> list[str]:
    """Tell which jobs of an app are suspended by hand.

    :param host: the host.
    :param app: the app's name.
    :return: a sentence for each.
    """
    found, asked = [], Asked(app)
    for job in sorted(host.app(app)["jobs"]):
        with contextlib.suppress(Unreachable):
            if by_hand := suspension(asked, job):
                by = f"{by_hand['who']} at {by_hand['time']}"
                found.append(f"{app}: the job {job} is suspended by {by}, until job.resume {app} {job}")
    return found


def suspend(host: Host, app: str, job: str) -> str:
    """Suspend a job on all hosts of the environment. A run under way goes on.

    :param host: the host.
    :param app: the app's name.
    :param job: the job's name.
    :return: what was done.
    :raises CommandExecutionError: when there is no such job, or nobody can be asked for all hosts.
    """
    declared(host, app, job)
    if _switched(app, job, json.dumps({"who": history.who(), "time": history.now()})):
        return f"{app}: the job {job} is suspended, until job.resume {app} {job}"
    return f"{app}: the job {job} is suspended already"


def resume(host: Host, app: str, job: str) -> str:
    """Have a suspended job run by the clock again. What was missed meanwhile is not made up.

    :param host: the host.
    :param app: the app's name.
    :param job: the job's name.
    :return: what was done.
    :raises CommandExecutionError: when there is no such job, or nobody can be asked for all hosts.
    """
    one = declared(host, app, job)
    pillar = f"; app.{app}.jobs.{job}.suspended still suspends it" if one["suspended"] else ""
    with _asked(app):
        if not suspension(Asked(app), job):
            return f"{app}: the job {job} is not suspended by hand{pillar}"
    # Before it may run: otherwise a host could make up what was missed.
    units.forgive(app, job, host.id)
    _switched(app, job, "")
    return f"{app}: the job {job} runs by the clock again{pillar}"


@contextlib.contextmanager
def _asked(app: str) -> Iterator[None]:
    try:
        yield
    except Unreachable as error:
        raise CommandExecutionError(f"{app}: {error}") from None


def _switched(app: str, job: str, text: str) -> bool:
    """Note who has suspended a job; return whether that is new."""
    with _asked(app):
        while True:
            own = leases.opened(app)
            before = own.read(names.suspended(job))
            known = before.value if before else ""
            if bool(known) == bool(text):
                return False
            if own.advance(names.suspended(job), before.value if before else None, text):
                return True
