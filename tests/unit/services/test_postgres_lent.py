"""Databases that other apps borrow: the logins and rights that are made and removed."""

import dataclasses
import json
import re

import pytest

from saltern import services
from saltern.host import Host, Lent
from saltern.releases import process, store
from saltern.services import postgres_lent, postgres_server
from saltern.services.sql import NO_POWERS, matches, scram
from saltern.services.steps import Run
from tests.unit.rows import host

POSTGRES = services.formulas()["postgres"]
PASSWORD = "0123456789abcdef0123"
READER = Lent("reports", "read", "reports_3f9a01", PASSWORD)
WHOLE = Lent("stock-2", "whole", "stock-2_3f9a02", PASSWORD)
ITS = {"name": "reports_3f9a01", "verifier": True, "limit": 20, "plain": True, "group": "shop:read"}
ITS |= {"acts": False, "replaced": None}
ACTS = ITS | {"name": "stock-2_3f9a02", "group": "shop:whole", "acts": True}
READS = {"groups": ["shop:read"], "owns": False, "lacks": [], "logins": [ITS]}
HAS = {"groups": ["shop:whole"], "owns": True, "lacks": [], "logins": [ACTS]}
SINCE = "2026-01-02T03:04:05+00:00"
NOTE = f"Managed by Saltern. Replaced since {SINCE}."

READING = [
    'GRANT CONNECT ON DATABASE "shop" TO "shop:read";',
    "DO LOOP",
    'ALTER DEFAULT PRIVILEGES FOR ROLE "shop-app" GRANT USAGE ON SCHEMAS TO "shop:read";',
    'ALTER DEFAULT PRIVILEGES FOR ROLE "shop-app" GRANT SELECT ON TABLES TO "shop:read";',
    'ALTER DEFAULT PRIVILEGES FOR ROLE "shop-app" GRANT SELECT ON SEQUENCES TO "shop:read";',
]
PLANNED = {
    "nothing to do": ([READER], READS, set(), []),
    "nothing to do for one that has it whole": ([WHOLE], HAS, set(), []),
    "nothing is there": (
        [READER],
        postgres_lent.NOTHING,
        {"shop:read", "reads", "reports_3f9a01"},
        [
            "DO ROLE",
            f'ALTER ROLE "shop:read" NOLOGIN {NO_POWERS};',
            f"""CREATE ROLE "reports_3f9a01" LOGIN {NO_POWERS} CONNECTION LIMIT 20 PASSWORD 'VERIFIER';""",
            'GRANT "shop:read" TO "reports_3f9a01";',
            *READING,
        ],
    ),
    "nothing is there of one that has it whole": (
        [WHOLE],
        postgres_lent.NOTHING,
        {"shop:whole", "acts", "stock-2_3f9a02"},
        [
            "DO ROLE",
            f'ALTER ROLE "shop:whole" NOLOGIN {NO_POWERS};',
            'GRANT "shop-app" TO "shop:whole";',
            f"""CREATE ROLE "stock-2_3f9a02" LOGIN {NO_POWERS} CONNECTION LIMIT 20 PASSWORD 'VERIFIER';""",
            'GRANT "shop:whole" TO "stock-2_3f9a02";',
            """ALTER ROLE "stock-2_3f9a02" SET role = 'shop-app';""",
        ],
    ),
    "a table that cannot be read": ([READER], READS | {"lacks": ["tables"]}, {"reads"}, READING),
    "a login that may do more": (
        [READER],
        READS | {"logins": [ITS | {"plain": False, "limit": -1}]},
        {"reports_3f9a01"},
        [
            f'ALTER ROLE "reports_3f9a01" LOGIN {NO_POWERS};',
            'ALTER ROLE "reports_3f9a01" CONNECTION LIMIT 20;',
        ],
    ),
    "another password": (
        [READER],
        READS | {"logins": [ITS, ITS | {"name": "reports_0a0a0a"}]},
        {"reports_0a0a0a"},
        ["""COMMENT ON ROLE "reports_0a0a0a" IS 'Managed by Saltern. Replaced since TIME.';"""],
    ),
    "the password of before again": (
        [READER],
        READS | {"logins": [ITS | {"replaced": NOTE, "verifier": None}]},
        {"reports_3f9a01"},
        ["""ALTER ROLE "reports_3f9a01" PASSWORD 'VERIFIER';""", 'COMMENT ON ROLE "reports_3f9a01" IS NULL;'],
    ),
    "who borrows no more is no matter of this": ([READER], READS | {"logins": [ITS, ACTS]}, set(), []),
}


