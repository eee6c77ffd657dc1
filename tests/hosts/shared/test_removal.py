"""What leaves the pillar leaves the host, except data: it is kept, closed, listed, and back when declared again."""

import json
import shutil
import threading
import time

import pytest

from lab.worktree import commit
from tests.hosts.applied import apply, as_told, converged
from tests.hosts.client import Client
from tests.hosts.conftest import ROOT
from tests.hosts.examples import SHARES, UNITS
from tests.hosts.kept import (
    DOMAIN,
    HOG,
    LEAVE,
    MIRROR,
    OTHER,
    OTHERS,
    SHARED,
    asked,
    commanded,
    environ,
    in_environ,
    kept,
    pids,
    redis,
    sql,
    value,
)

pytestmark = pytest.mark.alike("trixie")

# pg_hba.conf changes when a database comes or goes.
ACCESS = {"postgres-access", "postgres-access-loaded"}


@pytest.fixture(scope="module")
def mirror(host, lab, pillar):
    """A client of the app mirror, with data in its database and in its Redis instance."""
    lab.build(ROOT / "tests/apps/mirror", host.python)
    pillar.merge(app={"mirror": MIRROR})
    apply(host).succeeded()
    sql(host, "CREATE TABLE kept (text text); INSERT INTO kept VALUES ('Größe')")
    assert redis(host, "SET kept Größe") == "OK"
    return Client(host.address, DOMAIN)


def test_a_removed_domain_is_no_longer_served(host, mirror, pillar):
    before = pids(host, "mirror.")
    pillar.merge(app={"mirror": {"domains": [DOMAIN]}})
    assert as_told(host) == {"nginx-config", "nginx-certificate-mirror"}
    assert Client(host.address, OTHER).get("/healthz").text == "No app has this domain.\n"
    assert mirror.get("/healthz").status_code == 200
    assert pids(host, "mirror.") == before


def test_a_removed_process_type_is_stopped(host, mirror, pillar):
    before = pids(host, "mirror.")
    pillar.merge(app={"mirror": {"formation": {"worker": None}}})
    assert as_told(host) == {"app-release-mirror"}
    assert pids(host, "mirror.") == {name: pid for name, pid in before.items() if ".worker." not in name}
    assert host.run("pgrep", "-u", "mirror", "-f", "worker", check=False).stdout == ""


def test_a_database_that_is_no_longer_attached_is_closed_kept_and_given_back(host, mirror, pillar):
    url = value(host, "DATABASE_URL")
    host.sh(f"cd /; setsid psql -XAtq '{url}' -c 'SELECT pg_sleep(600)' >/dev/null 2>/tmp/session & sleep 1")
    pillar.merge(app={"mirror": {"attach": {"DATABASE_URL": None}}})
    assert as_told(host) == {"app-release-mirror", "postgres-retired"} | SHARES
    assert "terminating connection" in host.sh("cat /tmp/session").stdout
    assert host.run("psql", url, "-c", "SELECT 1", check=False).returncode != 0
    assert asked(host, "SELECT rolname FROM pg_roles WHERE rolname ~ '^mirror' AND rolcanlogin") == ""
    assert asked(host, "SELECT datconnlimit FROM pg_database WHERE datname = 'mirror_data'") == "0"
    assert asked(host, "SELECT text FROM kept") == "Größe"
    assert "mirror_data" not in host.sh("cat /etc/postgresql/*/main/pg_hba.conf").stdout
    assert kept(host).keys() == {"postgres:mirror_data"}
    assert mirror.get("/healthz").status_code == 200
    pillar.merge(app={"mirror": {"attach": MIRROR["attach"]}})
    assert as_told(host) == ACCESS | {"postgres-attachment-mirror_data", "app-release-mirror"} | SHARES
    assert sql(host, "SELECT text FROM kept") == "Größe"
    assert kept(host) == {}


