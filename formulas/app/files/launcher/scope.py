"""The control groups of processes: each is a scope of systemd."""

import _signal as signal
import os

from .ending import Process, look
from .release import DEFAULT_GRACE, record

GROUPS = "/sys/fs/cgroup"
# How many looks are taken for a process that does not end meanwhile.
LOOKS = 10


class Scope:
    """The control group of one process: the process that supervisor knows, and all that comes from it."""

    def __init__(self, app, number, process):
        kind, _, index = process.partition(".")
        # A run of a job has the type, the job's name and the run's number: clearsessions.nightly.1764454512345
        self.job, _, self.run = index.rpartition(".")
        self.app, self.number, self.kind = app, int(number), kind
        self.process, self.name = (index, self.job) if self.job else (process, process)
        self.log = 2
        self.slice = f"app-{escaped(app)}.slice"
        # systemd reads settings for all scopes of a process type by the parts between dashes: app-shop-web-.scope.d
        self.unit = f"app-{escaped(app)}-{escaped(kind)}-{escaped(index) or 0}.v{number}.scope"
        self.below = f"app.slice/{self.slice}/{self.unit}"

    @property
    def is_once(self):
        """Whether it ends with who started it, as the process type release and a run of a job do."""
        return bool(self.job) or self.kind == "release"

    @property
    def path(self):
        return f"{tree()}/{self.below}"

    def pids(self):
        """Return the PIDs in the scope: none where there is no such scope."""
        found = []
        for directory, _, _ in os.walk(self.path):
            try:
                with open(f"{directory}/cgroup.procs", encoding="ascii") as stream:
                    found += map(int, stream.read().split())
            except OSError:
                continue
        return found

    def found(self):
        """Return the processes in the scope by PID, without the one that asks.

        A process that ends during a look may have started another one: a chain of forks must not look empty. After some
        looks the last process seen counts as there.
        """
        for _ in range(LOOKS):
            looked = {pid: look(pid) for pid in self.pids() if pid != os.getpid()}
            found = {pid: process for pid, process in looked.items() if process and not process.is_dead}
            if found or None not in looked.values():
                return found
        return {pid: Process(pid, 1, "unknown") for pid, process in looked.items() if process is None}

    def grace(self):
        """Return the seconds that the release allows between SIGTERM and SIGKILL."""
        graces = record(self.app, self.number).get("grace") or {}
        return graces.get(self.kind, DEFAULT_GRACE)

    def close(self):
        """Forbid new processes in the scope: a chain of forks would outrun the signals."""
        for root in (tree(), f"{GROUPS}/pids"):
            try:
                with open(f"{root}/{self.below}/pids.max", "w", encoding="ascii") as file:
                    file.write("0")
            except OSError:
                continue

    def send(self, pid, number):
        """Send a signal to a process in the scope, but not to another one that got the PID meanwhile."""
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return
        try:
            with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as stream:
                is_within = f"/{self.below}" in stream.read()
            if is_within:
                signal.pidfd_send_signal(descriptor, number)
        except OSError:
            return
        finally:
            os.close(descriptor)

    def out_of_memory(self):
        """Return how many of the scope's processes the kernel has killed because memory was short."""
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
    """Return the directory of systemd's control groups: version 2, mixed, or version 1."""
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
