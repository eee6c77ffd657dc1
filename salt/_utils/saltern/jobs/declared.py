"""What a schema cannot tell of the jobs that are declared."""

import difflib
import time
from collections.abc import Mapping
from typing import Any

from saltern.jobs import names, schedule

Job = Mapping[str, Any]

# The kernel's bound for a file's name, which a scope's name is too; and the digits of a run's and a release's number.
LONGEST, DIGITS = 255, 20


def mistakes(apps: Mapping[str, Any]) -> list[str]:
    """List the mistakes in the jobs of all apps.

    :param apps: settings by app, with defaults.
    """
    return [
        message
        for app, one in sorted(apps.items())
        for job, its in sorted(one["jobs"].items())
        for message in of_job(app, job, its)
    ]


def of_job(app: str, job: str, one: Job) -> list[str]:
    """List the mistakes in one job.

    :param app: the app's name.
    :param job: the job's name.
    :param one: its settings, with defaults.
    """
    path = f"app.{app}.jobs.{job}"
    ways = [way for way in schedule.WAYS if way in one]
    if len(ways) != 1:
        said = f"has {' and '.join(ways)}" if ways else "does not say when it runs"
        return [f"{path}: {said}; expected one of {', '.join(schedule.WAYS)}"]
    if "every" in one and (span := schedule.seconds(one["every"])) not in schedule.SPANS:
        near = " or ".join(map(schedule.shown, schedule.nearest(span)))
        return [
            f"{path}.every: does not divide a minute, an hour or a day, so the moments of each day would be others; "
            f"expected {near}, or a calendar"
        ]
    length = len(names.scope(app, one["process"], job, "", 0)) + DIGITS
    if length > LONGEST:
        return [f"{path}: the names of the app, the process type and the job are too long together; expected shorter"]
    known = schedule.zones()
    if known and one["timezone"] not in known:
        close = difflib.get_close_matches(one["timezone"], sorted(known), 1)
        meant = f"; did you mean '{close[0]}'?" if close else ""
        return [f"{path}.timezone: this machine knows no such time zone; expected one such as Europe/Berlin{meant}"]
    return _refused(path, ways[0], one)


def _refused(path: str, way: str, one: Job) -> list[str]:
    """Ask systemd for the moments of a calendar. Any Debian has it, a master and an operator's machine too."""
    try:
        following = schedule.moments(schedule.calendar(one), time.time(), 2)
    except schedule.Refused:
        return [
            f"{path}.{way}: systemd does not take it; expected a calendar as `systemd-analyze calendar` takes it, "
            "without a time zone, which is timezone"
        ]
    except OSError:
        # Where this machine has no systemd, the host is asked before anything is changed there.
        return []
    if not following:
        return [f"{path}.{way}: has no moment to come; expected a calendar that has one"]
    if len(following) > 1 and one["spread"] >= following[1] - following[0]:
        period = following[1] - following[0]
        return [f"{path}.spread: is as long as the {period:.0f} s between two runs; expected less"]
    return []
