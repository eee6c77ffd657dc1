"""Apps that are no longer declared: what is left of them on the host, and the data that is kept."""

import collections
import contextlib
import grp
import os
import pwd
import shlex
import signal
import subprocess
import time

from salt.exceptions import CommandExecutionError

from saltern import kept, services
from saltern.attachments import config
from saltern.host import Host
from saltern.releases import process as processes
from saltern.releases import supervisor
from saltern.system import deletion, terminal
from saltern.system.sizes import megabytes, size_of
from saltern.web import in_flight, workers

__load__ = ["awaited", "erase", "gone", "orphans", "remove"]

ROOT = "/srv/apps"
NOWHERE = "/nonexistent"
# Locks and notes of the modules build and release.
RUN = "/run/saltern"

# What builds and releases are in an app's directory, as root.
OWN = ("current", "current.new", "hold.json", "hold.json.new", "release.log", "releases", "builds")

# Seconds for what an app has left running beside its processes, between SIGTERM and SIGKILL.
GRACE = 10

# Where what an app's user has left is no data.
PASSING = ("/tmp", "/run/lock", "/dev/shm", "/dev/mqueue")
# What waits there for its time would run it again.
WAITING = ("/var/spool/cron/crontabs", "/var/spool/cron/atjobs", "/var/spool/cron/atspool")
# Who has a file there of the user's name is started at boot, with what the user has told systemd to run.
LINGER = "/var/lib/systemd/linger"
# What stands in no directory and is a user's: by its table in /proc/sysvipc, the option of ipcrm.
SHARED = {"shm": "-m", "sem": "-s", "msg": "-q"}
# Seconds for a look at all disks.
LOOK = 120
# How many files of one directory are named one by one.
LISTED = 20
# What other hosts may have mounted too.
SHARED_DISKS = {"nfs", "nfs4", "cifs", "9p", "virtiofs"}
# Where no disk is behind a mount, but for these.
DISKS = {"tmpfs", "overlay", "zfs"} | SHARED_DISKS


def gone(apps):
    """List apps that are on the host and no longer declared.

    An app's user is removed last, so that one whose removal was interrupted is still found.

    :param apps: the apps that are declared.
    :return: names, sorted.

    CLI Example:

    .. code-block:: bash

        salt-call app.gone '[faq, tickets]'
    """
    users = {one.pw_name for one in pwd.getpwall() if one.pw_dir == f"{ROOT}/{one.pw_name}"}
    running = {app for app, _ in processes.releases()}
    return sorted((users | running) - set(apps))


def awaited(apps):
    """Return the states that must have succeeded before anything of an app that is gone is taken down.

    Another app may be to take its place, as where an app is renamed, and that one may be refused.

    :param apps: the apps that are declared.
    :return: requisites, as a state file says them. None where no app is gone.

    CLI Example: none, it serves a state file.
    """
    if not gone(apps):
        return []
    host, found = Host.of(__salt__, __pillar__, __opts__), []
    for app in sorted(apps):
        found += [{"build": f"app-build-{app}"}, *config.claims(host, app)]
    return found


