"""Commands inside a running host, without the third of a second that ``podman exec`` takes for each.

A command gets the same surroundings as with ``podman exec``. They are read from one process that podman has started.
"""

import contextlib
import dataclasses
import os
import re
import resource
import selectors
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lab import machine
from lab.podman import LabError, command, reason

PROC = Path("/proc")
# The kinds of namespaces, and nsenter's option for each.
NAMESPACES = {
    "mnt": "mount",
    "uts": "uts",
    "ipc": "ipc",
    "net": "net",
    "pid": "pid",
    "cgroup": "cgroup",
    "user": "user",
    "time": "time",
}
# The limits of a process, by prlimit's options.
LIMITS = {
    "as": resource.RLIMIT_AS,
    "core": resource.RLIMIT_CORE,
    "cpu": resource.RLIMIT_CPU,
    "data": resource.RLIMIT_DATA,
    "fsize": resource.RLIMIT_FSIZE,
    "memlock": resource.RLIMIT_MEMLOCK,
    "msgqueue": resource.RLIMIT_MSGQUEUE,
    "nice": resource.RLIMIT_NICE,
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "rss": resource.RLIMIT_RSS,
    "rtprio": resource.RLIMIT_RTPRIO,
    "sigpending": resource.RLIMIT_SIGPENDING,
    "stack": resource.RLIMIT_STACK,
}
# Joins the control groups named before --, and becomes the command after it. PWD is removed, since dash sets it.
ENTER = 'umask "$1"; shift; while [ "$1" != -- ]; do echo 0 >"$1" || exit 125; shift; done; shift; unset PWD; exec "$@"'
# Prints its process id and its pid namespace, and waits until its standard input ends.
PATTERN = "echo $$; readlink /proc/$$/ns/pid; read _ || :"


