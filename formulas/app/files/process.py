#!/usr/bin/python3 -IS
"""Run one process of an app, and end whatever it started.

    process APP RELEASE PROCESS [PORT]
    process --end [PROGRAM ...]
    process --run APP COMMAND [ARGUMENT ...]

PROCESS is a process type and a number, as in web.1, or a process type alone, as in release. Supervisor runs this as
root. It moves into a scope of its own, a control group below the app's slice, which nothing that the process starts
can leave. There it starts the line of the Procfile as the app's user, stays as its parent, and hands signals on.
The config is read as bytes from one file for each variable, so that nothing ever quotes, expands or trims a value.
Standard output and error of the process go straight to the journal, as APP[PROCESS].

SIGTERM means the same for each line: what the line's shells wait for gets it once, and the shells go on to no other
command. What a program started itself is left to that program. Whatever is left after the grace is killed, and so is
what a process that ended by itself has left behind, before supervisor starts it again.

With --end what is left of processes is ended in the same way: of those that are named as supervisor names them, as in
shop.v3.web.1, or of all.

With --run it starts a command in the same environment, but in the terminal, from the current release. It is what
APP-run calls.
"""

import contextlib
import os
import signal
import sys
import time

LOG_INFO = 6
TERMINAL = "/usr/local/lib/saltern/terminal"
SEND_BUFFER = 8 << 20
GROUPS = "/sys/fs/cgroup"
JOURNAL = "/run/systemd/journal/stdout"
SUPERVISOR = "/run/supervisor.sock"
# Seconds in which supervisor answers.
ASKED = 2
# What supervisor waits for where no grace is declared; see salt/_modules/process.py.
DEFAULT_GRACE = 30
# Seconds between two looks at what is left.
POLL = 0.05
# Seconds that a process has to end by itself, once what it read from, or its parent, has ended.
SETTLE = 1
# Seconds in which systemd forgets a scope that is empty.
FORGOTTEN = 10
SHELLS = {"sh", "dash", "bash", "rbash", "ash", "busybox", "ksh", "ksh93", "mksh", "yash", "zsh", "fish", "posh"}
# What is handed on to the process. It decides itself what they mean.
HANDED_ON = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH}
NULL = "/dev/null"
# linux/sched.h and linux/mount.h.
CLONE_NEWNS, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_SLAVE = 0x20000, 0x2, 0x4, 0x8, 0x4000, 0x80000
# How many processes a line of the log names.
LISTED = 5


def environment(directory, release, app, port):
    """Return the environment of a process, as bytes.

    :param directory: the release's directory.
    :param release: its record.
    :param app: the app's name.
    :param port: the port to listen on, or ``None``.
    """
    variables = {b"LANG": b"C.UTF-8", b"PYTHONUNBUFFERED": b"1", b"TMPDIR": f"/srv/apps/{app}/tmp".encode()}
    config = os.path.join(directory, "env").encode()
    for name in os.listdir(config):
        with open(os.path.join(config, name), "rb") as stream:
            variables[name] = stream.read()
    own = {"HOME": f"/srv/apps/{app}/home", "USER": app, "LOGNAME": app, "SHELL": "/bin/sh"}
    own["PATH"] = f"{build_of(release, app)}/.venv/bin:/usr/local/bin:/usr/bin:/bin"
    if port:
        own["PORT"] = port
    return variables | {name.encode(): value.encode() for name, value in own.items()}


def build_of(release, app):
    return f"/srv/apps/{app}/builds/{release['build'][:12]}"


