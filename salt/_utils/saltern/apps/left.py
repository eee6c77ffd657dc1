"""What is kept of apps that are gone: the data of what they attached, and the files of their users."""

import collections
import contextlib
import os
import pwd
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern import kept, services
from saltern.apps import packages, users
from saltern.apps.removal import NOWHERE
from saltern.host import Host
from saltern.system import deletion, terminal
from saltern.system.sizes import megabytes, size_of

# How many files of one directory are named one by one.
LISTED = 20


def orphans(host: Host) -> dict[str, Any]:
    """List the data that is kept of apps and attachments that are no longer declared.

    :param host: the host.
    :return: a mapping of ``comment`` and ``kept``. By kind and name, such as ``postgres:tickets``, ``kept`` has whose
        data it was (``app``), its ``size``, ``since`` when it is kept, and the command that ``remove``s it for good.
    :raises CommandExecutionError: when the pillar has a mistake, or a service cannot be asked.
    """
    found: dict[str, Any] = {}
    for service in services.resources():
        found |= {f"{service.kind}:{name}": what for name, what in service.kept(host).items()}
    found |= homes()
    found |= packages.left(host)
    if not found:
        return {"comment": "No data of an app or an attachment that is gone is kept on this host", "kept": {}}
    # The owner of a database chooses names and comments in it: they must not command a terminal.
    found = terminal.shown(found)
    return {"comment": "Attach it again, and it is there as it was; or remove it for good", "kept": found}


def homes() -> dict[str, Any]:
    """List the files of apps that are gone. Their users stay as long as the files do."""
    found = {}
    for app, noted in kept.listed("app").items():
        user = _kept_user(app, noted)
        if user is None:
            continue
        there = users.files(user.pw_uid, user.pw_gid)
        known = noted["paths"] or [] if there is None else there
        paths = [path for path in known if os.path.lexists(path)]
        # The names of an app's files must neither command nor fill the terminal of who reads this.
        beside = collections.Counter(map(os.path.dirname, paths))
        many = {directory for directory, count in beside.items() if count > LISTED}
        shown = [path for path in paths if os.path.dirname(path) not in many]
        shown = [path if path.isprintable() else ascii(path)[1:-1] for path in shown]
        shown += [f"{directory}/: {beside[directory]} files and directories" for directory in sorted(many)]
        found[f"files:{app}"] = {
            "app": app,
            "size": megabytes(sum(map(size_of, paths))),
            "since": noted["since"],
            "paths": shown if there is not None else [*shown, f"and maybe others, see find / -uid {user.pw_uid}"],
            "remove": shlex.join(["salt-call", "app.erase", app]),
        }
    return found


def _kept_user(app: str, noted: Mapping[str, Any]) -> pwd.struct_passwd | None:
    """Return the user that is kept of an app that is gone; ``None`` where the app is there again, with its files."""
    with contextlib.suppress(KeyError):
        user = pwd.getpwnam(app)
        if user.pw_dir == NOWHERE and user.pw_uid == noted.get("uid"):
            return user
    return None


def erase(host: Host, app: str) -> str:
    """Remove for good the files that are kept of an app that is gone, and then its user.

    What other users have in the app's directories stays. Root alone has these directories from then on.

    :param host: the host.
    :param app: the app's name.
    :return: what was done.
    :raises CommandExecutionError: when nothing is kept of such an app, or not all of it may be removed from here.
    """
    user = _kept_user(app, kept.of("app", app))
    if user is None:
        raise CommandExecutionError(
            f"{terminal.escaped(app)}: no files are kept of an app of this name that is gone; "
            "salt-call app.orphans lists what is kept"
        )
    paths = users.files(user.pw_uid, user.pw_gid, None) or []
    if elsewhere := _of_others(paths):
        raise CommandExecutionError(
            f"{app}: other hosts may have files on {', '.join(elsewhere)} too; expected none of it there. Remove there "
            f"what is of user {user.pw_uid} or group {user.pw_gid}, or unmount it, and run this again"
        )
    mounted = deletion.mounts()
    said = deletion.delete([path for path in paths if path not in mounted], {user.pw_uid})
    said = deletion.delete([path for path in paths if path in mounted], {user.pw_uid}, inside=True) or said
    left = users.files(user.pw_uid, user.pw_gid, None) or []
    _disown(left, user)
    if still := users.files(user.pw_uid, user.pw_gid, None):
        shown = ", ".join(still[:LISTED])
        raise CommandExecutionError(terminal.escaped(f"{app}: {shown}: cannot be removed: {said}"))
    # An operator may have put something into the directory.
    with contextlib.suppress(OSError):
        os.rmdir(f"{users.ROOT}/{app}")
    users.delete(host, user)
    kept.forget("app", app)
    stays = f"; what others have there stays, for root alone: {', '.join(left[:LISTED])}" if left else ""
    return terminal.escaped(f"{app}: its files and its user are removed{stays}")


def _of_others(paths: Iterable[str]) -> list[str]:
    """List the mounts below which these paths are, and which other hosts may have mounted too."""
    shared = sorted(place for place, kind in deletion.mounts().items() if kind in users.SHARED_DISKS)
    return [place for place in shared if any(f"{path}/".startswith(f"{place.rstrip('/')}/") for path in paths)]


def _disown(paths: Iterable[str], user: pwd.struct_passwd) -> None:
    """Give root what is left of a user and its group: directories in which others have something, and others' files.

    It works by descriptors: in directories of theirs, others may put a link in the place of anything.

    :param paths: files and directories. Of a directory and what it holds, the directory alone.
    :param user: the user.
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


def _disown_file(path: str, user: pwd.struct_passwd, directory: int | None = None) -> None:
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path, dir_fd=directory, follow_symlinks=False).st_gid == user.pw_gid:
            os.chown(path, -1, 0, dir_fd=directory, follow_symlinks=False)
