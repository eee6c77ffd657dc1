"""Plans of orchestrations: who is released to, who is rebooted, and in which order."""

import functools

import pytest
import salt.client
from salt.exceptions import SaltClientError

from saltern.fleet import minions, plans
from saltern.fleet.master import Master

HOSTS = {
    "proxy1": {"environment": "production", "roles": ["proxy"]},
    "app1": {"environment": "production", "roles": ["app"]},
    "app2": {"environment": "production", "roles": ["app"]},
    "app3": {"environment": "production", "roles": ["app"]},
    "staging1": {"environment": "staging", "roles": ["app", "proxy"]},
    "db1": {"environment": "dev", "roles": ["database"]},
}
PILLAR = {"app": {"tickets": {"build": {"sha256": "a" * 64}}}, "master": {"batch": 2}}


# What hosts answer when they are asked why they should be rebooted.
REASONS = {"app1": [], "app2": ["a kernel"], "app3": ["a kernel", "a library"], "proxy1": ["a kernel"]}


@pytest.fixture
def made():
    """A function that makes a master of an inventory, and of the pillar and the answers of all hosts of it."""

    def made(hosts=HOSTS, pillar=PILLAR, left_out=(), reasons=REASONS, ask=None):
        answers = {
            "drain.is_drained": lambda name: name in left_out,
            "reboot.pending": reasons.get,
            "test.ping": lambda name: True,
        }

        def asked(names, function, **_):
            return {name: answers[function](name) for name in names}

        return Master(hosts, lambda minion_id: pillar, ask or asked, lambda: "master1")

    return made


@pytest.fixture
def master(made):
    """A master on which no host is drained."""
    return made()


def test_the_batches_of_a_release(master):
    found = plans.release(master, {"app": "tickets", "environment": "production"})
    assert found["mistakes"] == []
    assert found["batches"] == [["app1"], ["app2", "app3"]]
    assert (found["apps"], found["proxies"], found["build"]) == (["app1", "app2", "app3"], ["proxy1"], "a" * 64)
    assert found["hosts"] == ["app1", "app2", "app3", "proxy1"]
    assert plans.release(master, {"app": "tickets", "environment": "production", "batch": 1})["batches"] == [
        ["app1"],
        ["app2"],
        ["app3"],
    ]


def test_hosts_that_were_left_out_come_first(made):
    found = plans.release(made(left_out=["app2", "app3"]), {"app": "tickets", "environment": "production"})
    assert (found["batches"], found["proxies"]) == ([["app2"], ["app3"], ["app1"]], ["proxy1"])


def test_hosts_are_released_to_while_they_serve_if_that_is_asked(master):
    found = plans.release(master, {"app": "tickets", "environment": "production", "drain": False})
    assert (found["batches"], found["proxies"]) == ([["app1"], ["app2", "app3"]], [])
    assert found["hosts"] == ["app1", "app2", "app3"]


ROWS = [
    None,
    [],
    {"app1": None},
    {"app1": {"roles": ["app"]}},
    {"app1": {"environment": "production", "roles": None}},
    {"app1": {"environment": "production", "roles": [1]}},
    {"app1": {"environment": None, "roles": ["app"]}},
    {"app1": {"environment": ["production"], "roles": ["app"]}},
]


@pytest.mark.parametrize("hosts", ROWS)
def test_an_invalid_inventory_is_told(made, hosts):
    for plan in (plans.release, plans.converge, plans.reboot, plans.verify):
        (mistake,) = plan(made(hosts), {"environment": "production"})["mistakes"]
        assert mistake.startswith("pillar/hosts.yaml: cannot be read as rows of hosts")


def test_a_master_that_does_not_run_is_told(made, monkeypatch):
    def client(**_):
        raise SaltClientError("no socket")

    monkeypatch.setattr(salt.client, "get_local_client", client)
    master = made(ask=functools.partial(minions.ask, {}))
    for plan, asked in ((plans.release, {"app": "tickets"}), (plans.reboot, {})):
        (mistake,) = plan(master, {"environment": "production", **asked})["mistakes"]
        assert mistake.startswith("The master does not run here; expected a host with the role master")


