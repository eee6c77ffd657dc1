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
# What pytest-salt-factories decides itself: the daemons' directories and ports.
OWN = ("user", "log_level", "log_level_logfile")


@pytest.fixture(scope="session")
def salt_factories_default_root_dir(tmp_path_factory):
    """The directory of the daemons. It is short, since a socket's path may have 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="salt-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def keyring():
    """The master's key, which can read the secrets of all environments."""
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
    """Make a daemon import the package from a directory, as on a host, and not the work tree's from .venv."""
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
    """A function that returns a context with a running minion whose key the master has accepted."""

    @contextlib.contextmanager
    def made(minion_id, **extra):
        written = configuration(ROOT, minion_id, "minion", "127.0.0.1", "00")["minion"]
        overrides = {key: value for key, value in written.items() if key not in (*OWN, "id", "master", "master_finger")}
        try:
            daemon = master.salt_minion_daemon(minion_id, overrides=overrides | extra)
            # bootstrap.sh makes this directory, into which the minion copies the package from its master.
            copy = Path(daemon.config["extension_modules"], "utils")
            copy.mkdir(parents=True, exist_ok=True)
            imports_from(daemon, copy)
            with daemon.started():
                yield daemon
        finally:
            # The next minion of this id makes a new key, which the master would reject while it has this one.
            deleted = master.salt_key_cli().run("--delete", minion_id, "--yes")
            assert deleted.returncode == 0, deleted.stdout

    return made
