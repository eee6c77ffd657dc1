"""Attachments with PgBouncer before the database: which way they take, and how large pools are."""

import pytest

from saltern import services
from saltern.services import postgres_pool
from tests.unit.attachments.declared import SPLIT, app

POSTGRES = services.formulas()["postgres"]
POOLED = {"DATABASE_URL": {"postgres": "shop", "pool": "transaction"}}
BOTH = POOLED | {"REPORTS_URL": {"postgres": "shop", "as": "reader", "pool": "session"}, "DIRECT": {"postgres": "shop"}}


def test_the_port_of_an_attachment_tells_the_way(derived):
    found, mistakes = derived(
        {"shop": app(attach=BOTH)}, SPLIT, "web1", postgres={"databases": {"shop": {"password": "p" * 16}}}
    )
    attach = found["app"]["shop"]["attach"]
    assert mistakes == []
    assert {name: (one["address"], one["port"]) for name, one in attach.items()} == {
        "DATABASE_URL": ("10.0.0.2", 6432),
        "REPORTS_URL": ("10.0.0.2", 6433),
        "DIRECT": ("10.0.0.2", 5432),
    }
    assert POSTGRES.url(attach["DATABASE_URL"], "shop", "pw").partition("@")[2] == (
        "10.0.0.2:6432/shop?sslmode=verify-full&sslrootcert=/etc/ssl/saltern/ca.pem"
    )
    assert POSTGRES.listeners(found["postgres"]) == {
        "postgres": 5432,
        "postgres pool transaction": 6432,
        "postgres pool session": 6433,
    }
    assert POSTGRES.recorded(attach["DATABASE_URL"]) == {"postgres": "shop", "pool": "transaction"}
    assert POSTGRES.beside(attach["DATABASE_URL"]) == [{"resource": "postgres-pooled-transaction"}]
    assert POSTGRES.beside(attach["DIRECT"]) == []
    assert POSTGRES.units(found["postgres"]) == [
        "postgresql.service",
        "postgresql-pool@transaction.service",
        "postgresql-pool@session.service",
    ]


def test_without_a_pool_there_is_none(derived):
    found, _ = derived({"shop": app(attach={"DATABASE_URL": {"postgres": "shop"}})})
    assert postgres_pool.ways(found["postgres"]) == {}
    assert POSTGRES.listeners(found["postgres"]) == {"postgres": 5432}
    assert "pools" not in found["postgres"]["databases"]["shop"]


SIZES = {
    "half of the connections": ({}, POOLED, (48, 48)),
    "half of them for both pools": ({}, BOTH, (24, 24)),
    "as declared": ({"pool_size": 20}, POOLED, (20, 20)),
    "a reader has no more than its login": ({"pool_size": 47, "connections": 96}, BOTH, (47, 47)),
    "of few connections": ({"connections": 3}, POOLED, (1, 1)),
}


@pytest.mark.parametrize("said, attach, expected", SIZES.values(), ids=SIZES)
def test_a_pool_has_a_part_of_the_connections(derived, said, attach, expected):
    found, mistakes = derived({"shop": app(attach=attach)}, postgres={"databases": {"shop": said}})
    shop = found["postgres"]["databases"]["shop"]
    assert (mistakes, (shop["pool_each"], shop["pool_most"])) == ([], expected)


def test_a_login_of_a_reader_has_no_larger_pool_than_it_may_have_connections(derived):
    attach = {"DATABASE_URL": {"postgres": "shop"}, "R": {"postgres": "shop", "as": "reader", "pool": "session"}}
    found, _ = derived(
        {"shop": app(attach=attach)}, postgres={"databases": {"shop": {"connections": 40, "pool_size": 38}}}
    )
    shop = found["postgres"]["databases"]["shop"]
    assert (shop["pool_each"], shop["pool_most"]) == (20, 38)


MISTAKES = {
    "more than the database has": (
        {"pool_size": 39, "connections": 40},
        POOLED,
        "postgres.databases.shop.pool_size: 1 pool of 39 and 2 for what goes past the pool need 41 connections, and "
        "the database has 40; expected at most 38, or more postgres.databases.shop.connections",
    ),
    "two pools": (
        {"pool_size": 20, "connections": 40},
        BOTH,
        "postgres.databases.shop.pool_size: 2 pools of 20 and 2 for what goes past the pool need 42 connections, and "
        "the database has 40; expected at most 19, or more postgres.databases.shop.connections",
    ),
    "nothing left": (
        {"connections": 2},
        POOLED,
        "postgres.databases.shop.connections: 1 pool of 1 and 2 for what goes past the pool need 3 connections, and "
        "the database has 2; expected more",
    ),
    "no pool": (
        {"pool_size": 20},
        {"DATABASE_URL": {"postgres": "shop"}},
        "postgres.databases.shop.pool_size: no app attaches the database with a pool; expected it without",
    ),
}


@pytest.mark.parametrize("said, attach, expected", MISTAKES.values(), ids=MISTAKES)
def test_a_size_that_cannot_be_is_told_by_path(derived, said, attach, expected):
    assert derived({"shop": app(attach=attach)}, postgres={"databases": {"shop": said}})[1] == [expected]


def test_a_pool_is_before_a_database_of_ours_alone(derived):
    attach = {
        "A": {"postgres": "shop", "url": "postgres://db.example.com/shop", "pool": "session"},
        "B": {"redis": "shop", "pool": "session"},
        "C": {"postgres": "pgbouncer", "pool": "session"},
    }
    assert sorted(derived({"shop": app(attach=attach)})[1]) == [
        "app.shop.attach.A.pool: is before Saltern's own PostgreSQL; expected no pool beside a url",
        "app.shop.attach.B.pool: is a postgres's; expected it beside postgres",
        "app.shop.attach.C.pool: pgbouncer is PgBouncer's own database; expected a database of another name, or "
        "no pool",
    ]
