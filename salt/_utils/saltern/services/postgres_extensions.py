"""Extensions of databases: their packages, what the server loads for them, and how a database comes to have them."""

import difflib
import json
import os
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern import kept
from saltern.host import Host
from saltern.services import postgres_server as server
from saltern.services.sql import literal, name_of
from saltern.services.steps import Run, Step
from saltern.system import apt

KIND = "extension"
Settings = Mapping[str, Any]

# Debian's package of the server itself brings these.
OWN = """
amcheck autoinc bloom btree_gin btree_gist citext cube dblink dict_int dict_xsyn earthdistance file_fdw fuzzystrmatch
hstore insert_username intagg intarray isn lo ltree moddatetime pageinspect pg_buffercache pg_freespacemap pg_prewarm
pg_stat_statements pg_surgery pg_trgm pg_visibility pg_walinspect pgcrypto pgrowlocks pgstattuple plpgsql postgres_fdw
refint seg sslinfo tablefunc tcn tsm_system_rows tsm_system_time unaccent uuid-ossp xml2
"""
CONTRIB = frozenset(OWN.split())
# What the name of Debian's package has after postgresql-VERSION-, where Debian has one.
PACKAGES = {
    **dict.fromkeys(("address_standardizer", "address_standardizer_data_us", "postgis", "postgis_raster"), "postgis-3"),
    **dict.fromkeys(("postgis_sfcgal", "postgis_tiger_geocoder", "postgis_topology"), "postgis-3"),
    "age": "age",
    "debversion": "debversion",
    "first_last_agg": "first-last-agg",
    "h3": "h3",
    "hll": "hll",
    "http": "http",
    "hypopg": "hypopg",
    "icu_ext": "icu-ext",
    "ip4r": "ip4r",
    "jsquery": "jsquery",
    "mysql_fdw": "mysql-fdw",
    "ogr_fdw": "ogr-fdw",
    "orafce": "orafce",
    "periods": "periods",
    "pg_partman": "partman",
    "pg_qualstats": "pg-qualstats",
    "pg_rational": "rational",
    "pg_repack": "repack",
    "pg_similarity": "similarity",
    "pg_sphere": "pgsphere",
    "pg_stat_kcache": "pg-stat-kcache",
    "pg_wait_sampling": "pg-wait-sampling",
    "pgaudit": "pgaudit",
    "pgmp": "pgmp",
    "pgrouting": "pgrouting",
    "pgtap": "pgtap",
    "plpgsql_check": "plpgsql-check",
    "plproxy": "plproxy",
    "pointcloud": "pointcloud",
    "prefix": "prefix",
    "q3c": "q3c",
    "roaringbitmap": "roaringbitmap",
    "rum": "rum",
    "semver": "semver",
    "tdigest": "tdigest",
    "tds_fdw": "tds-fdw",
    "timescaledb": "timescaledb",
    "unit": "unit",
    "vector": "pgvector",
}
# What the server must load at its start for an extension, in the order in which it loads them.
LIBRARIES = {
    "timescaledb": "timescaledb",
    "pg_stat_statements": "pg_stat_statements",
    "pg_stat_kcache": "pg_stat_kcache",
    "pg_qualstats": "pg_qualstats",
    "pg_wait_sampling": "pg_wait_sampling",
    "pgaudit": "pgaudit",
}
# What an extension does not do without another one that the server must load, too.
LEADING = {"pg_stat_kcache": "pg_stat_statements"}
# Extensions that do not fit how apps log in.
REFUSED = {
    "pg_cron": (
        "it runs jobs as a role that may log in, and an app's role may not; expected another scheduler, such as a "
        "process of the app"
    )
}

STATE = "SELECT coalesce(json_agg(extname ORDER BY extname), '[]') FROM pg_extension;"
# Nothing of the app's may act as the app, or take the place of PostgreSQL's own: that comes first, unnamed.
INSIDE = ("SET ROLE NONE;", "SET search_path TO public;")


