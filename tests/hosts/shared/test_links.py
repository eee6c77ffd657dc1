"""A link that a service's or an app's user leaves never leads root to another file."""

import json

import pytest

from tests.hosts.applied import apply
from tests.hosts.written import watch, watched

pytestmark = pytest.mark.alike("bookworm")

CANARY = "/root/canary"
SERVICES = ("postgres", "redis", "www-data")
# Runs as a user: in each directory that the user may write, it makes a link for each file name that a converge writes.
PLANT = """
import json, os, sys
canary, names = sys.argv[1], json.load(sys.stdin)
planted = []
for directory, inside, files in os.walk("/", onerror=lambda error: None):
    if "PG_VERSION" in files:
        # PostgreSQL itself takes offence at what is no file of its.
        inside.clear()
        continue
    inside[:] = [each for each in inside if os.path.join(directory, each) not in ("/proc", "/sys", "/dev")]
    if os.access(directory, os.W_OK):
        for name in names:
            try:
                os.symlink(canary, os.path.join(directory, name))
                planted.append(os.path.join(directory, name))
            except OSError:
                pass
print(json.dumps(planted))
"""


@pytest.fixture
def canary(host):
    """A function that tells whether root's canary file is as it was."""
    host.sh(f"echo as it is >{CANARY}; chmod 600 {CANARY}")
    look = f"cat {CANARY}; stat -c '%a %U %G %h %Y' {CANARY}"
    before = host.sh(look).stdout
    yield lambda: host.sh(look).stdout == before
    host.sh(f"find / -xdev -lname {CANARY} -delete; rm -f {CANARY}")


@pytest.fixture
def other(pillar):
    """A function that changes settings, so that each service's files and a release are written again."""

    def merge(number):
        pillar.merge(
            redis={"maxmemory": f"{64 + number}mb"},
            postgres={"work_mem": f"{number}MB"},
            app={"faq": {"config": {"NUMBER": str(number)}}},
        )

    yield merge
    pillar.restore()


def test_root_writes_and_reads_only_where_nobody_else_can_have_put_what_is_there(host, other, canary):
    other(5)
    watch(host)
    try:
        apply(host).succeeded()
        host.salt("app.orphans")
    finally:
        written, doubts = watched(host)
    assert doubts == []
    version = host.sh("ls /etc/postgresql").stdout.strip()
    assert f"/etc/postgresql/{version}/main/conf.d/saltern.conf" in written
    names = sorted({path.rsplit("/", 1)[1] for path in written} | {"saltern.conf", "pg_hba.conf", "pg_hba.conf.new"})
    planted = []
    for user in (*SERVICES, "faq", "tickets"):
        plant = ("runuser", "-u", user, "--", "python3", "-IS", "-c", PLANT, CANARY)
        planted += json.loads(host.run("sh", "-c", 'cd / && exec "$@"', "sh", *plant, input=json.dumps(names)).stdout)
    # The attack was tried in these directories.
    assert {"/tmp", "/var/lib/redis", "/var/lib/postgresql", "/srv/apps/faq/home"} <= {
        path.rsplit("/", 1)[0] for path in planted
    }
    assert not any(path.startswith("/etc/") for path in planted)
    other(6)
    apply(host).succeeded()
    assert canary()


# By state: the user to whom a package had given the directory, and the file that the user replaced with a link.
GIVEN_AWAY = {
    "redis-directory": ("redis", "/etc/redis/redis-tickets.conf"),
    "postgres-directories": ("postgres", "/etc/postgresql/*/main/conf.d/saltern.conf"),
}


def test_nothing_is_written_through_a_link_from_when_the_directory_was_the_services(host, canary):
    script = 'mv "$1" "/root/$2"; chown "$2" "$(dirname "$1")"; cd /; runuser -u "$2" -- ln -s "$3" "$1"'
    paths = {}
    for state, (user, pattern) in GIVEN_AWAY.items():
        (paths[state],) = host.sh(f"echo {pattern}").stdout.split()
        host.run("sh", "-euc", script, "sh", paths[state], user, CANARY)
    failed = apply(host).failed
    for state, (user, _) in GIVEN_AWAY.items():
        expected = f"{paths[state]}: is a link to {CANARY}, of the user {user}; expected a file. Nothing was written."
        assert failed[state].startswith(expected)
        host.sh(f"rm {paths[state]}; mv /root/{user} {paths[state]}")
    assert canary()
    apply(host).succeeded()
