"""What leaves the pillar leaves the host, but data: it is kept, closed, listed, and there again when asked for."""

import threading
import time

import pytest

from .applied import apply, converged
from .client import Client
from .conftest import ROOT

pytestmark = pytest.mark.alike("trixie")

DOMAIN = "mirror.localhost"
OTHER = "www.mirror.localhost"
MIRROR = {
    "port": 8300,
    "domains": [DOMAIN, OTHER],
    "formation": {"web": 2, "worker": 1},
    "health": {"grace": 20, "settle": 1},
    "attach": {"DATABASE_URL": {"postgres": "mirror_data"}, "REDIS_URL": {"redis": "mirror-jobs"}},
    "config": {"SECRET": "canary-removal-0123456789"},
}
UNITS = {"supervisor-unit", "supervisor-unit-read"}
# Of the connections each has an equal share.
SHARES = {"postgres-attachment-faq", "postgres-attachment-tickets"}
# Another database is let in to.
ACCESS = {"postgres-access", "postgres-access-loaded"}


@pytest.fixture(scope="module")
def mirror(host, lab, pillar):
    """A client of the app, whose database and Redis instance hold something."""
    lab.release(ROOT / "tests/apps/mirror", host.python)
    pillar.merge(app={"mirror": MIRROR})
    apply(host).succeeded()
    sql(host, "CREATE TABLE kept (text text); INSERT INTO kept VALUES ('Größe')")
    assert redis(host, "SET kept Größe") == "OK"
    return Client(host.address, DOMAIN)


def sql(host, statement):
    """Run SQL as the app would."""
    return host.run("mirror-run", "sh", "-c", 'psql -XAtq "$DATABASE_URL" -c "$0"', statement).stdout.strip()


def redis(host, command):
    """Send a command to Redis as the app would."""
    options = "--raw --tls --cacert /etc/ssl/saltern/ca.pem -p 8399"
    user = "user=${REDIS_URL#*//} && user=${user%%:*}"
    script = (
        f'{user} && REDISCLI_AUTH=$(echo "$REDIS_URL" | sed "s,.*:\\(.*\\)@.*,\\1,") redis-cli --user $user {options} '
    )
    script += command
    return host.run("mirror-run", "sh", "-c", script).stdout.strip()


def asked(host, statement):
    """Run SQL as PostgreSQL's operator."""
    command = ("psql", "-XAtq", "-d", "mirror_data", "-c", statement)
    return host.run("sh", "-c", 'cd / && exec runuser -u postgres -- "$@"', "sh", *command).stdout.strip()


def value(host, variable):
    return host.sh(f"cat /srv/apps/mirror/current/env/{variable}").stdout


def pids(host, *apps):
    lines = host.run("supervisorctl", "status", check=False).stdout.splitlines()
    return {line.split()[0]: line.split()[3] for line in lines if line.startswith(apps) and " pid " in line}


def kept(host):
    return host.salt("app.orphans")["kept"]


def test_a_domain_that_leaves_is_served_no_more(host, mirror, pillar):
    before = pids(host, "mirror.")
    pillar.merge(app={"mirror": {"domains": [DOMAIN]}})
    assert converged(host) == {"nginx-config", "nginx-certificate-mirror"}
    assert Client(host.address, OTHER).get("/healthz").text == "No app has this domain.\n"
    assert mirror.get("/healthz").status_code == 200
    assert pids(host, "mirror.") == before


def test_a_process_type_that_leaves_is_stopped(host, mirror, pillar):
    before = pids(host, "mirror.")
    pillar.merge(app={"mirror": {"formation": {"worker": None}}})
    assert converged(host) == {"app-release-mirror"}
    assert pids(host, "mirror.") == {name: pid for name, pid in before.items() if ".worker." not in name}
    assert host.run("pgrep", "-u", "mirror", "-f", "worker", check=False).stdout == ""


def test_a_database_that_is_attached_no_more_is_closed_and_kept_and_there_again(host, mirror, pillar):
    url = value(host, "DATABASE_URL")
    host.sh(f"cd /; setsid psql -XAtq '{url}' -c 'SELECT pg_sleep(600)' >/dev/null 2>/tmp/session & sleep 1")
    pillar.merge(app={"mirror": {"attach": {"DATABASE_URL": None}}})
    assert converged(host) == {"app-release-mirror", "postgres-retired"} | SHARES
    assert "terminating connection" in host.sh("cat /tmp/session").stdout
    assert host.run("psql", url, "-c", "SELECT 1", check=False).returncode != 0
    assert asked(host, "SELECT rolname FROM pg_roles WHERE rolname ~ '^mirror' AND rolcanlogin") == ""
    assert asked(host, "SELECT datconnlimit FROM pg_database WHERE datname = 'mirror_data'") == "0"
    assert asked(host, "SELECT text FROM kept") == "Größe"
    assert "mirror_data" not in host.sh("cat /etc/postgresql/*/main/pg_hba.conf").stdout
    assert kept(host).keys() == {"postgres:mirror_data"}
    assert mirror.get("/healthz").status_code == 200
    pillar.merge(app={"mirror": {"attach": MIRROR["attach"]}})
    assert converged(host) == ACCESS | {"postgres-attachment-mirror_data", "app-release-mirror"} | SHARES
    assert sql(host, "SELECT text FROM kept") == "Größe"
    assert kept(host) == {}


