"""Apps that are no longer declared: what is left of them on the host, and the data that is kept."""

import collections
import contextlib
import glob
import grp
import os
import pwd
import re
import shlex
import subprocess

from salt.exceptions import CommandExecutionError

__load__ = ["awaited", "gone", "orphans", "remove"]

ROOT = "/srv/apps"
NOWHERE = "/nonexistent"
REDIS = "/var/lib/redis"
# Locks and notes of the modules build and release.
RUN = "/run/saltern"

# In a session of its own: what else that user runs may meddle with it, and root's terminal must not be its.
AS_POSTGRES = "setsid --wait runuser -u postgres --"

# What the modules build and release_store make in an app's directory.
OWN = ("current", "current.new", "current.found", "hold.json", "hold.json.new", "release.log", "releases", "builds")
OWN += ("tmp",)

# Seconds for what an app has left running beside its processes, between SIGTERM and SIGKILL.
GRACE = 10

# Where what an app's user has left is no data. What waits for its time in the last three would run it again.
PASSING = ("/tmp", "/dev/shm", "/dev/mqueue")
PASSING += ("/var/spool/cron/crontabs", "/var/spool/cron/atjobs", "/var/spool/cron/atspool")
# What stands in no directory and is a user's: by its table in /proc/sysvipc, the option of ipcrm.
SHARED = {"shm": "-m", "sem": "-s", "msg": "-q"}
# Seconds for a look at all disks.
LOOK = 120
# How many files of one directory are named one by one.
LISTED = 20
# Where no disk is behind a mount, but for these.
DISKS = {"tmpfs", "overlay", "zfs", "nfs", "nfs4", "cifs", "9p", "virtiofs"}


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
    running = {app for app, _ in __salt__["process.releases"]()}
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
    roles, found = __pillar__["hosts"][__opts__["id"]]["roles"], []
    for app in sorted(apps):
        targets = [one for one in __pillar__["app"][app]["attach"].values() if "url" not in one]
        found.append({"build": f"app-build-{app}"})
        if "database" in roles:
            found += [
                {"postgres_attachment": f"postgres-attachment-{one['postgres']}"}
                for one in targets
                if "postgres" in one
            ]
        if "cache" in roles:
            found += [{"redis_instance": f"redis-data-{one['redis']}"} for one in targets if "redis" in one]
    return found


