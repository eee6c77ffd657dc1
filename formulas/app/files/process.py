#!/usr/bin/python3 -IS
"""Start one process of an app: its release's config, its build, its user's journal lines.

    process APP RELEASE PROCESS [PORT]
    process --run APP COMMAND [ARGUMENT ...]

PROCESS is a process type and a number, as in web.1, or a process type alone, as in release. Supervisor runs this as the
app's user, and it becomes the process itself. The config is read as bytes from one file for each variable, so that
nothing ever quotes, expands or trims a value. Standard output and error go straight to the journal, as APP[PROCESS].

With --run it starts a command in the same way, but in the terminal, from the current release. It is what APP-run calls.
"""

import ctypes
import json
import os
import pwd
import signal
import sys

LOG_INFO = 6
TERMINAL = "/usr/local/lib/saltern/terminal"


def environment(directory, release, app, port):
    """Return the environment of a process, as bytes.

    :param directory: the release's directory.
    :param release: its record.
    :param app: the app's name.
    :param port: the port to listen on, or ``None``.
    """
    variables = {b"LANG": b"C.UTF-8", b"PYTHONUNBUFFERED": b"1"}
    config = os.path.join(directory, "env").encode()
    for name in os.listdir(config):
        with open(os.path.join(config, name), "rb") as stream:
            variables[name] = stream.read()
    own = {"HOME": f"/srv/apps/{app}", "USER": app, "LOGNAME": app, "SHELL": "/bin/sh"}
    own["PATH"] = f"{build_of(release, app)}/.venv/bin:/usr/local/bin:/usr/bin:/bin"
    if port:
        own["PORT"] = port
    return variables | {name.encode(): value.encode() for name, value in own.items()}


def build_of(release, app):
    return f"/srv/apps/{app}/builds/{release['build'][:12]}"


def journal(identifier):
    """Make standard output and error a stream into the journal, see sd_journal_stream_fd(3)."""
    fd = ctypes.CDLL("libsystemd.so.0").sd_journal_stream_fd(identifier.encode(), LOG_INFO, 0)
    if fd < 0:
        sys.exit(f"{identifier}: the journal does not answer: {os.strerror(-fd)}")
    os.dup2(fd, 1)
    os.dup2(fd, 2)


def main(app, number, process, port=None):
    directory = f"/srv/apps/{app}/releases/{number}"
    with open(f"{directory}/release.json", encoding="utf-8") as stream:
        release = json.load(stream)
    command = release["processes"][process.partition(".")[0]]
    variables = environment(directory, release, app, port)
    os.chdir(build_of(release, app))
    journal(f"{app}[{process}]")
    default_signals()
    os.write(1, f"v{number} {process} starts{f' on port {port}' if port else ''}\n".encode())
    os.execve("/bin/sh", ["/bin/sh", "-c", command], variables)


def run(app, *command):
    """Run a one-off command as a process of the current release would be."""
    if not command:
        sys.exit(f"usage: {app}-run COMMAND [ARGUMENT ...]")
    user = pwd.getpwnam(app)
    if os.geteuid() == 0:
        # Out of reach of root's terminal: what the app starts must not be able to type into root's shell.
        os.execv(TERMINAL, [TERMINAL, app, os.path.abspath(__file__), "--run", app, *command])
    if os.geteuid() != user.pw_uid:
        sys.exit(f"{app}-run: not root: run it with sudo")
    try:
        directory = os.path.realpath(f"/srv/apps/{app}/current", strict=True)
        with open(f"{directory}/release.json", encoding="utf-8") as stream:
            release = json.load(stream)
    except FileNotFoundError:
        sys.exit(f"{app}-run: no release of {app} serves; converge first")
    variables = environment(directory, release, app, None)
    if "TERM" in os.environ:
        variables[b"TERM"] = os.environb[b"TERM"]
    os.chdir(build_of(release, app))
    default_signals()
    try:
        os.execvpe(command[0], command, variables)
    except OSError as error:
        print(f"{app}-run: {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(126 if isinstance(error, PermissionError) else 127)


def default_signals():
    """Start a process as a shell would: Python ignores these signals, and an execve keeps that."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
