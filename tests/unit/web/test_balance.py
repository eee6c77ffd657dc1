"""Balancing: nginx's settings that follow from the inventory."""

from pathlib import Path

import pytest

from saltern.web import balance

ROOT = Path(__file__).parents[3]

ROWS = {
    "lone": (["app", "proxy"], "10.0.0.1"),
    "app1": (["app"], "10.0.0.1"),
    "app2": (["app"], "10.0.0.2"),
    "both2": (["app", "proxy"], "10.0.0.2"),
    "proxy1": (["proxy"], "10.0.0.9"),
    "proxy2": (["proxy"], "10.0.0.8"),
    "db1": (["database", "cache"], "10.0.0.5"),
}


def derived(own, *others, drained=(), domains=("shop.example.com",), path="/healthz", is_published=False):
    """Derive the settings of one host of several, with one app."""
    hosts = {
        name: {"roles": ROWS[name][0], "address": ROWS[name][1], "drain": name in drained} for name in (own, *others)
    }
    peers = {role: sorted(name for name in hosts if role in hosts[name]["roles"]) for role in ("app", "proxy")}
    app = {"port": 8100, "domains": list(domains), "health": {"path": path, "status": 200, "timeout": 5}}
    served = {"shop": app}
    roles = ROWS[own][0]
    nginx = {
        "sites": served if "proxy" in roles and domains else {},
        "fronts": served if "app" in roles else {},
        "guests": {},
    }
    return balance.derive({"nginx": nginx, "app": served}, hosts, own, peers, is_published)


ONE = {"front": True, "site": True, "balanced": False, "outermost": True}
FRONT = {"front": True, "site": False, "balanced": False, "outermost": False}
SITE = {"front": False, "site": True, "balanced": True, "outermost": True}

SERVERS = {
    "a host that is alone has no hop": (["lone"], [ONE], [], []),
    "others of no role to do with it": (["lone", "db1"], [ONE], [], []),
    "one app host, which is also one of two proxies": (["lone", "proxy1"], [ONE], [], ["10.0.0.9/32"]),
    "a proxy of its own for one app host": (["proxy1", "lone"], [SITE], ["lone"], []),
    "an app host": (["app1", "app2", "proxy1", "proxy2"], [FRONT], [], ["10.0.0.9/32", "10.0.0.8/32"]),
    "a proxy": (["proxy1", "app1", "app2"], [SITE], ["app1", "app2"], []),
    "a proxy without an app host": (["proxy1"], [SITE], [], []),
    "both among several": (["both2", "app1"], [FRONT, SITE], ["app1", "both2"], ["10.0.0.2/32"]),
    "an app host without a proxy": (["app1", "app2"], [FRONT | {"outermost": True}], [], []),
    "a database's host": (["db1", "app1"], None, [], []),
}


@pytest.mark.parametrize("names, servers, peers, proxies", SERVERS.values(), ids=SERVERS)
def test_sites_are_balanced_over_the_fronts_of_the_app_hosts(names, servers, peers, proxies):
    found = derived(*names)
    assert found["servers"].get("shop") == servers
    assert [one["id"] for one in found["peers"].get("shop", {"servers": []})["servers"]] == peers
    assert sorted(found["proxies"]) == sorted(proxies)
    assert found["listen"] == ([ROWS[names[0]][1]] if proxies else [])
    assert bool(found["ready"]) == bool(proxies)


def test_a_service_without_a_domain_is_outermost_where_it_is():
    assert derived("app1", "proxy1", domains=())["servers"] == {"shop": [FRONT | {"outermost": True}]}
    assert derived("proxy1", "app1", domains=())["servers"] == {}
    assert derived("proxy1", "app1", domains=())["peers"] == {}


@pytest.mark.parametrize("environment, is_published", [("dev", True), ("staging", False), ("production", False)])
def test_an_ephemeral_hosts_port_is_known_only_to_its_clients(environment, is_published):
    hosts = {"lone": {"roles": ["app", "proxy"], "address": "10.0.0.1", "environment": environment}}
    settings = {"nginx": {"sites": {}, "fronts": {}, "guests": {}}, "app": {}}
    assert balance.derived(settings, hosts, "lone", [str(ROOT / "pillar")])["is_published"] is is_published


def test_a_host_that_is_drained_is_so_at_the_proxies_and_at_itself():
    found = derived("proxy1", "app1", "app2", drained=["app1"])
    assert found["peers"]["shop"] == {
        "status": 200,
        "timeout": 6,
        "servers": [
            {"id": "app1", "address": "10.0.0.1:8100", "drained": True},
            {"id": "app2", "address": "10.0.0.2:8100", "drained": False},
        ],
    }
    assert not found["drained"]
    assert derived("app1", "app2", "proxy1", drained=["app1"])["drained"]


@pytest.mark.parametrize(
    "path, expected",
    [
        ("/healthz", "/healthz"),
        ("/h?deep=1&x=%20", "/h?deep=1&x=%20"),
        ("/$host;}{\"'\\#", "/%24host%3B%7D%7B%22'%5C%23"),
    ],
)
def test_the_path_of_the_health_check_is_nothing_else_to_nginx(path, expected):
    assert derived("app1", "proxy1", path=path)["ready"]["shop"] == {
        "path": expected,
        "host": "shop.example.com",
        "timeout": 5,
    }