def test_an_instance_that_is_no_longer_attached_is_stopped_kept_and_given_back(host, mirror, pillar):
    both = "redis.call('SET','queued','job') redis.call('SET','other','job')"
    # Redis writes it to the append-only file as a transaction.
    redis(host, f'EVAL "{both}" 0')
    pillar.merge(app={"mirror": {"attach": {"REDIS_URL": None}}})
    assert as_told(host) == {"app-release-mirror", "redis-retired"} | UNITS
    assert ":8399 " not in host.sh("ss -Hltn").stdout
    state = host.run("systemctl", "is-enabled", "redis-server@mirror-jobs", check=False).stdout.strip()
    assert state == "disabled"
    assert host.run("test", "-e", "/etc/redis/redis-mirror-jobs.conf", check=False).returncode == 1
    assert kept(host).keys() == {"redis:mirror-jobs"}
    pillar.merge(app={"mirror": {"attach": MIRROR["attach"]}})
    states = {f"redis-{state}-mirror-jobs" for state in ("data", "users", "config", "service")}
    assert as_told(host) == states | UNITS | {"app-release-mirror"}
    assert redis(host, "MGET kept queued other").split() == ["Größe", "job", "job"]
    assert kept(host) == {}


def test_of_two_databases_the_one_that_leaves_is_closed_and_the_role_stays(host, mirror, pillar):
    pillar.merge(app={"mirror": {"attach": {"DATABASE_URL": {"postgres": "mirror_new"}}}})
    states = ACCESS | {"app-release-mirror", "postgres-retired"}
    assert as_told(host) == states | {"postgres-attachment-mirror_new"}
    assert sql(host, "SELECT current_database()") == "mirror_new"
    other = 'psql "$(echo "$DATABASE_URL" | sed s/mirror_new/mirror_data/)" -c "SELECT 1"'
    refused = host.run("mirror-run", "sh", "-c", other, check=False)
    assert "no pg_hba.conf entry" in refused.stderr
    # The role owns another database, so that only the database is dropped.
    assert kept(host)["postgres:mirror_data"]["remove"] == "setsid --wait runuser -u postgres -- dropdb mirror_data"
    pillar.merge(app={"mirror": {"attach": MIRROR["attach"]}})
    assert as_told(host) == states | {"postgres-attachment-mirror_data"}
    assert sql(host, "SELECT text FROM kept") == "Größe"
    host.sh(f"cd / && {kept(host)['postgres:mirror_new']['remove']}")
    assert kept(host) == {}
    apply(host).changed_nothing()


