"""When a job runs: what is declared, as systemd's calendars have it, and the moments that follow from a calendar."""

import datetime
import os
import re
import subprocess
import zoneinfo
from collections.abc import Mapping
from typing import Any

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# The spans that divide a minute, an hour or a day, in seconds. Only these have the same moments on every day.
DIVISORS = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)
SPANS = (
    *DIVISORS,
    *(60 * number for number in DIVISORS),
    *(3600 * number for number in (1, 2, 3, 4, 6, 8, 12, 24)),
)
# A moment in the answer of systemd-analyze.
ELAPSE = re.compile(r"^\s*(?:Next elapse|Iter\. #\d+): (?:\w{3} )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC$", re.MULTILINE)
# The ways to say when a job runs.
WAYS = ("every", "at", "calendar")


class Refused(ValueError):
    """A calendar that systemd does not take, or that has no moment to come."""


def seconds(span: str) -> int:
    """Return the seconds of a span such as ``10m``.

    :param span: a number and a unit.
    """
    return int(span[:-1]) * UNITS[span[-1]]


def shown(span: int) -> str:
    """Return a span as the pillar has it.

    :param span: seconds.
    """
    unit = next(name for name, size in reversed(UNITS.items()) if span % size == 0)
    return f"{span // UNITS[unit]}{unit}"


def nearest(span: int) -> list[int]:
    """Return the spans next to one that divides no minute, hour or day.

    :param span: seconds.
    :return: the next shorter and the next longer one, as far as there are such.
    """
    shorter = [one for one in SPANS if one < span]
    longer = [one for one in SPANS if one > span]
    return [*shorter[-1:], *longer[:1]]


def calendar(job: Mapping[str, Any]) -> str:
    """Return when a job runs, as systemd's ``OnCalendar`` has it: the same moments on every host.

    :param job: its settings, which say it in one way.
    """
    if "every" in job:
        text = _aligned(seconds(job["every"]))
    elif "at" in job:
        text = f"*-*-* {job['at']}{':00' if job['at'].count(':') == 1 else ''}"
    else:
        text = job["calendar"]
    return f"{text} {job['timezone']}"


def _aligned(span: int) -> str:
    if span < UNITS["m"]:
        return f"*-*-* *:*:00/{span}"
    if span < UNITS["h"]:
        return f"*-*-* *:00/{span // UNITS['m']}:00"
    return f"*-*-* 00/{span // UNITS['h']}:00:00" if span < UNITS["d"] else "*-*-* 00:00:00"


def zones() -> set[str]:
    """Return the time zones that this machine knows; none where it has no database of them."""
    return zoneinfo.available_timezones()


def moments(expression: str, base: float, count: int = 1) -> list[float]:
    """Return the next moments of a calendar.

    :param expression: as ``calendar`` gives it.
    :param base: seconds since 1970: the moments come after it.
    :param count: how many.
    :return: seconds since 1970. Fewer where there are no more.
    :raises Refused: where systemd does not take the expression.
    :raises OSError: where this machine has no systemd to ask.
    """
    command = ["systemd-analyze", "calendar", f"--base-time=@{base:.6f}", f"--iterations={count}", "--", expression]
    environ = os.environ | {"LC_ALL": "C", "TZ": "UTC"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, timeout=30)
    if done.returncode:
        raise Refused("systemd does not take it")
    found = [datetime.datetime.fromisoformat(f"{text}+00:00").timestamp() for text in ELAPSE.findall(done.stdout)]
    return found[:count]


def due(expression: str, taken: float, now: float) -> bool:
    """Tell whether a scheduled moment has come since the one that was taken last. Several that were missed are one.

    :param expression: as ``calendar`` gives it.
    :param taken: when a moment was taken last, in seconds since 1970, by the clock of the host that took it. A host
        whose clock is behind by less than the schedule's period finds the moment taken.
    :param now: seconds since 1970.
    """
    return any(moment <= now for moment in moments(expression, taken))


def late(expression: str, success: float, timeout: int, now: float) -> bool:
    """Tell whether a success is older than a schedule allows: two moments have passed since, and the time of a run.

    :param expression: as ``calendar`` gives it.
    :param success: when a run succeeded last, or since when there is such a job, in seconds since 1970.
    :param timeout: the seconds that a run may take.
    :param now: seconds since 1970.
    """
    following = moments(expression, success, 2)
    return len(following) > 1 and following[1] + timeout < now
