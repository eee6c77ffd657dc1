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


def made(directory, minion_id, rows, key=None):
    """A host of an inventory, with the app shop."""
    host = Host(directory, minion_id)
    host.declare("hosts.yaml", rows)
    for name in ("secrets", "environments"):
        host.declare(f"{name}/dev.sls", {"ephemeral": True} if name == "environments" else {})
    host.merge(
        {"app": {"faq": None, "tickets": None, "shop": SHOP}, "etcd": {"extra": {"ETCD_SNAPSHOT_COUNT": "50000"}}}
    )
    given = certificates(minion_id, rows[minion_id]["address"])
    host.declare(f"certificates/dev/{minion_id}.sls", {"certificates": given})
    return host


@pytest.fixture(scope="module", params=["db1", "app1"])
def host(request, tmp_path_factory):
    """A member, or an app host."""
    return made(tmp_path_factory.mktemp(request.param), request.param, HOSTS)


def test_a_member_is_told_the_members_and_whom_it_believes(host):
    if host.id == "db1":
        text = host.ask("slsutil.renderer", "path=salt://etcd/files/etcd.env.jinja", "default_renderer=jinja")
        for line in (
            "ETCD_NAME=db1",
            "ETCD_INITIAL_CLUSTER=db1=https://10.0.0.1:2380",
            "ETCD_LISTEN_CLIENT_URLS=https://127.0.0.1:2379,https://10.0.0.1:2379",
            "ETCD_CLIENT_CERT_AUTH=true",
            "ETCD_PEER_CLIENT_CERT_AUTH=true",
            "ETCD_SNAPSHOT_COUNT=50000",
        ):
            assert line in text.splitlines()
        cluster = host.ask("settings.load", "etcd")["cluster"]
        assert f"ETCD_DATA_DIR=/var/lib/etcd/saltern-{cluster}\nETCD_INITIAL_CLUSTER_TOKEN=saltern-{cluster}\n" in text


def test_an_app_host_is_told_the_members_and_that_it_is_drained(host):
    if host.id == "app1":
        told = host.ask("app.leases")
        assert {word: told[word] for word in ("host", "etcd", "apps", "alone", "drained")} == {
            "host": "app1",
            "etcd": {"db1": "10.0.0.1"},
            "apps": ["app1", "app2"],
            "alone": False,
            "drained": True,
        }


def test_each_host_has_its_part_and_no_other(host):
    ids = {state["__id__"] for state in host.states()}
    own = {"etcd-package", "etcd-config", "etcd-certificate", "etcd-service", "etcd-loaded"}
    client = {"app-etcd-certificate", "app-leases-settings"}
    assert ids & (own | client) == (own if host.id == "db1" else client)


def test_the_key_of_no_host_is_in_a_state(host):
    assert "PRIVATE KEY" not in json.dumps(host.states())


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
