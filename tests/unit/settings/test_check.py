"""Settings: every message about a mistake; no message contains a value."""

import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from saltern import inventory
from saltern.settings.check import check
from tests.unit.settings.declared import SHA256, SHOP, shop

ROOT = Path(__file__).parents[3]


APP_KEYS = (
    "attach, build, config, contract, count, domains, formation, grace, health, in_flight, jobs, keep_releases, "
    "limits, order, port, provides, release_timeout, site, unpacked"
)
BUILT = "expected a mapping of source and sha256, as bin/build --declare writes it"
DOMAINS = "expected list without repeats (The domains at which the proxy serves the app)"
MEMORY = "expected an amount such as 128MB, in kB, MB or GB"
VARIABLE = "expected a variable's name of letters, digits and underscores that Saltern or the shell does not set itself"
NAME = "a name that cannot be used here; expected"
USER = "a user's name of lower-case letters, digits, hyphens and underscores"
ROUTE = "a path of at most 200 characters such as /ws/ or /ws, without a part . or .."
LONG = "is too long; expected at most 200 characters"
FORMULAS = ", ".join(sorted(path.parent.name for path in (ROOT / "formulas").glob("*/settings.yaml")))
MISTAKES = {
    # An unknown key, at each depth, with what was probably meant.
    "an unknown formula": ({"ngnix": {}}, ["ngnix: unknown setting; did you mean 'nginx'?"]),
    "an unknown formula like no other": (
        {"zzz": {}},
        [
            f"zzz: unknown setting; expected one of {FORMULAS}",
        ],
    ),
    "an unknown setting": ({"nginx": {"gzpi": True}}, ["nginx.gzpi: unknown setting; did you mean 'gzip'?"]),
    "an unknown setting like no other": (
        {"supervisor": {"zzz": 1}},
        ["supervisor.zzz: unknown setting; expected one of minfds"],
    ),
    "a setting by its former name": (
        shop(drain={"requests": 60}),
        ["app.shop.drain: is called 'in_flight' now; rename it"],
    ),
    "an unknown setting of an app": (shop(domain=[]), ["app.shop.domain: unknown setting; did you mean 'domains'?"]),
    "an unknown setting of an app like no other": (
        shop(zzz=1),
        [f"app.shop.zzz: unknown setting; expected one of {APP_KEYS}"],
    ),
    "an unknown setting four deep": (
        shop(attach={"DATABASE_URL": {"postgre": "shop"}}),
        ["app.shop.attach.DATABASE_URL.postgre: unknown setting; did you mean 'postgres'?"],
    ),
    "an unknown setting of a database": (
        {"postgres": {"databases": {"shop": {"pasword": "x"}}}},
        ["postgres.databases.shop.pasword: unknown setting; did you mean 'password'?"],
    ),
    # Names that the operator chooses.
    "an app with a system user's name": (
        {"app": {"www-data": SHOP}},
        [f"app.www-data: {NAME} a name of lower-case letters, digits and hyphens that is no system user's"],
    ),
    "a certificate with an endless name": (
        {"base": {"ca_certificates": {"a" * 64: "x"}}},
        [f"base.ca_certificates.{'a' * 64}: {NAME} a name of up to 63 lower-case letters, digits and hyphens"],
    ),
    "a variable that Saltern sets": (shop(config={"PORT": "1"}), [f"app.shop.config.PORT: {NAME} {VARIABLE[9:]}"]),
    "a variable with a hyphen": (shop(config={"A-B": "1"}), [f"app.shop.config.A-B: {NAME} {VARIABLE[9:]}"]),
    "a variable with a newline": (shop(config={"A\n": "1"}), [f"app.shop.config.A\\n: {NAME} {VARIABLE[9:]}"]),
    "a process type in capitals": (
        shop(formation={"Worker": 1}),
        [
            "app.shop.formation.Worker: a name that cannot be used here; expected a process type of the Procfile; did "
            "you mean 'worker'?"
        ],
    ),
    "a user with a colon": (
        shop(site={"access": {"users": {"a:da": "canary"}}}),
        [f"app.shop.site.access.users.a:da: {NAME} {USER}; did you mean 'ada'?"],
    ),
    "a password and paths that are too long": (
        shop(
            site={
                "access": {"users": {"ada": "x" * 201}, "paths": [f"/{'x' * 200}"]},
                "routes": {f"/{'x' * 70}": "web", f"/{'x' * 200}": "web"},
                "path": f"/{'x' * 199}/",
            }
        ),
        [
            f"app.shop.site.access.paths[0]: {LONG}",
            f"app.shop.site.access.users.ada: {LONG}",
            f"app.shop.site.path: {LONG}",
            f"app.shop.site.routes./{'x' * 76}...: {NAME} {ROUTE}",
        ],
    ),
    "a formation of the release process": (
        shop(formation={"release": 1}),
        [f"app.shop.formation.release: {NAME} a process type of the Procfile"],
    ),
    "a name of 200 characters is cut": (
        {"app": {"x" * 200: SHOP}},
        [
            f"app.{'x' * 77}...: {NAME} a name of lower-case letters, digits and hyphens that is no system user's",
        ],
    ),
    # Names that YAML does not read as text.
    "a name that YAML reads as a boolean": (
        {"nginx": {True: 1}},
        ["nginx.True: YAML reads this name as boolean; expected text; put it in quotes"],
    ),
    "a name that YAML reads as a number": (
        {8000: {}},
        ["8000: YAML reads this name as integer; expected text; put it in quotes"],
    ),
    "a name that YAML reads as nothing, in a list": (
        shop(domains=[{None: 1}]),
        [
            "app.shop.domains[0]: found mapping; expected a domain in lower case, such as shop.example.com",
            "app.shop.domains[0].None: YAML reads this name as nothing; expected text; put it in quotes",
        ],
    ),
    # Wrong types.
    "text for a number": (
        {"nginx": {"worker_connections": "4096"}},
        [
            "nginx.worker_connections: found string; expected integer from 64 to 1000000 "
            "(How many connections each worker process may hold, of clients and to processes)"
        ],
    ),
    "a number with a fraction that is none": (
        shop(port=8000.0),
        ["app.shop.port: found number; expected a multiple of 100 from 8000 to 29900"],
    ),
    "a boolean for a number": (
        shop(formation={"web": True}),
        ["app.shop.formation.web: found boolean; expected integer from 0 to 49 (Processes of this type)"],
    ),
    "text for a boolean": (
        {"nginx": {"gzip": "yes"}},
        ["nginx.gzip: found string; expected boolean (Whether nginx compresses text)"],
    ),
    "a number for text": (
        shop(config={"DEBUG": 1}),
        ["app.shop.config.DEBUG: found integer; expected text without NUL; put it in quotes"],
    ),
    "a boolean for text": (
        shop(config={"DEBUG": False}),
        ["app.shop.config.DEBUG: found boolean; expected text without NUL; put it in quotes"],
    ),
    "a date for text": (
        shop(config={"SINCE": datetime.date(2020, 1, 1)}),
        ["app.shop.config.SINCE: found date; expected text without NUL; put it in quotes"],
    ),
    "nothing for text": (
        shop(config={"SECRET_KEY": None}),
        ["app.shop.config.SECRET_KEY: found nothing; expected text without NUL"],
    ),
    "a list for a mapping": (
        {"nginx": []},
        [
            "nginx: found list; expected mapping (The reverse proxy in front of the apps' web processes. "
            "What differs by app is in `app.<name>.site`)"
        ],
    ),
    "nothing for a mapping": (
        shop(config=None),
        ["app.shop.config: found nothing; expected mapping (Its environment variables)"],
    ),
    "text for a list": (
        shop(domains="shop.example.com"),
        [f"app.shop.domains: found string; {DOMAINS}"],
    ),
    # Wrong values.
    "a value out of its bounds": (
        {"postgres": {"max_connections": 3}},
        [
            "postgres.max_connections: not acceptable; expected integer from 10 to 10000 "
            "(How many connections the databases take at once, with three for operators)"
        ],
    ),
    "a value that is not of the form": (
        {"postgres": {"work_mem": "4 MB"}},
        [f"postgres.work_mem: not acceptable; {MEMORY}"],
    ),
    "a value with a newline at its end": (
        {"postgres": {"work_mem": "4MB\n"}},
        [f"postgres.work_mem: not acceptable; {MEMORY}"],
    ),
    "a value with NUL": (
        shop(config={"A": "b\0"}),
        ["app.shop.config.A: not acceptable; expected text without NUL"],
    ),
    "a value that is none of the choices": (
        {"redis": {"maxmemory_policy": "allkeys-lur"}},
        [
            "redis.maxmemory_policy: expected one of noeviction, allkeys-lru, allkeys-lfu, allkeys-random, "
            "volatile-lru, volatile-lfu, volatile-random, volatile-ttl; did you mean 'allkeys-lru'?"
        ],
    ),
    "a value like none of the choices": (
        {"redis": {"appendfsync": "zzz"}},
        ["redis.appendfsync: expected one of always, everysec, no"],
    ),
    "a port between two apps": (
        shop(port=8050),
        ["app.shop.port: not acceptable; expected a multiple of 100 from 8000 to 29900"],
    ),
    "an item of a list": (
        shop(domains=["shop.example.com", "Shop"]),
        ["app.shop.domains[1]: not acceptable; expected a domain in lower case, such as shop.example.com"],
    ),
    "a repeated item": (
        shop(domains=["a.b", "a.b"]),
        [f"app.shop.domains: not acceptable; {DOMAINS}"],
    ),
    "a short password": (
        {"redis": {"instances": {"shop": {"password": "hunter2"}}}},
        ["redis.instances.shop.password: not acceptable; expected 16 to 256 ASCII characters without spaces"],
    ),
    # Missing values.
    "no build and no port": (
        {"app": {"shop": {}}},
        [
            f"app.shop.build: missing; {BUILT}",
            "app.shop.port: missing; expected a multiple of 100 from 8000 to 29900",
        ],
    ),
    "a build without its sha256": (
        shop(build={"source": "/shop.tar.gz"}),
        ["app.shop.build.sha256: missing; expected 64 hexadecimal digits"],
    ),
    # Several at once, by path.
    "several mistakes": (
        {"zzz": 1, "app": {"shop": {"port": "x"}}, "nginx": {"gzip": 1}},
        [
            f"app.shop.build: missing; {BUILT}",
            "app.shop.port: found string; expected a multiple of 100 from 8000 to 29900",
            "nginx.gzip: found integer; expected boolean (Whether nginx compresses text)",
            f"zzz: unknown setting; expected one of {FORMULAS}",
        ],
    ),
}


