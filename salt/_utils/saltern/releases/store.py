"""Releases on the disk: what each is, and which one is current.

Under ``/srv/apps/<app>/``:

- ``releases/<n>/`` with ``release.json`` (what it is), ``env/`` (a file for each variable), ``build`` (a link) and
  ``outcome``: ``serving`` once it has served, ``rolled back`` once it was left for an earlier one, or why it was
  refused. A release without one was interrupted.
- ``current``, a link to one of them, moved by a rename.
- ``hold.json``, where a converge is not to move on; see ``hold``.
- ``release.log``, a line of JSON for each move; see ``history``.
"""

import contextlib
import datetime
import grp
import json
import os
import stat
from collections.abc import Iterable
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.releases import process, supervisor
from saltern.system import deletion, files, terminal

# The JSON record of a release, a build or a hold.
Record = dict[str, Any]
# What is to change: by path, or by what it is, ``old`` and ``new``.
Changes = dict[str, Any]

ROOT = "/srv/apps"
SERVING = "serving"
ROLLED_BACK = "rolled back"


def directory(app: str, number: int) -> str:
    """Return where a release is.

    :param app: the app's name.
    :param number: the release's number.
    """
    return f"{ROOT}/{app}/releases/{number}"


def build_directory(app: str, sha256: str) -> str:
    """Return where a build is.

    :param app: the app's name.
    :param sha256: the build's digest.
    """
    return f"{ROOT}/{app}/builds/{sha256[:12]}"


def parsed(path: str) -> Record:
    """Return the mapping in a file of JSON, empty where there is none.

    :param path: the file.
    """
    try:
        found = json.loads(files.read(path, errors="replace") or "{}")
    except ValueError:
        return {}
    return dict(found) if isinstance(found, dict) else {}


def group(app: str) -> int:
    """Return the id of the group of an app's user.

    :param app: the app's name.
    :raises KeyError: where it has no user.
    """
    return grp.getgrnam(app).gr_gid


def numbers(app: str) -> list[int]:
    """List an app's releases on the host.

    :param app: the app's name.
    :return: numbers, sorted.
    """
    path = f"{ROOT}/{app}/releases"
    return sorted(int(name) for name in os.listdir(path) if name.isdigit()) if os.path.isdir(path) else []


def current(app: str) -> int | None:
    """Return the number of the release that serves, or ``None``.

    ``current`` says which one. Where that link is broken or was moved by hand, supervisor still runs the processes of
    the release that serves, whatever has become of its directory; and where it runs none, it is the last that served.

    :param app: the app's name.
    """
    linked, running = _linked(app), configured(app)
    if linked is not None and (linked in running or not running):
        return linked if linked in running or os.path.isdir(directory(app, linked)) else _last(app, numbers(app))
    # A release without an outcome was interrupted before it served, unless all of its files are gone.
    served = [n for n in running if outcome(app, n) == SERVING or not os.path.isdir(directory(app, n))]
    if served:
        return max(served)
    is_there = linked is not None and os.path.isdir(directory(app, linked))
    return linked if is_there else _last(app, numbers(app))


def _linked(app: str) -> int | None:
    """Return the number of the release that ``current`` names, whether it is there or not; or ``None``."""
    try:
        name = os.path.basename(os.readlink(f"{ROOT}/{app}/current"))
    except OSError:
        return None
    return int(name) if name.isdigit() else None


def _last(app: str, candidates: Iterable[int]) -> int | None:
    return max((number for number in candidates if outcome(app, number) == SERVING), default=None)


def configured(app: str) -> list[int]:
    """Return the releases whose processes supervisor is told to run, or runs where nothing tells it any more.

    :param app: the app's name.
    """
    if found := [number for _, number in process.releases(app)]:
        return found
    with contextlib.suppress(CommandExecutionError):
        return sorted({int(name.split(".")[1].removeprefix("v")) for name in supervisor.info(app)})
    return []


def misplaced(app: str, number: int) -> Changes:
    """List the files of the serving release that are missing, or that the app may not read, and that can be restored.

    :param app: the app's name.
    :param number: the release's number.
    :return: by path, what it is (``old``) and what it should be (``new``).
    """
    own = directory(app, number)
    found: Changes = {}
    for path, target in ((f"{ROOT}/{app}/current", f"releases/{number}"), (f"{own}/build", _target(app, number))):
        if target and _link(path) != target and os.path.isdir(own):
            found[path] = {"old": _link(path), "new": target}
    try:
        gid = group(app)
    except KeyError:
        # In a dry run on a host whose user is gone, the files are another user's until the user is made.
        return found
    directories = [os.path.dirname(own), own, f"{own}/env"]
    plain = [f"{own}/release.json", *(f"{own}/env/{name}" for name in _names(f"{own}/env"))]
    for path in [*directories, *plain]:
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            kind = stat.S_ISDIR if path in directories else stat.S_ISREG
            wanted, mode = (0, gid, 0o750 if path in directories else 0o640), stat.S_IMODE(status.st_mode)
            if kind(status.st_mode) and (status.st_uid, status.st_gid, mode) != wanted:
                old = f"mode {mode:04o} of {status.st_uid}:{status.st_gid}"
                found[path] = {"old": old, "new": f"mode {wanted[2]:04o} of 0:{gid}"}
    if os.path.isdir(own) and outcome(app, number) != SERVING:
        found[f"{own}/outcome"] = {"old": outcome(app, number) or None, "new": SERVING}
    return found


