"""A real Salt master with real minions, as processes of this machine, on a copy of the tree."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest

from lab.configuration import configuration
from lab.tree import ROOT, copy_tree
from tests.keyring import Keyring

from .declared import write_pillar

MASTER = "master1"
# What is the factories' own: where the daemons lie, and at which ports.
OWN = ("user", "log_level", "log_level_logfile")


@pytest.fixture(scope="session")
def salt_factories_default_root_dir(tmp_path_factory):
    """Where the daemons lie. Their sockets' paths may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="salt-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def keyring():
    """The master's key, by which it reads the secrets of all environments."""
    keyring = Keyring(MASTER)
    yield keyring
    keyring.close()


@pytest.fixture(scope="session")
def tree(tmp_path_factory, keyring):
    """The master's tree, with two environments that have secrets."""
    tree = tmp_path_factory.mktemp("tree")
    copy_tree(ROOT, tree)
    for directory in ("builds", "secrets", "certificates"):
        shutil.rmtree(tree / "pillar" / directory, ignore_errors=True)
    write_pillar(tree / "pillar", keyring)
    return tree


def imports_from(daemon, directory):
    """Have a daemon import the package from a directory, as on a host: .venv would give it the work tree's."""
    daemon.environ = daemon.environ | {"PYTHONPATH": str(directory)}


@pytest.fixture(scope="session")
def master(salt_factories, tree, keyring):
    """A master, configured as bootstrap.sh does it."""
    written = configuration(tree, MASTER, "master")["master"]
    overrides = {key: value for key, value in written.items() if key not in OWN}
    overrides |= {"gpg_keydir": str(keyring.directory), "interface": "127.0.0.1", "fileserver_backend": ["roots"]}
    daemon = salt_factories.salt_master_daemon(MASTER, overrides=overrides)
    imports_from(daemon, tree / "salt/_utils")
    with daemon.started():
        yield daemon


@pytest.fixture(scope="session")
def minion(master):
    """A function that gives a minion, which runs, and whose key the master knows, as long as its context lasts."""

    @contextlib.contextmanager
    def made(minion_id, **extra):
        written = configuration(ROOT, minion_id, "minion", "127.0.0.1", "00")["minion"]
        overrides = {key: value for key, value in written.items() if key not in (*OWN, "id", "master", "master_finger")}
        try:
            daemon = master.salt_minion_daemon(minion_id, overrides=overrides | extra)
            # What bootstrap.sh makes: the place of the copy of the package that its master gives it.
            copy = Path(daemon.config["extension_modules"], "utils")
            copy.mkdir(parents=True, exist_ok=True)
            imports_from(daemon, copy)
            with daemon.started():
                yield daemon
        finally:
            # The next minion of this id makes a key of its own, which the master would reject beside this one.
            deleted = master.salt_key_cli().run("--delete", minion_id, "--yes")
            assert deleted.returncode == 0, deleted.stdout

    return made
