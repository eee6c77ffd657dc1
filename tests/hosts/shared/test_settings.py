"""Mistakes in the pillar stop a run before it changes anything, and one message lists them all."""

import pytest

from lab.pillar import Pillar
from saltern import inventory
from tests.hosts.applied import apply
from tests.hosts.conftest import ROOT

CANARY = "canary-0123456789"

MISTAKES = {
    "a setting that does not exist": (
        {"app": {"tickets": {"formaton": {"web": 1}}}},
        ["app.tickets.formaton: unknown setting; did you mean 'formation'?"],
    ),
    "a formula that does not exist": ({"ngnix": {}}, ["ngnix: unknown setting; did you mean 'nginx'?"]),
    "a value of the wrong type": (
        {"app": {"tickets": {"config": {"NUMBER": 1234567890}}}},
        ["app.tickets.config.NUMBER: found integer; expected text without NUL; put it in quotes"],
    ),
    "a required setting that is missing": (
        {"app": {"shop": {}}},
        [
            "app.shop.build: missing; expected a mapping of source and sha256, as bin/build --declare writes it",
            "app.shop.port: missing; expected a multiple of 100 from 8000 to 29900",
        ],
    ),
    "a variable that is not the app's to set": (
        {"app": {"faq": {"config": {"PORT": CANARY}}}},
        [
            "app.faq.config.PORT: a name that cannot be used here; expected a variable's name of letters, digits and "
            "underscores that Saltern or the shell does not set itself"
        ],
    ),
    "a value with NUL": (
        {"app": {"faq": {"config": {"NUL": f"{CANARY}\0"}}}},
        ["app.faq.config.NUL: not acceptable; expected text without NUL"],
    ),
    "a service that does not exist": (
        {"app": {"tickets": {"attach": {"FAQ_API": {"service": "fqa", "version": "v1"}}}}},
        ["app.tickets.attach.FAQ_API.service: no app has this name; expected one of faq, tickets"],
    ),
    "a version that the service does not provide": (
        {"app": {"tickets": {"attach": {"FAQ_API": {"service": "faq", "version": "v3"}}}}},
        ["app.tickets.attach.FAQ_API.version: faq does not provide it; expected one of v1, v2 (app.faq.provides)"],
    ),
    "a database of another app": (
        {"app": {"tickets": {"attach": {"OTHER": {"postgres": "faq"}}}}},
        [
            "app.tickets.attach.OTHER.postgres: belongs to faq, which attaches it too; expected one of its own",
        ],
    ),
    "several in several formulas": (
        {
            "redis": {"maxmemory": "64"},
            "postgres": {"max_connections": "100"},
            "app": {"faq": {"config": {"A-B": CANARY}}},
        },
        [
            "app.faq.config.A-B: a name that cannot be used here; expected a variable's name of letters, digits and "
            "underscores that Saltern or the shell does not set itself",
            "postgres.max_connections: found string; expected integer from 10 to 10000 (How many connections the "
            "databases take at once, with three for operators)",
            "redis.maxmemory: not acceptable; expected an amount such as 64mb, in kb, mb or gb",
        ],
    ),
}


@pytest.fixture
def pillar(tree):
    pillar = Pillar(tree)
    yield pillar
    pillar.close()


@pytest.mark.alike
@pytest.mark.parametrize("what", MISTAKES)
def test_the_run_stops_before_anything_is_touched_at(what, host, pillar):
    settings, expected = MISTAKES[what]
    pillar.merge(**settings)
    host.sh("touch /run/before; sleep 0.01")
    for arguments in ((), ("test=True",)):
        applied = apply(host, *arguments)
        assert applied.mistakes == expected
        assert applied.code != 0
        assert applied.states == {}
        assert CANARY not in applied.output
    assert host.sh("find /etc /srv/apps /usr /opt -newer /run/before").stdout == ""


@pytest.mark.alike("trixie")
def test_a_row_of_the_inventory_that_is_wrong_stops_the_run(host, edited):
    edited("pillar/hosts.yaml", "roles: [database, cache, app, proxy]", "roles: [database, cash, app, proxy]")
    roles = ", ".join(inventory.roles([str(ROOT / "salt")]))
    assert apply(host).mistakes == [f"hosts.dev.roles[1]: expected one of {roles}; did you mean 'cache'?"]


@pytest.mark.alike("trixie")
def test_a_host_that_the_inventory_no_longer_has_is_told_so(host, edited):
    edited("pillar/hosts.yaml", "dev:\n", "vde:\n")
    (mistake,) = apply(host).mistakes
    assert mistake.startswith("hosts.dev: missing; expected a row for this host's id in pillar/hosts.yaml")


@pytest.mark.alike("bookworm")
def test_a_pillar_file_that_is_no_yaml_stops_the_run(host, edited):
    edited("pillar/environments/dev.sls", "app:\n", "app: [\n")
    applied = apply(host)
    assert applied.code != 0
    assert applied.states == {}
    assert any("environments/dev.sls" in mistake or "environments.dev" in mistake for mistake in applied.mistakes)
