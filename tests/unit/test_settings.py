"""Settings: every message about a mistake; no message contains a value."""

import copy
import datetime
import re
import sys
from pathlib import Path

import jinja2
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError

from saltern import inventory
from saltern.paths import Roots
from saltern.services import listed

ROOT = Path(__file__).parents[2]
SHA256 = "0" * 64
BUILD = {"source": "/srv/builds/shop.tar.gz", "sha256": SHA256}
SHOP = {"port": 8000, "build": BUILD}


def shop(**settings):
    return {"app": {"shop": SHOP | settings}}


APP_KEYS = (
    "attach, build, config, contract, domains, formation, grace, health, in_flight, keep_releases, limits, port, "
    "provides, release_timeout, site, unpacked"
)
BUILT = "expected a mapping of source and sha256, as bin/build --declare writes it"
DOMAINS = "expected list without repeats (The domains at which the proxy serves the app)"
MEMORY = "expected an amount such as 128MB, in kB, MB or GB"
VARIABLE = "expected a variable's name of letters, digits and underscores that Saltern or the shell does not set itself"
NAME = "a name that cannot be used here; expected"

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
        ["app.shop.formation.Worker: unknown setting; did you mean 'worker'?"],
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
def test_a_mistake_is_told_by_path_with_what_was_expected(settings, schemas, declared, expected):
    assert settings.check(schemas, declared) == expected


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
def test_what_is_right_has_no_mistakes(settings, schemas, declared):
    assert settings.check(schemas, declared) == []


def test_a_formula_that_is_not_mentioned_must_have_what_it_requires(settings):
    schemas = {"mail": {"type": "object", "required": ["relay"], "properties": {"relay": {"type": "string"}}}}
    assert settings.check(schemas, {}) == ["mail.relay: missing; expected string"]


@pytest.mark.parametrize("name", ["shop.1", "-shop", "a b", "Shop_1", "shop\n"])
def test_a_host_has_a_host_name(settings, hosts_schema, name):
    row = {"environment": "dev", "roles": [], "address": "10.0.0.1"}
    found = settings.check({"hosts": hosts_schema}, {"hosts": {name: row}})
    assert bool(found) == (name != "shop.1")


@pytest.mark.parametrize("address", ["10.0.0.256", "web1", "10.0.0.1/24", "fe80::1", "10.0.0.1\n", ""])
def test_a_host_has_an_address(settings, hosts_schema, address):
    row = {"environment": "dev", "roles": [], "address": address}
    expected = ["hosts.web1.address: not acceptable; expected an IPv4 address"]
    assert settings.check({"hosts": hosts_schema}, {"hosts": {"web1": row}}) == expected


