"""A database and its owner: the statements that make them what they must be, and the verifier of a password."""

import base64
import hashlib
import hmac
import re

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
RIGHT = {"role": {"verifier": "its own", "plain": True}, "database": {"owner": "my-shop", "public": False}}
CREATE_DATABASE = """CREATE DATABASE "stock" OWNER "my-shop" TEMPLATE template0 ENCODING 'UTF8';"""
REVOKE = 'REVOKE ALL ON DATABASE "stock" FROM PUBLIC;'
PLANNED = {
    "nothing to do": (RIGHT, set(), []),
    "nothing is there": (
        {"role": None, "database": None},
        {"role", "database", "public"},
        [f"""CREATE ROLE "my-shop" {ATTRIBUTES} PASSWORD 'VERIFIER';""", CREATE_DATABASE, REVOKE],
    ),
    "no database": (RIGHT | {"database": None}, {"database", "public"}, [CREATE_DATABASE, REVOKE]),
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
        RIGHT | {"database": {"owner": 'o"ther', "public": False}},
        {"owner"},
        ['ALTER DATABASE "stock" OWNER TO "my-shop";'],
    ),
    "a database that is open to all": (
        RIGHT | {"database": {"owner": "my-shop", "public": True}},
        {"public"},
        [REVOKE],
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
    assert set(changes) == {"role", "database", "public"}
    assert len(statements) == 3


def test_a_host_without_psql_is_told(postgres_attachment, dunders, without_psql):
    dunders(postgres_attachment, salt={"attachment.password": lambda kind, name: PASSWORD}, opts={"test": False})
    with pytest.raises(CommandExecutionError, match=r"^psql is not installed; expected the package postgresql-client$"):
        postgres_attachment.plan("stock", "shop")


def test_names_and_values_are_quoted_and_the_password_is_on_no_command_line(postgres_attachment, dunders):
    asked = []

    def run_all(command, stdin, **options):
        asked.append((command, stdin, options))
        return {"retcode": 0, "stdout": '{"role": null, "database": null}', "stderr": ""}

    salt = {"attachment.password": lambda kind, name: PASSWORD, "cmd.run_all": run_all}
    dunders(postgres_attachment, salt=salt, opts={"test": False})
    _, statements = postgres_attachment.plan("it's", "o'shop")
    postgres_attachment.run(statements)
    assert "rolname = 'o''shop'" in asked[0][1]
    assert "datname = 'it''s'" in asked[0][1]
    for command, _, options in asked:
        assert PASSWORD not in str(command)
        assert "SCRAM" not in str(command)
        assert options["runas"] == "postgres"
        assert options["output_loglevel"] == "quiet"


def test_postgres_own_message_is_told(postgres_attachment, dunders):
    dunders(
        postgres_attachment, salt={"cmd.run_all": lambda *_, **__: {"retcode": 3, "stderr": "ERROR:  no", "stdout": ""}}
    )
    with pytest.raises(CommandExecutionError, match=r"^psql: ERROR:  no$"):
        postgres_attachment.run(["SELECT 1;"])
