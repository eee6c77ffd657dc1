"""The declared builds of a host's apps: whether each is there as it was unpacked, and how it comes there.

A build is complete or not there: it is made beside its place and renamed into it.
"""

import contextlib
import dataclasses
import fcntl
import grp
import os
import stat
from collections.abc import Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern import apps, host
from saltern.builds import links, manifest, room, source, tarball, venv, wheels
from saltern.builds.description import damage_of, describe
from saltern.builds.form import sha256_of
from saltern.builds.replacement import replace
from saltern.contracts import judge
from saltern.releases import published, store, supervisor
from saltern.services.base import Ask
from saltern.system import deletion

ROOT = "/srv/apps"
LOCKS = "/run/saltern"


@dataclasses.dataclass(frozen=True)
class Host:
    """A host that converges, and where its builds lie.

    :param host: the host.
    :param root: the directory of the apps.
    :param locks: the directory of locks, which is empty after a boot.
    """

    host: host.Host
    root: str = ROOT
    locks: str = LOCKS

    @classmethod
    def of(cls, functions: Mapping[str, Any], pillar: Mapping[str, Any], options: Mapping[str, Any]) -> "Host":
        """Return the host on which Salt runs.

        :param functions: ``__salt__``.
        :param pillar: ``__pillar__``.
        :param options: ``__opts__``.
        """
        return cls(host.Host.of(functions, pillar, options))

    @property
    def pillar(self) -> Mapping[str, Any]:
        """Its settings by formula, complete."""
        return self.host.pillar

    @property
    def ask(self) -> Ask:
        """A function that calls one of Salt's."""
        return self.host.ask

    def app(self, app: str) -> dict[str, Any]:
        """Return the settings of an app.

        :raises CommandExecutionError: where none of this host has the name.
        """
        return dict(apps.declared(self.pillar["app"], app))

    def path(self, app: str, sha256: str | None = None) -> str:
        """Return the directory of an app's build: the declared one's where no digest is given."""
        return f"{self.root}/{app}/builds/{(sha256 or self.app(app)['build']['sha256'])[:12]}"


def is_unpacked(host: Host, app: str) -> bool:
    """Tell whether the declared build of an app is on the host, as it was unpacked."""
    return not damage(host, app)


def damage(host: Host, app: str, sha256: str | None = None, deeply: bool = False) -> str:
    """Say what of a build is missing or other than it was unpacked.

    It looks at names, modes, sizes and times, and reads nothing: at each directory, and at the files that every start
    needs. At each file, which takes a fifth of a second for a large build, where a process of the app is not well.

    :param host: that on which it is.
    :param app: the app's name.
    :param sha256: the build's digest, the declared one's where it is not given.
    :param deeply: look at each file.
    :return: such as ``.venv/bin/python is missing``, empty where it is whole.
    """
    directory = host.path(app, sha256)
    found = damage_of(directory, deeply)
    if not found and not deeply and not supervisor.is_well(app):
        found = damage_of(directory, deeply=True)
    return found


def is_first(host: Host, app: str) -> bool:
    """Tell whether the declared build of an app can be unpacked early: it waits for no other app.

    Where apps serve, a build is judged by what the others run when it is its turn. Where the host is to trust
    authorities of its own, one of them may be the server's that has the build.

    :param host: that on which it is to be.
    :param app: the app's name.
    """
    place = host.app(app)["build"]["source"]
    if place.startswith("https://") and host.pillar["base"]["ca_certificates"]:
        return False
    if any(store.current(one) is not None for one in host.pillar["app"]):
        return False
    return not is_unpacked(host, app)


