"""etcd: its members have a leader, and answer those alone whom the environment's authority knows."""

import json

import pytest

from saltern.apps import takes_leases

MEMBER = "/etc/ssl/saltern/etcd.pem"
CLIENT = "/etc/ssl/saltern/etcd-client.pem"
# Asks a member for a key that nobody has, with a certificate or without, and prints its cluster or the error.
ASK = """
import http.client, json, ssl, sys
address, *certificate = sys.argv[1:]
context = ssl.create_default_context(cafile="/etc/ssl/saltern/ca.pem")
if certificate:
    context.load_cert_chain(*certificate)
try:
    connection = http.client.HTTPSConnection(address, 2379, timeout=10, context=context)
    connection.request("POST", "/v3/kv/range", json.dumps({"key": "AA=="}))
    print(json.dumps(json.loads(connection.getresponse().read())["header"]["cluster_id"]))
except (OSError, http.client.HTTPException) as error:
    print(json.dumps({"error": str(error)}))
"""


@pytest.fixture(scope="module")
def members(settings, roles):
    """The addresses of the members by host id."""
    asks = "app" in roles and any(map(takes_leases, settings["app"].values()))
    if not settings["etcd"]["members"] or not (asks or "etcd" in roles):
        pytest.skip("the host has nothing to do with etcd")
    return settings["etcd"]["members"]


@pytest.fixture(scope="module")
def reached(members, roles, host_id):
    """The addresses of the members that this host may ask: of all on an app host, else its own."""
    return members if "app" in roles else {host_id: members[host_id]}


@pytest.fixture(scope="module")
def own(members, roles):
    """The file of the certificate by which this host is known."""
    return MEMBER if "etcd" in roles else CLIENT


def test_each_member_answers_this_host(python, reached, own):
    found = {name: python(ASK, address, own) for name, address in reached.items()}
    assert all(isinstance(cluster, str) for cluster in found.values()), found
    assert len(set(found.values())) == 1, "all are of one cluster"


def test_nobody_without_a_certificate_is_answered(python, reached):
    for name, address in reached.items():
        assert "error" in python(ASK, address), name


def test_no_app_can_read_the_certificate(host, members, own):
    user = "etcd" if own == MEMBER else "root"
    found = host.file(own)
    assert (found.user, oct(found.mode)) == (user, "0o600")


def test_the_members_have_a_leader(host, members, roles):
    if "etcd" not in roles:
        pytest.skip("the host does not have the role etcd")
    command = "etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/ssl/saltern/ca.pem --cert %s --key %s -w json "
    status = json.loads(host.check_output("ETCDCTL_API=3 " + command + "endpoint status", MEMBER, MEMBER))
    assert status[0]["Status"]["leader"]
    listed = json.loads(host.check_output("ETCDCTL_API=3 " + command + "member list", MEMBER, MEMBER))
    assert {one["name"] for one in listed["members"]} == members.keys()
