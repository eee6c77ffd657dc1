"""Whether the processes of a release are up, and answer."""

import contextlib
import http.client
import socket
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from saltern.releases import ends, scopes, supervisor
from saltern.releases.move import Move
from saltern.releases.process import Ports
from saltern.releases.refusal import Refusal
from saltern.releases.supervisor import Status
from saltern.system import listener
from saltern.web import routes
from saltern.web.answer import answer

POLL = 0.02

# How many times a serving process is asked before it counts as unhealthy, and the seconds between.
ASKED = 3
PAUSE = 1

# Characters of a path that an app has answered with.
LONGEST_PATH = 100

# Supervisor's states of a process, in words that need no knowledge of supervisor.
STATES = {
    "BACKOFF": "ends right after its start, and is started again and again",
    "EXITED": "has ended",
    "FATAL": "ended at each start, and is no longer started",
    "STARTING": "is starting",
    "STOPPED": "is stopped",
    "STOPPING": "is stopping",
}

# Supervisor's fault for a process that it does not know.
ABSENT: Status = {"state": "not known to supervisor", "pid": 0, "up": 0, "exit": "not known to supervisor"}


class Redirect(str):
    """Why a process stays unhealthy however long one waits: its answer is a redirect."""


def in_words(state: str | None) -> str:
    """Say how a process is.

    :param state: what supervisor says, ``None`` where it does not know the process.
    """
    if state is None:
        return "is not known to supervisor"
    return STATES.get(state, "runs" if state == "RUNNING" else state)


def wait(move: Move, ports: Ports, *web_states: str) -> None:
    """Wait until each of some processes is up, and each that listens healthy.

    A new process that ends by itself fails the step at once. A process of the serving release may still wait for a
    service that it attaches, so it has its grace.

    :param move: to the release.
    :param ports: port, or ``None``, by process: of those that are waited for.
    :param web_states: what supervisor may say of a process that listens.
    """
    app, health = move.app, move.settings["health"]
    is_new = move.number != move.left
    deadline = time.monotonic() + health["grace"]
    pids, healthy = move.pids, set()
    while True:
        info, reasons = supervisor.info(app, move.number), {}
        for process, port in ports.items():
            one = info.get(f"{app}.v{move.number}.{process}", ABSENT)
            restarted = pids.get(process, 0) not in (0, one["pid"])
            pids[process] = one["pid"]
            if restarted or one["state"] in ("BACKOFF", "EXITED", "FATAL"):
                if is_new:
                    how = ends.last_end(move.host, app, f"{app}.v{move.number}.{process}") or one["exit"]
                    raise Refusal(f"{process} ended by itself, {how}{_taken(port)}", process)
                healthy.discard(process)
            if one["state"] not in (web_states if port else ("RUNNING",)):
                reasons[process] = in_words(one["state"])
            elif not port and one["up"] < (health["settle"] if is_new else 1):
                reasons[process] = "not yet up for long"
            elif port and process not in healthy:
                reason = ask(move.settings, app, move.number, process, port)
                if isinstance(reason, Redirect):
                    raise Refusal(reason, process)
                if reason:
                    reasons[process] = reason
                else:
                    healthy.add(process)
        if not reasons:
            return
        if time.monotonic() > deadline:
            process, reason = next(iter(reasons.items()))
            where = elsewhere(app, move.number, process, ports[process])
            raise Refusal(f"{process} is not healthy within {health['grace']} s: {reason}{where}", process)
        time.sleep(POLL)


def elsewhere(app: str, number: int, process: str, port: int | None) -> str:
    """Return where a process listens instead of at its port, for the end of a sentence: empty where it listens there.

    :param app: the app's name.
    :param number: the release's number.
    :param process: such as ``web.1``.
    :param port: its port, or ``None``.
    """
    if not port:
        return ""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return ""
    found = listener.ports(scopes.pids(app, number, process))
    ports = " and ".join(f"{one} of another address" if one == port else str(one) for one in found)
    listens = f"it listens on port {ports}" if found else "it listens on no port"
    return f"; {listens}, and is expected at 127.0.0.1:{port} (the variable PORT)"


def _taken(port: int | None) -> str:
    """Return who has the port of a process that has ended, for the end of a sentence: empty where nobody has it."""
    stranger = listener.stranger(port, ()) if port else None
    return f"; port {port} is taken by {stranger}" if stranger else ""


def ask(settings: Mapping[str, Any], app: str, number: int, process: str, port: int) -> str | None:
    """Ask a process for its health. Return what is wrong, or ``None``. An answer of another program does not count.

    :param settings: the app's settings.
    :param app: the app's name.
    :param number: the release's number.
    :param process: such as ``web.1``.
    :param port: its port.
    """
    kind = process.partition(".")[0]
    health = routes.health(settings, kind)
    headers = {"Host": (settings["domains"] or ["localhost"])[0], "X-Forwarded-Proto": "https", "User-Agent": "saltern"}
    deadline = time.monotonic() + health["timeout"]
    try:
        # Each converge asks, and to import requests would take longer than all the answers.
        with socket.create_connection(("127.0.0.1", port), timeout=health["timeout"]) as stream:
            stranger = listener.stranger(port, scopes.pids(app, number, process))
            if stranger:
                return f"port {port} is taken by {stranger}"
            status, location = answer(stream, health["path"], headers, deadline)
    except TimeoutError:
        return f"{health['path']} did not answer within {health['timeout']} s"
    except OSError as error:
        return f"{health['path']} cannot be asked ({type(error).__name__})"
    except http.client.HTTPException as error:
        return f"{health['path']} answered what is no HTTP ({type(error).__name__})"
    return answered(routes.health_setting(app, settings, kind), health, status, location)


def answered(setting: str, health: Mapping[str, Any], status: int, location: str | None) -> str | None:
    """Return what is wrong with an answer to the question for its health, or ``None``.

    :param setting: the path of the setting that says what is asked for.
    :param health: its settings of that question.
    :param status: the answer's.
    :param location: its header ``Location``, or ``None``.
    """
    if status == health["status"]:
        return None
    if not (300 <= status < 400 and location):
        return f"{health['path']} answered {status}, not {health['status']}"
    # Only the path of the URL: the rest may hold anything.
    where = ""
    with contextlib.suppress(ValueError):
        address = urlsplit(location)
        where, location = ", at another address" if address.netloc else "", address.path or "/"
    shown = "".join(char if " " < char <= "~" else "?" for char in location[:LONGEST_PATH])
    where = f"itself{where}" if shown == health["path"] else shown
    return Redirect(
        f"{health['path']} answered {status}, which leads to {where}; expected {health['status']} from itself. "
        f"Set {setting} to one that answers so, or have the app redirect all but this path"
    )


def ask_patiently(settings: Mapping[str, Any], app: str, number: int, process: str, port: int) -> str | None:
    """Ask a process that has served for a while. One slow answer is no reason for a restart.

    :param settings: the app's settings.
    :param app: the app's name.
    :param number: the release's number.
    :param process: such as ``web.1``.
    :param port: its port.
    """
    for _ in range(ASKED - 1):
        if not ask(settings, app, number, process, port):
            return None
        time.sleep(PAUSE)
    return ask(settings, app, number, process, port)
