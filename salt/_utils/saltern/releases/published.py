"""What nginx serves of builds: copies of their directories, which it can read, and nothing else of a build.

In ``/srv/served/<app>/``:

- ``<build>-<directories>/`` with the declared directories of a build; the name changes with which these are,
- ``at/0``, a link to that of the current release, ``at/1`` and so on to those of earlier ones. nginx looks for a file
  in this order, so that a page of an earlier release still finds what it names. A switch needs nothing of nginx.
"""

import contextlib
import filecmp
import grp
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.builds.form import shown
from saltern.releases import store
from saltern.releases.store import ROLLED_BACK, SERVING, Changes
from saltern.system import deletion

ROOT = "/srv/served"
LINKS = "at"
# As whose group nginx reads.
SERVER = "www-data"
# nginx makes an ETag of a file's time and size. A time of the content is the same on each host and in each release,
# and another one where the content is another of the same size. The first day that each file system keeps is in 1980.
EARLIEST, SECONDS = 315532800, 1 << 29

Settings = Mapping[str, Any]


def directories(settings: Settings) -> list[str]:
    """List the directories of an app's builds that nginx serves.

    :param settings: the app's.
    """
    served = settings["site"]["serve"].values() if settings["formation"].get("web") else ()
    return sorted({one["build"] for one in served if "build" in one})


def plan(app: str, settings: Settings) -> Changes:
    """Return what is to change of what nginx serves of an app's builds, whatever its releases will be.

    :param app: the app's name.
    :param settings: the app's.
    :return: by path, what it is (``old``) and what it is to be (``new``).
    """
    root, current = f"{ROOT}/{app}", store.current(app)
    wanted = _wanted(app, settings, current)
    there = {name for name in _listed(root) if name != LINKS}
    found: Changes = {f"{root}/{name}": {"old": None, "new": "served"} for name in wanted if name not in there}
    if directories(settings):
        found |= {f"{root}/{name}": {"old": "there", "new": None} for name in sorted(there - {*wanted})}
        found |= _misled(app, _served(app, settings, current))
    elif os.path.lexists(root):
        found = {root: {"old": "there", "new": None}}
    return found


def publish(app: str, settings: Settings) -> None:
    """Have nginx serve the declared directories of the declared build and of those of the releases that are kept.

    :param app: the app's name.
    :param settings: the app's.
    :raises CommandExecutionError: where the declared build has something that cannot be served.
    """
    if not directories(settings):
        deletion.delete([f"{ROOT}/{app}"])
        return
    root, current = f"{ROOT}/{app}", store.current(app)
    os.makedirs(root, exist_ok=True)
    os.chmod(ROOT, 0o755)
    os.chown(root, 0, grp.getgrnam(SERVER).gr_gid)
    os.chmod(root, 0o750)
    wanted = _wanted(app, settings, current)
    for name, sha256 in wanted.items():
        if not os.path.isdir(f"{root}/{name}"):
            is_declared = sha256 == settings["build"]["sha256"][:12]
            _copy(app, settings, name, store.build_directory(app, sha256), is_declared)
    point(app, settings, current)
    deletion.delete([f"{root}/{name}" for name in _listed(root) if name not in {*wanted, LINKS}])


def point(app: str, settings: Settings, number: int | None) -> None:
    """Have nginx look for files in the build of a release first, then in those of the others.

    :param app: the app's name.
    :param settings: the app's.
    :param number: the release's; ``None`` where none serves yet.
    """
    directory = f"{ROOT}/{app}/{LINKS}"
    if not os.path.isdir(f"{ROOT}/{app}"):
        return
    os.makedirs(directory, exist_ok=True)
    os.chmod(directory, 0o755)
    misled = _misled(app, _served(app, settings, number))
    # The first one last: what it led to is found by another link before.
    for path in sorted(misled, key=lambda path: -int(os.path.basename(path))):
        target = misled[path]["new"]
        if target is None:
            os.unlink(path)
            continue
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}.new")
        os.symlink(target, f"{path}.new")
        os.rename(f"{path}.new", path)


def forget(app: str) -> None:
    """Remove what nginx serves of an app's builds.

    :param app: the app's name.
    """
    deletion.delete([f"{ROOT}/{app}"])


def kept(app: str, number: int | None) -> list[str]:
    """List the builds of releases that serve or served, by the beginning of their digest: that of one release first.

    :param app: the app's name.
    :param number: the release's.
    """
    served = [one for one in store.numbers(app) if store.outcome(app, one) in (SERVING, ROLLED_BACK)]
    others = sorted((one for one in served if one != number), reverse=True)
    builds = [store.record(app, one).get("build", "")[:12] for one in [*([number] if number else []), *others]]
    return list(dict.fromkeys(build for build in builds if build))


def check_unpacked(app: str, settings: Settings, build: str) -> None:
    """Refuse an unpacked build that lacks what nginx shall serve; see ``check``.

    :param app: the app's name.
    :param settings: the app's.
    :param build: its directory.
    """
    pages = [page for page in settings["site"]["errors"].values() if os.path.isfile(f"{build}/{page}")]
    check(app, settings, [one for one in directories(settings) if os.path.isdir(f"{build}/{one}")], pages)


