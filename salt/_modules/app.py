"""Apps that are no longer declared: what is left of them on the host, and the data that is kept."""

import contextlib
import glob
import grp
import json
import os
import pwd
import shlex
import shutil

from salt.exceptions import CommandExecutionError

__load__ = ["awaited", "gone", "orphans", "remove"]

ROOT = "/srv/apps"
REDIS = "/var/lib/redis"
# Locks and notes of the modules build and release.
RUN = "/run/saltern"

# In a session of its own: what else that user runs may meddle with it, and root's terminal must not be its.
AS_POSTGRES = "setsid --wait runuser -u postgres --"

# What the modules build and release_store make in an app's directory.
OWN = ("current", "current.new", "hold.json", "hold.json.new", "release.log", "releases", "builds")

# Seconds for what an app has left running beside its processes, between SIGTERM and SIGKILL.
GRACE = 10

# Where an app's user may have left files. The next user may be given its UID.
SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/var/spool/cron/crontabs")


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
            _delete(user)


def _clear(directory):
    """Remove what the app's releases are. What somebody else has put beside them stays, for root alone."""
    for name in OWN:
        path = os.path.join(directory, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
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
    """Remove a user's files from the directories that all users share."""
    directories = [directory for directory in SHARED if os.path.isdir(directory)]
    command = ["find", *directories, "-xdev", "-uid", str(uid), "-delete"]
    done = __salt__["cmd.run_all"](command, python_shell=False)
    if done["retcode"]:
        raise CommandExecutionError(f"find: {done['stderr']}")


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
    databases = __salt__["postgres_attachment.kept"](__salt__["settings.load"]("postgres")["databases"])
    found = {f"postgres:{one['name']}": _database(one, databases) for one in databases if one["since"]}
    found |= _instances(__salt__["settings.load"]("redis")["instances"])
    if not found:
        return {"comment": "No data of an app or an attachment that is gone is kept on this host", "kept": {}}
    # Names and comments in a database are its owner's.
    found = __salt__["journal.shown"](found)
    return {"comment": "Attach it again, and it is there as it was; or remove it for good", "kept": found}


def _database(one, databases):
    name, owner = one["name"], one["owner"]
    command = f"{AS_POSTGRES} dropdb {shlex.quote(name)}"
    # The role can go with the last that it owns.
    if owner == one["app"] and one["owned"] == [name]:
        command += f" && {AS_POSTGRES} dropuser {shlex.quote(owner)}"
    return {"app": one["app"], "size": _size(one["size"]), "since": one["since"], "remove": command}


def _instances(attached):
    found = {}
    for mark in sorted(glob.glob(f"{REDIS}/*.kept")):
        name = os.path.basename(mark).removesuffix(".kept")
        if name in attached:
            continue
        with open(mark, encoding="utf-8") as stream:
            what = json.load(stream)
        # The mark last: it is what says that the rest is ours.
        data = [path for path in glob.glob(f"{REDIS}/{name}.*") if path != mark]
        found[f"redis:{name}"] = {
            "app": what["app"],
            "size": _size(sum(map(_bytes, data))),
            "since": what["since"],
            "remove": " ".join(["rm", "-r", *map(shlex.quote, [*sorted(data), mark])]),
        }
    return found


def _bytes(path):
    inside = [os.path.join(directory, name) for directory, _, names in os.walk(path) for name in names]
    return sum(os.path.getsize(each) for each in [*inside, path])


def _size(count):
    return f"{count / 1_000_000:.1f} MB"
