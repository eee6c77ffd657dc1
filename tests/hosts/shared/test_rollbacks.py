"""Going back to an earlier release, and what an operator reads of releases."""

import json
import re

import pytest

from tests.hosts.applied import apply
from tests.hosts.client import Client
from tests.hosts.conftest import ROOT
from tests.hosts.mirrored import DOMAIN, MIRROR, colour, nothing_is_left

pytestmark = pytest.mark.alike


@pytest.fixture(scope="module")
def mirror(host, lab, pillar):
    """A client of the app mirror, deployed in blue."""
    lab.build(ROOT / "tests/apps/mirror", host.python)
    pillar.merge(app={"mirror": MIRROR | {"config": MIRROR["config"] | {"COLOUR": "blue"}}})
    apply(host).succeeded()
    return Client(host.address, DOMAIN)


def test_a_rollback_restores_the_config_too_and_holds(host, mirror, pillar, release):
    pillar.merge(app={"mirror": {"config": {"COLOUR": "black", "ONLY_NEW": "1"}}})
    apply(host).succeeded()
    bad = release()
    assert host.salt("release.rollback", "mirror") == f"mirror: v{bad - 1} serves and is held; v{bad} was left"
    assert (release(), colour(mirror)) == (bad - 1, "blue")
    assert "ONLY_NEW" not in mirror.get("/environ").json()["environ"]
    # The hold is reported.
    applied = apply(host).changed_nothing()
    said = applied.states["app-release-mirror"]["comment"]
    what = f"mirror is held at v{bad - 1}, and what the pillar declares does not serve"
    assert re.match(rf"{what}: v{bad} was rolled back by \S+ at \d{{4}}-", said)
    # The note follows the JSON that a program reads, and ends the report with any output options.
    assert f"\nnote: {said}\n" in applied.output
    assert applied.states["base-notes"]["warnings"] == [said]
    for options in ([], ["--state-output=terse", "--state-verbose=False", "--no-color"]):
        report = host.run("salt-call", "--retcode-passthrough", *options, "state.apply", "test=True").stdout
        assert report.endswith(f"\nnote: {said}\n")
        assert report.count("is held") == 1
    assert re.search(rf"(?m)^ +v{bad - 1} +serving, held ", host.run("salt-call", "release.list", "mirror").stdout)
    assert colour(mirror) == "blue"
    # A changed config ends the hold.
    pillar.merge(app={"mirror": {"config": {"COLOUR": "white"}}})
    apply(host).succeeded()
    assert (release(), colour(mirror)) == (bad + 1, "white")
    assert apply(host).changed_nothing().states["app-release-mirror"]["comment"] == f"v{bad + 1} serves"
    # The next rollback skips the release that was left.
    host.salt("release.rollback", "mirror")
    assert release() == bad - 1
    host.salt("release.rollback", "mirror", str(bad))
    assert (release(), colour(mirror)) == (bad, "black")
    # The hold stays however often one goes back: the pillar is compared with the release that it last made.
    apply(host).changed_nothing()
    assert release() == bad
    host.salt("release.unhold", "mirror")
    apply(host).succeeded()
    assert colour(mirror) == "white"
    nothing_is_left(host)


def test_a_rollback_across_a_migration_needs_force(host, mirror, new_build, release):
    new_build("with a migration", migrations__0001="# a table")
    apply(host).succeeded()
    number = release()
    new_build("with two migrations", migrations__0002="# another")
    apply(host).succeeded()
    new_build("with two migrations and more", migrations__0002="# another")
    apply(host).succeeded()
    # Both releases have the same migrations, so this rollback needs no force.
    host.salt("release.rollback", "mirror")
    assert release() == number + 1
    done = host.run("salt-call", "release.rollback", "mirror", check=False)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert (
        f"mirror: v{number + 1} has run migrations of its code that v{number} does not have. If v{number} works with"
        in said
    )
    assert "Traceback" not in said
    host.salt("release.rollback", "mirror", "force=True")
    assert release() == number
    host.salt("release.unhold", "mirror")
    apply(host).succeeded()


def test_a_release_that_is_not_there_cannot_be_gone_back_to(host, mirror):
    for number, word in (("999", "999"), ("v0", "v0"), ("x", "x")):
        done = host.run("salt-call", "release.rollback", "mirror", number, check=False)
        assert done.returncode != 0
        assert f"mirror: {word}: no release to go back to; expected one of v" in done.stdout + done.stderr
    done = host.run("salt-call", "release.rollback", "miror", check=False)
    assert "miror: no app of this host has this name; expected one of faq, mirror, tickets" in done.stdout + done.stderr


def test_hold_and_unhold(host, mirror, pillar, release):
    number = release()
    assert host.salt("release.hold", "mirror") == f"mirror: v{number} is held until release.unhold mirror"
    pillar.merge(app={"mirror": {"config": {"COLOUR": "grey"}}})
    said = apply(host).changed_nothing().states["app-release-mirror"]["comment"]
    assert said.startswith(f"mirror is held at v{number}, and what the pillar declares does not serve: it is held by ")
    host.salt("release.unhold", "mirror")
    apply(host).succeeded()
    assert (release(), colour(mirror)) == (number + 1, "grey")


