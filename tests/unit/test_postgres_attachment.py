"""A database and its owner: the statements that make them what they must be, and the verifier of a password."""

import base64
import hashlib
import hmac
import json
import pwd
import re
import subprocess

import pytest
from salt.exceptions import CommandExecutionError

# RFC 7677, section 3.
RFC = {
    "password": "pencil",
    "salt": base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="),
    "message": b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    "proof": base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
    "signature": base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
}


def test_a_verifier_accepts_the_exchange_of_rfc_7677(postgres_attachment):
    verifier = postgres_attachment.scram(RFC["password"], RFC["salt"], 4096)
    name, parameters, keys = verifier.split("$")
    assert (name, parameters) == ("SCRAM-SHA-256", "4096:W22ZaJ0SNY7soEsUEjb6gQ==")
    stored, server = map(base64.b64decode, keys.split(":"))
    client_signature = hmac.digest(stored, RFC["message"], "sha256")
    client_key = bytes(a ^ b for a, b in zip(RFC["proof"], client_signature, strict=True))
    assert hashlib.sha256(client_key).digest() == stored
    assert hmac.digest(server, RFC["message"], "sha256") == RFC["signature"]


PASSWORD = 'it\'s-"a"-\\-$$-password'
SALT = b"0123456789abcdef"


@pytest.mark.parametrize(
    "verifier",
    [
        None,
        "",
        "md5a3556571e93b0d20722ba62be61e8c2d",
        "SCRAM-SHA-256$4096:!!!$a:b",
        "SCRAM-SHA-256$many:MDEyMw==$a:b",
        "SCRAM-SHA-256$0:MDEyMw==$a:b",
        "SCRAM-SHA-256$4096$a:b",
        "SCRAM-SHA-256$4096:MDEyMw==$é:b",
        "a$b",
    ],
)
def test_what_is_no_verifier_matches_nothing(postgres_attachment, verifier):
    assert postgres_attachment.matches(PASSWORD, verifier) is False


