"""Databases and logins that no app has any more: which they are, and how they are closed. The data stays."""

import datetime
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from saltern.attachments.users import holders, users
from saltern.host import Host
from saltern.services import postgres_access as access
from saltern.services import postgres_pool, postgres_pooling
from saltern.services import postgres_questions as questions
from saltern.services import postgres_server as server
from saltern.services.base import LOOPBACK
from saltern.services.postgres_database import COMMENT, REPLACED, marking, now, whose
from saltern.services.postgres_questions import SESSIONS
from saltern.services.resource import Resource
from saltern.services.sql import literal, name_of

Database = Mapping[str, Any]
Changes = dict[str, Any]
# Returns PostgreSQL's answer to a question.
Ask = Callable[[str], str]


def kept(host: Host, attached: Collection[str], ask: Ask = server.asked) -> list[dict[str, Any]]:
    """List the databases of Saltern that no app attaches.

    :param host: the host.
    :param attached: the databases that are attached, in any order.
    :param ask: asks PostgreSQL.
    :return: for each database a mapping. It has its ``name``, its ``owner`` and the databases which that one has
        (``owned``), the ``app`` that it was made for, ``since`` when it is kept, and its ``size`` in bytes. And it has
        what is open: its connection ``limit`` (0 is none), whether its owner may ``login``, the owner's other
        ``logins``, the number of ``sessions`` without those of superusers, and the addresses of other hosts from which
        these come (``remote``).
    :raises CommandExecutionError: when PostgreSQL cannot be asked.
    """
    if not server.is_installed():
        return []
    marks = [(one, *whose(one)) for one in json.loads(ask(questions.kept(host, attached)))]
    return [one | {"app": app, "since": since} for one, app, since in marks if app]


def close(
    service: Resource,
    host: Host,
    path: str,
    databases: Mapping[str, str],
    staying: Collection[str] = (),
    ask: Ask = server.asked,
) -> tuple[Changes, dict[str, list[str]]]:
    """Plan, or close, the databases that no app attaches any more. Then only superusers may connect.

    :param service: PostgreSQL.
    :param host: the host. In a dry run nothing is closed.
    :param path: the path of the access list, ``pg_hba.conf``.
    :param databases: owner by database, for those that are attached.
    :param staying: apps of which no release is stopped; see ``saltern.attachments.users.users``.
    :param ask: asks PostgreSQL.
    :return: the changes as a state reports them, and the databases that stay open with the releases that have them.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.
    """
    found = {one["name"]: one for one in kept(host, databases, ask)}
    listed = access.leaving(path, databases)
    there = {name for name, _ in listed}
    used = {name: users(host, service, name, staying) for name in sorted(found.keys() | there)}
    # A release of another host, which has not converged yet.
    for name, one in found.items():
        used[name] = used[name] or [f"{address}, which is connected" for address in one["remote"]]
        used[name] = used[name] or postgres_pooling.elsewhere(host, name)
    for name, owner in listed:
        if name in databases:
            # Another app attaches the database by now. Its own releases do not count.
            used[name] = [release for release in used[name] if release.partition(" ")[0] == owner]
    statements: dict[str, list[str]] = {}
    dropped: set[str] = set()
    for name, one in ((name, found[name]) for name in found if not used[name]):
        # An app's logins are for all its databases. They go with the first one.
        rest = [login for login in one["logins"] if login not in dropped]
        statements[name] = closed(one | {"logins": rest}, set(databases.values()))
        if any(line.startswith("DROP ROLE ") for line in statements[name]):
            dropped.update(rest)
    closing = [name for name, by in used.items() if not by and (statements.get(name) or name in there)]
    changes: Changes = {name: {"old": "open", "new": "closed to logins"} for name in closing}
    if closing and not host.is_dry:
        server.run([statement for name in closing for statement in statements.get(name, [])])
        access.forget(path, {pair for pair in listed if pair[0] in closing})
        server.run(["SELECT pg_reload_conf();"])
    return changes, {name: by for name, by in used.items() if by}


