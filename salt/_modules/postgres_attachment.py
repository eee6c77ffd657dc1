"""What a database that an app attaches must be, against what PostgreSQL says it is."""

import contextlib
import datetime
import glob
import json
import os
import pwd
import re
import shutil
import subprocess
import time

from salt.exceptions import CommandExecutionError

from saltern.services import postgres_lent
from saltern.services.sql import NO_POWERS, POWERS, matches, scram
from saltern.services.sql import literal as _literal
from saltern.services.sql import name_of as _name
from saltern.services.sql import names as _names
from saltern.system import files

__load__ = ["access_is_read", "admitted", "close", "close_logins", "holder", "kept", "lent", "plan"]
__load__ += ["run"]

OPTIONS = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse", "-d", "postgres", "-f", "-")

# The logins of an app: those of its passwords, see ``attachment.login_of``. An app of before had its own role for it.
# Those by which it has what is another app's are members of a group.
LOGINS = (
    "rolcanlogin AND NOT rolsuper AND rolname ~ ('^' || {owner} || '(_[0-9a-f]{{6}})?$') AND NOT EXISTS (SELECT FROM "
    "pg_auth_members JOIN pg_roles AS granted ON granted.oid = roleid "
    "WHERE member = pg_authid.oid AND granted.rolname ~ ':')"
)

# Whose a database is, for the time when the pillar no longer says it: settings of the operator in that database, which
# nobody but a superuser can change. Its comment, where that stood before, its owner can.
MARK = "(SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = {oid} AND setrole = 'postgres'::regrole)"
COMMENT = re.compile(r"Managed by Saltern for the app ([a-z][a-z0-9-]*)\.(?: Kept since (\S+)\.)?")

STATE = f"""
SELECT json_build_object(
  'role', (SELECT json_build_object('plain', NOT {POWERS}) FROM pg_authid WHERE rolname = {{owner}}),
  'logins', (SELECT coalesce(json_agg(json_build_object(
               'name', rolname, 'verifier', rolpassword, 'limit', rolconnlimit, 'plain', rolcanlogin AND NOT {POWERS},
               'acts', EXISTS (SELECT FROM pg_auth_members WHERE member = pg_authid.oid
                               AND roleid = (SELECT oid FROM pg_authid WHERE rolname = {{owner}}))
                       AND EXISTS (SELECT FROM pg_db_role_setting WHERE setrole = pg_authid.oid AND setdatabase = 0
                                   AND 'role=' || {{owner}} = ANY (setconfig)),
               'replaced', shobj_description(oid, 'pg_authid')) ORDER BY rolname), '[]')
             FROM pg_authid WHERE rolname = {{login}} OR ({LOGINS})),
  'database', (SELECT json_build_object('owner', pg_get_userbyid(datdba), 'public',
                 has_database_privilege('public', oid, 'CONNECT') OR has_database_privilege('public', oid, 'TEMPORARY'),
                 'mark', {MARK.format(oid="pg_database.oid")}, 'comment', shobj_description(oid, 'pg_database'),
                 'limit', datconnlimit)
               FROM pg_database WHERE datname = {{name}}));
"""

REPLACED = re.compile(r"Managed by Saltern\. Replaced since (\S+)\.")

KEPT = f"""
SELECT coalesce(json_agg(json_build_object(
  'name', datname, 'owner', rolname, 'mark', {MARK.format(oid="pg_database.oid")},
  'comment', shobj_description(pg_database.oid, 'pg_database'), 'limit', datconnlimit,
  'login', rolcanlogin AND NOT rolsuper,
  'logins', (SELECT coalesce(json_agg(rolname ORDER BY rolname), '[]') FROM pg_authid
             WHERE rolname <> pg_roles.rolname AND {LOGINS.replace("{owner}", "pg_roles.rolname")}),
  'sessions', (SELECT count(*) FROM {{sessions}}),
  'remote', (SELECT coalesce(json_agg(DISTINCT host(client_addr)), '[]') FROM {{sessions}}
             AND host(client_addr) NOT IN ('127.0.0.1', '::1', {{own}})),
  'owned', (SELECT json_agg(others.datname ORDER BY others.datname) FROM pg_database AS others
            WHERE others.datdba = pg_roles.oid),
  'size', pg_database_size(pg_database.oid)) ORDER BY datname), '[]')
FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba WHERE NOT datname = ANY ({{names}});
"""

