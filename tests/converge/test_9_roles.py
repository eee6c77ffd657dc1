"""Each role, in each environment: what a dry run says is done, and a second converge has nothing to do."""

import pytest
import yaml

from tests.lab import Lab
from tests.pillar import declare

from .applied import apply
from .client import Client
from .conftest import EXAMPLES, ROOT

ROLES = ("proxy", "cache", "database", "app")
SECRETS = {"app": {app: {"config": {"SECRET_KEY": f"{app}-0123456789" * 5}} for app in EXAMPLES}}


@pytest.fixture(scope="module", params=["staging", "production"])
def server(request, suite):
    """A bootstrapped host of an environment that is not dev's, and its lab."""
    with Lab.temporary(f"{request.param}-{suite}", environment=request.param) as lab:
        (host_id,) = lab.ids
        host = lab.boot(host_id, suite)
        for app in EXAMPLES:
            lab.release(ROOT / "examples" / app, host.python)
        declare(lab.tree / "pillar", request.param, SECRETS)
        host.bootstrap()
        yield lab, host, host_id


@pytest.mark.parametrize("count", range(len(ROLES) + 1))
def test_roles_come_one_by_one_as_a_dry_run_says_and_then_nothing_is_left_to_do(count, server):
    lab, host, host_id = server
    path = lab.tree / "pillar/hosts.yaml"
    hosts = yaml.safe_load(path.read_text())
    hosts[host_id]["roles"] = list(ROLES[:count])
    path.write_text(yaml.safe_dump(hosts))
    dry = apply(host, "test=True").succeeded()
    real = apply(host).succeeded()
    print(f"{host_id} on {host.suite} with {count} roles: {len(dry.changed)} would change, {len(real.changed)} changed")
    assert dry.changed == real.changed
    again = apply(host).changed_nothing()
    assert {state["result"] for state in again.states.values()} == {True}


def test_the_apps_answer(server):
    lab, host, _ = server
    environment = yaml.safe_load((lab.tree / f"pillar/environments/{lab.environment}.sls").read_text())
    for app in EXAMPLES:
        assert Client(host.address, environment["app"][app]["domains"][0]).get("/healthz").status_code == 200