class Scope:
    """The control group of one process: the process that supervisor knows, and all that comes from it."""

    def __init__(self, app, number, process):
        kind, _, index = process.partition(".")
        self.app, self.number, self.process, self.kind = app, int(number), process, kind
        self.log = 2
        self.slice = f"app-{escaped(app)}.slice"
        # systemd reads settings for all scopes of a process type by the parts between dashes: app-shop-web-.scope.d
        self.unit = f"app-{escaped(app)}-{escaped(kind)}-{index or 0}.v{number}.scope"
        self.below = f"app.slice/{self.slice}/{self.unit}"

    @property
    def path(self):
        return f"{tree()}/{self.below}"

    def pids(self):
        """Return the PIDs in it, none where it is not there."""
        found = []
        for directory, _, _ in os.walk(self.path):
            try:
                with open(f"{directory}/cgroup.procs", encoding="ascii") as stream:
                    found += map(int, stream.read().split())
            except OSError:
                continue
        return found

    def found(self):
        """Return the processes in it by PID, but for the one that asks."""
        return {pid: process for pid in self.pids() if pid != os.getpid() and (process := look(pid))}

    def grace(self):
        """Return the seconds that its release gives it between SIGTERM and SIGKILL."""
        graces = record(self.app, self.number).get("grace") or {}
        return graces.get(self.kind, DEFAULT_GRACE)

    def close(self):
        """Have the kernel refuse more processes in it: what forks without end would outrun the signals."""
        for root in (tree(), f"{GROUPS}/pids"):
            with contextlib.suppress(OSError), open(f"{root}/{self.below}/pids.max", "w", encoding="ascii") as file:
                file.write("0")

    def out_of_memory(self):
        """Return how many processes of it the kernel has killed because memory was short."""
        for root, name in ((tree(), "memory.events"), (f"{GROUPS}/memory", "memory.oom_control")):
            try:
                with open(f"{root}/{self.below}/{name}", encoding="ascii") as file:
                    return int(dict(line.split() for line in file).get("oom_kill", 0))
            except OSError:
                continue
        return 0


def escaped(name):
    """Return a name as a part of a unit's name: a dash would make it a child of another one."""
    return name.replace("-", "\\x2d")


def tree():
    """Return where the control groups are by which systemd knows processes: of version 2, mixed, or of version 1."""
    for root in (GROUPS, f"{GROUPS}/unified", f"{GROUPS}/systemd"):
        if os.path.exists(f"{root}/cgroup.procs"):
            break
    with open("/proc/1/cgroup", encoding="utf-8") as stream:
        own = [line.rstrip("\n").split(":", 2)[2] for line in stream if line.startswith("0::")]
    prefix = own[0].removesuffix("/init.scope").rstrip("/") if own else ""
    return root if ".." in prefix else root + prefix


def scopes():
    """List the scopes of processes that are there."""
    slices = f"{tree()}/app.slice"
    found = []
    for name in names_in(slices):
        app = name.removeprefix("app-").removesuffix(".slice").replace("\\x2d", "-")
        found += filter(None, (named(app, unit) for unit in names_in(f"{slices}/{name}")))
    return found


def named(app, unit):
    """Return the scope of a unit's name, or ``None`` where it is not that of a process."""
    rest, _, end = unit.removeprefix(f"app-{escaped(app)}-").rpartition(".v")
    kind, _, index = rest.rpartition("-")
    number, kind = end.removesuffix(".scope"), kind.replace("\\x2d", "-")
    if not (kind and index.isdigit() and number.isdigit()):
        return None
    scope = Scope(app, number, kind if index == "0" else f"{kind}.{index}")
    return scope if scope.unit == unit else None


def names_in(directory):
    try:
        return os.listdir(directory)
    except OSError:
        return []


class Process:
    """What the kernel says of a process."""

    def __init__(self, pid, parent, name, caught=0, stdin="", outputs=(), is_root=False):
        self.pid, self.parent, self.name, self.caught = pid, parent, name, caught
        self.stdin, self.outputs, self.is_root = stdin, outputs, is_root

    @property
    def is_shell(self):
        return self.name in SHELLS

    def catches(self, number):
        return bool(self.caught >> (number - 1) & 1)