def closed(one: Database, owners: Collection[str]) -> list[str]:
    """Return the SQL statements that close a database: none where it is closed.

    :param one: the database, as ``kept`` gives it.
    :param owners: the owners of the databases that are attached.
    """
    name = one["name"]
    statements: list[str] = []
    if one["limit"] != 0:
        statements.append(f"ALTER DATABASE {name_of(name)} CONNECTION LIMIT 0;")
    # The role stays open where another database of the app needs it.
    is_to_close = one["owner"] == one["app"] and one["owner"] not in owners
    if one["login"] and is_to_close:
        statements.append(f"ALTER ROLE {name_of(one['owner'])} NOLOGIN PASSWORD NULL;")
    has_mark = f"saltern.app={one['app']}" in (one["mark"] or ())
    if not (one["since"] and has_mark):
        statements += marking(name, one["app"], one["since"] or now())
    if COMMENT.fullmatch(one["comment"] or ""):
        statements.append(f"COMMENT ON DATABASE {name_of(name)} IS NULL;")
    logins = one["logins"] if is_to_close else []
    if statements or one["sessions"] or logins:
        statements.append(f"SELECT pg_terminate_backend(pid, 5000) FROM {SESSIONS.format(name=literal(name))};")
    return statements + [line for login in logins for line in _dropping(login, one["owner"], one["owned"])]


def _dropping(login: str, owner: str, databases: Collection[str]) -> list[str]:
    """Return the statements that remove a login. The owner gets what the login made under its own name.

    :param databases: the databases that the owner has.
    """
    statements: list[str] = []
    for database in databases:
        statements.append(f"\\connect {name_of(database)}")
        statements.append(f"REASSIGN OWNED BY {name_of(login)} TO {name_of(owner)};")
        statements.append(f"DROP OWNED BY {name_of(login)};")
    return [*statements, "\\connect postgres", f"DROP ROLE {name_of(login)};"]


def close_logins(
    service: Resource, host: Host, staying: Collection[str] = (), ask: Ask = server.asked
) -> tuple[Changes, dict[str, list[str]]]:
    """Plan, or close, the logins of replaced passwords that nobody uses any more.

    Where other hosts have apps, a release without a connection may still use a login. There each login also stays for
    the hours of ``postgres.overlap``.

    :param service: PostgreSQL.
    :param host: the host. In a dry run nothing is closed.
    :param staying: apps of which no release is stopped; see ``saltern.attachments.users.users``.
    :param ask: asks PostgreSQL.
    :return: the changes as a state reports them, and why each login that stays does.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.
    """
    databases = questions.owned(host, service)
    if not databases or not server.is_installed():
        return {}, {}
    found = json.loads(ask(questions.others(host, service, databases)))
    if not found:
        return {}, {}
    used, today = (holders(host, service, leaving, staying) for leaving in (not host.is_dry, True))
    own = {LOOPBACK, "::1", host.address}
    settings = host.pillar[service.kind]
    overlap = settings["overlap"] if settings["listen"] else 0
    closing: list[Database] = []
    stays: dict[str, list[str]] = {}
    for one in found:
        replaced = REPLACED.fullmatch(one["replaced"] or "")
        until = datetime.datetime.fromisoformat(replaced[1] if replaced else now())
        until += datetime.timedelta(hours=overlap)
        # In a dry run, a release that would be stopped still has its connections.
        ending = own if one["name"] in today and one["name"] not in used else set[str]()
        there = {*one["from"], *postgres_pool.addresses(one["name"])}
        connected = [f"{address}, which is connected" for address in sorted(there - ending)]
        reasons = used.get(one["name"]) or connected
        if not reasons and until > datetime.datetime.now(datetime.UTC):
            reasons = [f"other app hosts until {until.isoformat(timespec='minutes')}"]
        if reasons:
            stays[one["name"]] = reasons
        else:
            closing.append(one)
    if closing and not host.is_dry:
        server.run([line for one in closing for line in _closing_login(one)])
        postgres_pooling.forget([one["name"] for one in closing])
    return {one["name"]: {"old": "replaced", "new": "closed to logins"} for one in closing}, stays


def _closing_login(one: Database) -> list[str]:
    """Return the statements that close a login. The app's own role stays, since it owns what the app has."""
    if one["name"] != one["owner"]:
        return _dropping(one["name"], one["owner"], one["owned"])
    role = name_of(one["name"])
    return [f"ALTER ROLE {role} NOLOGIN PASSWORD NULL;", f"COMMENT ON ROLE {role} IS NULL;"]
