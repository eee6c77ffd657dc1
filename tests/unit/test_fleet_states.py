"""Whether hosts are ready, why one should be rebooted, and when it is back."""

from xml.etree import ElementTree

import pytest
from salt.exceptions import CommandExecutionError


@pytest.mark.parametrize(
    "running, installed, expected",
    [
        ("6.1.0-9-amd64", [], None),
        ("6.1.0-9-amd64", ["6.1.0-9-amd64"], None),
        ("6.1.0-9-amd64", ["6.1.0-9-amd64", "6.1.0-10-amd64"], "6.1.0-10-amd64"),
        ("6.1.0-10-amd64", ["6.1.0-9-amd64", "6.1.0-10-amd64"], None),
        # The one that runs was removed with its package.
        ("6.1.0-9-amd64", ["6.1.0-10-amd64"], "6.1.0-10-amd64"),
        ("6.1.0-44-amd64", ["6.1.0-44-amd64", "6.12.43+deb12-amd64"], "6.12.43+deb12-amd64"),
    ],
)
def test_a_newer_kernel_waits_for_a_reboot(reboot, running, installed, expected):
    assert reboot.newer_kernel(running, [f"/boot/vmlinuz-{release}" for release in installed]) == expected


@pytest.mark.parametrize(
    "boot, expected",
    [
        ({"id": "b", "state": "running"}, True),
        ({"id": "b", "state": "degraded"}, True),
        ({"id": "b", "state": "starting"}, False),
        ({"id": "a", "state": "running"}, False),
        ("Minion did not return", False),
        (False, False),
    ],
)
def test_a_host_is_back_when_its_next_boot_is_over(fleet_states, boot, expected):
    assert fleet_states.is_back(boot, "a") is expected


@pytest.mark.parametrize(
    "answers, comment",
    [
        ({}, "All 2 answer"),
        ({"saltutil.sync_all": {"app1": {}}}, "app2: did not take modules and pillar within 120 s; nothing else was"),
        ({"saltutil.refresh_pillar": {"app2": True, "app1": False}}, "app1: did not take modules and pillar"),
        ({"pillar.get": {"app1": []}}, "app2: did not take modules and pillar"),
        (
            {"pillar.get": {"app1": [], "app2": ["certificates: missing"]}},
            "app2: certificates: missing\nNothing else was touched",
        ),
    ],
)
def test_hosts_are_ready_that_have_modules_and_a_pillar_without_mistakes(fleet_states, dunders, answers, comment):
    whole = {"saltutil.sync_all": {}, "saltutil.refresh_pillar": True, "pillar.get": []}
    whole = {name: {"app1": answer, "app2": answer} for name, answer in whole.items()} | answers
    salt = {"fleet.silent": lambda hosts: "", "fleet.ask": lambda hosts, name, *_, **__: whole[name]}
    dunders(fleet_states, salt=salt, opts={"test": False})
    found = fleet_states.ready("hosts", ["app1", "app2"])
    assert (found["result"], found["comment"][: len(comment)]) == (not answers, comment)


def test_a_master_that_does_not_run_is_no_traceback(fleet_states, dunders):
    def silent(_):
        raise CommandExecutionError("The master does not run here")

    dunders(fleet_states, salt={"fleet.silent": silent}, opts={"test": False})
    found = fleet_states.ready("hosts", ["app1"])
    assert (found["result"], found["comment"]) == (False, "The master does not run here")


REPORT = """
<testsuites><testsuite>
<testcase name="test_it_runs[salt://app1]"/>
<testcase name="test_it_answers[salt://app1]"><failure message="AssertionError: 1&#10;2"/></testcase>
<testcase name="test_it_is_asked[salt://app1]"><error message="failed on setup"/></testcase>
<testcase name="test_redis[salt://app1]"><skipped message="no role"/></testcase>
</testsuite></testsuites>
"""


def test_what_the_suite_found_is_counted_and_named(fleet_states):
    assert fleet_states.outcome(ElementTree.fromstring(REPORT)) == {
        "passed": 1,
        "failed": ["test_it_answers: AssertionError: 1", "test_it_is_asked: failed on setup"],
        "skipped": 1,
    }


def test_what_must_be_known_of_minions_is_told_by_their_names(fleet_states, notes, dunders, capsys):
    answers = {"app1": ["a is held", "b is held"], "app2": "'notes.of_host' is not available.", "app3": []}
    dunders(notes, opts={})
    salt = {"fleet.ask": lambda hosts, function: answers, "notes.tell": notes.tell}
    dunders(fleet_states, salt=salt)
    ret = fleet_states.noted("x", ["app1", "app2", "app3", "app4"])
    assert (ret["result"], ret["changes"], ret["warnings"]) == (True, {}, ["app1: a is held", "app1: b is held"])
    assert capsys.readouterr().err == "note: app1: a is held\nnote: app1: b is held\n"