def look(pid):
    """Return a process as it is now, ``None`` where it has ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as stream:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)
        if status["State"][0] in "ZX":
            return None
        name = os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
        parent, caught = int(status["PPid"]), int(status["SigCgt"], 16)
        links = [link(pid, descriptor) for descriptor in (0, 1, 2)]
        return Process(pid, parent, name, caught, links[0], links[1:], status["Uid"].split()[1] == "0")
    except (OSError, KeyError):
        return None


def link(pid, descriptor):
    try:
        return os.readlink(f"/proc/{pid}/fd/{descriptor}")
    except OSError:
        return ""


def heads(found):
    """Find whom a signal is for: the programs that a line's shells have started, and these shells.

    What a program has started itself is its own business: the children of a pool that got SIGTERM beside their parent
    would drop what they are at. A shell that has a trap decides for what it started in the background, and cannot run
    the trap before what it started in the foreground ends. What reads from a pipe reads until its writers have ended.

    :param found: the processes, by PID.
    :return: the shells, each before what it has started, and the programs.
    """
    children = {}
    for process in found.values():
        children.setdefault(process.parent if process.parent in found else None, []).append(process)
    shells, programs, queue = [], [], children.get(None, [])[:]
    while queue:
        process = queue.pop(0)
        if reads_on(process, found):
            continue
        if not process.is_shell:
            programs.append(process)
            continue
        shells.append(process)
        for child in children.get(process.pid, ()):
            is_background = child.stdin == NULL != process.stdin
            if not (process.catches(signal.SIGTERM) and is_background):
                queue.append(child)
    if not shells and not programs:
        programs = children.get(None, [])
    return shells, programs


def reads_on(reader, found):
    """Tell whether a process reads from a pipe that another process still writes to."""
    if not reader.stdin.startswith("pipe:"):
        return False
    writers = [process for process in found.values() if reader.stdin in process.outputs]
    return any(writer.pid != reader.pid and not descends(writer, reader, found) for writer in writers)


def descends(process, ancestor, found):
    """Tell whether a process comes from another one."""
    while process is not None and process.pid != ancestor.pid:
        process = found.get(process.parent)
    return process is not None


class Ending:
    """The end of what is in a scope: SIGTERM once to whom it is for, and SIGKILL to all that the grace did not do for.

    :param scope: the scope.
    """

    def __init__(self, scope):
        self.scope, self.grace = scope, scope.grace()
        self.deadline = time.monotonic() + self.grace
        self.told, self.since, self.is_late = set(), None, False

    def step(self):
        """Do what is due, and tell whether nothing is left."""
        found = self.scope.found()
        if not found:
            return True
        now = time.monotonic()
        if now >= self.deadline:
            if not self.is_late:
                self.is_late = True
                self.scope.close()
                say(self.scope, f"had not ended within {self.grace} s, killed: {listed(found)}")
            for pid in found:
                send(pid, signal.SIGKILL)
            return False
        # Where its launcher is yet there, that one ends the rest.
        launchers = [process for process in found.values() if process.is_root]
        shells, programs = ([], launchers) if launchers else heads(found)
        due = [process.pid for process in [*shells, *programs]]
        is_first = self.since is None
        self.since = {pid: (self.since or {}).get(pid, now) for pid in due}
        for pid in due:
            if pid not in self.told and (is_first or now - self.since[pid] >= SETTLE):
                self.told.add(pid)
                send(pid, signal.SIGTERM)
        return False


def send(pid, number):
    """Send a signal to a process, which may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def listed(found):
    """Name processes by PID and program, for a line of the log."""
    names = [f"{process.name} (PID {pid})" for pid, process in sorted(found.items())]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def say(scope, text):
    """Write a line to the log of a process: one line, since what an app calls its programs is no word of root's."""
    shown = "".join(char if char.isprintable() else "?" for char in text)
    os.write(scope.log, f"v{scope.number} {scope.process} {shown}\n".encode())


def journal(scope):
    """Make standard output and error a stream into the journal."""
    descriptor = stream(scope)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def stream(scope):
    """Open a stream into the journal, as sd_journal_stream_fd(3) does, and return its descriptor.

    It names the scope, so that the line of a process that has ended meanwhile is known to be of it, too.
    """
    import socket

    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.connect(JOURNAL)
        opened.shutdown(socket.SHUT_RD)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        opened.sendall(f"{scope.app}[{scope.process}]\n{scope.unit}\n{LOG_INFO}\n0\n0\n0\n0\n".encode())
    except OSError as error:
        sys.exit(f"{scope.app}[{scope.process}]: the journal does not answer: {error.strerror}")
    return opened.detach()


def start(app, number, process, port=None):
    """Become the first process of a scope, once nothing is left there; or attend to a launcher that is there yet."""
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
    if scope.kind == "release":
        # It ends with the run that started it.
        first = ["setpriv", "--pdeathsig", "TERM", "--", os.path.abspath(__file__), "--first"]
    else:
        # At a shutdown supervisor stops it, with its grace. systemd would send SIGTERM to each process of the scope.
        command += ["--property=Before=supervisor.service"]
        first = [os.path.abspath(__file__), "--first"]
    os.execvp(command[0], [*command, "--", *first, *words])


