"""Why a host should be rebooted, and when it is back."""

import pytest

from saltern.fleet import reboot


@pytest.mark.parametrize(
    "running, installed, expected",
    [
        ("6.1.0-9-amd64", [], None),
        ("6.1.0-9-amd64", ["6.1.0-9-amd64"], None),
        ("6.1.0-9-amd64", ["6.1.0-9-amd64", "6.1.0-10-amd64"], "6.1.0-10-amd64"),
        ("6.1.0-10-amd64", ["6.1.0-9-amd64", "6.1.0-10-amd64"], None),
        # The running kernel's package was removed.
        ("6.1.0-9-amd64", ["6.1.0-10-amd64"], "6.1.0-10-amd64"),
        ("6.1.0-44-amd64", ["6.1.0-44-amd64", "6.12.43+deb12-amd64"], "6.12.43+deb12-amd64"),
    ],
)
def test_a_newer_kernel_waits_for_a_reboot(running, installed, expected):
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
def test_a_host_is_back_when_its_next_boot_is_over(boot, expected):
    assert reboot.is_back(boot, "a") is expected


@pytest.fixture
def minions(monkeypatch):
    """Minions that are asked, and that answer each question as they are told; no time passes."""
    monkeypatch.setattr(reboot, "POLL", 0)
    answers = {
        "reboot.begin": {
            "app1": {"ret": "a"},
            "app2": {"ret": "cannot be rebooted", "retcode": 1},
            "app3": {"ret": "c"},
        },
        "reboot.boot": {"app1": {"id": "b", "state": "running"}, "app3": {"id": "d", "state": "degraded"}},
    }

    def ask(names, function, **_):
        return {name: answer for name, answer in answers[function].items() if name in names}

    return ask


def test_who_is_not_back_as_it_should_be_is_told(minions):
    back, failed = reboot.reboot(minions, ["app1", "app2", "app3", "app4"], 60)
    assert back == {"app1": "running", "app3": "degraded"}
    assert failed == {
        "app2": "cannot be rebooted",
        "app3": "is back, but systemd is degraded; systemctl --failed says why",
        "app4": "did not answer",
    }
    back, failed = reboot.reboot(minions, ["app1"], 0)
    assert (back, failed) == ({}, {"app1": "is not back after 0 s"})
