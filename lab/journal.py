"""The lines of the apps' processes, from the journals of all hosts, as one stream."""

import contextlib
import dataclasses
import datetime
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator

from lab.host import Host
from lab.podman import LabError, exec_command
from saltern.jobs import names
from saltern.releases import process as processes
from saltern.system import journal as trusted
from saltern.system import terminal

# The number of past lines that are shown first.
PAST = 100
NAME = r"[a-z][a-z0-9_-]*"
SUPERVISOR = "supervisord"
JOURNAL = trusted.COMMAND
# Names that are no process of the formation: the release phase, and root's messages about an app.
WITHOUT_FORMATION = ("release", *trusted.ROOTS)
# The line of supervisor's configuration that names a process.
PROGRAM = re.compile(r"\[program:(?P<app>[^.]+)\.v[0-9]+\.(?P<process>[^]]+)\]")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which lines are wanted.

    :param app: an app's name, or ``None`` for all.
    :param process: a process type such as ``web`` or a process such as ``web.1``, or ``None`` for all.
    :raises LabError: when one of them cannot be such a name.
    """

    app: str | None = None
    process: str | None = None

    def __post_init__(self):
        if self.app and not re.fullmatch(NAME, self.app):
            raise LabError(f"APP: '{self.app}' is no app's name; expected one such as tickets")
        if self.process and not re.fullmatch(rf"{NAME}(\.[0-9]+)?", self.process):
            raise LabError(f"PROCESS: '{self.process}' is no process; expected one such as web or web.1")

    @property
    def all(self) -> bool:
        """Whether every line is wanted, supervisor's own too."""
        return not self.app and not self.process

    def has(self, app: str, process: str | None) -> bool:
        """Tell whether the lines of a process are wanted.

        :param app: its app's name.
        :param process: its name, or ``None`` where nobody knows which one of the app wrote a line.
        """
        if self.app and app != self.app:
            return False
        return not self.process or (process is not None and self.process in (process, process.partition(".")[0]))


class Reader:
    """A reader of one host's journal.

    :param host: the host.
    :param wanted: which lines.
    """

    def __init__(self, host: Host, wanted: Wanted):
        self.host, self.wanted = host, wanted
        self.seen: set[str] = set()
        self.users: dict[str, str] = {}
        self.shown: set[str] = set()
        # The streams that launchers began as root, and the apps that have such launchers; see saltern.system.journal.
        self.streams: dict[str, tuple[str, str]] = {}
        self.vouched: set[str] = set()
        self.look()

    def look(self) -> None:
        """Ask the host again for its users."""
        self.users = trusted.users(self.host.run("getent", "passwd").stdout)
        self.seen |= self.users.keys()

    def processes(self) -> set[str]:
        """Return the names of the processes that supervisor is to run for the apps that are wanted, and of jobs."""
        said = self.host.run("grep", "-hr", "^\\[program:", processes.CONFIG, check=False).stdout
        programs = [match for line in said.splitlines() if (match := PROGRAM.fullmatch(line))]
        jobs = [name.split(".") for name in self.host.run("ls", names.DECLARED, check=False).stdout.split()]
        found = {(match["app"], match["process"]) for match in programs}
        found |= {(job[0], job[1]) for job in jobs if len(job) == 3}
        return {process for app, process in found if self.wanted.app in (None, app)}

    def past(self) -> list[tuple[int, str]]:
        """Return the last lines that are there, each with its time."""
        entries = self.entries("--lines=1")
        self.cursor = entries[-1].get("__CURSOR", "") if entries else ""
        matches = self.matches()
        entries = self.entries(f"--lines={PAST}", *matches) if matches else []
        self.shown = {entry.get("__CURSOR", "") for entry in entries}
        return [line for entry in entries for line in self.lines(entry)]

    def entries(self, *arguments: str) -> list[dict[str, str]]:
        """Return entries of the host's journal."""
        said = self.host.run(*JOURNAL, *arguments, check=False).stdout
        return [entry for line in said.splitlines() if (entry := trusted.parsed(line))]

    def matches(self) -> list[str]:
        """Return journalctl's matches for the wanted lines, so that its limit counts only wanted lines."""
        identifiers, units = self.values("SYSLOG_IDENTIFIER"), self.values("_SYSTEMD_UNIT")
        known = [match for name in identifiers if (match := trusted.IDENTIFIER.fullmatch(name))]
        # Each run of a job has a scope and a stream of its own, too many to name them all: the name of the job does.
        jobs = [match for match in known if is_of_a_job(match["process"])]
        claimed = [match for match in known if match not in jobs]
        scopes = {unit: its for unit in units if (its := trusted.scope_of(unit))}
        self.vouched |= {app for app, _ in scopes.values()}
        marks = ["_UID=0", "_TRANSPORT=stdout", *(f"SYSLOG_IDENTIFIER={match[0]}" for match in claimed)]
        for entry in self.entries(f"--grep={trusted.STARTS.pattern}", *marks) if claimed else []:
            self.note(entry)
        groups = []
        for uid, app in self.users.items():
            own = [match for match in claimed if match["app"] == app and self.wanted.has(app, match["process"])]
            own = [f"SYSLOG_IDENTIFIER={match[0]}" for match in own]
            if self.wanted.has(app, None):
                groups.append([f"_UID={uid}"])
            elif own and app not in self.vouched:
                groups.append([f"_UID={uid}", *own])
            if own:
                groups.append(["_UID=0", *own])
            runs = [match for match in jobs if match["app"] == app and self.wanted.has(app, match["process"])]
            runs = [f"SYSLOG_IDENTIFIER={match[0]}" for match in runs]
            groups += [[f"_UID={writer}", *runs] for writer in (uid, "0") if runs]
        scopes = {unit: its for unit, its in scopes.items() if not is_of_a_job(its[1])}
        groups += [[f"_SYSTEMD_UNIT={unit}"] for unit, its in scopes.items() if self.wanted.has(*its)]
        groups += [[f"_STREAM_ID={stream}"] for stream, its in self.streams.items() if self.wanted.has(*its)]
        if self.wanted.all:
            groups.append(["_UID=0", "_SYSTEMD_UNIT=supervisor.service", f"SYSLOG_IDENTIFIER={SUPERVISOR}"])
        return [word for group in groups for word in ("+", *group)][1:]

    def values(self, field: str) -> list[str]:
        """Return all values that a field has in the host's journal."""
        return self.host.run("journalctl", f"--field={field}", check=False).stdout.splitlines()

    def note(self, entry: dict[str, str]) -> None:
        """Remember the stream that an entry began, if a launcher wrote the entry."""
        if its := trusted.stream_of(entry, self.users):
            self.streams[entry["_STREAM_ID"]] = its
            self.vouched.add(its[0])

    def lines(self, entry: dict[str, str]) -> Iterator[tuple[int, str]]:
        """Yield the lines to print for an entry, each with its writer; none if the entry is not wanted."""
        uid = entry.get("_UID", "")
        if uid not in self.seen:
            # A new app may have been added meanwhile.
            self.look()
            self.seen.add(uid)
        self.note(entry)
        name = self.sender(entry)
        if not name:
            return
        at = int(entry["__REALTIME_TIMESTAMP"])
        time = datetime.datetime.fromtimestamp(at / 1_000_000).astimezone().strftime("%Y-%m-%dT%H:%M:%S%z")
        for text in terminal.escaped(entry.get("MESSAGE", "")).split("\n"):
            yield at, f"{time} {self.host.id} {name}: {text}"

    def sender(self, entry: dict[str, str]) -> str | None:
        """Return who wrote an entry, by what journald adds to it; ``None`` if the entry is not wanted."""
        found = trusted.app_of(entry, self.users, self.streams, self.vouched)
        if not found:
            own = (entry.get("_UID"), entry.get("_SYSTEMD_UNIT"), entry.get("SYSLOG_IDENTIFIER"))
            is_supervisor = own == ("0", "supervisor.service", SUPERVISOR)
            return SUPERVISOR if self.wanted.all and is_supervisor else None
        if not self.wanted.has(found["app"], found["process"]):
            return None
        known = f"{found['app']}[{found['process']}]" if found["process"] else found["app"]
        claimed = terminal.escaped(found["name"]).replace("\n", "\\n")
        return known if claimed == known else f"{known} (as {claimed})"


