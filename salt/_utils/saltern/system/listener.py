"""Who listens on a port of this host: any user of it may, and may answer as an app would."""

import glob
import os
import pwd
import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from saltern.system import files, sockets

# The scope of a process; see formulas/app/files/launcher/scope.py.
SCOPE = re.compile(r"/app-([^/-]+)-([^/-]+)-([0-9]+)\.v([0-9]+)\.scope$", re.MULTILINE)


def stranger(port: int, pids: Iterable[int]) -> str | None:
    """Name who listens on a port besides a process, or in its place.

    :param port: a TCP port.
    :param pids: the PIDs of the process and of what it has started.
    :return: a phrase such as ``shop v1 web.1, PID 812 (python3.11)``, or ``None`` where nobody else listens.
    """
    users = {inode: uid for listened, uid, inode in listening() if listened == port}
    others = users.keys() - held(pids)
    return named(others, users) if others else None


def ports(pids: Iterable[int]) -> list[int]:
    """List the ports on which a process listens, at any address.

    :param pids: the PIDs of the process and of what it has started.
    :return: TCP ports, sorted.
    """
    own = held(pids)
    return sorted({port for port, _, inode in listening() if inode in own})


def listening() -> list[tuple[int, int, int]]:
    """Return the port, the UID and the inode of each listening socket."""
    try:
        return [(one.port, one.uid, inode) for inode, one in sockets.diagnosed([sockets.LISTEN]).items()]
    except OSError:
        # A kernel without tcp_diag. Its tables have every connection too, and take twenty times as long.
        return [one for name in ("tcp", "tcp6") for one in tabled(_read(f"/proc/net/{name}"))]


def tabled(text: str) -> list[tuple[int, int, int]]:
    """Return the same of the text of ``/proc/net/tcp`` or ``tcp6``; see proc_pid_net(5)."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return [(int(row[1].rpartition(":")[2], 16), int(row[7]), int(row[9])) for row in rows if row[3] == "0A"]


def held(pids: Iterable[int]) -> set[int]:
    """Return the inodes of the sockets that processes have open.

    :param pids: their PIDs. Of one that has ended there is nothing.
    """
    return {inode for pid in pids for inode in sockets.opened(pid)[0]}


def named(inodes: AbstractSet[int], users: Mapping[int, int]) -> str:
    """Name who has sockets open: processes of apps as they are called, others by their user.

    :param inodes: the sockets'.
    :param users: UID by inode, for a socket that no process has open any more.
    """
    found: list[str] = []
    seen: set[int] = set()
    for pid in sorted(int(path[6:]) for path in glob.iglob("/proc/[0-9]*")):
        if own := held([pid]) & inodes - seen:
            seen |= own
            found.append(f"{_whose(pid)}, PID {pid} ({_comm(pid)})")
    found += [f"user {_user(users[inode])}" for inode in sorted(inodes - seen)]
    return " and ".join(found)


def _comm(pid: int) -> str:
    """Return what a process calls itself, in one line: it may be anything."""
    name = _read(f"/proc/{pid}/comm").removesuffix("\n")
    return "".join(char if char.isprintable() else "?" for char in name)


def _whose(pid: int) -> str:
    """Return which process of an app a PID is of, or its user."""
    if scope := SCOPE.search(_read(f"/proc/{pid}/cgroup")):
        app, kind, index, number = (part.replace("\\x2d", "-") for part in scope.groups())
        return f"{app} v{number} {kind}{f'.{index}' if index != '0' else ''}"
    try:
        return f"user {_user(os.stat(f'/proc/{pid}').st_uid)}"
    except OSError:
        return "a process that has ended"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _read(path: str) -> str:
    return files.read(path, errors="replace") or ""
