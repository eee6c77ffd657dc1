"""nginx's processes: whether they serve what is on the disk, and how they are told to."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable

from salt.exceptions import CommandExecutionError

# Seconds in which saltern-peers has nginx read what saltern-peers wrote.
PEERS_SETTLE = 10

PID_FILE = "/run/nginx.pid"
RELOAD_TIMEOUT = 30
SHUTTING_DOWN = "is shutting down"


def reload(pid_file: str = PID_FILE) -> None:
    """Reload nginx, and return once the new configuration serves.

    :param pid_file: of which nginx.
    :raises CommandExecutionError: when nginx goes on with the old configuration.
    """
    before = _workers(pid_file)
    if not before:
        return
    tell(pid_file)
    # The reload is asynchronous: new workers serve as soon as they are there, and the old ones take no more connections
    # as soon as their title says so. What passes ``nginx -t`` can still fail here, on a port that is taken.
    deadline = time.monotonic() + RELOAD_TIMEOUT
    while time.monotonic() < deadline:
        now = _workers(pid_file)
        if now.keys() - before.keys() and all(SHUTTING_DOWN in now.get(pid, SHUTTING_DOWN) for pid in before):
            return
        time.sleep(0.02)
    raise CommandExecutionError(
        f"nginx did not take the new configuration within {RELOAD_TIMEOUT} s and goes on with the old one; "
        "/var/log/nginx/error.log says why"
    )


def tell(pid_file: str = PID_FILE) -> None:
    """Reload nginx's configuration, as ``systemctl reload nginx`` does, but without another check before it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(_master(pid_file), signal.SIGHUP)


def runs() -> bool:
    """Tell whether nginx runs."""
    return bool(_workers())


def old() -> list[int]:
    """Return the PIDs of the workers from before a reload, which answer what they had accepted."""
    return [pid for pid, title in _workers().items() if SHUTTING_DOWN in title]


def is_stale(root: str, paths: Iterable[str], settle: float = PEERS_SETTLE, pid_file: str = PID_FILE) -> bool:
    """Tell whether nginx serves without what is in files: a run was interrupted after it wrote them.

    :param root: nginx's directory.
    :param paths: of files in the tree.
    :param settle: seconds in which saltern-peers is left to have nginx read what it wrote itself.
    :param pid_file: of which nginx.
    :return: a boolean.
    """
    started: list[float] = []
    for pid in _workers(pid_file):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            started.append(_started(pid))
    now = time.time()
    for path in paths:
        until = now - settle if path.startswith("peers/") else now
        with contextlib.suppress(FileNotFoundError):
            if started and max(started) < os.stat(os.path.join(root, path)).st_mtime <= until:
                return True
    return False


def _started(pid: int) -> float:
    """Return when a process started, in seconds since 1970, to two ticks of the kernel and never too early.

    psutil adds the ticks to the time of boot, which the kernel gives in whole seconds; see proc_pid_stat(5).
    """
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
        ticks = int(stream.read().rpartition(")")[2].split()[19])
    with open("/proc/uptime", encoding="ascii") as stream:
        age = float(stream.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age + 0.02


def _master(pid_file: str) -> int:
    """Return the PID of nginx's master process.

    :raises ProcessLookupError: when nginx does not run.
    """
    try:
        with open(pid_file, encoding="ascii") as stream:
            return int(stream.read())
    except (FileNotFoundError, ValueError):
        raise ProcessLookupError("nginx does not run") from None


def _workers(pid_file: str = PID_FILE) -> dict[int, str]:
    """Return the titles of nginx's worker processes by PID. Empty where nginx does not run."""
    import psutil

    found: dict[int, str] = {}
    try:
        children = psutil.Process(_master(pid_file)).children()
    except (ProcessLookupError, psutil.NoSuchProcess):
        return found
    for child in children:
        try:
            found[child.pid] = " ".join(child.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return {pid: title for pid, title in found.items() if title.startswith("nginx: worker")}
