"""What a database that an app attaches must be, against what PostgreSQL says it is."""

import base64
import contextlib
import datetime
import glob
import hashlib
import hmac
import json
import os
import pwd
import re
import shutil
import subprocess
import time

from salt.exceptions import CommandExecutionError

__load__ = ["access_is_read", "admitted", "close", "kept", "plan", "run"]

OPTIONS = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse", "-d", "postgres", "-f", "-")

# What PostgreSQL itself takes for a new password; RFC 7677 asks for no less.
ITERATIONS = 4096

STATE = """
SELECT json_build_object(
  'role', (SELECT json_build_object('verifier', rolpassword, 'plain', rolcanlogin AND NOT (
             rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls))
           FROM pg_authid WHERE rolname = {owner}),
  'database', (SELECT json_build_object('owner', pg_get_userbyid(datdba), 'public',
                 has_database_privilege('public', oid, 'CONNECT') OR has_database_privilege('public', oid, 'TEMPORARY'),
                 'mark', shobj_description(oid, 'pg_database'), 'limit', datconnlimit)
               FROM pg_database WHERE datname = {name}));
"""

# A database's comment says whose it is, for the time when the pillar no longer does. Its owner could change it, and
# with it no more than what becomes of its own database.
MARK = re.compile(r"Managed by Saltern for the app ([a-z][a-z0-9-]*)\.(?: Kept since (\S+)\.)?")

KEPT = """
SELECT coalesce(json_agg(json_build_object(
  'name', datname, 'owner', rolname, 'mark', shobj_description(pg_database.oid, 'pg_database'), 'limit', datconnlimit,
  'login', rolcanlogin AND NOT rolsuper,
  'sessions', (SELECT count(*) FROM {sessions}),
  'remote', (SELECT coalesce(json_agg(DISTINCT host(client_addr)), '[]') FROM {sessions}
             AND host(client_addr) NOT IN ('127.0.0.1', '::1', {own})),
  'owned', (SELECT count(*) FROM pg_database AS others WHERE others.datdba = pg_roles.oid),
  'size', pg_database_size(pg_database.oid)) ORDER BY datname), '[]')
FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba
WHERE shobj_description(pg_database.oid, 'pg_database') LIKE 'Managed by Saltern for the app %'
AND NOT datname = ANY ({names});
"""

# A superuser's is no app's: it may be a backup.
SESSIONS = (
    "pg_stat_activity JOIN pg_roles AS their ON their.oid = usesysid WHERE NOT their.rolsuper AND datname = {name}"
)

# As files/pg_hba.conf.jinja writes it; before there was TLS it wrote host.
ACCESS = re.compile(r'^host(?:ssl|   ) "([a-z0-9_]+)"  "([a-z0-9-]+)"  [0-9a-f.:]+/(?:32|128) +scram-sha-256$')


def plan(name, owner, among=None):
    """Compare a database and its owner with what is declared.

    :param name: the database.
    :param owner: the app.
    :param among: see ``_asked``.
    :return: the changes as a state reports them, and the SQL statements that make them.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.

    CLI Example: none, the statements hold a password's verifier.
    """
    state = {"role": None, "database": None}
    if shutil.which("psql"):
        state = json.loads(_asked(_state(name, owner), among))
    elif not __opts__["test"]:
        raise CommandExecutionError("psql is not installed; expected the package postgresql-client")
    return planned(name, owner, __salt__["attachment.password"]("postgres", name), state)


def _state(name, owner):
    return STATE.format(owner=_literal(owner), name=_literal(name))


def _asked(question, among):
    """Return PostgreSQL's answer to a question.

    :param question: SQL that is answered by one line.
    :param among: what ``service_config.among`` returns: all that the states of a run ask may be asked at once, since to
        log in takes longer than that. The answers count as long as those of systemd.
    """
    if not among:
        return run([question])
    known = among.setdefault("postgres", {"until": 0, "answers": {}})
    if time.monotonic() > known["until"] or question not in known["answers"]:
        others = {
            _state(chunk["name"], chunk["owner"])
            for chunk in among["chunks"]
            if (chunk["state"], chunk["fun"]) == ("postgres_attachment", "present")
        }
        questions = [question, *others - {question}]
        known["until"] = time.monotonic() + among["lasts"]
        known["answers"] = dict(zip(questions, run(questions).split("\n"), strict=True))
    return known["answers"][question]


