"""PgBouncer, the pool before PostgreSQL: which databases have one, how large it is, and what its files say.

It runs on the database host, beside PostgreSQL, one instance for each way to pool. So a URL's port tells the way, and
an earlier release keeps the way that it was made for. PgBouncer reaches PostgreSQL by the Unix socket.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from saltern.services import postgres_server
from saltern.services.base import Settings, Target
from saltern.services.sql import names
from saltern.system import files, systemd

# The ways to pool, and the port of each.
PORTS = {"transaction": 6432, "session": 6433}
# The first Debian whose PgBouncer keeps the prepared statements of clients that share connections, since 1.21; and how
# many of them it keeps for a connection.
PREPARES, PREPARED = 13, 200
# PgBouncer's own database, by which it is asked.
CONSOLE = "pgbouncer"
# Connections that are left to what goes past the pool: migrations, and an operator's psql.
DIRECT = 2

DIRECTORY = "/etc/saltern/pgbouncer"
USERS, HBA, LISTEN = f"{DIRECTORY}/users.txt", f"{DIRECTORY}/hba.conf", f"{DIRECTORY}/listen.ini"
UNIT_FILE = "/etc/systemd/system/postgresql-pool@.service"
CERTIFICATE = "/etc/ssl/saltern/postgres.pem"

# Lines as the templates and ``written`` have them.
DATABASE = re.compile(
    r"^([a-z][a-z0-9_]*) = host=\S+ dbname=\S+ pool_size=(\d+) max_db_connections=(\d+)$", re.MULTILINE
)
RULE = re.compile(r'^hostssl "([a-z0-9_]+)" "([a-z0-9_-]+)" ', re.MULTILINE)
USER = re.compile(r'^"([a-z0-9_-]+)" "([^"]*)"$', re.MULTILINE)

ALLOWED = """
SELECT coalesce(json_agg(json_build_object(
  'database', datname, 'login', login.rolname, 'verifier', login.rolpassword) ORDER BY datname, login.rolname), '[]')
FROM pg_database JOIN pg_auth_members ON true JOIN pg_roles AS granted ON granted.oid = roleid
JOIN pg_authid AS login ON login.oid = member
WHERE datname = ANY ({databases}) AND login.rolcanlogin AND NOT login.rolsuper AND login.rolpassword IS NOT NULL
  AND (granted.oid = datdba OR granted.rolname IN (datname || ':read', datname || ':whole'));
