"""What an orchestration refuses, before it touches a host."""

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
def test_what_is_asked_wrong_is_refused(master, asked, message):
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
