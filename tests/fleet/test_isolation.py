"""What a minion is told by its master: what its own roles and its environment need, whatever it claims."""

import json

import pytest
from salt.exceptions import SaltException

from .claim import asked_by_hand
from .declared import HOSTS, SECRETS, TOLD


def told(pillar):
    """Return which secrets are in a pillar."""
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
        # Nothing is done: no state is called.
        states = daemon.salt_call_cli().run("state.highstate", "mock=True", "test=True", _timeout=120).data
    assert isinstance(states, dict), states
    found = {state["__sls__"].partition(".")[0] for state in states.values()}
    assert {"base", "drift", "firewall", "postgres", "redis", "app", "nginx"} <= found


# All that a minion says of itself: another's id, its roles, its row, other environments, pillars of its own making.
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
# What it asks to be laid over its pillar.
PILLARS = {
    "nothing": {},
    "a row": {"hosts": {"proxy1": HOSTS["app1"]}},
    "a variable": {"app": {"faq": {"config": {"OWN": "x"}}}},
    "a mistake": {"app": {"faq": {"no": "setting"}}},
    "all of it": {"_declared": []},
}


@pytest.fixture(scope="module")
def proxy(minion):
    """A minion that claims all this."""
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


# What a minion may ask its master besides: files that are not for it, that others do something.
ASKED = {
    "a pillar file": ["cp.get_file_str", "salt://../pillar/secrets/production.sls", "saltenv=base"],
    "a pillar file by another way": ["cp.get_file_str", "salt://roles/../../pillar/hosts.yaml", "saltenv=base"],
    "a runner": ["publish.runner", "pillar.show_pillar", "app1"],
}


@pytest.mark.parametrize("command", ASKED.values(), ids=ASKED)
def test_a_minion_gets_nothing_of_others_by_another_way(proxy, command):
    # It can ask, and has an answer where there is one for it.
    file = ["cp.get_file_str", "salt://top.sls", "saltenv=base"]
    assert "roles" in proxy.salt_call_cli().run(*file, _timeout=60).data
    assert not proxy.salt_call_cli().run(*command, _timeout=60).data
