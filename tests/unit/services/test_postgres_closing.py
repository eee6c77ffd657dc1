"""Databases and logins that no app has any more are closed, and their data stays."""

import json
import re

import pytest

from saltern import services
from saltern.host import Host
from saltern.services import postgres_closing, postgres_server
from tests.unit.rows import host
from tests.unit.services.access_list import ACCESS

POSTGRES = services.formulas()["postgres"]
PASSWORD = "0123456789abcdef0123"
LOGIN, SINCE = "my-shop_3f9a01", "2026-01-02T03:04:05+00:00"
MARKED = """ALTER ROLE postgres IN DATABASE "stock" SET saltern.app = 'my-shop';"""
UNCOMMENT = 'COMMENT ON DATABASE "stock" IS NULL;'
KEPT = {
    "name": "stock",
    "owner": "my-shop",
    "app": "my-shop",
    "mark": ["saltern.app=my-shop"],
    "comment": None,
    "since": None,
    "limit": 48,
    "login": False,
    "logins": [LOGIN],
    "sessions": 2,
    "remote": [],
    "owned": ["stock"],
}
DONE = {"since": SINCE, "limit": 0, "logins": [], "sessions": 0}
LIMIT = 'ALTER DATABASE "stock" CONNECTION LIMIT 0;'
NOLOGIN = 'ALTER ROLE "my-shop" NOLOGIN PASSWORD NULL;'
KEPT_SINCE = [MARKED, """ALTER ROLE postgres IN DATABASE "stock" SET saltern.kept_since = 'TIME';"""]
DROPPED = [
    '\\connect "stock"',
    f'REASSIGN OWNED BY "{LOGIN}" TO "my-shop";',
    f'DROP OWNED BY "{LOGIN}";',
    "\\connect postgres",
    f'DROP ROLE "{LOGIN}";',
]
CLOSED = {
    "all is open": (KEPT, [], [LIMIT, *KEPT_SINCE, "END", *DROPPED]),
    "all is closed": (KEPT | DONE, [], []),
    "its role logs in itself, as before": (
        KEPT | {"login": True, "logins": []},
        [],
        [LIMIT, NOLOGIN, *KEPT_SINCE, "END"],
    ),
    "its role has another database": (KEPT, ["faq", "my-shop"], [LIMIT, *KEPT_SINCE, "END"]),
    "closed, and its role has another database": (KEPT | DONE | {"logins": [LOGIN]}, ["my-shop"], []),
    "it was given to a person": (KEPT | {"owner": "alice"}, [], [LIMIT, *KEPT_SINCE, "END"]),
    "it was opened again by hand": (KEPT | DONE | {"limit": 5}, [], [LIMIT, "END"]),
    "a session was left": (KEPT | DONE | {"sessions": 1}, [], ["END"]),
    "kept since before there were marks": (
        KEPT | DONE | {"mark": None, "comment": f"Managed by Saltern for the app my-shop. Kept since {SINCE}."},
        [],
        [*KEPT_SINCE, UNCOMMENT, "END"],
    ),
}


@pytest.mark.parametrize("one, owners, expected", CLOSED.values(), ids=CLOSED)
def test_a_database_is_closed_to_logins_and_its_role_unless_it_is_needed(one, owners, expected):
    found = postgres_closing.closed(one, owners)
    found = [re.sub(r"kept_since = '[0-9T:+-]+'", "kept_since = 'TIME'", statement) for statement in found]
    assert ["END" if "pg_terminate_backend" in statement else statement for statement in found] == expected


@pytest.fixture
def closing(monkeypatch, tmp_path):
    """``close`` where ``stock`` is no longer attached; it returns the answer and what was run."""
    path = tmp_path / "pg_hba.conf"
    path.write_text(ACCESS)
    path.chmod(0o640)

    def close(*users, test=False, remote=(), databases=None):
        ran = []
        found = [KEPT | {"remote": list(remote)}]
        monkeypatch.setattr(postgres_closing, "kept", lambda host, attached, ask: [] if "stock" in attached else found)
        monkeypatch.setattr(postgres_server, "run", ran.append)
        monkeypatch.setattr(postgres_closing, "users", lambda host, service, name, staying: list(users))
        on = Host("one", {}, "", test, None)
        return postgres_closing.close(POSTGRES, on, str(path), databases or {"faq": "faq"}), ran, path

    return close


def test_a_database_is_closed_and_nobody_is_let_in_to_it(closing):
    (changes, used), ran, path = closing()
    assert (changes, used) == ({"stock": {"old": "open", "new": "closed to logins"}}, {})
    assert ran[0][:2] == [LIMIT, MARKED]
    assert ran[1] == ["SELECT pg_reload_conf();"]
    lines = ACCESS.splitlines(keepends=True)
    assert path.read_text() == "".join([*lines[:5], *lines[7:]])
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_dry_run_closes_nothing(closing):
    (changes, _), ran, path = closing(test=True)
    assert (changes.keys(), ran, path.read_text()) == ({"stock"}, [], ACCESS)


