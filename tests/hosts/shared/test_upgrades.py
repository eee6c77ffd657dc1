"""What changes under a host: a new lock of Salt, a new PostgreSQL."""

import re

from lab import machine
from tests.hosts.applied import apply


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
