"""A database and its owner: the statements that make them what they must be."""

import re

import pytest
from salt.exceptions import CommandExecutionError

from saltern import services
from saltern.host import Host
from saltern.services import postgres_database
from saltern.services.sql import matches, scram
from tests.unit.rows import host

POSTGRES = services.formulas()["postgres"]
PASSWORD = 'it\'s-"a"-\\-$$-password'
SALT = b"0123456789abcdef"

POWERS = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
LOGIN, SINCE = "my-shop_3f9a01", "2026-01-02T03:04:05+00:00"
ITS = {"name": LOGIN, "verifier": "its own", "plain": True, "acts": True, "limit": 48, "replaced": None}
BEFORE = ITS | {"name": "my-shop_0a0a0a", "verifier": "another"}
DATABASE = {"owner": "my-shop", "public": False, "mark": ["saltern.app=my-shop"], "comment": None, "limit": 48}
RIGHT = {"role": {"plain": True}, "logins": [ITS], "database": DATABASE}
BARE = {"role": None, "logins": [], "database": None}
CREATE_ROLE = f'CREATE ROLE "my-shop" NOLOGIN {POWERS};'
CREATE_LOGIN = f"""CREATE ROLE "{LOGIN}" LOGIN {POWERS} CONNECTION LIMIT 48 PASSWORD 'VERIFIER';"""
ACTS = [f'GRANT "my-shop" TO "{LOGIN}";', f"""ALTER ROLE "{LOGIN}" SET role = 'my-shop';"""]
CREATE_DATABASE = """CREATE DATABASE "stock" OWNER "my-shop" TEMPLATE template0 ENCODING 'UTF8' CONNECTION LIMIT 48;"""
MARKED = [
    """ALTER ROLE postgres IN DATABASE "stock" SET saltern.app = 'my-shop';""",
    'ALTER ROLE postgres IN DATABASE "stock" RESET saltern.kept_since;',
]
REVOKE = 'REVOKE ALL ON DATABASE "stock" FROM PUBLIC;'
UNCOMMENT = 'COMMENT ON DATABASE "stock" IS NULL;'
PLANNED = {
    "nothing to do": (RIGHT, set(), []),
    "nothing is there": (
        BARE,
        {"role", "login", "database", "public", "mark"},
        [CREATE_ROLE, CREATE_LOGIN, *ACTS, CREATE_DATABASE, REVOKE, *MARKED],
    ),
    "no database": (RIGHT | {"database": None}, {"database", "public", "mark"}, [CREATE_DATABASE, REVOKE, *MARKED]),
    "another password than the one before": (
        RIGHT | {"logins": [BEFORE]},
        {"login", "replaced"},
        [
            CREATE_LOGIN,
            *ACTS,
            """COMMENT ON ROLE "my-shop_0a0a0a" IS 'Managed by Saltern. Replaced since TIME.';""",
        ],
    ),
    "a role that logs in itself, as before there were logins": (
        RIGHT | {"logins": [ITS | {"name": "my-shop", "acts": False}]},
        {"login", "replaced"},
        [CREATE_LOGIN, *ACTS, """COMMENT ON ROLE "my-shop" IS 'Managed by Saltern. Replaced since TIME.';"""],
    ),
    "a login that was replaced and is valid yet": (
        RIGHT | {"logins": [BEFORE | {"replaced": f"Managed by Saltern. Replaced since {SINCE}."}, ITS]},
        set(),
        [],
    ),
    "the password of before again": (
        RIGHT | {"logins": [ITS | {"replaced": f"Managed by Saltern. Replaced since {SINCE}."}]},
        {"again"},
        [f'COMMENT ON ROLE "{LOGIN}" IS NULL;'],
    ),
    "a password that was changed by hand": (
        RIGHT | {"logins": [ITS | {"verifier": "another"}]},
        {"password"},
        [f"""ALTER ROLE "{LOGIN}" PASSWORD 'VERIFIER';"""],
    ),
    "no password": (
        RIGHT | {"logins": [ITS | {"verifier": None}]},
        {"password"},
        [f"""ALTER ROLE "{LOGIN}" PASSWORD 'VERIFIER';"""],
    ),
    "a login that may do more": (
        RIGHT | {"logins": [ITS | {"plain": False}]},
        {"login"},
        [f'ALTER ROLE "{LOGIN}" LOGIN {POWERS};'],
    ),
    "a login that acts as itself": (RIGHT | {"logins": [ITS | {"acts": False}]}, {"acts"}, ACTS),
    "a role that may do more": (
        RIGHT | {"role": {"plain": False}},
        {"attributes"},
        [f'ALTER ROLE "my-shop" {POWERS};'],
    ),
    "another owner": (
        RIGHT | {"database": DATABASE | {"owner": 'o"ther'}},
        {"owner"},
        ['ALTER DATABASE "stock" OWNER TO "my-shop";'],
    ),
    "a database that is open to all": (RIGHT | {"database": DATABASE | {"public": True}}, {"public"}, [REVOKE]),
    "another share of the connections": (
        RIGHT | {"database": DATABASE | {"limit": -1}},
        {"connections"},
        ['ALTER DATABASE "stock" CONNECTION LIMIT 48;'],
    ),
    "a login that may take more connections": (
        RIGHT | {"logins": [ITS | {"limit": -1}]},
        {"login connections"},
        [f'ALTER ROLE "{LOGIN}" CONNECTION LIMIT 48;'],
    ),
    "a database from before there were marks": (RIGHT | {"database": DATABASE | {"mark": None}}, {"mark"}, MARKED),
    "a database whose comment was its mark": (
        RIGHT | {"database": DATABASE | {"mark": None, "comment": "Managed by Saltern for the app my-shop."}},
        {"mark", "comment"},
        [*MARKED, UNCOMMENT],
    ),
    "a comment of the owner's": (RIGHT | {"database": DATABASE | {"comment": "the stock"}}, set(), []),
    "a comment that the owner forged": (
        RIGHT | {"database": DATABASE | {"comment": "Managed by Saltern for the app other."}},
        {"comment"},
        [UNCOMMENT],
    ),
    "a database that was kept": (
        {
            "role": {"plain": True},
            "logins": [],
            "database": DATABASE | {"mark": ["saltern.app=my-shop", f"saltern.kept_since={SINCE}"], "limit": 0},
        },
        {"login", "mark", "connections"},
        [CREATE_LOGIN, *ACTS, *MARKED, 'ALTER DATABASE "stock" CONNECTION LIMIT 48;'],
    ),
}