def show(hosts: Iterable[Host], wanted: Wanted, follow: bool = True) -> None:
    """Print the wanted lines of the hosts; past lines come in the order of their times.

    :param hosts: the hosts.
    :param wanted: which lines.
    :param follow: whether to go on with new lines until interrupted.
    :raises LabError: when the hosts have no such app, or the app has no such process and no line of one.
    """
    readers = [Reader(host, wanted) for host in hosts]
    apps = sorted({app for reader in readers for app in reader.users.values()})
    if wanted.app and wanted.app not in apps:
        raise LabError(
            f"APP: '{wanted.app}' is no app of these hosts; expected {', '.join(apps) or 'none: they have none'}"
        )
    past = [line for reader in readers for line in reader.past()]
    # A process that is gone may have left lines.
    if wanted.process and not past:
        refuse_unknown(wanted, {name for reader in readers for name in reader.processes()})
    for _, line in sorted(past, key=lambda line: line[0])[-PAST:]:
        print(line, flush=True)
    if not past:
        what = " ".join(filter(None, (wanted.app, wanted.process))) or "any process"
        print(f"lab: no line of {what} so far; make logs FOLLOW=0 shows those of all", file=sys.stderr, flush=True)
    if not follow:
        return
    lines_to_come: queue.Queue[tuple[Reader, str | None]] = queue.Queue()
    with contextlib.ExitStack() as stack:
        for reader in readers:
            since = [f"--after-cursor={reader.cursor}"] if reader.cursor else []
            onward = [*JOURNAL, "--follow", "--lines=all", *since]
            command, environment = exec_command(reader.host.name, onward)
            process = stack.enter_context(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            threading.Thread(target=forward, args=(reader, process.stdout, lines_to_come), daemon=True).start()
        running = len(readers)
        while running:
            reader, said = lines_to_come.get()
            if said is None:
                running -= 1
                continue
            entry = trusted.parsed(said)
            if entry and entry.get("__CURSOR") not in reader.shown:
                for _, line in reader.lines(entry):
                    print(line, flush=True)


def is_of_a_job(process: str) -> bool:
    """Tell whether a process's name is that of a job: the others have a number, or are root's.

    :param process: such as ``web.1``.
    """
    return "." not in process and process not in WITHOUT_FORMATION


def refuse_unknown(wanted: Wanted, known: set[str]) -> None:
    """Refuse a process that no app has.

    :param wanted: the lines that are wanted, of one process or one process type.
    :param known: the names of the processes that there are, such as ``web.1``.
    :raises LabError: when it is none of them.
    """
    types = {name.partition(".")[0] for name in known}
    if wanted.process in {*known, *types, *WITHOUT_FORMATION}:
        return
    whose = wanted.app or "these apps"
    expected = f"one of {', '.join(sorted({*known, *types}))}" if known else f"none: {whose} runs none"
    raise LabError(f"PROCESS: '{wanted.process}' is no process of {whose}; expected {expected}")


def forward(reader: Reader, stream: Iterable[str], lines: queue.Queue) -> None:
    """Put each line of a stream into a queue, and ``None`` at its end."""
    for line in stream:
        lines.put((reader, line))
    lines.put((reader, None))
