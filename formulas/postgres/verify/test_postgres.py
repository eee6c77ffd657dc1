"""PostgreSQL: each app has its own database, and nobody else's."""

import csv
import errno
import json
import re

import pytest
import yaml

from verify.attached import PARTS

SETTINGS = ("shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem")

# Connects as a process would, or with changes. No password is on a command line.
CONNECT = (
    PARTS
    + """
import subprocess
names = ("HOST", "PORT", "USER", "PASSWORD", "DATABASE", "SSLMODE", "SSLROOTCERT")
access = {"PG" + name: str(parts[name]) for name in names} | {"PGPORT": str(parts["PORT"] or 5432)}
access = {"PGCONNECT_TIMEOUT": "5"} | access | changes
done = subprocess.run(["psql", "-XAtqc", "SELECT current_user || '@' || current_database()"], env=os.environ | access,
                      capture_output=True, text=True)
print(json.dumps({"out": done.stdout.strip(), "error": done.stderr.strip()}))
"""
)

# How PgBouncer, and PostgreSQL, refuse: what nobody may reach, and a wrong password.
REFUSED = (
    *("no pg_hba.conf entry", "pg_hba.conf rejects connection"),
    *("no authentication method", "login rejected", "no such database", "not allowed"),
)
WRONG = ("password authentication failed", "SASL authentication failed")

# Exits with the error's number, or 0.
CONNECT_LOCALLY = """
import socket, sys
sys.exit(socket.socket(socket.AF_UNIX).connect_ex("/run/postgresql/.s.PGSQL.5432"))
"""


@pytest.fixture(scope="module", autouse=True)
def database_role(roles):
    if "database" not in roles:
        pytest.skip("the host does not have the role database")


@pytest.fixture(scope="module")
def sql(host):
    """A function that asks PostgreSQL as its operator, in a read-only transaction."""

    def ask(query, database="postgres"):
        command = "runuser -u postgres -- env PGOPTIONS=%s psql -XAtq -d %s -c %s"
        return host.check_output(command, "-c default_transaction_read_only=on", database, query)

    return ask


@pytest.fixture(scope="module")
def attached(apps, processes):
    """Each attached database with its app, the variable, and the PID of a process that has the URL."""
    return [one for *one, target in every(apps, processes) if "access" not in target]


@pytest.fixture(scope="module")
def lent(apps, processes):
    """Each borrowed database, as ``attached``, and the access."""
    return [(*one, target["access"]) for *one, target in every(apps, processes) if "access" in target]


def every(apps, processes):
    """Return each attached database with its app, the variable, the PID of a process and the attachment."""
    if not apps:
        pytest.skip("no app runs on the host")
    found = []
    for app, one in sorted(apps.items()):
        its = next(iter(processes(app).values()))
        for variable, target in one["attach"].items():
            if "postgres" in target and "url" not in target:
                found.append((app, target["postgres"], variable, its["pid"], target))
    return found


def is_refused(answer):
    """Tell whether a connection was refused, by PostgreSQL or by PgBouncer before it."""
    return answer["out"] == "" and any(why in answer["error"] for why in REFUSED)


def groups(settings):
    """Return the borrowers' groups: apps by database and group."""
    found = {}
    for name, database in settings["postgres"]["databases"].items():
        for app, access in database.get("borrowers", {}).items():
            found.setdefault((name, f"{name}:{access}"), []).append(app)
    return found


def test_it_runs_in_debians_version_and_at_every_boot(host, tree):
    version = yaml.safe_load((tree / "salt/debian.yaml").read_text())[host.system_info.codename]["postgres"]
    assert host.service(f"postgresql@{version}-main").is_running
    assert host.service("postgresql").is_enabled


