"""RabbitMQ, memcached and PostgreSQL on another host than the apps that attach them.

Two hosts of dev: ``services1`` has the broker, the cache and the databases, ``app1`` the apps ``courier``, which queues
jobs and has a database, and ``pages``, which caches.
"""

import contextlib
import json
import re
import shlex
import socket
import subprocess
import sys
import time
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from lab import Lab
from lab.pillar import Pillar
from tests.hosts.applied import apply, converged
from tests.hosts.conftest import ROOT
from tests.hosts.rows import boot_hosts, declare_hosts

pytestmark = pytest.mark.alike("trixie")

ROLES = {"services1": ["broker", "memcached", "database"], "app1": ["app"]}
PSQL = ("psql", "-XAtqd")
EXTENSIONS = ["pg_trgm", "vector", "pg_stat_statements"]
DATABASE = {"courier": {"extensions": EXTENSIONS}}
APPS = {
    "courier": {
        "port": 8000,
        "formation": {"worker": 1},
        "attach": {
            "CELERY_BROKER_URL": {"rabbitmq": "courier"},
            "DATABASE_URL": {"postgres": "courier", "pool": "transaction"},
            "REPORTS_URL": {"postgres": "courier", "as": "reader", "pool": "session"},
        },
    },
    "pages": {"port": 8100, "formation": {"worker": 1}, "attach": {"CACHE_URL": {"memcached": "pages"}}},
}


# A pool that is read again, and the units after which an app host starts its processes.
RELOADED = {"postgres-pool-config-transaction", "postgres-pooled-transaction"}
UNITS = {"supervisor-unit", "supervisor-unit-read"}
# Asks a database once and again by one connection. psql ends with it.
STEADY = """
(while [ -e /tmp/steady ]; do echo "SELECT 'asked';"; sleep 0.1; done) |
    courier-run sh -c 'exec psql "$DATABASE_URL" -XAt -v ON_ERROR_STOP=1' > /tmp/answers 2>&1
echo "psql: $?" >> /tmp/answers
"""


def passwords(number):
    """Return the settings by which both hosts know the passwords; those of another number are others."""
    return {
        "postgres": {"databases": {"courier": {"password": f"courier-{number}-0123456789"}}},
        "rabbitmq": {"vhosts": {"courier": {"password": f"courier-{number}/:%@-0123456789"}}},
        "memcached": {"instances": {"pages": {"password": f"pages-{number}/:%@-0123456789"}}},
    }


@pytest.fixture(scope="module")
def apart(suite):
    """The hosts, converged, and the pillar."""
    with Lab.temporary(f"apart-{suite}") as lab:
        declare_hosts(lab, ROLES)
        # Those of the example apps, which no host here has.
        (lab.tree / "pillar/secrets/dev.sls").unlink()
        pillar = Pillar(lab.tree)
        pillar.merge(app={"faq": None, "tickets": None, **APPS}, postgres={"databases": DATABASE})
        pillar.merge(**passwords(1))
        lab.issue_certificates()
        services1, app1 = boot_hosts(lab, ROLES, suite).values()
        for app in APPS:
            lab.build(ROOT / "tests/apps" / app, app1.python)
        dry = apply(services1, "test=True")
        first = apply(services1)
        print(f"{suite}: {len(first.succeeded().changed)} and {len(converged(app1))} changed")
        yield SimpleNamespace(lab=lab, pillar=pillar, services1=services1, app1=app1, dry=dry, first=first)


def cached(apart, *words, url=""):
    """Ask the cache as a process of pages, maybe with another URL."""
    change = ["env", f"CACHE_URL={url}"] if url else []
    return json.loads(apart.app1.run("pages-run", *change, "python", "pages.py", "pymemcache", *words).stdout)


def delivered(apart, job):
    """Queue a job, and wait until the worker has done it."""
    apart.app1.run("courier-run", "python", "courier.py", job, "0")
    deadline = time.monotonic() + 120
    while True:
        said = apart.app1.sh("journalctl -q -o cat -t 'courier[worker.1]'").stdout.splitlines()
        if f"{job} is done" in said:
            return said.count(f"{job} is done")
        assert time.monotonic() < deadline, said[-40:]
        time.sleep(0.5)


