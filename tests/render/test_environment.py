"""A new environment is one file and its hosts' rows: everything that lists environments finds it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lab.tree import copy_tree
from lab.worktree import commit
from tests.keyring import Keyring

from .minion import BUILDS, ROOT, Host

ROWS = {
    "qa1": {"environment": "qa", "roles": ["app", "proxy"], "address": "10.77.9.10"},
    "qa2": {"environment": "qa", "roles": ["database", "cache"], "address": "10.77.9.20"},
}
APPS = {app: {"domains": [f"{app}.qa.example.com"], "config": {}} for app in ("faq", "tickets")}
NAME = "app.faq.config.SECRET_KEY"


def qa(pillar):
    """Add the environment to a pillar: its file, and its hosts' rows."""
    (pillar / "environments/qa.sls").write_text(yaml.safe_dump({"app": APPS}))
    hosts = pillar / "hosts.yaml"
    hosts.write_text(hosts.read_text() + yaml.safe_dump(ROWS))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the tree with the environment."""
    tree = tmp_path_factory.mktemp("qa")
    copy_tree(ROOT, tree)
    qa(tree / "pillar")
    commit(tree)
    return tree


@pytest.fixture(scope="module")
def keyring():
    """An operator's key, which stands in for the key of each host too."""
    keyring = Keyring("qa")
    yield keyring
    keyring.close()


@pytest.fixture
def run(tree, keyring, tmp_path):
    """A function that runs a command in the tree, which must work, and returns what it prints."""

    def call(*command, value=""):
        own = {name: text for name, text in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
        own |= {"GNUPGHOME": str(keyring.directory), "XDG_DATA_HOME": str(tmp_path), "PYTHONPATH": "salt/_utils"}
        done = subprocess.run(command, cwd=tree, env=own, input=value, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


def test_its_hosts_compile(tmp_path, keyring):
    host = Host(tmp_path, "qa1")
    qa(host.pillar)
    host.declare("builds/qa.sls", BUILDS)
    host.introduce(keyring)
    assert "app-release-faq" in {state["__id__"] for state in host.states()}


def test_parity_compares_it(tree, run, tmp_path):
    (tmp_path / "var/cache/salt/master/proc").mkdir(parents=True)
    roots = {"file_roots": {"base": [str(tree / "salt"), str(tree / "formulas")]}}
    roots |= {"pillar_roots": {"base": [str(tree / "pillar")]}, "runner_dirs": [str(tree / "salt/_runners")]}
    config = roots | {"root_dir": str(tmp_path), "log_level": "quiet", "utils_dirs": [str(tree / "salt/_utils")]}
    (tmp_path / "master").write_text(yaml.safe_dump(config))
    output = run(
        *(Path(sys.executable).with_name("salt-run"), "--config-dir", tmp_path, "parity.show", "--out", "json")
    )
    environments = json.loads(output)["parity"][0]
    assert environments["columns"] == ["dev", "production", "qa", "staging"]


def test_its_secrets_and_certificates_are_encrypted_to_its_own_hosts(tree, run, keyring):
    for name in ("operators/me", "hosts/qa1", "hosts/qa2"):
        path = tree / f"pillar/keys/{name}.asc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(keyring.public)
    run(sys.executable, "bin/secret", "set", "--environment", "qa", NAME, value="canary-0123456789")
    run(sys.executable, "bin/issue-certificates", "qa")
    secret = yaml.safe_load((tree / "pillar/secrets/qa.sls").read_text())["app"]["faq"]["config"]["SECRET_KEY"]
    assert keyring.decrypt(secret) == b"canary-0123456789"
    for host_id in ROWS:
        key = yaml.safe_load((tree / f"pillar/certificates/qa/{host_id}.sls").read_text())["certificates"]["key"]
        assert b"PRIVATE KEY" in keyring.decrypt(key)
    run(sys.executable, "bin/secret", "check")


def test_the_lab_has_its_hosts(run):
    code = "from lab import Lab; lab = Lab.of_tree('qa'); lab.refresh(); print(lab.ids, lab.subnet, bool(lab.stand_in))"
    assert run(sys.executable, "-c", code) == "['qa1', 'qa2'] 10.77.9.0/24 True\n"


@pytest.mark.parametrize("is_ephemeral", [False, True])
def test_its_builds_are_of_the_working_tree_only_where_it_is_ephemeral(tree, run, is_ephemeral):
    path = tree / "pillar/environments/qa.sls"
    own = path.read_text()
    path.write_text("ephemeral: True\n" * is_ephemeral + own)
    try:
        said = run("make", "-n", "build", "ENV=qa", "APP=faq")
    finally:
        path.write_text(own)
    assert ("--worktree" in said) == is_ephemeral
    assert "--declare 'pillar/builds/qa.sls'" in said


def test_what_is_generated_stays_as_it_is(run):
    run(sys.executable, "bin/settings-docs", "--check")


def test_an_ephemeral_environment_encrypts_no_value(tree, run, tmp_path):
    shutil.rmtree(tree / "pillar/certificates", ignore_errors=True)
    path = tree / "pillar/environments/qa.sls"
    own = path.read_text()
    path.write_text("ephemeral: True\n" + own)
    try:
        run(sys.executable, "bin/issue-certificates", "qa")
    finally:
        path.write_text(own)
    said = yaml.safe_load((tree / "pillar/certificates/qa/qa1.sls").read_text())
    assert "PRIVATE KEY" in said["certificates"]["key"]
