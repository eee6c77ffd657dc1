"""The firewall: what is open to whom, the text for nft, and who would be shut out by new rules."""

import pytest

from saltern import firewall, inventory
from saltern.settings.check import check
from saltern.settings.defaults import with_defaults
from tests.unit.rows import host

EVERYWHERE = ["0.0.0.0/0", "::/0"]
HOSTS = {
    "db": host("database", address="10.0.0.2"),
    "cache": host("cache", address="10.0.0.3"),
    "web1": host("app", address="10.0.0.4"),
    "web2": host("app", address="10.0.0.6"),
    "front": host("proxy", address="10.0.0.17"),
    "nothing": {"environment": "dev", "roles": [], "address": "10.0.0.8"},
    "all": host(environment="production", address="10.0.0.9"),
    "elsewhere": host("app", "proxy", environment="staging", address="10.0.0.10"),
}
APPS = {
    "shop": {"port": 8000, "attach": {"FAQ": {"service": "faq"}, "DB": {"postgres": "shop"}}, "formation": {"web": 2}},
    "faq": {"port": 8100, "attach": {}, "formation": {"web": 1}},
    "jobs": {"port": 8200, "attach": {"SHOP": {"service": "shop", "url": "https://x"}}, "formation": {"worker": 1}},
    "idle": {"port": 8300, "attach": {}, "formation": {"web": 0}},
}
SSH = "tcp 22 ssh: 0.0.0.0/0 ::/0"
OPEN = {
    "nothing": [SSH],
    "front": [SSH, "tcp 80 http: 0.0.0.0/0 ::/0", "tcp 443 https: 0.0.0.0/0 ::/0"],
    "web1": [SSH, "tcp 8100 app faq: 10.0.0.6/32 10.0.0.17/32", "tcp 8000 app shop: 10.0.0.17/32"],
    "web2": [SSH, "tcp 8100 app faq: 10.0.0.4/32 10.0.0.17/32", "tcp 8000 app shop: 10.0.0.17/32"],
    "db": [SSH, "tcp 5432 postgres: 10.0.0.4/32 10.0.0.6/32"],
    "cache": [SSH, "tcp 8099 redis shop: 10.0.0.4/32 10.0.0.6/32"],
    # It has all roles and is alone in its environment.
    "all": [SSH, "tcp 80 http: 0.0.0.0/0 ::/0", "tcp 443 https: 0.0.0.0/0 ::/0"],
    "elsewhere": [SSH, "tcp 80 http: 0.0.0.0/0 ::/0", "tcp 443 https: 0.0.0.0/0 ::/0"],
}


@pytest.fixture(scope="session")
def opened(schemas):
    """Return a function that lists a host's openings, one a line."""

    def lines(minion_id, http3=False, **declared):
        assert check({"firewall": schemas["firewall"]}, {"firewall": declared}) == []
        complete = {
            "firewall": with_defaults(schemas["firewall"], declared),
            "app": APPS,
            "nginx": {"http3": http3},
            "postgres": {"databases": {"shop": {"owner": "shop"}}},
            "redis": {"instances": {"shop": {"owner": "shop", "port": 8099}}},
        }
        peers = {role: inventory.peers(HOSTS, minion_id, role) for role in ("app", "proxy", "etcd")}
        found = firewall.opened(complete, HOSTS, minion_id, peers)
        return [f"{one['protocol']} {one['port']} {one['name']}: {' '.join(one['networks'])}" for one in found]

    return lines


def test_http3_is_udp_and_only_at_proxies(opened):
    assert opened("front", http3=True) == [*OPEN["front"], "udp 443 http3: 0.0.0.0/0 ::/0"]
    assert opened("web1", http3=True) == OPEN["web1"]


@pytest.mark.parametrize("minion_id", OPEN)
def test_what_a_role_serves_is_open_to_those_who_need_it_alone(opened, minion_id):
    assert opened(minion_id) == OPEN[minion_id]


def test_etcd_is_open_to_app_hosts_and_its_members_to_each_other():
    rows = {
        f"{role}{index}": {"environment": environment, "roles": [role], "address": f"10.0.{number}.{index}"}
        for number, (role, environment) in enumerate([("app", "a"), ("etcd", "a"), ("proxy", "a"), ("etcd", "b")])
        for index in (1, 2, 3)
        if (role, environment) != ("etcd", "b")
    }
    peers = {role: inventory.peers(rows, "etcd1", role) for role in ("app", "proxy", "etcd")}
    settings = {"firewall": {"ssh": [], "ssh_port": 22, "allow": {}}, "app": {}}
    found = {one["name"]: (one["port"], one["networks"]) for one in firewall.opened(settings, rows, "etcd1", peers)}
    assert found == {
        "etcd": (2379, ["10.0.0.1/32", "10.0.0.2/31"]),
        "etcd members": (2380, ["10.0.1.2/31"]),
    }


