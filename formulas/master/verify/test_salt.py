"""Salt: a masterless host, a minion, and a master."""

import pytest
import yaml


@pytest.fixture(scope="module")
def minion(host):
    """The configuration of the host's own Salt."""
    return yaml.safe_load(host.file("/etc/salt/minion").content_string)


def runs(host, name):
    """Whether a service is active, and whether it is enabled: each False where there is no such unit."""
    return tuple(host.run(f"systemctl {question} %s", name).rc == 0 for question in ("is-active", "is-enabled"))


def test_it_converges_from_its_own_tree_or_from_a_master_that_it_knows(host, minion):
    is_remote = minion["file_client"] == "remote"
    assert runs(host, "salt-minion") == (is_remote, is_remote)
    if is_remote:
        assert len(minion["master_finger"]) == len(":".join(["00"] * 32))


def test_a_master_runs_and_accepts_no_key_by_itself(host, roles):
    is_master = "master" in roles
    assert runs(host, "salt-master") == (is_master, is_master)
    if is_master:
        master = yaml.safe_load(host.file("/etc/salt/master").content_string)
        assert (master["auto_accept"], master["open_mode"]) == (False, False)
        for path in ("/etc/salt/pki/master", "/var/cache/salt/master"):
            assert (host.file(path).user, host.file(path).mode) == ("root", 0o700)


def test_an_app_host_was_not_left_drained(host, roles):
    if "app" in roles:
        assert not host.file("/run/saltern-drained").exists