def operator(apart, query):
    """Ask the database of courier as PostgreSQL's operator."""
    return apart.services1.run("runuser", "-u", "postgres", "--", *PSQL, "courier", "-c", query).stdout.strip()


def url(apart, app, variable):
    """Return the URL that an app has."""
    return apart.app1.sh(f"cat /srv/apps/{app}/current/env/{variable}").stdout


def test_the_dry_run_on_a_bare_host_was_exact(apart):
    assert apart.dry.succeeded().changed == apart.first.changed


def test_the_apps_use_both_over_the_network(apart):
    assert delivered(apart, "first") == 1
    assert cached(apart, "set", "greeting", "hello") is True
    assert cached(apart, "get", "greeting") == "hello"
    for app, variable in (("courier", "CELERY_BROKER_URL"), ("pages", "CACHE_URL")):
        assert urlsplit(url(apart, app, variable)).hostname == apart.services1.address
    # And nothing of them is on the app host.
    assert apart.app1.run("sh", "-c", "ss -Hltn | grep -E ':(5432|5671|8189) '", check=False).stdout == ""


def test_a_database_has_its_extensions_and_keeps_one_that_is_declared_no_more(apart):
    assert operator(apart, "SELECT count(*) FROM pg_stat_statements")
    assert operator(apart, "SELECT '[1, 2]'::vector <-> '[1, 3]'") == "1"
    apart.pillar.merge(postgres={"databases": {"courier": {"extensions": ["pg_trgm"]}}})
    # What is kept is loaded as before.
    apply(apart.services1).changed_nothing()
    (vector,) = (
        one for name, one in apart.services1.salt("app.orphans")["kept"].items() if name == "postgres:courier.vector"
    )
    assert vector["app"] == "courier"
    apart.services1.sh(vector["remove"])
    assert "postgres:courier.vector" not in apart.services1.salt("app.orphans")["kept"]
    apart.pillar.merge(postgres={"databases": {"courier": {"extensions": ["pg_trgm", "vektor"]}}})
    (mistake,) = apply(apart.services1, "test=True").mistakes
    assert mistake.startswith("postgres.databases.courier.extensions[1]: vektor: its Debian package is not known; ")
    assert mistake.endswith("did you mean 'vector'?")
    apart.pillar.merge(postgres={"databases": {"courier": {"extensions": EXTENSIONS}}})
    assert converged(apart.services1) == {"postgres-attachment-courier"}


def asked(apart, *words):
    """Ask a database of courier from the app host, by the app's own login."""
    done = apart.app1.run("courier-psql", *words, check=False)
    return done.stdout.strip() or done.stderr.strip()


def test_a_reader_reads_what_is_there_and_what_comes_later_and_changes_nothing(apart):
    ask = "SELECT session_user || ' ' || current_user || ' ' || ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert re.fullmatch(r"courier_[0-9a-f]{6}@courier", asked(apart, "-XAtc", "SELECT session_user || '@' || user"))
    assert re.fullmatch(r"(courier_[0-9a-f]{6}) \1 true", asked(apart, "REPORTS_URL", "-XAtc", ask))
    asked(apart, "-c", "CREATE SCHEMA later CREATE TABLE jobs (number serial); INSERT INTO later.jobs DEFAULT VALUES")
    assert (
        asked(apart, "REPORTS_URL", "-XAtc", "SELECT number + last_value FROM later.jobs, later.jobs_number_seq") == "2"
    )
    for statement in (
        "DELETE FROM later.jobs",
        "SELECT nextval('later.jobs_number_seq')",
        "CREATE TABLE public.x ()",
        "CREATE TEMP TABLE x ()",
        "SET ROLE courier",
    ):
        assert "permission denied" in asked(apart, "REPORTS_URL", "-c", statement), statement
    assert asked(apart, "NOSUCH") == (
        "courier-psql: NOSUCH: no database has this name; expected one of DATABASE_URL, REPORTS_URL"
    )
    apart.pillar.merge(app={"courier": {"attach": {"REPORTS_URL": None}}})
    assert converged(apart.app1) == {"app-release-courier", *UNITS}
    # The other pool has its connections.
    assert converged(apart.services1) == {"postgres-returned", "postgres-unpooled", "firewall-rules", *RELOADED}
    roles = "SELECT count(*) FROM pg_roles WHERE rolname ~ '^courier:' OR rolname ~ '^courier_'"
    assert operator(apart, roles) == "1"