def test_a_verifier_matches_its_password_alone(postgres_attachment):
    verifier = postgres_attachment.scram(PASSWORD, SALT, 8192)
    assert postgres_attachment.matches(PASSWORD, verifier)
    assert not postgres_attachment.matches(PASSWORD + "x", verifier)
    assert not postgres_attachment.matches(PASSWORD, postgres_attachment.scram("other", SALT))


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
def test_the_plan_is_what_is_missing(postgres_attachment, state, changed, expected):
    verifiers = {"its own": postgres_attachment.scram(PASSWORD, SALT)}
    logins = [one | {"verifier": verifiers.get(one["verifier"], one["verifier"])} for one in state["logins"]]
    changes, statements = postgres_attachment.planned(
        "stock", "my-shop", 48, LOGIN, PASSWORD, state | {"logins": logins}
    )
    assert set(changes) == changed
    verifiers = re.findall(r"SCRAM-SHA-256\$[^']+", "\n".join(statements))
    assert all(postgres_attachment.matches(PASSWORD, verifier) for verifier in verifiers)
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
def test_each_database_of_an_app_has_a_login_of_its_own(postgres_attachment, state, is_first, changed, expected):
    verifier = postgres_attachment.scram(PASSWORD, SALT)
    logins = [one | {"verifier": verifier} for one in state["logins"]]
    declared = {LOGIN: 48, SECOND: 30}
    changes, statements = postgres_attachment.planned(
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
def test_the_data_of_another_app_is_not_given_away(postgres_attachment, database):
    state = RIGHT | {"database": DATABASE | database}
    with pytest.raises(CommandExecutionError, match="the database stock holds the data of other; expected a name of"):
        postgres_attachment.planned("stock", "my-shop", 48, LOGIN, PASSWORD, state)


def test_a_new_verifier_has_a_salt_of_its_own(postgres_attachment):
    plans = {postgres_attachment.planned("stock", "shop", 48, LOGIN, PASSWORD, BARE)[1][1] for _ in range(3)}
    assert len(plans) == 3


PASSWORDS = {
    "attachment.password": lambda kind, name: PASSWORD,
    "attachment.login": lambda kind, name: f"{name}_0a0a0a",
}


def declared(**owners):
    """Return a pillar in which apps attach databases, owner by database."""
    return {"postgres": {"databases": {name: {"owner": owner, "connections": 48} for name, owner in owners.items()}}}


@pytest.fixture
def without_psql(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


def test_a_dry_run_on_a_bare_host_plans_everything(postgres_attachment, dunders, without_psql):
    dunders(postgres_attachment, salt=PASSWORDS, pillar=declared(stock="shop"), opts={"test": True})
    changes, statements = postgres_attachment.plan("stock", "shop", 48)
    assert set(changes) == {"role", "login", "database", "public", "mark"}
    assert len(statements) == 8


def test_a_host_without_psql_is_told(postgres_attachment, dunders, without_psql):
    dunders(postgres_attachment, salt=PASSWORDS, opts={"test": False})
    with pytest.raises(CommandExecutionError, match=r"^psql is not installed; expected the package postgresql-client$"):
        postgres_attachment.plan("stock", "shop", 48)


def test_a_dry_run_plans_the_role_of_several_databases_once(postgres_attachment, dunders, without_psql):
    pillar = declared(stock="shop", archive="shop", news="press")
    dunders(postgres_attachment, salt=PASSWORDS, pillar=pillar, opts={"test": True})
    planned = {name: set(postgres_attachment.plan(name, "shop", 48)[0]) for name in ("archive", "stock")}
    its = {"login", "database", "public", "mark"}
    assert planned == {"archive": its | {"role"}, "stock": its}


@pytest.fixture
def psql(postgres_attachment, monkeypatch):
    """What psql is asked, as command, input and options; and what it answers: an exit code and two texts."""
    asked, answer = [], [0, '{"role": null, "logins": [], "database": null}\n', ""]

    def run(command, input, **options):
        asked.append((command, input, options))
        return subprocess.CompletedProcess(command, *answer)

    monkeypatch.setattr(postgres_attachment.subprocess, "run", run)
    monkeypatch.setattr(postgres_attachment.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(postgres_attachment.pwd, "getpwnam", lambda name: pwd.getpwuid(0))
    return asked, answer


def test_names_and_values_are_quoted_and_the_password_is_on_no_command_line(postgres_attachment, dunders, psql):
    asked, _ = psql
    dunders(postgres_attachment, salt=PASSWORDS, pillar=declared(**{"it's": "o'shop"}), opts={"test": False})
    _, statements = postgres_attachment.plan("it's", "o'shop", 48)
    postgres_attachment.run(statements)
    assert "rolname = 'o''shop'" in asked[0][1]
    assert "datname = 'it''s'" in asked[0][1]
    for command, _, options in asked:
        assert PASSWORD not in str(command)
        assert "SCRAM" not in str(command)
        assert (options["user"], options["group"]) == (pwd.getpwuid(0).pw_uid, pwd.getpwuid(0).pw_gid)
        assert PASSWORD not in str(options["env"])


CHUNKS = [
    {"state": "postgres_attachment", "fun": "present", "name": "stock", "owner": "shop"},
    {"state": "postgres_attachment", "fun": "present", "name": "news", "owner": "press"},
    {"state": "postgres_attachment", "fun": "retired", "name": "/etc/postgresql/pg_hba.conf"},
    {"state": "file", "fun": "managed", "name": "/etc/hosts"},
]


def test_what_all_states_ask_is_one_login(postgres_attachment, dunders, psql, monkeypatch, tmp_path):
    asked, answer = psql
    # A comment is the owner's to write: a line's end of Unicode is none of an answer.
    database = {"owner": "x", "public": False, "mark": None, "comment": "a\u2028b", "limit": 7}
    state = json.dumps({"role": None, "logins": [], "database": database}, ensure_ascii=False)
    answer[1] = f"t\n{state}\n{state}\n"
    dunders(postgres_attachment, salt=PASSWORDS, pillar=declared(stock="shop", news="press"), opts={"test": False})
    among, certificate = {"chunks": CHUNKS, "lasts": 2}, str(tmp_path)
    assert postgres_attachment.access_is_read("15", "main", certificate, among)
    for name, owner in (("stock", "shop"), ("news", "press")):
        changes, _ = postgres_attachment.plan(name, owner, 48, among)
        assert changes["connections"]["old"] == 7
    assert len(asked) == 1
    # Without what may be asked at once, after a change, it is asked as it is then; and after two seconds.
    answer[1] = f"{state}\n"
    postgres_attachment.plan("stock", "shop", 48, None)
    assert len(asked) == 2
    later = postgres_attachment.time.monotonic() + among["lasts"] + 1
    monkeypatch.setattr(postgres_attachment.time, "monotonic", lambda: later)
    answer[1] = f"{state}\n{state}\n"
    postgres_attachment.plan("stock", "shop", 48, among)
    assert len(asked) == 3


def test_postgres_own_message_is_told(postgres_attachment, psql):
    psql[1][:] = 3, "", "ERROR:  no\n"
    with pytest.raises(CommandExecutionError, match=r"^psql: ERROR:  no$"):
        postgres_attachment.run(["SELECT 1;"])


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
KEPT_SINCE = [MARKED[0], """ALTER ROLE postgres IN DATABASE "stock" SET saltern.kept_since = 'TIME';"""]
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
def test_a_database_is_closed_to_logins_and_its_role_unless_it_is_needed(postgres_attachment, one, owners, expected):
    found = postgres_attachment.closed(one, owners)
    found = [re.sub(r"kept_since = '[0-9T:+-]+'", "kept_since = 'TIME'", statement) for statement in found]
    assert ["END" if "pg_terminate_backend" in statement else statement for statement in found] == expected


ACCESS = """# Managed.
local   all  postgres  peer
host    all  all  all  trust
host    "faq"  "faq"  127.0.0.1/32  scram-sha-256
host    "faq"  "faq"  ::1/128       scram-sha-256
hostssl "stock"  +"my-shop"  10.0.0.4/32  scram-sha-256
hostssl "stock"  "my-shop"  ::1/128  scram-sha-256
host    "stock"  "my-shop"  0.0.0.0/0  trust
"""


def test_who_may_still_come_in_is_read_from_the_access_list(postgres_attachment, tmp_path):
    path, faq, stock = tmp_path / "pg_hba.conf", {"faq": {"owner": "faq"}}, {"stock": {"owner": "my-shop"}}
    assert postgres_attachment.admitted(str(path), faq) == [("faq", "faq")]
    path.write_text(ACCESS)
    assert postgres_attachment.admitted(str(path), faq) == [("faq", "faq"), ("stock", "my-shop")]
    assert postgres_attachment.admitted(str(path), faq | stock) == [("faq", "faq"), ("stock", "my-shop")]
    # Where another app is to have it, and may be refused.
    assert postgres_attachment.admitted(str(path), {"stock": {"owner": "its own"}}) == [
        ("faq", "faq"),
        ("stock", "its own"),
        ("stock", "my-shop"),
    ]


@pytest.fixture
def closing(postgres_attachment, dunders, monkeypatch, tmp_path):
    """``postgres_attachment.close`` where ``stock`` is no longer attached; it returns the answer and what was run."""
    path = tmp_path / "pg_hba.conf"
    path.write_text(ACCESS)
    path.chmod(0o640)

    def close(*users, test=False, remote=(), databases=None):
        ran = []
        monkeypatch.setattr(
            postgres_attachment,
            "kept",
            lambda attached: [] if "stock" in attached else [KEPT | {"remote": list(remote)}],
        )
        monkeypatch.setattr(postgres_attachment, "run", ran.append)
        salt = {"attachment.users": lambda kind, name, staying: list(users)}
        dunders(postgres_attachment, salt=salt, opts={"test": test})
        return postgres_attachment.close(str(path), databases or {"faq": "faq"}), ran, path

    return close


def test_a_database_is_closed_and_nobody_is_let_in_to_it(closing):
    (changes, used), ran, path = closing()
    assert (changes, used) == ({"stock": {"old": "open", "new": "closed to logins"}}, {})
    assert ran[0][:2] == [LIMIT, MARKED[0]]
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
def test_a_login_is_closed_when_nobody_has_it_any_more(
    postgres_attachment, dunders, monkeypatch, case, changed, staying
):
    ran, found = [], case.get("found", OTHER) | {"from": case.get("from", [])}
    monkeypatch.setattr(postgres_attachment.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(postgres_attachment, "run", lambda lines: ran.append(lines) or json.dumps([found]))
    holders = case.get("holders", {})
    salt = {
        "attachment.login": lambda kind, name: LOGIN,
        "attachment.holders": lambda kind, leaving, staying: holders if leaving else case.get("stay", holders),
    }
    databases = {"stock": {"owner": "my-shop"}, "replaced by a URL": {"owner": None}}
    postgres = {"databases": databases, "listen": case.get("listen", []), "overlap": case.get("overlap", 168)}
    pillar = {"postgres": postgres, "hosts": {"one": {"address": "10.0.0.1"}}}
    dunders(postgres_attachment, salt=salt, pillar=pillar, opts={"id": "one", "test": case.get("test", False)})
    assert postgres_attachment.close_logins() == (changed, staying)
    assert "('stock', 'my-shop')" in ran[0][0]
    assert f"NOT rolname = ANY (ARRAY['{LOGIN}']::name[])" in ran[0][0]
    if changed and not case.get("test"):
        own = [NOLOGIN, 'COMMENT ON ROLE "my-shop" IS NULL;']
        assert ran[1:] == [own if "my-shop" in changed else DROPS]
    else:
        assert ran[1:] == []


def test_a_database_is_ours_by_what_its_owner_cannot_write(postgres_attachment):
    ours = "Managed by Saltern for the app other."
    for database, expected in (
        ({"owner": "shop", "mark": ["saltern.app=shop"], "comment": ours}, ("shop", None)),
        ({"owner": "shop", "mark": None, "comment": ours}, (None, None)),
        ({"owner": "other", "mark": None, "comment": f"{ours} Kept since {SINCE}."}, ("other", SINCE)),
        ({"owner": "shop", "mark": None, "comment": None}, (None, None)),
    ):
        assert postgres_attachment.whose(database) == expected
