"""Every host of the inventory, and every role, compiles on every supported Debian."""

import hashlib
import json
import re

import pytest
import yaml

from saltern import host as saltern_host
from saltern import services
from saltern.services import redis_users
from tests.keyring import Keyring

from .everything import EVERYTHING
from .minion import ALONE, BUILDS, ROOT, SUITES, UNWANTED, Host, certificates

HOSTS = yaml.safe_load((ROOT / "pillar/hosts.yaml").read_text())
ROLES = ("database", "cache", "app", "proxy")
PASSWORDS = {word: EVERYTHING[word] for word in ("postgres", "redis")}


def inventory_of(*roles):
    """Return an inventory in which one host has these roles and a second host has all others."""
    others = [role for role in ROLES if role not in roles]
    return {
        "one": {"environment": "dev", "roles": list(roles), "address": "10.0.0.1"},
        "two": {"environment": "dev", "roles": others, "address": "10.0.0.2"},
    }


COMPILED = {(name, suite): None for name in HOSTS for suite in SUITES}
COMPILED |= {(f"only-{role}", "bookworm"): role for role in ROLES}
COMPILED |= {("without-a-role", "bookworm"): ""}
COMPILED |= {("everything", suite): None for suite in SUITES}


@pytest.fixture(scope="module")
def keyring():
    """The key of a host."""
    keyring = Keyring("host")
    yield keyring
    keyring.close()


def host_of_the_inventory(directory, name, keyring, suite="bookworm"):
    """Return a host of the tree's inventory, with everything that its environment requires."""
    host, environment = Host(directory, name, suite), HOSTS[name]["environment"]
    host.declare(f"builds/{environment}.sls", BUILDS)
    if environment != "dev":
        host.introduce(keyring)
    return host


@pytest.fixture(scope="module", params=COMPILED, ids="-".join)
def states(request, keyring, tmp_path_factory):
    """The states of a host of each kind, in the order in which they would run."""
    name, suite = request.param
    directory = tmp_path_factory.mktemp(name)
    if name in HOSTS:
        host = host_of_the_inventory(directory, name, keyring, suite)
    else:
        role = COMPILED[request.param]
        host = Host(directory, "one", suite)
        host.declare("hosts.yaml", inventory_of(*(ROLES if role is None else [role] if role else [])))
        host.declare("builds/dev.sls", BUILDS)
        host.merge(EVERYTHING | {"certificates": certificates("one", "10.0.0.1")})
    return host.states()


@pytest.fixture(scope="session")
def functions(tmp_path_factory):
    """The names of all existing state functions."""
    host = Host(tmp_path_factory.mktemp("functions"), "dev")
    return set(host.ask("sys.list_state_functions"))


def test_it_compiles_to_states_that_there_are(states, functions):
    assert states
    assert {f"{state['state']}.{state['fun']}" for state in states} <= functions


def test_an_id_is_kebab_case_nouns_with_the_formula_first(states):
    for state in states:
        formula = state["__sls__"].partition(".")[0]
        assert re.fullmatch(rf"{formula}(-[a-z0-9_]+)+", state["__id__"]), state["__id__"]


def test_an_id_is_one_state(states):
    ids = [state["__id__"] for state in states]
    assert sorted(ids) == sorted(set(ids))


def test_a_command_has_a_reason(states):
    for state in states:
        assert state["state"] != "module", state["__id__"]
        if state["state"] == "cmd":
            assert {"onchanges", "creates", "unless", "onlyif"} & state.keys(), state["__id__"]


def test_a_mode_is_four_digits_in_quotes(states):
    for state in states:
        for word in ("mode", "dir_mode", "file_mode"):
            assert re.fullmatch("0[0-7]{3}", state.get(word, "0644")), state["__id__"]


def test_no_secret_is_in_a_state(states):
    # Each secret of EVERYTHING contains it. The templates below show that the hosts have these secrets.
    assert "canary" not in json.dumps(states)
    assert "PRIVATE KEY" not in json.dumps(states)


@pytest.mark.parametrize("roles", [[], ["proxy", "app"], ["proxy", "app", "cache", "database"]], ids=len)
def test_the_top_file_gives_a_host_the_base_and_its_roles(tmp_path, roles):
    host = Host(tmp_path, "one")
    host.declare("hosts.yaml", inventory_of(*roles))
    host.declare("builds/dev.sls", BUILDS)
    host.merge(EVERYTHING | {"certificates": certificates("one", "10.0.0.1")})
    expected = ["base", "drift", "firewall", *(f"roles.{role}" for role in ROLES if role in roles)]
    assert host.ask("state.show_top") == {"base": expected}


OPEN = {
    "database": ["tcp dport 22", "ip saddr { 10.0.0.2/32 } tcp dport 5432", "ip saddr { 10.0.0.2/32 } tcp dport 6432"],
    "cache": ["tcp dport 22", "ip saddr { 10.0.0.2/32 } tcp dport 8199"],
    "app": ["tcp dport 22", "ip saddr { 10.0.0.2/32 } tcp dport 8200", "ip saddr { 10.0.0.2/32 } tcp dport 8100"],
    "proxy": ["tcp dport 22", "tcp dport 80", "tcp dport 443"],
    "": ["tcp dport 22"],
}


