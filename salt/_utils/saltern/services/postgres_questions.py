"""What PostgreSQL is asked about databases and logins. Each answer is one line of JSON."""

import json
from collections.abc import Collection, Mapping

from saltern.host import Host
from saltern.services import postgres_server as server
from saltern.services.resource import Resource
from saltern.services.sql import POWERS, literal, names
from saltern.system.systemd import Among

# The logins of an app, one for each password; see ``Resource.login``. In earlier versions the app's role was its login.
# The logins by which an app has a database of another app are members of a group, and are left out.
LOGINS = (
    "rolcanlogin AND NOT rolsuper AND rolname ~ ('^' || {owner} || '(_[0-9a-f]{{6}})?$') AND NOT EXISTS (SELECT FROM "
    "pg_auth_members JOIN pg_roles AS granted ON granted.oid = roleid "
    "WHERE member = pg_authid.oid AND granted.rolname ~ ':')"
)

# The mark says which app's data a database holds, when the pillar no longer says it. It is a setting of the operator in
# that database, which only a superuser can change. Earlier versions used a comment, which the owner can change.
MARK = "(SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = {oid} AND setrole = 'postgres'::regrole)"

STATE = f"""
SELECT json_build_object(
  'role', (SELECT json_build_object('plain', NOT {POWERS}) FROM pg_authid WHERE rolname = {{owner}}),
  'logins', (SELECT coalesce(json_agg(json_build_object(
               'name', rolname, 'verifier', rolpassword, 'limit', rolconnlimit, 'plain', rolcanlogin AND NOT {POWERS},
               'acts', EXISTS (SELECT FROM pg_auth_members WHERE member = pg_authid.oid
                               AND roleid = (SELECT oid FROM pg_authid WHERE rolname = {{owner}}))
                       AND EXISTS (SELECT FROM pg_db_role_setting WHERE setrole = pg_authid.oid AND setdatabase = 0
                                   AND 'role=' || {{owner}} = ANY (setconfig)),
               'replaced', shobj_description(oid, 'pg_authid')) ORDER BY rolname), '[]')
             FROM pg_authid WHERE rolname = {{login}} OR ({LOGINS})),
  'database', (SELECT json_build_object('owner', pg_get_userbyid(datdba), 'public',
                 has_database_privilege('public', oid, 'CONNECT') OR has_database_privilege('public', oid, 'TEMPORARY'),
                 'mark', {MARK.format(oid="pg_database.oid")}, 'comment', shobj_description(oid, 'pg_database'),
                 'limit', datconnlimit)
               FROM pg_database WHERE datname = {{name}}));
"""

# A superuser's session is no app's. It may be a backup.
SESSIONS = (
    "pg_stat_activity JOIN pg_roles AS their ON their.oid = usesysid WHERE NOT their.rolsuper AND datname = {name}"
)

KEPT = f"""
SELECT coalesce(json_agg(json_build_object(
  'name', datname, 'owner', rolname, 'mark', {MARK.format(oid="pg_database.oid")},
  'comment', shobj_description(pg_database.oid, 'pg_database'), 'limit', datconnlimit,
  'login', rolcanlogin AND NOT rolsuper,
  'logins', (SELECT coalesce(json_agg(rolname ORDER BY rolname), '[]') FROM pg_authid
             WHERE rolname <> pg_roles.rolname AND {LOGINS.replace("{owner}", "pg_roles.rolname")}),
  'sessions', (SELECT count(*) FROM {{sessions}}),
  'remote', (SELECT coalesce(json_agg(DISTINCT host(client_addr)), '[]') FROM {{sessions}}
             AND host(client_addr) NOT IN ('127.0.0.1', '::1', {{own}})),
  'owned', (SELECT json_agg(others.datname ORDER BY others.datname) FROM pg_database AS others
            WHERE others.datdba = pg_roles.oid),
  'size', pg_database_size(pg_database.oid)) ORDER BY datname), '[]')
FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba WHERE NOT datname = ANY ({{names}});
"""

