"""A database of an app: what it must be, against what PostgreSQL says it is."""

import datetime
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import Host
from saltern.services import postgres_questions as questions
from saltern.services import postgres_server as server
from saltern.services.resource import Resource
from saltern.services.sql import NO_POWERS, literal, matches, name_of, scram
from saltern.system.systemd import Among

State = Mapping[str, Any]
Changes = dict[str, Any]

COMMENT = re.compile(r"Managed by Saltern for the app ([a-z][a-z0-9-]*)\.(?: Kept since (\S+)\.)?")

REPLACED = re.compile(r"Managed by Saltern\. Replaced since (\S+)\.")


def plan(
    service: Resource, host: Host, name: str, owner: str, connections: int, among: Among | None = None
) -> tuple[Changes, list[str]]:
    """Compare a database and its owner with what is declared.

    :param service: PostgreSQL.
    :param host: the host.
    :param name: the database.
    :param owner: the app.
    :param connections: how many connections there may be to the database at once.
    :param among: what the states of the run ask about; see ``postgres_server.answer``.
    :return: the changes as a state reports them, and the SQL statements that make them. The statements hold the
        verifier of a password.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.
    """
    state: State = {"role": None, "logins": [], "database": None}
    login, password = host.login(service, name), host.password(service, name)
    if server.is_installed():
        question = questions.database(name, owner, login)
        state = json.loads(server.answer(question, among, questions.asked(host, service, among)))
    elif not host.is_dry:
        raise CommandExecutionError("psql is not installed; expected the package postgresql-client")
    own, logins = _declared(service, host, owner)
    # The first database of an app makes what all of them share. Each state of a dry run finds nothing made yet, so only
    # the first one tells of it.
    is_first = name == min(own, default=name) or not host.is_dry
    return planned(name, owner, connections, login, password, state, logins, is_first)


def _declared(service: Resource, host: Host, owner: str) -> tuple[set[str], dict[str, int]]:
    """Return the databases that an app attaches, and how many connections each of its logins may have."""
    databases = host.pillar[service.kind][service.plural]
    own = {name: one for name, one in databases.items() if one["owner"] == owner}
    logins: dict[str, int] = {}
    for name, one in own.items():
        login = host.login(service, name)
        # Databases with one password have one login.
        logins[login] = logins.get(login, 0) + one["connections"]
    return set(own), logins


def _anothers(name: str, owner: str, database: State) -> str:
    """Say which other app's data a database holds, so that this app cannot have it; empty where it can."""
    app, _ = whose(database)
    if app in (None, owner):
        return ""
    return (
        f"app.{owner}.attach: the database {name} holds the data of {app}; expected a name of its own. "
        "Remove that data for good as salt-call app.orphans says, or hand it over: formulas/postgres/README.md"
    )


def whose(database: State) -> tuple[str | None, str | None]:
    """Tell which app Saltern made a database for, and since when the database is kept.

    A comment of an earlier version counts where it names the database's owner, because no owner can choose its name.

    :param database: its ``mark``, its ``comment`` and its ``owner``.
    :return: ``None`` for the app where Saltern did not make it, and for the time where the app attaches it.
    """
    found = dict(setting.split("=", 1) for setting in database["mark"] or ())
    if found.get("saltern.app"):
        return found["saltern.app"], found.get("saltern.kept_since") or None
    comment = COMMENT.fullmatch(database["comment"] or "")
    return (comment[1], comment[2]) if comment and comment[1] == database["owner"] else (None, None)


def marking(name: str, app: str, since: str | None = None) -> list[str]:
    """Return the statements that mark a database.

    :param name: the database.
    :param app: the app whose data it holds.
    :param since: since when it is kept, where the app does not attach it.
    """
    to = f"ALTER ROLE postgres IN DATABASE {name_of(name)}"
    kept = f"SET saltern.kept_since = {literal(since)}" if since else "RESET saltern.kept_since"
    return [f"{to} SET saltern.app = {literal(app)};", f"{to} {kept};"]


