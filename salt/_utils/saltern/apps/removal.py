"""The removal of apps that are no longer declared. A release is no data: the pillar makes it again."""

import contextlib
import os
import pwd
from collections.abc import Collection, Iterable

from salt.exceptions import CommandExecutionError

from saltern import kept, services
from saltern.apps import users
from saltern.attachments import config
from saltern.host import Host
from saltern.jobs import units as jobs
from saltern.releases import process as processes
from saltern.releases import published, supervisor
from saltern.services.base import Requisite
from saltern.system import deletion, terminal
from saltern.web import in_flight, workers

NOWHERE = "/nonexistent"
# The directory of the locks and notes of builds and releases.
RUN = "/run/saltern"

# What builds and releases are in an app's directory, as root.
OWN = ("current", "current.new", "hold.json", "hold.json.new", "release.log", "releases", "builds")


def gone(apps: Collection[str]) -> list[str]:
    """List the apps that are on the host and no longer declared.

    An app's user is removed last. So an app whose removal was interrupted is still found.

    :param apps: the apps that are declared.
    :return: names, sorted.
    """
    homes = {one.pw_name for one in pwd.getpwall() if one.pw_dir == f"{users.ROOT}/{one.pw_name}"}
    running = {app for app, _ in processes.releases()}
    return sorted((homes | running) - set(apps))


def awaited(host: Host, apps: Collection[str]) -> list[Requisite]:
    """Return the states that must have succeeded before anything of an app that is gone is taken down.

    Where an app is renamed, another app takes its place, and that one may be refused.

    :param host: the host.
    :param apps: the apps that are declared.
    :return: requisites, as a state file says them. None where no app is gone.
    """
    if not gone(apps):
        return []
    found: list[Requisite] = []
    for app in sorted(apps):
        found += [{"build": f"app-build-{app}"}, *config.claims(host, app)]
    return found


def remove(host: Host, apps: Iterable[str]) -> None:
    """Stop apps, each process with its grace, and remove all that is theirs but data.

    :param host: the host.
    :param apps: names; nothing of them may be declared.
    :raises CommandExecutionError: when supervisor or the system does not let go of something.
    """
    for app in apps:
        jobs.remove(one for one in jobs.there() if one[0] == app)
        # nginx has no site of the app any more, but may still wait for answers to requests that it passed on.
        running = [processes.configured(app, number) for _, number in processes.releases(app)]
        servers = [f"127.0.0.1:{port}" for ports in running for port in ports.values() if port]
        if servers:
            in_flight.drain(workers.old, servers, app, what=app)
        supervisor.remove(app, [number for _, number in processes.releases(app)])
        user = users.of(app)
        if user:
            users.forget_jobs(user)
            users.end(user.pw_uid)
            users.sweep(user.pw_uid)
        for service in services.resources():
            service.disown(app)
        for command in ("run", "psql"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"/usr/local/bin/{app}-{command}")
        for left in (f"{app}.lock", f"{app}.build", f"migrated-{app}"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{RUN}/{left}")
        published.forget(app)
        clear(f"{users.ROOT}/{app}", user.pw_uid if user else None)
        if user:
            let_go(host, user)


def clear(directory: str, uid: int | None) -> None:
    """Remove an app's releases and builds, and what its user has left in its TMPDIR.

    All else stays, for root alone: what an operator has put beside them, what is mounted there, and the files of other
    users.

    :param directory: the app's.
    :param uid: the id of the app's user; ``None`` where it has none.
    :raises CommandExecutionError: with what cannot be removed.
    """
    said = deletion.delete([f"{directory}/{name}" for name in OWN], {0} if uid is None else {0, uid})
    if uid is not None:
        said = deletion.delete([f"{directory}/tmp"], {uid}) or said
    if said:
        raise CommandExecutionError(f"{directory}: cannot be removed: {terminal.escaped(said)}")
    with contextlib.suppress(FileNotFoundError):
        # What an operator had put in the place of `current`; see ``saltern.releases.staging``.
        with contextlib.suppress(OSError):
            os.rmdir(f"{directory}/current.found")
        if os.listdir(directory):
            os.chown(directory, 0, 0)
            os.chmod(directory, 0o700)
        else:
            os.rmdir(directory)


def let_go(host: Host, user: pwd.struct_passwd) -> None:
    """Remove a user that has no file any more. A user that has files stays, since another app could be given its id.

    :param host: the host.
    :param user: the user of an app that is gone.
    :raises CommandExecutionError: when the system does not let go of the user.
    """
    app = user.pw_name
    with contextlib.suppress(OSError):
        os.rmdir(f"{users.ROOT}/{app}/home")
        os.rmdir(f"{users.ROOT}/{app}")
    paths = users.files(user.pw_uid, user.pw_gid)
    if paths == []:
        users.delete(host, user)
        kept.forget("app", app)
        return
    kept.note("app", app, app, uid=user.pw_uid, paths=paths)
    # Another home marks the user of an app that is gone.
    done = host.ask("cmd.run_all", ["usermod", "--lock", "--home", NOWHERE, app], python_shell=False)
    if done["retcode"]:
        raise CommandExecutionError(f"{app}: its user cannot be locked: {done['stderr']}")