# The logins of attached databases that may still be used and are not the declared ones.
OTHERS = f"""
SELECT coalesce(json_agg(json_build_object(
  'name', rolname, 'owner', its.owner, 'replaced', shobj_description(pg_authid.oid, 'pg_authid'),
  'owned', (SELECT json_agg(others.datname ORDER BY others.datname) FROM pg_database AS others
            WHERE others.datdba = its.datdba),
  'from', (SELECT coalesce(json_agg(DISTINCT host(client_addr)), '[]') FROM pg_stat_activity
           WHERE usesysid = pg_authid.oid AND client_addr IS NOT NULL)) ORDER BY rolname), '[]')
FROM (SELECT DISTINCT rows.owner, datdba FROM (VALUES {{rows}}) AS rows (name, owner)
      JOIN pg_database ON datname = rows.name AND pg_get_userbyid(datdba) = rows.owner) AS its
JOIN pg_authid ON {LOGINS.replace("{owner}", "its.owner")} AND NOT rolname = ANY ({{logins}});
"""

# A superuser's session is no app's: it may be a backup.
SESSIONS = (
    "pg_stat_activity JOIN pg_roles AS their ON their.oid = usesysid WHERE NOT their.rolsuper AND datname = {name}"
)

# As files/pg_hba.conf.jinja writes it; before there was TLS it wrote host, and before there were logins a role alone.
ACCESS = re.compile(r'^host(?:ssl|   ) "([a-z0-9_]+)"  \+?"([a-z0-9-]+)"  [0-9a-f.:]+/(?:32|128) +scram-sha-256$')


def plan(name, owner, connections, among=None):
    """Compare a database and its owner with what is declared.

    :param name: the database.
    :param owner: the app.
    :param connections: how many there may be to the database at once.
    :param among: see ``_asked``.
    :return: the changes as a state reports them, and the SQL statements that make them.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.

    CLI Example: none, the statements hold a password's verifier.
    """
    state = {"role": None, "logins": [], "database": None}
    login, password = __salt__["attachment.login"]("postgres", name), __salt__["attachment.password"]("postgres", name)
    if shutil.which("psql"):
        state = json.loads(_asked(_state(name, owner, login), among))
    elif not __opts__["test"]:
        raise CommandExecutionError("psql is not installed; expected the package postgresql-client")
    its, others = _declared(owner)
    # What all databases of an app have in common, a converge does with the first, and a dry run says so.
    is_first = name == min(its, default=name) or not __opts__["test"]
    return planned(name, owner, connections, login, password, state, others, is_first)


def _declared(owner):
    """Return the databases that an app attaches, and how many connections each of its logins may have."""
    its = {name: one for name, one in __pillar__["postgres"]["databases"].items() if one["owner"] == owner}
    logins = {}
    for name, one in its.items():
        login = __salt__["attachment.login"]("postgres", name)
        # Databases with one password have one login.
        logins[login] = logins.get(login, 0) + one["connections"]
    return its, logins


def _state(name, owner, login):
    return STATE.format(owner=_literal(owner), name=_literal(name), login=_literal(login))


def holder(name, owner):
    """Return which other app's data a database holds, so that this app cannot have it: ``None`` where it can.

    :param name: the database.
    :param owner: the app.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.

    CLI Example:

    .. code-block:: bash

        salt-call postgres_attachment.holder tickets helpdesk
    """
    if not shutil.which("psql"):
        return None
    database = json.loads(run([_state(name, owner, owner)]))["database"]
    return database and _anothers(name, owner, database)