def test_a_database_that_a_release_has_stays_open(closing):
    (changes, used), ran, path = closing("my-shop v3")
    assert (changes, used, ran, path.read_text()) == ({}, {"stock": ["my-shop v3"]}, [], ACCESS)


def test_a_database_that_another_host_is_connected_to_stays_open(closing):
    (changes, used), ran, path = closing(remote=["10.0.0.4"])
    assert (changes, used) == ({}, {"stock": ["10.0.0.4, which is connected"]})
    assert (ran, path.read_text()) == ([], ACCESS)


def test_an_app_is_let_in_no_more_to_what_another_app_has_once_none_of_its_releases_runs(closing):
    another = {"faq": "faq", "stock": "its-own"}
    (changes, used), ran, path = closing("its-own v1", "my-shop v3", databases=another)
    assert (changes, used, ran, path.read_text()) == ({}, {"stock": ["my-shop v3"]}, [], ACCESS)
    (changes, used), ran, path = closing("its-own v1", databases=another)
    assert (changes.keys(), used) == ({"stock"}, {})
    assert ran == [[], ["SELECT pg_reload_conf();"]]
    assert path.read_text() == "".join(
        line for line in ACCESS.splitlines(True) if "my-shop" not in line or "0/0" in line
    )


OTHER = {
    "name": "my-shop_0a0a0a",
    "owner": "my-shop",
    "owned": ["stock"],
    "replaced": f"Managed by Saltern. Replaced since {SINCE}.",
    "from": [],
}
CHANGED = {"my-shop_0a0a0a": {"old": "replaced", "new": "closed to logins"}}
DROPS = [line.replace(LOGIN, "my-shop_0a0a0a") for line in DROPPED]
REPLACED = {
    "nobody has it": ({}, CHANGED, {}),
    "the role itself, as before": ({"found": OTHER | {"name": "my-shop"}}, {"my-shop": CHANGED["my-shop_0a0a0a"]}, {}),
    "a release that runs has it": (
        {"holders": {"my-shop_0a0a0a": ["my-shop v3"]}},
        {},
        {"my-shop_0a0a0a": ["my-shop v3"]},
    ),
    "a release that a converge would stop has it": (
        {"holders": {"my-shop_0a0a0a": ["my-shop v3"]}, "stay": {}, "test": True, "from": ["127.0.0.1"]},
        CHANGED,
        {},
    ),
    "a command of this host is connected": (
        {"from": ["127.0.0.1"]},
        {},
        {"my-shop_0a0a0a": ["127.0.0.1, which is connected"]},
    ),
    "another host is connected": (
        {"from": ["10.0.0.4"], "listen": ["10.0.0.1"]},
        {},
        {"my-shop_0a0a0a": ["10.0.0.4, which is connected"]},
    ),
    "other hosts have had the time": ({"listen": ["10.0.0.1"]}, CHANGED, {}),
    "other hosts have not converged yet": (
        {"listen": ["10.0.0.1"], "overlap": 8760 * 100},
        {},
        {"my-shop_0a0a0a": ["other app hosts until 2125-12-09T03:04+00:00"]},
    ),
}


@pytest.mark.parametrize("case, changed, staying", REPLACED.values(), ids=REPLACED)
def test_a_login_is_closed_when_nobody_has_it_any_more(monkeypatch, case, changed, staying):
    ran, found = [], case.get("found", OTHER) | {"from": case.get("from", [])}
    monkeypatch.setattr(postgres_server, "is_installed", lambda: True)
    monkeypatch.setattr(postgres_server, "run", lambda lines: ran.append(lines) or json.dumps([found]))
    held = case.get("holders", {})
    monkeypatch.setattr(
        postgres_closing,
        "holders",
        lambda host, service, leaving, staying: held if leaving else case.get("stay", held),
    )
    databases = {"stock": {"owner": "my-shop", "password": PASSWORD}, "replaced by a URL": {"owner": None}}
    postgres = {"databases": databases, "listen": case.get("listen", []), "overlap": case.get("overlap", 168)}
    on = Host("one", {"postgres": postgres, "hosts": {"one": host()}}, "", case.get("test", False), None)
    assert postgres_closing.close_logins(POSTGRES, on) == (changed, staying)
    assert "('stock', 'my-shop')" in ran[0][0]
    assert f"NOT rolname = ANY (ARRAY['{POSTGRES.login('my-shop', PASSWORD)}']::name[])" in ran[0][0]
    if changed and not case.get("test"):
        own = [NOLOGIN, 'COMMENT ON ROLE "my-shop" IS NULL;']
        assert ran[1:] == [own if "my-shop" in changed else DROPS]
    else:
        assert ran[1:] == []