@pytest.mark.parametrize("borrowers, state, changed, expected", PLANNED.values(), ids=PLANNED)
def test_the_plan_is_what_is_missing(borrowers, state, changed, expected):
    verifier = scram(PASSWORD, b"0123456789abcdef")
    logins = [one | {"verifier": one["verifier"] and verifier} for one in state["logins"]]
    changes, outside, inside = postgres_lent.planned("shop", "shop-app", 40, borrowers, state | {"logins": logins})
    assert changes.keys() == changed
    text = []
    for statement in outside + inside:
        if found := re.search(r"SCRAM-SHA-256\$[^']+", statement):
            assert matches(PASSWORD, found[0])
            statement = statement.replace(found[0], "VERIFIER")
        statement = re.sub(r"since [0-9T:+-]+\.", "since TIME.", statement)
        statement = re.sub(r"^DO \$\$.*CREATE ROLE.*$", "DO ROLE", statement)
        text.append(re.sub(r"^DO \$\$.*LOOP.*$", "DO LOOP", statement))
    assert text == expected
    assert PASSWORD not in f"{changes} {outside} {inside}"
    assert "SCRAM" not in str(changes)


@pytest.mark.parametrize("connections, borrowers, expected", [(40, 1, 20), (40, 3, 10), (5, 4, 2), (2, 1, 2)])
def test_a_borrower_leaves_the_owner_no_less_than_it_has(connections, borrowers, expected):
    assert postgres_lent.share(connections, borrowers) == expected


ACCESS = """
hostssl "shop"  +"shop:read"  127.0.0.1/32  scram-sha-256
hostssl "shop"  +"shop:whole"  127.0.0.1/32  scram-sha-256
hostssl all  +"shop:whole"  127.0.0.1/32  reject
hostssl "shop"  +"shop-app"  127.0.0.1/32  scram-sha-256
"""


def test_the_access_list_has_who_is_declared_and_who_is_not_yet_closed(tmp_path):
    path = str(tmp_path / "pg_hba.conf")
    databases = {"stock": {"borrowers": {"a": "read", "b": "read"}}, "other": {}}
    assert postgres_lent.admitted(path, databases) == [('"stock"', "stock:read", "scram-sha-256")]
    (tmp_path / "pg_hba.conf").write_text(ACCESS)
    assert postgres_lent.admitted(path, databases) == [
        ('"shop"', "shop:read", "scram-sha-256"),
        ('"shop"', "shop:whole", "scram-sha-256"),
        ('"stock"', "stock:read", "scram-sha-256"),
        ("all", "shop:whole", "reject"),
    ]


@pytest.fixture
def returned(tmp_path, monkeypatch):
    """A function that has logins closed, and returns the step and what was asked."""
    path = tmp_path / "pg_hba.conf"
    (tmp_path / "host.key").write_text("key")
    monkeypatch.setattr(postgres_server, "is_installed", lambda: True)

    def run(logins, running=(), borrowers=(), listen=(), dry=False):
        path.write_text(ACCESS)
        asked = []

        def sql(statements):
            asked.append(statements)
            return json.dumps({"databases": ["shop"], "groups": ["shop:read", "shop:whole"], "logins": logins})

        monkeypatch.setattr(postgres_server, "run", sql)
        salt = {"release.plan": lambda app: {"number": 2}}
        monkeypatch.setattr(process, "releases", lambda: [(app, 1) for app, _ in running])
        monkeypatch.setattr(store, "environ", lambda app, number: {"X": dict(running)[app].encode()})
        monkeypatch.setattr(store, "record", lambda app, number: {})
        database = {"owner": "shop-app", "borrowers": dict(borrowers)}
        pillar = {"postgres": {"databases": {"shop": database}, "listen": list(listen), "overlap": 24}}
        pillar |= {"app": {app: {} for app, _ in running}, "hosts": {"one": host()}}
        on = Host.of(salt, pillar, {"test": dry, "id": "one", "conf_file": str(tmp_path / "minion")})
        return postgres_lent.returned(POSTGRES, Run(on, [], lambda name: False), str(path)), asked, path

    return run


GONE = {"name": "reports_3f9a01", "group": "shop:read", "replaced": None, "owner": "shop-app", "from": []}
OLD = GONE | {"name": "stock-2_0a0a0a", "group": "shop:whole", "replaced": NOTE}


