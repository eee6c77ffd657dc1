"""What a database that an app attaches must be, against what PostgreSQL says it is."""

import base64
import hashlib
import hmac
import json
import os
import shutil

from salt.exceptions import CommandExecutionError

__load__ = ["access_is_read", "plan", "run"]

# What PostgreSQL itself takes for a new password; RFC 7677 asks for no less.
ITERATIONS = 4096

STATE = """
SELECT json_build_object(
  'role', (SELECT json_build_object('verifier', rolpassword, 'plain', rolcanlogin AND NOT (
             rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls))
           FROM pg_authid WHERE rolname = {owner}),
  'database', (SELECT json_build_object('owner', pg_get_userbyid(datdba), 'public',
                 has_database_privilege('public', oid, 'CONNECT') OR has_database_privilege('public', oid, 'TEMPORARY'))
               FROM pg_database WHERE datname = {name}));
"""


def plan(name, owner):
    """Compare a database and its owner with what is declared.

    :param name: the database.
    :param owner: the app.
    :return: the changes as a state reports them, and the SQL statements that make them.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.

    CLI Example: none, the statements hold a password's verifier.
    """
    state = {"role": None, "database": None}
    if shutil.which("psql"):
        state = json.loads(run([STATE.format(owner=_literal(owner), name=_literal(name))]))
    elif not __opts__["test"]:
        raise CommandExecutionError("psql is not installed; expected the package postgresql-client")
    return planned(name, owner, __salt__["attachment.password"]("postgres", name), state)


def planned(name, owner, password, state):
    """Work out what is to be done; see ``plan``.

    :param password: the owner's password.
    :param state: what the query ``STATE`` answered.
    """
    changes, statements = {}, []
    role, database = state["role"], state["database"]
    attributes = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    if role is None:
        changes["role"] = {"old": None, "new": owner}
        statements.append(
            f"CREATE ROLE {_name(owner)} {attributes} PASSWORD {_literal(scram(password, os.urandom(16)))};"
        )
    else:
        if not role["plain"]:
            changes["attributes"] = {"old": "others", "new": attributes}
            statements.append(f"ALTER ROLE {_name(owner)} {attributes};")
        if not matches(password, role["verifier"]):
            changes["password"] = {"old": "another", "new": "the attachment's"}
            statements.append(f"ALTER ROLE {_name(owner)} PASSWORD {_literal(scram(password, os.urandom(16)))};")
    if database is None:
        changes["database"] = {"old": None, "new": name}
        statements.append(f"CREATE DATABASE {_name(name)} OWNER {_name(owner)} TEMPLATE template0 ENCODING 'UTF8';")
    elif database["owner"] != owner:
        changes["owner"] = {"old": database["owner"], "new": owner}
        statements.append(f"ALTER DATABASE {_name(name)} OWNER TO {_name(owner)};")
    if database is None or database["public"]:
        changes["public"] = {"old": "may connect", "new": "may not"}
        statements.append(f"REVOKE ALL ON DATABASE {_name(name)} FROM PUBLIC;")
    return changes, statements


def run(statements):
    """Run SQL as PostgreSQL's operator, through standard input: a process title shows none of it.

    :param statements: SQL, each statement with its semicolon.
    :return: the answer's text.
    :raises CommandExecutionError: with PostgreSQL's message.

    CLI Example: none.
    """
    done = __salt__["cmd.run_all"](
        ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse", "-d", "postgres", "-f", "-"],
        stdin="\n".join(statements),
        runas="postgres",
        cwd="/",
        python_shell=False,
        output_loglevel="quiet",
    )
    if done["retcode"]:
        raise CommandExecutionError(f"psql: {done['stderr'] or 'failed'}")
    return done["stdout"]


def access_is_read(version, cluster):
    """Tell whether the server has read its access list since that changed.

    :param version: PostgreSQL's major version.
    :param cluster: the cluster's name.
    :return: a boolean.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.

    CLI Example: none, it serves the state ``postgres_cluster.access_loaded``.
    """
    changed = os.stat(f"/etc/postgresql/{version}/{cluster}/pg_hba.conf").st_mtime_ns
    # In microseconds, as PostgreSQL has it.
    return run([f"SELECT extract(epoch FROM pg_conf_load_time()) * 1000000 > {changed // 1000};"]).strip() == "t"


def _name(text):
    return '"' + text.replace('"', '""') + '"'


def _literal(text):
    return "'" + text.replace("'", "''") + "'"


def scram(password, salt, iterations=ITERATIONS):
    """Make the verifier that PostgreSQL stores for a password.

    With it the password itself never reaches the server, nor its log. RFC 5802, section 3; the form is that of
    PostgreSQL's ``pg_authid.rolpassword``.

    :param password: ASCII text.
    :param salt: random bytes.
    :param iterations: of PBKDF2.
    :return: ``SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>``.
    """
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client).digest(), server)]
    return f"SCRAM-SHA-256${iterations}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def matches(password, verifier):
    """Tell whether a verifier is a password's.

    :param password: ASCII text.
    :param verifier: what PostgreSQL stores, or ``None``.
    :return: a boolean.
    """
    try:
        _, parameters, _ = verifier.split("$")
        iterations, salt = parameters.split(":")
        own = scram(password, base64.b64decode(salt), int(iterations))
        return hmac.compare_digest(verifier.encode(), own.encode())
    except (AttributeError, ValueError):
        return False