def unpack(host: Host, app: str, deeply: bool = False) -> None:
    """Bring the declared build of an app onto the host, and have one that was damaged there as it was.

    Where another process is at it, which a run that was killed may have left behind, it waits for what that one makes.

    :param host: that on which it is to be.
    :param app: the app's name.
    :param deeply: look at each file of a build that is there.
    :raises CommandExecutionError: with the step that failed, the reason and what to do. Nothing is left behind.
    """
    target = host.path(app)
    directory = os.path.dirname(target)
    try:
        group = grp.getgrnam(app).gr_gid
    except KeyError:
        raise CommandExecutionError(
            f"{app}: has no user on this host yet; expected a converge of all of it first"
        ) from None
    os.makedirs(directory, exist_ok=True)
    own(directory, group)
    os.makedirs(host.locks, mode=0o700, exist_ok=True)
    with open(f"{host.locks}/{app}.build", "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if damage(host, app, deeply=deeply):
            _unpack(host, app, target, group)
        own(target, group)


def misowned(host: Host, app: str) -> list[str]:
    """List the directories of the declared build that are another's than root's, or not for the app alone to read.

    :param host: that on which they are.
    :param app: the app's name.
    :return: paths that are to be put right; none where the app has no user yet.
    """
    target = host.path(app)
    try:
        group = grp.getgrnam(app).gr_gid
    except KeyError:
        return []
    found = []
    for path in (os.path.dirname(target), target):
        with contextlib.suppress(OSError):
            status = os.stat(path)
            if (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) != (0, group, 0o750):
                found.append(path)
    return found


def own(directory: str, group: int) -> None:
    """Have a directory root's, and read by an app alone.

    :param directory: its path.
    :param group: the number of the app's.
    """
    os.chown(directory, 0, group)
    os.chmod(directory, 0o750)


def _unpack(host: Host, app: str, target: str, group: int) -> None:
    """Make a build beside its place and rename it into it, while nobody else does."""
    one, directory = host.app(app), os.path.dirname(target)
    declared, limits = one["build"], one["unpacked"]
    staged = f"{directory}/.{os.path.basename(target)}"
    deletion.delete([staged])
    fetched = f"{staged}.tar.gz"
    try:
        path = source.fetch(host.ask, app, declared["source"], fetched, limits)
        _check_digest(app, path, declared)
        room.check(app, directory, tarball.inspected(app, path, limits))
        # The very build, where it was damaged, is no place to take anything from.
        others = links.newest(directory, but=os.path.basename(target))
        tarball.extract(path, staged, others)
        build = manifest.judge(app, staged)
        manifest.check_processes(app, declared, build)
        manifest.check_packages(app, declared, build)
        published.check_unpacked(app, one, staged)
        wheels.judge(app, staged, links.newest(directory), limits)
        judge.judge(host.host, app, declared["sha256"], build, lambda version: judge.text_of(app, staged, version))
        venv.make(app, staged, others)
        own(staged, group)
        describe(staged)
        if os.path.lexists(target):
            replace(target, staged)
            describe(target)
        else:
            os.rename(staged, target)
    except CommandExecutionError as error:
        if os.path.isdir(target):
            raise CommandExecutionError(
                f"{app}: build {os.path.basename(target)} is damaged ({damage_of(target, deeply=True)}) and cannot be "
                f"unpacked again; what runs is left as it is: {error}"
            ) from error
        raise
    except OSError as error:
        raise CommandExecutionError(
            f"app.{app}.build: {error.strerror or error}: {error.filename or staged}"
        ) from error
    finally:
        deletion.delete([staged])
        if os.path.exists(fetched):
            os.unlink(fetched)


def _check_digest(app: str, path: str, declared: Mapping[str, Any]) -> None:
    """Refuse a tarball that is another than the declared one.

    :raises CommandExecutionError: with the digest that it has.
    """
    found = sha256_of(path)
    if found != declared["sha256"]:
        raise CommandExecutionError(
            f"app.{app}.build.sha256: {declared['source']} has the sha256 {found}; expected the declared one. "
            "Declare the build that is meant, or put the right one there"
        )


def foresee(host: Host, app: str) -> None:
    """Refuse the declared build of an app for what it would do to others, where its tarball is at hand.

    :param host: that on which it would be.
    :param app: the app's name.
    :raises CommandExecutionError: with the reason.
    """
    one = host.app(app)
    declared, place = one["build"], one["build"]["source"]
    path = host.ask("cp.cache_file", place) if place.startswith("salt://") else place
    # What is elsewhere is not fetched by a dry run.
    if path and os.path.isfile(path):
        _check_digest(app, path, declared)
        found = tarball.inspected(app, path, one["unpacked"])
        room.check(app, host.root, found)
        build = manifest.judged(app, found["manifest"], found["has"].__contains__)
        manifest.check_processes(app, declared, build)
        manifest.check_packages(app, declared, build)
        published.check(app, one, found["directories"], found["pages"])
        documents = found["documents"]
        judge.judge(host.host, app, declared["sha256"], build, lambda version: documents.get(version, ""))
