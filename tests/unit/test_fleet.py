"""Who is released to, and in which order."""

import pytest
from salt.exceptions import SaltClientError

HOSTS = {
    "proxy1": {"environment": "production", "roles": ["proxy"]},
    "app1": {"environment": "production", "roles": ["app"]},
    "app2": {"environment": "production", "roles": ["app"]},
    "app3": {"environment": "production", "roles": ["app"]},
    "staging1": {"environment": "staging", "roles": ["app", "proxy"]},
    "db1": {"environment": "dev", "roles": ["database"]},
}
PILLAR = {"app": {"tickets": {"build": {"sha256": "a" * 64}}}, "master": {"batch": 2}}


@pytest.fixture
def salt(fleet, dunders, monkeypatch):
    """The inventory, and the pillar of every host of it."""
    dunders(fleet, salt={"inventory.read": lambda: HOSTS})
    monkeypatch.setattr(fleet, "_pillar", lambda minion_id: PILLAR)
    monkeypatch.setattr(fleet, "_left_out", lambda names: set())


def test_the_batches_of_a_release(fleet, salt):
    found = fleet.release({"app": "tickets", "environment": "production"})
    assert found["mistakes"] == []
    assert found["batches"] == [["app1"], ["app2", "app3"]]
    assert (found["apps"], found["proxies"], found["build"]) == (["app1", "app2", "app3"], ["proxy1"], "a" * 64)
    assert found["hosts"] == ["app1", "app2", "app3", "proxy1"]
    assert fleet.release({"app": "tickets", "environment": "production", "batch": 1})["batches"] == [
        ["app1"],
        ["app2"],
        ["app3"],
    ]


def test_hosts_that_were_left_out_come_first(fleet, salt, monkeypatch):
    monkeypatch.setattr(fleet, "_left_out", lambda names: {"app2", "app3"})
    found = fleet.release({"app": "tickets", "environment": "production"})
    assert (found["batches"], found["proxies"]) == ([["app2"], ["app3"], ["app1"]], ["proxy1"])


def test_hosts_are_moved_as_they_serve_where_that_is_asked(fleet, salt):
    found = fleet.release({"app": "tickets", "environment": "production", "drain": False})
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
def test_an_inventory_that_is_none_is_told(fleet, dunders, hosts):
    dunders(fleet, salt={"inventory.read": lambda: hosts})
    for plan in (fleet.release, fleet.converge, fleet.reboot, fleet.verify):
        (mistake,) = plan({"environment": "production"})["mistakes"]
        assert mistake.startswith("pillar/hosts.yaml: cannot be read as rows of hosts")


def test_a_master_that_does_not_run_is_told(fleet, salt, dunders, monkeypatch):
    def client(**_):
        raise SaltClientError("no socket")

    monkeypatch.undo()
    dunders(fleet, salt={"inventory.read": lambda: HOSTS}, opts={})
    monkeypatch.setattr(fleet, "_pillar", lambda minion_id: PILLAR)
    monkeypatch.setattr(fleet.salt.client, "get_local_client", client)
    for plan, asked in ((fleet.release, {"app": "tickets"}), (fleet.reboot, {})):
        (mistake,) = plan({"environment": "production", **asked})["mistakes"]
        assert mistake.startswith("The master does not run here; expected a host with the role master")


def test_an_app_host_that_is_alone_is_not_drained(fleet, salt):
    found = fleet.release({"app": "tickets", "environment": "staging"})
    assert (found["batches"], found["proxies"]) == ([["staging1"]], [])


@pytest.mark.parametrize(
    "count, size, expected",
    [(1, 1, [1]), (1, 5, [1]), (2, 1, [1, 1]), (2, 2, [1, 1]), (4, 2, [2, 2]), (5, 2, [1, 2, 2]), (3, 9, [1, 2])],
)
def test_a_batch_never_is_all_of_them_and_the_smallest_is_first(fleet, count, size, expected):
    names = [f"app{n}" for n in range(count)]
    found = fleet.batches(names, size, len(names))
    assert [len(batch) for batch in found] == expected
    assert [name for batch in found for name in batch] == names


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
def test_what_is_asked_wrong_is_told(fleet, salt, asked, mistakes):
    assert fleet.release(asked) == {"mistakes": mistakes}


def test_mistakes_of_the_pillar_are_told(fleet, salt, monkeypatch):
    monkeypatch.setattr(fleet, "_pillar", lambda minion_id: {"_errors": ["app.x: wrong"]})
    assert fleet.release({"app": "tickets", "environment": "production"}) == {"mistakes": ["app.x: wrong"]}