def test_the_settings_are_in_force(sql, settings):
    for name in SETTINGS:
        assert sql(f"SHOW {name}") == str(settings["postgres"][name]), name
    assert sql("SHOW password_encryption") == "scram-sha-256"
    assert sql("SELECT count(*) FROM pg_settings WHERE pending_restart") == "0"
    # Each parameter of the pillar is in the file, and PostgreSQL has taken it.
    taken = "SELECT lower(name) FROM pg_file_settings WHERE applied AND sourcefile LIKE '%/conf.d/saltern.conf'"
    assert set(sql(taken).splitlines()) >= settings["postgres"]["settings"].keys()
    assert sql("SELECT count(*) FROM pg_file_settings WHERE error IS NOT NULL") == "0"


def test_each_database_is_owned_by_its_app_and_closed_to_all_others(sql, settings):
    for name, database in settings["postgres"]["databases"].items():
        assert sql(f"SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{name}'") == database["owner"]
        allowed = sql(
            "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles "
            f"WHERE has_database_privilege(rolname, '{name}', 'CONNECT') "
            "AND NOT rolsuper AND rolname !~ '^pg_'"
        )
        # A login acts as its app's role and no other, unless its app borrows the database. A borrower with access
        # ``whole`` to another database of the owner acts as that role too; pg_hba.conf keeps it out here.
        its = {other for other, one in settings["postgres"]["databases"].items() if one["owner"] == database["owner"]}
        lent = [
            (group, apps)
            for (of, group), apps in groups(settings).items()
            if of == name or (of in its and group.endswith(":whole"))
        ]
        others = "|".join(
            [group for group, _ in lent]
            + [rf"{app}_[0-9a-f]{{6}}" for _, apps in lent for app in apps if app != database["owner"]]
        )
        own = [one for one in allowed.split(",") if not re.fullmatch(others, one)]
        assert re.fullmatch(rf"{database['owner']}(,{database['owner']}_[0-9a-f]{{6}})+", ",".join(own)), name


def test_no_app_can_take_the_connections_of_the_others(sql, settings):
    shares = {name: database["connections"] for name, database in settings["postgres"]["databases"].items()}
    for name, share in shares.items():
        assert sql(f"SELECT datconnlimit FROM pg_database WHERE datname = '{name}'") == str(share), name
    reserved = int(sql("SHOW superuser_reserved_connections"))
    assert sum(shares.values()) <= settings["postgres"]["max_connections"] - reserved


def test_connections_that_have_not_logged_in_leave_places_for_the_others(host, sql, settings):
    assert sql("SHOW max_connections") == str(settings["postgres"]["places"])
    assert sql("SHOW authentication_timeout") == "10s"
    # Only the operator may use the operator's own way in.
    assert host.run("runuser -u nobody -- python3 -c %s", CONNECT_LOCALLY).rc == errno.EACCES


def test_each_app_acts_as_its_owner_by_a_login_and_may_nothing_else(sql, settings):
    powers = "rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls"
    shares = {}
    for database in settings["postgres"]["databases"].values():
        shares.setdefault(database["owner"], []).append(database["connections"])
    for owner, counts in shares.items():
        assert sql(f"SELECT {powers} FROM pg_roles WHERE rolname = '{owner}'") == "f"
        logins = sql(
            f"SELECT {powers}, rolcanlogin, left(rolpassword, 14), rolconnlimit, setconfig FROM pg_authid "
            "LEFT JOIN pg_db_role_setting ON setrole = pg_authid.oid AND setdatabase = 0 "
            f"WHERE rolname ~ '^{owner}_[0-9a-f]{{6}}$' AND NOT EXISTS (SELECT FROM pg_auth_members "
            "WHERE member = pg_authid.oid AND pg_get_userbyid(roleid) ~ ':')"
        )
        # Each database has a login. Databases with the same password share one, with the connections of both.
        expected = {f"f|t|SCRAM-SHA-256$|{count}|{{role={owner}}}" for count in (*counts, sum(counts))}
        assert logins
        assert set(logins.splitlines()) <= expected