# The logins of attached databases that still work, though they are not the declared ones.
OTHERS = f"""
SELECT coalesce(json_agg(json_build_object(
  'name', rolname, 'owner', its.owner, 'replaced', shobj_description(pg_authid.oid, 'pg_authid'),
  'owned', (SELECT json_agg(others.datname ORDER BY others.datname) FROM pg_database AS others
            WHERE others.datdba = its.datdba),
  'from', (SELECT coalesce(json_agg(DISTINCT host(client_addr)), '[]') FROM pg_stat_activity
           WHERE usesysid = pg_authid.oid AND client_addr IS NOT NULL)) ORDER BY rolname), '[]')
FROM (SELECT DISTINCT rows.owner, datdba FROM (VALUES {{rows}}) AS rows (name, owner)
      JOIN pg_database ON datname = rows.name AND pg_get_userbyid(datdba) = rows.owner) AS its
JOIN pg_authid ON {LOGINS.replace("{owner}", "its.owner")} AND NOT rolname = ANY ({{logins}});
"""

# When the server read its files, in microseconds as it has it, and which of their values wait for a restart.
LOADED = (
    "SELECT json_build_object('at', extract(epoch FROM pg_conf_load_time()) * 1000000, 'pending', "
    "(SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_settings WHERE pending_restart));"
)


def loaded(host: Host, service: Resource, among: Among | None) -> tuple[float, list[str]]:
    """Ask when the server read its files, in microseconds since 1970, and which of their values wait for a restart.

    :param host: the host.
    :param service: PostgreSQL.
    :param among: what the states of the run ask about; see ``postgres_server.answer``.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.
    """
    found = json.loads(server.answer(LOADED, among, asked(host, service, among)))
    return float(found["at"]), list(found["pending"])


def database(name: str, owner: str, login: str) -> str:
    """Return the question what a database, its owner and the owner's logins are like.

    :param name: the database.
    :param owner: the app, after which its role is called.
    :param login: the app's login.
    """
    return STATE.format(owner=literal(owner), name=literal(name), login=literal(login))


def kept(host: Host, attached: Collection[str]) -> str:
    """Return the question which databases of Saltern no app attaches, and what of them is open.

    :param host: the host.
    :param attached: the databases that are attached, in any order.
    """
    own = literal(host.address)
    return KEPT.format(sessions=SESSIONS.format(name="pg_database.datname"), names=names(attached), own=own)


def others(host: Host, service: Resource, databases: Mapping[str, str]) -> str:
    """Return the question which logins of attached databases still work, though they are not the declared ones.

    :param host: the host.
    :param service: PostgreSQL.
    :param databases: owner by database; there is one at least.
    """
    rows = ", ".join(f"({literal(name)}, {literal(owner)})" for name, owner in sorted(databases.items()))
    return OTHERS.format(rows=rows, logins=names({host.login(service, name) for name in databases}))


def owned(host: Host, service: Resource) -> dict[str, str]:
    """Return owner by database, for those that apps attach."""
    settings = host.pillar[service.kind][service.plural]
    return {name: one["owner"] for name, one in settings.items() if one["owner"]}


def asked(host: Host, service: Resource, among: Among | None) -> set[str]:
    """Return what the states of a run ask.

    :param host: the host.
    :param service: PostgreSQL.
    :param among: what the states ask about; see ``postgres_server.answer``.
    """
    found: set[str] = set()
    for chunk in among.chunks if among else ():
        if chunk["state"] == "postgres_cluster" and chunk["fun"] in ("loaded", "access_loaded"):
            found.add(LOADED)
        if chunk["state"] == "postgres_attachment" and chunk["fun"] == "present":
            found.add(database(chunk["name"], chunk["owner"], host.login(service, chunk["name"])))
        if chunk["state"] == "postgres_attachment" and chunk["fun"] == "retired":
            found.add(kept(host, chunk["databases"]))
            if databases := owned(host, service):
                found.add(others(host, service, databases))
    return found
