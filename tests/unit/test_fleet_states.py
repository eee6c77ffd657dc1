"""Why a host should be rebooted, and when it is back."""

from xml.etree import ElementTree

import pytest


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