def test_an_app_has_several_resources_in_parts_and_another_app_reads_one(host, mirror, pillar, verify):
    pillar.merge(**SHARED)
    converged(host)
    verify(host, "postgres", "redis")
    own, faqs = environ(host, "mirror", "PGHOST"), environ(host, "faq", "MIRROR_URL")
    # libpq reads these variables by itself.
    who = "SELECT current_user || '@' || current_database()"
    assert in_environ(host, own, "psql", "-XAtqc", who).stdout.strip() == "mirror@mirror_archive"
    assert sql(host, who) == "mirror@mirror_data"
    assert "allkeys-lru" in commanded(host, own, "CACHE_", "CONFIG", "GET", "maxmemory-policy")
    assert "noeviction" in redis(host, "CONFIG GET maxmemory-policy")
    assert commanded(host, faqs, "JOBS_", "EXISTS", "kept").strip() == "1"
    assert "NOPERM" in commanded(host, faqs, "JOBS_", "SET", "kept", "x")

    def read(statement, variable="MIRROR_URL"):
        return in_environ(host, faqs, "psql", "-XAtq", faqs[variable], "-c", statement)

    assert read("SELECT text FROM kept").stdout.strip() == "Größe"
    for statement in ("INSERT INTO kept VALUES ('x')", "DELETE FROM kept", "CREATE TABLE mine (n int)"):
        assert "permission denied" in read(statement).stderr
    sql(host, "CREATE SCHEMA later; CREATE TABLE later.made AS SELECT 7 AS n")
    assert read("SELECT n FROM later.made").stdout.strip() == "7"
    # With access ``whole``, the tables that faq makes belong to the owner. This login does not open the owner's other
    # database.
    assert read("CREATE TABLE made (n int)", "ARCHIVE_URL").returncode == 0
    assert in_environ(host, own, "psql", "-XAtqc", "INSERT INTO made VALUES (1)").returncode == 0
    other = faqs["ARCHIVE_URL"].replace("/mirror_archive", "/mirror_data")
    assert "pg_hba.conf rejects connection" in in_environ(host, faqs, "psql", other, "-c", "SELECT 1").stderr
    # The owner cannot give the database up while faq attaches it.
    pillar.merge(app={"mirror": {"attach": {"DATABASE_URL": None}}})
    assert apply(host).mistakes == [
        "app.faq.attach.MIRROR_URL.postgres: no app has the database mirror_data as its own; expected one that its app "
        "shares"
    ]
    pillar.merge(
        app={
            "mirror": {"attach": MIRROR["attach"] | {"PG": None, "CACHE": None}},
            "faq": {"attach": {"MIRROR_URL": None, "JOBS": None, "ARCHIVE_URL": None}},
        },
        postgres={"databases": None},
        redis={"instances": None},
    )
    converged(host)
    assert read("SELECT 1").returncode != 0
    assert asked(host, "SELECT count(*) FROM pg_roles WHERE rolname ~ ':'") == "0"
    assert "faq" not in host.sh("cat /etc/saltern/redis/mirror-jobs.users").stdout
    assert sql(host, "DROP SCHEMA later CASCADE; SELECT text FROM kept") == "Größe"
    left = kept(host)
    assert left.keys() == {"postgres:mirror_archive", "redis:mirror-cache"}
    for one in left.values():
        host.sh(f"cd / && {one['remove']}")
    assert kept(host) == {}


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


ROTATED = {
    "postgres": {"databases": {"mirror_data": {"password": "rotated-0123456789-abcdef"}}},
    "redis": {"instances": {"mirror-jobs": {"password": "rotated-redis-0123456789"}}},
}


def test_a_password_that_is_replaced_is_valid_until_no_release_has_it(host, mirror, pillar):
    def has_both():
        return (sql(host, "SELECT text FROM kept"), redis(host, "GET kept")) == ("Größe", "Größe")

    old = value(host, "DATABASE_URL")
    pillar.merge(app={"mirror": {"config": {"FAIL": "boot"}}}, **ROTATED)
    assert apply(host).failed.keys() == {"app-release-mirror"}
    assert value(host, "DATABASE_URL") == old
    assert has_both()
    pillar.merge(app={"mirror": {"config": {"FAIL": None}}})
    assert converged(host) == {"app-release-mirror", "postgres-retired", "redis-retired"}
    assert has_both()
    assert host.run("psql", old, "-c", "SELECT 1", check=False).returncode != 0
    # The earlier release gets today's passwords, not its own.
    host.salt("release.rollback", "mirror")
    assert has_both()
    host.salt("release.unhold", "mirror")
    # The rollback names the attachment that is gone, and nothing changes.
    pillar.merge(app={"mirror": {"attach": {"REDIS_URL": None}}}, redis={"instances": None})
    converged(host)
    before = pids(host, "mirror.")
    refused = host.run("salt-call", "release.rollback", "mirror", check=False)
    why = "the Redis instance mirror-jobs is no longer attached, which it has as REDIS_URL"
    assert (refused.returncode != 0, why in refused.stdout + refused.stderr) == (True, True)
    assert pids(host, "mirror.") == before
    pillar.merge(app={"mirror": {"attach": MIRROR["attach"]}}, postgres={"databases": None})
    converged(host)
    assert has_both()


