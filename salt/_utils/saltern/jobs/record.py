"""The runs of a job on a host, as its runner notes them."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from typing import Any

from saltern.jobs import names
from saltern.system import files

# How many runs are kept of a job.
KEPT = 50

# One run: ``run`` (its number), ``by`` (``clock`` or ``hand``), ``host``, ``started``, ``ended``, ``status``,
# ``reason``, ``release``, ``build``, ``process``, ``exit``, ``lines``. Times are seconds since 1970.
Run = dict[str, Any]

RUNNING, SUCCEEDED, FAILED, SKIPPED, REPLACED = "running", "succeeded", "failed", "skipped", "replaced"

# Why a run has ended whose runner could not note it.
KILLED = "ended: its runner was killed, or the host went down"


def mapping(text: str | None) -> dict[str, Any]:
    """Return the mapping in a text of JSON, empty where there is none.

    :param text: what a file or a kept value holds, ``None`` where there is none.
    """
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def moment(at: float) -> str:
    """Return a time as people read it.

    :param at: seconds since 1970.
    """
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def runs(app: str, job: str, root: str = names.RECORDS) -> list[Run]:
    """Return the runs of a job on this host, oldest first.

    :param app: the app's name.
    :param job: the job's name.
    :param root: the directory of the records.
    """
    return parsed(files.read(f"{root}/{app}/{job}.json", errors="replace"))


def parsed(text: str | None) -> list[Run]:
    """Return the runs in the text of a record; none where it is no record.

    :param text: what the file holds.
    """
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    known = found if isinstance(found, list) else []
    return [one for one in known if isinstance(one, dict) and {"run", "status", "started"} <= one.keys()]


@contextlib.contextmanager
def _locked(app: str, job: str, root: str) -> Iterator[None]:
    os.makedirs(f"{root}/{app}", mode=0o700, exist_ok=True)
    with open(f"{root}/{app}/.{job}.lock", "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def note(app: str, job: str, run: Run, root: str = names.RECORDS) -> None:
    """Note a run, in the place of what was noted of it before.

    :param app: the app's name.
    :param job: the job's name.
    :param run: the run.
    :param root: the directory of the records.
    """
    with _locked(app, job, root):
        known = [one for one in runs(app, job, root) if one["run"] != run["run"]]
        # A success stays, however many runs have failed since.
        success = next((one for one in reversed(known) if one["status"] == SUCCEEDED), None)
        kept = known[1 - KEPT :]
        if success and success not in kept:
            kept.insert(0, success)
        found = sorted([*kept, run], key=lambda one: float(one["started"]))
        files.write(f"{root}/{app}/{job}.json", json.dumps(found) + "\n", 0o600)


def of(app: str, job: str, run: str, root: str = names.RECORDS) -> Run | None:
    """Return what is noted of a run, ``None`` where nothing is.

    :param app: the app's name.
    :param job: the job's name.
    :param run: the run's number.
    :param root: the directory of the records.
    """
    return next((one for one in runs(app, job, root) if one["run"] == run), None)


def merged(before: str | None, run: Run) -> str:
    """Return what all hosts are to know of a job: its last ``run``, and its last ``success``.

    :param before: what they knew, ``None`` where that was nothing.
    :param run: a run that has ended.
    :return: a text for ``mapping``.
    """
    known = mapping(before)
    newest = known.get("run")
    if newest is None or newest["started"] <= run["started"]:
        known["run"] = run
    if run["status"] == SUCCEEDED and known.get("success", 0) < run["ended"]:
        known["success"] = run["ended"]
    return json.dumps(known)
