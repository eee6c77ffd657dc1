"""The processes of the apps, as supervisor runs them.

Each process is a program of its own, ``<app>.v<release>.<type>.<number>``, in one file for each release. An app's name
has no dot, so that the prefix ``<app>.`` is that app's alone. It runs in a control group of its own, a scope below the
app's slice; see the launcher, ``formulas/app/files/launcher``.
"""

import configparser
import contextlib
import glob
import http.client
import os
import pwd
import re
import socket
import subprocess
import time
import xmlrpc.client

from salt.exceptions import CommandExecutionError

from saltern import apps as apps_

__load__ = [
    "apply",
    "configured",
    "displaced",
    "longest_grace",
    "info",
    "is_up",
    "is_well",
    "keep",
    "leftovers",
    "path",
    "pids",
    "ports",
    "releases",
    "remove",
    "rendered",
    "running",
    "strays",
    "tell",
    "tidy",
    "unreadable",
]

CONFIG = "/etc/supervisor/conf.d"
LAUNCHER = "/usr/local/lib/saltern/process"
SOCKET = "/run/supervisor.sock"
GROUPS = "/sys/fs/cgroup"
DEFAULT_GRACE = 30

# Seconds in which systemd has started another supervisord where one has died, also on a busy machine.
AGAIN = 30

# Seconds after the grace in which the launcher kills what is left, before supervisor kills the launcher.
BACKSTOP = 5

# Reads supervisor's configuration as supervisor does, and says what is wrong with it.
READ = "from supervisor.options import *; ServerOptions().realize(['-c', '/etc/supervisor/supervisord.conf'])"

# What supervisor says of a process that does not stay up.
UNWELL = ("BACKOFF", "EXITED", "FATAL")

# Each pause before another start is a second longer than the one before: a process is not given up for days.
START_RETRIES = 1000


def longest_grace(apps):
    """Return how long the processes of all apps may take to stop.

    :param apps: the settings of the formula app.
    :return: seconds.

    CLI Example: none, it serves a template.
    """
    return max([DEFAULT_GRACE, *(seconds for one in apps.values() for seconds in one["grace"].values())])


def ports(formation, first, slot):
    """Name the processes of a formation, each with its port.

    Only processes of the type ``web`` have one.

    :param formation: number by process type.
    :param first: the first of the app's ports.
    :param slot: 0 or 1.
    :return: such as ``{'web.1': 8101, 'worker.1': None}``.

    CLI Example: none, it serves the module release.
    """
    return {
        f"{kind}.{index}": first + slot * apps_.SLOT + index if kind == "web" else None
        for kind in sorted(formation)
        for index in range(1, formation[kind] + 1)
    }


def rendered(app, release, ports, graces):
    """Write supervisor's configuration for a release's processes.

    No config of the app is in it: supervisor would expand ``%``, and its ``restart`` would keep an old environment.

    :param app: the app's name.
    :param release: the release's number.
    :param ports: port, or ``None``, by process.
    :param graces: seconds by process type.
    :return: the text of the file.

    CLI Example: none, it serves the module release.
    """
    sections = [f"; v{release} of {app}. Written by its release; edits are overwritten.\n"]
    for process, port in sorted(ports.items(), key=lambda item: _order(item[0])):
        grace = graces.get(process.partition(".")[0], DEFAULT_GRACE)
        sections.append(
            f"[program:{program(app, release, process)}]\n"
            f"command={LAUNCHER} {app} {release} {process}{f' {port}' if port else ''}\n"
            "autorestart=true\n"
            "startsecs=1\n"
            f"startretries={START_RETRIES}\n"
            "stopsignal=TERM\n"
            f"stopwaitsecs={grace + BACKSTOP}\n"
            "killasgroup=true\n"
            "stdout_logfile=NONE\n"
            "stderr_logfile=NONE\n"
        )
    return "\n".join(sections)


def _order(process):
    """Sort ``web.10`` after ``web.9``."""
    kind, _, index = process.partition(".")
    return kind, int(index)


def program(app, release, process):
    """Return supervisor's name of a process."""
    return f"{app}.v{release}.{process}"


