"""Supervisor, which runs the processes of the apps: questions and orders."""

import contextlib
import http.client
import os
import pwd
import socket
import subprocess
import time
import xmlrpc.client
from collections.abc import Collection, Iterable
from typing import Any, NotRequired, TypedDict

from salt.exceptions import CommandExecutionError

from saltern.releases import process, scopes
from saltern.releases.process import BACKSTOP, DEFAULT_GRACE, LAUNCHER, Graces, Ports
from saltern.system import files

SOCKET = "/run/supervisor.sock"

# Where a launcher writes why its process waits; see formulas/app/files/launcher/alone.py.
STANDBY = "/run/saltern/standby"

# Seconds in which systemd has started another supervisord where one has died, also on a busy machine.
AGAIN = 30

# Reads supervisor's configuration as supervisor does, and prints what is wrong with it.
READ = "from supervisor.options import *; ServerOptions().realize(['-c', '/etc/supervisor/supervisord.conf'])"

# Supervisor's states of a process that does not stay up.
UNWELL = ("BACKOFF", "EXITED", "FATAL")


class Status(TypedDict):
    """The state of a process.

    :ivar state: supervisor's word for it. :ivar pid: 0 where there is none. :ivar up: the seconds that it has been up.
    :ivar exit: how it ended. :ivar standby: why it waits, where another host of the environment runs it.
    """

    state: str
    pid: int
    up: int
    exit: str
    standby: NotRequired[str]


class _Transport(xmlrpc.client.Transport):
    """XML-RPC over supervisor's socket."""

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(host)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(SOCKET)
        return connection


def _call(method: str, *arguments: Any) -> Any:
    server = xmlrpc.client.ServerProxy("http://supervisor", transport=_Transport(), allow_none=True)
    try:
        return getattr(server.supervisor, method)(*arguments)
    except (OSError, http.client.HTTPException) as error:
        raise CommandExecutionError(f"supervisor does not answer on {SOCKET}: {error}") from error
    except xmlrpc.client.Fault as fault:
        raise CommandExecutionError(f"supervisor: {method}: {fault.faultString}") from fault


def _await() -> None:
    """Wait for the supervisord that systemd starts after one has died."""
    deadline = time.monotonic() + AGAIN
    while not is_up() and time.monotonic() < deadline:
        time.sleep(0.1)


def _have(reason: str, method: str, *arguments: Any) -> None:
    """Call supervisor for what may be done already: a supervisord that has just started follows its files.

    :param reason: supervisor's answer in that case.
    """
    try:
        _call(method, *arguments)
    except CommandExecutionError as error:
        if reason not in str(error):
            raise


def is_up() -> bool:
    """Tell whether supervisor runs.

    :return: a boolean.
    """
    # A supervisord that was killed leaves its socket, where nothing answers.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.connect(SOCKET)
        return True
    return False


def info(app: str, release: int | None = None) -> dict[str, Status]:
    """Return how an app's processes are.

    :param app: the app's name.
    :param release: the number of one release.
    :return: by supervisor's name of the process, its ``state``, its ``pid`` (0 where there is none), the seconds that
        it has been ``up`` and how it ended, ``exit``; for a process that another host runs, why it waits, ``standby``.
        Empty where supervisor does not run.
    """
    if not is_up():
        return {}
    prefix = f"{app}." if release is None else f"{app}.v{release}."
    found: dict[str, Status] = {}
    for one in _call("getAllProcessInfo"):
        if one["name"].startswith(prefix):
            found[one["name"]] = {
                "state": one["statename"],
                "pid": one["pid"],
                "up": one["now"] - one["start"] if one["pid"] else 0,
                "exit": one["spawnerr"] or _ending(one["exitstatus"]),
            }
            # A launcher that was killed may have left its file.
            if one["statename"] == "RUNNING" and (why := files.read(f"{STANDBY}/{one['name']}")):
                found[one["name"]]["standby"] = why
    return found


def _ending(status: int) -> str:
    # Supervisor tells no more. The launcher does, in the log of the process.
    return "was killed by a signal" if status < 0 else f"exit status {status}"


def is_well(app: str) -> bool:
    """Tell whether no process of an app has trouble to start or to stay up.

    :param app: the app's name.
    :return: a boolean; true where supervisor does not run.
    """
    try:
        return all(one["state"] not in ("STARTING", *UNWELL) for one in info(app).values())
    except CommandExecutionError:
        return True


