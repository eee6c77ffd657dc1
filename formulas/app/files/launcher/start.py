"""Before a process: what supervisor starts, and the end of processes that nobody manages any more."""

import _signal as signal
import _socket as socket
import os
import select
import sys
import time

from . import ENTRY
from .ending import POLL, Ending, finish, listed
from .first import HANDED_ON
from .log import journal, say, stream
from .scope import Scope, scopes

SUPERVISOR = "/run/supervisor.sock"
# Seconds in which supervisor answers.
ASKED = 2
# Seconds in which systemd forgets an empty scope.
FORGOTTEN = 10


def start(app, number, process, port=None):
    """Become the first process of a scope once the scope is empty, or stand in for a launcher that is still there."""
    if is_to_stop(f"{app}.v{number}.{process}"):
        return
    scope = Scope(app, number, process)
    words = [app, number, process, *([port] if port else [])]
    journal(scope)
    if pid := outlived(scope.found(), words):
        attend(scope, pid)
    if left := scope.found():
        say(scope, f"ends first what is left of it: {listed(left)}")
        finish([Ending(scope)])
    wait_until_forgotten(scope)
    command = ["systemd-run", "--quiet", "--collect", "--scope", f"--unit={scope.unit}", f"--slice={scope.slice}"]
    command += [f"--description={app} v{number} {process}"]
    if scope.job:
        # At a shutdown its runner ends it, with its grace.
        command += [f"--property=Before=saltern-job-{app}.{scope.job}.{scope.run}.service"]
    if scope.is_once:
        # A process of a run ends with the run.
        first = ["setpriv", "--pdeathsig", "TERM", "--", ENTRY, "--first"]
    else:
        # At a shutdown supervisor stops the process, with its grace. systemd would send SIGTERM to each process of the
        # scope.
        command += ["--property=Before=supervisor.service"]
        first = [ENTRY, "--first"]
    os.execvp(command[0], [*command, "--", *first, *words])


def is_to_stop(program):
    """Tell whether supervisor sent SIGTERM before this process could receive it.

    Between supervisord's fork and exec, supervisord's own handler takes the signal, and it is lost. Supervisor would
    wait for the whole grace, and kill only the launcher.

    :param program: as supervisor names it. A program that supervisor does not know, such as ``release``, goes on.
    """
    value = f"<params><param><value><string>{program}</string></value></param></params>"
    body = f"<methodCall><methodName>supervisor.getProcessInfo</methodName>{value}</methodCall>"
    head = f"POST /RPC2 HTTP/1.0\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = b""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.settimeout(ASKED)
        opened.connect(SUPERVISOR)
        opened.sendall((head + body).encode())
        while part := opened.recv(1 << 16):
            answer += part
    except OSError:
        return False
    finally:
        opened.close()
    return b"<string>STOPPING</string>" in answer


def outlived(found, words):
    """Find the launcher of a process whose supervisor has died and been replaced.

    :param found: the processes of its scope, by PID.
    :param words: the arguments that the launcher was started with.
    :return: its PID, or ``None``: also for a launcher with another port.
    """
    for pid, process in found.items():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                command = stream.read().decode("utf-8", "replace").rstrip("\0").split("\0")
        except OSError:
            continue
        if process.is_root and process.parent == 1 and command[-len(words) - 1 :] == ["--first", *words]:
            return pid
    return None


def attend(scope, pid):
    """Stand in for a launcher, which today's supervisor does not know, until its process ends.

    :param scope: the scope of both.
    :param pid: the launcher's PID.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    for number in (*HANDED_ON, signal.SIGTERM):
        signal.signal(number, lambda number, _: hand_to(descriptor, number))
    say(scope, f"goes on: supervisor has died and was started again (PID {pid})")
    select.select([descriptor], [], [])
    finish([Ending(scope)])
    sys.exit(1)


def hand_to(descriptor, number):
    """Hand a signal on to a launcher, which may have ended.

    :param descriptor: the process' own descriptor: another process may have its PID by now.
    """
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return


def wait_until_forgotten(scope):
    """Wait until systemd has forgotten the scope of this name, a moment after its last process ended."""
    deadline = time.monotonic() + FORGOTTEN
    while os.path.exists(scope.path) and time.monotonic() < deadline:
        time.sleep(POLL)


def end(*programs):
    """End what is left of processes that nobody manages any more."""
    words = [program.split(".", 2) for program in programs]
    wanted = [Scope(app, number.removeprefix("v"), process) for app, number, process in words] or scopes()
    left = [scope for scope in wanted if scope.found()]
    for scope in left:
        scope.log = stream(scope)
        say(scope, f"ends what is left of it: {listed(scope.found())}")
    finish([Ending(scope) for scope in left])