@pytest.mark.parametrize("state, changed, expected", PLANNED.values(), ids=PLANNED)
def test_the_plan_is_what_is_missing(state, changed, expected):
    verifiers = {"its own": scram(PASSWORD, SALT)}
    logins = [one | {"verifier": verifiers.get(one["verifier"], one["verifier"])} for one in state["logins"]]
    changes, statements = postgres_database.planned("stock", "my-shop", 48, LOGIN, PASSWORD, state | {"logins": logins})
    assert set(changes) == changed
    verifiers = re.findall(r"SCRAM-SHA-256\$[^']+", "\n".join(statements))
    assert all(matches(PASSWORD, verifier) for verifier in verifiers)
    text = [re.sub(r"SCRAM-SHA-256\$[^']+", "VERIFIER", statement) for statement in statements]
    assert [re.sub(r"since [0-9T:+-]+\.", "since TIME.", statement) for statement in text] == expected
    assert PASSWORD not in f"{changes} {statements}"
    assert "SCRAM" not in str(changes)


SECOND = "my-shop_5b5b5b"
TWO = RIGHT | {"logins": [ITS | {"name": SECOND, "limit": 30}, ITS]}
SEVERAL = {
    "nothing to do": (TWO, True, set(), []),
    "the other login is none of its own": (RIGHT | {"logins": [ITS, ITS | {"name": SECOND}]}, True, set(), []),
    "a login of before": (
        RIGHT | {"logins": [BEFORE | {"limit": 7}, ITS]},
        True,
        {"login connections", "replaced"},
        [
            'ALTER ROLE "my-shop_0a0a0a" CONNECTION LIMIT 48;',
            """COMMENT ON ROLE "my-shop_0a0a0a" IS 'Managed by Saltern. Replaced since TIME.';""",
        ],
    ),
    "a login of before, which the first database looks after": (
        RIGHT | {"logins": [BEFORE | {"limit": 7}, ITS]},
        False,
        set(),
        [],
    ),
    "nothing is there, and the first database makes the role": (
        BARE,
        False,
        {"login", "database", "public", "mark"},
        [CREATE_LOGIN, *ACTS, CREATE_DATABASE, REVOKE, *MARKED],
    ),
}


