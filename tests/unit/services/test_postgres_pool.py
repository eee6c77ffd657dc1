"""PgBouncer before PostgreSQL: who is let in, what is read again, and which pools end."""

from types import SimpleNamespace

import pytest

from saltern import services
from saltern.attachments import users as using
from saltern.services import postgres_pool, postgres_pooling, postgres_server
from saltern.services.sql import scram
from saltern.services.steps import Run
from saltern.system import systemd

POSTGRES = services.formulas()["postgres"]
TODAY = [
    {"postgres": "shop", "port": 6432, "pool": "transaction"},
    {"postgres": "shop", "port": 6433, "pool": "session"},
]
RENEWED = {
    "the same way": ("session", TODAY, (6433, "session")),
    "one that is declared no more": ("session", TODAY[:1], (6432, "transaction")),
    "none then": (None, TODAY, (5432, None)),
    "none today": ("session", [{"postgres": "shop", "port": 5432}], (5432, None)),
}


@pytest.mark.parametrize("pool, today, expected", RENEWED.values(), ids=RENEWED)
def test_a_rollback_takes_the_way_that_the_release_was_made_for(pool, today, expected):
    found = POSTGRES.renewed({"postgres": "shop"} | ({"pool": pool} if pool else {}), today, {})
    assert (found["port"], found.get("pool")) == expected


# --- On a host --------------------------------------------------------------------------------------------------------


LOGIN, OLD = "shop_aaaaaa", "shop_bbbbbb"
CONFIGURATION = "[databases]\nshop = host=/run/postgresql dbname=shop pool_size=4 max_db_connections=8\n\n[pgbouncer]\n"


@pytest.fixture
def pooled(monkeypatch, tmp_path, on_a_host):
    """A host with a pool, and what was done with units."""
    monkeypatch.setattr(postgres_pool, "DIRECTORY", str(tmp_path))
    for name, path in (("USERS", "users.txt"), ("HBA", "hba.conf")):
        monkeypatch.setattr(postgres_pool, name, str(tmp_path / path))
    monkeypatch.setattr(postgres_pool, "UNIT_FILE", str(tmp_path / "unit"))
    done, rows, clients = [], [], []
    for name in ("reload", "switch"):
        monkeypatch.setattr(systemd, name, lambda *words, name=name: done.append((name, *words)))
    monkeypatch.setattr(systemd, "read", lambda: done.append(("read",)))
    monkeypatch.setattr(systemd, "loaded", lambda unit: 1.0)
    monkeypatch.setattr(postgres_server, "is_installed", lambda: True)
    monkeypatch.setattr(postgres_server, "answered", lambda question: rows)
    monkeypatch.setattr(postgres_server, "console", lambda directory, port, command: clients if port == 6432 else [])
    monkeypatch.setattr(postgres_pooling.grp, "getgrnam", lambda name: SimpleNamespace(gr_gid=-1))
    used = []
    monkeypatch.setattr(using, "users", lambda host, service, name, staying, port: used if port == 6432 else [])
    shop = on_a_host.pillar["postgres"]["databases"]["shop"]
    shop |= {"pools": ["transaction"], "pool_each": 4, "pool_most": 8, "connections": 20}
    on_a_host.pillar["postgres"]["clients"] = ["127.0.0.1/32"]
    return SimpleNamespace(
        host=on_a_host,
        run=Run(on_a_host, [], lambda name: False),
        shop=shop,
        directory=tmp_path,
        done=done,
        rows=rows,
        clients=clients,
        used=used,
        login=on_a_host.login(POSTGRES, "shop"),
    )


def row(login, database="shop"):
    return {"database": database, "login": login, "verifier": f"SCRAM-{login}"}


def users(pooled):
    return postgres_pooling.users(POSTGRES, pooled.run, postgres_pool.USERS)


def test_the_pools_let_in_whom_postgresql_lets_in(pooled):
    pooled.rows += [row(pooled.login), row(OLD)]
    step = users(pooled)
    assert step.changes == {"shop": {"old": None, "new": sorted([pooled.login, OLD])}}
    step.act()
    assert (pooled.directory / "users.txt").read_text() == "".join(
        f'"{login}" "SCRAM-{login}"\n' for login in sorted([pooled.login, OLD])
    )
    assert (pooled.directory / "hba.conf").read_text().splitlines()[0] == (
        f'hostssl "shop" "{min(pooled.login, OLD)}" 127.0.0.1/32 scram-sha-256'
    )
    assert users(pooled).changes == {}
    # Another verifier, or another host, is a change too.
    pooled.rows[0] |= {"verifier": "another"}
    assert list(users(pooled).changes) == [postgres_pool.USERS]
    pooled.rows[0] |= {"verifier": f"SCRAM-{pooled.login}"}
    pooled.host.pillar["postgres"]["clients"].append("10.0.0.4/32")
    assert list(users(pooled).changes) == [postgres_pool.USERS]