def planned(name, owner, password, state):
    """Work out what is to be done; see ``plan``.

    :param password: the owner's password.
    :param state: what the query ``STATE`` answered.
    """
    changes, statements = {}, []
    role, database = state["role"], state["database"]
    mark = f"Managed by Saltern for the app {owner}."
    marked = MARK.fullmatch((database or {}).get("mark") or "")
    if marked and marked[1] != owner:
        raise CommandExecutionError(
            f"app.{owner}.attach: the database {name} holds the data of {marked[1]}; expected a name of its own. "
            "Remove that data for good as salt-call app.orphans says, or hand it over: formulas/postgres/README.md"
        )
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
    if database is None or database["mark"] != mark:
        changes["mark"] = {"old": database and database["mark"], "new": mark}
        statements.append(f"COMMENT ON DATABASE {_name(name)} IS {_literal(mark)};")
    if database and database["limit"] == 0:
        changes["logins"] = {"old": "closed", "new": "open"}
        statements.append(f"ALTER DATABASE {_name(name)} CONNECTION LIMIT -1;")
    return changes, statements


def kept(attached):
    """List the databases of ours that no app attaches.

    :param attached: the databases that are attached, in any order.
    :return: of each its ``name``, ``owner`` and how many databases that has (``owned``), the ``app`` that it was made
        for, ``since`` when it is kept, its ``size`` in bytes, and what of it is open: its connection ``limit`` (0 is
        none), whether its owner may ``login``, how many ``sessions`` of others than superusers there are, and from
        which addresses of other hosts (``remote``).
    :raises CommandExecutionError: when PostgreSQL cannot be asked.

    CLI Example:

    .. code-block:: bash

        salt-call postgres_attachment.kept '[tickets]'
    """
    if not shutil.which("psql"):
        return []
    names = f"ARRAY[{', '.join(map(_literal, sorted(attached)))}]::name[]"
    own = _literal(__pillar__["hosts"][__opts__["id"]]["address"])
    found = json.loads(run([KEPT.format(sessions=SESSIONS.format(name="pg_database.datname"), names=names, own=own)]))
    marks = [(one, MARK.fullmatch(one["mark"])) for one in found]
    return [one | {"app": mark[1], "since": mark[2]} for one, mark in marks if mark]


def admitted(path, databases):
    """Say which app the server lets in to which database.

    Databases that no app attaches any more are closed last, by ``close``: until then a release may run that has one in
    its config.

    :param path: of the server's access list, ``pg_hba.conf``.
    :param databases: the databases that are attached, by name.
    :return: pairs of database and owner, sorted.

    CLI Example: none, it serves a template.
    """
    owners = {name: database["owner"] for name, database in databases.items()}
    return sorted((_leaving(path, owners) | owners).items())


def _leaving(path, attached):
    """Read which databases that no app attaches any more the access list lets somebody in to: owners by database."""
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as stream:
        found = dict(match.groups() for match in map(ACCESS.match, stream) if match)
        return {name: owner for name, owner in found.items() if name not in attached}
    return {}


def close(path, attached, owners):
    """Work out, or do, what closes the databases of ours that no app attaches any more to all but superusers.

    :param path: of the access list, ``pg_hba.conf``.
    :param attached: the databases that are attached.
    :param owners: their owners.
    :return: the changes as a state reports them, and the databases that are left open with the releases that have them.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.

    CLI Example: none, it serves the state ``postgres_attachment.retired``.
    """
    found = {one["name"]: one for one in kept(attached)}
    listed = _leaving(path, attached)
    users = {name: __salt__["attachment.users"]("postgres", name) for name in sorted(found.keys() | listed.keys())}
    # A release of another host: that one has not converged yet.
    for name, one in found.items():
        users[name] = users[name] or [f"{address}, which is connected" for address in one["remote"]]
    statements = {name: closed(found[name], owners) for name in found if not users[name]}
    closing = [name for name, used in users.items() if not used and (statements.get(name) or name in listed)]
    changes = {name: {"old": "open", "new": "closed to logins"} for name in closing}
    if closing and not __opts__["test"]:
        run([statement for name in closing for statement in statements.get(name, [])])
        _forget(path, closing)
        run(["SELECT pg_reload_conf();"])
    return changes, {name: used for name, used in users.items() if used}


