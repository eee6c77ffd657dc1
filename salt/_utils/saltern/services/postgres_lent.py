"""Databases that are lent: to apps that read them, or that have them as their owner has.

Each way has a group, a role such as ``stock:read``, and each borrower has a login that is a member of it. So the group
says what its members may, in one database alone, and its members are those who borrow.
"""

import contextlib
import datetime
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from saltern.attachments.users import holders
from saltern.host import Host, Lent
from saltern.services import postgres_pool, postgres_pooling
from saltern.services import postgres_server as server
from saltern.services.base import LOOPBACK
from saltern.services.resource import Resource
from saltern.services.sql import NO_POWERS, POWERS, literal, matches, name_of, names, scram
from saltern.services.steps import Run, Step
from saltern.system import files

WAYS = ("read", "whole")
# With ``:whole`` it is no longer than PostgreSQL lets a name be.
LONGEST = 57
# The fewest connections that a borrower can have: a release starts beside the one that serves.
FEWEST = 2

# As files/pg_hba.conf.jinja writes it.
LINE = re.compile(r'^(?:hostssl|local  ) (?:all|"[a-z0-9_]+")  \+"([a-z0-9_]+:(?:read|whole))"  ')
REPLACED = re.compile(r"Managed by Saltern\. Replaced since (\S+)\.")

# In an app's database nothing of the app's may take the place of PostgreSQL's own, nor act as the app.
INSIDE = ("SET ROLE NONE;", "SET search_path TO pg_catalog;")
OWN = "nspname !~ '^pg_' AND nspname <> 'information_schema'"
LACKING = f"""
SELECT 'connections' AS what FROM its WHERE NOT has_database_privilege(its.oid, current_database(), 'CONNECT')
UNION ALL SELECT 'schemas' FROM its WHERE EXISTS (
  SELECT FROM pg_namespace WHERE {OWN} AND NOT has_schema_privilege(its.oid, pg_namespace.oid, 'USAGE'))
UNION ALL SELECT 'tables' FROM its WHERE EXISTS (
  SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
  WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND {OWN}
    AND NOT has_table_privilege(its.oid, pg_class.oid, 'SELECT'))
UNION ALL SELECT 'later tables' FROM its WHERE 3 > (
  SELECT count(DISTINCT defaclobjtype) FROM pg_default_acl, aclexplode(defaclacl) AS acl
  WHERE defaclrole = (SELECT oid FROM pg_roles WHERE rolname = {{owner}}) AND defaclnamespace = 0
    AND acl.grantee = its.oid AND acl.privilege_type = CASE defaclobjtype WHEN 'n' THEN 'USAGE' ELSE 'SELECT' END)
"""
STATE = f"""
WITH its AS (SELECT oid FROM pg_roles WHERE rolname = {{read}})
SELECT json_build_object(
  'groups', (SELECT coalesce(json_agg(rolname), '[]') FROM pg_authid
             WHERE rolname IN ({{read}}, {{whole}}) AND NOT rolcanlogin AND NOT {POWERS}),
  'owns', EXISTS (SELECT FROM pg_auth_members WHERE member = (SELECT oid FROM pg_roles WHERE rolname = {{whole}})
                  AND roleid = (SELECT oid FROM pg_roles WHERE rolname = {{owner}})),
  'lacks', (SELECT coalesce(json_agg(what), '[]') FROM ({LACKING}) AS lacking),
  'logins', (SELECT coalesce(json_agg(json_build_object(
               'name', pg_authid.rolname, 'verifier', rolpassword, 'limit', pg_authid.rolconnlimit,
               'plain', pg_authid.rolcanlogin AND NOT {POWERS}, 'group', granted.rolname,
               'acts', EXISTS (SELECT FROM pg_db_role_setting WHERE setrole = pg_authid.oid AND setdatabase = 0
                               AND 'role=' || {{owner}} = ANY (setconfig)),
               'replaced', shobj_description(pg_authid.oid, 'pg_authid')) ORDER BY pg_authid.rolname), '[]')
             FROM pg_authid JOIN pg_auth_members ON member = pg_authid.oid
             JOIN (SELECT oid AS granted_oid, rolname FROM pg_roles) AS granted ON granted_oid = roleid
             WHERE granted.rolname IN ({{read}}, {{whole}})));
"""
NOTHING: dict[str, Any] = {"groups": [], "owns": False, "lacks": [], "logins": []}