def test_ssh_is_open_to_the_operators_networks_at_the_declared_port(opened):
    assert opened("nothing", ssh=["2001:db8::/32", "10.9.0.0/16", "10.1.2.3/32"], ssh_port=2222) == [
        "tcp 2222 ssh: 10.1.2.3/32 10.9.0.0/16 2001:db8::/32"
    ]


def test_what_an_operator_allows_is_open(opened):
    allow = {
        "metrics": {"port": 9100, "networks": ["10.2.0.0/16"]},
        "dns": {"port": 53, "protocol": "udp", "networks": ["::/0"]},
    }
    assert opened("nothing", allow=allow) == [SSH, "udp 53 allow dns: ::/0", "tcp 9100 allow metrics: 10.2.0.0/16"]


@pytest.mark.parametrize(
    "networks, expected",
    [
        (["10.0.0.0/9", "10.128.0.0/9"], ["10.0.0.0/8"]),
        (["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32"], ["10.0.0.0/8"]),
        (["::/0", "0.0.0.0/0", "10.0.0.0/8"], EVERYWHERE),
        (["2001:DB8:0::/48"], ["2001:db8::/48"]),
    ],
)
def test_networks_that_overlap_are_made_one_since_nft_refuses_them(networks, expected):
    assert firewall.collapsed(networks) == expected


RULES = {
    "everywhere": (EVERYWHERE, ['tcp dport 5432 accept comment "x"']),
    "IPv4": (
        ["10.0.0.4/32", "10.0.0.6/32"],
        ['ip saddr { 10.0.0.4/32, 10.0.0.6/32 } tcp dport 5432 accept comment "x"'],
    ),
    "IPv6": (["2001:db8::/32"], ['ip6 saddr { 2001:db8::/32 } tcp dport 5432 accept comment "x"']),
    "all of IPv4 alone": (["0.0.0.0/0"], ['ip saddr { 0.0.0.0/0 } tcp dport 5432 accept comment "x"']),
    "both": (
        ["10.0.0.0/8", "::/0"],
        [
            'ip saddr { 10.0.0.0/8 } tcp dport 5432 accept comment "x"',
            'ip6 saddr { ::/0 } tcp dport 5432 accept comment "x"',
        ],
    ),
}


@pytest.mark.parametrize("networks, expected", RULES.values(), ids=RULES)
def test_an_opening_is_a_rule_for_each_kind_of_address(networks, expected):
    opening = {"name": "x", "protocol": "tcp", "port": 5432, "networks": networks}
    assert firewall.rules([opening]) == expected


MISTAKES = {
    "10.0.0.0/8": "",
    "0.0.0.0/0": "",
    "10.1.2.3/32": "",
    "2001:db8::/32": "",
    "2001:DB8:0:0::1/128": "",
    "::/0": "",
    "10.0.0.1/8": "has an address inside the network; expected its first one",
    "2001:db8::1/32": "has an address inside the network; expected its first one",
    "10.0.0.0/33": "is no network; expected one such as 10.0.0.0/8",
    "10.0.0/8": "is no network; expected one such as 10.0.0.0/8",
    "10.0.0.256/32": "is no network; expected one such as 10.0.0.0/8",
    "::1::/64": "is no network; expected one such as 10.0.0.0/8",
    "::ffff:10.0.0.0/104": "is a network of IPv4 in the form of IPv6; expected it as IPv4",
}


@pytest.mark.parametrize("network", MISTAKES)
def test_an_invalid_network_is_told_by_path(schemas, network):
    declared = {
        "ssh": ["192.0.2.0/24", network],
        "allow": {"metrics": {"port": 1, "networks": [network]}},
    }
    # The following are networks only by their looks.
    assert check({"firewall": schemas["firewall"]}, {"firewall": declared}) == []
    found = firewall.mistakes(declared)
    if not MISTAKES[network]:
        assert found == []
        return
    assert [message.partition(": ")[0] for message in found] == [
        "firewall.ssh[1]",
        "firewall.allow.metrics.networks[0]",
    ]
    for message in found:
        assert message.partition(": ")[2].startswith(MISTAKES[network])
        assert network not in message