def path(app, release):
    """Return where the configuration of a release's processes is.

    :param app: the app's name.
    :param release: the release's number.

    CLI Example: none, it serves the module release.
    """
    return f"{CONFIG}/{app}.v{release}.conf"


def configured(app, release):
    """Read which processes of a release supervisor is to run.

    :param app: the app's name.
    :param release: the release's number.
    :return: port, or ``None``, by process. Empty where the file is not there or not as it was written.

    CLI Example: none, it serves the module release.
    """
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(path(app, release), encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return {}
    return parse({name: dict(parser[name]) for name in parser.sections()}, app, release)


def parse(sections, app, release):
    """Take the processes out of supervisor's configuration; see ``configured``.

    :param sections: options by section.
    """
    found = {}
    for options in sections.values():
        words = options.get("command", "").split()
        if words[:3] == [LAUNCHER, app, str(release)] and len(words) in (4, 5):
            found[words[3]] = int(words[4]) if words[4:] and words[4].isdigit() else None
    return found


def running(app, release):
    """Return which processes of a release supervisor runs, whatever has become of the file that it read.

    :param app: the app's name.
    :param release: the release's number.
    :return: port, or ``None``, by process: of those that have outlived a supervisor, where this one does not know them.

    CLI Example: none, it serves the module release.
    """
    known = {one["name"]: one for one in _call("getAllConfigInfo")} if is_up() else {}
    return parse(known, app, release) or _outliving(app, release)


def _outliving(app, release):
    """Return the processes of a release whose launchers are there, as these were started."""
    found = {}
    for directory in glob.glob(f"{glob.escape(_groups(app))}/*.v{release}.scope"):
        for pid in _pids(directory):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as stream:
                words = stream.read().decode("utf-8", "replace").rstrip("\0").split("\0")
                if os.fstat(stream.fileno()).st_uid == 0 and LAUNCHER in words and "--first" in words:
                    command = [LAUNCHER, *words[words.index("--first") + 1 :]]
                    found[f"{directory} {pid}"] = {"command": " ".join(command)}
    # The process type release is none that supervisor runs.
    return {process: port for process, port in parse(found, app, release).items() if "." in process}


def displaced(app, release, build, uid):
    """Find processes of a release that run on where none could be started: in a directory that was removed, or as
    another user than the app's, who was made anew.

    :param app: the app's name.
    :param release: the release's number.
    :param build: the path of its build.
    :param uid: of the app's user.
    :return: supervisor's names of the processes, each with what is wrong.

    CLI Example: none, it serves the module release.
    """
    found, prefix = {}, f"{app}.v{release}."
    for name in sorted(info(app, release)):
        for pid in pids(app, release, name.removeprefix(prefix)):
            with contextlib.suppress(OSError):
                place = os.readlink(f"/proc/{pid}/cwd")
                if place.startswith(build) and place.endswith(" (deleted)"):
                    found[name] = "runs in a directory that was removed"
                elif os.stat(f"/proc/{pid}").st_uid not in (0, uid):
                    found[name] = "runs as a user who was removed"
    return found


def releases(app=None):
    """List the releases that supervisor is configured to run processes of.

    :param app: one app's only.
    :return: pairs of app and number, sorted.

    CLI Example:

    .. code-block:: bash

        salt-call process.releases
    """
    names = (os.path.basename(name) for name in glob.glob(f"{CONFIG}/*.conf"))
    matches = filter(None, (re.fullmatch(r"([a-z0-9-]+)\.v([0-9]+)\.conf", name) for name in names))
    return sorted((m[1], int(m[2])) for m in matches if app in (None, m[1]))


def leftovers(app):
    """List files that an interrupted run began.

    :param app: the app's name.
    :return: paths.

    CLI Example: none, it serves the module release.
    """
    return sorted(glob.glob(f"{CONFIG}/{app}.v*.conf.new"))


def group(app, release, process):
    """Return the directory of a process's control group, as the launcher names it.

    :param process: such as ``web.1``.
    """
    kind, _, index = process.partition(".")
    return f"{_groups(app)}/app-{_escaped(app)}-{_escaped(kind)}-{index or 0}.v{release}.scope"


def _groups(app):
    """Return the directory of an app's slice, below which the control groups of its processes are."""
    return f"{_root()}/app.slice/app-{_escaped(app)}.slice"


def _root():
    """Return where the control groups are by which systemd knows processes: of version 2, mixed, or of version 1."""
    roots = (GROUPS, f"{GROUPS}/unified", f"{GROUPS}/systemd")
    return next((root for root in roots if os.path.exists(f"{root}/cgroup.procs")), GROUPS)


def _escaped(name):
    # To systemd a dash in a slice's name is the end of its parent's.
    return name.replace("-", "\\x2d")


def pids(app, release, process):
    """List what runs as a process: its launcher, and all that comes from it.

    :param app: the app's name.
    :param release: the release's number.
    :param process: such as ``web.1``.
    :return: PIDs, none where it does not run.

    CLI Example:

    .. code-block:: bash

        salt-call process.pids tickets 12 web.1
    """
    return _pids(group(app, release, process))


def _pids(directory):
    """Return the PIDs in a control group, none where it is not there."""
    try:
        with open(f"{directory}/cgroup.procs", encoding="ascii") as stream:
            return [int(pid) for pid in stream.read().split()]
    except OSError:
        return []


def strays(app):
    """List what is left of an app's processes that supervisor does not run.

    :param app: the app's name.
    :return: names as supervisor has them, sorted.

    CLI Example:

    .. code-block:: bash

        salt-call process.strays tickets
    """
    pattern = re.compile(rf"app-{re.escape(_escaped(app))}-(.+)-([0-9]+)\.v([0-9]+)\.scope")
    try:
        found = [match for name in os.listdir(_groups(app)) if (match := pattern.fullmatch(name))]
    except OSError:
        return []
    named = [(match[3], match[1].replace("\\x2d", "-"), match[2]) for match in found]
    # A scope without a number is of the process type release, which supervisor does not run.
    there = [(number, f"{kind}.{index}") for number, kind, index in named if index != "0"]
    names = {program(app, number, process) for number, process in there if pids(app, number, process)}
    return sorted(names - info(app).keys()) if names else []


class _Transport(xmlrpc.client.Transport):
    """XML-RPC over supervisor's socket."""

    def make_connection(self, host):
        connection = http.client.HTTPConnection(host)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(SOCKET)
        return connection


def _call(method, *arguments):
    server = xmlrpc.client.ServerProxy("http://supervisor", transport=_Transport(), allow_none=True)
    try:
        return getattr(server.supervisor, method)(*arguments)
    except (OSError, http.client.HTTPException) as error:
        raise CommandExecutionError(f"supervisor does not answer on {SOCKET}: {error}") from error
    except xmlrpc.client.Fault as fault:
        raise CommandExecutionError(f"supervisor: {method}: {fault.faultString}") from fault


def _await():
    """Wait for the supervisord that systemd starts where one has died."""
    deadline = time.monotonic() + AGAIN
    while not is_up() and time.monotonic() < deadline:
        time.sleep(0.1)


def _have(reason, method, *arguments):
    """Call supervisor for what it may have done already: one that has just started goes by its files as they are.

    :param reason: what it says then.
    """
    try:
        _call(method, *arguments)
    except CommandExecutionError as error:
        if reason not in str(error):
            raise


def is_up():
    """Tell whether supervisor runs.

    :return: a boolean.

    CLI Example:

    .. code-block:: bash

        salt-call process.is_up
    """
    # One that was killed leaves its socket, where nobody answers.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.connect(SOCKET)
        return True
    return False


def info(app, release=None):
    """Return how an app's processes are.

    :param app: the app's name.
    :param release: the number of one release.
    :return: by supervisor's name of the process, its ``state``, its ``pid`` (0 where there is none), the seconds that
        it has been ``up`` and how it ended, ``exit``. Empty where supervisor does not run.

    CLI Example:

    .. code-block:: bash

        salt-call process.info tickets
    """
    if not is_up():
        return {}
    prefix = f"{app}." if release is None else f"{app}.v{release}."
    return {
        one["name"]: {
            "state": one["statename"],
            "pid": one["pid"],
            "up": one["now"] - one["start"] if one["pid"] else 0,
            "exit": one["spawnerr"] or _ending(one["exitstatus"]),
        }
        for one in _call("getAllProcessInfo")
        if one["name"].startswith(prefix)
    }


def _ending(status):
    # Supervisor tells no more of it. The launcher does, in the process's log.
    return "was killed by a signal" if status < 0 else f"exit status {status}"


def is_well(app):
    """Tell whether no process of an app has trouble to start or to stay up.

    :param app: the app's name.
    :return: a boolean; true where supervisor does not run.

    CLI Example:

    .. code-block:: bash

        salt-call process.is_well tickets
    """
    try:
        return all(one["state"] not in ("STARTING", *UNWELL) for one in info(app).values())
    except CommandExecutionError:
        return True


def apply(app, release, ports, graces):
    """Have exactly these processes of a release running; those of other releases are left alone.

    A process that runs as it should is not touched.

    :param app: the app's name.
    :param release: the release's number.
    :param ports: port, or ``None``, by process.
    :param graces: seconds by process type.
    :raises CommandExecutionError: when supervisor refuses.

    CLI Example: none, it serves the module release.
    """
    _write(app, release, ports, graces)
    _update(app)
    for name, one in info(app, release).items():
        if one["state"] == "BACKOFF":
            _call("stopProcess", name)
        if one["state"] in ("STOPPED", "EXITED", "FATAL", "BACKOFF"):
            _call("startProcess", name, False)


def keep(app, release, graces):
    """Have the processes of a release that run in the file that supervisor reads: it stops what is not there.

    :param app: the app's name.
    :param release: the release's number.
    :param graces: seconds by process type, for those that supervisor does not know.
    :raises CommandExecutionError: when supervisor does not answer.

    CLI Example: none, it serves the module release.
    """
    ports = running(app, release)
    if ports and ports != configured(app, release):
        # Supervisor restarts processes whose grace is another, and what the release said of it may be gone.
        waits = {one["name"]: one["stopwaitsecs"] for one in _call("getAllConfigInfo")}
        names = {one.partition(".")[0]: program(app, release, one) for one in ports}
        known = {kind: waits[name] - BACKSTOP for kind, name in names.items() if name in waits}
        _write(app, release, ports, graces | known)


def _write(app, release, ports, graces):
    """Write the file of a release's processes."""
    _replace(path(app, release), rendered(app, release, ports, graces))


def _replace(target, text):
    """Replace a file of processes, so that a power failure leaves the old or the new."""
    with open(f"{target}.new", "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        # After a power failure it is what starts the app.
        os.fsync(stream.fileno())
    os.rename(f"{target}.new", target)


def tell(app, release, processes):
    """Have processes end, each with its grace, and never start again. They are not waited for.

    :param app: the app's name.
    :param release: the release's number.
    :param processes: such as ``worker.1``.

    CLI Example: none, it serves the module release.
    """
    names = {program(app, release, process): process for process in processes}
    # First: another supervisord, where this one dies, starts what its file says.
    with open(path(app, release), encoding="utf-8") as stream:
        text = stream.read()
    _replace(path(app, release), without_start(text, names))
    _await()
    states, left = {name: one["state"] for name, one in info(app, release).items()}, []
    for name, process in names.items():
        if states.get(name) in ("STARTING", "RUNNING", "BACKOFF"):
            # One that has ended by itself meanwhile is no mistake.
            with contextlib.suppress(CommandExecutionError):
                _call("stopProcess", name, False)
        elif states.get(name) != "STOPPING" and pids(app, release, process):
            # It has outlived its supervisord.
            left.append(name)
    if left:
        background = ["systemd-run", "--quiet", "--collect", "--no-block", LAUNCHER, "--end", *left]
        subprocess.run(background, check=False)


def without_start(text, names):
    """Return supervisor's configuration with some programs that it does not start, neither at its own start nor after.

    :param text: of the file.
    :param names: of the programs.
    """
    head, *sections = text.split("[program:")
    kept = [head]
    for section in sections:
        name, *lines = section.split("\n")
        if name.removesuffix("]") in names:
            lines = [line for line in lines if not line.startswith(("autostart=", "autorestart="))]
            lines[:0] = ["autostart=false", "autorestart=false"]
        kept.append("\n".join([name, *lines]))
    return "[program:".join(kept)


def remove(app, releases):
    """Stop the processes of releases, each with its grace, and forget them.

    :param app: the app's name, also one that is no longer declared.
    :param releases: numbers.

    CLI Example: none, it serves the module release.
    """
    for release in releases:
        if os.path.exists(path(app, release)):
            os.unlink(path(app, release))
    for begun in leftovers(app):
        os.unlink(begun)
    _update(app)


def _end_unscoped(app):
    """End what is left of processes that an earlier launcher started, which made no scopes.

    Of lines such as ``cd src && python work.py`` supervisor ends no more than the shell.
    """
    import psutil

    left = []
    try:
        uid = pwd.getpwnam(app).pw_uid
    except KeyError:
        return
    for pid in _pids(f"{_root()}/system.slice/supervisor.service"):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            left += [process] if process.uids().real == uid else []
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(process)
        _, left = psutil.wait_procs(left, timeout=DEFAULT_GRACE)


def unreadable():
    """Find a file of ours that keeps supervisor from reading any, and so from starting.

    :return: its path, or ``None``, also where supervisor runs: it goes on with what it has read.

    CLI Example: none, it serves the state ``supervisor.readable``.
    """
    try:
        _call("getState")
    except CommandExecutionError:
        done = subprocess.run(["/usr/bin/python3", "-c", READ], capture_output=True, text=True, check=False)
        return _named(done.stderr) if done.returncode else None
    return None


def tidy():
    """Remove the files of ours that supervisor cannot read. The releases that they are of write them anew.

    CLI Example: none, it serves the state ``supervisor.readable``.
    """
    while path := unreadable():
        os.unlink(path)


def _named(reason):
    """Return which file of ours supervisor names, or could not decode, ``None`` where it is no file of ours."""
    ours = [path(*one) for one in releases()]
    named = [one for one in ours if f"'{one}'" in reason]
    return next(iter(named or [one for one in ours if not _is_text(one)]), None)


def _is_text(file):
    try:
        with open(file, encoding="utf-8") as stream:
            stream.read()
    except UnicodeDecodeError:
        return False
    return True


def _reloaded():
    """Have supervisor read its files, without those of ours that it cannot read, and return what is another now."""
    while True:
        try:
            return _call("reloadConfig")
        except CommandExecutionError as error:
            file = _named(str(error))
            if not file:
                raise
            os.unlink(file)


def _is_stopping(app, names):
    """Tell whether supervisor waits for the end of one of some processes; one that has died does not."""
    try:
        return any(one["state"] == "STOPPING" for name, one in info(app).items() if name in names)
    except CommandExecutionError:
        if is_up():
            raise
        return False


def _update(app):
    """Do what ``supervisorctl update`` does, for one app."""
    _await()
    ((added, changed, removed),) = _reloaded()
    added, changed, removed = ([g for g in groups if g.startswith(f"{app}.")] for groups in (added, changed, removed))
    leaving = [*removed, *changed]
    for group in leaving:
        # Without waiting, so that all have their grace at the same time.
        _call("stopProcessGroup", group, False)
    while _is_stopping(app, leaving):
        # Supervisor itself kills what outlives its grace.
        time.sleep(0.1)
    # It may have died meanwhile: what it ran is ended below.
    _await()
    for group in leaving:
        _have("BAD_NAME", "removeProcessGroup", group)
    if leaving:
        _end_unscoped(app)
    # What supervisor does not know any more, and what the end of a launcher has left. Of what is to start, the launcher
    # takes over what runs as it should, and ends the rest.
    if left := sorted(set(strays(app)) - {*added, *changed}):
        subprocess.run([LAUNCHER, "--end", *left], check=False)
    for group in [*added, *changed]:
        _have("ALREADY_ADDED", "addProcessGroup", group)