def is_to_stop(program):
    """Tell whether supervisor has told this process to end, before the process could hear it.

    From supervisord's fork to its exec a signal is taken by supervisord's own handler, and lost: it would wait for the
    whole grace, and kill the launcher alone.

    :param program: as supervisor names it. One that it does not know, such as ``release``, is not to stop.
    """
    import socket

    value = f"<params><param><value><string>{program}</string></value></param></params>"
    body = f"<methodCall><methodName>supervisor.getProcessInfo</methodName>{value}</methodCall>"
    head = f"POST /RPC2 HTTP/1.0\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = b""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened:
        opened.settimeout(ASKED)
        opened.connect(SUPERVISOR)
        opened.sendall((head + body).encode())
        while part := opened.recv(1 << 16):
            answer += part
    return b"<string>STOPPING</string>" in answer


def outlived(found, words):
    """Find the launcher of a process whose supervisor has died, so that another one starts the process now.

    :param found: the processes of its scope, by PID.
    :param words: the arguments that the launcher was started with.
    :return: its PID, or ``None``. One with another port is none.
    """
    for pid, process in found.items():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as stream:
            command = stream.read().decode("utf-8", "replace").rstrip("\0").split("\0")
            if process.is_root and process.parent == 1 and command[-len(words) - 1 :] == ["--first", *words]:
                return pid
    return None


def attend(scope, pid):
    """Stand for a launcher before the supervisor of now, until nothing is left: its process goes on meanwhile.

    :param scope: the scope of both.
    :param pid: the launcher's.
    """
    import select

    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    for number in (*HANDED_ON, signal.SIGTERM):
        signal.signal(number, lambda number, _: send(pid, number))
    say(scope, f"goes on: supervisor has died and was started again (PID {pid})")
    select.select([descriptor], [], [])
    finish([Ending(scope)])
    sys.exit(1)


def wait_until_forgotten(scope):
    """Wait until systemd knows no scope of this name any more, as it does a moment after the last process's end."""
    deadline = time.monotonic() + FORGOTTEN
    while os.path.exists(scope.path) and time.monotonic() < deadline:
        time.sleep(POLL)


def finish(endings):
    """Wait until nothing is left of scopes; each has its grace at the same time."""
    while endings := [ending for ending in endings if not ending.step()]:
        time.sleep(POLL)


def first(app, number, process, port=None):
    """Start the process, hand signals on to it, and end when nothing of it is left, in the way in which it ended."""
    scope = Scope(app, number, process)
    signal.pthread_sigmask(signal.SIG_BLOCK, {*HANDED_ON, signal.SIGTERM, signal.SIGCHLD})
    # By this process: the journal takes all that one PID writes within a second for the same user's.
    say(scope, f"starts{f' on port {port}' if port else ''}")
    told, telling = os.pipe()
    child = os.fork()
    if not child:
        try:
            become(scope, port, telling)
        except (OSError, KeyError, TypeError) as error:
            text = f"cannot start: {obstacle(scope, error)}; a converge puts back what is missing"
            os.write(telling, text.encode("utf-8", "replace"))
        finally:
            os._exit(1)
    spare(os.getpid())
    os.close(telling)
    # It ends where the child has become the process.
    with open(told, encoding="utf-8", errors="replace") as file:
        for line in file.read().splitlines():
            say(scope, line)
    status = ending = None
    # The run that started it may have ended before this process was told of it.
    is_stopped = scope.kind == "release" and os.getppid() == 1
    while not (ending and ending.step()):
        signals = [] if is_stopped else wait_for_signals(POLL if ending else None)
        is_stopped = is_stopped or signal.SIGTERM in signals
        if status is None:
            ended, status = os.waitpid(child, os.WNOHANG)
            status = status if ended else None
        if ending is None and (is_stopped or status is not None):
            if not is_stopped:
                left = scope.found()
                rest = f"; ends what it has left: {listed(left)}" if left else ""
                say(scope, f"has ended: {how(status, scope.out_of_memory())}{rest}")
            ending = Ending(scope)
        for number in HANDED_ON & set(signals) if ending is None else ():
            hand_on(scope, number)
        is_stopped = False
    if status is None:
        status = os.waitpid(child, 0)[1]
    end_like(status)


def obstacle(scope, error):
    """Say in words what is in the way of a start.

    :param error: an ``OSError``, or what a release raises that does not say how it is started.
    """
    if "getpwnam" in str(error):
        return f"the user {scope.app} is missing"
    if not isinstance(error, OSError):
        path = f"/srv/apps/{scope.app}/releases/{scope.number}/release.json"
        return f"{path}: cannot be read, or has no process type {scope.kind}"
    return f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else error.strerror or str(error)