def test_what_is_kept_of_others_is_closed_to_logins(sql, settings):
    kept = sql(
        "SELECT coalesce(json_agg(json_build_array(datname, rolname, datconnlimit, rolcanlogin)), '[]') "
        "FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba "
        "JOIN pg_db_role_setting ON setdatabase = pg_database.oid AND setrole = 'postgres'::regrole "
        "WHERE 'saltern.app=' || rolname = ANY (setconfig)"
    )
    databases = settings["postgres"]["databases"]
    assert {name for name, *_ in json.loads(kept)} >= databases.keys()
    owners = {database["owner"] for database in databases.values()}
    for name, owner, limit, can_login in json.loads(kept):
        if name in databases:
            assert limit > 0, name
        else:
            assert limit == 0, name
            assert not can_login or owner in owners, owner


def test_an_app_reaches_its_database_with_the_url_it_was_given(attached, python):
    assert attached
    for app, name, variable, pid in attached:
        assert python(CONNECT, pid, variable, "{}") == {"out": f"{app}@{name}", "error": ""}


def test_a_borrower_reads_what_it_is_lent_or_acts_as_its_owner(lent, settings, python, sql):
    for app, name, variable, pid, access in lent:
        owner = settings["postgres"]["databases"][name]["owner"]
        answer = python(CONNECT, pid, variable, "{}")
        who = rf"{app}_[0-9a-f]{{6}}" if access == "read" else owner
        assert re.fullmatch(rf"{who}@{name}", answer["out"]), answer["error"]
        # The owner's other databases refuse it.
        for other, database in settings["postgres"]["databases"].items():
            if other != name and database["owner"] == owner:
                answer = python(CONNECT, pid, variable, f'{{"PGDATABASE": "{other}"}}')
                assert (answer["out"], is_refused(answer)) == ("", True), f"{app} has {other}"
    for (name, group), apps in groups(settings).items():
        members = sql(f"SELECT pg_get_userbyid(member) FROM pg_auth_members WHERE pg_get_userbyid(roleid) = '{group}'")
        assert {one.rpartition("_")[0] for one in members.splitlines()} >= set(apps), name
        assert sql(f"SELECT rolcanlogin OR rolsuper FROM pg_roles WHERE rolname = '{group}'") == "f"


def test_each_database_has_its_extensions(sql, settings):
    for name, database in settings["postgres"]["databases"].items():
        there = sql("SELECT extname FROM pg_catalog.pg_extension", name).splitlines()
        assert set(there) >= set(database.get("extensions", [])), name


def test_a_wrong_password_is_refused(attached, python):
    for _, _, variable, pid in attached:
        answer = python(CONNECT, pid, variable, '{"PGPASSWORD": "wrong"}')
        assert any(why in answer["error"] for why in WRONG), answer


def test_plaintext_is_refused(attached, python):
    for _, name, variable, pid in attached:
        error = python(CONNECT, pid, variable, '{"PGSSLMODE": "disable"}')["error"]
        assert ("no pg_hba.conf entry" in error and "no encryption" in error) or "SSL required" in error, name


def test_another_authority_is_not_believed(attached, python):
    for _, name, variable, pid in attached:
        others = '{"PGSSLROOTCERT": "/etc/ssl/certs/ca-certificates.crt"}'
        assert "certificate verify failed" in python(CONNECT, pid, variable, others)["error"], name


def test_the_other_apps_are_refused(attached, python):
    for app, name, variable, pid in attached:
        for other, others, _, _ in attached:
            if other != app:
                answer = python(CONNECT, pid, variable, f'{{"PGDATABASE": "{others}"}}')
                assert answer["out"] == "", f"{app} reads {others}"
                assert is_refused(answer) or "permission denied" in answer["error"]
        answer = python(CONNECT, pid, variable, '{"PGDATABASE": "postgres"}')
        assert is_refused(answer), f"{app} reads the operator's database ({name})"


def test_the_network_is_refused(attached, host, python, settings):
    own = host.check_output("hostname -I").split()[0]
    # If other hosts run apps, it listens on the host's address and lets only those hosts in.
    for _, _, variable, pid in attached:
        answer = python(CONNECT, pid, variable, f'{{"PGHOST": "{own}"}}')
        assert is_refused(answer) if settings["postgres"]["listen"] else "Connection refused" in answer["error"]