def remove(apps):
    """Stop apps, each process with its grace, and remove all that is theirs but data.

    :param apps: names; nothing of them may be declared.
    :raises CommandExecutionError: when supervisor or the system does not let go of something.

    CLI Example: none, it serves the state ``app.retired``.
    """
    for app in apps:
        # nginx has no site for it any more, but may still be waiting for answers to what it had passed on.
        running = [__salt__["process.configured"](app, number) for _, number in __salt__["process.releases"](app)]
        servers = [f"127.0.0.1:{port}" for ports in running for port in ports.values() if port]
        if servers:
            __salt__["in_flight.drain"](servers, app, what=app)
        __salt__["process.remove"](app, [number for _, number in __salt__["process.releases"](app)])
        user = _user(app)
        if user:
            _end(user.pw_uid)
            _sweep(user.pw_uid)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"/usr/local/bin/{app}-run")
        for left in (f"{app}.lock", f"{app}.build", f"migrated-{app}"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{RUN}/{left}")
        _clear(f"{ROOT}/{app}")
        if user:
            _let_go(user)


def _clear(directory):
    """Remove what the app's releases are. What somebody else has put beside them stays, for root alone."""
    for name in OWN:
        path = os.path.join(directory, name)
        if os.path.isdir(path) and not os.path.islink(path):
            # An app's directories may be nested deeper than Python can follow.
            command = ["rm", "-rf", "--one-file-system", path]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode:
                said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
                raise CommandExecutionError(f"{path}: cannot be removed: {__salt__['journal.escaped'](said)}")
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    with contextlib.suppress(FileNotFoundError):
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


def _end(uid):
    """End the processes of a user that supervisor does not know: an operator's command, what a worker left behind."""
    import psutil

    left = [process for process in psutil.process_iter() if _is_of(process, uid)]
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(process)
        _, left = psutil.wait_procs(left, timeout=GRACE)


def _is_of(process, uid):
    import psutil

    try:
        return process.uids().real == uid
    except psutil.NoSuchProcess:
        return False


def _sweep(uid):
    """Remove a user's files from the directories that all users share, but /var/tmp, where they may be data.

    A directory in which another user has a file stays, and with it the user: see ``_let_go``.
    """
    directories = [directory for directory in PASSING if os.path.isdir(directory)]
    command = ["find", *directories, "-xdev", "-uid", str(uid), "-delete"]
    subprocess.run(command, capture_output=True, check=False)
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
    paths = _files(user.pw_uid)
    if paths == []:
        _delete(user)
        __salt__["kept.forget"]("app", app)
        return
    __salt__["kept.note"]("app", app, app, uid=user.pw_uid, paths=paths)
    # Another home is the mark of a user that is no app's any more.
    done = __salt__["cmd.run_all"](["usermod", "--lock", "--home", NOWHERE, app], python_shell=False)
    if done["retcode"]:
        raise CommandExecutionError(f"{app}: its user cannot be locked: {done['stderr']}")


def _files(uid):
    """List what a user has on the host's disks, the topmost of each; ``None`` where they are too large to look at."""
    with open("/proc/filesystems", encoding="ascii") as stream:
        others = {line.split()[1] for line in stream if line.startswith("nodev")} - DISKS
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as stream:
        mounts = [line.split()[1:3] for line in stream]
    places = sorted({re.sub(r"\\([0-7]{3})", _octal, place) for place, kind in mounts if kind not in others})
    command = ["find", *places, "-xdev", "-uid", str(uid), "-print0", "-prune"]
    try:
        # What it may not look into, or is gone when it gets there, it says and goes on.
        done = subprocess.run(command, capture_output=True, timeout=LOOK, check=False)
    except subprocess.TimeoutExpired:
        return None
    return sorted({os.fsdecode(path) for path in done.stdout.split(b"\0") if path})


def _octal(match):
    return chr(int(match[1], 8))


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
    :raises CommandExecutionError: when the pillar has a mistake, or PostgreSQL cannot be asked.

    CLI Example:

    .. code-block:: bash

        salt-call app.orphans
    """
    attached = __salt__["settings.load"]("postgres")["databases"]
    # One that another app attaches is refused to it, and so is kept.
    databases = [one for one in __salt__["postgres_attachment.kept"]([]) if not _has(attached, one["name"], one["app"])]
    found = {f"postgres:{one['name']}": _database(one) for one in databases if one["since"]}
    found |= _instances(__salt__["settings.load"]("redis")["instances"])
    found |= _homes()
    if not found:
        return {"comment": "No data of an app or an attachment that is gone is kept on this host", "kept": {}}
    # Names and comments in a database are its owner's.
    found = __salt__["journal.shown"](found)
    return {"comment": "Attach it again, and it is there as it was; or remove it for good", "kept": found}


def _has(attached, name, app):
    """Tell whether a database or an instance is attached by the app whose data it holds."""
    return name in attached and attached[name]["owner"] == app


def _database(one):
    name, owner = one["name"], one["owner"]
    command = f"{AS_POSTGRES} dropdb {shlex.quote(name)}"
    # The role can go with the last that it owns.
    if owner == one["app"] and one["owned"] == [name]:
        command += f" && {AS_POSTGRES} dropuser {shlex.quote(owner)}"
    return {"app": one["app"], "size": _size(one["size"]), "since": one["since"], "remove": command}


def _homes():
    """List the files of apps that are gone, and the users that are kept as long as these are there."""
    found = {}
    for app, what in __salt__["kept.list"]("app").items():
        try:
            user = pwd.getpwnam(app)
        except KeyError:
            continue
        # The app is there again, and with it what it had.
        if user.pw_dir != NOWHERE or user.pw_uid != what["uid"]:
            continue
        paths = _files(user.pw_uid)
        looked = paths is not None
        paths = [path for path in (paths if looked else what["paths"] or []) if os.path.lexists(path)]
        # What an app called its files must not command the terminal of who reads this, nor fill it.
        beside = collections.Counter(map(os.path.dirname, paths))
        many = {directory for directory, count in beside.items() if count > LISTED}
        plain = [path for path in paths if path.isprintable() and os.path.dirname(path) not in many]
        others = sorted({os.path.dirname(path) for path in {*paths} - {*plain}})
        removal = [shlex.join(["rm", "-rf", "--one-file-system", *plain])] if plain else []
        find = ["find", *others, "-xdev", "-maxdepth", "1", "-uid", str(user.pw_uid), "-exec", "rm", "-rf", "{}", "+"]
        removal += [shlex.join(find)] if others else []
        # Its directory may hold what an operator has put there.
        removal += [f"{{ rmdir {shlex.quote(f'{ROOT}/{app}')} 2>/dev/null || true; }}"]
        shown = [path for path in paths if os.path.dirname(path) not in many]
        shown = [path if path.isprintable() else ascii(path)[1:-1] for path in shown]
        shown += [f"{directory}/: {beside[directory]} files and directories" for directory in sorted(many)]
        removal += [shlex.join(["userdel", app]), shlex.join(["rm", *what["notes"]])]
        found[f"files:{app}"] = {
            "app": app,
            "size": _size(sum(map(_bytes, paths))),
            "since": what["since"],
            "paths": shown if looked else [*shown, f"and maybe others, see find / -uid {user.pw_uid}"],
            "remove": " && ".join(removal),
        }
    return found


def _instances(attached):
    found = {}
    for name, what in __salt__["kept.list"]("redis").items():
        if _has(attached, name, what["app"]):
            continue
        # The notes last: they are what says that the rest is ours.
        data = [path for path in glob.glob(f"{REDIS}/{glob.escape(name)}.*") if path not in what["notes"]]
        # What an instance of Redis called a file must not command the terminal of who reads this.
        data = [path for path in data if path.isprintable()]
        found[f"redis:{name}"] = {
            "app": what["app"],
            "size": _size(sum(map(_bytes, data))),
            "since": what["since"],
            "remove": " ".join(["rm", "-r", *map(shlex.quote, [*sorted(data), *what["notes"]])]),
        }
    return found


def _bytes(path):
    # Neither where a link leads is of it, nor what has gone meanwhile or is nested too deep to name.
    found, queue = os.lstat(path).st_size if os.path.lexists(path) else 0, [path]
    while queue:
        with contextlib.suppress(OSError), os.scandir(queue.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    queue.append(entry.path)
                else:
                    found += entry.stat(follow_symlinks=False).st_size
    return found


def _size(count):
    return f"{count / 1_000_000:.1f} MB"