def through(apart, query, variable="DATABASE_URL", value=""):
    """Ask a database by the URL that courier has, or by another one."""
    given = [f"{variable}={value}"] if value else []
    command = ["courier-run", "env", *given, "sh", "-c", f'exec psql "${variable}" -XAtc "$0"', query]
    return apart.app1.run(*command, check=False)


def pool(apart, way, size):
    """Declare a pool of courier's database."""
    apart.pillar.merge(
        app={"courier": {"attach": {"DATABASE_URL": {"pool": way}}}},
        postgres={"databases": {"courier": {"pool_size": size}}},
    )


def pooled_for(apart, parameter):
    """Return what PgBouncer has of a parameter."""
    where = ("-h", "/run/postgresql-pool-transaction", "-p", "6432", "-U", "pgbouncer", "pgbouncer")
    said = apart.services1.run("runuser", "-u", "postgres", "--", "psql", "-XAt", *where, "-c", "SHOW CONFIG").stdout
    return next(line.split("|")[1] for line in said.splitlines() if line.startswith(f"{parameter}|"))


@contextlib.contextmanager
def steady(apart):
    """Have a client that asks by one connection all the while. It gets an answer to each question."""
    apart.app1.sh(f"touch /tmp/steady; setsid sh -c {shlex.quote(STEADY)} < /dev/null > /dev/null 2>&1 &")

    def answered():
        before = apart.app1.sh("cat /tmp/answers 2>/dev/null || true").stdout.count("asked")
        deadline = time.monotonic() + 60
        while (now := apart.app1.sh("cat /tmp/answers 2>/dev/null || true").stdout.count("asked")) <= before:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return now

    try:
        answered()
        yield answered
    finally:
        apart.app1.sh("rm /tmp/steady")
    deadline = time.monotonic() + 60
    while "psql: " not in (said := apart.app1.sh("cat /tmp/answers").stdout):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert set(said.splitlines()) == {"asked", "psql: 0"}


def test_a_pool_is_reloaded_and_outlives_the_server_and_no_client_is_disconnected(apart):
    who = "SELECT session_user || ' ' || user || ' ' || (inet_server_port() IS NULL) || ' ' || pg_backend_pid()"
    first, second = (through(apart, who).stdout.split() for _ in range(2))
    # Another session of a client has the same connection to PostgreSQL.
    assert (first, first[1:3]) == (second, ["courier", "true"])
    assert urlsplit(url(apart, "courier", "DATABASE_URL")).port == 6432
    # Migrations, and an operator, come to PostgreSQL itself.
    said = apart.app1.sh("journalctl -q -o cat -t 'courier[release]'").stdout
    assert "port 5432" in said
    assert asked(apart, "-XAtc", "SELECT inet_server_port()") == "5432"
    apart.pillar.merge(postgres={"databases": {"courier": {"pool_size": 97}}})
    (mistake,) = apply(apart.services1, "test=True").mistakes
    assert mistake.startswith("postgres.databases.courier.pool_size: 1 pool of 97 and 2 for what goes past the pool")
    with steady(apart) as answered:
        apart.pillar.merge(
            postgres={"databases": {"courier": {"pool_size": 7}}, "pool_settings": {"query_wait_timeoutx": "9"}}
        )
        told = apply(apart.services1, "test=True").failed["postgres-pool-judged-transaction"]
        assert told.startswith("postgres.pool_settings.query_wait_timeoutx: this Debian's PgBouncer does not know it")
        apart.pillar.merge(postgres={"pool_settings": {"query_wait_timeoutx": None, "query_wait_timeout": "99"}})
        assert apply(apart.services1, "test=True").succeeded().changed == RELOADED
        assert converged(apart.services1) == RELOADED
        assert pooled_for(apart, "query_wait_timeout") == "99"
        apply(apart.services1).changed_nothing()
        answered()
        apart.services1.sh("systemctl restart 'postgresql@*-main'")
        answered()
        # It is an app host's, which has not converged yet.
        pool(apart, None, None)
        stays = apply(apart.services1).succeeded().states["postgres-unpooled"]["comment"]
        assert stays == f"courier stays pooled (transaction) for {apart.app1.address}, which is connected"
        answered()
    apart.pillar.merge(postgres={"pool_settings": None})
    pool(apart, "transaction", 7)
    assert converged(apart.services1) == {"firewall-rules", *RELOADED}
    assert pooled_for(apart, "query_wait_timeout") == "120"