def test_an_instance_that_is_attached_no_more_is_stopped_and_kept_and_there_again(host, mirror, pillar):
    pillar.merge(app={"mirror": {"attach": {"REDIS_URL": None}}})
    assert converged(host) == {"app-release-mirror", "redis-retired"} | UNITS
    assert ":8399 " not in host.sh("ss -Hltn").stdout
    state = host.run("systemctl", "is-enabled", "redis-server@mirror-jobs", check=False).stdout.strip()
    assert state == "disabled"
    assert host.run("test", "-e", "/etc/redis/redis-mirror-jobs.conf", check=False).returncode == 1
    assert kept(host).keys() == {"redis:mirror-jobs"}
    pillar.merge(app={"mirror": {"attach": MIRROR["attach"]}})
    states = {f"redis-{state}-mirror-jobs" for state in ("data", "users", "config", "service")}
    assert converged(host) == states | UNITS | {"app-release-mirror"}
    assert redis(host, "GET kept") == "Größe"
    assert kept(host) == {}


def test_of_two_databases_the_one_that_leaves_is_closed_and_the_role_stays(host, mirror, pillar):
    pillar.merge(app={"mirror": {"attach": {"DATABASE_URL": {"postgres": "mirror_new"}}}})
    states = ACCESS | {"app-release-mirror", "postgres-retired"}
    assert converged(host) == states | {"postgres-attachment-mirror_new"}
    assert sql(host, "SELECT current_database()") == "mirror_new"
    other = 'psql "$(echo "$DATABASE_URL" | sed s/mirror_new/mirror_data/)" -c "SELECT 1"'
    refused = host.run("mirror-run", "sh", "-c", other, check=False)
    assert "no pg_hba.conf entry" in refused.stderr
    # It owns another one.
    assert kept(host)["postgres:mirror_data"]["remove"] == "setsid --wait runuser -u postgres -- dropdb mirror_data"
    pillar.merge(app={"mirror": {"attach": MIRROR["attach"]}})
    assert converged(host) == states | {"postgres-attachment-mirror_data"}
    assert sql(host, "SELECT text FROM kept") == "Größe"
    host.sh(f"cd / && {kept(host)['postgres:mirror_new']['remove']}")
    assert kept(host) == {}
    apply(host).changed_nothing()


def test_what_a_held_release_has_stays_open(host, mirror, pillar):
    host.salt("release.hold", "mirror")
    pillar.merge(app={"mirror": {"attach": {"DATABASE_URL": None, "REDIS_URL": None}}})
    applied = apply(host).succeeded()
    assert applied.changed <= UNITS | SHARES
    assert "mirror_data stays open for mirror v" in applied.states["postgres-retired"]["comment"]
    assert "mirror-jobs runs on for mirror v" in applied.states["redis-retired"]["comment"]
    assert (sql(host, "SELECT text FROM kept"), redis(host, "GET kept")) == ("Größe", "Größe")
    host.salt("release.unhold", "mirror")
    assert converged(host) == {"app-release-mirror", "postgres-retired", "redis-retired"}
    pillar.merge(app={"mirror": {"attach": MIRROR["attach"]}})
    converged(host)


def test_what_the_serving_release_has_stays_open_when_the_next_one_is_refused(host, mirror, pillar):
    pillar.merge(app={"mirror": {"attach": {"DATABASE_URL": None}, "config": {"FAIL": "boot"}}})
    assert apply(host).failed.keys() == {"app-release-mirror"}
    assert sql(host, "SELECT text FROM kept") == "Größe"
    pillar.merge(app={"mirror": {"attach": MIRROR["attach"], "config": {"FAIL": None}}})
    assert apply(host).succeeded().changed == SHARES