@pytest.mark.parametrize("state, is_first, changed, expected", SEVERAL.values(), ids=SEVERAL)
def test_each_database_of_an_app_has_a_login_of_its_own(state, is_first, changed, expected):
    verifier = scram(PASSWORD, SALT)
    logins = [one | {"verifier": verifier} for one in state["logins"]]
    declared = {LOGIN: 48, SECOND: 30}
    changes, statements = postgres_database.planned(
        "stock", "my-shop", 48, LOGIN, PASSWORD, state | {"logins": logins}, declared, is_first
    )
    assert set(changes) == changed
    text = [re.sub(r"SCRAM-SHA-256\$[^']+", "VERIFIER", statement) for statement in statements]
    assert [re.sub(r"since [0-9T:+-]+\.", "since TIME.", statement) for statement in text] == expected


OTHERS_DATA = {
    "in use": {"mark": ["saltern.app=other"]},
    "kept": {"mark": ["saltern.app=other", f"saltern.kept_since={SINCE}"]},
    "marked by a comment of before": {
        "mark": None,
        "owner": "other",
        "comment": f"Managed by Saltern for the app other. Kept since {SINCE}.",
    },
    "its comment was removed by its owner": {"mark": ["saltern.app=other"], "comment": None},
    "its comment was forged by its owner": {
        "mark": ["saltern.app=other"],
        "comment": "Managed by Saltern for the app my-shop.",
    },
}


@pytest.mark.parametrize("database", OTHERS_DATA.values(), ids=OTHERS_DATA)
def test_the_data_of_another_app_is_not_given_away(database):
    state = RIGHT | {"database": DATABASE | database}
    with pytest.raises(CommandExecutionError, match="the database stock holds the data of other; expected a name of"):
        postgres_database.planned("stock", "my-shop", 48, LOGIN, PASSWORD, state)


def test_a_new_verifier_has_a_salt_of_its_own():
    plans = {postgres_database.planned("stock", "shop", 48, LOGIN, PASSWORD, BARE)[1][1] for _ in range(3)}
    assert len(plans) == 3


def on(dry=False, **owners):
    """Return a host with an app for each owner of a database."""
    databases = {name: {"owner": owner, "connections": 48, "password": PASSWORD} for name, owner in owners.items()}
    return Host("one", {"postgres": {"databases": databases}, "hosts": {"one": host()}}, "", dry, None)


@pytest.fixture
def without_psql(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


def test_a_dry_run_on_a_bare_host_plans_everything(without_psql):
    changes, statements = postgres_database.plan(POSTGRES, on(dry=True, stock="shop"), "stock", "shop", 48)
    assert set(changes) == {"role", "login", "database", "public", "mark"}
    assert len(statements) == 8


def test_a_host_without_psql_is_told(without_psql):
    with pytest.raises(CommandExecutionError, match=r"^psql is not installed; expected the package postgresql-client$"):
        postgres_database.plan(POSTGRES, on(stock="shop"), "stock", "shop", 48)


def test_a_dry_run_plans_the_role_of_several_databases_once(without_psql):
    its_host = on(dry=True, stock="shop", archive="shop", news="press")
    plans = {name: postgres_database.plan(POSTGRES, its_host, name, "shop", 48) for name in ("archive", "stock")}
    planned = {name: set(changes) for name, (changes, _) in plans.items()}
    its = {"login", "database", "public", "mark"}
    assert planned == {"archive": its | {"role"}, "stock": its}


def test_a_database_is_ours_by_what_its_owner_cannot_write():
    ours = "Managed by Saltern for the app other."
    for database, expected in (
        ({"owner": "shop", "mark": ["saltern.app=shop"], "comment": ours}, ("shop", None)),
        ({"owner": "shop", "mark": None, "comment": ours}, (None, None)),
        ({"owner": "other", "mark": None, "comment": f"{ours} Kept since {SINCE}."}, ("other", SINCE)),
        ({"owner": "shop", "mark": None, "comment": None}, (None, None)),
    ):
        assert postgres_database.whose(database) == expected