@pytest.mark.parametrize(
    "declared, message",
    [
        ({"ssh": []}, "firewall.ssh: not acceptable; expected list that is not empty without repeats"),
        ({"ssh": ["everywhere"]}, "firewall.ssh[0]: not acceptable; expected a network such as 10.0.0.0/8"),
        ({"ssh": ["10.0.0.1"]}, "firewall.ssh[0]: not acceptable; expected a network such as 10.0.0.0/8"),
        ({"allow": {"x": {"port": 1}}}, "firewall.allow.x.networks: missing; expected list"),
        (
            {"allow": {"x": {"port": 0, "networks": ["::/0"]}}},
            "firewall.allow.x.port: not acceptable; expected integer",
        ),
        (
            {"allow": {"x": {"port": 1, "networks": ["::/0"], "protocol": "icmp"}}},
            "firewall.allow.x.protocol: expected one of tcp, udp",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_told_by_path(schemas, declared, message):
    (found,) = check({"firewall": schemas["firewall"]}, {"firewall": declared})
    assert found.startswith(message)


OPENINGS = [
    {"name": "ssh", "protocol": "tcp", "port": 22, "networks": ["10.9.0.0/16", "2001:db8::/32"]},
    {"name": "allow backup", "protocol": "tcp", "port": 22, "networks": ["192.0.2.1/32"]},
    {"name": "allow other", "protocol": "udp", "port": 22, "networks": ["0.0.0.0/0"]},
    {"name": "allow second", "protocol": "tcp", "port": 2022, "networks": EVERYWHERE},
]
CONNECTIONS = {
    "nobody, and no sshd": (set(), set(), []),
    "nobody": ({22}, set(), []),
    "an operator": ({22}, {(22, "10.9.1.1"), (22, "2001:db8::1")}, []),
    "an operator, as sshd may write the address": ({22}, {(22, "::ffff:10.9.1.1")}, []),
    "somebody who is allowed by name": ({22}, {(22, "192.0.2.1")}, []),
    "the host itself": ({22}, {(22, "127.0.0.1"), (22, "::1")}, []),
    "somebody else": (
        {22},
        {(22, "10.8.1.1")},
        ["firewall.ssh: 10.8.1.1 is connected by ssh and would not be let in again; expected a network"],
    ),
    "somebody else over IPv6": ({22}, {(22, "fe80::1%eth0")}, ["firewall.ssh: fe80::1 is connected by ssh and "]),
    "an operator at another port, for which systemd listens": (
        set(),
        {(2222, "10.9.1.1")},
        ["firewall.ssh_port: 10.9.1.1 is connected by ssh to port 2222; expected that one"],
    ),
    "an operator at a second port, which is open": ({22, 2022}, {(2022, "10.9.1.1")}, []),
    "an sshd at another port": ({2222}, set(), ["firewall.ssh_port: sshd listens at 2222; expected that port"]),
}


@pytest.mark.parametrize("listening, connections, expected", CONNECTIONS.values(), ids=CONNECTIONS)
def test_who_would_be_shut_out_is_named(listening, connections, expected):
    found = firewall.shut_out(OPENINGS, 22, listening, connections)
    assert len(found) == len(expected)
    for message, start in zip(found, expected, strict=True):
        assert message.startswith(start)


@pytest.mark.parametrize(
    "connections, expected",
    [
        ([], ""),
        ([("127.0.0.1", 5432, 40000), ("::1", 80, 40001)], ""),
        (
            [("10.0.0.1", 4505, 40000), ("::ffff:10.0.0.2", 22, 40001)],
            "add element inet saltern before4 { 10.0.0.1 . 4505 . 40000 timeout 1d, "
            "10.0.0.2 . 22 . 40001 timeout 1d }\n",
        ),
        (
            [("fe80::1%eth0", 443, 40000), ("10.0.0.1", 443, 40001)],
            "add element inet saltern before4 { 10.0.0.1 . 443 . 40001 timeout 1d }\n"
            "add element inet saltern before6 { fe80::1 . 443 . 40000 timeout 1d }\n",
        ),
    ],
)
def test_connections_that_can_be_older_than_the_rules_are_found(connections, expected):
    assert firewall.before(connections) == expected
