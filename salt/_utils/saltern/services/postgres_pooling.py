"""What is done on a host for the pools before PostgreSQL: who may log in, what PgBouncer has read, what nobody uses."""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
import time
from collections.abc import Collection, Mapping
from typing import Any

from saltern.attachments import users as using
from saltern.host import Host
from saltern.services import postgres_pool as pool
from saltern.services import postgres_server
from saltern.services.base import LOOPBACK
from saltern.services.resource import Resource
from saltern.services.sql import matches
from saltern.services.steps import Run, Step
from saltern.system import files, systemd


def users(service: Resource, run: Run, path: str) -> Step:
    """Have the pools let in the logins that have their databases, and nobody else.

    :param service: PostgreSQL.
    :param run: the converge.
    :param path: of the file with the logins.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.
    """
    host, settings = run.host, run.host.pillar["postgres"]
    rows = [] if host.is_dry and not postgres_server.is_installed() else pool.allowed(settings)
    wanted = _by_database(rows)
    for name, logins in _declared(service, host).items():
        wanted.setdefault(name, set()).update(logins)
    before = _by_database({"database": one, "login": login} for one, login in pool.RULE.findall(_text(pool.HBA)))
    changes: dict[str, Any] = {
        name: {"old": sorted(before.get(name, [])) or None, "new": sorted(wanted.get(name, []))}
        for name in sorted(before.keys() | wanted.keys())
        if before.get(name) != wanted.get(name)
    }
    texts = pool.written(rows, settings["clients"])
    if not changes and (
        texts != {one: _text(one) for one in texts} or (host.is_dry and _renewing(service, host, rows))
    ):
        changes[path] = {"old": "other passwords or hosts", "new": "as PostgreSQL has them"}

    def act() -> None:
        _write(texts)

    return Step("The pools let in the logins of their databases alone", changes, act)


def _by_database(rows: Any) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["database"], set()).add(row["login"])
    return found


def _declared(service: Resource, host: Host) -> dict[str, set[str]]:
    """Return the declared logins of each database with a pool."""
    pooled = {name: one for name, one in host.pillar["postgres"]["databases"].items() if one["owner"]}
    return {
        name: {host.login(service, name), *(one.login for one in host.lent(service, name))}
        for name, one in pooled.items()
        if one.get("pools")
    }


def _renewing(service: Resource, host: Host, rows: Collection[Mapping[str, str]]) -> bool:
    """Tell in a dry run whether the run gives a login another password, though the name follows from it."""
    verifiers = {row["login"]: row["verifier"] for row in rows}
    for name in _declared(service, host):
        known = verifiers.get(host.login(service, name))
        if known and not matches(host.password(service, name), known):
            return True
    return False


def _text(path: str) -> str:
    return files.read(path) or ""


def _write(texts: Mapping[str, str]) -> None:
    group = grp.getgrnam("postgres").gr_gid
    for path, text in texts.items():
        if text != files.read(path):
            files.write(path, text, 0o640, 0, group)


def pooled(run: Run, way: str) -> Step:
    """Have PgBouncer read what is on the disk, in one way. No client is disconnected.

    :param run: the converge.
    :param way: such as ``transaction``.
    """
    comment = f"The pool {way} has read its configuration"
    if way == "transaction" and not pool.prepared(way, run.host.ask("settings.debian")["version"]):
        comment += "; a client that prepares statements needs PgBouncer 1.21, which this Debian does not have"
    unit = pool.unit(way)
    paths = [pool.configuration(way), pool.USERS, pool.HBA, pool.CERTIFICATE]
    since = systemd.loaded(unit)
    if run.host.is_dry:
        # One that would start or restart reads what is there by then.
        is_older = since is not None and not run.changed(unit) and any(map(run.changed, paths))
    else:
        is_older = False
    is_older = is_older or (since is not None and systemd.newer(paths, since, time.time()))
    changes = {unit: {"old": "older than its configuration", "new": "reloaded"}} if is_older else {}
    return Step(comment, changes, lambda: systemd.reload(unit))


def unpooled(service: Resource, run: Run, path: str) -> Step:
    """Have no pool that no app attaches, no release has, and nobody is connected to.

    :param service: PostgreSQL.
    :param run: the converge.
    :param path: of the directory of PgBouncer's configuration.
    :raises CommandExecutionError: when PgBouncer cannot be asked.
    """
    settings = run.host.pillar["postgres"]
    going, said = _unused(service, run)
    changes: dict[str, Any] = {f"{name} ({way})": {"old": "pooled", "new": None} for way, name in going}
    left = {way: set(pool.listed(way)) - {name for one, name in going if one == way} for way in pool.PORTS}
    ending = [way for way, names in left.items() if not names and way not in pool.ways(settings)]
    ending = [way for way in ending if os.path.exists(pool.configuration(way))]
    changes |= {pool.unit(way): {"old": "runs", "new": None} for way in ending}

    def act() -> None:
        for way in pool.PORTS:
            if way in ending:
                systemd.switch(pool.unit(way), False)
                os.unlink(pool.configuration(way))
            elif any(one == way for one, _ in going):
                _leave(way, left[way])
        everywhere = {name for names in left.values() for name in names}
        forget([], {name for _, name in going} - everywhere)
        if ending and not any(left.values()):
            shutil.rmtree(path)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(pool.UNIT_FILE)
            systemd.read()

    return Step("; ".join(said) or "Each pool is attached", changes, act)


def _unused(service: Resource, run: Run) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the pools that nobody uses, as pairs of way and database, and what is to be said of the others."""
    host, settings = run.host, run.host.pillar["postgres"]
    going, said = [], []
    for way, port in pool.PORTS.items():
        for name in sorted(pool.listed(way).keys() - pool.declared(settings, way).keys()):
            used = using.users(host, service, name, run.staying, port)
            if used := used or elsewhere(host, name, port):
                said.append(f"{name} stays pooled ({way}) for {', '.join(used)}")
            else:
                going.append((way, name))
    return going, said


def elsewhere(host: Host, database: str, port: int | None = None) -> list[str]:
    """List the other hosts that are connected to a pool of a database.

    :param host: the host.
    :param database: by name.
    :param port: of one pool; ``None`` for all.
    """
    found = {one.address for one in pool.connected() if one.database == database and port in (None, one.port)}
    own = {LOOPBACK, "::1", host.address} if found else set[str]()
    return [f"{address}, which is connected" for address in sorted(found - own)]


def _leave(way: str, names: Collection[str]) -> None:
    """Take out of a configuration the pools of all databases but some."""
    path = pool.configuration(way)
    lines = _text(path).splitlines(keepends=True)
    status = os.stat(path)
    text = "".join(line for line in lines if not (match := pool.DATABASE.match(line)) or match[1] in names)
    files.write(path, text, status.st_mode & 0o777, status.st_uid, status.st_gid)


def forget(logins: Collection[str], databases: Collection[str] = ()) -> None:
    """Have no pool let in some logins that are closed, and have no rule for some databases.

    :param logins: that PostgreSQL does not have any more.
    :param databases: that have no pool any more.
    """
    if not os.path.exists(pool.HBA):
        return
    _write(pool.without(logins, databases))
    for way in pool.PORTS:
        if systemd.loaded(pool.unit(way)) is not None:
            systemd.reload(pool.unit(way))