def remove(apps):
    """Stop apps, each process with its grace, and remove all that is theirs but data.

    :param apps: names; nothing of them may be declared.
    :raises CommandExecutionError: when supervisor or the system does not let go of something.

    CLI Example: none, it serves the state ``app.retired``.
    """
    for app in apps:
        # nginx has no site for it any more, but may still be waiting for answers to what it had passed on.
        running = [processes.configured(app, number) for _, number in processes.releases(app)]
        servers = [f"127.0.0.1:{port}" for ports in running for port in ports.values() if port]
        if servers:
            in_flight.drain(workers.old, servers, app, what=app)
        supervisor.remove(app, [number for _, number in processes.releases(app)])
        user = _user(app)
        if user:
            _forget_jobs(user)
            _end(user.pw_uid)
            _sweep(user.pw_uid)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"/usr/local/bin/{app}-run")
        for left in (f"{app}.lock", f"{app}.build", f"migrated-{app}"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{RUN}/{left}")
        _clear(f"{ROOT}/{app}", user.pw_uid if user else None)
        if user:
            _let_go(user)


def _clear(directory, uid):
    """Remove what the app's releases are, and what its user has left in its TMPDIR.

    What is neither stays, for root alone: what an operator has put beside it, what is mounted there, and the files of
    other users.
    """
    said = deletion.delete([f"{directory}/{name}" for name in OWN], {0} | ({uid} - {None}))
    if uid is not None:
        said = deletion.delete([f"{directory}/tmp"], {uid}) or said
    if said:
        raise CommandExecutionError(f"{directory}: cannot be removed: {terminal.escaped(said)}")
    with contextlib.suppress(FileNotFoundError):
        # What an operator had put in the place of `current`; see the package's module staging.
        with contextlib.suppress(OSError):
            os.rmdir(f"{directory}/current.found")
        if os.listdir(directory):
            os.chown(directory, 0, 0)
            os.chmod(directory, 0o700)
        else:
            os.rmdir(directory)


def _user(app):
    """Return an app's user, or ``None``. Somebody else's of the same name is none."""
    try:
        user = pwd.getpwnam(app)
    except KeyError:
        return None
    return user if user.pw_dir == f"{ROOT}/{app}" else None


def _forget_jobs(user):
    """Have nothing start a process of a user any more: no clock, and no boot."""
    deletion.delete(WAITING, {user.pw_uid}, inside=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{LINGER}/{user.pw_name}")
        # With it goes what it has below /run/user.
        subprocess.run(["systemctl", "stop", f"user@{user.pw_uid}.service"], capture_output=True, check=False)


def _end(uid):
    """End the processes of a user that supervisor does not know: an operator's command, what a worker left behind."""
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


def _kill(uid):
    """Kill all processes of a user at one moment: what forks without end would outrun one signal after the other."""
    child = os.fork()
    if not child:
        try:
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _processes(uid):
    import psutil

    return [process for process in psutil.process_iter() if _is_of(process, uid)]


def _is_of(process, uid):
    import psutil

    try:
        return process.uids().real == uid and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _sweep(uid):
    """Remove a user's files from the directories that all users share, but /var/tmp, where they may be data.

    A directory in which another user has a file stays, and with it the user: see ``_let_go``.
    """
    deletion.delete(PASSING, {uid}, inside=True)
    for table, option in SHARED.items():
        for number in _shared(table, uid):
            subprocess.run(["ipcrm", option, number], capture_output=True, check=False)


def _shared(table, uid):
    """Return the numbers of what a user has in a table of ``/proc/sysvipc``; see proc_sysvipc(5)."""
    try:
        with open(f"/proc/sysvipc/{table}", encoding="ascii") as stream:
            head, *rows = [line.split() for line in stream]
    except (OSError, ValueError):
        # A kernel without it.
        return []
    owner = head.index("uid")
    return [row[1] for row in rows if row[owner] == str(uid)]


def _let_go(user):
    """Remove a user that has no file any more. One that has is kept, since another app could be given its id."""
    app = user.pw_name
    with contextlib.suppress(OSError):
        os.rmdir(f"{ROOT}/{app}/home")
        os.rmdir(f"{ROOT}/{app}")
    paths = _files(user.pw_uid, user.pw_gid)
    if paths == []:
        _delete(user)
        kept.forget("app", app)
        return
    kept.note("app", app, app, uid=user.pw_uid, paths=paths)
    # Another home is the mark of a user that is no app's any more.
    done = __salt__["cmd.run_all"](["usermod", "--lock", "--home", NOWHERE, app], python_shell=False)
    if done["retcode"]:
        raise CommandExecutionError(f"{app}: its user cannot be locked: {done['stderr']}")


def _files(uid, gid, seconds=LOOK):
    """List what a user and its group have on the host's disks, the topmost of each.

    :param seconds: how long this may take.
    :return: paths, sorted; ``None`` where the disks are too large to look at.
    """
    with open("/proc/filesystems", encoding="ascii") as stream:
        others = {line.split()[1] for line in stream if line.startswith("nodev")} - DISKS
    places = sorted(place for place, kind in deletion.mounts().items() if kind not in others)
    command = ["find", *places, "-xdev", "(", "-uid", str(uid), "-o", "-gid", str(gid), ")", "-print0", "-prune"]
    try:
        # What it may not look into, or is gone when it gets there, it says and goes on.
        done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return None
    return sorted({os.fsdecode(path) for path in done.stdout.split(b"\0") if path})


def _delete(user):
    name = user.pw_name
    if not __salt__["user.delete"](name):
        raise CommandExecutionError(f"{name}: its user cannot be removed; see what it still runs: ps -u {name}")
    # userdel removes it, unless login.defs says otherwise.
    with contextlib.suppress(KeyError):
        if grp.getgrnam(name).gr_gid == user.pw_gid:
            __salt__["group.delete"](name)


def orphans():
    """List the data that is kept of apps and attachments that are no longer declared.

    :return: a mapping of ``comment`` and ``kept``: by kind and name, such as ``postgres:tickets``, the ``app`` that it
        was of, its ``size``, ``since`` when it is kept, and the command that ``remove``s it for good.
    :raises CommandExecutionError: when the pillar has a mistake, or a service cannot be asked.

    CLI Example:

    .. code-block:: bash

        salt-call app.orphans
    """
    host, found = Host.of(__salt__, __pillar__, __opts__), {}
    for service in services.resources():
        found |= {f"{service.kind}:{name}": what for name, what in service.kept(host).items()}
    found |= _homes()
    if not found:
        return {"comment": "No data of an app or an attachment that is gone is kept on this host", "kept": {}}
    # Names and comments in a database are its owner's.
    found = terminal.shown(found)
    return {"comment": "Attach it again, and it is there as it was; or remove it for good", "kept": found}


def _homes():
    """List the files of apps that are gone, and the users that are kept as long as these are there."""
    found = {}
    for app, noted in kept.listed("app").items():
        user = _kept_user(app, noted)
        if user is None:
            continue
        paths = _files(user.pw_uid, user.pw_gid)
        looked = paths is not None
        paths = [path for path in (paths if looked else noted["paths"] or []) if os.path.lexists(path)]
        # What an app called its files must not command the terminal of who reads this, nor fill it.
        beside = collections.Counter(map(os.path.dirname, paths))
        many = {directory for directory, count in beside.items() if count > LISTED}
        shown = [path for path in paths if os.path.dirname(path) not in many]
        shown = [path if path.isprintable() else ascii(path)[1:-1] for path in shown]
        shown += [f"{directory}/: {beside[directory]} files and directories" for directory in sorted(many)]
        found[f"files:{app}"] = {
            "app": app,
            "size": megabytes(sum(map(size_of, paths))),
            "since": noted["since"],
            "paths": shown if looked else [*shown, f"and maybe others, see find / -uid {user.pw_uid}"],
            "remove": shlex.join(["salt-call", "app.erase", app]),
        }
    return found


def _kept_user(app, noted):
    """Return the user that is kept of an app that is gone; ``None`` where the app is there again, and what it had."""
    with contextlib.suppress(KeyError):
        user = pwd.getpwnam(app)
        if user.pw_dir == NOWHERE and user.pw_uid == noted.get("uid"):
            return user
    return None


def erase(app):
    """Remove for good the files that are kept of an app that is gone, and then its user.

    What other users have in its directories stays: those are root's from then on, and root's alone.

    :param app: the app's name.
    :return: what was done.
    :raises CommandExecutionError: when nothing is kept of such an app, or not all of it may be removed from here.

    CLI Example:

    .. code-block:: bash

        salt-call app.erase shop
    """
    user = _kept_user(app, kept.of("app", app))
    if user is None:
        raise CommandExecutionError(
            f"{terminal.escaped(app)}: no files are kept of an app of this name that is gone; "
            "salt-call app.orphans lists what is kept"
        )
    paths = _files(user.pw_uid, user.pw_gid, None)
    if elsewhere := _of_others(paths):
        raise CommandExecutionError(
            f"{app}: other hosts may have files on {', '.join(elsewhere)} too; expected none of it there. Remove there "
            f"what is of user {user.pw_uid} or group {user.pw_gid}, or unmount it, and run this again"
        )
    mounted = deletion.mounts()
    said = deletion.delete([path for path in paths if path not in mounted], {user.pw_uid})
    said = deletion.delete([path for path in paths if path in mounted], {user.pw_uid}, inside=True) or said
    left = _files(user.pw_uid, user.pw_gid, None)
    _disown(left, user)
    if still := _files(user.pw_uid, user.pw_gid, None):
        shown = ", ".join(still[:LISTED])
        raise CommandExecutionError(terminal.escaped(f"{app}: {shown}: cannot be removed: {said}"))
    # An operator may have put something there.
    with contextlib.suppress(OSError):
        os.rmdir(f"{ROOT}/{app}")
    _delete(user)
    kept.forget("app", app)
    stays = f"; what others have there stays, for root alone: {', '.join(left[:LISTED])}" if left else ""
    return terminal.escaped(f"{app}: its files and its user are removed{stays}")


def _of_others(paths):
    """Name where something is mounted that other hosts may have mounted too, of these paths."""
    shared = sorted(place for place, kind in deletion.mounts().items() if kind in SHARED_DISKS)
    return [place for place in shared if any(f"{path}/".startswith(f"{place.rstrip('/')}/") for path in paths)]


def _disown(paths, user):
    """Give root what is left of a user and its group: directories in which others have something, and others' files.

    By descriptors: in directories of theirs, others may put a link in the place of anything.

    :param paths: the topmost of each.
    """
    mounted = deletion.mounts()
    for path in paths:
        if not os.path.isdir(path) or os.path.islink(path):
            _disown_file(path, user)
            continue
        for directory, names, files, here in os.fwalk(path):
            names[:] = [name for name in names if os.path.join(directory, name) not in mounted]
            status = os.fstat(here)
            if status.st_uid == user.pw_uid:
                os.fchown(here, 0, 0)
                os.fchmod(here, 0o700)
            elif status.st_gid == user.pw_gid:
                os.fchown(here, -1, 0)
            for name in files:
                _disown_file(name, user, here)


def _disown_file(path, user, directory=None):
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path, dir_fd=directory, follow_symlinks=False).st_gid == user.pw_gid:
            os.chown(path, -1, 0, dir_fd=directory, follow_symlinks=False)