def declared(postgres: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield the extensions of databases that apps attach: path, database and extension.

    :param postgres: the formula's settings.
    """
    for database, one in sorted(postgres["databases"].items()):
        for index, name in enumerate(one.get("extensions", []) if one.get("owner") else []):
            yield f"postgres.databases.{database}.extensions[{index}]", database, name


def mistakes(postgres: Settings) -> list[str]:
    """List the extensions that cannot be had, whatever the Debian.

    :param postgres: the formula's settings.
    """
    found = []
    known = CONTRIB | PACKAGES.keys() | postgres["extension_packages"].keys()
    for path, _, name in declared(postgres):
        if name in REFUSED:
            found.append(f"{path}: {name}: {REFUSED[name]}")
        elif name not in known:
            close = difflib.get_close_matches(name, sorted(known), 1)
            meant = f"; did you mean '{close[0]}'?" if close else ""
            found.append(
                f"{path}: {name}: its Debian package is not known; expected a known extension, or its package in "
                f"postgres.extension_packages.{name}{meant}"
            )
    return found


def libraries(host: Host) -> list[str]:
    """Return what the server must load at its start, also for what is kept: without it, its data cannot be read.

    :param host: the host.
    """
    asked = {name for _, _, name in declared(host.pillar["postgres"])}
    for what in kept.listed(KIND):
        database, _, name = what.partition(".")
        if name in LIBRARIES and name not in asked:
            try:
                is_there = name in present(database)
            except CommandExecutionError:
                # Until the server runs, nobody has removed it.
                is_there = True
            asked |= {name} if is_there else set()
    asked |= {LEADING[name] for name in asked & LEADING.keys()}
    return [library for name, library in LIBRARIES.items() if name in asked]


def packages(postgres: Settings, version: str | int) -> dict[str, list[tuple[str, str]]]:
    """Return the Debian packages of the extensions, beside the server's own: of each, path and extension.

    :param postgres: the formula's settings.
    :param version: PostgreSQL's major version.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for path, _, name in declared(postgres):
        if package := _package(postgres, name, version):
            found.setdefault(package, []).append((path, name))
    return dict(sorted(found.items()))


def _package(postgres: Settings, name: str, version: str | int) -> str:
    """Return the package of an extension, empty where it comes with the server."""
    if name in postgres["extension_packages"]:
        return str(postgres["extension_packages"][name]).replace("VERSION", str(version))
    return f"postgresql-{version}-{PACKAGES[name]}" if name in PACKAGES else ""


def judged(run: Run, name: str) -> Step:
    """Refuse extensions whose packages apt cannot install, before anything is changed.

    :param run: the converge.
    :param name: what is judged, in words.
    :raises CommandExecutionError: with a message for each, by path.
    """
    host = run.host
    row = host.ask("settings.debian")
    wanted = packages(host.pillar["postgres"], row["postgres"])
    there = apt.installed() if wanted else {}
    missing = {package: asked for package, asked in wanted.items() if package not in there}
    if not missing:
        return Step("No package is to be installed for an extension")
    if host.is_dry and not apt.has_lists():
        return Step("apt has no lists of packages yet: the converge fetches them, and asks it then")
    refused = refusals(missing, f"Debian {row['version']}")
    if refused and not host.is_dry:
        # Its lists may be older than the package.
        host.ask("pkg.refresh_db")
        refused = refusals(missing, f"Debian {row['version']}")
    if refused:
        raise CommandExecutionError("\n".join(refused))
    return Step(f"apt can install {', '.join(missing)}")


def refusals(wanted: Mapping[str, Collection[tuple[str, str]]], debian: str) -> list[str]:
    """List the extensions whose package apt cannot install.

    :param wanted: path and extension by package.
    :param debian: what to call the host's Debian.
    """
    found, known = [], apt.known()
    for package, asked in wanted.items():
        why = ""
        if package not in known:
            given = [name for _, name in asked if name not in PACKAGES or PACKAGES[name] not in package]
            near = apt.nearest(package, known) if given else ""
            why = f"{debian} has no package {package}; expected {near or 'an extension that it has, or a newer Debian'}"
        else:
            outcome = apt.simulated([package])
            if outcome.reason:
                why = f"{package} cannot be installed: {outcome.reason}; expected packages that fit together"
            elif outcome.removed:
                why = (
                    f"{package} would remove {', '.join(outcome.removed)}; expected packages that take nothing from "
                    "the host"
                )
        found += [f"{path}: {name}: {why}" for path, name in asked if why]
    return found


def plan(host: Host, name: str) -> tuple[dict[str, Any], list[str]]:
    """Compare the extensions of a database with those that are declared. An extension that is not declared stays.

    :param host: the host.
    :param name: the database.
    :return: the changes as a state reports them, and the SQL statements that make them.
    :raises CommandExecutionError: when PostgreSQL cannot be asked, or does not know an extension.
    """
    postgres = host.pillar["postgres"]
    asked = [extension for _, database, extension in declared(postgres) if database == name]
    if not asked:
        return {}, []
    new = [extension for extension in asked if extension not in present(name)]
    if not new:
        return {}, []
    version = host.ask("settings.debian")["postgres"]
    _available(postgres, name, new, version)
    inside = [f"CREATE EXTENSION IF NOT EXISTS {name_of(extension)} CASCADE;" for extension in new]
    return {"extensions": {"old": None, "new": new}}, [f"\\connect {name_of(name)}", *INSIDE, *inside]


def present(name: str) -> list[str]:
    """Return the extensions of a database, none where it is not there yet.

    :param name: the database.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.
    """
    if not server.is_installed():
        return []
    there = f"SELECT EXISTS (SELECT FROM pg_database WHERE datname = {literal(name)}) AS there \\gset"
    answer = server.run([there, "\\if :there", f"\\connect {name_of(name)}", *INSIDE, STATE, "\\endif"])
    return list(json.loads(answer)) if answer else []


def _available(postgres: Settings, name: str, extensions: Sequence[str], version: str | int) -> None:
    """Refuse what a package that is installed does not bring."""
    there = apt.installed()
    for path, database, extension in declared(postgres):
        package = _package(postgres, extension, version) or f"postgresql-{version}"
        control = f"/usr/share/postgresql/{version}/extension/{extension}.control"
        is_lacking = package in there and not os.path.exists(control)
        if database == name and extension in extensions and is_lacking:
            files = os.listdir(os.path.dirname(control))
            brought = sorted(one.removesuffix(".control") for one in files if one.endswith(".control"))
            near = apt.nearest(extension, brought) or "the name that CREATE EXTENSION takes"
            raise CommandExecutionError(f"{path}: {extension}: the package {package} has none; expected {near}")


def note(host: Host, name: str, made: Collection[str] = ()) -> None:
    """Note which extensions were made for a database, and which of these the pillar no longer has.

    :param host: the host.
    :param name: the database.
    :param made: those that this run has made.
    """
    settings = host.pillar["postgres"]["databases"][name]
    asked = settings.get("extensions", [])
    for extension in made:
        kept.note(KIND, f"{name}.{extension}", settings["owner"], since=None)
    for extension, noted in _noted(name):
        if extension in asked:
            if noted["since"] is not None:
                kept.note(KIND, f"{name}.{extension}", settings["owner"], since=None)
        elif noted["since"] is None:
            kept.note(KIND, f"{name}.{extension}", settings["owner"])


def _noted(name: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (what.partition(".")[2], noted) for what, noted in kept.listed(KIND).items() if what.partition(".")[0] == name
    ]


def left(host: Host, as_postgres: str) -> dict[str, dict[str, Any]]:
    """List the extensions that were made for attached databases, and that the pillar no longer has.

    :param host: the host.
    :param as_postgres: the command that runs another one as PostgreSQL's operator.
    :return: see ``Resource.kept``.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.
    """
    found = {}
    for name, one in sorted(host.settings("postgres")["databases"].items()):
        noted = [(extension, what) for extension, what in _noted(name) if extension not in one.get("extensions", [])]
        there = present(name) if noted else []
        for extension, what in noted:
            if extension in there:
                drop = shlex.quote(f"DROP EXTENSION {name_of(extension)}")
                found[f"{name}.{extension}"] = {
                    "app": what["app"],
                    "size": f"part of {name}",
                    "since": what["since"],
                    "remove": f"{as_postgres} psql -X -d {shlex.quote(name)} -c {drop}",
                }
    return found
