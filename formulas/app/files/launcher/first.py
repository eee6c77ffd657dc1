"""The first process of a scope: it starts the line of the Procfile, hands signals on, and ends what the line left."""

import _signal as signal
import os
import pwd
import resource

from .ending import POLL, Ending, heads, listed
from .log import say
from .release import build_of, environment, past_pools, record
from .scope import Scope
from .user import default_signals, hide_others

# In the place of a port: of a process that is alone in its environment. Seconds between two looks at whether it may be.
ALONE, LOOK = "alone", 1
# The process type that changes databases: locks and settings of a session count there.
MIGRATES = "release"
# The signals that are handed on. The process decides what they mean.
HANDED_ON = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH}


def first(app, number, process, port=None):
    """Start the process and hand signals on to it. End as the process ended, once nothing of it is left."""
    scope = Scope(app, number, process)
    signal.pthread_sigmask(signal.SIG_BLOCK, {*HANDED_ON, signal.SIGTERM, signal.SIGCHLD})
    guard = None
    if port == ALONE:
        from .alone import Guard

        guard, port = Guard(scope), None
        if not guard.stand_by(wait_for_signals):
            return
    # Written by this process, because the journal counts all lines of one PID within a second as one user's.
    say(scope, f"starts{f' on port {port}' if port else ''}")
    told, telling = os.pipe()
    child = os.fork()
    if not child:
        try:
            become(scope, port, telling, bool(guard))
        except Exception as error:
            text = f"cannot start: {obstacle(scope, error)}; a converge puts back what is missing"
            os.write(telling, text.encode("utf-8", "replace"))
        finally:
            os._exit(1)
    spare(os.getpid())
    os.close(telling)
    if guard:
        guard.hold()
    # The pipe closes where the child has become the process.
    with open(told, encoding="utf-8", errors="replace") as file:
        for line in file.read().splitlines():
            say(scope, line)
    status = ending = None
    # The run that started this process may have ended before the kernel was asked to tell of that.
    is_stopped = scope.is_once and os.getppid() == 1
    while not (ending and ending.step()):
        signals = [] if is_stopped else wait_for_signals(POLL if ending else LOOK if guard else None)
        is_stopped = is_stopped or signal.SIGTERM in signals
        if guard and ending is None and (why := guard.reason()):
            say(scope, f"ends here: {why}")
            is_stopped = True
        if status is None:
            ended, status = os.waitpid(child, os.WNOHANG)
            status = status if ended else None
        if ending is None and (is_stopped or status is not None):
            if not is_stopped:
                left = scope.found()
                rest = f"; ends what it has left: {listed(left)}" if left else ""
                say(scope, f"has ended: {how(status, scope.out_of_memory())}{rest}")
            ending = Ending(scope)
        if guard and ending:
            guard.hurry(ending)
        for number in HANDED_ON & set(signals) if ending is None else ():
            hand_on(scope, number)
        is_stopped = False
    if status is None:
        status = os.waitpid(child, os.WNOHANG if ending.is_stuck else 0)[1]
    # What the kernel holds may still run.
    if guard and not ending.is_stuck:
        guard.end()
    end_like(status)


def obstacle(scope, error):
    """Return in words why a start failed.

    :param error: the start's exception: an ``OSError``, or that of a release without the line.
    """
    if "getpwnam" in str(error):
        return f"the user {scope.app} is missing"
    if isinstance(error, (KeyError, TypeError)):
        path = f"/srv/apps/{scope.app}/releases/{scope.number}/release.json"
        return f"{path}: cannot be read, or has no process type {scope.kind}"
    if isinstance(error, OSError) and error.filename:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return getattr(error, "strerror", None) or str(error)


def wait_for_signals(seconds):
    """Return the next signal, or none where none comes in time."""
    wanted = {*HANDED_ON, signal.SIGTERM, signal.SIGCHLD}
    found = signal.sigwaitinfo(wanted) if seconds is None else signal.sigtimedwait(wanted, seconds)
    return [found.si_signo] if found else []


def spare(pid):
    """Ask the kernel to end other processes before this one when memory is short, where that is allowed."""
    try:
        with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
            file.write("-1000")
    except OSError:
        return


def how(status, killed):
    """Return in words how a process ended.

    :param status: as ``os.waitpid`` returns it.
    :param killed: how many processes of it were killed because memory was short.
    """
    code = os.waitstatus_to_exitcode(status)
    text = f"killed by {name_of(-code)}" if code < 0 else f"exit status {code}"
    return f"{text}, out of memory: the kernel has ended {killed} of its processes" if killed else text


def name_of(number):
    """Return the name of a signal, such as SIGKILL."""
    names = [name for name in dir(signal) if name.startswith("SIG") and name[3] != "_"]
    return next((name for name in names if getattr(signal, name) == number), f"signal {number}")


def hand_on(scope, number):
    """Hand a signal on to the programs of a line, and to the shells that have a trap for it."""
    shells, programs = heads(scope.found())
    for process in [*(shell for shell in shells if shell.catches(number)), *programs] or shells:
        scope.send(process.pid, number)


def end_like(status):
    """End as a process has ended."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        os._exit(code)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if code not in (-signal.SIGKILL, -signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.kill(os.getpid(), -code)
    os._exit(128 - code)


def become(scope, port, telling, is_bound=False):
    """Become the process: run its line in its build, with its config, as the app's user.

    :param telling: the descriptor by which the launcher learns why the start failed.
    :param is_bound: whether the process ends with its launcher, also where that is killed.
    """
    release = record(scope.app, scope.number)
    # As bytes, because supervisor's environment may have another encoding.
    command = release["processes"][scope.kind].encode()
    variables = environment(f"/srv/apps/{scope.app}/releases/{scope.number}", release, scope.app, port)
    if scope.kind == MIGRATES:
        past_pools(variables, release)
    user = pwd.getpwnam(scope.app)
    os.chdir(build_of(release, scope.app))
    os.setsid()
    if reason := hide_others():
        os.write(telling, f"{reason}\n".encode())
    os.setgroups([])
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    default_signals()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # From here on no program gives the process another user's rights, and no program of root's reads the config.
    words = ["setpriv", "--no-new-privs", *(["--pdeathsig", "TERM"] if is_bound else [])]
    os.execve("/usr/bin/setpriv", [*words, "--", "/bin/sh", "-c", command], variables)
