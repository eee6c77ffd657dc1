"""Drift is seen: the journal and the status file name the states that would undo a change by hand."""

import json
import threading
import time

import pytest

from lab.__main__ import drifted
from tests.hosts.applied import apply
from tests.hosts.examples import wait_until_served

pytestmark = pytest.mark.alike("bookworm")

TIMER = "systemctl show saltern-drift.timer --value --property"
# So late that it never runs by itself during the tests.
INTERVAL = 10080


@pytest.fixture(scope="module")
def watched(host, pillar):
    """The host, with the drift timer turned on."""
    pillar.merge(drift={"interval": INTERVAL})
    assert apply(host, "test=True").succeeded().changed == {"drift-schedule", "drift-unit-read", "drift-timer"}
    assert apply(host).succeeded().changed == {"drift-schedule", "drift-unit-read", "drift-timer"}
    apply(host).changed_nothing()
    return host


@pytest.fixture(scope="module")
def secrets(watched):
    """The values of all config and the passwords of all attachments."""
    found = watched.sh("cat /srv/apps/*/current/env/*; sed -n 's/^user .* on #//p' /etc/redis/redis-*.conf").stdout
    return {word for word in found.split() if len(word) >= 8}


def seen(host):
    """Start the service; return its exit code, its lines in the journal, and its status file."""
    before = len(written(host))
    code = host.run("systemctl", "start", "saltern-drift", check=False).returncode
    return code, written(host)[before:], json.loads(host.sh("cat /var/lib/saltern/drift.json").stdout)


def written(host):
    """Return the priority and the text of each drift line in the journal."""
    entries = host.sh("journalctl --sync; journalctl -q -o json -t saltern-drift _UID=0 || true").stdout
    return [(one["PRIORITY"], one["MESSAGE"]) for one in map(json.loads, entries.splitlines())]


def assert_none(host):
    code, ((priority, line),), status = seen(host)
    assert (code, priority, status["result"]) == (0, "6", "none"), line
    assert line == f"nothing would change in {status['states']} states"
    assert status["states"] == len(apply(host, "test=True").states)


def test_a_host_without_drift_says_so(watched):
    assert_none(watched)
    assert watched.sh("stat -c '%U %G %a' /var/lib/saltern/drift.json").stdout.split() == ["root", "root", "644"]
    assert watched.sh("cd /var/lib/saltern; ls -d drift*").stdout.split() == ["drift.json"]


def test_the_timer_asks_as_often_as_is_declared_and_at_every_boot(watched):
    assert "OnUnitActiveUSec=1w" in watched.sh(f"{TIMER}=TimersMonotonic").stdout
    assert watched.sh("systemctl is-enabled saltern-drift.timer").stdout.strip() == "enabled"
    assert watched.sh(f"{TIMER}=ActiveState").stdout.strip() == "active"


DRIFT = {
    "a file was edited": ("echo '# edited' >>/etc/nginx/nginx.conf", ["nginx-config"]),
    "a service and a process were stopped, and a role was given powers": (
        "systemctl stop redis-server@tickets; cd /; runuser -u postgres -- psql -q -c 'ALTER ROLE faq SUPERUSER'; "
        "supervisorctl stop $(supervisorctl avail | sed -n 's/^\\(faq[^ ]*\\).*/\\1/p')",
        ["postgres-attachment-faq", "redis-service-tickets", "app-release-faq"],
    ),
    "a package was removed": ("apt-get -qq remove less", ["base-packages"]),
    "a variable was edited": ("printf x >>/srv/apps/faq/current/env/SECRET_KEY", ["app-release-faq"]),
}


@pytest.mark.parametrize("what", DRIFT)
def test_exactly_the_states_that_would_change_are_named_when(what, watched, secrets):
    script, ids = DRIFT[what]
    watched.sh(f"{{ {script}; }} </dev/null >/dev/null")
    code, ((priority, line),), status = seen(watched)
    assert (code, priority, status["result"]) == (0, "4", "drift")
    assert line == f"{len(ids)} state{'s' if ids[1:] else ''} would change: {' '.join(ids)}"
    assert (status["would_change"], status["failed"]) == (ids, [])
    assert not [secret for secret in secrets if secret in f"{line}{status}"]
    assert apply(watched).succeeded().changed == set(ids)
    wait_until_served(watched)


