"""Places: the connections that a service takes beyond those of its apps, and how many one app can hold."""

import pytest

from saltern import places, services
from saltern.settings.defaults import with_defaults
from tests.unit.rows import host

HOSTS = {
    "db": host("database", address="10.0.0.2"),
    "cache": host("cache", address="10.0.0.3"),
    "web1": host("app", address="10.0.0.4"),
    "web2": host("app", address="10.0.0.5"),
    "all": host(environment="production", address="10.0.0.9"),
}


# No host has other services.
NOWHERE = {service.role: [] for service in services.resources()}


def bounds(schemas, minion_id, peers):
    """Return a host's limits, one a line, and its places."""
    settings = {kind: with_defaults(schemas[kind], {}) for kind in services.formulas()} | {
        "postgres": {"max_connections": 100, "pool_clients": 500},
        "redis": {
            "maxclients": 1000,
            "instances": {
                "shop": {"port": 8099},
                "faq": {"port": 8199, "maxclients": 10},
                "pages": {"port": 8198},
                "replaced": {},
            },
        },
        "app": {
            "shop": {"port": 8000, "formation": {"web": 42}, "site": {"routes": {}}},
            "faq": {"port": 8100, "formation": {"worker": 42}, "site": {"routes": {}}},
        },
        "firewall": {},
    }
    places.derive(settings, HOSTS, minion_id, NOWHERE | peers)
    found = {name: one["places"] for name, one in settings["redis"]["instances"].items()}
    lines = [
        f"{one['name']} {one['address']}:{one['ports'][0]} {len(one['ports'])} {one['connections']}"
        for one in settings["firewall"]["bounds"]
    ]
    return lines, found | {"postgres": settings["postgres"]["places"]}


ONE = {role: ["all"] for role in ("app", "database", "cache")}
MANY = {"app": ["web1", "web2"], "database": ["db"], "cache": ["cache"]}
# Each app host has a relay of its own.
MAIL = {"app": ["web1", "web2", "all"], "mail": ["web1", "web2"]}


@pytest.mark.parametrize(
    "minion_id, peers, expected",
    [
        (
            "all",
            ONE,
            [
                "postgres :5432 1 100",
                "postgres pool :[6432, 6433] 1 500",
                "redis faq :8199 1 10",
                "redis :[8092, 8099] 220 1000",
            ],
        ),
        (
            "web2",
            MANY,
            [
                "postgres 10.0.0.2:5432 1 100",
                "postgres pool 10.0.0.2:[6432, 6433] 1 500",
                "redis faq 10.0.0.3:8199 1 10",
                "redis 10.0.0.3:[8092, 8099] 220 1000",
            ],
        ),
        ("web2", MAIL, ["mail :25 1 33"]),
        ("all", MAIL, []),
        # No app runs there.
        ("db", MANY, []),
        # No host provides them.
        ("web1", {"app": ["web1"], "database": [], "cache": []}, []),
    ],
    ids=["all on one host", "an app host", "its own relay", "no relay", "a database host", "without services"],
)
def test_an_app_host_bounds_each_user_towards_each_service(schemas, minion_id, peers, expected):
    lines, found = bounds(schemas, minion_id, peers)
    assert lines == expected
    assert found == {"postgres": 300, "shop": 3000, "faq": 30, "pages": 3000, "replaced": 3000}


@pytest.mark.parametrize(
    "allowed, hosts, expected",
    [(100, 1, 100), (100, 2, 100), (100, 3, 66), (100, 10, 20), (10, 1, 10), (10, 10, 2), (10, 50, 2)],
)
def test_a_user_has_all_that_is_allowed_or_twice_an_equal_part(allowed, hosts, expected):
    assert places.bound(allowed, hosts) == expected


@pytest.mark.parametrize("hosts", range(1, 51))
@pytest.mark.parametrize("allowed", [100, 1000, 9999])
def test_one_app_on_all_hosts_leaves_what_the_others_may_use(allowed, hosts):
    assert places.places(allowed) - hosts * places.bound(allowed, hosts) >= allowed


def test_a_bound_counts_for_each_user_and_port():
    rules = places.rules(
        [
            {"name": "postgres", "address": "", "ports": [5432], "connections": 100},
            {"name": "redis", "address": "10.0.0.3", "ports": [[8090, 8099], 8199], "connections": 66},
        ]
    )
    counted = "ct state new add @clients { meta skuid . tcp dport ct count over"
    assert rules == [
        f'oifname "lo" tcp dport {{ 5432 }} {counted} 100 }} reject with tcp reset comment "postgres"',
        f'ip daddr 10.0.0.3 tcp dport {{ 8090-8099, 8199 }} {counted} 66 }} reject with tcp reset comment "redis"',
    ]


@pytest.mark.parametrize(
    "ports, expected",
    [([], []), ([7], [7]), ([9, 7], [7, 9]), ([3, 1, 2], [[1, 3]]), ([5, 1, 2, 9, 8], [[1, 2], 5, [8, 9]])],
)
def test_ports_without_a_gap_are_a_range(ports, expected):
    assert places.ranges(ports) == expected


def test_an_instance_that_comes_changes_no_rule(schemas):
    settings = {kind: with_defaults(schemas[kind], {}) for kind in services.formulas()} | {
        "postgres": {"max_connections": 100, "pool_clients": 500},
        "redis": {"maxclients": 1000, "instances": {}},
        "app": {"shop": {"port": 8000, "formation": {"web": 40}, "site": {"routes": {}}}},
        "firewall": {},
    }
    places.derive(settings, HOSTS, "all", NOWHERE | ONE)
    before = settings["firewall"]["bounds"]
    settings["redis"]["instances"] = {"shop": {"port": 8099}, "pages": {"port": 8090}}
    places.derive(settings, HOSTS, "all", NOWHERE | ONE)
    assert settings["firewall"]["bounds"] == before
    assert before[2]["ports"][0] == [8090, 8099]