RETURNED = """
SELECT json_build_object(
  'databases', (SELECT coalesce(json_agg(datname), '[]') FROM pg_database WHERE datname = ANY ({databases})),
  'groups', (SELECT coalesce(json_agg(rolname), '[]') FROM pg_roles WHERE rolname = ANY ({groups})),
  'logins', (SELECT coalesce(json_agg(json_build_object(
               'name', login.rolname, 'group', granted.rolname, 'replaced', shobj_description(login.oid, 'pg_authid'),
               'owner', (SELECT pg_get_userbyid(datdba) FROM pg_database
                         WHERE datname = split_part(granted.rolname, ':', 1)),
               'from', (SELECT coalesce(json_agg(DISTINCT host(client_addr)), '[]') FROM pg_stat_activity
                        WHERE usesysid = login.oid AND client_addr IS NOT NULL)) ORDER BY login.rolname), '[]')
             FROM pg_auth_members JOIN pg_roles AS login ON login.oid = member
             JOIN pg_roles AS granted ON granted.oid = roleid WHERE granted.rolname = ANY ({groups})));
"""


def group(name: str, access: str) -> str:
    """Name the group of those who have a database in one way."""
    return f"{name}:{access}"


def admitted(path: str, databases: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Say which groups the server lets in to what, and how, in the order of its access list.

    A group that nobody declares any more stays until ``returned`` has closed it.

    :param path: of the access list, ``pg_hba.conf``.
    :param databases: settings by database.
    """
    groups = sorted(listed(path) | _declared(databases))
    own = [(f'"{one.partition(":")[0]}"', one, "scram-sha-256") for one in groups]
    # They act as the owner, which other databases let in too.
    return own + [("all", one, "reject") for one in groups if one.endswith(":whole")]


def listed(path: str) -> set[str]:
    """Read which groups the access list lets in."""
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as stream:
        return {match[1] for match in map(LINE.match, stream) if match}
    return set()


def _declared(databases: Mapping[str, Any]) -> set[str]:
    return {group(name, access) for name, one in databases.items() for access in one.get("borrowers", {}).values()}


def share(connections: int, borrowers: int) -> int:
    """Return how many connections a borrower may have: no more than the owner is left with."""
    return max(FEWEST, connections // (1 + borrowers))


def lent(service: Resource, run: Run, name: str) -> Step:
    """Have a database open to those to whom it is lent.

    :param service: PostgreSQL.
    :param run: the converge.
    :param name: the database.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.
    """
    host = run.host
    resource, borrowers = host.resource(service, name), host.lent(service, name)
    state = _state(host, name, resource["owner"])
    changes, outside, inside = planned(name, resource["owner"], resource["connections"], borrowers, state)
    who = ", ".join(one.app for one in borrowers)
    if not changes:
        return Step(f"{name} is lent to {who}")
    statements = [*outside, *([f"\\connect {name_of(name)}", *INSIDE, *inside] if inside else [])]

    def act() -> None:
        server.run(statements)

    return Step(f"{name} {'would be' if host.is_dry else 'was'} lent to {who}", changes, act)


def _state(host: Host, name: str, owner: str) -> dict[str, Any]:
    if host.is_dry and not server.is_installed():
        return NOTHING
    there = f"SELECT count(*) FROM pg_database WHERE datname = {literal(name)};"
    if host.is_dry and server.run([there]) == "0":
        return NOTHING
    ways = {access: literal(group(name, access)) for access in WAYS}
    question = STATE.format(owner=literal(owner), **ways)
    found: dict[str, Any] = json.loads(server.run([f"\\connect {name_of(name)}", *INSIDE, question]))
    return found


def planned(
    name: str, owner: str, connections: int, borrowers: Sequence[Lent], state: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Work out what is to be done for a database to be lent as declared.

    :param name: the database.
    :param owner: the app that owns it.
    :param connections: how many the database takes.
    :param borrowers: to whom it is lent.
    :param state: what ``STATE`` answered.
    :return: the changes as a state reports them, and statements: of roles, and those in the database itself.
    """
    changes: dict[str, Any] = {}
    outside: list[str] = []
    inside: list[str] = []
    for access in sorted({one.access for one in borrowers}):
        its = group(name, access)
        if is_new := its not in state["groups"]:
            changes[its] = {"old": None, "new": "made"}
            # One that is not plain is there all the same.
            outside.append(f"DO $$BEGIN CREATE ROLE {name_of(its)}; EXCEPTION WHEN duplicate_object THEN NULL; END$$;")
            outside.append(f"ALTER ROLE {name_of(its)} NOLOGIN {NO_POWERS};")
        if access == "whole" and not state["owns"]:
            changes["acts"] = {"old": None, "new": owner}
            outside.append(f"GRANT {name_of(owner)} TO {name_of(its)};")
        if access == "read" and (is_new or state["lacks"]):
            changes["reads"] = {"old": None if is_new else f"no {', '.join(state['lacks'])}", "new": "all tables"}
            inside += _reading(name, owner, its)
    most, logins = share(connections, len(borrowers)), {one["name"]: one for one in state["logins"]}
    for one in borrowers:
        found, statements = _login(name, owner, one, most, logins.get(one.login))
        outside += statements
        if found:
            changes[one.login] = {
                "old": None if one.login not in logins else found,
                "new": f"{one.access} for {one.app}",
            }
    apps, valid = {(one.app, group(name, one.access)) for one in borrowers}, {one.login for one in borrowers}
    for before in state["logins"]:
        is_of = (before["name"].rpartition("_")[0], before["group"]) in apps
        if is_of and before["name"] not in valid and not REPLACED.fullmatch(before["replaced"] or ""):
            changes[before["name"]] = {"old": "lent", "new": "replaced"}
            note = f"Managed by Saltern. Replaced since {_now().isoformat(timespec='seconds')}."
            outside.append(f"COMMENT ON ROLE {name_of(before['name'])} IS {literal(note)};")
    return changes, outside, inside


def _login(name: str, owner: str, one: Lent, most: int, found: Mapping[str, Any] | None) -> tuple[list[str], list[str]]:
    """Return what differs of a borrower's login, and the statements that make it right."""
    login, its = name_of(one.login), name_of(group(name, one.access))
    verifier = f"PASSWORD {literal(scram(one.password, os.urandom(16)))}"
    if found is None:
        made = [
            f"CREATE ROLE {login} LOGIN {NO_POWERS} CONNECTION LIMIT {most} {verifier};",
            f"GRANT {its} TO {login};",
        ]
        return ["login"], [*made, *_acting(one, owner)]
    differs, statements = [], []
    if not found["plain"]:
        differs.append("powers")
        statements.append(f"ALTER ROLE {login} LOGIN {NO_POWERS};")
    if found["limit"] != most:
        differs.append("connections")
        statements.append(f"ALTER ROLE {login} CONNECTION LIMIT {most};")
    if not matches(one.password, found["verifier"]):
        differs.append("password")
        statements.append(f"ALTER ROLE {login} {verifier};")
    if one.access == "whole" and not found["acts"]:
        differs.append("acts")
        statements += _acting(one, owner)
    if REPLACED.fullmatch(found["replaced"] or ""):
        differs.append("replaced")
        statements.append(f"COMMENT ON ROLE {login} IS NULL;")
    return differs, statements


def _acting(one: Lent, owner: str) -> list[str]:
    return [f"ALTER ROLE {name_of(one.login)} SET role = {literal(owner)};"] if one.access == "whole" else []


def _reading(name: str, owner: str, its: str) -> list[str]:
    """Return the statements that have a group read what is in a database, and what its owner will make there."""
    kinds = ("USAGE ON SCHEMA", "SELECT ON ALL TABLES IN SCHEMA", "SELECT ON ALL SEQUENCES IN SCHEMA")
    each = " ".join(f"EXECUTE format('GRANT {kind} %I TO %I', its, {literal(its)});" for kind in kinds)
    loop = f"FOR its IN SELECT nspname FROM pg_namespace WHERE {OWN} LOOP {each} END LOOP;"
    later = f"ALTER DEFAULT PRIVILEGES FOR ROLE {name_of(owner)} GRANT"
    return [
        f"GRANT CONNECT ON DATABASE {name_of(name)} TO {name_of(its)};",
        f"DO $$DECLARE its name; BEGIN {loop} END$$;",
        *(
            f"{later} {what} TO {name_of(its)};"
            for what in ("USAGE ON SCHEMAS", "SELECT ON TABLES", "SELECT ON SEQUENCES")
        ),
    ]


def returned(service: Resource, run: Run, path: str) -> Step:
    """Have no login of those to whom a database is lent no more, nor of passwords that were replaced.

    What a release has that runs on this host, or who is connected, keeps its login.

    :param service: PostgreSQL.
    :param run: the converge.
    :param path: of the access list.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.
    """
    host = run.host
    databases = {name: one for name, one in host.pillar["postgres"]["databases"].items() if one["owner"]}
    declared, let_in = _declared(databases), listed(path)
    groups = declared | let_in
    if not groups or not server.is_installed():
        return Step("No database is lent to others")
    valid = {one.login: one for name in databases for one in host.lent(service, name)}
    question = RETURNED.format(groups=names(groups), databases=names({one.partition(":")[0] for one in groups}))
    state = json.loads(server.run([question]))
    apps = {(one.app, group(name, one.access)) for name in databases for one in host.lent(service, name)}
    others = [one for one in state["logins"] if one["name"] not in valid]
    stays = _reasons(service, run, others, apps) if others else {}
    closing = [one for one in others if one["name"] not in stays]
    kept = {one["group"] for one in others if one["name"] in stays}
    gone = sorted(groups - declared - kept)
    said = [f"the login {login} stays open for {', '.join(by)}" for login, by in stays.items()]
    changes: dict[str, Any] = {one["name"]: {"old": "lent", "new": "closed to logins"} for one in closing}
    changes |= {one: {"old": "lent", "new": None} for one in gone}
    if changes:
        said.append(f"{', '.join(changes)} {'would be' if host.is_dry else 'was'} closed")
    statements = [line for one in closing for line in _dropping(one["name"], one["group"], one["owner"], state)]
    statements += [line for one in gone if one in state["groups"] for line in _dropping(one, one, None, state)]

    def act() -> None:
        server.run(statements)
        postgres_pooling.forget([one["name"] for one in closing])
        if gone:
            _forget(path, gone)
            server.run(["SELECT pg_reload_conf();"])

    return Step("; ".join(said) or "No other app has a database that is lent", changes, act)


def _reasons(
    service: Resource, run: Run, others: Sequence[Mapping[str, Any]], apps: Collection[tuple[str, str]]
) -> dict[str, list[str]]:
    """Say of each login why it stays; those that nobody has are left out.

    :param others: the logins that are not declared.
    :param apps: pairs of app and group of those that are.
    """
    host, settings = run.host, run.host.pillar["postgres"]
    users = holders(host, service, not host.is_dry, run.staying)
    now = holders(host, service, True, run.staying)
    found = {}
    for one in others:
        login = one["name"]
        # In a dry run those connections are open yet that a release has which would be stopped.
        ending = {LOOPBACK, "::1", host.address} if login in now and login not in users else set[str]()
        there = {*one["from"], *postgres_pool.addresses(login)}
        reasons = users.get(login) or [f"{each}, which is connected" for each in sorted(there - ending)]
        is_replaced = (login.rpartition("_")[0], one["group"]) in apps
        if not reasons and is_replaced and settings["listen"]:
            note = REPLACED.fullmatch(one["replaced"] or "")
            since = datetime.datetime.fromisoformat(note[1]) if note else _now()
            until = since + datetime.timedelta(hours=settings["overlap"])
            reasons = [f"other app hosts until {until.isoformat(timespec='minutes')}"] if until > _now() else []
        if reasons:
            found[login] = reasons
    return found


def _dropping(role: str, its: str, owner: str | None, state: Mapping[str, Any]) -> list[str]:
    """Return the statements that remove a login or a group. What a login made is the owner's."""
    name = its.partition(":")[0]
    statements = []
    if name in state["databases"]:
        statements += [f"\\connect {name_of(name)}", *INSIDE]
        statements += [f"REASSIGN OWNED BY {name_of(role)} TO {name_of(owner)};"] if owner else []
        statements += [f"DROP OWNED BY {name_of(role)};", "\\connect postgres"]
    return [*statements, f"DROP ROLE {name_of(role)};"]


def _forget(path: str, groups: Collection[str]) -> None:
    with open(path, encoding="utf-8", errors="replace") as stream:
        lines = [(line, LINE.match(line)) for line in stream]
        before = os.fstat(stream.fileno())
    text = "".join(line for line, match in lines if not (match and match[1] in groups))
    files.write(path, text, before.st_mode & 0o777, before.st_uid, before.st_gid)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