@pytest.mark.parametrize("declared, expected", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_by_path_with_what_was_expected(schemas, declared, expected):
    assert check(schemas, declared) == expected


ACCEPTED = {
    "nothing": {},
    "an app with all that it must have": shop(),
    "an empty formation": shop(formation={}),
    "a value with all that a shell would touch": shop(config={"A": "% $ ' \" \\ # = \n\t é \u20ac"}),
    "an empty value": shop(config={"A": ""}),
    "salt:// and https://": {
        "app": {
            "a": {"port": 8000, "build": {"source": "salt://builds/a.tar.gz", "sha256": SHA256}},
            "b": {"port": 8100, "build": {"source": "https://builds.example.com/b.tar.gz", "sha256": SHA256}},
        }
    },
    "an app whose name only starts like a system user's": {"app": {"proxy-app": SHOP, "news2": SHOP}},
}


@pytest.mark.parametrize("declared", ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_right_has_no_mistakes(schemas, declared):
    assert check(schemas, declared) == []


def test_a_formula_that_is_not_mentioned_must_have_what_it_requires():
    schemas = {"mail": {"type": "object", "required": ["relay"], "properties": {"relay": {"type": "string"}}}}
    assert check(schemas, {}) == ["mail.relay: missing; expected string"]


@pytest.mark.parametrize("name", ["shop.1", "-shop", "a b", "Shop_1", "shop\n"])
def test_a_host_has_a_host_name(hosts_schema, name):
    row = {"environment": "dev", "roles": [], "address": "10.0.0.1"}
    found = check({"hosts": hosts_schema}, {"hosts": {name: row}})
    assert bool(found) == (name != "shop.1")


@pytest.mark.parametrize("address", ["10.0.0.256", "web1", "10.0.0.1/24", "fe80::1", "10.0.0.1\n", ""])
def test_a_host_has_an_address(hosts_schema, address):
    row = {"environment": "dev", "roles": [], "address": address}
    expected = ["hosts.web1.address: not acceptable; expected an IPv4 address"]
    assert check({"hosts": hosts_schema}, {"hosts": {"web1": row}}) == expected


def test_an_inventory_has_hosts_with_environments_and_roles_that_there_are(hosts_schema):
    roles = ", ".join(inventory.roles([str(ROOT / "salt")]))
    row = {"environment": "prodution", "roles": ["databse", "app", "app"], "adress": "10.0.0.1"}
    assert check({"hosts": hosts_schema}, {"hosts": {"web1": row}}) == [
        "hosts.web1.address: missing; expected an IPv4 address",
        "hosts.web1.adress: unknown setting; did you mean 'address'?",
        "hosts.web1.environment: expected one of dev, production, staging; did you mean 'production'?",
        "hosts.web1.roles: not acceptable; expected list without repeats (What the host is for)",
        f"hosts.web1.roles[0]: expected one of {roles}; did you mean 'database'?",
    ]
    assert check({"hosts": hosts_schema}, {}) == [
        "hosts: not acceptable; expected mapping that is not empty "
        "(The inventory, pillar/hosts.yaml. A row for each host, named by its id)"
    ]


CANARY, CANARY_NUMBER = "hunter2canary", 918273645
NAMES = [
    *(
        "app",
        "nginx",
        "postgres",
        "redis",
        "base",
        "supervisor",
        "ngnix",
        "shop",
        "config",
        "attach",
        "build",
        "sha256",
    ),
    *("source", "port", "domains", "formation", "web", "SECRET_KEY", "DATABASE_URL", "url", "postgres", "databases"),
    *(
        "password",
        "instances",
        "gzip",
        "trusted_proxies",
        "maxmemory_policy",
        "site",
        "extra",
        "health",
        "path",
        "0",
        "",
    ),
]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.just(CANARY_NUMBER),
    st.just(CANARY_NUMBER + 0.5),
    st.just(datetime.date(1987, 6, 5)),
    st.text(max_size=5).map(lambda text: f"{text}{CANARY}{text}"),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=20,
)


@hypothesis_settings(deadline=None, max_examples=300)
@given(declared=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4), in_app=VALUES, in_database=VALUES)
def test_a_message_is_one_line_and_holds_no_value(schemas, declared, in_app, in_database):
    declared = declared | {"app": {"shop": in_app}, "postgres": {"databases": {"shop": in_database}}}
    found = check(schemas, declared)
    assert found == sorted(found, key=lambda message: message.partition(": ")[0])
    for message in found:
        assert message.isprintable()
        assert CANARY not in message
        assert str(CANARY_NUMBER) not in message
        assert "1987" not in message