def test_tls_is_1_2_or_newer(sql):
    assert (sql("SHOW ssl"), sql("SHOW ssl_min_protocol_version")) == ("on", "TLSv1.2")


def test_it_lets_in_the_apps_of_the_app_hosts_alone(sql, settings):
    rules = json.loads(
        sql(
            "SELECT coalesce(json_agg(json_build_array(database, user_name, address, netmask, type, auth_method)), "
            "'[]') FROM pg_hba_file_rules WHERE type <> 'local'"
        )
    )
    masks = {"32": "255.255.255.255", "128": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}
    clients = [client.split("/") for client in settings["postgres"]["clients"]]
    wanted = [
        (name, database["owner"], "scram-sha-256") for name, database in settings["postgres"]["databases"].items()
    ]
    wanted += [(name, group, "scram-sha-256") for name, group in groups(settings)]
    wanted += [("all", group, "reject") for _, group in groups(settings) if group.endswith(":whole")]
    assert sorted(rules) == sorted(
        [[name], [f"+{who}"], address, masks[length], "hostssl", method]
        for name, who, method in wanted
        for address, length in clients
    )


def test_data_is_checksummed_and_in_utf8(sql, settings):
    assert sql("SHOW data_checksums") == "on"
    for name in settings["postgres"]["databases"]:
        assert sql(f"SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = '{name}'") == "UTF8"


def test_each_pool_has_its_databases_and_their_sizes(host, settings):
    databases = settings["postgres"]["databases"]
    used = {way for one in databases.values() for way in one.get("pools", [])}
    for way in used:
        assert host.service(f"postgresql-pool@{way}").is_running
        assert host.service(f"postgresql-pool@{way}").is_enabled
        wanted = {name: one["pool_most"] for name, one in databases.items() if way in one.get("pools", [])}
        found = {row["name"]: row for row in console(host, way, "SHOW DATABASES") if row["name"] != "pgbouncer"}
        # One that no app attaches any more is there until no release has it.
        for name, most in wanted.items():
            row = found[name]
            assert (row["host"], row["database"], int(row["max_connections"])) == ("/run/postgresql", name, most)
        settings_of = {row["key"]: row["value"] for row in console(host, way, "SHOW CONFIG")}
        assert (settings_of["pool_mode"], settings_of["client_tls_sslmode"]) == (way, "require")
        # Each parameter of the pillar is one that PgBouncer knows. It writes some values in its own way.
        declared = settings["postgres"]["pool_settings"]
        assert settings_of.keys() >= declared.keys()
        assert not {name for name, value in declared.items() if value.isdigit() and settings_of[name] != value}
        # What is not let in is not known either: no password is here, and no login of an operator's.
        logins = host.check_output('sed -E \'s/^"([^"]*)" "(.{14}).*/\\1 \\2/\' /etc/saltern/pgbouncer/users.txt')
        assert logins
        for login, kind in (line.split() for line in logins.splitlines()):
            assert re.fullmatch(r"[a-z][a-z0-9-]*_[0-9a-f]{6}", login)
            assert kind == "SCRAM-SHA-256$"
    others = {"transaction", "session"} - used
    assert not [way for way in others if host.service(f"postgresql-pool@{way}").is_running and not pooled(host, way)]


def pooled(host, way):
    """Return the databases of a pool."""
    return [row["name"] for row in console(host, way, "SHOW DATABASES") if row["name"] != "pgbouncer"]


def console(host, way, command):
    """Ask PgBouncer by its own database, as its own user."""
    port = {"transaction": 6432, "session": 6433}[way]
    asked = "runuser -u postgres -- psql -X --csv -h %s -p %s -U pgbouncer -d pgbouncer -c %s"
    answer = host.check_output(asked, f"/run/postgresql-pool-{way}", str(port), command)
    return list(csv.DictReader(answer.splitlines()))
