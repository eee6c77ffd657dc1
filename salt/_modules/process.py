"""The processes of the apps, as supervisor runs them.

Each process is a program of its own, ``<app>.v<release>.<type>.<number>``, in one file for each release. An app's name
has no dot, so that the prefix ``<app>.`` is that app's alone.
"""

import http.client
import os
import socket
import time
import xmlrpc.client

from salt.exceptions import CommandExecutionError

__load__ = ["apply", "formed", "longest_grace", "remove", "states"]

CONFIG = "/etc/supervisor/conf.d"
SOCKET = "/run/supervisor.sock"
DEFAULT_GRACE = 30

# Supervisor's process states that mean: not up, and not on its way up.
DOWN = ("STOPPED", "STOPPING", "BACKOFF", "EXITED", "FATAL", "UNKNOWN")


def longest_grace(apps):
    """Return how long the processes of all apps may take to stop.

    :param apps: the settings of the formula app.
    :return: seconds.

    CLI Example: none, it serves a template.
    """
    return max([DEFAULT_GRACE, *(seconds for one in apps.values() for seconds in one["grace"].values())])


def formed(formation):
    """Name the processes of a formation.

    :param formation: number by process type.
    :return: such as ``['web.1', 'web.2', 'worker.1']``.

    CLI Example: none, it serves the module release.
    """
    return [f"{kind}.{index}" for kind in sorted(formation) for index in range(1, formation[kind] + 1)]


def program(app, release, process):
    """Return supervisor's name of a process."""
    return f"{app}.v{release}.{process}"


def rendered(app, release, ports, graces, start_retries):
    """Write supervisor's configuration for a release's processes.

    No config of the app is in it: supervisor would expand ``%``, and its ``restart`` would keep an old environment.

    :param app: the app's name.
    :param release: the release's number.
    :param ports: port, or ``None``, by process.
    :param graces: seconds by process type.
    :param start_retries: how often a process that does not stay up is started again.
    :return: the text of the file.
    """
    sections = [f"; v{release} of {app}. Written by its release; edits are overwritten."]
    for process, port in ports.items():
        grace = graces.get(process.partition(".")[0], DEFAULT_GRACE)
        sections.append(
            f"[program:{program(app, release, process)}]\n"
            f"command=/usr/local/lib/saltern/process {app} {release} {process}{f' {port}' if port else ''}\n"
            f"user={app}\n"
            "autorestart=true\n"
            "startsecs=1\n"
            f"startretries={start_retries}\n"
            "stopsignal=TERM\n"
            f"stopwaitsecs={grace}\n"
            "killasgroup=true\n"
            "stdout_logfile=NONE\n"
            "stderr_logfile=NONE\n"
        )
    return "\n".join(sections)


def path_of(app, release):
    """Return where the configuration of a release's processes is."""
    return f"{CONFIG}/{app}.v{release}.conf"


class _Transport(xmlrpc.client.Transport):
    """XML-RPC over supervisor's socket."""

    def make_connection(self, host):
        connection = http.client.HTTPConnection(host)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(SOCKET)
        return connection


def _supervisor():
    return xmlrpc.client.ServerProxy("http://supervisor", transport=_Transport(), allow_none=True).supervisor


def _call(method, *arguments):
    try:
        return getattr(_supervisor(), method)(*arguments)
    except (OSError, http.client.HTTPException) as error:
        raise CommandExecutionError(f"supervisor does not answer on {SOCKET}: {error}") from error
    except xmlrpc.client.Fault as fault:
        raise CommandExecutionError(f"supervisor: {method}: {fault.faultString}") from fault


def states(app):
    """Return how an app's processes are.

    :param app: the app's name.
    :return: supervisor's state by its name of the process. Empty where supervisor does not run.

    CLI Example:

    .. code-block:: bash

        salt-call process.states tickets
    """
    if not os.path.exists(SOCKET):
        return {}
    return {info["name"]: info["statename"] for info in _call("getAllProcessInfo") if info["name"].startswith(f"{app}.")}


def apply(app, release, ports):
    """Have exactly these processes of a release running; the others of the app are left alone.

    :param app: the app's name.
    :param release: the release's number.
    :param ports: port, or ``None``, by process.
    :raises CommandExecutionError: when supervisor refuses.

    CLI Example: none, it serves the module release.
    """
    one = __pillar__["app"][app]
    text = rendered(app, release, ports, one["grace"], __pillar__["supervisor"]["start_retries"])
    path = path_of(app, release)
    with open(f"{path}.new", "w", encoding="utf-8") as stream:
        stream.write(text)
    os.rename(f"{path}.new", path)
    _update(app)
    current = states(app)
    for process in ports:
        name = program(app, release, process)
        if current.get(name) in ("STOPPED", "EXITED", "FATAL", "BACKOFF"):
            _restart(name, current[name])


def _restart(name, state):
    if state == "BACKOFF":
        _call("stopProcess", name)
    _call("startProcess", name, False)


def remove(app, releases):
    """Stop the processes of releases, each with its grace, and forget them.

    :param app: the app's name.
    :param releases: numbers.

    CLI Example: none, it serves the module release.
    """
    for release in releases:
        if os.path.exists(path_of(app, release)):
            os.unlink(path_of(app, release))
    _update(app)


def _update(app):
    """Do what ``supervisorctl update`` does, for one app."""
    ((added, changed, removed),) = _call("reloadConfig")
    added, changed, removed = ([g for g in groups if g.startswith(f"{app}.")] for groups in (added, changed, removed))
    leaving = [*removed, *changed]
    for group in leaving:
        _call("stopProcessGroup", group, False)
    longest = max([DEFAULT_GRACE, *__pillar__["app"][app]["grace"].values()])
    deadline = time.monotonic() + longest + 15
    while leaving and any(states(app).get(group) == "STOPPING" for group in leaving) and time.monotonic() < deadline:
        time.sleep(0.1)
    for group in leaving:
        _call("removeProcessGroup", group)
    for group in [*added, *changed]:
        _call("addProcessGroup", group)