@pytest.mark.parametrize("role", OPEN, ids=lambda role: role or "none")
def test_a_role_opens_what_it_serves_to_those_who_need_it(tmp_path, role):
    host = Host(tmp_path, "one")
    host.declare("hosts.yaml", inventory_of(*filter(None, [role])))
    host.declare("builds/dev.sls", BUILDS)
    host.merge({key: value for key, value in EVERYTHING.items() if key != "firewall"})
    host.merge({"certificates": certificates("one", "10.0.0.1")})
    path = "path=salt://firewall/files/firewall.nft.jinja"
    text = host.ask("slsutil.renderer", path, "default_renderer=jinja")
    assert re.findall(r"^ +(.*) accept comment", text, re.MULTILINE) == OPEN[role]


@pytest.mark.parametrize("name", HOSTS)
def test_drift_is_looked_for_everywhere_but_in_dev(tmp_path, keyring, name):
    host = host_of_the_inventory(tmp_path, name, keyring)
    (timer,) = [state for state in host.states() if state["__id__"] == "drift-timer"]
    assert timer["enabled"] == (HOSTS[name]["environment"] != "dev")


@pytest.mark.parametrize("builds", [True, False], ids=["builds", "no builds file"])
@pytest.mark.parametrize("secrets", [True, False], ids=["secrets", "no secrets file"])
def test_the_files_of_builds_and_of_secrets_need_not_be_there(tmp_path, builds, secrets):
    host = Host(tmp_path, "dev")
    if builds:
        host.declare("builds/dev.sls", BUILDS)
    else:
        host.declare("environments/dev.sls", BUILDS | {"ephemeral": True})
    if secrets:
        host.declare("secrets/dev.sls", {"app": {"faq": {"config": {"SECRET_KEY": "a secret"}}}})
    pillar = host.ask("pillar.items", "unmask=True")
    assert "_errors" not in pillar
    assert pillar["app"]["faq"]["build"] == BUILDS["app"]["faq"]["build"]
    assert pillar["app"]["faq"]["config"].get("SECRET_KEY") == ("a secret" if secrets else None)


def test_a_host_gets_the_builds_and_secrets_of_its_own_environment_alone(tmp_path):
    host = Host(tmp_path, "staging1")
    host.declare("hosts.yaml", ALONE)
    host.declare("builds/staging.sls", BUILDS)
    host.declare("secrets/production.sls", {"app": {"faq": {"config": {"SECRET_KEY": "production's"}}}})
    assert "SECRET_KEY" not in host.ask("pillar.items", "unmask=True")["app"]["faq"]["config"]


TEMPLATES = {
    ("app/files/dbus.conf.jinja", ""): [
        '  <policy user="faq">\n    <deny send_destination="org.freedesktop.systemd1"',
        'send_interface="org.freedesktop.systemd1.Scope"\n      send_member="GetProcesses"/>\n',
        '  <policy user="tickets">\n',
    ],
    ("drift/files/drift.timer.jinja", ""): ["OnUnitActiveSec=0min\n"],
    ("firewall/files/firewall.nft.jinja", ""): [
        'ip saddr { 10.9.0.0/16 } tcp dport 2222 accept comment "ssh"\n',
        'ip6 saddr { 2001:db8::/32 } tcp dport 2222 accept comment "ssh"\n',
        '        tcp dport 80 accept comment "http"\n',
        'ip saddr { 10.2.0.0/16 } tcp dport 9100 accept comment "allow metrics"\n    }\n\n',
        'oifname "lo" tcp dport { 5432 } ct state new add @clients { meta skuid . tcp dport ct count over ',
        'reject with tcp reset comment "redis"\n    }\n}\n',
    ],
    ("firewall/files/firewall.service.jinja", ""): ["ExecStart=/usr/local/lib/saltern/firewall 2222\n"],
    ("postgres/files/pg_hba.conf.jinja", ""): [
        'local   "faq"  +"faq"  scram-sha-256\n'
        'hostssl "faq"  +"faq"  127.0.0.1/32  scram-sha-256\nhostssl "faq"  +"faq"  ::1/128  scram-sha-256\n'
    ],
    ("postgres/files/pool-listen.ini.jinja", ""): ["\nlisten_addr = 127.0.0.1\nlisten_backlog = 256\n"],
    ("postgres/files/pool.ini.jinja", "way=transaction port=6432"): [
        "\ntickets = host=/run/postgresql dbname=tickets pool_size=24 max_db_connections=24\n",
        "\npool_mode = transaction\nlisten_port = 6432\n",
        "\nmax_client_conn = 3000\n",
        "\nlog_stats = 0\nquery_wait_timeout = 30\nserver_login_retry = 1\n",
    ],
    ("postgres/files/postgresql.conf.jinja", ""): [
        "listen_addresses = '127.0.0.1, ::1'\n",
        "ssl = on\n",
        "shared_buffers = 128MB",
        "max_connections = 300",
    ],
    ("redis/files/redis.conf.jinja", "instance=tickets"): [
        "bind 127.0.0.1 -::1\nprotected",
        "port 0\ntls-port 8199\n",
        "maxmemory 64mb\n",
    ],
    ("supervisor/files/supervisord.conf.jinja", ""): ["minfds=1024\n"],
    ("supervisor/files/supervisor.service.jinja", ""): [
        "After=postgresql.service postgresql-pool@transaction.service redis-server@tickets.service",
        "TimeoutStopSec=75\n",
    ],
}


