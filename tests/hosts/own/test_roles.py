"""Each role in each environment: a converge does what the dry run said, and a second one changes nothing."""

import shutil

import pytest
import yaml

from lab import Lab, bootstrapped
from lab.pillar import declare
from tests.hosts.applied import apply
from tests.hosts.client import Client
from tests.hosts.conftest import ROOT
from tests.hosts.examples import EXAMPLES, PASSWORDS
from tests.hosts.examples import ROLES as NEEDED

pytestmark = pytest.mark.alike

OTHERS = ("staging", "production")
# No app of the examples is alone in its environment.
ROLES = (*NEEDED[:-1], "etcd", NEEDED[-1])
SECRETS = {"app": {app: {"config": {"SECRET_KEY": f"{app}-0123456789" * 5}} for app in EXAMPLES}}
# Served over plain HTTP, as in dev.
PLAIN = {"nginx": {"tls": {"redirect": False}}}


@pytest.fixture(scope="module")
def server(suite):
    """A bootstrapped host without roles or environment yet, and its lab."""
    with Lab.temporary(f"roles-{suite}") as lab:
        host = lab.boot("dev", suite, image_name=bootstrapped.ensure(suite)[0])
        for app in EXAMPLES:
            lab.build(ROOT / "examples" / app, host.python)
        for environment in OTHERS:
            shutil.copy(lab.tree / "pillar/builds/dev.sls", lab.tree / f"pillar/builds/{environment}.sls")
            declare(lab.tree / "pillar", environment, SECRETS | PLAIN)
        declare(lab.tree / "pillar", "dev", PASSWORDS)
        host.bootstrap()
        yield lab, host


def converged(server, environment, roles):
    """Change the host's row in the inventory and converge: as the dry run said, and then with nothing to do."""
    lab, host = server
    hosts = {"dev": {"environment": environment, "roles": [*roles], "address": host.address}}
    # A host that does not exist: the apps' attachments point to it.
    if len(roles) < len(ROLES):
        others = [role for role in ROLES if role not in roles]
        hosts["other"] = {"environment": environment, "roles": others, "address": str(lab.subnet[99])}
    (lab.tree / "pillar/hosts.yaml").write_text(yaml.safe_dump(hosts))
    if len(hosts) > 1:
        lab.issue_certificates()
    dry = apply(host, "test=True").succeeded()
    real = apply(host).succeeded()
    print(
        f"{host.suite}: {environment}, {len(roles)} roles: {len(dry.changed)} would change, {len(real.changed)} changed"
    )
    assert dry.changed == real.changed
    again = apply(host).changed_nothing()
    assert {state["result"] for state in again.states.values()} == {True}


@pytest.mark.parametrize("count", range(len(ROLES) + 1))
def test_roles_come_one_by_one(count, server):
    converged(server, "dev", ROLES[:count])


@pytest.mark.parametrize("environment", OTHERS)
def test_the_host_becomes_one_of_another_environment(environment, server):
    converged(server, environment, ROLES)
    lab, host = server
    settings = yaml.safe_load((lab.tree / f"pillar/environments/{environment}.sls").read_text())
    for app in EXAMPLES:
        assert Client(host.address, settings["app"][app]["domains"][0]).get("/healthz").status_code == 200