def _link(path: str) -> str | None:
    """Return where a link leads, or what is in its place: ``None`` where there is nothing."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None
    except OSError:
        return "a directory" if os.path.isdir(path) else "no link"


def _target(app: str, number: int) -> str | None:
    sha256 = record(app, number).get("build")
    return f"../../builds/{sha256[:12]}" if isinstance(sha256, str) else None


def _names(path: str) -> list[str]:
    return sorted(os.listdir(path)) if os.path.isdir(path) else []


def lost(app: str, number: int) -> dict[str, str]:
    """List what a release lacks to be started again. Its running processes go on without it.

    :param app: the app's name.
    :param number: the release's number.
    :return: by path, what is wrong with it.
    """
    own, what = directory(app, number), record(app, number)
    if not os.path.isdir(own):
        return {own: "is missing"}
    if not isinstance(what.get("processes"), dict) or not isinstance(what.get("build"), str):
        said = "says nothing of a release" if os.path.isfile(f"{own}/release.json") else "is missing"
        return {f"{own}/release.json": said}
    if not os.path.isdir(f"{own}/env"):
        return {f"{own}/env": "is missing"}
    made = build(app, what["build"])
    if made and made.get("processes") != what["processes"]:
        return {f"{own}/release.json": "names other processes than its build"}
    names = set(_names(f"{own}/env"))
    known = set(what["variables"]) if isinstance(what.get("variables"), list) else names
    found = {f"{own}/env/{name}": "is missing" for name in known - names}
    found |= {f"{own}/env/{name}": "is no variable of this release" for name in names - known}
    for name in names & known:
        if not stat.S_ISREG(os.lstat(f"{own}/env/{name}").st_mode):
            found[f"{own}/env/{name}"] = "is no file"
    return dict(sorted(found.items()))


def record(app: str, number: int) -> Record:
    """Return what a release is, empty where that cannot be read.

    :param app: the app's name.
    :param number: the release's number.
    """
    return parsed(f"{directory(app, number)}/release.json")


def graces(app: str, number: int) -> dict[str, int]:
    """Return the graces of a release's process types.

    The release decides them, not the pillar: supervisor would have to restart the processes for new ones.

    :param app: the app's name.
    :param number: the release's number.
    :return: seconds by process type.
    """
    found = record(app, number).get("grace")
    return found if isinstance(found, dict) and all(type(seconds) is int for seconds in found.values()) else {}


def created(app: str, number: int) -> float:
    """Return when a release was made, in seconds since 1970, and 0 where that cannot be told.

    What was told of a release of this number before is not of this one: an app that was removed and is declared again
    counts from v1.

    :param app: the app's name.
    :param number: the release's number.
    """
    try:
        return datetime.datetime.fromisoformat(record(app, number)["created"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return 0.0


def outcome(app: str, number: int) -> str:
    """Return what became of a release: ``serving``, ``rolled back``, ``refused: …``, or an empty string.

    :param app: the app's name.
    :param number: the release's number.
    """
    return (files.read(f"{directory(app, number)}/outcome", errors="replace") or "").strip()


def environ(app: str, number: int) -> dict[str, bytes]:
    """Return a release's config as it is on the disk.

    :param app: the app's name.
    :param number: the release's number.
    :return: bytes by variable.
    """
    path = f"{directory(app, number)}/env"
    found = {}
    for name in _names(path):
        if stat.S_ISREG(os.lstat(f"{path}/{name}").st_mode):
            with open(f"{path}/{name}", "rb") as stream:
                found[name] = stream.read()
    return found


def build(app: str, sha256: str) -> Record:
    """Return what a build on the host says of itself, empty where it is not there.

    :param app: the app's name.
    :param sha256: the build's digest.
    """
    return parsed(f"{build_directory(app, sha256)}/build.json")


def leftovers(app: str) -> list[str]:
    """List what interrupted runs left behind.

    :param app: the app's name.
    :return: paths.
    """
    found = []
    for path in (f"{ROOT}/{app}", f"{ROOT}/{app}/builds", f"{ROOT}/{app}/releases"):
        for name in sorted(os.listdir(path)) if os.path.isdir(path) else []:
            staged = name.endswith(".new") or (name.startswith(".") and path != f"{ROOT}/{app}")
            interrupted = path.endswith("/releases") and name.isdigit() and not outcome(app, int(name))
            if staged or (interrupted and int(name) != current(app)):
                found.append(f"{path}/{name}")
    return found


def clear(path: str) -> None:
    """Remove what is at a path, if anything.

    :param path: of a file, a link or a directory, or of nothing.
    :raises CommandExecutionError: when it cannot be removed.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        delete(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def delete(path: str) -> None:
    """Delete what is at a path. What is mounted below stays, and so do the directories that lead to it.

    :param path: of a directory.
    :raises CommandExecutionError: when it cannot be removed.
    """
    if said := deletion.delete([path]):
        raise CommandExecutionError(f"{path}: cannot be removed: {terminal.escaped(said)}")