def wait_for_signals(seconds):
    """Return the next signal, and none where there is none in time."""
    wanted = {*HANDED_ON, signal.SIGTERM, signal.SIGCHLD}
    found = signal.sigwaitinfo(wanted) if seconds is None else signal.sigtimedwait(wanted, seconds)
    return [found.si_signo] if found else []


def spare(pid):
    """Have the kernel choose other processes than this one when memory is short, where it may be asked to."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
        file.write("-1000")


def how(status, killed):
    """Say how a process ended.

    :param status: as ``os.waitpid`` returns it.
    :param killed: how many processes of it were killed because memory was short.
    """
    code = os.waitstatus_to_exitcode(status)
    text = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    return f"{text}, out of memory: the kernel has ended {killed} of its processes" if killed else text


def hand_on(scope, number):
    """Hand a signal on to the programs of a line, and to the shells that have a trap for it."""
    shells, programs = heads(scope.found())
    for process in [*(shell for shell in shells if shell.catches(number)), *programs] or shells:
        send(process.pid, number)


def end_like(status):
    """End as a process has ended."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        os._exit(code)
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if code not in (-signal.SIGKILL, -signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.kill(os.getpid(), -code)
    os._exit(128 - code)


def become(scope, port, telling):
    """Become the process: its line, in its build, with its config, as the app's user.

    :param telling: a descriptor for what its launcher is to say of it.
    """
    import pwd

    release = record(scope.app, scope.number)
    command = release["processes"][scope.kind]
    variables = environment(f"/srv/apps/{scope.app}/releases/{scope.number}", release, scope.app, port)
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
    # No program gives it another user's rights from here on. The config is not read by a program of root's.
    os.execve("/usr/bin/setpriv", ["setpriv", "--no-new-privs", "--", "/bin/sh", "-c", command], variables)


def end(*programs):
    """End what is left of processes that nobody runs any more."""
    words = [program.split(".", 2) for program in programs]
    wanted = [Scope(app, number.removeprefix("v"), process) for app, number, process in words] or scopes()
    left = [scope for scope in wanted if scope.found()]
    for scope in left:
        scope.log = stream(scope)
        say(scope, f"ends what is left of it: {listed(scope.found())}")
    finish([Ending(scope) for scope in left])


def record(app, number):
    """Return what a release is, empty where it cannot be read."""
    import json

    try:
        with open(f"/srv/apps/{app}/releases/{number}/release.json", encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return {}


def run(app, *command):
    """Run a one-off command as a process of the current release would be."""
    if not command:
        sys.exit(f"usage: {app}-run COMMAND [ARGUMENT ...]")
    import json
    import pwd

    user = pwd.getpwnam(app)
    if os.geteuid() == 0:
        # Below the app's slice, whose limits hold for it too. systemd-run has its own mind of a $ among its arguments.
        words = json.dumps([app, *command]).replace("$", "\\u0024")
        unit = f"--unit=app-{escaped(app)}-run-{os.getpid()}.{time.time_ns()}.scope"
        # Without a word systemd would show the command line, in the journal and to whoever asks.
        scope = ["systemd-run", "--quiet", "--collect", "--scope", unit, f"--slice=app-{escaped(app)}.slice"]
        scope += [f"--description={app}-run", "--"]
        os.execvp(scope[0], [*scope, os.path.abspath(__file__), "--run-there", words])
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


def hide_others():
    """Have what comes from here see its own user's processes alone: command lines of others are not an app's business.

    By a /proc of its own: systemd's services and monitoring go on to see all.

    :return: why it could not be done, as in a container that may not mount; ``None`` where it was.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    if (
        libc.unshare(CLONE_NEWNS)
        or libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None)
        or libc.mount(b"proc", b"/proc", b"proc", flags, b"hidepid=2")
    ):
        return f"sees other users' processes: {os.strerror(ctypes.get_errno())}"
    return None


def run_there(words):
    """Run a one-off command, in its scope."""
    import json

    app, *command = json.loads(words)
    # Out of reach of root's terminal: what the app starts must not be able to type into root's shell.
    hide_others()
    os.execv(TERMINAL, [TERMINAL, app, os.path.abspath(__file__), "--run", app, *command])


def default_signals():
    """Start a process as a shell would: Python ignores these signals, and an execve keeps that."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


if __name__ == "__main__":
    COMMANDS = {"--run": run, "--run-there": run_there, "--first": first, "--end": end}
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        COMMANDS[sys.argv[1]](*sys.argv[2:])
    else:
        start(*sys.argv[1:])