def test_a_former_borrowers_login_and_group_are_closed_and_the_owners_data_stays(returned):
    step, asked, path = returned([GONE])
    assert step.changes.keys() == {"reports_3f9a01", "shop:read", "shop:whole"}
    step.act()
    assert asked[1] == [
        '\\connect "shop"',
        *postgres_lent.INSIDE,
        'REASSIGN OWNED BY "reports_3f9a01" TO "shop-app";',
        'DROP OWNED BY "reports_3f9a01";',
        "\\connect postgres",
        'DROP ROLE "reports_3f9a01";',
        *(
            line
            for group in ("shop:read", "shop:whole")
            for line in (
                '\\connect "shop"',
                *postgres_lent.INSIDE,
                f'DROP OWNED BY "{group}";',
                "\\connect postgres",
                f'DROP ROLE "{group}";',
            )
        ),
    ]
    assert path.read_text() == "\n" + ACCESS.splitlines(keepends=True)[4]


STAYS = {
    "a release that runs has it": (GONE, {"running": [("reports", "postgres://reports_3f9a01:x@127.0.0.1/shop")]}),
    "another host is connected": (GONE | {"from": ["10.0.0.9"]}, {}),
    "other hosts have not converged to the new password yet": (
        OLD | {"replaced": None},
        {"borrowers": {"stock-2": "whole"}, "listen": ["10.0.0.1"]},
    ),
}


@pytest.mark.parametrize("login, more", STAYS.values(), ids=STAYS)
def test_a_login_that_somebody_has_stays_with_its_group(returned, login, more):
    step, _, path = returned([login], **more)
    assert login["name"] not in step.changes
    assert login["group"] not in step.changes
    assert f"the login {login['name']} stays open for " in step.comment
    step.act()
    assert login["group"] in path.read_text()


def test_a_replaced_password_is_closed_when_the_others_have_had_the_time(returned):
    step, _, _ = returned([OLD], borrowers={"stock-2": "whole"}, listen=["10.0.0.1"])
    assert step.changes.keys() == {"stock-2_0a0a0a", "shop:read"}
    # A borrower that is gone has no newer password to wait for.
    step, _, _ = returned([OLD | {"replaced": None}], listen=["10.0.0.1"])
    assert "stock-2_0a0a0a" in step.changes


def test_a_dry_run_passes_over_the_releases_that_a_converge_would_stop(returned):
    running = [("reports", "postgres://reports_3f9a01:x@127.0.0.1/shop")]
    step, _, _ = returned([GONE | {"from": ["127.0.0.1"]}], running=running, dry=True)
    assert "reports_3f9a01" in step.changes
    assert "would be closed" in step.comment


def test_nothing_is_asked_where_nothing_is_lent(returned, tmp_path, monkeypatch):
    monkeypatch.setattr(postgres_lent, "LINE", re.compile("^never$"))
    step, asked, _ = returned([])
    assert (step.changes, asked) == ({}, [])


def test_a_dry_run_on_a_bare_host_plans_everything(tmp_path, monkeypatch):
    (tmp_path / "host.key").write_text("key")
    monkeypatch.setattr(postgres_server, "is_installed", lambda: False)
    database = {"owner": "shop-app", "connections": 40, "borrowers": {"reports": "read"}}
    pillar = {"postgres": {"databases": {"shop": database}}, "hosts": {"one": host()}}
    on = Host.of({}, pillar, {"test": True, "id": "one", "conf_file": str(tmp_path / "minion")})
    step = postgres_lent.lent(POSTGRES, Run(on, [], lambda name: False), "shop")
    assert len(step.changes) == 3
    assert step.comment == "shop would be lent to reports"
    asked = []

    def answers(statements):
        asked.append(statements)
        verifier = scram(on.lent(POSTGRES, "shop")[0].password, b"0123456789abcdef")
        login = ITS | {"name": on.lent(POSTGRES, "shop")[0].login, "verifier": verifier}
        return json.dumps(READS | {"logins": [login]})

    monkeypatch.setattr(postgres_server, "run", answers)
    there = dataclasses.replace(on, is_dry=False)
    step = postgres_lent.lent(POSTGRES, Run(there, [], lambda name: False), "shop")
    assert (step.changes, step.comment) == ({}, "shop is lent to reports")
    assert asked[0][:3] == ['\\connect "shop"', *postgres_lent.INSIDE]
