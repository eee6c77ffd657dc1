"""Extensions of databases: their packages, what is refused, and what is kept of them."""

import dataclasses

import pytest
from salt.exceptions import CommandExecutionError

from saltern import kept
from saltern.host import Host
from saltern.services import postgres_extensions as extensions
from saltern.services import postgres_server
from saltern.services.steps import Run
from saltern.system import apt

FUNCTIONS = {"settings.debian": lambda: {"postgres": 17, "version": 13}}
NAMES = "postgres.databases.shop.extensions"


def postgres(*names, packages=None, owner="shop"):
    """Return the formula's settings with one database."""
    return {"extension_packages": packages or {}, "databases": {"shop": {"owner": owner, "extensions": list(names)}}}


UNKNOWN = (
    "{}: {}: its Debian package is not known; expected a known extension, or its package in "
    "postgres.extension_packages.{}{}"
)
MISTAKES = {
    "none": (postgres("pg_trgm", "vector"), []),
    "one that is misspelt": (postgres("pg_trgm", "pgtrgm"), [(1, "pgtrgm", "; did you mean 'pg_trgm'?")]),
    "one like no other": (postgres("quantum"), [(0, "quantum", "")]),
    "the way out": (postgres("quantum", packages={"quantum": "postgresql-VERSION-quantum"}), []),
    "a database that a URL replaces": (postgres("quantum", owner=None), []),
}


@pytest.mark.parametrize("settings, expected", MISTAKES.values(), ids=MISTAKES)
def test_an_unknown_extension_is_refused_by_path(settings, expected):
    told = [UNKNOWN.format(f"{NAMES}[{index}]", name, name, meant) for index, name, meant in expected]
    assert extensions.mistakes(settings) == told


def test_one_that_cannot_act_as_the_app_is_refused_by_path():
    (told,) = extensions.mistakes(postgres("pg_cron"))
    assert told.startswith(f"{NAMES}[0]: pg_cron: it runs jobs as a role that may log in")
    assert "expected another scheduler" in told


def test_the_packages_are_of_the_servers_version_and_those_of_the_server_itself_are_left_out():
    settings = postgres("pg_trgm", "vector", "postgis", "postgis_raster", "own", packages={"own": "pg-VERSION-own"})
    assert extensions.packages(settings, 17) == {
        "pg-17-own": [(f"{NAMES}[4]", "own")],
        "postgresql-17-pgvector": [(f"{NAMES}[1]", "vector")],
        "postgresql-17-postgis-3": [(f"{NAMES}[2]", "postgis"), (f"{NAMES}[3]", "postgis_raster")],
    }
    assert extensions.packages(postgres("vector", packages={"vector": "mine"}), 15).keys() == {"mine"}


KNOWN = {"postgresql-17-postgis-3", "postgresql-17-pgfincore", "chrony"}
VECTOR = "postgresql-15-pgvector; expected an extension that it has, or a newer Debian"
REFUSALS = {
    "all is well": ("postgresql-17-postgis-3", "postgis", apt.Outcome([], ""), None),
    "this Debian has none": ("postgresql-15-pgvector", "vector", None, f"Debian 12 has no package {VECTOR}"),
    "a package that is misspelt": (
        "postgresql-17-pgfincor",
        "pgfincore",
        None,
        "Debian 12 has no package postgresql-17-pgfincor; expected postgresql-17-pgfincore",
    ),
    "one that takes another's place": (
        "chrony",
        "own",
        apt.Outcome(["systemd-timesyncd"], ""),
        "chrony would remove systemd-timesyncd; expected packages that take nothing from the host",
    ),
    "one that does not fit": (
        "chrony",
        "own",
        apt.Outcome([], "a : Conflicts: b"),
        "chrony cannot be installed: a : Conflicts: b; expected packages that fit together",
    ),
}


@pytest.mark.parametrize("package, name, outcome, expected", REFUSALS.values(), ids=REFUSALS)
def test_what_apt_cannot_install_is_refused_by_path(monkeypatch, package, name, outcome, expected):
    monkeypatch.setattr(apt, "known", lambda: KNOWN)
    monkeypatch.setattr(apt, "simulated", lambda names: outcome)
    told = extensions.refusals({package: [(f"{NAMES}[0]", name)]}, "Debian 12")
    assert told == ([f"{NAMES}[0]: {name}: {expected}"] if expected else [])


@pytest.fixture
def on(monkeypatch, tmp_path):
    """A function that returns a host with one database, and says what is in that database and what is installed."""
    monkeypatch.setattr(kept, "ROOT", str(tmp_path))

    def have(settings, there=(), installed=()):
        monkeypatch.setattr(extensions, "present", lambda name: list(there))
        monkeypatch.setattr(apt, "installed", lambda: dict.fromkeys(installed))
        return Host.of(FUNCTIONS, {"postgres": settings}, {})

    return have


