"""Storage: a directory that one app may write, which outlives its releases and the app itself.

In ``/srv/storage/<name>`` root has the directory ``files``, which is the app's, and a note of whose the files are. That
directory is a gate: who may not pass it reaches no file, whatever the file's own mode is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import re
import shlex
import stat
import struct
import subprocess
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import SplitResult

from salt.exceptions import CommandExecutionError

from saltern import kept
from saltern.apps import removal
from saltern.attachments.users import users
from saltern.host import Host
from saltern.services.base import Hosts, Requisite, Settings, Target
from saltern.services.resource import Resource, is_attached
from saltern.services.steps import Run, Step, Work
from saltern.system import files
from saltern.system.sizes import megabytes, parsed, size_of

ROOT = "/srv/storage"
NAME = r"^[a-z][a-z0-9-]{0,30}\Z"
# As whom nginx reads what it serves.
SERVER = "www-data"

# An access control list, as the kernel keeps it; see linux/posix_acl.h and linux/posix_acl_xattr.h.
ACL, VERSION = "system.posix_acl_access", 2
USER_OBJ, USER, GROUP_OBJ, MASK, OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
ALL, PASS, NOTHING = 7, 1, 0
NOBODY = 0xFFFFFFFF

CLOSED, OPEN = 0o700, 0o710


class Storage(Resource):
    """A directory of the app's host."""

    kind = "storage"
    schema = {
        "storage": {
            "description": "A directory of the app's host that the app may write. The app gets its path.",
            "type": "string",
            "pattern": NAME,
            "x-expected": "a storage's name of lower-case letters, digits and hyphens",
            "examples": ["media"],
        }
    }
    role = "storage"
    noun = "storage"
    plural = "directories"
    guarded = (ROOT,)

    # --- What follows from an attachment ------------------------------------------------------------------------------

    def refused(self, name: str, app: str) -> str:
        """Refuse none."""
        return ""

    def lead(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Refuse what is on one host alone where the app is on others; see ``Resource.lead``."""
        providers, apps = hosts.peers(self.role), hosts.peers("app")
        for role, names in ((self.role, providers), ("app", apps)):
            if not names:
                return [hosts.lacking(path, role)]
        if len(apps) > 1:
            return [
                f"{path}.storage: {hosts.environment} has the app hosts {', '.join(apps)}, and a directory is on one "
                "host alone; expected a url beside it, such as that of an S3 bucket, or one app host"
            ]
        if providers != apps:
            return [
                f"{path}.storage: the role storage is at {', '.join(providers)}, and the app host is {apps[0]}; "
                "expected the role at the app host alone, in pillar/hosts.yaml, or a url beside it"
            ]
        return []

    def url(self, target: Target, app: str, secret: str) -> str:
        """Return the path of the directory."""
        return self.path(target)

    def path(self, target: Target) -> str:
        """Return the path of the directory."""
        return self.directory(target[self.kind])

    def parts(self) -> list[str]:
        """Name none: a path has no parts."""
        return []

    def identity(self, url: SplitResult) -> str:
        """Return the name of the storage whose path a variable's value is."""
        name = url.path.removeprefix(f"{ROOT}/").removesuffix("/files")
        if url.geturl() != self.directory(name):
            raise ValueError(f"{url.geturl()}: is no storage's path")
        return name

    def is_of(self, url: SplitResult, identity: str, own: str) -> bool:
        """Tell whether a variable's value is the path of a storage."""
        return self.identity(url) == identity

    def is_ready(self, host: Host, name: str, login: Callable[[], str]) -> bool:
        """Ask whether a converge would change the directory."""
        return not planned(name, host.resource(self, name))

    # --- States -------------------------------------------------------------------------------------------------------

    def made(self, name: str) -> Requisite:
        """Return the state that makes the directory."""
        return {"resource": f"storage-directory-{name}"}

    def claimed(self, name: str) -> Requisite:
        """Return the state that makes the directory."""
        return self.made(name)

    def steps(self) -> Mapping[str, Work]:
        """Return which directories there are, and which are closed; see ``Resource.steps``."""
        return {"directory": self._directory, "retired": self._retired}

    def _directory(self, run: Run, name: str) -> Step:
        """Have a directory that its app may write and, where nginx serves it, nginx may read."""
        directory = run.host.resource(self, name)
        app = directory["owner"]
        if (owner := whose(name) or kept.of(self.kind, name).get("app", "")) not in ("", app):
            raise CommandExecutionError(
                f"app.{app}.attach: the storage {name} holds the data of {owner}; expected a name of its own. "
                "Remove that data for good as salt-call app.orphans says, or hand it over: formulas/storage/README.md"
            )
        return Step(f"{app} has the storage {name}", planned(name, directory), lambda: make(name, directory))

    def _retired(self, run: Run, name: str) -> Step:
        """Have closed what no app attaches any more. What a release of this host has in its config stays open."""
        there = run.host.pillar[self.kind][self.plural]
        # The removal of an app closes what that app had.
        gone = removal.gone(run.host.pillar["app"])
        said, closing = [], {}
        for one, app in listed().items():
            is_done = is_closed(one) and kept.of(self.kind, one)
            if is_done or app in gone or is_attached(there, one, app):
                continue
            if by := users(run.host, self, one, run.staying):
                said.append(f"{one} stays open for {', '.join(by)}")
            else:
                closing[one] = app
        would = "would be" if run.host.is_dry else "was"
        said += [f"{one} {would} closed; salt-call app.orphans lists the data that is kept" for one in closing]

        def act() -> None:
            for one, app in closing.items():
                close(one, app)

        changes = {one: {"old": "open", "new": "closed"} for one in closing}
        return Step("; ".join(said) or "No other storage is open", changes, act)

    # --- What is kept -------------------------------------------------------------------------------------------------

    def kept(self, host: Host) -> dict[str, dict[str, Any]]:
        """List the directories that are closed. One of another app's data is refused to who attaches it, and kept."""
        attached, notes, found = host.settings(self.kind)[self.plural], kept.listed(self.kind), {}
        for name, app in listed().items():
            if name in notes and not is_attached(attached, name, app):
                paths = [f"{ROOT}/{name}", *notes[name]["notes"]]
                found[name] = {
                    "app": app,
                    "size": megabytes(size_of(self.directory(name))),
                    "since": notes[name]["since"],
                    "remove": f"rm -r --one-file-system {' '.join(map(shlex.quote, paths))}",
                }
        return found

    def disown(self, app: str) -> None:
        """Close what an app has that is gone. Another one may get the id of its user."""
        for name, owner in listed().items():
            if owner == app:
                close(name, app)

    def full(self, host: Host) -> list[str]:
        """List the directories that hold more than their quota; see ``Resource.full``."""
        found = []
        for name, directory in sorted(self.owned(host.pillar[self.kind]).items()):
            quota = directory.get("quota")
            if quota and (size := size_of(self.directory(name))) > parsed(quota):
                found.append(f"{name} ({megabytes(size)} of {megabytes(parsed(quota))})")
        return found

    def directory(self, name: str) -> str:
        """Return the directory of a storage."""
        return f"{ROOT}/{name}/files"


# --- Directories ------------------------------------------------------------------------------------------------------


def listed() -> dict[str, str]:
    """Return whose the directories of this host are: apps by name, sorted. Others than ours have no owner."""
    names = sorted(os.listdir(ROOT)) if os.path.isdir(ROOT) else []
    return {name: owner for name in names if re.search(NAME, name) and (owner := whose(name))}


def whose(name: str) -> str:
    """Return the app whose data a directory holds; empty where it holds nobody's."""
    return (files.read(f"{ROOT}/{name}/owner") or "").strip()


def is_closed(name: str) -> bool:
    """Tell whether root alone passes a gate."""
    return _rights(f"{ROOT}/{name}") == (CLOSED, 0, 0, None)


def planned(name: str, directory: Mapping[str, Any]) -> dict[str, Any]:
    """Work out what is to be changed so that an app has a directory.

    :param name: the storage.
    :param directory: its settings: its ``owner``, and whether it is ``served``.
    :return: the changes as a state reports them. In a dry run the app's user may not be there yet.
    :raises CommandExecutionError: where something else is in its place.
    """
    app, gate, inside = directory["owner"], f"{ROOT}/{name}", f"{ROOT}/{name}/files"
    for path in (gate, inside):
        if os.path.lexists(path) and not stat.S_ISDIR(os.lstat(path).st_mode):
            raise CommandExecutionError(f"{path}: is no directory; expected one. Mount a disk there in place of a link")
    new = {"new": f"open to {app}{' and nginx' if directory.get('served') else ''}"}
    if not os.path.isdir(inside):
        return {name: {"old": None} | new}
    if kept.of("storage", name):
        return {name: {"old": "kept"} | new}
    user, found = _user(app), os.lstat(inside)
    is_right = (
        user is not None
        and whose(name) == app
        and (found.st_uid, found.st_gid) == (user.pw_uid, user.pw_gid)
        and _rights(gate) == (OPEN, 0, user.pw_gid, _list() if directory.get("served") else None)
    )
    return {} if is_right else {name: {"old": "other rights"} | new}


def make(name: str, directory: Mapping[str, Any]) -> None:
    """Have an app have a directory; see ``planned``.

    :raises CommandExecutionError: where the app has no user, or the disk has no access control lists.
    """
    app, gate, inside = directory["owner"], f"{ROOT}/{name}", f"{ROOT}/{name}/files"
    user = _user(app)
    if user is None:
        raise CommandExecutionError(f"{app}: has no user on this host; expected the state app-user-{app} before")
    with contextlib.suppress(FileExistsError):
        os.mkdir(gate, CLOSED)
    if not os.path.isdir(inside):
        os.mkdir(inside, 0o755)
        os.chmod(inside, 0o755)
    found = os.lstat(inside)
    if (found.st_uid, found.st_gid) != (user.pw_uid, user.pw_gid):
        _shut(gate)
        _give(inside, found.st_uid, user)
    files.write(f"{gate}/owner", f"{app}\n", 0o600)
    os.chown(gate, 0, user.pw_gid)
    if directory.get("served"):
        _set(gate)
    else:
        _unset(gate)
        os.chmod(gate, OPEN)
    kept.forget("storage", name)


def close(name: str, app: str) -> None:
    """Close a directory to everybody but root. Its files stay as they are.

    :param name: the storage.
    :param app: the app whose data it holds.
    """
    _shut(f"{ROOT}/{name}")
    if not kept.of("storage", name):
        kept.note("storage", name, app)


def _user(app: str) -> pwd.struct_passwd | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(app)
    return None


def _give(inside: str, before: int, user: pwd.struct_passwd) -> None:
    """Give an app's user a directory, and all in it that was of the directory's user before.

    Nobody but root passes the gate meanwhile. No link is followed, nothing of another user is touched, and nothing
    that is mounted there. A file of root's that has another name as well stays root's: it may be a file of the system.
    """
    owner = f"{user.pw_uid}:{user.pw_gid}"
    command = ["find", "-P", inside, "-mindepth", "1", "-xdev", "-uid", str(before)]
    if before == 0:
        command += ["(", "-type", "d", "-o", "-links", "1", ")"]
    command += ["-exec", "chown", "--no-dereference", owner, "{}", "+"]
    done = subprocess.run(command, capture_output=True, text=True, errors="backslashreplace", check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"find ends with {done.returncode}"])[-1]
        raise CommandExecutionError(f"{inside}: cannot be given to {user.pw_name}: {said}")
    # The directory itself comes last, so that an interrupted run is made up for.
    os.chown(inside, user.pw_uid, user.pw_gid)


