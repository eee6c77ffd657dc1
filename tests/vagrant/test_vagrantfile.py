"""The Vagrantfile as Vagrant reads it: its hosts are those of the inventory, and mistakes are told by name."""

import os
import shutil
import socket
import subprocess

import pytest
import yaml

from lab.podman import LabError
from lab.tree import PILLAR, ROOT
from lab.vagrant.check import asked, changes
from saltern import environments

OLD = """
require "vagrant/version"
Vagrant.send(:remove_const, :VERSION)
Vagrant::VERSION = "2.2.19"
"""


@pytest.fixture
def tree(tmp_path):
    """A copy of the Vagrantfile and the inventory."""
    for path in (ROOT / name for name in ("Vagrantfile", "pillar/hosts.yaml", "salt/debian.yaml")):
        (tmp_path / path.relative_to(ROOT)).parent.mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    shutil.copytree(ROOT / "pillar/environments", tmp_path / "pillar/environments")
    return tmp_path


@pytest.fixture
def vagrant(tmp_path_factory, tree):
    """A function that runs a command of Vagrant over the copy, and returns its exit code and what it said."""
    home = tmp_path_factory.mktemp("home")

    def run(*command, **variables):
        done = subprocess.run(
            ["vagrant", *command],
            cwd=tree,
            env=os.environ | {"VAGRANT_HOME": str(home)} | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def rows(environment):
    """The rows of an environment, by id."""
    found = yaml.safe_load((ROOT / "pillar/hosts.yaml").read_text())
    return {host_id: row for host_id, row in found.items() if row["environment"] == environment}


@pytest.mark.parametrize("environment", environments.names(PILLAR))
def test_the_machines_are_the_inventory_s_hosts(environment):
    found = {one.pop("id"): one for one in asked(ROOT, environment)}
    assert found.keys() == rows(environment).keys()
    for host_id, row in rows(environment).items():
        assert found[host_id]["address"] == row["address"]
        assert (found[host_id]["hostname"], found[host_id]["told"]) == (host_id, [host_id])
        assert found[host_id]["own_tree"]


def test_what_others_need_comes_up_first():
    assert [one["id"] for one in asked(ROOT, "production")] == ["db1", "app1", "app2", "proxy1"]


@pytest.mark.parametrize("environment", environments.names(PILLAR))
def test_vagrant_finds_it_valid(vagrant, environment):
    assert vagrant("validate", SALTERN_ENV=environment) == (0, "Vagrantfile validated successfully.\n")


def test_an_environment_of_ones_own_is_its_file_and_its_rows(tree):
    (tree / "pillar/environments/qa.sls").write_text("app: {}\n")
    (tree / "pillar/hosts.yaml").write_text("qa1: {environment: qa, roles: [app], address: 10.77.9.10}\n")
    [one] = asked(tree, "qa")
    assert (one["id"], one["tree"]) == ("qa1", ".lab/vagrant-qa/tree")
    (tree / "pillar/environments/qa.sls").write_text("ephemeral: True\n")
    assert [one["tree"] for one in asked(tree, "qa")] == ["."]


def test_each_debian_has_its_box(tree):
    assert asked(tree, "dev")[0]["box"] == "debian/trixie64"
    assert asked(tree, "dev", SALTERN_SUITE="bookworm")[0]["box"] == "debian/bookworm64"
    assert asked(tree, "dev", SALTERN_SUITE="bookworm", SALTERN_BOX="own/box")[0]["box"] == "own/box"


def test_ports_of_the_laptop_lead_to_the_proxies_alone():
    found = {one["id"]: one["ports"] for one in asked(ROOT, "production", SALTERN_PORT="9000")}
    assert found == {"db1": {}, "app1": {}, "app2": {}, "proxy1": {"80": 9000, "443": 8443}}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"SALTERN_ENV": "prod"},
            "SALTERN_ENV: 'prod' is none that Saltern knows; expected one of dev, production, staging",
        ),
        (
            {"SALTERN_SUITE": "buster"},
            "SALTERN_SUITE: 'buster' is none that Saltern knows; expected one of trixie, bookworm",
        ),
        ({"SALTERN_MEMORY": "2G"}, "SALTERN_MEMORY: '2G' is no number from 512 to 1048576"),
        ({"SALTERN_CPUS": "0"}, "SALTERN_CPUS: '0' is no number from 1 to 256"),
        ({"SALTERN_PORT": "99999"}, "SALTERN_PORT: '99999' is no number from 1 to 65535"),
        ({"SALTERN_LOG": "loud"}, "SALTERN_LOG: 'loud' is none that Saltern knows; expected one of quiet, info, debug"),
    ],
)
def test_a_variable_that_cannot_be_is_refused(vagrant, variables, said):
    code, output = vagrant("validate", **variables)
    assert code and said in output
    assert ".rb:" not in output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "pillar/hosts.yaml: No such file"),
        ("dev: [", "pillar/hosts.yaml: "),
        ("dev: {environment: dev}", "pillar/hosts.yaml: dev: expected an environment, roles and an address"),
        ("{}", "pillar/hosts.yaml: no host is in the environment dev; add one"),
    ],
)
def test_an_inventory_that_cannot_be_is_refused(tree, vagrant, text, said):
    if text is None:
        (tree / "pillar/hosts.yaml").unlink()
    else:
        (tree / "pillar/hosts.yaml").write_text(text)
    code, output = vagrant("validate")
    assert code and said in output
    assert ".rb:" not in output


