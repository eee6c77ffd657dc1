"""A master tells a minion only what the minion's own roles and environment need, whatever the minion claims."""

import json

import pytest
from salt.exceptions import SaltException

from .claim import asked_by_hand
from .declared import HOSTS, SECRETS, TOLD


def told(pillar):
    """Return the names of the secrets in a pillar."""
    text = json.dumps(pillar)
    return {which for which, secret in SECRETS.items() if secret in text}


@pytest.mark.parametrize("name", [name for name in HOSTS if name != "master1"])
def test_the_pillar_of_a_host_as_the_master_compiles_it_holds_no_secret_of_another(master, name):
    pillar = master.salt_run_cli().run("pillar.show_pillar", name, _timeout=60).data
    assert "_errors" not in pillar
    assert pillar["hosts"][name] == HOSTS[name]
    assert told(pillar) == TOLD[name]


def test_a_minion_that_is_new_has_its_states_before_it_has_the_tree_s_modules(minion):
    with minion("staging1") as daemon:
        # No state is called.
        states = daemon.salt_call_cli().run("state.highstate", "mock=True", "test=True", _timeout=120).data
    assert isinstance(states, dict), states
    found = {state["__sls__"].partition(".")[0] for state in states.values()}
    assert {"base", "drift", "firewall", "postgres", "redis", "app", "nginx"} <= found


# A minion's false claims: another id, roles, an inventory row, other environments, and a pillar of its own.
CLAIMS = {
    "grains": {
        "id": "db1",
        "host": "db1",
        "nodename": "db1",
        "roles": ["database", "cache", "app"],
        "environment": "staging",
        "hosts": {"proxy1": HOSTS["app1"]},
    },
    "saltenv": "staging",
    "pillarenv": "staging",
}
# The pillar that it asks the master to lay over its own.
PILLARS = {
    "nothing": {},
    "a row": {"hosts": {"proxy1": HOSTS["app1"]}},
    "a variable": {"app": {"faq": {"config": {"OWN": "x"}}}},
    "a mistake": {"app": {"faq": {"no": "setting"}}},
    "all of it": {"_declared": []},
}


@pytest.fixture(scope="module")
def proxy(minion):
    """A minion that makes all these claims."""
    with minion("proxy1", **CLAIMS) as daemon:
        yield daemon


@pytest.mark.parametrize("asked", PILLARS)
@pytest.mark.parametrize("environment", ["base", "staging"])
def test_a_minion_that_claims_what_is_not_its_own_is_told_nothing_more(proxy, asked, environment):
    command = ["pillar.items", "unmask=True", f"pillarenv={environment}", f"pillar={json.dumps(PILLARS[asked])}"]
    answer = proxy.salt_call_cli().run(*command, _timeout=60)
    assert isinstance(answer.data, dict), answer
    assert told(answer.data) == TOLD["proxy1"]


def test_a_minion_has_its_own_pillar(proxy):
    pillar = proxy.salt_call_cli().run("pillar.items", "unmask=True", "pillarenv=base", _timeout=60).data
    assert pillar["hosts"]["proxy1"] == HOSTS["proxy1"]
    assert "BEGIN" in pillar["certificates"]["key"]


def test_a_minion_that_asks_by_hand_for_another_s_pillar_gets_none(proxy):
    assert asked_by_hand(proxy, "proxy1")["hosts"] == {"proxy1": HOSTS["proxy1"]}
    for other in ("app1", "db1", "master1"):
        with pytest.raises(SaltException):
            asked_by_hand(proxy, other)


# Other requests of a minion to its master: foreign files, and jobs on other minions.
ASKED = {
    "a pillar file": ["cp.get_file_str", "salt://../pillar/secrets/production.sls", "saltenv=base"],
    "a pillar file by another way": ["cp.get_file_str", "salt://roles/../../pillar/hosts.yaml", "saltenv=base"],
    "a runner": ["publish.runner", "pillar.show_pillar", "app1"],
}


@pytest.mark.parametrize("command", ASKED.values(), ids=ASKED)
def test_a_minion_gets_nothing_of_others_by_another_way(proxy, command):
    # The request itself is allowed, and is answered where the minion has an answer of its own.
    file = ["cp.get_file_str", "salt://top.sls", "saltenv=base"]
    assert "roles" in proxy.salt_call_cli().run(*file, _timeout=60).data
    assert not proxy.salt_call_cli().run(*command, _timeout=60).data