def check(app: str, settings: Settings, there: Collection[str], pages: Collection[str]) -> None:
    """Refuse a build that lacks a directory or a page of an error that nginx shall serve.

    :param app: the app's name.
    :param settings: the app's.
    :param there: directories that the build has.
    :param pages: pages that the build has.
    :raises CommandExecutionError: naming the setting.
    """
    for path, one in sorted(settings["site"]["serve"].items()) if directories(settings) else ():
        if "build" in one and one["build"] not in there:
            raise CommandExecutionError(
                f"app.{app}.site.serve.{path}.build: the declared build has no directory {one['build']}; expected one "
                "of the app's tree, or one that a step of the build makes"
            )
    for status, page in sorted(settings["site"]["errors"].items()) if directories(settings) else ():
        if page not in pages:
            raise CommandExecutionError(
                f"app.{app}.site.errors.{status}: the declared build has no file {page}; expected a page of the app's "
                "tree, or one that a step of the build makes"
            )


def _name(sha256: str, settings: Settings) -> str:
    digest = hashlib.sha256(json.dumps(directories(settings)).encode()).hexdigest()
    return f"{sha256[:12]}-{digest[:6]}"


def _wanted(app: str, settings: Settings, current: int | None) -> dict[str, str]:
    """Return the builds to serve, by the names of their copies: the declared one, and those of releases."""
    if not directories(settings):
        return {}
    builds = dict.fromkeys([settings["build"]["sha256"][:12], *kept(app, current)])
    declared = settings["build"]["sha256"][:12]
    is_there = [build for build in builds if build == declared or os.path.isdir(store.build_directory(app, build))]
    return {_name(build, settings): build for build in is_there}


def _served(app: str, settings: Settings, number: int | None) -> dict[str, str]:
    """Return to where each link is to lead: relative targets by path."""
    builds = kept(app, number)[: settings["keep_releases"]]
    return {f"{ROOT}/{app}/{LINKS}/{index}": f"../{_name(build, settings)}" for index, build in enumerate(builds)}


def _misled(app: str, wanted: Mapping[str, str]) -> Changes:
    """Return the links that lead elsewhere."""
    directory = f"{ROOT}/{app}/{LINKS}"
    there = {f"{directory}/{name}": _target(f"{directory}/{name}") for name in _listed(directory) if name.isdigit()}
    return {
        path: {"old": there.get(path), "new": wanted.get(path)}
        for path in sorted({*there, *wanted})
        if there.get(path) != wanted.get(path)
    }


def _target(path: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(path)
    return "no link"


def _listed(directory: str) -> list[str]:
    return sorted(os.listdir(directory)) if os.path.isdir(directory) else []


def _copy(app: str, settings: Settings, name: str, build: str, is_declared: bool) -> None:
    """Copy the directories of a build beside their place and rename them into it."""
    root = f"{ROOT}/{app}"
    if is_declared:
        check_unpacked(app, settings, build)
    others = [f"{root}/{other}" for other in _listed(root) if other != LINKS and not other.startswith(".")]
    staged = f"{root}/.{name}"
    deletion.delete([staged])
    before = os.umask(0o022)
    try:
        for directory in directories(settings):
            for path in _files(app, build, directory, is_declared):
                os.makedirs(os.path.dirname(f"{staged}/{path}"), exist_ok=True)
                _copy_file(f"{build}/{path}", staged, path, others)
        os.makedirs(staged, exist_ok=True)
        os.rename(staged, f"{root}/{name}")
    finally:
        os.umask(before)
        deletion.delete([staged])


def _files(app: str, build: str, directory: str, is_declared: bool) -> Iterator[str]:
    """Yield the paths of a directory's files; a link must lead to a file in it, and is passed over in an earlier build.

    :raises CommandExecutionError: naming a link that does not.
    """
    inside = os.path.realpath(f"{build}/{directory}")
    for found, names, files in os.walk(f"{build}/{directory}"):
        links = [name for name in names if os.path.islink(f"{found}/{name}")]
        for name in sorted([*files, *links]):
            path = f"{found}/{name}"
            real = os.path.realpath(path)
            if os.path.islink(path) and not (real.startswith(f"{inside}/") and os.path.isfile(real)):
                if not is_declared:
                    continue
                raise CommandExecutionError(
                    f"app.{app}.site.serve: {shown(os.path.relpath(path, build))} of the build is a link that leads "
                    f"to no file in {directory}; expected files, or links to files in that directory"
                )
            if stat.S_ISREG(os.stat(path).st_mode):
                yield os.path.relpath(path, build)


def _copy_file(source: str, staged: str, path: str, others: Sequence[str]) -> None:
    """Copy a file; where another build has the same one, it is one file on the disk."""
    target = f"{staged}/{path}"
    if os.path.lexists(target):
        return
    for other in others:
        if os.path.isfile(f"{other}/{path}") and filecmp.cmp(f"{other}/{path}", source, shallow=False):
            os.link(f"{other}/{path}", target)
            return
    shutil.copyfile(source, target)
    with open(target, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    moment = EARLIEST + int(digest[:8], 16) % SECONDS
    os.utime(target, (moment, moment))