# --- Gates ------------------------------------------------------------------------------------------------------------


def _rights(gate: str) -> tuple[int, int, int, bytes | None]:
    """Return the mode, the user, the group and the access control list of a gate."""
    found = os.lstat(gate)
    try:
        acl = os.getxattr(gate, ACL, follow_symlinks=False)
    except OSError:
        # There is none, or the disk knows none.
        acl = None
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, acl


def _list() -> bytes:
    """Return the list by which nginx's user passes, beside root and the group."""
    server = pwd.getpwnam(SERVER).pw_uid
    entries = (
        (USER_OBJ, ALL, NOBODY),
        (USER, PASS, server),
        (GROUP_OBJ, PASS, NOBODY),
        (MASK, PASS, NOBODY),
        (OTHER, NOTHING, NOBODY),
    )
    return struct.pack("<I", VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _set(gate: str) -> None:
    """Let the group and nginx's user pass. The kernel changes the mode with the list."""
    try:
        os.setxattr(gate, ACL, _list(), follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        raise CommandExecutionError(
            f"{gate}: its disk has no access control lists, by which nginx reads it; expected one such as ext4"
        ) from None


def _unset(gate: str) -> None:
    with contextlib.suppress(OSError):
        os.removexattr(gate, ACL, follow_symlinks=False)


def _shut(gate: str) -> None:
    """Let nobody but root pass."""
    _unset(gate)
    os.chmod(gate, CLOSED)
    os.chown(gate, 0, 0)
