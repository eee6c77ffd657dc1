"""A database and its owner: the statements that make them what they must be, and the verifier of a password."""

import base64
import hashlib
import hmac
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


ATTRIBUTES = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
MARK = "Managed by Saltern for the app my-shop."
DATABASE = {"owner": "my-shop", "public": False, "mark": MARK, "limit": -1}
RIGHT = {"role": {"verifier": "its own", "plain": True}, "database": DATABASE}
CREATE_DATABASE = """CREATE DATABASE "stock" OWNER "my-shop" TEMPLATE template0 ENCODING 'UTF8';"""
COMMENT = f"""COMMENT ON DATABASE "stock" IS '{MARK}';"""
REVOKE = 'REVOKE ALL ON DATABASE "stock" FROM PUBLIC;'
PLANNED = {
    "nothing to do": (RIGHT, set(), []),
    "nothing is there": (
        {"role": None, "database": None},
        {"role", "database", "public", "mark"},
        [f"""CREATE ROLE "my-shop" {ATTRIBUTES} PASSWORD 'VERIFIER';""", CREATE_DATABASE, REVOKE, COMMENT],
    ),
    "no database": (RIGHT | {"database": None}, {"database", "public", "mark"}, [CREATE_DATABASE, REVOKE, COMMENT]),
    "no role": (
        RIGHT | {"role": None},
        {"role"},
        [f"""CREATE ROLE "my-shop" {ATTRIBUTES} PASSWORD 'VERIFIER';"""],
    ),
    "another password": (
        RIGHT | {"role": {"verifier": "another", "plain": True}},
        {"password"},
        ["""ALTER ROLE "my-shop" PASSWORD 'VERIFIER';"""],
    ),
    "no password": (
        RIGHT | {"role": {"verifier": None, "plain": True}},
        {"password"},
        ["""ALTER ROLE "my-shop" PASSWORD 'VERIFIER';"""],
    ),
    "a role that may do more": (
        RIGHT | {"role": {"verifier": "its own", "plain": False}},
        {"attributes"},
        [f'ALTER ROLE "my-shop" {ATTRIBUTES};'],
    ),
    "another owner": (
        RIGHT | {"database": DATABASE | {"owner": 'o"ther'}},
        {"owner"},
        ['ALTER DATABASE "stock" OWNER TO "my-shop";'],
    ),
    "a database that is open to all": (
        RIGHT | {"database": DATABASE | {"public": True}},
        {"public"},
        [REVOKE],
    ),
    "a database from before there were marks": (
        RIGHT | {"database": DATABASE | {"mark": None}},
        {"mark"},
        [COMMENT],
    ),
    "a database that was kept": (
        {
            "role": {"verifier": "its own", "plain": False},
            "database": DATABASE | {"mark": f"{MARK} Kept since 2026-01-02T03:04:05+00:00.", "limit": 0},
        },
        {"attributes", "mark", "logins"},
        [f'ALTER ROLE "my-shop" {ATTRIBUTES};', COMMENT, 'ALTER DATABASE "stock" CONNECTION LIMIT -1;'],
    ),
}


@pytest.mark.parametrize("state, changed, expected", PLANNED.values(), ids=PLANNED)
def test_the_plan_is_what_is_missing(postgres_attachment, state, changed, expected):
    role = state["role"]
    if role and role["verifier"] == "its own":
        state = state | {"role": role | {"verifier": postgres_attachment.scram(PASSWORD, SALT)}}
    changes, statements = postgres_attachment.planned("stock", "my-shop", PASSWORD, state)
    assert set(changes) == changed
    verifiers = re.findall(r"SCRAM-SHA-256\$[^']+", "\n".join(statements))
    assert all(postgres_attachment.matches(PASSWORD, verifier) for verifier in verifiers)
    assert [re.sub(r"SCRAM-SHA-256\$[^']+", "VERIFIER", statement) for statement in statements] == expected
    assert PASSWORD not in f"{changes} {statements}"
    assert "SCRAM" not in str(changes)