def test_the_order_of_a_converge(fleet, salt):
    found = fleet.converge({"environment": "production"})
    assert found == {
        "mistakes": [],
        "environment": "production",
        "hosts": ["app1", "app2", "app3", "proxy1"],
        "order": [["app1"], ["app2", "app3"], ["proxy1"]],
    }
    assert fleet.converge({}) == {
        "mistakes": ['environment: missing; expected pillar=\'{"environment": "production"}\'']
    }


def test_what_others_attach_comes_first(fleet):
    roles = {"b": ["proxy"], "c": ["app", "proxy"], "a": ["cache"], "d": ["database", "cache"], "e": [], "f": ["app"]}
    assert fleet.ordered(roles) == [["d"], ["a"], ["c"], ["f"], ["b"], ["e"]]


def test_the_last_of_several_app_hosts_to_be_rebooted_is_a_batch_of_its_own(fleet):
    assert fleet.batches(["app2"], 3, 3) == [["app2"]]
    assert fleet.batches(["app1", "app2"], 3, 2) == [["app1"], ["app2"]]


@pytest.fixture
def reasons(fleet, salt, monkeypatch):
    """What hosts say when they are asked why they should be rebooted."""
    found = {"app1": [], "app2": ["a kernel"], "app3": ["a kernel", "a library"], "proxy1": ["a kernel"]}
    monkeypatch.setattr(fleet, "_reasons", lambda names: ({name: found[name] for name in names}, []))
    return found


def test_who_has_a_reason_is_rebooted_and_the_proxies_last(fleet, reasons):
    found = fleet.reboot({"environment": "production"})
    assert found["reasons"] == {"app2": "a kernel", "app3": "a kernel; a library", "proxy1": "a kernel"}
    assert (found["before"], found["batches"], found["after"]) == ([], [["app2", "app3"]], ["proxy1"])
    assert (found["proxies"], found["hosts"]) == (["proxy1"], ["app2", "app3", "proxy1"])


def test_all_are_rebooted_where_that_is_asked(fleet, reasons):
    found = fleet.reboot({"environment": "production", "all": True, "batch": 1})
    assert found["batches"] == [["app1"], ["app2"], ["app3"]]
    assert found["reasons"]["app1"] == "asked for"


def test_a_host_that_was_left_out_is_no_host_to_reboot(fleet, reasons, monkeypatch):
    monkeypatch.setattr(fleet, "_left_out", lambda names: {"app1"})
    (mistake,) = fleet.reboot({"environment": "production"})["mistakes"]
    assert mistake.startswith("app1: takes no requests: an orchestration is under way, or one that failed")


def test_without_a_reason_nobody_is_rebooted(fleet, reasons):
    reasons.update({name: [] for name in reasons})
    found = fleet.reboot({"environment": "production"})
    assert [found[word] for word in ("before", "batches", "after", "reasons")] == [[], [], [], {}]


def test_a_host_that_cannot_be_asked_stops_it(fleet, salt, monkeypatch):
    monkeypatch.setattr(fleet, "_reasons", lambda names: ({}, ["app1: no answer"]))
    assert fleet.reboot({"environment": "production"}) == {"mistakes": ["app1: no answer"]}


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"all": "no"}, "all: expected True or False"),
        ({"batch": "2"}, "batch: expected how many app hosts at once, a number of 1 or more"),
        ({"force": True}, "force: is nothing that is asked here; expected one of environment, batch, all"),
    ],
)
def test_an_option_that_cannot_be_is_refused(fleet, reasons, asked, message):
    assert fleet.reboot({"environment": "production"} | asked) == {"mistakes": [message]}


@pytest.mark.parametrize(
    "drained, names, size, expected",
    [
        ([], ["a", "b", "c"], 2, ([["a"], ["b", "c"]], ["p"])),
        (["a"], ["a", "b", "c"], 2, ([["a"], ["b"], ["c"]], ["p"])),
        (["a"], ["b"], 2, ([["b"]], ["p"])),
        (["a", "b"], ["a", "b", "c"], 3, ([["a"], ["b"], ["c"]], [])),
    ],
)
def test_hosts_that_the_inventory_drains_serve_nothing(fleet, drained, names, size, expected):
    hosts = {name: {"drain": name in drained} for name in "abc"}
    assert fleet.rolled(names, ["a", "b", "c"], ["p"], hosts, size) == expected