def test_an_app_that_is_no_longer_declared_leaves_the_host_but_its_data(host, mirror, pillar, verify):
    url, others = value(host, "DATABASE_URL"), pids(host, "faq.", "tickets.")
    uid = host.sh("id -u mirror").stdout.strip()
    host.sh("setsid mirror-run sh -c 'trap : TERM; touch /tmp/left; while :; do sleep 1; done' >/dev/null 2>&1 &")
    host.sh("timeout 10 sh -c 'until [ -e /tmp/left ]; do sleep 0.1; done'")
    answers = []
    slow = threading.Thread(target=lambda: answers.append(mirror.get("/slow?6").status_code))
    pillar.restore()
    dry = apply(host, "test=True").succeeded().changed
    slow.start()
    time.sleep(1)
    assert apply(host).succeeded().changed == dry
    slow.join()
    gone = {"app-retired", "postgres-retired", "redis-retired", "nginx-certificates-retired"}
    assert dry == {"nginx-config"} | gone | UNITS | SHARES
    # The request in flight had its answer.
    assert answers == [200]
    assert mirror.get("/healthz").text == "No app has this domain.\n"
    assert pids(host, "mirror.") == {}
    assert host.run("pgrep", "-u", uid, check=False).stdout == ""
    for what in ("passwd", "group"):
        assert host.run("getent", what, "mirror", check=False).returncode == 2
    assert host.sh("ss -Hltn | grep -c ':83[0-9][0-9] ' || true").stdout.strip() == "0"
    find = "find / /tmp /dev/shm /run -xdev '(' -path /proc -o -path /sys -o -path /srv/saltern ')' -prune -o "
    assert host.sh(f"{find} -uid {uid} -print || true").stdout == ""
    left = host.sh(f"{find} -name '*mirror*' -not -path '/var/lib/*' -not -path '/opt/*' -print || true").stdout.split()
    assert [path for path in left if path.startswith(("/etc", "/srv", "/usr/local", "/run"))] == []
    assert host.sh("grep -rlF canary-removal-0123456789 /etc /srv/apps /run /tmp /var/lib || true").stdout == ""
    assert host.run("psql", url, "-c", "SELECT 1", check=False).returncode != 0
    assert pids(host, "faq.", "tickets.") == others
    apply(host).changed_nothing()
    assert asked(host, "SELECT text FROM kept") == "Größe"
    found = kept(host)
    assert found.keys() == {"postgres:mirror_data", "redis:mirror-jobs"}
    assert {one["app"] for one in found.values()} == {"mirror"}
    verify(host)


def test_data_that_is_kept_is_given_to_no_other_app(host, mirror, pillar):
    pillar.merge(app={"faq": {"attach": {"CACHE_URL": {"redis": "mirror-jobs"}}}})
    failed = apply(host).failed
    assert failed["redis-data-mirror-jobs"].startswith(
        "app.faq.attach: the Redis instance mirror-jobs holds the data of mirror; expected a name of its own. "
    )
    assert "app-release-tickets" not in failed
    pillar.restore()
    apply(host).succeeded()
    apply(host).changed_nothing()
    assert "redis:mirror-jobs" in kept(host)


def test_a_removal_that_was_interrupted_goes_on(host, mirror):
    host.sh("useradd --system --home /srv/apps/mirror mirror; mkdir -p /srv/apps/mirror/builds")
    assert converged(host) == {"app-retired"}
    assert host.run("getent", "passwd", "mirror", check=False).returncode == 2
    assert host.sh("ls /srv/apps").stdout.split() == ["faq", "tickets"]


def test_an_app_that_is_declared_again_has_its_data(host, mirror, lab, pillar):
    # Its user is another one.
    host.sh("for name in one two three; do useradd --system filler-$name; done")
    lab.release(ROOT / "tests/apps/mirror", host.python)
    pillar.merge(app={"mirror": MIRROR})
    converged(host)
    assert (sql(host, "SELECT text FROM kept"), redis(host, "GET kept")) == ("Größe", "Größe")
    assert sql(host, "INSERT INTO kept VALUES ('and more') RETURNING 1") == "1"
    assert mirror.get("/healthz").status_code == 200
    assert kept(host) == {}
    host.sh("for name in one two three; do userdel filler-$name; done")


def test_the_commands_that_are_listed_remove_it_for_good(host, mirror, lab, pillar):
    pillar.restore()
    apply(host).succeeded()
    for one in kept(host).values():
        host.sh(f"cd / && {one['remove']}")
    assert kept(host) == {}
    assert "No data of an app or an attachment that is gone is kept" in host.sh("salt-call app.orphans").stdout
    command = "psql -XAtq -c \"SELECT count(*) FROM pg_roles WHERE rolname = 'mirror'\""
    assert host.sh(f"cd / && runuser -u postgres -- {command}").stdout.strip() == "0"
    assert host.sh("ls -A /var/lib/redis | grep -c mirror || true").stdout.strip() == "0"
    apply(host).changed_nothing()
    lab.release(ROOT / "tests/apps/mirror", host.python)
    pillar.merge(app={"mirror": MIRROR})
    converged(host)
    assert sql(host, "SELECT count(*) FROM pg_tables WHERE tablename = 'kept'") == "0"
    assert redis(host, "DBSIZE") == "0"


def test_a_database_of_somebody_else_is_nobodys_orphan(host, mirror, pillar):
    script = """
        cd /
        runuser -u postgres -- createdb own
        runuser -u postgres -- createdb -O mirror copy
        echo 'port 6390' >/etc/redis/redis-own.conf
    """
    host.sh(script)
    pillar.restore()
    apply(host).succeeded()
    assert kept(host).keys() == {"postgres:mirror_data", "redis:mirror-jobs"}
    for name in ("own", "copy"):
        limit = asked(host, f"SELECT datconnlimit FROM pg_database WHERE datname = '{name}'")
        assert limit == "-1", name
    host.sh("test -e /etc/redis/redis-own.conf; rm /etc/redis/redis-own.conf")
    host.sh("cd /; runuser -u postgres -- dropdb own; runuser -u postgres -- dropdb copy")
    for one in kept(host).values():
        host.sh(f"cd / && {one['remove']}")
    apply(host).changed_nothing()
