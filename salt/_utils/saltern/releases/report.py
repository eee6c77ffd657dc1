"""What people are told of releases."""

import re
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.apps import limits
from saltern.attachments import config
from saltern.host import Host
from saltern.releases import history, plan, store
from saltern.releases.move import Move
from saltern.system import journal, terminal
from saltern.system.masking import masked
from saltern.web import away

LOG_LINES = 15


def reason_of(outcome: str) -> str:
    """Return why a release was refused, without the announcement of log lines, which a table has no place for.

    :param outcome: see ``store.outcome``.
    """
    return re.sub(r"\. \S+ logged last:\Z", "", outcome.partition(": ")[2])


def listed(host: Host, app: str) -> list[dict[str, str]]:
    """List an app's releases on this host, newest first.

    :param host: the host.
    :param app: the app's name.
    :return: a mapping for each.
    """
    settings = plan.declared(host, app)
    current = store.current(app)
    held = plan.in_force(host, app, current, settings)
    rows = []
    for number in reversed(store.numbers(app)):
        record = store.record(app, number)
        outcome = store.outcome(app, number)
        state = outcome.partition(":")[0] or "interrupted"
        if number == current:
            state = "serving, held" if held else "serving"
        elif state == "serving":
            state = "earlier"
        rows.append(
            {
                "release": f"v{number}",
                "state": state,
                "version": record.get("version", ""),
                "build": record.get("build", "")[:12],
                "created": record.get("created", ""),
                "reason": reason_of(outcome),
            }
        )
    return list(terminal.shown(rows))


def show(host: Host, app: str, number: int | str | None = None) -> dict[str, Any]:
    """Show a release: its build, its process types and the names of its variables.

    :param host: the host.
    :param app: the app's name.
    :param number: the release, the current one where it is not given.
    :return: a mapping.
    :raises CommandExecutionError: when there is no such release.
    """
    plan.declared(host, app)
    number = store.current(app) if number is None else number
    text = str(number).removeprefix("v")
    record = store.record(app, int(text)) if text.isdigit() else {}
    if not record:
        known = ", ".join(f"v{n}" for n in store.numbers(app)) or "none"
        raise CommandExecutionError(f"{app}: {number}: no such release; expected one of {known}")
    found = record | {"outcome": store.outcome(app, int(text)) or "interrupted"}
    # Of what runs: the limits are the app's, whichever release serves.
    is_current = int(text) == store.current(app)
    return dict(terminal.shown(found | ({"limits": limits.shown(app)} if is_current else {})))


def log(host: Host, app: str) -> list[dict[str, str]]:
    """Show what happened to an app's releases: who, when, what changed. Never a value of a variable.

    :param host: the host.
    :param app: the app's name.
    :return: a mapping for each event, oldest first.
    """
    plan.declared(host, app)
    rows = []
    for line in history.log(app):
        what = [f"build {line['build']['new']}"] if "build" in line else []
        what += [f"{kind} {', '.join(names)}" for kind, names in (line.get("variables") or {}).items()]
        what += [line["reason"]] if "reason" in line else []
        left = f" (from v{line['left']})" if line.get("left") else ""
        event = f"{line['event']}{left}"
        row = {"time": line["time"], "who": line["who"], "release": f"v{line['release']}", "event": event}
        rows.append(row | {"what": "; ".join(what)})
    return list(terminal.shown(rows))


def message(move: Move, step: str, error: BaseException, started: float) -> str:
    """Say which step failed, why, what serves, and what the process logged last.

    :param move: the move.
    :param step: its name.
    :param error: why; with the name of the process whose log says more, where there is one.
    :param started: when the move began, in seconds since 1970.
    """
    app, number, current = move.app, move.number, store.current(move.app)
    if number == current:
        text = f"v{number} is not as declared, at the step {step}: {error}"
    else:
        serves = f"v{current} goes on serving" if current else "no release serves"
        if current and (kinds := away.marks(app)):
            serves = f"v{current} serves again, with {' and '.join(kinds)} started once more"
        text = f"v{number} was refused at the step {step}: {error}; {serves}"
    process = getattr(error, "process", None)
    lines = _last_lines(move.host, app, number, process, started) if process else []
    if lines:
        text += f". {app}[{process}] logged last:\n" + "\n".join(f"  {line}" for line in lines)
    return terminal.escaped(masked(text, config.environ(move.host, app)))


def _last_lines(host: Host, app: str, number: int, process: str, started: float) -> list[str]:
    """Return the last lines that a process of a release logged, from its start to its end."""
    # What a process wrote just before its end may not have been read yet.
    host.run(["journalctl", "--sync"])
    stream = journal.stream(host.run, app, number, process, started, store.created(app, number))
    options: dict[str, Any] = {"since": f"@{int(started)}", "lines": LOG_LINES}
    if stream:
        found = journal.lines(host.run, [f"_STREAM_ID={stream}"], raw=True, **options)
    else:
        # What never started has said nothing. Its launcher may have, which is root's.
        own = [f"SYSLOG_IDENTIFIER={app}[{process}]", "_UID=0"]
        found = journal.lines(host.run, own, raw=True, grep=f"^v{number} ", **options)
    return journal.texts(found)[-LOG_LINES:]