def _anothers(name, owner, database):
    app, _ = whose(database)
    if app in (None, owner):
        return None
    return (
        f"app.{owner}.attach: the database {name} holds the data of {app}; expected a name of its own. "
        "Remove that data for good as salt-call app.orphans says, or hand it over: formulas/postgres/README.md"
    )


def whose(database):
    """Tell which app a database was made for, and since when it is kept: ``None`` where it is not ours.

    A comment of an earlier version counts where it names the database's owner, because no owner can choose its name.

    :param database: its ``mark``, its ``comment`` and its ``owner``.
    """
    found = dict(setting.split("=", 1) for setting in database["mark"] or ())
    if found.get("saltern.app"):
        return found["saltern.app"], found.get("saltern.kept_since") or None
    comment = COMMENT.fullmatch(database["comment"] or "")
    return comment.groups() if comment and comment[1] == database["owner"] else (None, None)


def _marking(name, app, since=None):
    """Return the statements that say whose a database is, and since when it is kept."""
    to = f"ALTER ROLE postgres IN DATABASE {_name(name)}"
    kept = f"SET saltern.kept_since = {_literal(since)}" if since else "RESET saltern.kept_since"
    return [f"{to} SET saltern.app = {_literal(app)};", f"{to} {kept};"]


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
            _state(chunk["name"], chunk["owner"], __salt__["attachment.login"]("postgres", chunk["name"]))
            for chunk in among["chunks"]
            if (chunk["state"], chunk["fun"]) == ("postgres_attachment", "present")
        }
        questions = [question, *others - {question}]
        known["until"] = time.monotonic() + among["lasts"]
        known["answers"] = dict(zip(questions, run(questions).split("\n"), strict=True))
    return known["answers"][question]


