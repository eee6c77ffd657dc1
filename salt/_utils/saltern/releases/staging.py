"""Releases on the disk, as they are made, moved, put right and removed; see ``store``."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from saltern.releases import history, hold, scopes, store
from saltern.releases.store import ROLLED_BACK, SERVING
from saltern.system import deletion, files

# What stands in the place of `current` and is no link is kept here until the app is removed.
FOUND = "current.found"


def _write(path: str, text: str, group: int, staged: str | None = None) -> None:
    """Replace a file that root may change and the group may read."""
    files.write(path, text.encode(), 0o640, 0, group, staged)


def stage(
    app: str,
    number: int,
    sha256: str,
    grace: Mapping[str, int],
    listening: Sequence[str],
    variables: Mapping[str, str],
    provides: Mapping[str, str],
    attached: Mapping[str, Any],
) -> None:
    """Write a release: it is there whole, or not at all.

    :param app: the app's name.
    :param number: the release's number.
    :param sha256: its build's digest.
    :param grace: seconds between SIGTERM and SIGKILL by process type.
    :param listening: the process types that have a port, beside ``web``.
    :param variables: its config, text by variable.
    :param provides: the path of each version of its API, by version.
    :param attached: what each variable of an attachment that is derived leads to; see ``attachment.targets``.
    """
    group = store.group(app)
    made = store.build(app, sha256)
    target = store.directory(app, number)
    what = {
        "app": app,
        "number": number,
        "build": sha256,
        "version": made["version"],
        "commit": made["commit"],
        "processes": made["processes"],
        "migrations": made.get("migrations"),
        "reversible": made.get("reversible", False),
        "grace": grace,
        "listening": listening,
        "provides": provides,
        "attached": attached,
        "variables": sorted(variables),
        "created": history.now(),
    }
    staged = f"{os.path.dirname(target)}/.{number}"
    for directory in (os.path.dirname(target), staged, f"{staged}/env"):
        os.makedirs(directory, exist_ok=True)
        os.chown(directory, 0, group)
        os.chmod(directory, 0o750)
    for name, value in variables.items():
        _write(f"{staged}/env/{name}", value, group)
    _write(f"{staged}/release.json", json.dumps(what, indent=2) + "\n", group)
    os.symlink(f"../../builds/{sha256[:12]}", f"{staged}/build")
    os.rename(staged, target)


def attach(app: str, number: int, variables: Mapping[str, str]) -> None:
    """Give a release that does not run its attachments as they are today: each is its own or today's at any moment.

    :param app: the app's name.
    :param number: the release's number.
    :param variables: text by variable.
    """
    had = store.environ(app, number)
    for name, value in variables.items():
        if had.get(name) != value.encode():
            # Beside it, so that no process ever takes what is half written for a variable.
            own = store.directory(app, number)
            _write(f"{own}/env/{name}", value, store.group(app), f"{own}/.attached")


def mark(app: str, number: int, text: str) -> None:
    """Note what became of a release; see ``outcome``.

    :param app: the app's name.
    :param number: the release's number.
    :param text: the outcome.
    """
    if os.path.isdir(store.directory(app, number)):
        _write(f"{store.directory(app, number)}/outcome", f"{text}\n", store.group(app))


def point(app: str, number: int) -> None:
    """Make a release the current one.

    :param app: the app's name.
    :param number: the release's number.
    """
    mark(app, number, SERVING)
    link = f"{store.ROOT}/{app}/current"
    store.clear(f"{link}.new")
    os.symlink(f"releases/{number}", f"{link}.new")
    if os.path.isdir(link) and not os.path.islink(link):
        # Somebody's, who may have put something there.
        store.clear(f"{store.ROOT}/{app}/{FOUND}")
        os.rename(link, f"{store.ROOT}/{app}/{FOUND}")
    os.rename(f"{link}.new", link)


def mend(app: str, number: int) -> None:
    """Put right what ``misplaced`` lists.

    :param app: the app's name.
    :param number: the release's number.
    """
    group = store.group(app)
    for path, what in store.misplaced(app, number).items():
        if path == f"{store.ROOT}/{app}/current":
            point(app, number)
        elif path.endswith("/outcome"):
            mark(app, number, SERVING)
        elif path.endswith("/build"):
            store.clear(path)
            os.symlink(what["new"], path)
        else:
            os.chown(path, 0, group)
            os.chmod(path, 0o750 if os.path.isdir(path) else 0o640)


def discard(app: str, number: int) -> None:
    """Remove a release.

    :param app: the app's name.
    :param number: the release's number.
    """
    store.delete(store.directory(app, number))


def sweep(app: str) -> None:
    """Remove what interrupted runs left behind.

    :param app: the app's name.
    """
    for path in store.leftovers(app):
        store.clear(path)


class Superseded(NamedTuple):
    """What is too old to be kept, of an app.

    :ivar releases: numbers. :ivar builds: names of directories, with the virtual environments in them. :ivar stay:
        the numbers of releases that are as old, and that a run of a job or a one-off command still has.
    """

    releases: list[int]
    builds: list[str]
    stay: list[int]

    @property
    def changes(self) -> dict[str, list[str]]:
        """What goes, as a state reports it. Empty where nothing does."""
        found = {"releases": [f"v{number}" for number in self.releases], "builds": self.builds}
        return {kind: names for kind, names in found.items() if names}

    @property
    def told(self) -> list[str]:
        """A sentence for each release that stays."""
        return [f"v{number} and its build stay: a job or a one-off command runs with them" for number in self.stay]


def superseded(app: str, keep: int, declared: str, serving: int | None) -> Superseded:
    """List what is too old to be kept: all but the last releases that served, as many of those that did not, and the
    builds that they have.

    :param app: the app's name.
    :param keep: how many that served, the current one among them.
    :param declared: the digest of the build that the pillar asks for, which stays too.
    :param serving: the release that serves, or is to serve.
    """
    left = {os.path.basename(path) for path in store.leftovers(app)}
    others = [number for number in store.numbers(app) if number != serving and str(number) not in left]
    # What the pillar still asks for while an earlier release is held must stay to be compared with.
    held = hold.held(app)
    waiting = {held.get("from")} if held.get("release") == serving else set()
    served = [number for number in others if store.outcome(app, number) in (SERVING, ROLLED_BACK)]
    refused = [number for number in others if number not in served]
    old = {*served[: 1 - keep], *refused[:-keep]} - waiting
    stay = old & {number for _, number in scopes.of_runs(app)}
    remaining = {*others, serving} - (old - stay)
    used = {store.record(app, number).get("build", "")[:12] for number in remaining if number} | {declared[:12]}
    directory = f"{store.ROOT}/{app}/builds"
    there = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    return Superseded(sorted(old - stay), [name for name in there if name not in used | left], sorted(stay))


def prune(app: str, keep: int, declared: str) -> Superseded:
    """Remove what is too old to be kept; see ``superseded``.

    :param app: the app's name.
    :param keep: see there.
    :param declared: see there.
    :return: what was removed, and what stays.
    """
    found = superseded(app, keep, declared, store.current(app))
    for number in found.releases:
        discard(app, number)
    for name in found.builds:
        deletion.delete([f"{store.ROOT}/{app}/builds/{name}"])
    return found
