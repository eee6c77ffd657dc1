"""Process types of which one process runs in the whole environment: which cannot be so, and why."""

import pytest

from saltern import apps
from saltern.services.base import Hosts

ROLES = {"app1": ["app"], "app2": ["app"], "db1": ["etcd"]}
UNDECIDED = (
    "app.shop.count.beat: several hosts of production have the role app, and none has the role etcd, which decides "
    "where the process runs; expected it in pillar/hosts.yaml: give the role etcd to one host, or to three so that the "
    "loss of one stops nothing"
)
TWO = "app.shop.formation.beat: 2 processes, of which app.shop.count.beat has one run in the environment; expected 1"
ORDER = "app.shop.order.beat: start-first, and app.shop.count.beat is environment; expected stop-first, or no order"
JOBS = (
    "app.shop.jobs: several hosts of production have the role app, and none has the role etcd, which decides where a "
    "job runs; expected it in pillar/hosts.yaml: give the role etcd to one host, or to three so that the loss of one "
    "stops nothing"
)
# The hosts, what is said of the app beside the count, and the mistakes.
CASES = {
    "one host decides by itself": (["app1"], {}, []),
    "etcd decides": (["app1", "app2", "db1"], {}, []),
    "nobody decides": (["app1", "app2"], {}, [UNDECIDED]),
    "nobody decides, and none runs": (["app1", "app2"], {"formation": {"beat": 0}}, []),
    "several": (
        ["app1"],
        {"formation": {"beat": 2}},
        [TWO],
    ),
    "the other order": (
        ["app1"],
        {"order": {"beat": "start-first"}},
        [ORDER],
    ),
    "the same order": (["app1"], {"order": {"beat": "stop-first"}}, []),
    "jobs, and nobody decides": (["app1", "app2"], {"count": {}, "jobs": {"sweep": {}}}, [JOBS]),
    "jobs, and etcd decides": (["app1", "app2", "db1"], {"jobs": {"sweep": {}}}, []),
    "jobs on the only host": (["app1"], {"jobs": {"sweep": {}}}, []),
    "counted by host": (["app1", "app2"], {"count": {"beat": "host"}, "formation": {"beat": 3}}, []),
}


@pytest.mark.parametrize("hosts, said, expected", CASES.values(), ids=CASES)
def test_what_cannot_be_alone_is_told_by_path(hosts, said, expected):
    rows = {name: {"environment": "production", "roles": ROLES[name], "address": "10.0.0.1"} for name in hosts}
    shop = {"formation": {"web": 1, "beat": 1}, "order": {}, "jobs": {}, "count": {"beat": "environment"}} | said
    assert apps.contested({"shop": shop}, Hosts(rows, "app1")) == expected


# What is said of an app, and whether it takes leases.
TAKES = {
    "a process of the environment": ({"count": {"beat": "environment"}}, True),
    "a process of each host": ({"count": {"beat": "host"}}, False),
    "a job": ({"jobs": {"sweep": {}}}, True),
    "neither": ({}, False),
}


@pytest.mark.parametrize("said, takes", TAKES.values(), ids=TAKES)
def test_leases_are_for_jobs_and_for_what_runs_once_in_the_environment(said, takes):
    assert apps.takes_leases({"count": {}, "jobs": {}} | said) is takes