def planned(name, owner, connections, login, password, state, declared=None, is_first=True):
    """Plan what is to be done; see ``plan``.

    What an app has is owned by its role, which needs no password. A login acts as that role, and each password has one.
    The logins of passwords of before stay valid: ``close_logins`` closes them when nobody has them any more.

    :param login: the login of the password.
    :param password: the app's password.
    :param state: what the query ``STATE`` answered.
    :param declared: how many connections each login of the app's databases may have, where there are others.
    :param is_first: whether to plan what all databases of the app have in common: its role, and logins of before.
    """
    changes, statements = {}, []
    declared = {login: connections} | (declared or {})
    role, database = state["role"], state["database"]
    another = database and _anothers(name, owner, database)
    if another:
        raise CommandExecutionError(another)
    powers = NO_POWERS
    if role is None and is_first:
        changes["role"] = {"old": None, "new": owner}
        statements.append(f"CREATE ROLE {_name(owner)} NOLOGIN {powers};")
    elif role and not role["plain"] and is_first:
        changes["attributes"] = {"old": "others", "new": powers}
        statements.append(f"ALTER ROLE {_name(owner)} {powers};")
    # The database has the limit too, for all logins together, but its owner may change that one.
    most, its_most = (f"CONNECTION LIMIT {count}" for count in (connections, declared[login]))
    logins = {one["name"]: one for one in state["logins"]}
    its, verifier = logins.pop(login, None), f"PASSWORD {_literal(scram(password, os.urandom(16)))}"
    if its is None:
        changes["login"] = {"old": sorted(logins.keys() - declared.keys()) or None, "new": login}
        statements.append(f"CREATE ROLE {_name(login)} LOGIN {powers} {its_most} {verifier};")
    elif not its["plain"]:
        changes["login"] = {"old": "others", "new": f"LOGIN {powers}"}
        statements.append(f"ALTER ROLE {_name(login)} LOGIN {powers};")
    for one in state["logins"]:
        # Nothing tells which database a login of an earlier password is for.
        count = declared.get(one["name"], max(declared.values()))
        if one["limit"] != count and (one is its or (is_first and one["name"] not in declared)):
            changes["login connections"] = {"old": one["limit"], "new": count}
            statements.append(f"ALTER ROLE {_name(one['name'])} CONNECTION LIMIT {count};")
    if its and not matches(password, its["verifier"]):
        changes["password"] = {"old": "another", "new": "the attachment's"}
        statements.append(f"ALTER ROLE {_name(login)} {verifier};")
    if its is None or not its["acts"]:
        if its:
            changes["acts"] = {"old": login, "new": owner}
        statements.append(f"GRANT {_name(owner)} TO {_name(login)};")
        statements.append(f"ALTER ROLE {_name(login)} SET role = {_literal(owner)};")
    if its and REPLACED.fullmatch(its["replaced"] or ""):
        changes["again"] = {"old": "replaced", "new": login}
        statements.append(f"COMMENT ON ROLE {_name(login)} IS NULL;")
    before = sorted(logins.keys() - declared.keys()) if is_first else []
    fresh = [one for one in before if not REPLACED.fullmatch(logins[one]["replaced"] or "")]
    for one in fresh:
        changes["replaced"] = {"old": fresh, "new": login}
        note = f"Managed by Saltern. Replaced since {_now()}."
        statements.append(f"COMMENT ON ROLE {_name(one)} IS {_literal(note)};")
    if database is None:
        changes["database"] = {"old": None, "new": name}
        statements.append(
            f"CREATE DATABASE {_name(name)} OWNER {_name(owner)} TEMPLATE template0 ENCODING 'UTF8' {most};"
        )
    elif database["owner"] != owner:
        changes["owner"] = {"old": database["owner"], "new": owner}
        statements.append(f"ALTER DATABASE {_name(name)} OWNER TO {_name(owner)};")
    if database is None or database["public"]:
        changes["public"] = {"old": "may connect", "new": "may not"}
        statements.append(f"REVOKE ALL ON DATABASE {_name(name)} FROM PUBLIC;")
    mark = database and database["mark"]
    if mark != [f"saltern.app={owner}"]:
        changes["mark"] = {"old": mark, "new": owner}
        statements += _marking(name, owner)
    if database and COMMENT.fullmatch(database["comment"] or ""):
        changes["comment"] = {"old": database["comment"], "new": None}
        statements.append(f"COMMENT ON DATABASE {_name(name)} IS NULL;")
    if database and database["limit"] != connections:
        changes["connections"] = {"old": database["limit"], "new": connections}
        statements.append(f"ALTER DATABASE {_name(name)} {most};")
    return changes, statements


def _now():
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def kept(attached):
    """List the databases of ours that no app attaches.

    :param attached: the databases that are attached, in any order.
    :return: of each its ``name``, ``owner`` and which databases that has (``owned``), the ``app`` that it was made
        for, ``since`` when it is kept, its ``size`` in bytes, and what of it is open: its connection ``limit`` (0 is
        none), whether its owner may ``login``, how many ``sessions`` of others than superusers there are, and from
        which addresses of other hosts (``remote``). Its owner's other ``logins`` by name.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.

    CLI Example:

    .. code-block:: bash

        salt-call postgres_attachment.kept '[tickets]'
    """
    if not shutil.which("psql"):
        return []
    names = _names(sorted(attached))
    own = _literal(__pillar__["hosts"][__opts__["id"]]["address"])
    found = json.loads(run([KEPT.format(sessions=SESSIONS.format(name="pg_database.datname"), names=names, own=own)]))
    marks = [(one, *whose(one)) for one in found]
    return [one | {"app": app, "since": since} for one, app, since in marks if app]


def admitted(path, databases):
    """Return which app may connect to which database.

    A database that its app no longer attaches is closed last, by ``close``: until then a release with the database in
    its config may run, and it goes on where another app is refused.

    :param path: of the server's access list, ``pg_hba.conf``.
    :param databases: the databases that are attached, by name.
    :return: pairs of database and owner, sorted.

    CLI Example: none, it serves a template.
    """
    declared = {name: database["owner"] for name, database in databases.items()}
    return sorted(_leaving(path, declared) | set(declared.items()))


