"""The end of a scope's processes: which of them get SIGTERM, and SIGKILL for the rest."""

import _signal as signal
import os
import time

from .log import say

# Seconds between two looks at the processes that are left.
POLL = 0.05
# Seconds that a process has to end by itself, once its parent or the writer of its pipe has ended.
SETTLE = 1
# Seconds in which a killed process has ended, also on a busy machine, unless the kernel waits for a disk.
KILLED = 10
# The kernel's letter for a process that was sent SIGSTOP.
STOPPED = "T"
SHELLS = {"sh", "dash", "bash", "rbash", "ash", "busybox", "ksh", "ksh93", "mksh", "yash", "zsh", "fish", "posh"}
NULL = "/dev/null"
# How many processes a line of the log names.
LISTED = 5


class Process:
    """A process, as the kernel describes it."""

    def __init__(self, pid, parent, name, caught=0, stdin="", outputs=(), is_root=False, state="S"):
        self.pid, self.parent, self.name, self.caught = pid, parent, name, caught
        self.stdin, self.outputs, self.is_root, self.state = stdin, outputs, is_root, state
        self.is_dead = False

    @property
    def is_shell(self):
        return self.name in SHELLS

    def catches(self, number):
        return bool(self.caught >> (number - 1) & 1)


def look(pid):
    """Return a process as it is now, ``None`` where there is none."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as stream:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)
        state, threads = status["State"][0], int(status.get("Threads", "1"))
        name = os.path.basename(link(f"/proc/{pid}/exe")).removesuffix(" (deleted)") or status["Name"]
        parent, caught = int(status["PPid"]), int(status["SigCgt"], 16)
        links = [link(f"/proc/{pid}/fd/{descriptor}") for descriptor in (0, 1, 2)]
        process = Process(pid, parent, name, caught, links[0], links[1:], status["Uid"].split()[1] == "0", state)
        # Where only the first thread has ended, the other threads go on, and the kernel no longer tells the program's
        # name.
        process.is_dead = state in "ZX" and threads < 2
        return process
    except (OSError, KeyError):
        return None


def link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


def heads(found):
    """Find whom a signal is for: the programs that a line's shells have started, and these shells.

    A program ends its own children: the children of a pool would drop their work if they got SIGTERM beside their
    parent. A shell with a trap decides for its background jobs, and runs the trap once its foreground job has ended. A
    process that reads from a pipe reads until the pipe's writers have ended.

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
    """The end of a scope's processes: SIGTERM once, and SIGKILL to those that the grace was too short for.

    :param scope: the scope.
    """

    def __init__(self, scope):
        self.scope, self.grace = scope, scope.grace()
        self.deadline = time.monotonic() + self.grace
        self.told, self.continued = set(), set()
        self.since, self.is_late, self.is_stuck = None, False, False

    def step(self):
        """Do the next step, and tell whether the end is reached: nothing is left, or only what the kernel cannot
        end."""
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
                self.scope.send(pid, signal.SIGKILL)
            if now >= self.deadline + KILLED:
                self.is_stuck = True
                say(self.scope, f"has not ended {KILLED} s after SIGKILL, since the kernel holds it: {listed(found)}")
            return self.is_stuck
        # Where the launcher is still there, it ends the rest.
        launchers = [process for process in found.values() if process.is_root]
        shells, programs = ([], launchers) if launchers else heads(found)
        due = [process.pid for process in [*shells, *programs]]
        is_first = self.since is None
        self.since = {pid: (self.since or {}).get(pid, now) for pid in due}
        for pid in due:
            if pid not in self.told and (is_first or now - self.since[pid] >= SETTLE):
                self.told.add(pid)
                self.scope.send(pid, signal.SIGTERM)
        # A stopped process hears no signal, and its parent waits for it.
        for pid in [pid for pid, process in found.items() if process.state == STOPPED and pid not in self.continued]:
            self.continued.add(pid)
            self.scope.send(pid, signal.SIGCONT)
        return False


def listed(found):
    """Name processes by PID and program, for a line of the log."""
    names = [f"{process.name} (PID {pid})" for pid, process in sorted(found.items())]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def finish(endings):
    """Wait until nothing is left of scopes; each has its grace at the same time.

    :param endings: one for each scope.
    """
    while endings := [ending for ending in endings if not ending.step()]:
        time.sleep(POLL)
