"""The timers of jobs on a host: what they should be, how they are switched, and what a removed job leaves."""

import contextlib
import glob
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping

from salt.exceptions import CommandExecutionError

from saltern import leases
from saltern.attachments import config
from saltern.host import Host
from saltern.jobs import names, record, schedule
from saltern.leases import local
from saltern.releases.process import DEFAULT_GRACE
from saltern.system import files, systemd

HEAD = "# Managed by Saltern (formula app).\n"
NAMED = re.compile(r"saltern-job-(?P<app>[a-z0-9-]+)\.(?P<job>[a-z0-9_-]+)\.(timer|service)")
# An app and one of its jobs.
Name = tuple[str, str]


def wanted(host: Host, app: str, job: str) -> dict[str, str]:
    """Return the files of a job, as they are declared.

    :param host: the host.
    :param app: the app's name.
    :param job: the job's name.
    :return: text by path.
    """
    settings = host.app(app)
    one = settings["jobs"][job]
    unit, calendar = names.unit(app, job), schedule.calendar(one)
    said = {
        "host": host.id,
        "process": one["process"],
        "calendar": calendar,
        "overlap": one["overlap"],
        "timeout": one["timeout"],
        "grace": settings["grace"].get(one["process"], DEFAULT_GRACE),
        "suspended": one["suspended"],
        "after": config.units(host),
    }
    timer = f"{HEAD}[Unit]\nDescription=When the job {job} of {app} runs\n\n[Timer]\nOnCalendar={calendar}\n"
    # What was missed while the host was off runs once, at its boot.
    timer += "Persistent=true\nAccuracySec=100ms\n"
    timer += f"RandomizedDelaySec={one['spread']}\n" if one["spread"] else ""
    service = f"{HEAD}[Unit]\nDescription=Starts a run of the job {job} of {app}, where it is due\n"
    # Some jobs run each second.
    service += "StartLimitIntervalSec=0\n\n"
    service += f"[Service]\nType=oneshot\nExecStart={names.RUNNER} start {app} {job}\n"
    return {
        names.declared(app, job): json.dumps(said, indent=2) + "\n",
        f"{names.UNITS}/{unit}.service": service,
        f"{names.UNITS}/{unit}.timer": f"{timer}\n[Install]\nWantedBy=timers.target\n",
    }


def unlike(texts: Mapping[str, str]) -> dict[str, dict[str, str | None]]:
    """Return the changes, as a state reports them, for the files that differ from what is declared.

    :param texts: text by path; see ``wanted``.
    """
    paths = [path for path, text in texts.items() if files.read(path) != text]
    return {path: {"old": "as it was" if os.path.exists(path) else None, "new": "as declared"} for path in paths}


def schedule_job(host: Host, app: str, job: str, texts: Mapping[str, str]) -> None:
    """Have a job run as declared. No run is cut, and none is begun.

    :param host: the host.
    :param app: the app's name.
    :param job: the job's name.
    :param texts: text by path; see ``wanted``.
    :raises CommandExecutionError: when systemd refuses, or nobody can be asked which moment was taken last.
    """
    declared = names.declared(app, job)
    before, now = record.mapping(files.read(declared)), record.mapping(texts[declared])
    timer = f"{names.unit(app, job)}.timer"
    is_other = bool(before) and any(before.get(word) != now[word] for word in ("calendar", "suspended"))
    changed = set(unlike(texts))
    if is_other:
        # What was missed by another schedule, or while it was suspended, is not made up.
        systemd.stop(timer)
        forgive(app, job, host.id)
    for path in changed:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        files.write(path, texts[path])
    systemd.read()
    systemd.switch(timer, not now["suspended"])
    if not is_other and f"{names.UNITS}/{timer}" in changed and not now["suspended"]:
        systemd.restart(timer)


def forgive(app: str, job: str, host: str) -> None:
    """Have no moment until now be made up.

    :param app: the app's name.
    :param job: the job's name.
    :param host: this host's id.
    :raises CommandExecutionError: when nobody can be asked which moment was taken last.
    """
    try:
        own = leases.opened(app)
        while True:
            kept = own.read(names.moment(job))
            taken = json.dumps({"at": time.time(), "run": "", "host": host})
            if own.advance(names.moment(job), kept.value if kept else None, taken):
                return
    except leases.Unreachable as error:
        raise CommandExecutionError(f"{app}: {job}: {error}") from None


def since(app: str, job: str) -> float:
    """Return since when a job has its schedule on this host, in seconds since 1970; 0 where it has none.

    :param app: the app's name.
    :param job: the job's name.
    """
    with contextlib.suppress(OSError):
        return os.stat(names.declared(app, job)).st_mtime
    return 0.0


def there() -> set[Name]:
    """List the jobs that are on this host, by what they have here: units, or what is written for the runner."""
    found = {
        (match["app"], match["job"])
        for path in glob.glob(f"{names.UNITS}/saltern-job-*")
        if (match := NAMED.fullmatch(os.path.basename(path))) and (files.read(path) or "").startswith(HEAD)
    }
    for path in glob.glob(f"{names.DECLARED}/*.json"):
        app, _, job = os.path.basename(path).removesuffix(".json").partition(".")
        found.add((app, job))
    for path in glob.glob(f"{names.RECORDS}/*/*.json"):
        found.add((os.path.basename(os.path.dirname(path)), os.path.basename(path).removesuffix(".json")))
    return found


def remove(jobs: Iterable[Name]) -> None:
    """Remove jobs with all that they have on this host. Runs under way are ended, with their grace.

    :param jobs: of which apps, and which.
    :raises CommandExecutionError: when systemd does not let go of one.
    """
    jobs = sorted(jobs)
    for app, job in jobs:
        unit = names.unit(app, job)
        if os.path.exists(f"{names.UNITS}/{unit}.timer"):
            systemd.switch(f"{unit}.timer", False)
        # Before its runs are ended: they are to note nothing.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(names.declared(app, job))
        systemd.stop(f"{unit}.*.service")
        for path in (
            f"{names.UNITS}/{unit}.timer",
            f"{names.UNITS}/{unit}.service",
            f"{names.STAMPS}/stamp-{unit}.timer",
            f"{names.RECORDS}/{app}/{job}.json",
            f"{names.RECORDS}/{app}/.{job}.lock",
            f"{names.RUNTIME}/{app}.{job}.lock",
        ):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        for root in (local.KEPT, local.HELD):
            shutil.rmtree(f"{root}/{app}/job/{job}", ignore_errors=True)
            for directory in (f"{root}/{app}/job", f"{root}/{app}"):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
        with contextlib.suppress(OSError):
            os.rmdir(f"{names.RECORDS}/{app}")
    if jobs:
        systemd.read()
    for app, job in jobs:
        systemd.forget(f"{names.unit(app, job)}.*")
