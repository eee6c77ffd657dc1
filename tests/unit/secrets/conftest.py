"""A tree with hosts and operators whose keys are real, and the tool as an operator runs it."""

import os
import subprocess
import sys

import pytest
import yaml

from tests.copies import copy
from tests.keyring import Keyring
from tests.render.minion import ALONE
from tests.unit.secrets.written import NAME, contents


@pytest.fixture(scope="session")
def keys():
    """The keys of a host of production, one of staging, a Salt master, and two operators."""
    keys = {name: Keyring(name) for name in ("web1", "staging1", "master1", "alice", "bob")}
    yield keys
    for key in keys.values():
        key.close()


@pytest.fixture
def tree(tmp_path, keys):
    """A copy of the files that the tool reads, with the public keys of the hosts and of both operators."""
    # The developer's own keys and secrets are left out.
    copy(tmp_path, "bin", "pillar", "formulas", "salt/_modules", "salt/_utils", own=("builds", "keys", "secrets"))
    (tmp_path / "pillar/secrets").mkdir()
    (tmp_path / "pillar/hosts.yaml").write_text(yaml.safe_dump(ALONE))
    for directory, names in {"hosts": ("web1", "staging1"), "operators": ("alice", "bob")}.items():
        (tmp_path / "pillar/keys" / directory).mkdir(parents=True, exist_ok=True)
        for name in names:
            (tmp_path / f"pillar/keys/{directory}/{name}.asc").write_text(keys[name].public)
    return tmp_path


@pytest.fixture
def run(tree, keys):
    """A function that runs the tool and returns what it did."""

    def call(*arguments, value=b"", home="alice"):
        command = [sys.executable, tree / "bin/secret", *arguments]
        environ = os.environ | {"GNUPGHOME": str(keys[home].directory)}
        return subprocess.run(command, input=value, capture_output=True, env=environ, check=False)

    return call


@pytest.fixture
def write(run):
    """A function that writes a value, which must work, and returns what the tool printed."""

    def call(value, name=NAME, environment="production"):
        done = run("set", "--environment", environment, name, value=value)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stderr == b""
        return done.stdout.decode()

    return call


@pytest.fixture
def refused(run, tree):
    """A function that runs the tool, which must refuse and change nothing, and returns the lines that it says."""

    def call(*arguments, **options):
        before = contents(tree)
        done = run(*arguments, **options)
        assert done.returncode == 1, done.stderr.decode()
        assert done.stdout == b""
        assert contents(tree) == before
        lines = done.stderr.decode().splitlines()
        assert all(line.startswith("secret: ") for line in lines), done.stderr.decode()
        return [line.removeprefix("secret: ") for line in lines]

    return call
