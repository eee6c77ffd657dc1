"""How processes of a release ended: told by supervisor, by their launchers and by signals."""

import contextlib
import re
import signal
import time
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from saltern.host import Host
from saltern.releases import store, supervisor
from saltern.releases.supervisor import Status
from saltern.system import journal

# The launcher's line when it kills a process; see formulas/app/files/launcher/ending.py.
KILLED = re.compile(r"v(\d+) (\S+) had not ended within (\d+) s, killed")

# A process that ended this often within these seconds, and was not up for long since, keeps dying.
DYING_ENDS = 3
DYING_WINDOW = 600
DYING_UP = 120


def dying(host: Host, app: str, number: int, context: MutableMapping[str, Any]) -> list[str]:
    """Find processes that are up now and keep dying.

    :param host: the host.
    :param app: the app's name.
    :param number: the release that serves.
    :param context: keeps what supervisor has told for the other apps of the run; ``__context__``.
    :return: a sentence for each.
    """
    info = supervisor.info(app, number)
    # What has been up for longer keeps nothing, and the journal takes longest to answer.
    if all(one["up"] >= DYING_UP for one in info.values()):
        return []
    if "saltern_ends" not in context:
        # Root's lines alone: an app's user may write as supervisord too.
        own = ["_UID=0", "_SYSTEMD_UNIT=supervisor.service", "SYSLOG_IDENTIFIER=supervisord"]
        entries = journal.lines(host.run, own, since=f"-{DYING_WINDOW}s", grep=" exited: ")
        context["saltern_ends"] = [(journal.written(one), one["MESSAGE"].partition(" exited: ")[2]) for one in entries]
    since = store.created(app, number)
    ends = [end for time_, end in context["saltern_ends"] if time_ >= since]
    found = died(ends, info)
    last = [last_end(host, app, sentence.partition(" ")[0]) for sentence in found]
    return [f"{sentence}{end and ': '}{end}" for sentence, end in zip(found, last, strict=True)]


def last_end(host: Host, app: str, name: str) -> str:
    """Return what the launcher told of the last end of a process: empty where it told nothing.

    Supervisor does not know that memory was short. Once it has restarted a process, it forgets how the process ended.

    :param host: the host.
    :param app: the app's name.
    :param name: supervisor's of the process.
    """
    release, _, process = name.removeprefix(f"{app}.").partition(".")
    own, begins = [f"SYSLOG_IDENTIFIER={app}[{process}]", "_UID=0"], f"{release} {process} has ended: "
    since = max(time.time() - DYING_WINDOW, store.created(app, int(release.removeprefix("v"))))
    lines = journal.texts(journal.lines(host.run, own, since=f"@{int(since)}", grep=f"^{begins}", lines=1))
    return lines[-1].removeprefix(begins) if lines else ""


def died(ends: Sequence[str], info: Mapping[str, Status]) -> list[str]:
    """Find the processes that keep dying; see ``dying``.

    :param ends: what supervisor said of each end, such as ``faq.v1.web.1 (exit status 1; not expected)``.
    :param info: the processes, by supervisor's name.
    """
    found = []
    for name, one in sorted(info.items()):
        its = [end for end in ends if end.startswith(f"{name} ")]
        if len(its) >= DYING_ENDS and one["up"] < DYING_UP:
            how = its[-1].partition("(")[2].partition(";")[0]
            found.append(f"{name} ended {len(its)} times in the last {DYING_WINDOW // 60} minutes, at last with {how}")
    return found


def killed(host: Host, app: str, processes: Iterable[str], since: float) -> str:
    """Return which processes of an app were killed because their grace was too short.

    :param host: the host.
    :param app: the app's name.
    :param processes: such as ``web.1``.
    :param since: seconds since 1970.
    """
    # The lines of their launchers, which run as root.
    command = ["journalctl", "-q", "-o", "cat", "_UID=0", "--since", f"@{int(since)}", "-g", " had not ended within "]
    command += [word for name in sorted(processes) for word in ("-t", f"{app}[{name}]")]
    lines = host.run(command).splitlines()
    return killed_in(lines, app)


def killed_in(lines: Iterable[str], app: str) -> str:
    """Return which processes of an app were killed: empty where none was.

    :param lines: of their launchers.
    :param app: the app's name.
    """
    found = [match for line in lines if (match := KILLED.match(line))]
    return "; ".join(
        f"{process} was killed after {grace} s (app.{app}.grace.{process.partition('.')[0]})"
        for process, grace in sorted({(match[2], match[3]) for match in found})
    )


def ending(returncode: int) -> str:
    """Return in words how a process ended.

    :param returncode: as ``subprocess`` gives it.
    """
    return f"was killed by {signal.Signals(-returncode).name}" if returncode < 0 else f"exit status {returncode}"


def ended_by(error: BaseException) -> str:
    """Return which signal ended a run.

    :param error: what its handler raised; see ``bootstrap.sh``.
    """
    if isinstance(error, KeyboardInterrupt):
        return "SIGINT"
    if isinstance(error, Exception):
        return type(error).__name__
    with contextlib.suppress(AttributeError, TypeError, ValueError):
        # The handler raises no SystemExit, because Salt would take that for the end of a module.
        return signal.Signals(error.code - 128).name  # type: ignore[attr-defined]
    return "a signal"