def test_without_a_build_nothing_is_booted(vagrant):
    code, output = vagrant("up", "--provider", "libvirt")
    assert code and "pillar/builds/dev.sls: no app has a build yet; run make build first" in output
    assert "not created" in vagrant("status")[1]


def built(tree, name, is_there=True):
    """Declare a build of an app, and put the tarball in its place."""
    (tree / "dist").mkdir()
    if is_there:
        (tree / "dist" / name).touch()
    (tree / "pillar/builds").mkdir()
    said = {"app": {"faq": {"build": {"source": f"/srv/saltern/dist/{name}", "sha256": "0" * 64}}}}
    (tree / "pillar/builds/dev.sls").write_text(yaml.safe_dump(said))


@pytest.mark.parametrize(
    ("name", "is_there", "said"),
    [
        (
            "faq-1-py3.11.tar.gz",
            True,
            "app.faq.build: faq-1-py3.11.tar.gz is not for py3.13 of trixie; run make build",
        ),
        ("faq-1-py3.13.tar.gz", False, "dist/faq-1-py3.13.tar.gz: not there; run make build SUITE=trixie APP=faq"),
    ],
)
def test_a_build_that_the_machine_could_not_run_is_refused(tree, vagrant, name, is_there, said):
    built(tree, name, is_there)
    code, output = vagrant("up", "--provider", "libvirt")
    assert code and said in output
    assert "not created" in vagrant("status")[1]


def test_a_port_that_is_taken_is_refused(tree, vagrant):
    built(tree, "faq-1-py3.13.tar.gz")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output = vagrant("up", "--provider", "libvirt", SALTERN_PORT=str(port))
    assert code and f"SALTERN_PORT: port {port} of 127.0.0.1 is in use" in output
    assert "not created" in vagrant("status")[1]


def test_a_vagrant_that_is_too_old_is_refused(tmp_path_factory, vagrant):
    old = tmp_path_factory.mktemp("old") / "old.rb"
    old.write_text(OLD)
    code, output = vagrant("validate", RUBYOPT=f"-r{old}")
    assert code and ">= 2.3.4" in output and "You are running Vagrant 2.2.19" in output


def test_a_machine_without_a_provider_is_told_so(vagrant):
    code, output = vagrant("up", VAGRANT_NO_PLUGINS="1")
    assert code and "No usable default provider could be found for your system." in output


def test_what_vagrant_is_asked_and_refuses_is_told(tree):
    (tree / "pillar/hosts.yaml").write_text("{}")
    with pytest.raises(LabError, match=r"no host is in the environment dev; add one"):
        asked(tree, "dev")


def test_changes_are_counted_by_salt_s_own_report():
    assert changes("Succeeded: 166\nFailed:      0\n") == 0
    assert changes("Succeeded: 166 (changed=3)\nFailed:      0\n") == 3
    assert changes("Succeeded: 166 (unchanged=2, changed=3)\nFailed:      0\n") == 3
    for bad in ("", "Succeeded: 1\nFailed:      2\n"):
        with pytest.raises(LabError):
            changes(bad)