def lent(path, databases):
    """Say which groups of other apps the server lets in to what; see ``saltern.services.postgres_lent``.

    :param path: of the server's access list, ``pg_hba.conf``.
    :param databases: the databases that are attached, by name.
    :return: database, group and method, as the access list has them.

    CLI Example: none, it serves a template.
    """
    return postgres_lent.admitted(path, databases)


def _leaving(path, declared):
    """Return who may connect without being declared: pairs of database and owner."""
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as stream:
        return {match.groups() for match in map(ACCESS.match, stream) if match} - set(declared.items())
    return set()


def close(path, databases, staying=()):
    """Plan, or close, the databases that no app attaches any more. Only superusers may connect then.

    :param path: of the access list, ``pg_hba.conf``.
    :param databases: owner by database, of those that are attached.
    :param staying: apps of which no release is stopped; see ``attachment.users``.
    :return: the changes as a state reports them, and the databases that are left open with the releases that have them.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.

    CLI Example: none, it serves the state ``postgres_attachment.retired``.
    """
    found = {one["name"]: one for one in kept(databases)}
    listed = _leaving(path, databases)
    names = {name for name, _ in listed}
    users = {name: __salt__["attachment.users"]("postgres", name, staying) for name in sorted(found.keys() | names)}
    # A release of another host, which has not converged yet.
    for name, one in found.items():
        users[name] = users[name] or [f"{address}, which is connected" for address in one["remote"]]
    for name, owner in listed:
        if name in databases:
            # Another app attaches it by now, whose own releases do not count.
            users[name] = [release for release in users[name] if release.partition(" ")[0] == owner]
    statements, dropped = {}, set()
    for name, one in ((name, found[name]) for name in found if not users[name]):
        # An app's logins are for all its databases, and go with the first one.
        rest = [login for login in one["logins"] if login not in dropped]
        statements[name] = closed(one | {"logins": rest}, set(databases.values()))
        if any(line.startswith("DROP ROLE ") for line in statements[name]):
            dropped.update(rest)
    closing = [name for name, used in users.items() if not used and (statements.get(name) or name in names)]
    changes = {name: {"old": "open", "new": "closed to logins"} for name in closing}
    if closing and not __opts__["test"]:
        run([statement for name in closing for statement in statements.get(name, [])])
        _forget(path, {pair for pair in listed if pair[0] in closing})
        run(["SELECT pg_reload_conf();"])
    return changes, {name: used for name, used in users.items() if used}


def closed(one, owners):
    """Return the SQL statements that close a database: none where it is closed.

    :param one: as ``kept`` gives it.
    :param owners: the owners of the databases that are attached.
    """
    name, statements = one["name"], []
    if one["limit"] != 0:
        statements.append(f"ALTER DATABASE {_name(name)} CONNECTION LIMIT 0;")
    # The role stays, because another database of the app needs it.
    is_to_close = one["owner"] == one["app"] and one["owner"] not in owners
    if one["login"] and is_to_close:
        statements.append(f"ALTER ROLE {_name(one['owner'])} NOLOGIN PASSWORD NULL;")
    has_mark = f"saltern.app={one['app']}" in (one["mark"] or ())
    if not (one["since"] and has_mark):
        statements += _marking(name, one["app"], one["since"] or _now())
    if COMMENT.fullmatch(one["comment"] or ""):
        statements.append(f"COMMENT ON DATABASE {_name(name)} IS NULL;")
    logins = one["logins"] if is_to_close else []
    if statements or one["sessions"] or logins:
        statements.append(f"SELECT pg_terminate_backend(pid, 5000) FROM {SESSIONS.format(name=_literal(name))};")
    return statements + [line for login in logins for line in _dropping(login, one["owner"], one["owned"])]