def test_what_happened_can_be_read_and_no_value_with_it(host, mirror, pillar, release):
    number = release()
    # By default these commands print tables.
    table = host.run("salt-call", "release.list", "mirror").stdout.splitlines()
    assert table[1].split()[:5] == ["release", "state", "version", "build", "created"]
    assert host.run("salt-call", "release.log", "mirror").stdout.splitlines()[1].split()[:2] == ["time", "who"]
    listed = host.salt("release.list", "mirror")
    assert len(table) == len(listed) + 2
    assert listed[0] | {"version": "", "build": "", "created": ""} == {
        **{"release": f"v{number}", "state": "serving", "version": "", "build": "", "created": "", "reason": ""}
    }
    shown = host.salt("release.show", "mirror")
    assert shown["number"] == number
    assert shown["variables"] == sorted(shown["variables"])
    assert "COLOUR" in shown["variables"]
    log = host.salt("release.log", "mirror")
    assert log[-1]["event"].startswith("serves (from v")
    assert log[-1]["what"] == "changed COLOUR"
    for command in ("release.list", "release.show", "release.log"):
        table = host.run("salt-call", command, "mirror").stdout
        assert f"v{number}" in table or command == "release.show"
        assert "canary" not in table
    assert "canary" not in host.sh("cat /srv/apps/mirror/release.log").stdout
    assert "canary" not in json.dumps([listed, shown, log])


def test_a_dry_run_tells_exactly_what_the_run_does(host, mirror, pillar, release):
    pillar.merge(app={"mirror": {"config": {"COLOUR": "gold", "MORE": "1"}}})
    number = release()
    dry = apply(host, "test=True").succeeded().states["app-release-mirror"]["changes"]
    real = apply(host).succeeded().states["app-release-mirror"]["changes"]
    assert dry == real
    assert real["release"] == {"old": f"v{number}", "new": f"v{number + 1}"}
    assert real["variables"] == {"added": ["MORE"], "changed": ["COLOUR"]}
    assert real["processes"]["start"] == [f"mirror.v{number + 1}.{name}" for name in ("web.1", "web.2", "worker.1")]
    assert real["processes"]["stop"] == [f"mirror.v{number}.{name}" for name in ("web.1", "web.2", "worker.1")]


def test_a_process_that_keeps_dying_is_told(host, mirror):
    for _ in range(3):
        pid = host.sh('supervisorctl status | awk \'/^mirror.*worker.1/ {sub(",", "", $4); print $4}\'').stdout.strip()
        host.sh(f"kill -9 $(pgrep -o -P {pid}); sleep 4")
    applied = apply(host)
    assert applied.failed.keys() == {"app-release-mirror"}
    said = applied.failed["app-release-mirror"]
    assert re.search(
        r"mirror\.v\d+\.worker\.1 ended 3 times in the last 10 minutes, at last with terminated by SIGKILL", said
    )
    host.sh("journalctl --rotate -q; journalctl --vacuum-time=1s -q")


def test_one_off_processes_run_as_the_app_does(host, mirror):
    said = host.run(
        "mirror-run", "python", "-c", "import os; print(os.environ['COLOUR'], os.getcwd(), os.getuid())"
    ).stdout
    shade, directory, user = said.split()
    assert shade == "gold"
    assert directory.startswith("/srv/apps/mirror/builds/")
    assert user == host.sh("id -u mirror").stdout.strip()
    assert host.run("mirror-run", "sh", "-c", "exit 7", check=False).returncode == 7
    assert host.run("mirror-run", "cat", input="as it is\n").stdout == "as it is\n"
    assert host.run("mirror-run", "printf", "%s|", "a b", '"$HOME"', "*").stdout == 'a b|"$HOME"|*|'
    missing = host.run("mirror-run", "absent", check=False)
    assert (missing.returncode, missing.stderr) == (127, "mirror-run: absent: No such file or directory\n")
    assert host.run("mirror-run", check=False).stderr == "usage: mirror-run COMMAND [ARGUMENT ...]\n"
    other = host.run("runuser", "-u", "faq", "--", "mirror-run", "id", check=False)
    assert (other.returncode, other.stderr) == (1, "mirror-run: not root: run it with sudo\n")
    # With a terminal, the command gets one of its own and cannot reach root's; tests/unit/test_terminal.py tries more.
    ways = ("", " | cat", " </dev/null 2>&1 | cat")
    script = "; ".join(["tty", *(f"mirror-run sh -c 'ls -l /proc/self/fd; tty </dev/tty'{way}" for way in ways)])
    roots, shown = host.run("script", "-qec", script, "/dev/null").stdout.split("\n", 1)
    assert roots.startswith("/dev/pts/") and "/dev/pts/" in shown
    assert f"{roots.strip()}\r" not in shown
