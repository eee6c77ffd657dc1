"""PostgreSQL: a database, owned by the app that attaches it."""

import functools
import shlex
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import SplitResult, quote, unquote

from saltern.host import Host
from saltern.services import (
    postgres_closing,
    postgres_config,
    postgres_database,
    postgres_extensions,
    postgres_lent,
    postgres_pool,
    postgres_pool_config,
    postgres_pooling,
    postgres_server,
)
from saltern.services.base import AUTHORITIES, Hosts, Requisite, Settings, Target
from saltern.services.networked import Networked
from saltern.services.resource import is_attached
from saltern.services.sql import literal
from saltern.services.steps import Work
from saltern.system.sizes import megabytes

PORT = 5432

# PostgreSQL's own databases: an app that owned one would own the operator's, or all that are yet to be made.
OWN = ("postgres", "template0", "template1")

# Connections that PostgreSQL keeps for superusers, its superuser_reserved_connections; and the fewest that an app can
# have: a release starts beside the one that serves.
OPERATORS = 3
FEWEST = 2

# In a session of its own: what else that user runs may meddle with it, and root's terminal must not be its.
AS_POSTGRES = "setsid --wait runuser -u postgres --"


class Postgres(Networked):
    """A database of the environment's database host."""

    kind = "postgres"
    schema = {
        "postgres": {
            "description": "A database of the environment's database host, owned by this app.",
            "type": "string",
            "pattern": r"^[a-z][a-z0-9_]{0,62}\Z",
            "x-expected": "a database's name of lower-case letters, digits and underscores",
            "examples": ["shop"],
        },
        "pool": {
            "description": (
                "PgBouncer before the database: `transaction` gives the app a connection for each transaction, "
                "`session` for each session."
            ),
            "type": "string",
            "enum": list(postgres_pool.PORTS),
            "examples": ["transaction"],
        },
    }
    role = "database"
    noun = "database"
    plural = "databases"
    scheme = "postgres"
    schemes = ("postgres",)
    known_as = ("postgres", "postgresql", "postgis")
    query = {"sslmode": "verify-full", "sslrootcert": AUTHORITIES}
    users = ("postgres",)
    # The pools are postgresql-pool@.
    relied_on = "postgresql*@*.service"
    is_lent = True
    has_readers = True
    # Its SSLRequest; see "Message Formats" in its documentation.
    greeting = (struct.pack("!ii", 8, 80877103), b"S")

    def refused(self, name: str, app: str) -> str:
        """Refuse the databases that are PostgreSQL's own."""
        return "is PostgreSQL's own database; expected another name" if name in OWN else ""

    def borrow(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Refuse a database whose groups would have too long a name, too."""
        most = postgres_lent.LONGEST
        if len(target[self.kind]) > most and target.get("as") == "reader":
            return [f"{path}.as: the database has too long a name for a reader; expected {most} characters at most"]
        found = super().borrow(path, target, app, settings, hosts)
        return found or postgres_pool.lead(path, target, settings[self.kind])

    def lead(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Lead to the pool where the attachment has one; see ``Networked.lead``."""
        found = super().lead(path, target, app, settings, hosts)
        return found or postgres_pool.lead(path, target, settings[self.kind])

    def replaced(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Refuse a pool before a server that is somebody else's."""
        return [f"{path}.pool: is before Saltern's own PostgreSQL; expected no pool beside a url"] * ("pool" in target)

    def renewed(self, target: Target, today: Iterable[Target], apps: Mapping[str, Any]) -> Target:
        """Return today's attachment, in the way that the release was made for, as far as it is there; see ``Service``.

        PostgreSQL itself is always there.
        """
        same = [one for one in today if self._is_same(target, one) and "url" not in one]
        if "pool" in target:
            return next((one for one in same if one.get("pool") == target["pool"]), same[0])
        return {word: value for word, value in same[0].items() if word != "pool"} | {"port": PORT}

    def port(self, name: str, resource: Settings, app: Mapping[str, Any]) -> int:
        """Return the port of the one server."""
        return PORT

    def listeners(self, settings: Settings) -> dict[str, int]:
        """Return the port of the one server, and those of its pools."""
        pools = {f"postgres pool {way}": port for way, port in postgres_pool.ways(settings).items()}
        return {"postgres": PORT} | pools

    def allowed(self, settings: Settings, places: Callable[[int], int]) -> dict[str, tuple[list[int], int]]:
        """Return the connections of the one server and of its pools, and note the places of both.

        A pool that comes or goes changes no rule of the firewall: new rules begin to count again.
        """
        settings["places"] = places(settings["max_connections"])
        settings["pool_places"] = places(settings["pool_clients"])
        return {
            "postgres": ([PORT], settings["max_connections"]),
            "postgres pool": (sorted(postgres_pool.PORTS.values()), settings["pool_clients"]),
        }

    def path(self, target: Target) -> str:
        """Return the database."""
        return f"/{quote(target['postgres'], safe='')}"

    def identity(self, url: SplitResult) -> str:
        """Return the database."""
        return unquote(url.path[1:])

    def name(self, url: SplitResult, app: str, settings: Mapping[str, Any]) -> str:
        """Return the database."""
        return self.identity(url)

    def mistakes(self, settings: Settings, apps: Mapping[str, Any]) -> list[str]:
        """Refuse unknown extensions, Saltern's own parameters, and to share what has too long a name for its groups."""
        found = super().mistakes(settings, apps)
        found += postgres_extensions.mistakes(settings)
        found += postgres_config.mistakes(settings) + postgres_pool_config.mistakes(settings)
        return found + [
            f"postgres.databases.{name}.share: its name is too long for that; expected {postgres_lent.LONGEST} "
            "characters at most"
            for name, one in sorted(settings[self.plural].items())
            if one.get("share") and len(name) > postgres_lent.LONGEST
        ]

    def complete(self, settings: Settings) -> list[str]:
        """Give each database its share of PostgreSQL's connections, so that no app can take those of another."""
        attached = dict(sorted(self.owned(settings).items()))
        said = {name: one["connections"] for name, one in attached.items() if "connections" in one}
        most = settings["max_connections"] - OPERATORS
        others = [name for name in attached if name not in said]
        left = most - sum(said.values())
        if others and left // len(others) >= FEWEST:
            for name in others:
                attached[name]["connections"] = left // len(others)
        elif attached and left < FEWEST * len(others):
            needed = sum(said.values()) + FEWEST * len(others) + OPERATORS
            what = ", ".join(f"postgres.databases.{name}.connections" for name in said) or "postgres.max_connections"
            return [
                f"{what}: {len(attached)} databases would need {needed} connections, {OPERATORS} for operators and at "
                f"least {FEWEST} for each that says nothing among them; expected at most the "
                f"{settings['max_connections']} of postgres.max_connections"
            ]
        return postgres_pool.sized(attached, postgres_lent.share)

    def reach(self, settings: Settings, listen: list[str], clients: list[str]) -> None:
        """Say to whom the access list lets databases be open, too."""
        super().reach(settings, listen, clients)
        settings["clients"] = clients

    def is_ready(self, host: Host, name: str, login: Callable[[], str]) -> bool:
        """Ask whether a converge would change the database or its owner."""
        resource = host.resource(self, name)
        changes, _ = postgres_database.plan(self, host, name, resource["owner"], resource["connections"])
        is_pooled = all(name in postgres_pool.listed(way) for way in resource.get("pools", []))
        return is_pooled and not (changes or postgres_extensions.plan(host, name)[0])

    def lends(self, host: Host, name: str, login: Callable[[], str]) -> bool:
        """Ask whether the borrower's login is there."""
        question = f"SELECT count(*) FROM pg_roles WHERE rolcanlogin AND rolname = {literal(login())};"
        return postgres_server.run([question]) == "1"

    def client(self, debian: Mapping[str, Any]) -> str:
        """Return the package of psql."""
        return f"postgresql-client-{debian['postgres']}"

    def steps(self) -> Mapping[str, Work]:
        """Return what concerns other apps than the owner, and what must be known before anything is changed."""
        return {
            "configured": postgres_config.judged,
            "judged": postgres_extensions.judged,
            "lent": functools.partial(postgres_lent.lent, self),
            "pool_configured": postgres_pool_config.judged,
            "pool_users": functools.partial(postgres_pooling.users, self),
            "pooled": postgres_pooling.pooled,
            "returned": functools.partial(postgres_lent.returned, self),
            "unpooled": functools.partial(postgres_pooling.unpooled, self),
        }

    def lent(self, name: str) -> Requisite:
        """Return the state that lets in those to whom the database is lent."""
        return {"resource": f"postgres-lent-{name}"}

    def made(self, name: str) -> Requisite:
        """Return the state that makes the database."""
        return {"postgres_attachment": f"postgres-attachment-{name}"}

    def beside(self, target: Target) -> list[Requisite]:
        """Return the state after which the pool lets the app in."""
        return [{"resource": f"postgres-pooled-{target['pool']}"}] if "pool" in target else []

    def claimed(self, name: str) -> Requisite:
        """Return the state that makes the database."""
        return self.made(name)

    def units(self, settings: Mapping[str, Any]) -> list[str]:
        """Return the unit that starts every cluster at boot, and those of the pools."""
        return ["postgresql.service", *(f"{postgres_pool.unit(way)}.service" for way in postgres_pool.ways(settings))]

    def kept(self, host: Host) -> dict[str, dict[str, Any]]:
        """List the databases that are closed, and the extensions that no pillar has any more.

        A database that another app attaches is refused to that app, and so is kept.
        """
        attached = host.settings(self.kind)[self.plural]
        return {
            one["name"]: _orphan(one)
            for one in postgres_closing.kept(host, [])
            if one["since"] and not is_attached(attached, one["name"], one["app"])
        } | postgres_extensions.left(host, AS_POSTGRES)


def _orphan(one: Mapping[str, Any]) -> dict[str, Any]:
    name, owner = one["name"], one["owner"]
    command = f"{AS_POSTGRES} dropdb {shlex.quote(name)}"
    # The role can go with the last that it owns.
    if owner == one["app"] and one["owned"] == [name]:
        command += f" && {AS_POSTGRES} dropuser {shlex.quote(owner)}"
    return {"app": one["app"], "size": megabytes(one["size"]), "since": one["since"], "remove": command}