def test_a_configuration_with_which_postgresql_does_not_start_is_never_live(apart):
    before = operator(apart, "SELECT pg_postmaster_start_time(), pg_conf_load_time()")
    for settings, told in (
        ({"shared_buffers": "500GB"}, r"postgres\.shared_buffers: PostgreSQL would not start: .*it needs \d+ MB"),
        ({"settings": {"work_memx": "1"}}, r"postgres\.settings\.work_memx: PostgreSQL would not start: unrecognized"),
    ):
        apart.pillar.merge(postgres=settings)
        for arguments in ((), ("test=True",)):
            assert re.match(told, apply(apart.services1, *arguments).failed["postgres-config-judged"])
        apart.pillar.merge(postgres=dict.fromkeys(settings))
    assert operator(apart, "SELECT pg_postmaster_start_time(), pg_conf_load_time()") == before


def test_a_parameter_is_reloaded_or_restarts_the_server_once_as_the_dry_run_says(apart):
    started = operator(apart, "SELECT pg_postmaster_start_time()")
    apart.pillar.merge(postgres={"settings": {"random_page_cost": "1.1"}})
    assert converged(apart.services1) == {"postgres-config", "postgres-loaded"}
    assert operator(apart, "SHOW random_page_cost") == "1.1"
    assert operator(apart, "SELECT pg_postmaster_start_time()") == started
    apart.pillar.merge(postgres={"settings": {"max_worker_processes": "9"}})
    (change,) = apply(apart.services1, "test=True").states["postgres-loaded"]["changes"].values()
    assert change["new"] == "restarted"
    assert converged(apart.services1) == {"postgres-config", "postgres-loaded"}
    assert operator(apart, "SHOW max_worker_processes") == "9"


def test_no_other_host_is_let_in(apart):
    for app, variable in (("courier", "CELERY_BROKER_URL"), ("pages", "CACHE_URL")):
        port = urlsplit(url(apart, app, variable)).port
        with pytest.raises(TimeoutError):
            socket.create_connection((apart.services1.address, port), 2)


def test_both_hosts_are_what_was_declared(apart):
    command = [sys.executable, "-m", "verify", "-q", f"--tree={apart.lab.tree}"]
    command += [f"--hosts=lab://{apart.services1.name},lab://{apart.app1.name}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_with_another_password_neither_is_ever_shut_out(apart):
    before = url(apart, "pages", "CACHE_URL")
    apart.pillar.merge(**passwords(2))
    assert {"rabbitmq-vhost-courier", "memcached-logins-pages"} <= converged(apart.services1)
    # The app host has the passwords of before until it converges.
    assert delivered(apart, "between") == 1
    old = url(apart, "courier", "DATABASE_URL")
    assert through(apart, "SELECT user").stdout == "courier\n"
    assert cached(apart, "get", "greeting") == "hello"
    assert converged(apart.app1) == {"app-release-courier", "app-release-pages"}
    assert url(apart, "pages", "CACHE_URL") != before
    assert delivered(apart, "after") == 1
    assert cached(apart, "get", "greeting") == "hello"
    # Another app host could have them still.
    assert cached(apart, "get", "greeting", url=before) == "hello"
    assert url(apart, "courier", "DATABASE_URL") != old
    for value in ("", old):
        assert through(apart, "SELECT user", value=value).stdout == "courier\n"
    assert "SASL authentication failed" in through(apart, "SELECT 1", value=old.replace(":courier", ":other")).stderr
    apply(apart.services1).changed_nothing()


def test_without_its_attachment_a_pool_is_gone(apart):
    pool(apart, None, None)
    assert converged(apart.app1) == {"app-release-courier", *UNITS}
    assert apply(apart.services1, "test=True").succeeded().changed == converged(apart.services1)
    apply(apart.services1).changed_nothing()
    assert through(apart, "SELECT inet_server_port()").stdout == "5432\n"
    left = (
        "ls -d /etc/saltern/pgbouncer /etc/systemd/system/postgresql-pool*; ss -Hltn | grep -E ':643[23] '; pgrep pgb"
    )
    assert apart.services1.run("sh", "-c", left, check=False).stdout == ""
