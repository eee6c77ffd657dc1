"""Production in the lab: its four hosts as ``make up ENV=production`` makes them, added, removed, lost and rebuilt."""

import os
import re
import subprocess
import sys
import time

import pytest
import yaml

from tests.lab.lab import copy_tree

from .client import Client
from .conftest import ROOT
from .test_1_lifecycle import answered_ticket, published

# Of its own: the developer's own production may be up beside it.
SUBNET = ("10.77.2.", "10.79.2.")
PROXY = SUBNET[1] + "30"


class Production:
    """The lab of a tree, and what its operator types."""

    def __init__(self, tree, suite):
        self.tree, self.suite, self.pillar = tree, suite, pillar_of(tree)
        self.name = f"production-{suite}"
        self.tickets = Client(PROXY, "tickets.example.com")
        self.faq = Client(PROXY, "faq.example.com")

    def lab(self, *arguments, check=True):
        """Run a command of the lab and return what it prints."""
        command = [sys.executable, "-m", "tests.lab", "--environment", "production", *arguments]
        environ = os.environ | {"SALTERN_LAB": self.name}
        done = subprocess.run(command, cwd=self.tree, env=environ, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self):
        started = time.monotonic()
        said = self.lab("up", "--suite", self.suite)
        print(f"{self.suite}: up in {(time.monotonic() - started) / 60:.1f} min")
        assert "not all answered well" not in said
        return said

    def edit(self, **rows):
        """Change rows of the inventory; ``None`` removes one."""
        path = self.tree / "pillar/hosts.yaml"
        said = {name: row for name, row in (yaml.safe_load(path.read_text()) | rows).items() if row}
        path.write_text(yaml.safe_dump(said))

    @property
    def hosts(self):
        """The ids of the hosts that there are."""
        return [line.split()[0] for line in self.lab("status").splitlines()]


@pytest.fixture(scope="module")
def production(suite, tmp_path_factory):
    tree = tmp_path_factory.mktemp("production") / "saltern"
    copy_tree(ROOT, tree)
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    (tree / "pillar/hosts.yaml").write_text((tree / "pillar/hosts.yaml").read_text().replace(*SUBNET))
    production = Production(tree, suite)
    try:
        yield production
    finally:
        production.lab("down", check=False)


def pillar_of(tree):
    return {path: path.read_bytes() for path in (tree / "pillar").rglob("*") if path.is_file()}


def works(production, question):
    """Take a ticket from the proxy through both apps, the database and the cache."""
    number = answered_ticket(production.tickets, question)
    assert published(production.faq, f"tickets:{number}")["question"] == question


def test_its_hosts_come_up_and_its_apps_answer_through_the_proxy(production):
    said = production.up()
    assert said.count("200 OK") == 2
    assert production.hosts == ["app1", "app2", "db1", "proxy1"]
    works(production, "In production?")
    assert re.findall(r"(\d+) changed", production.lab("apply")) == ["0"] * 4
    print(f"{production.suite}: {production.lab('verify').splitlines()[-1]}")


def test_what_the_lab_made_for_its_hosts_is_not_in_the_tree(production):
    assert pillar_of(production.tree) == production.pillar


def test_a_host_is_removed_by_its_row_and_a_database_host_that_is_lost_comes_back(production):
    row = yaml.safe_load((production.tree / "pillar/hosts.yaml").read_text())["app2"]
    production.edit(app2=None)
    production.lab("down", "--host", "db1")
    said = production.up()
    assert "remove app2: no longer in the inventory" in said
    assert production.hosts == ["app1", "db1", "proxy1"]
    # Its data is gone with it; the apps have their tables again.
    works(production, "On a new database?")

    # And back, while the other app host is lost.
    production.edit(app2=row)
    production.lab("down", "--host", "app1")
    production.up()
    assert production.hosts == ["app1", "app2", "db1", "proxy1"]
    works(production, "On new app hosts?")
    assert re.findall(r"(\d+) changed", production.lab("apply")) == ["0"] * 4
