"""Hosts whose keys were made before the hosts: each reads its own secrets and no others."""

import json

import pytest
import yaml

from lab.lab import Lab
from lab.stand_in import StandIn
from lab.tree import ROOT, tree_files
from verify.declared import settings

BUILD = {"build": {"source": "/none", "sha256": "0" * 64}}
HOSTS = ("staging-app1", "staging-db1")


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """A stand-in for the tree, for staging, with keys, secrets and certificates."""
    made = StandIn(ROOT, tmp_path_factory.mktemp("stand-in"), "staging")
    made.copy(tree_files(ROOT))
    (made.tree / "pillar/builds/staging.sls").write_text(yaml.safe_dump({"app": {"faq": BUILD, "tickets": BUILD}}))
    made.write_secrets({host_id: made.make_host_key(host_id) for host_id in HOSTS})
    try:
        Lab("stand-in", "staging", made.tree, stand_in=made).issue_certificates()
    finally:
        made.stop_agent()
    return made


def test_a_host_reads_what_is_its_own_with_the_key_that_was_made_for_it(stand_in, monkeypatch):
    found = {}
    for host_id in HOSTS:
        monkeypatch.setenv("GNUPGHOME", str(stand_in.hosts / host_id))
        found[host_id] = settings(stand_in.tree, host_id)
    app, database = found.values()
    password = database["postgres"]["databases"]["tickets"]["password"]
    assert password == app["postgres"]["databases"]["tickets"]["password"]
    assert len(password) >= 20
    assert app["app"]["tickets"]["config"]["SECRET_KEY"] not in json.dumps(database)


def test_another_host_s_key_reads_nothing(stand_in, monkeypatch):
    monkeypatch.setenv("GNUPGHOME", str(stand_in.hosts / HOSTS[1]))
    with pytest.raises(RuntimeError, match="its settings do not compile"):
        settings(stand_in.tree, HOSTS[0])


def test_a_key_that_is_there_stays(stand_in):
    before = {host_id: stand_in.make_host_key(host_id) for host_id in HOSTS}
    assert before == {host_id: stand_in.make_host_key(host_id) for host_id in HOSTS}
    assert len(set(before.values())) == len(HOSTS)


def test_only_the_owner_reads_the_keys(stand_in):
    for host_id in HOSTS:
        assert (stand_in.hosts / host_id).stat().st_mode & 0o777 == 0o700
