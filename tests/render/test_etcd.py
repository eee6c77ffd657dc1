"""etcd on a host of its own: its members, its states, and what the app hosts of its environment have of it."""

import json

import pytest

from .minion import BUILD, Host, certificates

HOSTS = {
    "db1": {"environment": "dev", "roles": ["etcd"], "address": "10.0.0.1"},
    "app1": {"environment": "dev", "roles": ["app"], "address": "10.0.0.2", "drain": True},
    "app2": {"environment": "dev", "roles": ["app"], "address": "10.0.0.3"},
}
SHOP = {"port": 8400, "build": BUILD, "formation": {"beat": 1}, "count": {"beat": "environment"}}


def made(directory, minion_id, rows, shop=SHOP):
    """A host of an inventory, with the app shop."""
    host = Host(directory, minion_id)
    host.declare("hosts.yaml", rows)
    for name in ("secrets", "environments"):
        host.declare(f"{name}/dev.sls", {"ephemeral": True} if name == "environments" else {})
    host.merge(
        {"app": {"faq": None, "tickets": None, "shop": shop}, "etcd": {"extra": {"ETCD_SNAPSHOT_COUNT": "50000"}}}
    )
    given = certificates(minion_id, rows[minion_id]["address"])
    host.declare(f"certificates/dev/{minion_id}.sls", {"certificates": given})
    return host


@pytest.fixture(scope="module")
def member(tmp_path_factory):
    """The host with the role etcd."""
    return made(tmp_path_factory.mktemp("member"), "db1", HOSTS)


@pytest.fixture(scope="module")
def app_host(tmp_path_factory):
    """A host of apps, one of which has a process that is alone."""
    return made(tmp_path_factory.mktemp("app-host"), "app1", HOSTS)


def test_a_member_is_told_the_members_and_whom_it_believes(member):
    text = member.ask("slsutil.renderer", "path=salt://etcd/files/etcd.env.jinja", "default_renderer=jinja")
    for line in (
        "ETCD_NAME=db1",
        "ETCD_INITIAL_CLUSTER=db1=https://10.0.0.1:2380",
        "ETCD_LISTEN_CLIENT_URLS=https://127.0.0.1:2379,https://10.0.0.1:2379",
        "ETCD_CLIENT_CERT_AUTH=true",
        "ETCD_PEER_CLIENT_CERT_AUTH=true",
        "ETCD_SNAPSHOT_COUNT=50000",
    ):
        assert line in text.splitlines()
    cluster = member.ask("settings.load", "etcd")["cluster"]
    assert f"ETCD_DATA_DIR=/var/lib/etcd/saltern-{cluster}\nETCD_INITIAL_CLUSTER_TOKEN=saltern-{cluster}\n" in text


def test_an_app_host_is_told_the_members_and_that_it_is_drained(app_host):
    (state,) = (one for one in app_host.states() if one["__id__"] == "app-leases-settings")
    assert state["dataset"] == {
        "host": "app1",
        "etcd": {"db1": "10.0.0.1"},
        "cluster": app_host.ask("settings.load", "etcd")["id"],
        "apps": ["app1", "app2"],
        "alone": False,
        "drained": True,
    }


OWN = {"etcd-package", "etcd-config", "etcd-certificate", "etcd-service", "etcd-loaded"}
LEASES = {"app-leases", "app-leases-files", "app-leases-settings"}
CLIENT = LEASES | {"app-etcd-certificate"}
JOBS = {"app-jobs-judged", "app-job-modules", "app-job-runner"}
SWEEP = {"process": "sweep", "every": "10m"}


def among(states):
    """Return the IDs of those states that have to do with etcd, leases or the runner of jobs."""
    return {state["__id__"] for state in states} & (OWN | CLIENT | JOBS)


def test_each_host_has_its_part_and_no_other(member, app_host):
    assert among(member.states()) == OWN
    assert among(app_host.states()) == CLIENT


@pytest.mark.parametrize("host", ["member", "app_host"])
def test_the_key_of_no_host_is_in_a_state(host, request):
    assert "PRIVATE KEY" not in json.dumps(request.getfixturevalue(host).states())


WITHOUT = {name: row for name, row in HOSTS.items() if name == "app2"}
# The rows, what is said of the app shop, and the states.
ASKED = {
    "for nothing": (HOSTS, {"count": {}}, set()),
    "for a job": (HOSTS, {"count": {}, "jobs": {"sweep": SWEEP}}, CLIENT | JOBS),
    "for a process on the only host": (WITHOUT, {}, LEASES),
    "for a job on the only host": (WITHOUT, {"count": {}, "jobs": {"sweep": SWEEP}}, LEASES | JOBS),
}


@pytest.mark.parametrize("rows, said, expected", ASKED.values(), ids=ASKED)
def test_an_app_host_has_of_leases_what_its_apps_ask_for(tmp_path, rows, said, expected):
    states = made(tmp_path, "app2", rows, SHOP | said).states()
    assert among(states) == expected
    (release,) = (state for state in states if state["__id__"] == "app-release-shop")
    assert ({"file": "app-leases-settings"} in release["require"]) is ("app-leases" in expected)


REFUSED = {
    "no host decides": (
        {name: row for name, row in HOSTS.items() if name != "db1"},
        "app.shop.count.beat: several hosts of dev have the role app, and none has the role etcd",
    ),
    "two decide": (
        HOSTS | {"db2": {"environment": "dev", "roles": ["etcd"], "address": "10.0.0.4"}},
        "hosts.db2.roles: 2 hosts of dev have the role etcd (db1, db2), of which more than half must run; expected 1, ",
    ),
}


@pytest.mark.parametrize("rows, message", REFUSED.values(), ids=REFUSED)
def test_an_environment_in_which_nobody_can_decide_is_refused_by_path(tmp_path, rows, message):
    code, output = made(tmp_path, "app1", rows).call("settings.load", "app")
    assert code != 0 and message in output and "Traceback" not in output