def planned(
    name: str,
    owner: str,
    connections: int,
    login: str,
    password: str,
    state: State,
    declared: Mapping[str, int] | None = None,
    is_first: bool = True,
) -> tuple[Changes, list[str]]:
    """Plan what is to be done; see ``plan``.

    The app's role owns what the app has, and needs no password. A login acts as that role, and each password has one.
    The logins of earlier passwords stay valid: ``postgres_closing.close_logins`` closes them when nobody has them.

    :param name: the database.
    :param owner: the app.
    :param connections: how many connections there may be to the database at once.
    :param login: the login of the password.
    :param password: the app's password.
    :param state: what the query ``STATE`` answered.
    :param declared: how many connections each login of the app's databases may have, where there are others.
    :param is_first: whether to plan what all databases of the app share: the role, and the logins of earlier passwords.
    :return: see ``plan``.
    :raises CommandExecutionError: when the database holds the data of another app.
    """
    changes: Changes = {}
    statements: list[str] = []
    declared = {login: connections, **(declared or {})}
    role, database = state["role"], state["database"]
    another = database and _anothers(name, owner, database)
    if another:
        raise CommandExecutionError(another)
    powers = NO_POWERS
    if role is None and is_first:
        changes["role"] = {"old": None, "new": owner}
        statements.append(f"CREATE ROLE {name_of(owner)} NOLOGIN {powers};")
    elif role and not role["plain"] and is_first:
        changes["attributes"] = {"old": "others", "new": powers}
        statements.append(f"ALTER ROLE {name_of(owner)} {powers};")
    # The database has the limit too, for all logins together. But the owner may change the limit of the database.
    most, login_most = (f"CONNECTION LIMIT {count}" for count in (connections, declared[login]))
    logins = {one["name"]: one for one in state["logins"]}
    there, verifier = logins.pop(login, None), f"PASSWORD {literal(scram(password, os.urandom(16)))}"
    if there is None:
        changes["login"] = {"old": sorted(logins.keys() - declared.keys()) or None, "new": login}
        statements.append(f"CREATE ROLE {name_of(login)} LOGIN {powers} {login_most} {verifier};")
    elif not there["plain"]:
        changes["login"] = {"old": "others", "new": f"LOGIN {powers}"}
        statements.append(f"ALTER ROLE {name_of(login)} LOGIN {powers};")
    for one in state["logins"]:
        # Nothing tells which database a login of an earlier password is for.
        count = declared.get(one["name"], max(declared.values()))
        if one["limit"] != count and (one is there or (is_first and one["name"] not in declared)):
            changes["login connections"] = {"old": one["limit"], "new": count}
            statements.append(f"ALTER ROLE {name_of(one['name'])} CONNECTION LIMIT {count};")
    if there and not matches(password, there["verifier"]):
        changes["password"] = {"old": "another", "new": "the attachment's"}
        statements.append(f"ALTER ROLE {name_of(login)} {verifier};")
    if there is None or not there["acts"]:
        if there:
            changes["acts"] = {"old": login, "new": owner}
        statements.append(f"GRANT {name_of(owner)} TO {name_of(login)};")
        statements.append(f"ALTER ROLE {name_of(login)} SET role = {literal(owner)};")
    if there and REPLACED.fullmatch(there["replaced"] or ""):
        changes["again"] = {"old": "replaced", "new": login}
        statements.append(f"COMMENT ON ROLE {name_of(login)} IS NULL;")
    before = sorted(logins.keys() - declared.keys()) if is_first else []
    fresh = [one for one in before if not REPLACED.fullmatch(logins[one]["replaced"] or "")]
    for one in fresh:
        changes["replaced"] = {"old": fresh, "new": login}
        note = f"Managed by Saltern. Replaced since {now()}."
        statements.append(f"COMMENT ON ROLE {name_of(one)} IS {literal(note)};")
    if database is None:
        changes["database"] = {"old": None, "new": name}
        statements.append(
            f"CREATE DATABASE {name_of(name)} OWNER {name_of(owner)} TEMPLATE template0 ENCODING 'UTF8' {most};"
        )
    elif database["owner"] != owner:
        changes["owner"] = {"old": database["owner"], "new": owner}
        statements.append(f"ALTER DATABASE {name_of(name)} OWNER TO {name_of(owner)};")
    if database is None or database["public"]:
        changes["public"] = {"old": "may connect", "new": "may not"}
        statements.append(f"REVOKE ALL ON DATABASE {name_of(name)} FROM PUBLIC;")
    mark = database and database["mark"]
    if mark != [f"saltern.app={owner}"]:
        changes["mark"] = {"old": mark, "new": owner}
        statements += marking(name, owner)
    if database and COMMENT.fullmatch(database["comment"] or ""):
        changes["comment"] = {"old": database["comment"], "new": None}
        statements.append(f"COMMENT ON DATABASE {name_of(name)} IS NULL;")
    if database and database["limit"] != connections:
        changes["connections"] = {"old": database["limit"], "new": connections}
        statements.append(f"ALTER DATABASE {name_of(name)} {most};")
    return changes, statements


def now() -> str:
    """Return the time, as marks and notes have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