def test_a_new_verifier_has_a_salt_of_its_own(postgres_attachment):
    bare = {"role": None, "database": None}
    plans = {postgres_attachment.planned("stock", "shop", PASSWORD, bare)[1][0] for _ in range(3)}
    assert len(plans) == 3


@pytest.fixture
def without_psql(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


def test_a_dry_run_on_a_bare_host_plans_everything(postgres_attachment, dunders, without_psql):
    dunders(postgres_attachment, salt={"attachment.password": lambda kind, name: PASSWORD}, opts={"test": True})
    changes, statements = postgres_attachment.plan("stock", "shop")
    assert set(changes) == {"role", "database", "public", "mark"}
    assert len(statements) == 4


def test_a_host_without_psql_is_told(postgres_attachment, dunders, without_psql):
    dunders(postgres_attachment, salt={"attachment.password": lambda kind, name: PASSWORD}, opts={"test": False})
    with pytest.raises(CommandExecutionError, match=r"^psql is not installed; expected the package postgresql-client$"):
        postgres_attachment.plan("stock", "shop")


@pytest.fixture
def psql(postgres_attachment, monkeypatch):
    """What psql is asked, as command, input and options; and what it answers: an exit code and two texts."""
    asked, answer = [], [0, '{"role": null, "database": null}\n', ""]

    def run(command, input, **options):
        asked.append((command, input, options))
        return subprocess.CompletedProcess(command, *answer)

    monkeypatch.setattr(postgres_attachment.subprocess, "run", run)
    monkeypatch.setattr(postgres_attachment.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(postgres_attachment.pwd, "getpwnam", lambda name: pwd.getpwuid(0))
    return asked, answer


def test_names_and_values_are_quoted_and_the_password_is_on_no_command_line(postgres_attachment, dunders, psql):
    asked, _ = psql
    salt = {"attachment.password": lambda kind, name: PASSWORD}
    dunders(postgres_attachment, salt=salt, opts={"test": False})
    _, statements = postgres_attachment.plan("it's", "o'shop")
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
    state = '{"role": null, "database": {"owner": "x", "public": false, "mark": "a\u2028b", "limit": -1}}'
    answer[1] = f"t\n{state}\n{state}\n"
    dunders(postgres_attachment, salt={"attachment.password": lambda kind, name: PASSWORD}, opts={"test": False})
    among, certificate = {"chunks": CHUNKS, "lasts": 2}, str(tmp_path)
    assert postgres_attachment.access_is_read("15", "main", certificate, among)
    for name, owner in (("stock", "shop"), ("news", "press")):
        changes, _ = postgres_attachment.plan(name, owner, among)
        assert changes["mark"]["old"] == "a\u2028b"
    assert len(asked) == 1
    # Without what may be asked at once, after a change, it is asked as it is then; and after two seconds.
    answer[1] = f"{state}\n"
    postgres_attachment.plan("stock", "shop", None)
    assert len(asked) == 2
    later = postgres_attachment.time.monotonic() + among["lasts"] + 1
    monkeypatch.setattr(postgres_attachment.time, "monotonic", lambda: later)
    answer[1] = f"{state}\n{state}\n"
    postgres_attachment.plan("stock", "shop", among)
    assert len(asked) == 3


def test_postgres_own_message_is_told(postgres_attachment, psql):
    psql[1][:] = 3, "", "ERROR:  no\n"
    with pytest.raises(CommandExecutionError, match=r"^psql: ERROR:  no$"):
        postgres_attachment.run(["SELECT 1;"])


@pytest.mark.parametrize("since", ["", " Kept since 2026-01-02T03:04:05+00:00."], ids=["in use", "kept"])
def test_the_data_of_another_app_is_not_given_away(postgres_attachment, since):
    state = RIGHT | {"database": DATABASE | {"mark": f"Managed by Saltern for the app other.{since}"}}
    with pytest.raises(CommandExecutionError, match="the database stock holds the data of other; expected a name of"):
        postgres_attachment.planned("stock", "my-shop", PASSWORD, state)


KEPT = {
    "name": "stock",
    "owner": "my-shop",
    "app": "my-shop",
    "since": None,
    "limit": -1,
    "login": True,
    "sessions": 2,
    "remote": [],
    "owned": 1,
}
DONE = {"since": "2026-01-02T03:04:05+00:00", "limit": 0, "login": False, "sessions": 0}
LIMIT = 'ALTER DATABASE "stock" CONNECTION LIMIT 0;'
NOLOGIN = 'ALTER ROLE "my-shop" NOLOGIN;'
KEPT_SINCE = """COMMENT ON DATABASE "stock" IS 'Managed by Saltern for the app my-shop. Kept since TIME.';"""
CLOSED = {
    "all is open": (KEPT, [], [LIMIT, NOLOGIN, KEPT_SINCE, "END"]),
    "all is closed": (KEPT | DONE, [], []),
    "its role has another database": (KEPT, ["faq", "my-shop"], [LIMIT, KEPT_SINCE, "END"]),
    "closed, and its role has another database": (KEPT | DONE | {"login": True}, ["my-shop"], []),
    "it was given to a person": (KEPT | {"owner": "alice"}, [], [LIMIT, KEPT_SINCE, "END"]),
    "it was opened again by hand": (KEPT | DONE | {"limit": 5}, [], [LIMIT, "END"]),
    "a session was left": (KEPT | DONE | {"sessions": 1}, [], ["END"]),
}


@pytest.mark.parametrize("one, owners, expected", CLOSED.values(), ids=CLOSED)
def test_a_database_is_closed_to_logins_and_its_role_unless_it_is_needed(postgres_attachment, one, owners, expected):
    found = postgres_attachment.closed(one, owners)
    found = [re.sub(r"Kept since [0-9T:+-]+\.'", "Kept since TIME.'", statement) for statement in found]
    assert ["END" if "pg_terminate_backend" in statement else statement for statement in found] == expected


ACCESS = """# Managed.
local   all  postgres  peer
host    all  all  all  trust
host    "faq"  "faq"  127.0.0.1/32  scram-sha-256
host    "faq"  "faq"  ::1/128       scram-sha-256
hostssl "stock"  "my-shop"  10.0.0.4/32  scram-sha-256
hostssl "stock"  "my-shop"  ::1/128  scram-sha-256
host    "stock"  "my-shop"  0.0.0.0/0  trust
"""


def test_who_may_still_come_in_is_read_from_the_access_list(postgres_attachment, tmp_path):
    path, faq, stock = tmp_path / "pg_hba.conf", {"faq": {"owner": "faq"}}, {"stock": {"owner": "my-shop"}}
    assert postgres_attachment.admitted(str(path), faq) == [("faq", "faq")]
    path.write_text(ACCESS)
    assert postgres_attachment.admitted(str(path), faq) == [("faq", "faq"), ("stock", "my-shop")]
    assert postgres_attachment.admitted(str(path), faq | stock) == [("faq", "faq"), ("stock", "my-shop")]
    assert postgres_attachment.admitted(str(path), {"stock": {"owner": "its own"}}) == [
        ("faq", "faq"),
        ("stock", "its own"),
    ]


@pytest.fixture
def closing(postgres_attachment, dunders, monkeypatch, tmp_path):
    """``postgres_attachment.close`` where ``stock`` is no longer attached; it returns the answer and what was run."""
    path = tmp_path / "pg_hba.conf"
    path.write_text(ACCESS)
    path.chmod(0o640)

    def close(*users, test=False, remote=()):
        ran = []
        monkeypatch.setattr(postgres_attachment, "kept", lambda attached: [KEPT | {"remote": list(remote)}])
        monkeypatch.setattr(postgres_attachment, "run", ran.append)
        salt = {"attachment.users": lambda kind, name: list(users)}
        dunders(postgres_attachment, salt=salt, opts={"test": test})
        return postgres_attachment.close(str(path), ["faq"], ["faq"]), ran, path

    return close


def test_a_database_is_closed_and_nobody_is_let_in_to_it(closing):
    (changes, used), ran, path = closing()
    assert (changes, used) == ({"stock": {"old": "open", "new": "closed to logins"}}, {})
    assert ran[0][:2] == [LIMIT, NOLOGIN]
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