def running(app: str, release: int) -> Ports:
    """Return which processes of a release supervisor runs, whatever has become of the file that it read.

    :param app: the app's name.
    :param release: the release's number.
    :return: port, or ``None``, by process: of those that have outlived a supervisor, where this one does not know them.
    """
    known = {one["name"]: one for one in _call("getAllConfigInfo")} if is_up() else {}
    return process.parse(known, app, release) or scopes.outliving(app, release)


def used(app: str, release: int) -> Ports:
    """Return the processes of a release: as they are configured, or as they run.

    :param app: the app's name.
    :param release: the release's number.
    :return: port, or ``None``, by process.
    """
    return process.configured(app, release) or running(app, release)


def displaced(app: str, release: int, build: str, uid: int) -> dict[str, str]:
    """Find processes of a release that run on where none could be started: in a directory that was removed, or as
    another user than the app's, who was made anew.

    :param app: the app's name.
    :param release: the release's number.
    :param build: the path of its build.
    :param uid: of the app's user.
    :return: supervisor's names of the processes, each with what is wrong.
    """
    found: dict[str, str] = {}
    prefix = f"{app}.v{release}."
    for name in sorted(info(app, release)):
        for pid in scopes.pids(app, release, name.removeprefix(prefix)):
            with contextlib.suppress(OSError):
                place = os.readlink(f"/proc/{pid}/cwd")
                if place.startswith(build) and place.endswith(" (deleted)"):
                    found[name] = "runs in a directory that was removed"
                elif os.stat(f"/proc/{pid}").st_uid not in (0, uid):
                    found[name] = "runs as a user who was removed"
    return found


def strays(app: str) -> list[str]:
    """List what is left of an app's processes that supervisor does not run.

    :param app: the app's name.
    :return: names as supervisor has them, sorted.
    """
    names = scopes.known(app)
    return sorted(names - info(app).keys()) if names else []


def apply(app: str, release: int, ports: Ports, graces: Graces) -> None:
    """Run exactly these processes of a release. Processes of other releases stay as they are.

    A process that runs as it should is not touched.

    :param app: the app's name.
    :param release: the release's number.
    :param ports: port, or ``None``, by process.
    :param graces: seconds by process type.
    :raises CommandExecutionError: when supervisor refuses.
    """
    process.write(app, release, ports, graces)
    _start(app, release)


def _start(app: str, release: int) -> None:
    """Have supervisor read a release's file, and start each of its processes that does not run."""
    _update(app)
    for name, one in info(app, release).items():
        if one["state"] == "BACKOFF":
            _call("stopProcess", name)
        if one["state"] in ("STOPPED", "EXITED", "FATAL", "BACKOFF"):
            _call("startProcess", name, False)


def keep(app: str, release: int, graces: Graces) -> None:
    """Write the running processes of a release to supervisor's file: supervisor stops what is not in it.

    :param app: the app's name.
    :param release: the release's number.
    :param graces: seconds by process type, for those that supervisor does not know.
    :raises CommandExecutionError: when supervisor does not answer.
    """
    ports = running(app, release)
    if ports and ports != process.configured(app, release):
        # Supervisor restarts processes whose grace changes, and the release's record of it may be gone.
        waits = {one["name"]: one["stopwaitsecs"] for one in _call("getAllConfigInfo")}
        names = {one.partition(".")[0]: process.program(app, release, one) for one in ports}
        known = {kind: waits[name] - BACKSTOP for kind, name in names.items() if name in waits}
        process.write(app, release, ports, {**graces, **known})


def tell(app: str, release: int, processes: Iterable[str]) -> None:
    """Stop processes for good, each with its grace, without waiting for their end.

    :param app: the app's name.
    :param release: the release's number.
    :param processes: such as ``worker.1``.
    """
    names = {process.program(app, release, name): name for name in processes}
    # The file first: where this supervisord dies, the next one starts what the file says.
    with open(process.path(app, release), encoding="utf-8") as stream:
        text = stream.read()
    files.write(process.path(app, release), process.without_start(text, names))
    _await()
    states, left = {name: one["state"] for name, one in info(app, release).items()}, []
    for name, own in names.items():
        if states.get(name) in ("STARTING", "RUNNING", "BACKOFF"):
            # A process that has ended by itself meanwhile is no error.
            with contextlib.suppress(CommandExecutionError):
                _call("stopProcess", name, False)
        elif states.get(name) != "STOPPING" and scopes.pids(app, release, own):
            # The process has outlived its supervisord.
            left.append(name)
    if left:
        background = ["systemd-run", "--quiet", "--collect", "--no-block", LAUNCHER, "--end", *left]
        subprocess.run(background, check=False)


