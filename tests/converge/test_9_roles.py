"""Each role, in each environment: what a dry run says is done, and a second converge has nothing to do."""

import shutil

import pytest
import yaml

from tests.lab import Lab
from tests.pillar import declare

from .applied import apply
from .client import Client
from .conftest import EXAMPLES, ROOT

ROLES = ("proxy", "cache", "database", "app")
SECRETS = {"app": {app: {"config": {"SECRET_KEY": f"{app}-0123456789" * 5}} for app in EXAMPLES}}


@pytest.fixture(scope="module")
def server(suite):
    """A bootstrapped host of staging, and its lab."""
    with Lab.temporary(f"staging-{suite}", environment="staging") as lab:
        (host_id,) = lab.ids
        host = lab.boot(host_id, suite)
        for app in EXAMPLES:
            lab.release(ROOT / "examples" / app, host.python)
        shutil.copy(lab.tree / "pillar/builds/staging.sls", lab.tree / "pillar/builds/production.sls")
        for environment in ("staging", "production"):
            declare(lab.tree / "pillar", environment, SECRETS)
        host.bootstrap()
        yield lab, host, host_id


def converged(server, **row):
    """Converge with another row in the inventory, as a dry run says, and once more with nothing to do."""
    lab, host, host_id = server
    path = lab.tree / "pillar/hosts.yaml"
    hosts = yaml.safe_load(path.read_text())
    hosts[host_id] |= row
    path.write_text(yaml.safe_dump(hosts))
    dry = apply(host, "test=True").succeeded()
    real = apply(host).succeeded()
    print(f"{host.suite}: {row}: {len(dry.changed)} would change, {len(real.changed)} changed")
    assert dry.changed == real.changed
    again = apply(host).changed_nothing()
    assert {state["result"] for state in again.states.values()} == {True}


def assert_served(server, environment):
    lab, host, _ = server
    settings = yaml.safe_load((lab.tree / f"pillar/environments/{environment}.sls").read_text())
    for app in EXAMPLES:
        assert Client(host.address, settings["app"][app]["domains"][0]).get("/healthz").status_code == 200


@pytest.mark.parametrize("count", range(len(ROLES) + 1))
def test_roles_come_one_by_one(count, server):
    converged(server, roles=list(ROLES[:count]))


def test_staging_serves(server):
    assert_served(server, "staging")


def test_a_host_of_staging_becomes_one_of_production(server):
    converged(server, environment="production")
    assert_served(server, "production")
