"""Production in the lab, with the commands of the pages: up, and a host removed, added, lost and rebuilt."""

import json
import re
import subprocess
import time

import pytest
import yaml

from tests.hosts import readme
from tests.hosts.client import Client
from tests.hosts.examples import answered_ticket, published
from tests.hosts.readme import COMMANDS

pytestmark = pytest.mark.alike

LAB = "production"
SUBNET = ("10.77.2.", "10.79.2.")
PROXY = f"{SUBNET[1]}30"


class Production:
    """A clone of the tree, and the commands that its reader types."""

    def __init__(self, directory, suite):
        self.suite, self.tree = suite, readme.clone(directory, *SUBNET)
        self.pillar = pillar_of(self.tree)
        self.authority = directory.parent / "authority.pem"

    def type_in(self, command, *more):
        """Run a command of a page with further variables, and return what it prints."""
        assert command in COMMANDS
        started = time.monotonic()
        environ = readme.environ(LAB) | {"SUITE": self.suite}
        done = subprocess.run(
            [*command.split(), *more], cwd=self.tree, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        print(f"{self.suite}: {' '.join([command, *more])}: {(time.monotonic() - started) / 60:.1f} min")
        return done.stdout

    def edit(self, **rows):
        """Change rows of the inventory; ``None`` removes one."""
        path = self.tree / "pillar/hosts.yaml"
        said = {name: row for name, row in (yaml.safe_load(path.read_text()) | rows).items() if row}
        path.write_text(yaml.safe_dump(said))

    def client(self, domain):
        """Return a client of an app that trusts the proxy's own authority."""
        command = ["podman", "exec", f"{LAB}-proxy1", "salt-call", "--out=json", "certificate.own"]
        own = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        self.authority.write_text(json.loads(own)["local"])
        return Client(PROXY, domain, str(self.authority))

    @property
    def hosts(self):
        """The ids of the hosts that exist."""
        names = subprocess.run(["podman", "ps", "--format={{.Names}}"], capture_output=True, text=True, check=True)
        return sorted(name.removeprefix(f"{LAB}-") for name in names.stdout.split() if name.startswith(f"{LAB}-"))


def pillar_of(tree):
    return {path: path.read_bytes() for path in (tree / "pillar").rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def production(suite, tmp_path_factory):
    production = Production(tmp_path_factory.mktemp("production") / "saltern", suite)
    yield production
    production.type_in("make down ENV=production")
    assert production.hosts == []


def works(production, question):
    """Take a ticket from the proxy through both apps, the database and the cache."""
    number = answered_ticket(production.client("tickets.example.com"), question)
    assert published(production.client("faq.example.com"), f"tickets:{number}")["question"] == question


def test_its_hosts_come_up_and_its_apps_answer_through_the_proxy(production):
    said = production.type_in("make up ENV=production")
    assert said.count("200 OK") == 2
    assert production.hosts == ["app1", "app2", "db1", "proxy1"]
    works(production, "In production?")
    print(production.type_in("make verify ENV=production").splitlines()[-1])


def test_what_the_lab_made_for_its_hosts_is_not_in_the_tree(production):
    assert pillar_of(production.tree) == production.pillar


def test_a_host_is_removed_or_added_by_its_row_and_one_that_is_lost_comes_back(production):
    row = yaml.safe_load((production.tree / "pillar/hosts.yaml").read_text())["app2"]
    production.edit(app2=None)
    production.type_in("make down ENV=production HOST=app1", "HOST=db1")
    said = production.type_in("make up ENV=production")
    assert "remove app2: no longer in the inventory" in said
    assert production.hosts == ["app1", "db1", "proxy1"]
    # The data was lost with the database host; the apps have made their tables again.
    works(production, "On a new database?")

    production.edit(app2=row)
    production.type_in("make up ENV=production")
    assert production.hosts == ["app1", "app2", "db1", "proxy1"]
    works(production, "On two app hosts?")
    assert re.findall(r"(\d+) changed", production.type_in("make apply ENV=production")) == ["0"] * 4
