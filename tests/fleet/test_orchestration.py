"""An orchestration's refusals, before it touches a host."""

import json

import pytest


def orchestrated(master, name, **asked):
    """Run an orchestration, and return its exit code and what it printed."""
    done = master.salt_run_cli().run("state.orchestrate", name, f"pillar={json.dumps(asked)}", _timeout=180)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "asked, message",
    [
        ({}, "app: missing; expected pillar="),
        (
            {"app": "tickets", "environment": "prod"},
            "environment: no host is in prod; expected one of production, staging",
        ),
        (
            {"app": "shop", "environment": "production"},
            "app: no app of production has the name shop; expected one of faq",
        ),
    ],
)
def test_wrong_arguments_are_refused(master, asked, message):
    code, said = orchestrated(master, "orch.release", **asked)
    assert code != 0
    assert message in said
    assert "Traceback" not in said


def test_minions_that_are_down_stop_it_before_anything_is_touched(master):
    code, said = orchestrated(master, "orch.release", app="tickets", environment="production")
    assert code != 0
    assert "app1, proxy1: no answer within 10 s; nothing was touched" in said or "app1: no answer" in said
    assert "orch-release-build" not in said
    assert "Traceback" not in said


def test_a_mistake_in_the_pillar_of_a_host_stops_it_before_anything_is_touched(master, minion, tree):
    certificate = tree / "pillar/certificates/staging/staging1.sls"
    own = certificate.read_text()
    certificate.write_text((tree / "pillar/certificates/production/db1.sls").read_text())
    try:
        with minion("staging1"):
            code, said = orchestrated(master, "orch.converge", environment="staging")
    finally:
        certificate.write_text(own)
    assert code != 0
    assert "staging1: certificates" in said
    assert "Nothing else was touched" in said
    assert "orch-converge-staging1" not in said
    assert "Traceback" not in said


SILENT = ["staging1: no answer within 10 s; nothing was touched. Start salt-minion there, and run this again"]
PLANS = {
    "converge": {"mistakes": [], "hosts": ["staging1"], "order": [["staging1"]]},
    "verify": {"mistakes": [], "hosts": ["staging1"], "own": None},
    "release": {"mistakes": [], "apps": ["staging1"], "batches": [["staging1"]], "proxies": []},
    "reboot": {"mistakes": SILENT},
}


@pytest.mark.parametrize("name, expected", PLANS.items(), ids=PLANS)
def test_a_plan_can_be_looked_at_before_it_is_carried_out(master, name, expected):
    asked = {"environment": "staging"} | ({"app": "tickets"} if name == "release" else {})
    done = master.salt_run_cli().run("salt.cmd", f"fleet.{name}", json.dumps(asked), _timeout=180)
    assert done.returncode == 0
    assert {word: done.data[word] for word in expected} == expected