def _dropping(login, owner, databases):
    """Return the statements that remove a login. What the login made under its own name goes to the owner.

    :param databases: those that the owner has.
    """
    statements = []
    for database in databases:
        statements.append(f"\\connect {_name(database)}")
        statements.append(f"REASSIGN OWNED BY {_name(login)} TO {_name(owner)};")
        statements.append(f"DROP OWNED BY {_name(login)};")
    return [*statements, "\\connect postgres", f"DROP ROLE {_name(login)};"]


def close_logins(staying=()):
    """Plan, or close, the logins of replaced passwords that nobody uses any more.

    Where other hosts have apps, a release without a connection may still use a login. There each login stays for the
    hours of ``postgres.overlap`` too.

    :param staying: apps of which no release is stopped; see ``attachment.users``.
    :return: the changes as a state reports them, and why each login that stays does.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.

    CLI Example: none, it serves the state ``postgres_attachment.retired``.
    """
    databases = {name: one["owner"] for name, one in __pillar__["postgres"]["databases"].items() if one["owner"]}
    if not databases or not shutil.which("psql"):
        return {}, {}
    rows = ", ".join(f"({_literal(name)}, {_literal(owner)})" for name, owner in sorted(databases.items()))
    logins = sorted({__salt__["attachment.login"]("postgres", name) for name in databases})
    question = OTHERS.format(rows=rows, logins=_names(logins))
    found, closing, stays = json.loads(run([question])), [], {}
    if not found:
        return {}, {}
    users, now = (
        __salt__["attachment.holders"]("postgres", leaving, staying) for leaving in (not __opts__["test"], True)
    )
    own = {"127.0.0.1", "::1", __pillar__["hosts"][__opts__["id"]]["address"]}
    overlap = __pillar__["postgres"]["overlap"] if __pillar__["postgres"]["listen"] else 0
    for one in found:
        replaced = REPLACED.fullmatch(one["replaced"] or "")
        until = datetime.datetime.fromisoformat(replaced[1] if replaced else _now())
        until += datetime.timedelta(hours=overlap)
        # In a dry run the connections of a release that would be stopped are still open.
        ending = own if one["name"] in now and one["name"] not in users else ()
        connected = [f"{address}, which is connected" for address in one["from"] if address not in ending]
        reasons = users.get(one["name"]) or connected
        if not reasons and until > datetime.datetime.now(datetime.UTC):
            reasons = [f"other app hosts until {until.isoformat(timespec='minutes')}"]
        if reasons:
            stays[one["name"]] = reasons
        else:
            closing.append(one)
    if closing and not __opts__["test"]:
        run([line for one in closing for line in _closing_login(one)])
    return {one["name"]: {"old": "replaced", "new": "closed to logins"} for one in closing}, stays


def _closing_login(one):
    """Return the statements that close a login. The app's own role stays, since it owns what the app has."""
    if one["name"] != one["owner"]:
        return _dropping(one["name"], one["owner"], one["owned"])
    return [f"ALTER ROLE {_name(one['name'])} NOLOGIN PASSWORD NULL;", f"COMMENT ON ROLE {_name(one['name'])} IS NULL;"]


def _forget(path, pairs):
    """Remove pairs of database and owner from an access list, atomically."""
    with open(path, encoding="utf-8", errors="replace") as stream:
        lines = [(line, ACCESS.match(line)) for line in stream]
        before = os.fstat(stream.fileno())
    text = "".join(line for line, match in lines if not (match and match.groups() in pairs))
    files.write(path, text, before.st_mode & 0o777, before.st_uid, before.st_gid)


def run(statements):
    """Run SQL as PostgreSQL's operator, through standard input, so that no process title shows it.

    :param statements: SQL, each statement with its semicolon.
    :return: the answer's text.
    :raises CommandExecutionError: with PostgreSQL's message.

    CLI Example: none.
    """
    # Debian's psql is a script that looks for a version, which takes longer than the program itself.
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
            # Other processes of PostgreSQL's user may control psql, so it must not have root's terminal.
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
