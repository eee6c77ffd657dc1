"""apt's locks: who holds one, and waiting for it with a word."""

import fcntl
import os
import struct
import sys
import time

__load__ = ["holder", "missing", "together", "wait"]

# A converge makes it, after the packages.
CONVERGED = "/usr/local/lib/saltern"

FILES = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
)
# struct flock, see fcntl(2): type, whence, start, length, PID.
FLOCK = "hhqqi"
POLL = 0.5
# Seconds between two words.
TOLD = 30


def missing(lowstate):
    """List the packages that a run is to install, and that are not there.

    :param lowstate: all that the run does, in order.
    :return: names, sorted.

    CLI Example: none, it serves the state ``apt_lock.free``.
    """
    chunks = [one for one in lowstate if one["state"] == "pkg" and one["fun"] == "installed"]
    pkgs = [name for one in chunks for name in one.get("pkgs") or [one["name"]]]
    # With a version it is a mapping.
    wanted = {name if isinstance(name, str) else next(iter(name)) for name in pkgs}
    return sorted(wanted - __salt__["pkg.list_pkgs"]().keys()) if wanted else []


def together():
    """Return the arguments by which a state of packages is done in one transaction with ``base-packages``.

    Each transaction takes apt seconds for itself. On a host that was never converged there is one for all packages,
    which ``base-packages`` tells, in a dry run too.

    :return: arguments of a state: none on a host that was converged.

    CLI Example: none, it serves the states of packages.
    """
    if os.path.isdir(CONVERGED):
        return []
    return [{"aggregate": True}, *([{"unless": "true"}] if __opts__["test"] else [])]


def holder(files=FILES):
    """Find who holds one of apt's locks.

    :param files: where they are.
    :return: such as ``PID 812 (unattended-upgr) holds /var/lib/dpkg/lock-frontend``, empty where nobody does.

    CLI Example:

    .. code-block:: bash

        salt-call apt_lock.holder
    """
    for path in files:
        try:
            with open(path, "rb+") as stream:
                asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
                kind, _, _, _, pid = struct.unpack(FLOCK, fcntl.fcntl(stream, fcntl.F_GETLK, asked))
        except FileNotFoundError:
            continue
        if kind != fcntl.F_UNLCK:
            return f"PID {pid} ({_name(pid)}) holds {path}"
    return ""


def _name(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return "of another container, or gone"


def wait(limit, files=FILES):
    """Wait until nobody holds a lock of apt, and say who does.

    :param limit: seconds at most.
    :param files: where the locks are.
    :return: who held one, empty where nobody did, and who holds it still when the time is over.

    CLI Example: none, it serves the state ``apt_lock.free``.
    """
    started = time.monotonic()
    told, held = started - TOLD, ""
    while who := holder(files):
        now, held = time.monotonic(), who
        if now > started + limit:
            return held, who
        if now >= told + TOLD:
            told = now
            left = limit - (now - started)
            print(f"apt: {who}; this run waits for it, {left:.0f} s at most", file=sys.stderr, flush=True)
        time.sleep(POLL)
    return held, ""