def test_a_dry_run_names_the_logins_that_are_yet_to_come(pooled, monkeypatch):
    object.__setattr__(pooled.host, "is_dry", True)
    monkeypatch.setattr(postgres_server, "is_installed", lambda: False)
    assert users(pooled).changes == {"shop": {"old": None, "new": [pooled.login]}}
    monkeypatch.setattr(postgres_server, "is_installed", lambda: True)
    pooled.rows.append(row(pooled.login) | {"verifier": scram("another", b"salt")})
    users(pooled).act()
    assert list(users(pooled).changes) == [postgres_pool.USERS]


def test_a_closed_login_is_let_in_no_more(pooled):
    (pooled.directory / "transaction.ini").write_text(CONFIGURATION)
    pooled.rows += [row(pooled.login), row(OLD), row(OLD, "stock")]
    users(pooled).act()
    postgres_pooling.forget([OLD])
    assert OLD not in (pooled.directory / "users.txt").read_text() + (pooled.directory / "hba.conf").read_text()
    assert pooled.login in (pooled.directory / "users.txt").read_text()
    assert ("reload", "postgresql-pool@transaction") in pooled.done


def test_a_configuration_of_before_a_reload_is_read(pooled, monkeypatch):
    object.__setattr__(pooled.host, "ask", lambda name: {"version": 13})
    assert postgres_pooling.pooled(pooled.run, "transaction").changes == {}
    (pooled.directory / "transaction.ini").write_text(CONFIGURATION)
    step = postgres_pooling.pooled(pooled.run, "transaction")
    assert list(step.changes) == ["postgresql-pool@transaction"]
    step.act()
    assert pooled.done == [("reload", "postgresql-pool@transaction")]
    object.__setattr__(pooled.host, "ask", lambda name: {"version": 12})
    assert "needs PgBouncer 1.21" in postgres_pooling.pooled(pooled.run, "transaction").comment
    assert "1.21" not in postgres_pooling.pooled(pooled.run, "session").comment


def unpooled(pooled):
    return postgres_pooling.unpooled(POSTGRES, pooled.run, str(pooled.directory))


def test_a_pool_that_nobody_has_ends(pooled):
    (pooled.directory / "transaction.ini").write_text(CONFIGURATION)
    assert unpooled(pooled).changes == {}
    del pooled.shop["pools"]
    # Until a release has it no more, and no other host is connected to it.
    pooled.used.append("shop v3")
    step = unpooled(pooled)
    assert (step.changes, step.comment) == ({}, "shop stays pooled (transaction) for shop v3")
    pooled.used.clear()
    pooled.clients.append({"database": "shop", "user": LOGIN, "addr": "10.0.0.4"})
    assert unpooled(pooled).comment == "shop stays pooled (transaction) for 10.0.0.4, which is connected"
    assert postgres_pool.addresses(LOGIN) == {"10.0.0.4"}
    assert postgres_pool.addresses(OLD) == set()
    pooled.clients[0]["addr"] = "127.0.0.1"
    step = unpooled(pooled)
    assert step.changes.keys() == {"shop (transaction)", "postgresql-pool@transaction"}
    step.act()
    assert pooled.done[0] == ("switch", "postgresql-pool@transaction", False)
    assert not pooled.directory.exists()
    assert unpooled(pooled).changes == {}


def test_the_other_databases_of_a_pool_stay(pooled):
    stock = CONFIGURATION.replace(
        "\n\n", "\nstock = host=/run/postgresql dbname=stock pool_size=1 max_db_connections=1\n\n"
    )
    (pooled.directory / "transaction.ini").write_text(stock)
    pooled.rows += [row(pooled.login), row(OLD, "stock")]
    users(pooled).act()
    assert [one.name for one in postgres_pool.pools(pooled.host.pillar["postgres"], "transaction")] == ["shop", "stock"]
    step = unpooled(pooled)
    assert step.changes.keys() == {"stock (transaction)"}
    step.act()
    assert (pooled.directory / "transaction.ini").read_text() == CONFIGURATION
    assert OLD not in (pooled.directory / "users.txt").read_text()
    assert ("reload", "postgresql-pool@transaction") in pooled.done