def test_clients_that_do_not_read_take_no_more_memory_than_they_may(host, mirror):
    found = json.loads(host.run("mirror-run", "python", "-c", HOG).stdout)
    print(found)
    assert found["ended"] == [7] * 6
    # Data may take 64 MB and clients 64 MB.
    assert found["most"] < 140 << 20


def test_an_app_that_is_renamed_goes_on_where_what_takes_its_place_is_refused(host, mirror, lab, pillar, tmp_path):
    before = pids(host, "mirror.")
    code = tmp_path / "glass"
    shutil.copytree(ROOT / "tests/apps/mirror", code)
    commit(code)
    pillar.restore()
    lab.build(code, host.python)
    pillar.merge(app={"glass": MIRROR})
    for arguments in (("test=True",), ()):
        failed = apply(host, *arguments).failed
        assert failed["postgres-attachment-mirror_data"].startswith(
            "app.glass.attach: the database mirror_data holds the data of mirror; expected a name of its own. "
        )
        assert "the Redis instance mirror-jobs holds the data of mirror" in failed["redis-data-mirror-jobs"]
        assert {"nginx-config", "app-retired"} <= failed.keys()
    assert mirror.get("/healthz").status_code == 200
    assert pids(host, "mirror.") == before
    assert (sql(host, "SELECT text FROM kept"), redis(host, "GET kept")) == ("Größe", "Größe")
    pillar.restore()
    lab.build(ROOT / "tests/apps/mirror", host.python)
    pillar.merge(app={"mirror": MIRROR})
    assert "app-retired" in converged(host)
    # The worker runs again too.
    assert before.items() <= pids(host, "mirror.").items()


def test_an_app_that_is_no_longer_declared_leaves_the_host_but_its_data(host, mirror, pillar, verify):
    url, others = value(host, "DATABASE_URL"), pids(host, "faq.", "tickets.")
    uid = host.sh("id -u mirror").stdout.strip()
    host.sh("setsid mirror-run sh -c 'trap : TERM; touch /tmp/left; while :; do sleep 1; done' >/dev/null 2>&1 &")
    host.sh("timeout 10 sh -c 'until [ -e /tmp/left ]; do sleep 0.1; done'")
    answers = []
    slow = threading.Thread(target=lambda: answers.append(mirror.get("/slow?6").status_code))
    host.salt("app.maintenance", "mirror", "on", "allow=0.0.0.0/0")
    pillar.restore()
    dry = apply(host, "test=True").succeeded().changed
    slow.start()
    time.sleep(1)
    assert apply(host).succeeded().changed == dry
    slow.join()
    gone = {"app-retired", "app-limits-retired", "postgres-retired", "redis-retired", "nginx-certificates-retired"}
    assert dry == {"nginx-config", "app-dbus", "app-dbus-read"} | gone | UNITS | SHARES
    # The request in flight was answered.
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
    assert host.sh("ls /var/lib/saltern/maintenance").stdout == ""
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
    # The app's new user gets another UID.
    host.sh("for name in one two three; do useradd --system filler-$name; done")
    lab.build(ROOT / "tests/apps/mirror", host.python)
    pillar.merge(app={"mirror": MIRROR})
    converged(host)
    assert (sql(host, "SELECT text FROM kept"), redis(host, "GET kept")) == ("Größe", "Größe")
    assert sql(host, "INSERT INTO kept VALUES ('and more') RETURNING 1") == "1"
    assert mirror.get("/healthz").status_code == 200
    assert kept(host) == {}
    host.sh("for name in one two three; do userdel filler-$name; done")


MOUNTED = "/srv/apps/mirror/tmp/mounted", "/srv/apps/mirror/builds/*/media"