def closed(one, owners):
    """Return the SQL statements that close a database; none where it is closed.

    :param one: as ``kept`` gives it.
    :param owners: the owners of the databases that are attached.
    """
    name, statements = one["name"], []
    if one["limit"] != 0:
        statements.append(f"ALTER DATABASE {_name(name)} CONNECTION LIMIT 0;")
    # Its role stays for another database of the app.
    if one["login"] and one["owner"] == one["app"] and one["owner"] not in owners:
        statements.append(f"ALTER ROLE {_name(one['owner'])} NOLOGIN;")
    if not one["since"]:
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        mark = f"Managed by Saltern for the app {one['app']}. Kept since {since}."
        statements.append(f"COMMENT ON DATABASE {_name(name)} IS {_literal(mark)};")
    if statements or one["sessions"]:
        statements.append(f"SELECT pg_terminate_backend(pid, 5000) FROM {SESSIONS.format(name=_literal(name))};")
    return statements


def _forget(path, names):
    """Take databases out of an access list, which is the old one or the new one at any moment."""
    with open(path, encoding="utf-8", errors="replace") as stream:
        lines = [(line, ACCESS.match(line)) for line in stream]
        before = os.fstat(stream.fileno())
    with open(f"{path}.new", "w", encoding="utf-8") as stream:
        stream.writelines(line for line, match in lines if not (match and match[1] in names))
        stream.flush()
        os.fchown(stream.fileno(), before.st_uid, before.st_gid)
        os.fchmod(stream.fileno(), before.st_mode & 0o777)
        os.fsync(stream.fileno())
    os.rename(f"{path}.new", path)


def run(statements):
    """Run SQL as PostgreSQL's operator, through standard input: a process title shows none of it.

    :param statements: SQL, each statement with its semicolon.
    :return: the answer's text.
    :raises CommandExecutionError: with PostgreSQL's message.

    CLI Example: none.
    """
    # Debian's psql is a script that looks for a version, which takes longer than what it runs.
    newest = max(glob.glob("/usr/lib/postgresql/*/bin/psql"), key=lambda path: int(path.split("/")[4]), default="psql")
    try:
        user = pwd.getpwnam("postgres")
        done = subprocess.run(
            [newest, *OPTIONS],
            input="\n".join(statements),
            capture_output=True,
            text=True,
            check=False,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=os.getgrouplist(user.pw_name, user.pw_gid),
            cwd="/",
            # What else PostgreSQL's user runs may meddle with it, and root's terminal must not be its.
            start_new_session=True,
            env={"PATH": os.defpath, "HOME": user.pw_dir, "LC_ALL": "C.UTF-8"},
        )
    except (OSError, KeyError) as error:
        raise CommandExecutionError(f"psql: {error}") from None
    if done.returncode:
        raise CommandExecutionError(f"psql: {done.stderr.strip() or 'failed'}")
    return done.stdout.strip()


def access_is_read(version, cluster, certificate, among=None):
    """Tell whether the server has read its access list and its certificate since they changed.

    :param version: PostgreSQL's major version.
    :param cluster: the cluster's name.
    :param certificate: the certificate's path.
    :param among: see ``_asked``.
    :return: a boolean.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.

    CLI Example: none, it serves the state ``postgres_cluster.access_loaded``.
    """
    paths = [f"/etc/postgresql/{version}/{cluster}/pg_hba.conf", certificate]
    changed = max(os.stat(path).st_mtime_ns for path in paths if os.path.exists(path))
    # In microseconds, as PostgreSQL has it.
    return _asked(f"SELECT extract(epoch FROM pg_conf_load_time()) * 1000000 > {changed // 1000};", among) == "t"


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
