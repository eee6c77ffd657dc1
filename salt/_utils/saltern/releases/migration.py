"""Migrations: for what the process type ``release`` has run, and which migrations lie between two releases."""

import hashlib
import json
from collections.abc import Mapping

from saltern.attachments import config
from saltern.host import Host
from saltern.releases import store
from saltern.releases.store import Record

# The build and config that another host has migrated. It counts for the next release, and is gone after a boot.
MIGRATED = "/run/saltern/migrated-{app}"


def digest(host: Host, app: str, sha256: str) -> str:
    """Return a digest of what the process type ``release`` of a build would run with: its code and its config.

    :param host: the host.
    :param app: the app's name.
    :param sha256: the build's digest.
    """
    ran = json.dumps([sha256, config.environ(host, app)], sort_keys=True)
    return hashlib.sha256(ran.encode()).hexdigest()


def crossed(app: str, current: int, target: int) -> str | None:
    """Return why an earlier release may not know the database any more, or ``None``.

    :param app: the app's name.
    :param current: the release that serves.
    :param target: the release to go to.
    """
    records = {n: store.record(app, n) for n in store.numbers(app)}
    crossing = {current, *(number for number in records if target < number < current)}
    for number in sorted(number for number in crossing if "build" not in records.get(number, {})):
        return f"what v{number} has migrated is not known, since its release.json cannot be read"
    # A build names its own migrations, and those of its wheels.
    records = {n: store.build(app, one.get("build", "")) | one for n, one in records.items()}
    return between(records, current, target)


def between(records: Mapping[int, Record], current: int, target: int) -> str | None:
    """Find a migration between two releases.

    A build says which migrations it has, by digests of their files, and whether the builds before it work with what its
    own leave.

    :param records: what each release and its build are, by number.
    :param current: the release that serves.
    :param target: the release to go to.
    :return: a sentence, or ``None``.
    """
    untold = None
    for number in sorted((n for n in records if target < n <= current), reverse=True):
        record = records[number]
        # Only the process type `release` runs migrations.
        if record["build"] == records[target]["build"] or "release" not in record.get("processes", {}):
            continue
        if record.get("reversible"):
            continue
        of, why = new_migrations(record, records[target])
        if of is not None:
            return f"v{number} has run migrations{of} that v{target} does not have"
        if why:
            untold = untold or (
                f"it cannot be told whether v{number} has run migrations that v{target} does not have: {why}"
            )
    return untold


def new_migrations(record: Record, other: Record) -> tuple[str | None, str | None]:
    """Tell whether a release has migrations that another one has not.

    :param record: what it and its build are.
    :param other: the same of the other one.
    :return: whose they are, in words, or ``None``; and why that cannot be told, or ``None``.
    """
    installed, its = record.get("installed_migrations"), other.get("installed_migrations")
    if installed is not None and its is not None:
        named = sorted(name for name, digest in installed.items() if its.get(name) != digest)
        if named == ["unknown"]:
            return None, "there are none of a kind that Saltern knows, and their code differs"
        shown = ", ".join("its code" if name == "code" else name for name in named)
        return (f" of {shown}", None) if named else (None, None)
    # Builds of earlier versions name only the migrations of their own code.
    own, theirs = record.get("migrations"), other.get("migrations")
    if own is not None and own != theirs:
        return "", None
    is_alike = record.get("wheels") is not None and record["wheels"] == other.get("wheels")
    is_known = own is not None or theirs is not None or "unknown" not in (installed or its or {"unknown": ""})
    if is_alike and is_known:
        return None, None
    return None, "an earlier bin/build made one of their builds, which does not say what its wheels migrate"
