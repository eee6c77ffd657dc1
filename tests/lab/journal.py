"""The lines of the apps' processes, from the journals of all hosts, as one stream."""

import contextlib
import queue
import re
import subprocess
import threading
from collections.abc import Iterable

from tests.lab.host import Host
from tests.lab.podman import LabError, exec_command

JOURNAL = ("journalctl", "--unit=supervisor", "--output=short-iso", "--no-pager")
# The lines of the past that a stream begins with.
PAST = 100
NAME = r"[a-z][a-z0-9_-]*"


def identifier(app: str | None, process: str | None) -> re.Pattern:
    """Return what the identifier ``APP[PROCESS]`` of a line must match, as it stands after the time and the host.

    :param app: an app's name, or ``None`` for all.
    :param process: a process type such as ``web`` or a process such as ``web.1``, or ``None`` for all.
    :raises LabError: when one of them cannot be such a name.
    """
    if app and not re.fullmatch(NAME, app):
        raise LabError(f"APP: '{app}' is no app's name; expected one such as tickets")
    if process and not re.fullmatch(rf"{NAME}(\.[0-9]+)?", process):
        raise LabError(f"PROCESS: '{process}' is no process; expected one such as web or web.1")
    if not app and not process:
        return re.compile(r"\d\S+ \S+ ")
    name = re.escape(app) if app else NAME
    number = "" if process and "." in process else r"(\.[0-9]+)?"
    return re.compile(rf"\d\S+ \S+ {name}\[{re.escape(process) if process else NAME}{number}\]")


def show(hosts: Iterable[Host], wanted: re.Pattern, follow: bool = True) -> None:
    """Print the hosts' lines that are wanted, those of the past in order of their time.

    :param hosts: the hosts.
    :param wanted: what the beginning of a line must match.
    :param follow: whether to go on with the lines to come, until interrupted.
    """
    past, follow_from = [], []
    for host in hosts:
        # A filter must not leave less than what was asked for: the past is cut after it.
        *lines, cursor = host.run(*JOURNAL, "--lines=5000", "--show-cursor").stdout.splitlines()
        past += [line for line in lines if wanted.match(line)]
        follow_from.append((host, cursor.removeprefix("-- cursor: ")))
    for line in sorted(past, key=lambda line: line.split(" ", 1)[0])[-PAST:]:
        print(line, flush=True)
    if not follow:
        return
    lines_to_come: queue.Queue[str | None] = queue.Queue()
    with contextlib.ExitStack() as stack:
        for host, cursor in follow_from:
            onward = [*JOURNAL, "--follow", "--lines=all", f"--after-cursor={cursor}"]
            command, environment = exec_command(host.name, onward)
            process = stack.enter_context(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            threading.Thread(target=forward, args=(process.stdout, lines_to_come), daemon=True).start()
        running = len(follow_from)
        while running:
            line = lines_to_come.get()
            if line is None:
                running -= 1
            elif wanted.match(line):
                print(line, flush=True)


def forward(stream: Iterable[str], lines: queue.Queue) -> None:
    """Put each line of a stream into a queue, and ``None`` at its end."""
    for line in stream:
        lines.put(line.rstrip("\n"))
    lines.put(None)