@pytest.mark.parametrize("template, argument", TEMPLATES, ids=lambda part: part or "alone")
def test_a_template_writes_what_is_declared(everything, template, argument):
    arguments = [f"path=salt://{template}", "default_renderer=jinja", *argument.split()]
    text = everything.ask("slsutil.renderer", *arguments)
    for expected in TEMPLATES[template, argument]:
        assert expected in text
    assert not UNWANTED.search(text)


def test_every_template_is_rendered_here_or_by_the_module_of_its_formula():
    found = {str(path.relative_to(ROOT / "formulas")) for path in (ROOT / "formulas").glob("*/files/**/*.jinja")}
    own = {path.stem.removeprefix("test_"): path.read_text() for path in (ROOT / "tests/render").glob("test_*.py")}
    elsewhere = {template for template in found if template in own.get(template.partition("/")[0], "")}
    assert found - elsewhere == {template for template, _ in TEMPLATES}


def test_redis_knows_the_digests_of_passwords_alone(everything):
    path = "path=salt://redis/files/redis.conf.jinja"
    text = everything.ask("slsutil.renderer", path, "default_renderer=jinja", "instance=tickets")
    password = EVERYTHING["redis"]["instances"]["tickets"]["password"]
    on = saltern_host.Host("dev", {"redis": everything.ask("settings.load", "redis")}, "", False, None)
    (user,) = redis_users.declared(services.formulas()["redis"], on, "tickets").values()
    assert user.digest == hashlib.sha256(password.encode()).hexdigest()
    # A new password does not change the configuration, so it causes no restart.
    assert "\ninclude /etc/saltern/redis/tickets.users\n" in text
    assert "user " not in text
    assert "canary" not in text


def test_what_is_said_of_a_database_stays_while_a_url_takes_its_place(tmp_path):
    host = Host(tmp_path, "dev")
    host.declare("builds/dev.sls", BUILDS)
    url = {"url": "postgres://faq:canary@db.example.com/faq"}
    host.merge({"app": {"faq": {"attach": {"DATABASE_URL": url}}}, "postgres": EVERYTHING["postgres"]})
    assert host.ask("settings.load", "postgres")["databases"].keys() == {"tickets"}
    ids = {state["__id__"] for state in host.states()}
    assert "postgres-attachment-tickets" in ids
    assert "postgres-attachment-faq" not in ids


SPLIT = {
    "db1": {"environment": "dev", "roles": ["database", "cache"], "address": "10.0.0.1"},
    "app1": {"environment": "dev", "roles": ["app"], "address": "10.0.0.2"},
    "app2": {"environment": "dev", "roles": ["app", "proxy"], "address": "10.0.0.3"},
    "elsewhere": {"environment": "staging", "roles": ["app"], "address": "10.0.0.4"},
}


def test_what_several_hosts_share_is_open_to_them_alone(tmp_path):
    host = Host(tmp_path, "db1")
    host.declare("hosts.yaml", SPLIT)
    host.declare("builds/dev.sls", BUILDS)
    host.merge({"app": {app: {"config": {"SECRET_KEY": "x"}} for app in BUILDS["app"]}} | PASSWORDS)
    code, output = host.call("state.show_lowstate")
    assert code != 0
    assert "certificates: missing, and several hosts of dev must know each other; expected what bin/issue-" in output
    host.declare("certificates/dev/db1.sls", {"certificates": certificates("db1", "10.0.0.1")})
    path = "path=salt://postgres/files/pg_hba.conf.jinja"
    text = host.ask("slsutil.renderer", path, "default_renderer=jinja")
    rules = [line.split() for line in text.splitlines() if line.startswith("host")]
    assert [rule[1:4] for rule in rules] == [
        [f'"{app}"', f'+"{app}"', address] for app in ("faq", "tickets") for address in ("10.0.0.2/32", "10.0.0.3/32")
    ]
    assert {(rule[0], rule[4]) for rule in rules} == {("hostssl", "scram-sha-256")}
    path = "path=salt://redis/files/redis.conf.jinja"
    text = host.ask("slsutil.renderer", path, "default_renderer=jinja", "instance=tickets")
    assert "\nbind 127.0.0.1 -::1 10.0.0.1\n" in text
    # Files of other apps are not read.
    host.declare("certificates/dev/app1.sls", {"certificates": {"key": 1}})
    assert host.states()