def test_files_of_an_app_are_data_and_its_user_id_is_given_to_nobody(host, mirror, pillar):
    host.run("mirror-run", "sh", "-c", LEAVE)
    host.sh(OTHERS)
    # The next app of this name begins with v1 again, and must not inherit these three ends.
    assert host.sh("readlink /srv/apps/mirror/current").stdout == "releases/1\n"
    for _ in range(3):
        runs = "supervisorctl status mirror.v1.worker.1 | grep -q RUNNING"
        host.sh(f"timeout 60 sh -c 'until {runs}; do sleep 0.2; done'")
        launcher = pids(host, "mirror.")["mirror.v1.worker.1"].rstrip(",")
        host.sh(f"pkill -9 -P {launcher}; sleep 2")
    assert "mirror.v1.worker.1 ended 3 times" in apply(host).failed["app-release-mirror"]
    uid = host.sh("id -u mirror").stdout.strip()
    pillar.restore()
    apply(host).succeeded()
    # A directory that is mounted in the app's is not deleted, even one of the same disk, and no link leads root
    # elsewhere.
    assert host.sh(f"cat /root/own/file /root/media/file {' '.join(f'{path}/file' for path in MOUNTED)}").stdout == (
        "mine\n" * 4
    )
    host.sh(f"umount {' '.join(MOUNTED)}; rm /root/own/file; test -s /etc/passwd")
    left = "/tmp/of-mirror /srv/apps/mirror/tmp/of-mirror /srv/apps/mirror/tmp/link /var/spool/cron/crontabs/mirror"
    assert host.sh(f"ls -d {left} /var/lib/systemd/linger/mirror 2>/dev/null || true").stdout == ""
    assert host.sh("cat /srv/apps/mirror/home/photo /var/tmp/of-mirror").stdout == "photo\nit\n"
    others = "cat /srv/apps/mirror/home/shared/of-another /srv/apps/mirror/tmp/shared/of-another"
    assert host.sh(others).stdout == "theirs\n" * 2
    assert host.sh("stat -c '%U %a' /srv/apps/mirror").stdout == "root 700\n"
    user = host.sh("getent passwd mirror").stdout.split(":")
    assert (user[2], user[5], user[6].strip()) == (uid, "/nonexistent", "/usr/sbin/nologin")
    found = kept(host)["files:mirror"]
    # builds is kept because of the mount, and tmp because of another user's file.
    directories = [f"/srv/apps/mirror/{name}" for name in ("builds", "home", "tmp")]
    assert found["paths"] == [*directories, "/var/tmp/of-mirror"]
    apply(host).changed_nothing()


def test_the_commands_that_are_listed_remove_it_for_good(host, mirror, lab, pillar):
    said = "".join(host.sh(f"cd / && {one['remove']}").stdout for one in kept(host).values())
    stays = ", ".join(f"/srv/apps/mirror/{name}" for name in ("builds", "home", "tmp"))
    assert f"what others have there stays, for root alone: {stays}" in " ".join(said.split())
    assert kept(host) == {}
    assert host.run("getent", "passwd", "mirror", check=False).returncode == 2
    assert host.sh("ls -d /srv/apps/mirror/home/photo /var/tmp/of-mirror 2>/dev/null || true").stdout == ""
    assert host.sh("cat /srv/apps/mirror/*/shared/of-another").stdout == "theirs\n" * 2
    assert host.sh("stat -c '%U:%G %a' /srv/apps/mirror/home /srv/apps/mirror/tmp").stdout == "root:root 700\n" * 2
    host.sh("rm -r /srv/apps/mirror")
    assert "No data of an app or an attachment that is gone is kept" in host.sh("salt-call app.orphans").stdout
    command = "psql -XAtq -c \"SELECT count(*) FROM pg_roles WHERE rolname = 'mirror'\""
    assert host.sh(f"cd / && runuser -u postgres -- {command}").stdout.strip() == "0"
    assert host.sh("ls -A /var/lib/redis | grep -c mirror || true").stdout.strip() == "0"
    apply(host).changed_nothing()
    lab.build(ROOT / "tests/apps/mirror", host.python)
    pillar.merge(app={"mirror": MIRROR})
    converged(host)
    apply(host).changed_nothing()
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
