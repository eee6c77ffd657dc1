"""The system user of an app: what of it runs, which files it has, and how it goes."""

import contextlib
import grp
import os
import pwd
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from salt.exceptions import CommandExecutionError

from saltern import services
from saltern.host import Host
from saltern.system import deletion

if TYPE_CHECKING:
    import psutil

ROOT = "/srv/apps"

# Seconds between SIGTERM and SIGKILL, for what an app has left running beside its processes.
GRACE = 10

# A file that an app's user has left in these directories is no data.
PASSING = ("/tmp", "/run/lock", "/dev/shm", "/dev/mqueue")
# A job that waits there for its time would run the app again.
WAITING = ("/var/spool/cron/crontabs", "/var/spool/cron/atjobs", "/var/spool/cron/atspool")
# At boot systemd starts what a user told it to run, where the user's name is a file of this directory.
LINGER = "/var/lib/systemd/linger"
# Shared memory, semaphores and queues are in no directory. By their table in /proc/sysvipc, the option of ipcrm.
SHARED = {"shm": "-m", "sem": "-s", "msg": "-q"}
# Seconds for a look at all disks.
LOOK = 120
# File systems that other hosts may have mounted too.
SHARED_DISKS = {"nfs", "nfs4", "cifs", "9p", "virtiofs"}
# File systems that the kernel lists without a device, though a disk or memory with files is behind them.
DISKS = {"tmpfs", "overlay", "zfs"} | SHARED_DISKS


def of(app: str) -> pwd.struct_passwd | None:
    """Return an app's user, or ``None``. A user of the same name with another home is no app's.

    :param app: the app's name.
    """
    try:
        user = pwd.getpwnam(app)
    except KeyError:
        return None
    return user if user.pw_dir == f"{ROOT}/{app}" else None


def forget_jobs(user: pwd.struct_passwd) -> None:
    """Have nothing start a process of a user any more: no clock, and no boot."""
    deletion.delete(WAITING, {user.pw_uid}, inside=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{LINGER}/{user.pw_name}")
        # The unit removes what the user has below /run/user.
        subprocess.run(["systemctl", "stop", f"user@{user.pw_uid}.service"], capture_output=True, check=False)


def end(uid: int) -> None:
    """End the processes of a user that supervisor does not know, such as an operator's command.

    :param uid: the user's id.
    """
    import psutil

    left = _processes(uid)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(left, timeout=GRACE)
    # Sent even when no process was found: a chain of processes that fork and end can hide from a look at each in turn.
    _kill(uid)
    deadline = time.monotonic() + GRACE
    while (left := _processes(uid)) and time.monotonic() < deadline:
        _kill(uid)
        psutil.wait_procs(left, timeout=1)


def _kill(uid: int) -> None:
    """Kill all processes of a user at one moment. A process that forks without end outruns one signal after another."""
    child = os.fork()
    if not child:
        try:
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _processes(uid: int) -> "list[psutil.Process]":
    import psutil

    return [process for process in psutil.process_iter() if _is_of(process, uid)]


def _is_of(process: "psutil.Process", uid: int) -> bool:
    import psutil

    try:
        return bool(process.uids().real == uid) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def sweep(uid: int) -> None:
    """Remove a user's files from the directories that all users share. In /var/tmp they stay, since they may be data.

    A directory in which another user has a file stays, and so does the user then: see ``removal.let_go``.

    :param uid: the user's id.
    """
    deletion.delete(PASSING, {uid}, inside=True)
    for table, option in SHARED.items():
        for number in shared(table, uid):
            subprocess.run(["ipcrm", option, number], capture_output=True, check=False)


def shared(table: str, uid: int) -> list[str]:
    """Return the numbers of what a user has in a table of ``/proc/sysvipc``; see proc_sysvipc(5).

    :param table: ``shm``, ``sem`` or ``msg``.
    :param uid: the user's id.
    """
    try:
        with open(f"/proc/sysvipc/{table}", encoding="ascii") as stream:
            head, *rows = [line.split() for line in stream]
    except (OSError, ValueError):
        # The kernel has no such table.
        return []
    owner = head.index("uid")
    return [row[1] for row in rows if row[owner] == str(uid)]


def files(uid: int, gid: int, seconds: int | None = LOOK) -> list[str] | None:
    """List what a user and its group have on the host's disks. Of a directory and what it holds, the directory alone.

    What a service guards is left out: it is data of what the app attaches, and nobody gets it with the user's id.

    :param uid: the user's id.
    :param gid: the group's id.
    :param seconds: how long this may take; ``None`` for as long as it takes.
    :return: paths, sorted; ``None`` where it would take longer.
    """
    with open("/proc/filesystems", encoding="ascii") as stream:
        others = {line.split()[1] for line in stream if line.startswith("nodev")} - DISKS
    places = sorted(place for place, kind in deletion.mounts().items() if kind not in others)
    guarded = [path for service in services.resources() for path in service.guarded]
    command = ["find", *places, "-xdev"]
    for path in guarded:
        command += ["(", "-path", path, "-o", "-path", f"{path}/*", ")", "-prune", "-o"]
    command += ["(", "-uid", str(uid), "-o", "-gid", str(gid), ")", "-print0", "-prune"]
    try:
        # find goes on where it may not look into a directory, or a file is gone when find gets there.
        done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return None
    return sorted({os.fsdecode(path) for path in done.stdout.split(b"\0") if path})


def delete(host: Host, user: pwd.struct_passwd) -> None:
    """Remove a user and its group.

    :param host: the host.
    :param user: the user.
    :raises CommandExecutionError: when a process of the user still runs.
    """
    name = user.pw_name
    if not host.ask("user.delete", name):
        raise CommandExecutionError(f"{name}: its user cannot be removed; see what it still runs: ps -u {name}")
    # userdel removes it, unless login.defs says otherwise.
    with contextlib.suppress(KeyError):
        if grp.getgrnam(name).gr_gid == user.pw_gid:
            host.ask("group.delete", name)
