"""What changes under a host: a new lock of Salt, a new PostgreSQL, and packages while something else holds apt."""

import re

import pytest

from lab import machine
from tests.hosts.applied import apply


@pytest.mark.alike("trixie")
def test_bootstrap_with_a_new_lock_upgrades(host, tree, edited):
    build = (tree / "requirements/build.txt").read_text()
    (added,) = re.findall(r"^wheel==.*(?:\n    --hash.*)+", build, re.MULTILINE)
    before = host.sh("readlink /opt/saltern/current").stdout
    assert host.run("/opt/saltern/current/bin/python", "-c", "import wheel", check=False).returncode
    edited("requirements/salt.txt", "\nmsgpack==", f"\n{added}\nmsgpack==")
    assert host.run("/srv/saltern/bootstrap.sh", env=machine.index_environment()).stdout.splitlines()[-1] == (
        "bootstrap.sh: dev is ready; converge it with: salt-call state.apply"
    )
    host.run("/opt/saltern/current/bin/python", "-c", "import wheel")
    after = host.sh("readlink /opt/saltern/current").stdout
    assert after != before
    assert host.sh("ls /opt/saltern").stdout.split() == sorted([after.strip(), "current"])
    apply(host).changed_nothing()


def test_an_empty_cluster_is_never_made_beside_an_older_populated_one(host):
    version = host.sh("ls /etc/postgresql").stdout.strip()
    older = str(int(version) - 1)
    both = "/var/lib/postgresql /etc/postgresql"
    host.sh(f"systemctl stop supervisor postgresql@{version}-main")
    host.sh(f"for path in {both}; do mv $path/{version} $path/{older}; done")
    for arguments in (("postgres", "test=True"), ("postgres",)):
        comment = apply(host, *arguments).failed["postgres-cluster"]
        assert comment.startswith(f"Cluster {older}/main holds data, and Debian's version is {version} now.")
        assert f"pg_upgradecluster -v {version} {older} main" in comment
        assert host.sh("ls /var/lib/postgresql").stdout.split() == [older]
    host.sh(f"for path in {both}; do rm -rf $path/{version}; mv $path/{older} $path/{version}; done")
    host.sh("systemctl start supervisor")
    apply(host).succeeded()
    apply(host).changed_nothing()


# Holds apt's lock until it is killed.
HOLD = """
import fcntl, time
file = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(file, fcntl.LOCK_EX)
open("/run/lock-is-held", "w").close()
time.sleep(600)
"""


def hold(host):
    """Have a process hold apt's lock."""
    host.run("sh", "-c", 'setsid python3 -c "$0" >/dev/null 2>&1 &', HOLD)
    host.sh("timeout 60 sh -c 'until [ -e /run/lock-is-held ]; do sleep 0.1; done'; rm /run/lock-is-held")


def let_go(host):
    """End the process that holds apt's lock."""
    host.sh("pkill -f '[l]ock-frontend'")


@pytest.mark.alike
def test_a_run_that_waits_for_apt_says_for_whom(host):
    host.sh("apt-get -qq remove less >/dev/null 2>&1")
    hold(host)
    # The lock is held until the run says that it waits, however long Salt takes until then.
    applied = apply(host, line=lambda text: let_go(host) if "this run waits for it" in text else None).succeeded()
    assert applied.changed == {"base-packages"}
    held = r"PID \d+ \(python3\) holds /var/lib/dpkg/lock-frontend"
    assert re.search(rf"^apt: {held}; this run waits for it, 300 s at most$", applied.output, re.MULTILINE)
    assert re.fullmatch(rf"It was waited for: {held}", applied.states["base-apt-free"]["comment"])
    # A run that installs nothing does not wait.
    hold(host)
    assert apply(host).changed_nothing().states["base-apt-free"]["comment"] == "No package is to be installed"
    let_go(host)