def test_a_state_that_fails_in_the_dry_run_is_told_as_failed(watched):
    # usermod refuses while the user's processes run.
    watched.sh("sed -i '/^faq:/s,:/srv/apps/faq:,:/nowhere:,' /etc/passwd")
    code, ((priority, line),), status = seen(watched)
    watched.sh("sed -i '/^faq:/s,:/nowhere:,:/srv/apps/faq:,' /etc/passwd")
    assert (code, priority, status["result"]) == (1, "4", "failed")
    assert line.startswith(f"{len(status['failed'])} states failed: app-name-faq ")
    assert "app-release-faq" in status["failed"]
    assert_none(watched)


def test_a_mistake_in_the_pillar_is_told_without_its_values(watched, edited):
    edited("pillar/secrets/dev.sls", "app:\n", "canary: canary\napp:\n")
    code, ((priority, line),), status = seen(watched)
    assert (code, priority, status["result"]) == (1, "4", "failed")
    assert line == (
        "the dry run failed: no state was reached, the pillar or the states have a mistake; "
        "see salt-call state.apply test=True"
    )
    assert "canary" not in watched.sh("journalctl -q --since -1min -o cat").stdout


def test_a_converge_during_a_dry_run_works_and_is_no_drift(watched, pillar):
    for size in ("1m", "2m", "3m"):
        found = []
        asking = threading.Thread(target=lambda found=found: found.extend(seen(watched)))
        asking.start()
        time.sleep(1)
        pillar.merge(app={"faq": {"site": {"body_size": size}}})
        assert apply(watched).succeeded().changed == {"nginx-config"}
        asking.join()
        code, _, status = found
        assert (code, status["result"]) == (0, "none")
    pillar.merge(app={"faq": {"site": None}})
    apply(watched).succeeded()


def test_a_dry_run_that_meets_a_converge_is_made_after_it(watched, pillar):
    slow = threading.Thread(target=lambda: watched.run("salt-call", "state.single", "cmd.run", "sleep 15", check=False))
    slow.start()
    watched.sh("timeout 30 sh -c 'until pgrep -fx \"sleep 15\"; do sleep 0.1; done'")
    assert watched.salt("drift.states")["busy"] is True
    code, _, status = seen(watched)
    assert watched.run("pgrep", "-fx", "sleep 15", check=False).returncode == 1
    slow.join()
    assert (code, status["result"]) == (0, "none")


def test_asked_by_hand_it_prints_what_it_found(watched):
    asked = watched.run("/usr/local/lib/saltern/drift", check=False)
    assert asked.returncode == 0
    assert drifted(asked).startswith("nothing would change in ")
    watched.sh("echo '# edited' >>/etc/nginx/nginx.conf")
    asked = watched.run("/usr/local/lib/saltern/drift", check=False)
    assert (asked.returncode, drifted(asked)) == (1, "1 state would change: nginx-config")
    apply(watched).succeeded()


def test_the_host_is_verified_with_its_status(watched, verify):
    assert_none(watched)
    verify(watched, "drift")
    watched.sh("echo '# edited' >>/etc/nginx/nginx.conf; systemctl start saltern-drift")
    with pytest.raises(AssertionError, match="test_the_last_dry_run_found_none"):
        verify(watched, "drift")
    apply(watched).succeeded()


def test_turning_drift_off_removes_the_timer_and_its_status(watched, pillar, verify):
    pillar.restore()
    expected = {"drift-schedule", "drift-unit-read", "drift-timer"}
    assert apply(watched, "test=True").succeeded().changed == expected
    # A run of the service that is under way would wait for the converge and then write its status.
    watched.sh("systemctl start --no-block saltern-drift")
    assert apply(watched).succeeded().changed == expected
    assert watched.run("systemctl", "is-active", "saltern-drift", check=False).stdout.strip() == "inactive"
    assert watched.sh(f"{TIMER}=ActiveState").stdout.strip() == "inactive"
    assert watched.run("systemctl", "is-enabled", "saltern-drift.timer", check=False).stdout.strip() == "disabled"
    assert watched.sh("find /var/lib/saltern -name '*drift*'").stdout == ""
    apply(watched).changed_nothing()
    verify(watched, "drift")
