"""The modules under test, loaded from their files as Salt's loader does, without Salt's dunders.

A test that needs ``__salt__``, ``__pillar__`` or ``__opts__`` gives them as plain mappings with the fixture
``dunders``.
"""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from saltern import inventory, services
from saltern.host import Host
from saltern.paths import Roots
from saltern.settings.schema import read_schemas
from saltern.tls import known

ROOT = Path(__file__).parents[2]
LAUNCHER = [path.stem for path in (ROOT / "formulas/app/files/launcher").glob("[a-z]*.py")]


def module(path):
    """Return a fixture that loads a file of the tree as a module.

    :param path: from the root of the tree.
    """

    @pytest.fixture(scope="session")
    def loaded():
        spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
        it = importlib.util.module_from_spec(spec)
        # Salt does this while it loads a module, since modules of a directory may share state.
        beside = str((ROOT / path).parent)
        sys.path.append(beside)
        try:
            spec.loader.exec_module(it)
        finally:
            sys.path.remove(beside)
        return it

    return loaded


app_limits = module("salt/_modules/app_limits.py")
app_limits_states = module("salt/_states/app_limits.py")
attachment = module("salt/_modules/attachment.py")
certificate_states = module("salt/_states/certificate.py")
contract_states = module("salt/_states/contract.py")
rows_outputter = module("salt/_output/rows.py")
highstate_outputter = module("salt/_output/highstate.py")
progress_handler = module("salt/_log_handlers/progress.py")
notes = module("salt/_modules/notes.py")
notes_states = module("salt/_states/notes.py")
fleet_states = module("salt/_states/fleet.py")
apt_lock = module("salt/_modules/apt_lock.py")
apt_lock_states = module("salt/_states/apt_lock.py")
minions = module("salt/_runners/minions.py")
drift = module("salt/_modules/drift.py")
drift_script = module("formulas/drift/files/drift.py")
drift_timer = module("salt/_states/drift_timer.py")
app_packages_states = module("salt/_states/app_packages.py")
app_user = module("salt/_states/app_user.py")
certificate_module = module("salt/_modules/certificate.py")
site_certificate_module = module("salt/_modules/site_certificate.py")
job_states = module("salt/_states/job.py")
kept_module = module("salt/_modules/kept.py")
process_module = module("salt/_modules/process.py")
journal_module = module("salt/_modules/journal.py")
release_states = module("salt/_states/release.py")
root_directory = module("salt/_states/root_directory.py")
contract_command = module("formulas/app/files/contract.py")
nginx_tree_states = module("salt/_states/nginx_tree.py")
nginx_http3_states = module("salt/_states/nginx_http3.py")
peers_script = module("formulas/nginx/files/peers.py")
peers_states = module("salt/_states/peers.py")
redis_instance = module("salt/_states/redis_instance.py")
site_users = module("salt/_states/site_users.py")
service_config = module("salt/_states/service_config.py")
watching = module("salt/_states/watching.py")
postgres_cluster = module("salt/_states/postgres_cluster.py")
unit_states = module("salt/_states/unit.py")
pillar_settings = module("salt/_pillar/settings.py")


@pytest.fixture(scope="session")
def launcher():
    """The launcher's modules, as the command beside them imports them."""
    beside = str(ROOT / "formulas/app/files")
    sys.path.insert(0, beside)
    try:
        return SimpleNamespace(**{name: importlib.import_module(f"launcher.{name}") for name in LAUNCHER})
    finally:
        sys.path.remove(beside)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch, tmp_path_factory):
    """A place of the test's own for what is known of certificates."""
    monkeypatch.setattr(known, "PATH", str(tmp_path_factory.mktemp("run") / "certificates.known"))


@pytest.fixture
def dunders(monkeypatch):
    """Return a function that gives a module its dunders: ``dunders(module, salt={…}, pillar={…}, opts={…})``."""

    def give(to, **values):
        for name, value in values.items():
            monkeypatch.setattr(to, f"__{name}__", value, raising=False)

    return give


@pytest.fixture(scope="session")
def schemas():
    """The schemas of the tree's own formulas."""
    found = read_schemas([ROOT / "salt", ROOT / "formulas"])
    del found["hosts"]
    return found


@pytest.fixture(scope="session")
def hosts_schema():
    """The schema of the inventory, with the tree's environments and roles."""
    form = read_schemas([ROOT / "salt"])["hosts"]
    return inventory.schema(form, Roots([str(ROOT / "pillar")], [str(ROOT / "salt")], ""))


@pytest.fixture
def on_a_host(tmp_path):
    """A host with a key and one app, which attaches a database, a Redis instance, another app and URLs."""
    (tmp_path / "host.key").write_text("key\n")
    attach = {
        "DATABASE_URL": {"postgres": "shop", "address": "127.0.0.1", "port": 5432},
        "REDIS_URL": {"redis": "shop", "address": "127.0.0.1", "port": 8099},
        "FAQ_API": {"service": "faq", "version": "v1", "address": "127.0.0.1", "port": 8100, "path": "/v1"},
        "MAIL_URL": {"url": "smtp://mail.example.com"},
        "OLD_URL": {"postgres": "old", "url": "postgres://old.example.com/old"},
    }
    pillar = {kind: {service.plural: {}} for kind, service in services.formulas().items()} | {
        "app": {"shop": {"config": {"GREETING": "50 % off $PATH"}, "attach": attach}},
        "postgres": {"databases": {"shop": {"owner": "shop"}}},
        "redis": {"instances": {"shop": {"owner": "shop", "password": "p/w@:#?%", "port": 8099}}},
        "hosts": {"one": {"roles": ["database", "cache", "app"], "address": "10.0.0.1"}},
    }
    return Host.of({}, pillar, {"conf_file": str(tmp_path / "minion"), "id": "one"})