def test_an_inventory_has_hosts_with_environments_and_roles_that_there_are(settings, hosts_schema):
    roles = ", ".join(inventory.roles([str(ROOT / "salt")]))
    row = {"environment": "prodution", "roles": ["databse", "app", "app"], "adress": "10.0.0.1"}
    assert settings.check({"hosts": hosts_schema}, {"hosts": {"web1": row}}) == [
        "hosts.web1.address: missing; expected an IPv4 address",
        "hosts.web1.adress: unknown setting; did you mean 'address'?",
        "hosts.web1.environment: expected one of dev, production, staging; did you mean 'production'?",
        "hosts.web1.roles: not acceptable; expected list without repeats (What the host is for)",
        f"hosts.web1.roles[0]: expected one of {roles}; did you mean 'database'?",
    ]
    assert settings.check({"hosts": hosts_schema}, {}) == [
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
def test_a_message_is_one_line_and_holds_no_value(settings, schemas, declared, in_app, in_database):
    declared = declared | {"app": {"shop": in_app}, "postgres": {"databases": {"shop": in_database}}}
    found = settings.check(schemas, declared)
    assert found == sorted(found, key=lambda message: message.partition(": ")[0])
    for message in found:
        assert message.isprintable()
        assert CANARY not in message
        assert str(CANARY_NUMBER) not in message
        assert "1987" not in message


DEFAULTS_SCHEMA = {
    "type": "object",
    "properties": {
        "gzip": {"type": "boolean", "default": True},
        "networks": {"type": "array", "default": [], "items": {"properties": {"open": {"default": False}}}},
        "site": {"type": "object", "properties": {"timeout": {"type": "integer", "default": 60}}},
        "build": {"type": "object", "x-optional": True, "properties": {"python": {"default": "3.11"}}},
        "owner": {"type": "string"},
    },
    "patternProperties": {"^app-": {"type": "object", "properties": {"port": {"default": 80}}}},
}
COMPLETE = {"gzip": True, "networks": [], "site": {"timeout": 60}}
COMPLETED = {
    "nothing": ({}, COMPLETE),
    "a default that is overlaid": ({"gzip": False}, COMPLETE | {"gzip": False}),
    "a mapping that is half given": ({"site": {}}, COMPLETE),
    "a setting without a default": ({"owner": "shop"}, COMPLETE | {"owner": "shop"}),
    "an optional mapping, once it is given": ({"build": {}}, COMPLETE | {"build": {"python": "3.11"}}),
    "items of a list": ({"networks": [{}, {"open": True}]}, COMPLETE | {"networks": [{"open": False}, {"open": True}]}),
    "named like a pattern": ({"app-a": {}}, COMPLETE | {"app-a": {"port": 80}}),
}


@pytest.mark.parametrize("given_value, expected", COMPLETED.values(), ids=COMPLETED)
def test_defaults_complete_what_is_not_given(settings, given_value, expected):
    before = copy.deepcopy(given_value)
    assert settings.with_defaults(DEFAULTS_SCHEMA, given_value) == expected
    assert given_value == before


def test_a_default_is_a_new_value_each_time(settings):
    settings.with_defaults(DEFAULTS_SCHEMA, {})["networks"].append("10.0.0.0/8")
    assert settings.with_defaults(DEFAULTS_SCHEMA, {}) == COMPLETE


@pytest.mark.parametrize(
    "path, expected",
    [
        (["app", "shop", "domains", 0], "app.shop.domains[0]"),
        (["a\nb"], "a\\nb"),
        (["é"], "\\xe9"),
        (["app", "shop "], "app.'shop '"),
        (["app", ""], "app.''"),
        ([], ""),
    ],
)
def test_a_path_is_one_readable_line(settings, path, expected):
    assert settings.dotted(path) == expected


HOSTS = {"one": {"environment": "dev", "roles": ["database", "cache", "app", "proxy"], "address": "10.0.0.1"}}


@pytest.fixture
def compiled(
    settings,
    dunders,
    request,
    tmp_path,
):
    """``settings.compiled`` with the modules that it asks, on the tree's own formulas."""
    root = request.config.rootpath
    for name, text in {"common.sls": "", "environments/dev.sls": "ephemeral: True\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    salt = {
        "slsutil.renderer": lambda path, default_renderer: yaml.safe_load(
            jinja2.Template(Path(path).read_text()).render()
        ),
    }
    roots = {
        "file_roots": {"base": [str(root / "salt"), str(root / "formulas")]},
        "pillar_roots": {"base": [str(tmp_path)]},
        "cachedir": str(tmp_path),
    }
    dunders(settings, opts=roots, salt=salt)

    def run(pillar, minion_id):
        # The value of hosts comes from the inventory's file.
        if "hosts" in pillar:
            (tmp_path / "hosts.yaml").write_text(yaml.safe_dump(pillar["hosts"]))
        # On a second compile, the pillar has hosts already.
        is_first = "_declared" not in pillar
        files = {key: value for key, value in pillar.items() if not (is_first and key == "hosts")}
        return settings.compiled(files, minion_id)

    return run


BUILT_OF = BUILD | {"processes": ["web", "worker", "release"]}
NO_SUCH = "the declared build has no such process type; expected one of"
FORMATIONS = {
    "what the build has": (BUILT_OF, {"web": 2, "worker": 1}, []),
    "a type that it has not": (
        BUILT_OF,
        {"web": 1, "wroker": 1},
        [f"app.shop.formation.wroker: {NO_SUCH} web, worker; did you mean 'worker'?"],
    ),
    "a type like no other": (BUILT_OF, {"beat": 1}, [f"app.shop.formation.beat: {NO_SUCH} web, worker"]),
    "none of a type that it has not": (BUILT_OF, {"web": 1, "beat": 0}, []),
    "the default, of a build without a web process": (
        BUILD | {"processes": ["worker"]},
        None,
        [f"app.shop.formation.web: {NO_SUCH} worker"],
    ),
    "a build that only releases": (
        BUILD | {"processes": ["release"]},
        None,
        [f"app.shop.formation.web: {NO_SUCH} none"],
    ),
    "a declaration from before it named them": (BUILD, {"wroker": 1}, []),
}


@pytest.mark.parametrize("build, formation, expected", FORMATIONS.values(), ids=FORMATIONS)
def test_a_formation_is_of_what_the_declared_build_has(compiled, build, formation, expected):
    said = {"build": build} | ({"formation": formation} if formation else {})
    assert compiled({"hosts": HOSTS} | shop(**said), "one")[1] == expected


def test_a_value_that_is_a_secret_stands_in_one_file(compiled, tmp_path):
    for name in ("environments", "secrets"):
        (tmp_path / name).mkdir(exist_ok=True)
    secret = (
        "app: {shop: {domains: [b], config: {KEY: canary, OTHER: canary}, attach: {URL: {url: 'redis://canary'}}}}\n"
    )
    (tmp_path / "secrets/dev.sls").write_text(secret)
    (tmp_path / "common.sls").write_text("app: {shop: {port: 8000}}\n")
    assert compiled({"hosts": HOSTS} | shop(), "one")[1] == []
    (tmp_path / "environments/dev.sls").write_text(
        "ephemeral: True\napp: {shop: {domains: [a], config: {KEY: a}, attach: {URL: {url: c}}}}\n"
    )
    (tmp_path / "common.sls").write_text("{% set c = 'c' %}\napp: {shop: {config: {OTHER: {{ c }}}, port: 8000}}\n")
    end = "too; expected in one of them. Remove the other"
    mistakes = compiled({"hosts": HOSTS} | shop(), "one")[1]
    assert [message for message in mistakes if "in one of them" in message] == [
        f"app.shop.attach.URL.url: is in pillar/secrets/dev.sls and in pillar/environments/dev.sls {end}",
        f"app.shop.config.KEY: is in pillar/secrets/dev.sls and in pillar/environments/dev.sls {end}",
        f"app.shop.config.OTHER: is in pillar/secrets/dev.sls and in pillar/common.sls {end}",
    ]
    assert "canary" not in str(mistakes)


def test_a_host_has_the_settings_of_every_formula(compiled, schemas):
    found, mistakes = compiled({"hosts": HOSTS} | shop(), "one")
    assert mistakes == []
    assert {key for key in found if not key.startswith("_")} == {"hosts", *schemas}
    assert found["app"]["shop"]["health"]["path"] == "/healthz"


def test_settings_that_are_compiled_again_stay_the_same(compiled):
    pillar = {"hosts": HOSTS} | shop(attach={"DATABASE_URL": {"postgres": "shop"}, "REDIS_URL": {"redis": "shop"}})
    once, _ = compiled(copy.deepcopy(pillar), "one")
    # Salt lays the files' top-level keys over the existing pillar.
    assert compiled(once | copy.deepcopy(pillar), "one") == (once, [])


@pytest.mark.parametrize(
    "pillar, expected",
    [
        ({"hosts": {}}, "hosts: not acceptable; expected mapping that is not empty (The inventory, pillar/hosts.yaml"),
        (
            {"hosts": {"two": HOSTS["one"]}},
            "hosts.one: missing; expected a row for this host's id in pillar/hosts.yaml",
        ),
        ({"hosts": HOSTS, "zzz": 1}, "zzz: unknown setting; expected one of app"),
        ({"hosts": HOSTS, 1: 1}, "1: YAML reads this name as integer"),
        ({"hosts": HOSTS, "nginx": {}, None: 1}, "None: YAML reads this name as nothing"),
        ({"hosts": HOSTS} | shop(attach={"X": {}}), f"app.shop.attach.X: expected one of {next(iter(listed()))}, "),
    ],
)
def test_the_inventory_the_settings_and_the_attachments_are_checked(compiled, pillar, expected):
    _, mistakes = compiled(copy.deepcopy(pillar), "one")
    assert len(mistakes) == 1
    assert mistakes[0].startswith(expected)


BROKEN = {
    "a bracket that is left open": ("a: [b\n", "line 2, column 1: did not find expected ',' or ']'; expected YAML"),
    "a quote that is left open": ('a: "b\n', "line 2, column 1: found unexpected end of stream; expected YAML"),
    "a tab": ("a:\n\tb: c\n", "line 2, column 1: found character that cannot start any token; expected YAML"),
    "a key twice": ("a: 1\nhunter2: 1\nhunter2: 2\n", "line 3, column 1: found conflicting ID; expected YAML"),
    "a list for a key": ("? [hunter2]\n: 1\n", "line 1, column 3: found unacceptable key; expected YAML"),
    "a value like a tag": (
        "a: !hunter2\n",
        "line 1, column 4: could not determine a constructor for the tag; expected YAML",
    ),
    "a value like an alias": ("a: *hunter2\n", "line 1, column 4: found undefined alias; expected YAML"),
    "a list": ("- hunter2\n", "found list; expected mapping"),
    "another file's content": ("include: [hunter2]\n", "include: not here; expected settings alone"),
    "a list that holds itself": (
        "app: &a [*a]\n",
        "more than 20 lists and mappings inside each other; expected settings",
    ),
    "another encoding": ("a: é\n".encode("latin-1"), "not in UTF-8; expected YAML in UTF-8"),
    "control characters": ("a: \x01\n", "control characters are not allowed; expected YAML"),
    "Jinja that the first line keeps away": (
        "#!yaml\na: {%\n",
        "line 2, column 5: found character that cannot start any token; expected YAML",
    ),
}


@pytest.mark.parametrize("content, message", BROKEN.values(), ids=BROKEN)
def test_a_pillar_file_that_is_no_yaml_is_told_by_line_without_its_content(settings, tmp_path, content, message):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/dev.sls").write_bytes(content if isinstance(content, bytes) else content.encode())
    found = settings.unreadable([str(tmp_path)], ["common.sls", "secrets/dev.sls"])
    assert found == [f"pillar/secrets/dev.sls: {message}"]


UNLOADABLE = {
    **dict.fromkeys(
        ("include: a\n", "include: [1]\n", "include: [null]\n", "include:\n- a: {b: [c]}\n- {}\n", "include:\n"),
        "include: not here; expected settings alone",
    ),
    "include:\n- common\n": "include: not here; expected settings alone",
    "- a\n": "found list; expected mapping",
    "hunter2\n": "found string; expected mapping",
    "a: {}\na: {}\n": "line 2, column 1: found conflicting ID; expected YAML",
    "a:\n\tb: 1\n": "line 2, column 1: found character that cannot start any token; expected YAML",
    "a: *hunter2\n": "line 1, column 4: found undefined alias; expected YAML",
    f"a: {'9' * 5000}\n": "a number that cannot be read; expected YAML; put it in quotes if it is text",
    "a: " + "{a: " * 900 + "1" + "}" * 900: "more than 20 lists and mappings inside each other; expected settings",
    "a: &a {b: *a}\n": "more than 20 lists and mappings inside each other; expected settings",
    **{
        f"#!{name}\na: 1\n": f"line 1: #!{name}: no such renderer here; expected #!yaml, #!jinja|yaml, #!yaml|gpg or "
        "#!jinja|yaml|gpg"
        for name in ("py", "nothere", "gpg", "yaml|mako")
    },
    b"a: \xe9\n": "not in UTF-8; expected YAML in UTF-8",
    None: "cannot be read: Is a directory; expected a file that root may read",
}


@pytest.mark.parametrize("content", UNLOADABLE, ids=lambda content: ascii(content)[:30])
def test_a_pillar_file_that_salt_cannot_load_is_told_once_and_not_given_to_it(settings, dunders, tmp_path, content):
    dunders(settings, salt={}, opts={"pillar_roots": {"base": [tmp_path]}})
    for name in ("common.sls", "environments/dev.sls", "builds/dev.sls"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a: 1\n")
    assert settings.loadable("dev", "one") == ["common", "environments.dev", "builds.dev"]
    path = tmp_path / "environments/dev.sls"
    path.unlink()
    assert settings.loadable("dev", "one") == ["common", "builds.dev"]
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert settings.unreadable([tmp_path], ["environments/dev.sls"]) == [
        f"pillar/environments/dev.sls: {UNLOADABLE[content]}"
    ]
    assert settings.loadable("dev", "one") == ["common", "builds.dev"]


def test_a_pillar_file_that_must_be_there_is_told(compiled, tmp_path):
    (tmp_path / "common.sls").unlink()
    message = "^pillar/common.sls: missing; expected this file: it may be empty$"
    with pytest.raises(CommandExecutionError, match=message):
        compiled({"hosts": HOSTS} | shop(), "one")


def test_an_environment_is_one_that_has_a_file(compiled, tmp_path):
    (tmp_path / "environments/dev.sls").rename(tmp_path / "environments/qa.sls")
    mistakes = ["hosts.one.environment: expected one of qa"]
    assert compiled({"hosts": HOSTS} | shop(), "one") == ({}, mistakes)


@pytest.mark.parametrize("said", [False, "yes", 1])
def test_an_environment_is_ephemeral_by_one_line_alone(compiled, said):
    mistakes = [
        "ephemeral: expected the line `ephemeral: True` in pillar/environments/dev.sls, "
        "or nothing of it in any pillar file"
    ]
    assert compiled({"hosts": HOSTS, "ephemeral": True} | shop(), "one")[1] == []
    assert compiled({"hosts": HOSTS, "ephemeral": said} | shop(), "one")[1] == mistakes


@pytest.mark.parametrize(
    "content", ["", "a: b\n", "{% if a %}\n", "a: {{ b }}\n", "#!yaml\na: '{{ b'\n", "#!yaml|gpg\na: b\n"]
)
def test_a_pillar_file_that_is_yaml_or_jinja_is_not_refused(settings, tmp_path, content):
    (tmp_path / "common.sls").write_text(content)
    assert settings.unreadable([str(tmp_path)], ["common.sls"]) == []


def test_the_inventory_holds_no_jinja(settings, tmp_path):
    (tmp_path / "hosts.yaml").write_text("{{ hunter2 }}: 1\n")
    (message,) = settings.unreadable([str(tmp_path)], ["hosts.yaml"])
    assert message == "pillar/hosts.yaml: line 1, column 1: found unacceptable key; expected YAML"


def test_a_name_that_no_host_can_have_is_told(compiled, tmp_path):
    (tmp_path / "hosts.yaml").write_text(f"? {'a' * 1100}\n: {{}}\n")
    (message,) = compiled({}, "one")[1]
    assert re.match(r"hosts\.a+\.\.\.: a name that cannot be used here; expected a host's id", message)


def test_only_files_of_the_hosts_own_environment_stop_it(compiled, tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/production.sls").write_text("a: [\n")
    assert compiled({"hosts": HOSTS} | shop(), "one")[1] == []
    (tmp_path / "secrets/dev.sls").write_text("a: [\n")
    with pytest.raises(CommandExecutionError, match=r"^pillar/secrets/dev\.sls: line 2, column 1: "):
        compiled({"hosts": HOSTS} | shop(), "one")
    (tmp_path / "hosts.yaml").write_text("a: [\n")
    (message,) = compiled({}, "one")[1]
    assert message.startswith("pillar/hosts.yaml: line 2, column 1: ")


OWN = "expected in pillar/common.sls, not in pillar/environments/dev.sls"
MISPLACED = {
    "what varies": (
        {"postgres": {"shared_buffers": "1GB"}, "app": {"shop": {"domains": [], "config": {"A": "b"}}}},
        [],
    ),
    "below what varies": ({"redis": {"instances": {"shop": {"maxmemory": "1gb"}}}}, []),
    "what does not vary": ({"nginx": {"gzip": False}}, [f"nginx.gzip: does not vary; {OWN}"]),
    "what does not vary of an app": (
        {"app": {"shop": {"port": 8100, "health": {"path": "/up", "grace": 5}, "config": {}}}},
        [f"app.shop.{name}: does not vary; {OWN}" for name in ("port", "health.path", "health.grace")],
    ),
    "a list that does not vary": ({"base": {"packages": ["htop"]}}, [f"base.packages: does not vary; {OWN}"]),
    "nothing at all": (None, []),
    "an empty formula": ({"app": None}, []),
    "what there is not, which is told elsewhere": ({"ngnix": {"gzip": True}, "app": {"shop": {"prot": 1}}}, []),
}


@pytest.mark.parametrize("declared, expected", MISPLACED.values(), ids=MISPLACED)
def test_an_environment_sets_only_what_varies(settings, schemas, tmp_path, declared, expected):
    (tmp_path / "environments").mkdir(exist_ok=True)
    (tmp_path / "environments/dev.sls").write_text(yaml.safe_dump(declared))
    found = settings.misplaced(schemas, [str(tmp_path)], ["environments/dev.sls", "secrets/dev.sls"])
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("first, told", [("", True), ("#!yaml\n", False), ("#!jinja|yaml\n", True)])
def test_an_environment_s_file_says_the_same_of_every_host(settings, schemas, tmp_path, first, told):
    (tmp_path / "common.sls").write_text(f"{first}app:\n  shop:\n    config: {{A: '{{{{ grains.id }}}}'}}\n")
    found = settings.misplaced(schemas, [str(tmp_path)], ["common.sls"])
    line = 4 if first else 3
    assert [message.partition(";")[0] for message in found] == [f"pillar/common.sls: line {line}: Jinja"] * told


def test_the_inventory_is_in_no_pillar_file(compiled, settings):
    once, mistakes = compiled({"hosts": HOSTS} | shop(), "one")
    assert mistakes == []
    other = {"hosts": {"one": HOSTS["one"] | {"address": "10.0.0.9"}}}
    for pillar in (other | shop(), {"hosts": HOSTS} | shop(), once | other):
        _, mistakes = settings.compiled(pillar, "one")
        assert mistakes == ["hosts: set in a pillar file; expected in pillar/hosts.yaml alone"]


def test_a_host_is_told_of_no_other(compiled):
    other = {"environment": "dev", "roles": ["app"], "address": "10.0.0.7"}
    found, mistakes = compiled({"hosts": HOSTS | {"two": other}} | shop(), "one")
    assert mistakes == []
    assert found["hosts"] == HOSTS


def test_an_inventory_that_was_checked_is_known_until_it_is_another(compiled, settings, tmp_path):
    roots = Roots.of(settings.__opts__)
    assert inventory.known(roots) is None
    compiled({"hosts": {"one": HOSTS["one"] | {"adress": 1}}} | shop(), "one")
    assert inventory.known(roots) is None
    compiled({"hosts": HOSTS} | shop(), "one")
    assert inventory.known(roots) == HOSTS == inventory.read(roots)
    (tmp_path / "hosts.yaml").write_text((tmp_path / "hosts.yaml").read_text() + "two: {}\n")
    assert inventory.known(roots) is None
    assert inventory.read(roots) == HOSTS | {"two": {}}
    assert compiled({}, "one")[1] != []
    (tmp_path / "saltern-inventory.json").write_text("{")
    assert inventory.known(roots) is None


@pytest.mark.parametrize(
    "answer, given",
    [
        (({}, ["nginx: wrong"]), {"_errors": ["nginx: wrong"]}),
        (({"nginx": {}}, []), {"nginx": {}}),
    ],
    ids=["mistakes", "settings"],
)
def test_what_the_pillar_files_say_gives_way_to_what_the_check_returns(pillar_settings, dunders, answer, given):
    whole, files = {"nginx": {"a": 1}}, {"app": {"secret": 2}}
    salt = {"settings.compiled": lambda pillar, minion_id: answer}
    dunders(pillar_settings, salt=salt, pillar=files, opts={"id": "one"})
    assert pillar_settings.ext_pillar("one", whole) == given
    assert whole == files == {}


def test_nothing_of_the_pillar_files_is_left_where_the_check_itself_fails(pillar_settings, dunders):
    def compiled(pillar, minion_id):
        raise CommandExecutionError("broken")

    files = {"app": {"secret": 2}}
    dunders(pillar_settings, salt={"settings.compiled": compiled}, pillar=files, opts={"id": "one"})
    with pytest.raises(CommandExecutionError, match="broken"):
        pillar_settings.ext_pillar("one", files)
    assert files == {}


def test_a_master_s_own_pillar_has_nothing(pillar_settings, dunders, monkeypatch):
    # A master imports the package anew after each pillar. The other tests in this process must keep their modules.
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    files = {"app": {"secret": 2}}
    dunders(pillar_settings, salt={}, pillar=files, opts={"id": "master1_master", "__role": "master"})
    assert pillar_settings.ext_pillar("master1_master", files) == {}
    assert files == {}


SECRETS = {
    "properties": {
        "plain": {"type": "string"},
        "password": {"type": "string", "x-roles": ["database", "app"]},
        "config": {"type": "object", "x-roles": ["app"], "patternProperties": {".": {"type": "string"}}},
        "below": {"type": "object", "properties": {"key": {"type": "string", "x-roles": ["proxy"]}}},
    }
}


@pytest.mark.parametrize(
    "roles, told",
    [
        ([], {"plain": "a", "config": {}, "below": {}}),
        (["database"], {"plain": "a", "password": "b", "config": {}, "below": {}}),
        (["app"], {"plain": "a", "password": "b", "config": {"C": "c"}, "below": {}}),
        (["cache", "proxy"], {"plain": "a", "config": {}, "below": {"key": "d"}}),
    ],
)
def test_a_host_is_told_what_is_for_its_roles(settings, roles, told):
    value = {"plain": "a", "password": "b", "config": {"C": "c"}, "below": {"key": "d"}}
    assert settings.confined(SECRETS, value, roles) == told


def test_load_gives_a_copy_of_one_formula(settings, dunders):
    pillar = {"nginx": {"sites": {}}, "_declared": []}
    dunders(settings, pillar=pillar)
    settings.load("nginx")["sites"]["shop"] = 1
    assert pillar["nginx"] == {"sites": {}}


@pytest.mark.parametrize(
    "pillar, message",
    [
        ({"_declared": []}, "nginx: no formula has this name"),
        (
            {"nginx": {}},
            "the pillar was not checked; expected ext_pillar in /etc/salt/minion: run bootstrap.sh",
        ),
        ({"nginx": {}, "_errors": ["a: wrong", "b: wrong"]}, "a: wrong\nb: wrong"),
    ],
)
def test_load_refuses_a_pillar_with_mistakes(settings, dunders, pillar, message):
    dunders(settings, pillar=pillar)
    with pytest.raises(CommandExecutionError) as raised:
        settings.load("nginx")
    assert str(raised.value) == message