"""


class Pool(NamedTuple):
    """The pool of a database, in one way.

    :ivar name: the database.
    :ivar size: the most connections to PostgreSQL for each login.
    :ivar most: the most connections to PostgreSQL for all logins.
    """

    name: str
    size: int
    most: int


class Client(NamedTuple):
    """Who is connected to a pool.

    :ivar port: the pool's.
    :ivar database: by name.
    :ivar login: by which it came in.
    :ivar address: from where.
    """

    port: int
    database: str
    login: str
    address: str


# --- What follows from attachments ------------------------------------------------------------------------------------


def lead(path: str, target: Target, settings: Settings) -> list[str]:
    """Complete an attachment with the port of its pool, and the database with the way to pool.

    :param path: of the attachment.
    :param target: the attachment, completed but for that.
    :param settings: of the formula.
    :return: a list of mistakes.
    """
    way = target.get("pool")
    if not way:
        return []
    if target["postgres"] == CONSOLE:
        return [f"{path}.pool: {CONSOLE} is PgBouncer's own database; expected a database of another name, or no pool"]
    database = settings["databases"][target["postgres"]]
    database["pools"] = sorted({*database.get("pools", []), way})
    database["pool_lent"] = database.get("pool_lent", False) or "access" in target
    target["port"] = PORTS[way]
    return []


def sized(databases: Mapping[str, Settings], share: Callable[[int, int], int]) -> list[str]:
    """Complete databases with the size of their pools, which leaves some connections to what goes past the pool.

    :param databases: settings by database, with their ``connections``.
    :param share: returns how many of some connections each of some borrowers may have.
    :return: a list of mistakes.
    """
    found = []
    for name, one in sorted(databases.items()):
        pools, path = len(one.get("pools", [])), f"postgres.databases.{name}"
        if not pools:
            if "pool_size" in one:
                found.append(f"{path}.pool_size: no app attaches the database with a pool; expected it without")
            continue
        size = one.get("pool_size", max(1, one["connections"] // 2 // pools))
        most = (one["connections"] - DIRECT) // pools
        if size > most:
            setting = "pool_size" if "pool_size" in one else "connections"
            needed = f"{pools} pool{'s' if pools > 1 else ''} of {size} and {DIRECT} for what goes past the pool"
            way = f"at most {most}, or more {path}.connections" if most > 0 and setting == "pool_size" else "more"
            found.append(
                f"{path}.{setting}: {needed} need {pools * size + DIRECT} connections, and the database has "
                f"{one['connections']}; expected {way}"
            )
            continue
        lent = share(one["connections"], len(one.get("borrowers", {})))
        one["pool_most"] = size
        one["pool_each"] = min(size, lent) if one["pool_lent"] else size
    return found


def ways(settings: Mapping[str, Any]) -> dict[str, int]:
    """Return the ways in which apps pool, with their ports.

    :param settings: of the formula, complete.
    """
    used = {way for one in settings["databases"].values() if one["owner"] for way in one.get("pools", [])}
    return {way: port for way, port in PORTS.items() if way in used}


def prepared(way: str, debian: int) -> int:
    """Return how many prepared statements a pool keeps for a connection: 0 where it cannot, or where it needs none.

    :param way: such as ``transaction``.
    :param debian: the host's version of Debian.
    """
    return PREPARED if way == "transaction" and debian >= PREPARES else 0


# --- Files ------------------------------------------------------------------------------------------------------------


def configuration(way: str) -> str:
    """Return the path of the configuration of one way."""
    return f"{DIRECTORY}/{way}.ini"


def unit(way: str) -> str:
    """Return the unit of one way."""
    return f"postgresql-pool@{way}"


def declared(settings: Mapping[str, Any], way: str) -> dict[str, Pool]:
    """Return the pools that apps attach in one way, by database.

    :param settings: of the formula, complete.
    :param way: such as ``transaction``.
    """
    return {
        name: Pool(name, one["pool_each"], one["pool_most"])
        for name, one in sorted(settings["databases"].items())
        if one["owner"] and way in one.get("pools", [])
    }


def listed(way: str) -> dict[str, Pool]:
    """Return the pools that the configuration of one way has, by database."""
    text = files.read(configuration(way)) or ""
    return {name: Pool(name, int(size), int(most)) for name, size, most in DATABASE.findall(text)}


def pools(settings: Mapping[str, Any], way: str) -> list[Pool]:
    """Return the pools of one way for its configuration. One that no app attaches any more stays until it is unused.

    :param settings: of the formula, complete.
    :param way: such as ``transaction``.
    """
    return [pool for _, pool in sorted((listed(way) | declared(settings, way)).items())]


def databases(settings: Mapping[str, Any]) -> set[str]:
    """Return the databases that have a pool, or had one until now."""
    return {name for way in PORTS for name in {**listed(way), **declared(settings, way)}}


def allowed(settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """Ask PostgreSQL which logins have which pooled database, with what it keeps of their passwords.

    :param settings: of the formula, complete.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.
    """
    found: list[dict[str, str]] = postgres_server.answered(ALLOWED.format(databases=names(databases(settings))))
    return found


def written(rows: Collection[Mapping[str, str]], clients: Collection[str]) -> dict[str, str]:
    """Return the files that say who may log in to which pool, from where. PgBouncer gets no password.

    PgBouncer answers a client with what PostgreSQL keeps of the password, and comes to PostgreSQL with what it learns
    from that client. So both must have the same.

    :param rows: ``database``, ``login`` and ``verifier``.
    :param clients: networks.
    :return: text by path.
    """
    users = {row["login"]: row["verifier"] for row in rows}
    rules = sorted({(row["database"], row["login"]) for row in rows})
    return {
        USERS: "".join(f'"{login}" "{verifier}"\n' for login, verifier in sorted(users.items())),
        HBA: "".join(
            f'hostssl "{database}" "{login}" {client} scram-sha-256\n'
            for database, login in rules
            for client in clients
        ),
    }


def without(logins: Collection[str], gone: Collection[str]) -> dict[str, str]:
    """Return the same files as they are, without some logins and databases.

    :param logins: that are closed.
    :param gone: databases without a pool.
    """
    rules = [line for line in (files.read(HBA) or "").splitlines(keepends=True) if _stays(line, logins, gone)]
    left = {match[2] for match in map(RULE.match, rules) if match}
    users = (files.read(USERS) or "").splitlines(keepends=True)
    return {
        HBA: "".join(rules),
        USERS: "".join(line for line in users if (match := USER.match(line)) and match[1] in left),
    }


def _stays(line: str, logins: Collection[str], gone: Collection[str]) -> bool:
    match = RULE.match(line)
    return bool(match and match[1] not in gone and match[2] not in logins)


# --- What PgBouncer tells ---------------------------------------------------------------------------------------------


def connected() -> list[Client]:
    """List who is connected to the pools of this host.

    :raises CommandExecutionError: when PgBouncer cannot be asked.
    """
    found = []
    for way, port in PORTS.items():
        if listed(way) and systemd.loaded(unit(way)) is not None:
            rows = postgres_server.console(f"/run/postgresql-pool-{way}", port, "SHOW CLIENTS")
            found += [
                Client(port, row["database"], row["user"], row["addr"]) for row in rows if row["database"] != CONSOLE
            ]
    return found


def addresses(login: str) -> set[str]:
    """Return from where a login is connected to a pool.

    :param login: such as ``shop_3f9a01``.
    """
    return {client.address for client in connected() if client.login == login}
