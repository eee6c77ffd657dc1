"""Leases of a host that alone has apps: locks of the kernel, which end with who holds them.

A lock belongs to an open file: a process that is killed gives it back, and so does a reboot. What that process has
started may go on; who takes the lease next ends that first.
"""

import contextlib
import fcntl
import math
import os
import struct
from typing import BinaryIO

from saltern.leases.base import Entry, Lease, Leases, judged
from saltern.system import files

HELD = "/run/saltern/leases"
KEPT = "/var/lib/saltern/leases"

# C's struct flock: type, from where, start, length (0: all of it) and who has it.
FLOCK = "hhqqi"


class LocalLease(Lease):
    """A lock. It has no deadline: nobody else can have it while it is held."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.deadline = stream, math.inf

    def renew(self) -> bool:
        """Do nothing: a lock lasts."""
        return not self.stream.closed

    def give_back(self) -> None:
        """Give the lock back."""
        self.stream.close()


class Local(Leases):
    """The leases and kept values of an app on a host that alone has apps."""

    def __init__(self, app: str, host: str, held: str = HELD, kept: str = KEPT) -> None:
        self.app, self.host, self.members = app, host, {}
        self.held, self.kept = f"{held}/{app}", f"{kept}/{app}"

    def take(self, name: str, ttl: int, value: str) -> Lease | None:
        """Take a lock; see ``Leases.take``."""
        path = _made(self.held, name)
        # Not "w", which would empty the file of who has the lock.
        stream = open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")  # noqa: SIM115
        try:
            fcntl.fcntl(stream, fcntl.F_OFD_SETLK, struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except BlockingIOError:
            stream.close()
            return None
        except BaseException:
            stream.close()
            raise
        stream.write(Entry(value, self.host).written().encode())
        stream.truncate()
        stream.flush()
        return LocalLease(stream)

    def read(self, name: str) -> Entry | None:
        """Return who has a lock, or a kept value; see ``Leases.read``."""
        with contextlib.suppress(FileNotFoundError), open(f"{self.held}/{judged(name)}", "r+b") as stream:
            asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            found = struct.unpack(FLOCK, fcntl.fcntl(stream, fcntl.F_OFD_GETLK, asked))[0]
            if found != fcntl.F_UNLCK:
                return Entry.parsed(stream.read().decode())
        text = files.read(f"{self.kept}/{name}")
        return None if text is None else Entry.parsed(text)

    def advance(self, name: str, before: str | None, after: str) -> bool:
        """Replace a kept value; see ``Leases.advance``."""
        path = _made(self.kept, name)
        with open(f"{path}.lock", "w", encoding="ascii") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            text = files.read(path)
            if (None if text is None else Entry.parsed(text).value) != before:
                return False
            files.write(path, Entry(after).written(), 0o600)
            return True


def _made(directory: str, name: str) -> str:
    """Return the path of a name, whose directory is there."""
    path = f"{directory}/{judged(name)}"
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    return path