@dataclasses.dataclass(frozen=True)
class Entry:
    """How to enter one container, as long as its first process lives.

    :param init: a descriptor of the first process's directory in /proc. It never leads to a later process of the same
        number, and once the process has ended it leads nowhere.
    :param namespaces: the namespaces to enter.
    :param environment: the environment of a command there.
    :param limits: prlimit's options for the limits that are not this process's own.
    :param groups: the control groups' files to join.
    :param umask: the mask of new files' modes, octal.
    """

    init: int
    namespaces: tuple[str, ...]
    environment: Mapping[str, str]
    limits: tuple[str, ...]
    groups: tuple[str, ...]
    umask: str

    @property
    def open(self) -> bool:
        """Whether the container still runs."""
        # A process that has ended and was not waited for has no namespaces either.
        try:
            os.stat("ns/mnt", dir_fd=self.init)
        except OSError:
            return False
        return True

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs ``argv`` there, with the environment that it is started with."""
        here = f"/proc/{os.getpid()}/fd/{self.init}/ns"
        enter = [f"--{NAMESPACES[kind]}={here}/{kind}" for kind in self.namespaces]
        return [
            *("/bin/sh", "-c", ENTER, "enter", self.umask, *self.groups, "--"),
            *(program("env"), "--default-signal", program("prlimit"), *self.limits),
            # A session of its own: otherwise the command would belong to a process group that is invisible in the
            # container.
            *(program("nsenter"), *enter, "--", "/usr/bin/setsid", *argv),
        ]


# The known entries, by the container's name.
known: dict[str, Entry] = {}
lock = threading.Lock()


def run(
    container: str, argv: Sequence[str], env: Mapping[str, str] | None = None, input: bytes | None = None
) -> subprocess.CompletedProcess:
    """Run a command in a container and return its completed process, output as bytes.

    As with ``podman exec`` it is over when the command has ended, whatever it leaves running, and its exit code is
    128 more than the signal that ended it.

    :param container: the container's name.
    :param argv: the command and its arguments.
    :param env: variables to add to its environment. They are never part of a command line, which everybody can read.
    :param input: what it reads from standard input.
    :raises LabError: when the container does not run.
    """
    entry = way_into(container)
    with subprocess.Popen(
        entry.command(argv),
        env={**entry.environment, **(env or {})},
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
    ) as process:
        try:
            output, errors = talk(process, input)
        except BaseException:
            process.kill()
            raise
    code = process.returncode
    return subprocess.CompletedProcess(argv, 128 - code if code < 0 else code, output, errors)


def talk(process: subprocess.Popen, input: bytes | None) -> tuple[bytes, bytes]:
    """Give a process its input; return the output and the errors that it has written by its end."""
    said = {process.stdout: bytearray(), process.stderr: bytearray()}
    left = memoryview(input or b"")
    with selectors.DefaultSelector() as waiting, ended(process) as end:
        waiting.register(end, selectors.EVENT_READ)
        for stream in said:
            os.set_blocking(stream.fileno(), False)
            waiting.register(stream, selectors.EVENT_READ)
        if process.stdin:
            os.set_blocking(process.stdin.fileno(), False)
            waiting.register(process.stdin, selectors.EVENT_WRITE)
        over = False
        while not over:
            ready = [key.fileobj for key, _ in waiting.select()]
            # Everything that it wrote before its end can be read by now.
            over = end in ready
            for stream in said if over else said.keys() & ready:
                if not drain(stream, said[stream]) and stream in waiting.get_map():
                    waiting.unregister(stream)
            if process.stdin in ready:
                with contextlib.suppress(BrokenPipeError):
                    left = left[os.write(process.stdin.fileno(), left) if left else 0 :]
                    if left:
                        continue
                waiting.unregister(process.stdin)
                process.stdin.close()
    return bytes(said[process.stdout]), bytes(said[process.stderr])


@contextlib.contextmanager
def ended(process: subprocess.Popen) -> Iterator[int]:
    """Open a descriptor that can be read once a process has ended."""
    descriptor = os.pidfd_open(process.pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def drain(stream, into: bytearray) -> bool:
    """Read what a stream holds now; return whether more may come."""
    try:
        while chunk := os.read(stream.fileno(), 1 << 16):
            into += chunk
    except BlockingIOError:
        return True
    return False


def way_into(container: str) -> Entry:
    """Return the entry of a running container. It is looked up again after each start of the container.

    :raises LabError: when it does not run.
    """
    with lock:
        entry = known.get(container)
        if entry and entry.open:
            return entry
        if entry:
            os.close(known.pop(container).init)
        known[container] = look(container)
        return known[container]


def look(container: str) -> Entry:
    """Have podman start a process in a container; return an entry with that process's surroundings.

    :raises LabError: when the container does not run, or its first process is not found.
    """
    with subprocess.Popen(
        [*command(), "exec", "-i", container, "/bin/sh", "-c", PATTERN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        number, namespace = process.stdout.readline().strip(), process.stdout.readline().strip()
        if not namespace:
            said = process.communicate()
            raise LabError(f"{container}: {reason(subprocess.CompletedProcess([], process.returncode, *said))}")
        try:
            return entry_like(find(namespace, number), find(namespace, "1"))
        except (OSError, StopIteration):
            raise LabError(f"{container}: it ended meanwhile; expected it to run") from None
        finally:
            process.stdin.close()
            process.wait()


def find(namespace: str, number: str) -> int:
    """Return the id on this machine of a process in another namespace of process ids.

    :param namespace: the namespace, as ``/proc/PID/ns/pid`` names it.
    :param number: the process's id there.
    :raises StopIteration: when there is none.
    """
    for directory in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(directory / "ns/pid") == namespace:
                ids = re.search(r"^NSpid:.*\t(\d+)$", (directory / "status").read_text(), re.MULTILINE)
                if ids[1] == number:
                    return int(directory.name)
    raise StopIteration


def entry_like(pattern: int, init: int) -> Entry:
    """Return an entry with the surroundings of a process.

    :param pattern: the id of a process in a container.
    :param init: the id of the container's first process.
    :raises LabError: when the two are not in the same namespaces, or these are this machine's own.
    """
    descriptor = os.open(PROC / str(init), os.O_RDONLY | os.O_DIRECTORY)
    try:
        theirs = {kind: os.readlink(PROC / f"{pattern}/ns/{kind}") for kind in NAMESPACES}
        if theirs != {kind: os.readlink(f"ns/{kind}", dir_fd=descriptor) for kind in NAMESPACES}:
            raise LabError(f"process {init}: expected the namespaces of a container's first process")
        namespaces = tuple(kind for kind in NAMESPACES if theirs[kind] != os.readlink(PROC / f"self/ns/{kind}"))
        if not {"mnt", "pid"} <= set(namespaces):
            raise LabError(f"process {init}: expected a container's, found this machine's own")
        environment = (PROC / str(pattern) / "environ").read_bytes().decode("utf-8", "surrogateescape")
        limits = {option: resource.prlimit(pattern, limit) for option, limit in LIMITS.items()}
        # Every second time runc 1.1 raises the soft limit to the hard one: opencontainers/runc#4195.
        limits["nofile"] = machine.open_files_below(limits["nofile"][1])
        umask = re.search(r"^Umask:\s*(\d+)$", (PROC / str(pattern) / "status").read_text(), re.MULTILINE)
        return Entry(
            init=descriptor,
            namespaces=namespaces,
            environment=dict(item.split("=", 1) for item in environment.split("\0") if item),
            limits=tuple(
                f"--{option}={':'.join('unlimited' if each == resource.RLIM_INFINITY else str(each) for each in pair)}"
                for option, pair in limits.items()
                if pair != resource.getrlimit(LIMITS[option])
            ),
            groups=tuple(groups((PROC / str(pattern) / "cgroup").read_text(), (PROC / "self/mountinfo").read_text())),
            umask=umask[1],
        )
    except BaseException:
        os.close(descriptor)
        raise


def groups(text: str, mounts: str) -> list[str]:
    """Return the files to write to in order to join a process's control groups.

    :param text: the process's ``/proc/PID/cgroup``.
    :param mounts: this machine's ``/proc/self/mountinfo``. Groups that are not mounted are left out.
    """
    there = {}
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            root, point = fields.split()[3:5]
            there[frozenset(options.split(",")) if kind == "cgroup" else None] = (root, point)
    found = []
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        wanted = set(controllers.split(",")) if controllers else None
        for options, (root, point) in there.items():
            if wanted == options if wanted is None or options is None else wanted <= options:
                relative = os.path.relpath(path, root)
                found.append(os.path.normpath(f"{point}/{relative}/cgroup.procs"))
    return found


def program(name: str) -> str:
    """Return the path of a program of this machine, since a command runs with the host's PATH.

    :raises LabError: when it is not there.
    """
    path = shutil.which(name)
    if not path:
        raise LabError(f"{name} is not installed; run make setup")
    return path