def resume(app: str, release: int) -> None:
    """Start again what ``tell`` has stopped for good.

    :param app: the app's name.
    :param release: the release's number.
    """
    text = files.read(process.path(app, release)) or ""
    if process.with_start(text) == text:
        return
    files.write(process.path(app, release), process.with_start(text))
    _start(app, release)


def remove(app: str, releases: Iterable[int]) -> None:
    """Stop the processes of releases, each with its grace, and forget them.

    :param app: the app's name, also one that is no longer declared.
    :param releases: numbers.
    """
    for release in releases:
        if os.path.exists(process.path(app, release)):
            os.unlink(process.path(app, release))
    for begun in process.leftovers(app):
        os.unlink(begun)
    _update(app)


def _end_unscoped(app: str) -> None:
    """End what is left of processes that an earlier launcher started, which made no scopes.

    Of lines such as ``cd src && python work.py`` supervisor ends no more than the shell.
    """
    import psutil

    left = []
    try:
        uid = pwd.getpwnam(app).pw_uid
    except KeyError:
        return
    for pid in scopes.of_supervisor():
        with contextlib.suppress(psutil.NoSuchProcess):
            one = psutil.Process(pid)
            left += [one] if one.uids().real == uid else []
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(one)
        _, left = psutil.wait_procs(left, timeout=DEFAULT_GRACE)


def unreadable() -> str | None:
    """Find a file of Saltern's that keeps supervisor from starting.

    :return: its path, or ``None``, also where supervisor runs: it goes on with what it has read.
    """
    try:
        _call("getState")
    except CommandExecutionError:
        done = subprocess.run(["/usr/bin/python3", "-c", READ], capture_output=True, text=True, check=False)
        return _named(done.stderr) if done.returncode else None
    return None


def tidy() -> None:
    """Remove Saltern's files that supervisor cannot read. Their releases write them again."""
    while path := unreadable():
        os.unlink(path)


def _named(reason: str) -> str | None:
    """Return which of Saltern's files supervisor names or could not decode: ``None`` where it is none."""
    ours = [process.path(*one) for one in process.releases()]
    named = [one for one in ours if f"'{one}'" in reason]
    return next(iter(named or [one for one in ours if not _is_text(one)]), None)


def _is_text(file: str) -> bool:
    try:
        with open(file, encoding="utf-8") as stream:
            stream.read()
    except UnicodeDecodeError:
        return False
    return True


def _reloaded() -> Any:
    """Reload supervisor's files, without those of Saltern's that it cannot read. Return what has changed."""
    while True:
        try:
            return _call("reloadConfig")
        except CommandExecutionError as error:
            file = _named(str(error))
            if not file:
                raise
            os.unlink(file)


def _is_stopping(app: str, names: Collection[str]) -> bool:
    """Tell whether supervisor waits for the end of one of some processes. A supervisord that has died waits for
    none."""
    try:
        return any(one["state"] == "STOPPING" for name, one in info(app).items() if name in names)
    except CommandExecutionError:
        if is_up():
            raise
        return False


def _update(app: str) -> None:
    """Do what ``supervisorctl update`` does, for one app."""
    _await()
    ((added, changed, removed),) = _reloaded()
    added, changed, removed = ([g for g in groups if g.startswith(f"{app}.")] for groups in (added, changed, removed))
    leaving = [*removed, *changed]
    for group in leaving:
        # Without waiting, so that all graces run at the same time.
        _call("stopProcessGroup", group, False)
    while _is_stopping(app, leaving):
        # Supervisor itself kills what outlives the grace.
        time.sleep(0.1)
    # Supervisor may have died meanwhile: what it ran is ended below.
    _await()
    for group in leaving:
        _have("BAD_NAME", "removeProcessGroup", group)
    if leaving:
        _end_unscoped(app)
    # Processes that supervisor does not know any more, and what a launcher left behind. Where a process is to start,
    # its launcher takes over what runs as it should, and ends the rest.
    if left := sorted(set(strays(app)) - {*added, *changed}):
        subprocess.run([LAUNCHER, "--end", *left], check=False)
    for group in [*added, *changed]:
        _have("ALREADY_ADDED", "addProcessGroup", group)
