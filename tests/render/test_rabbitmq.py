"""RabbitMQ on a host of its own: its addresses, its states, and the firewall rules of its app hosts."""

import json

import pytest

from .minion import BUILD, Host, certificates

HOSTS = {
    "mq1": {"environment": "dev", "roles": ["broker"], "address": "10.0.0.1"},
    "app1": {"environment": "dev", "roles": ["app"], "address": "10.0.0.2"},
}
SHOP = {
    "port": 8400,
    "build": BUILD,
    "formation": {"worker": 1},
    "attach": {"CELERY_BROKER_URL": {"rabbitmq": "shop"}, "JOBS_URL": {"rabbitmq": "shop-jobs"}},
}
CANARY = "canary'\"\\<&>%$#{}!"
VHOSTS = {"shop": {"password": f"{CANARY}-1"}, "shop-jobs": {"password": f"{CANARY}-2", "max_connections": 50}}


@pytest.fixture(scope="module", params=HOSTS)
def host(request, tmp_path_factory):
    """One of the two hosts."""
    host = Host(tmp_path_factory.mktemp(request.param), request.param)
    host.declare("hosts.yaml", HOSTS)
    for name in ("secrets", "environments"):
        host.declare(f"{name}/dev.sls", {"ephemeral": True} if name == "environments" else {})
    settings = {"memory": "1gb", "free_disk": "2gb", "job_timeout": 30, "vhosts": VHOSTS}
    host.merge({"app": {"faq": None, "tickets": None, "shop": SHOP}, "rabbitmq": settings})
    address = HOSTS[request.param]["address"]
    host.declare(f"certificates/dev/{request.param}.sls", {"certificates": certificates(request.param, address)})
    return host


def test_the_configuration_has_what_is_declared(host):
    if host.id == "mq1":
        path = "path=salt://rabbitmq/files/rabbitmq.conf.jinja"
        lines = host.ask("slsutil.renderer", path, "default_renderer=jinja").splitlines()
        for line in (
            "listeners.tcp = none",
            "listeners.ssl.1 = 127.0.0.1:5671",
            "listeners.ssl.2 = 10.0.0.1:5671",
            "vm_memory_high_watermark.absolute = 1GB",
            "disk_free_limit.absolute = 2GB",
            "consumer_timeout = 1800000",
        ):
            assert line in lines


def test_a_broker_host_has_the_states_of_each_vhost_and_no_password_in_any(host):
    states = host.states()
    assert "canary" not in json.dumps(states)
    steps = {state["__id__"] for state in states if state["state"] == "resource"}
    vhosts = {"rabbitmq-vhost-shop", "rabbitmq-vhost-shop-jobs"}
    others = {"rabbitmq-guest", "rabbitmq-certificate-served", "rabbitmq-retired"}
    assert {step for step in steps if step.startswith("rabbitmq-")} == (vhosts | others if host.id == "mq1" else set())


def test_its_port_is_open_to_app_hosts_which_bound_each_user(host):
    firewall = host.ask("settings.load", "firewall")
    expected = [{"name": "rabbitmq", "address": "10.0.0.1", "ports": [5671], "connections": 250}]
    assert [one for one in firewall["bounds"] if one["name"] == "rabbitmq"] == (expected if host.id == "app1" else [])
    opened = [one for one in firewall["openings"] if one["name"] == "rabbitmq"]
    networks = [(one["port"], one["networks"]) for one in opened]
    assert networks == ([(5671, ["10.0.0.2/32"])] if host.id == "mq1" else [])


def test_an_app_is_given_a_url_for_each_vhost(host):
    if host.id == "app1":
        for variable, vhost in {"CELERY_BROKER_URL": "shop", "JOBS_URL": "shop-jobs"}.items():
            target = host.ask("attachment.targets", "shop")[variable]
            assert target == {"rabbitmq": vhost}