def test_what_is_missing_is_made_by_the_operator_in_the_apps_database(on):
    host = on(postgres("plpgsql", "pg_trgm", "uuid-ossp"), ["plpgsql"])
    changes, statements = extensions.plan(host, "shop")
    assert changes == {"extensions": {"old": None, "new": ["pg_trgm", "uuid-ossp"]}}
    assert statements == [
        '\\connect "shop"',
        "SET ROLE NONE;",
        "SET search_path TO public;",
        'CREATE EXTENSION IF NOT EXISTS "pg_trgm" CASCADE;',
        'CREATE EXTENSION IF NOT EXISTS "uuid-ossp" CASCADE;',
    ]
    assert extensions.plan(on(postgres("pg_trgm"), ["pg_trgm", "postgis"]), "shop") == ({}, [])
    assert extensions.plan(on(postgres()), "shop") == ({}, [])


def test_a_package_that_does_not_bring_the_extension_is_told(on, monkeypatch):
    monkeypatch.setattr(extensions.os.path, "exists", lambda path: False)
    monkeypatch.setattr(extensions.os, "listdir", lambda path: ["cube.control", "cube--1.5.sql"])
    host = on(postgres("cubed", packages={"cubed": "postgresql-VERSION"}), [], ["postgresql-17"])
    with pytest.raises(CommandExecutionError) as refused:
        extensions.plan(host, "shop")
    assert str(refused.value) == f"{NAMES}[0]: cubed: the package postgresql-17 has none; expected cube"
    # One that is yet to be installed may bring it.
    assert extensions.plan(on(postgres("vector")), "shop")[0]


def test_a_database_that_is_not_there_yet_has_none(monkeypatch):
    monkeypatch.setattr(postgres_server, "is_installed", lambda: True)
    monkeypatch.setattr(postgres_server, "run", lambda statements: "")
    assert extensions.present("shop") == []
    monkeypatch.setattr(postgres_server, "run", lambda statements: '["plpgsql"]')
    assert extensions.present("shop") == ["plpgsql"]


def test_apt_is_asked_before_anything_is_changed_and_once_more_with_fresh_lists(on, monkeypatch):
    answers = [["no"], ["no"]]
    monkeypatch.setattr(extensions, "refusals", lambda wanted, debian: answers.pop(0))
    monkeypatch.setattr(apt, "has_lists", lambda: True)
    refreshed = []
    monkeypatch.setitem(FUNCTIONS, "pkg.refresh_db", lambda: refreshed.append("asked"))
    host = on(postgres("vector"))
    with pytest.raises(CommandExecutionError, match=r"^no$"):
        extensions.judged(Run(host, [], lambda name: False), "extensions")
    assert (refreshed, answers) == (["asked"], [])
    monkeypatch.setattr(apt, "has_lists", lambda: False)
    told = extensions.judged(Run(dataclasses.replace(host, is_dry=True), [], lambda name: False), "extensions")
    assert told.comment.startswith("apt has no lists of packages yet")
    there = on(postgres("vector"), installed=["postgresql-17-pgvector"])
    assert extensions.judged(Run(there, [], lambda name: False), "extensions").changes == {}


def test_an_extension_that_the_pillar_has_no_more_is_kept_and_listed_until_somebody_removes_it(on):
    extensions.note(on(postgres("pg_trgm", "timescaledb")), "shop", ["pg_trgm", "timescaledb"])
    assert extensions.left(on(postgres("pg_trgm", "timescaledb")), "as postgres") == {}
    host = on(postgres("pg_trgm"), ["pg_trgm", "timescaledb"])
    extensions.note(host, "shop")
    (listed,) = extensions.left(host, "as postgres").items()
    assert listed[0] == "shop.timescaledb"
    assert (listed[1]["app"], listed[1]["size"]) == ("shop", "part of shop")
    assert listed[1]["since"]
    assert listed[1]["remove"] == "as postgres psql -X -d shop -c 'DROP EXTENSION \"timescaledb\"'"
    # Without its library its data could not be read.
    assert extensions.libraries(host) == ["timescaledb"]
    gone = on(postgres("pg_trgm"), ["pg_trgm"])
    assert extensions.left(gone, "as postgres") == {}
    assert extensions.libraries(gone) == []
    # Declared again, it is kept no more.
    extensions.note(on(postgres("pg_trgm", "timescaledb")), "shop")
    assert kept.of("extension", "shop.timescaledb")["since"] is None


def test_the_server_loads_what_declared_extensions_need_in_an_order_that_works(on):
    assert extensions.libraries(on(postgres("pg_trgm"))) == []
    assert extensions.libraries(on(postgres("pg_stat_kcache", "timescaledb"))) == [
        "timescaledb",
        "pg_stat_statements",
        "pg_stat_kcache",
    ]


def test_a_server_that_does_not_run_goes_on_loading_what_is_kept(on, monkeypatch):
    extensions.note(on(postgres("timescaledb")), "shop", ["timescaledb"])
    host = on(postgres())

    def fail(name):
        raise CommandExecutionError("psql: no server")

    monkeypatch.setattr(extensions, "present", fail)
    assert extensions.libraries(host) == ["timescaledb"]
