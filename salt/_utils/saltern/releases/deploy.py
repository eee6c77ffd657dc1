"""Releasing what is declared of an app."""

import contextlib
import os
from collections.abc import MutableMapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.contracts import ask
from saltern.host import Host
from saltern.releases import migration, plan, staging, steps, store
from saltern.releases.move import LOCKS, Move, locked
from saltern.releases.refusal import shown
from saltern.releases.store import Changes
from saltern.releases.take import take


@shown
def deploy(host: Host, app: str, context: MutableMapping[str, Any]) -> dict[str, Any]:
    """Release what is declared of an app.

    :param host: the host.
    :param app: the app's name.
    :param context: what the modules of this run share; ``__context__``.
    :return: the number of the ``release`` that serves, what was ``pruned``, and what the move ``told``: a sentence for
        each event, such as a request that was cut off.
    :raises CommandExecutionError: when it was refused, with the step, the reason and what its processes logged last.
    """
    with locked(app):
        wanted = plan.plan(host, app)
        current = store.current(app)
        settings = plan.declared(host, app)
        asker = ask.begin(host, app, context) if wanted["new"] else None
        move = Move(host, app, wanted["number"], wanted["ports"], current, settings, asker)
        try:
            if wanted["new"]:
                details = {key: wanted["changes"][key] for key in ("build", "variables") if key in wanted["changes"]}
                take(steps.DEPLOY, move, "serves", details)
            elif wanted["changes"]:
                # After a rollback the database is ahead of the release.
                is_to_migrate = is_ill(wanted["changes"]) and not wanted["held"]
                take(steps.MEND if is_to_migrate else steps.SETTLE, move)
        finally:
            if asker:
                asker.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(migration.MIGRATED.format(app=app))
        return {"release": move.number, "pruned": move.pruned, "told": move.told}


@shown
def migrate(host: Host, app: str, sha256: str | None = None) -> str:
    """Run the process type ``release`` of the declared build and config. The release that serves stays as it is.

    :param host: the host.
    :param app: the app's name.
    :param sha256: the digest of the build that the caller expects to be declared. :return: what was done.
    :raises CommandExecutionError: when this host is told of another build, the app is held, the build is not on the
        host yet, or it failed, with what it logged last.
    """
    with locked(app):
        wanted, settings = _movable(host, app, sha256), plan.declared(host, app)
        sha256 = str(settings["build"]["sha256"])
        if not wanted["new"]:
            return f"{app}: v{wanted['number']} is what is declared; nothing to migrate"
        if not store.build(app, sha256):
            raise CommandExecutionError(
                f"{app}: build {sha256[:12]} is not on this host yet; converge its state app-build"
            )
        current = store.current(app)
        move = Move(host, app, wanted["number"], wanted["ports"], current, settings)
        take({name: steps.DEPLOY[name] for name in ("clear", "stage", "release")}, move)
        staging.sweep(app)
    return f"{app}: build {sha256[:12]} has run its process release"


def migrated(host: Host, app: str, sha256: str) -> bool:
    """Note that another host has run the process type ``release`` of a build, so that this host's next release skips
    it.

    :param host: the host.
    :param app: the app's name.
    :param sha256: the build's digest.
    :raises CommandExecutionError: when this host is told of another build, or the app is held.
    """
    if not _movable(host, app, sha256)["new"]:
        return True
    os.makedirs(LOCKS, mode=0o700, exist_ok=True)
    with open(migration.MIGRATED.format(app=app), "w", encoding="ascii") as stream:
        stream.write(migration.digest(host, app, sha256))
    return True


@shown
def movable(host: Host, app: str, sha256: str | None = None) -> bool:
    """Check that a release on this host would serve what is declared. Nothing is done.

    :param host: the host.
    :param app: the app's name.
    :param sha256: the digest of the build that whoever asks takes for the declared one.
    :return: true.
    :raises CommandExecutionError: when this host is told of another build, or the app is held.
    """
    _movable(host, app, sha256)
    return True


def _movable(host: Host, app: str, sha256: str | None) -> dict[str, Any]:
    """Return the ``plan`` of an app that may be released.

    :param sha256: see ``movable``.
    :raises CommandExecutionError: when this host is told of another build, as its pillar is of before, or it is held.
    """
    told = plan.declared(host, app)["build"]["sha256"]
    if sha256 is not None and sha256 != told:
        raise CommandExecutionError(
            f"{app}: this host is told to run build {told[:12]}, and is asked for {sha256[:12]}; expected the same, "
            "which saltutil.refresh_pillar may bring"
        )
    wanted = plan.plan(host, app)
    if wanted["held"]:
        raise CommandExecutionError(
            f"{app}: v{wanted['number']} is held, and what is declared would not come to serve; expected another build "
            f"or config in the pillar than the one that was left, or first release.unhold {app}"
        )
    return wanted


def is_ill(changes: Changes) -> bool:
    """Tell whether a process of the current release has yet to become healthy.

    :param changes: see ``plan``. What is pruned has nothing ``new``.
    """
    return any(change.get("new") == "healthy" for change in changes.values())