def test_an_app_host_that_is_alone_is_not_drained(master):
    found = plans.release(master, {"app": "tickets", "environment": "staging"})
    assert (found["batches"], found["proxies"]) == ([["staging1"]], [])


EXPECTED = """expected pillar='{"app": "tickets", "environment": "production"}'"""


@pytest.mark.parametrize(
    "asked, mistakes",
    [
        ({}, [f"app: missing; {EXPECTED}", f"environment: missing; {EXPECTED}"]),
        (
            {"app": "tickets", "environment": "prod"},
            ["environment: no host is in prod; expected one of dev, production, staging"],
        ),
        (
            {"app": "tickets", "environment": "dev"},
            ["dev: no host has the role app; expected one in pillar/hosts.yaml"],
        ),
        (
            {"app": "shop", "environment": "production"},
            ["app: no app of production has the name shop; expected one of tickets"],
        ),
        (
            {"app": "tickets", "environment": "production", "batch": 0},
            ["batch: expected how many app hosts at once, a number of 1 or more"],
        ),
    ],
)
def test_wrong_arguments_are_told(master, asked, mistakes):
    assert plans.release(master, asked) == {"mistakes": mistakes}


def test_mistakes_of_the_pillar_are_told(made):
    assert plans.release(
        made(pillar={"_errors": ["app.x: wrong"]}), {"app": "tickets", "environment": "production"}
    ) == {"mistakes": ["app.x: wrong"]}


def test_the_order_of_a_converge(master):
    found = plans.converge(master, {"environment": "production"})
    assert found == {
        "mistakes": [],
        "environment": "production",
        "hosts": ["app1", "app2", "app3", "proxy1"],
        "order": [["app1"], ["app2", "app3"], ["proxy1"]],
    }
    assert plans.converge(master, {}) == {
        "mistakes": ['environment: missing; expected pillar=\'{"environment": "production"}\'']
    }


def test_who_has_a_reason_is_rebooted_and_the_proxies_last(master):
    found = plans.reboot(master, {"environment": "production"})
    assert found["reasons"] == {"app2": "a kernel", "app3": "a kernel; a library", "proxy1": "a kernel"}
    assert (found["before"], found["batches"], found["after"]) == ([], [["app2", "app3"]], ["proxy1"])
    assert (found["proxies"], found["hosts"]) == (["proxy1"], ["app2", "app3", "proxy1"])


def test_all_hosts_are_rebooted_if_that_is_asked(master):
    found = plans.reboot(master, {"environment": "production", "all": True, "batch": 1})
    assert found["batches"] == [["app1"], ["app2"], ["app3"]]
    assert found["reasons"]["app1"] == "asked for"


def test_a_host_that_was_left_out_is_no_host_to_reboot(made):
    (mistake,) = plans.reboot(made(left_out=["app1"]), {"environment": "production"})["mistakes"]
    assert mistake.startswith("app1: takes no requests: an orchestration is under way, or one that failed")


def test_without_a_reason_nobody_is_rebooted(made):
    found = plans.reboot(made(reasons={name: [] for name in REASONS}), {"environment": "production"})
    assert [found[word] for word in ("before", "batches", "after", "reasons")] == [[], [], [], {}]


def test_a_host_that_cannot_be_asked_stops_it(made):
    (mistake,) = plans.reboot(made(ask=lambda *_, **__: {"app1": False}), {"environment": "production"})["mistakes"]
    assert mistake.startswith("app1, app2, app3, proxy1: no answer within 10 s; nothing was touched")
    lacking = REASONS | {"app1": "'reboot.pending' is not available."}
    (mistake,) = plans.reboot(made(reasons=lacking), {"environment": "production"})["mistakes"]
    assert mistake.startswith("app1: cannot tell whether it is to be rebooted")


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"all": "no"}, "all: expected True or False"),
        ({"batch": "2"}, "batch: expected how many app hosts at once, a number of 1 or more"),
        ({"force": True}, "force: is no option here; expected one of environment, batch, all"),
    ],
)
def test_an_option_that_cannot_be_is_refused(master, asked, message):
    assert plans.reboot(master, {"environment": "production"} | asked) == {"mistakes": [message]}
