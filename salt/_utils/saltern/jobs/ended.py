"""How a run of a job ended: noted on its host and for all hosts, and told in the app's log."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from typing import Any

from saltern import leases
from saltern.jobs import names, record
from saltern.leases import Unreachable
from saltern.system import files

# Seconds for which the end of a run is told to all hosts, again and again.
PATIENCE = 10.0
APPS = "/srv/apps"

Said = dict[str, Any]


def how(code: int) -> str:
    """Return in words how a process ended.

    :param code: as ``subprocess`` gives it.
    """
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def config(app: str, release: int) -> dict[str, str]:
    """Return the config of a release, as text by variable."""
    directory = f"{APPS}/{app}/releases/{release}/env"
    with contextlib.suppress(OSError):
        return {name: files.read(f"{directory}/{name}", errors="replace") or "" for name in os.listdir(directory)}
    return {}


def run(command: Any) -> str:
    """Run a command, and return what it prints."""
    return subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True, errors="replace").stdout


def kill(scope: str) -> None:
    """Kill all that runs in a scope."""
    quiet = subprocess.DEVNULL
    subprocess.run(["systemctl", "kill", "--signal=SIGKILL", scope], stdout=quiet, stderr=quiet, check=False)


def abandoned(app: str, job: str, number: str) -> None:
    """End what is left of a run whose runner has ended before it, and note that.

    :param app: the app's name.
    :param job: the job's name.
    :param number: the run's.
    """
    known = record.of(app, job, number)
    if not known or known["status"] != record.RUNNING:
        return
    kill(names.scope(app, known["process"], job, number, known["release"]))
    noted(app, job, known | {"ended": time.time(), "status": record.FAILED, "reason": record.KILLED})


def noted(app: str, job: str, known: record.Run) -> None:
    """Note how a run ended, on this host and for all hosts, and tell it in the app's log.

    :param app: the app's name.
    :param job: the job's name.
    :param known: the run.
    """
    # A job that was removed meanwhile leaves nothing.
    if not os.path.exists(names.declared(app, job)):
        return
    record.note(app, job, known)
    tell(app, job, known)
    if known["status"] == record.SKIPPED:
        return
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(Unreachable):
            own = leases.opened(app)
            before = own.read(names.last(job))
            text = before.value if before else None
            if own.advance(names.last(job), text, record.merged(text, known)):
                return
        time.sleep(0.2)


def known_of(app: str, job: str) -> Said:
    """Return what all hosts know of a job: its last ``run`` and ``success``, and who has ``suspended`` it by hand.

    :param app: the app's name.
    :param job: the job's name.
    :raises Unreachable: where that cannot be said.
    """
    own = leases.opened(app)
    last, suspended = own.read(names.last(job)), own.read(names.suspended(job))
    by_hand = record.mapping(suspended.value if suspended else None)
    return record.mapping(last.value if last else None) | {"suspended": by_hand}


def tell(app: str, job: str, known: record.Run) -> None:
    """Write a line of how a run ended to the app's log, as root."""
    took = f" after {known['ended'] - known['started']:.0f} s"
    release = f"v{known['release']} " if "release" in known else ""
    reason = f": {known['reason']}" if known["reason"] else ""
    level = "<6>" if known["status"] in (record.SUCCEEDED, record.SKIPPED, record.REPLACED) else "<4>"
    text = f"{level}{release}{job}.{known['run']} {known['status']}{took if release else ''}{reason}\n"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.connect("/run/systemd/journal/stdout")
        stream.sendall(f"{app}[{job}]\n\n6\n1\n0\n0\n0\n{text}".encode())
