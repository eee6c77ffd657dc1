"""Every command of the README, as its reader would type it: in a clone, and on a server."""

import base64
import json
import os
import re
import shutil
import subprocess

import pytest
import yaml

from tests.keyring import Keyring
from tests.lab import Lab, machine
from tests.lab.lab import copy_tree
from tests.pillar import overlaid

from .client import Client
from .conftest import EXAMPLES, ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
PILLAR = [yaml.safe_load(text) for language, text in BLOCKS if language == "yaml"]

RELEASES = (
    "salt-call release.list tickets",
    "salt-call release.log tickets",
    "salt-call release.rollback tickets",
    "salt-call release.unhold tickets",
    "tickets-run python manage.py check",
    "salt-call app.orphans",
)

# Of its own: the developer's own lab may be up beside it.
LAB = "readme"
SUBNET = ("10.77.0.", "10.79.0.")


@pytest.fixture(scope="module")
def ran():
    """The commands of the README that were run."""
    return set()


@pytest.fixture(scope="module")
def clone(tmp_path_factory, reader):
    """A clone of the tree, with an app of one's own beside it."""
    directory = tmp_path_factory.mktemp("readme")
    copy_tree(ROOT, directory / "saltern")
    copy_tree(ROOT / "tests/apps/mirror", directory / "shop")
    for name in ("saltern", "shop"):
        for command in ("init -q", "add -A", "-c user.name=Reader -c user.email=reader@example.com commit -qm All"):
            subprocess.run(["git", *command.split()], cwd=directory / name, check=True)
    hosts = directory / "saltern/pillar/hosts.yaml"
    hosts.write_text(hosts.read_text().replace(*SUBNET))
    yield directory / "saltern"
    subprocess.run(["make", "-s", "down"], cwd=directory / "saltern", env=reader, check=True)
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def reader():
    """The environment of the README's reader."""
    return {**os.environ, "SALTERN_LAB": LAB}


@pytest.fixture(scope="module")
def type_in(clone, ran, reader):
    """A function that runs a command of the README in the clone and returns what it prints."""

    def run(command: str, **replaced: str) -> str:
        assert command in COMMANDS, f"the README does not say: {command}"
        ran.add(command)
        for old, new in replaced.items():
            command = command.replace(old, new)
        done = subprocess.run(["sh", "-c", command], cwd=clone, env=reader, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def port(type_in):
    """Where the proxy of the README's host is on this machine."""
    shown = type_in("make up")
    assert "http://tickets.localhost:" in shown
    return re.search(r"http://tickets\.localhost:(\d+)", shown)[1]


def test_make_up_run_again_changes_nothing(port, type_in):
    assert "0 changed" in type_in("make up")


def test_what_to_try_first(port, type_in):
    assert " passed" in type_in("make verify")
    curl = "curl --fail http://tickets.localhost:8080/"
    assert "<title>" in type_in(curl, **{"8080": port})
    logs = type_in("make logs FOLLOW=0")
    assert "tickets[web.1]" in logs
    assert "faq[web.1]" in logs
    logs = type_in("make logs APP=tickets PROCESS=worker FOLLOW=0")
    assert "tickets[worker.1]" in logs
    assert "web." not in re.sub(r"(?m)^.*?: ", "", logs)
    assert "dev" in type_in("make status")
    assert "0 changed" in type_in("make apply")
    assert re.fullmatch(r"dev  nothing would change in \d+ states\n", type_in("make drift"))


def test_the_environments_are_at_parity(type_in, clone):
    assert "The same everywhere" in type_in("make parity")
    assert "<table>" in (clone / "parity.html").read_text()


def test_make_drift_fails_when_a_host_has_drifted(port, clone, reader):
    subprocess.run(["podman", "exec", f"{LAB}-dev", "sh", "-c", "echo '# edited' >>/etc/nginx/nginx.conf"], check=True)
    done = subprocess.run(["make", "-s", "drift"], cwd=clone, env=reader, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout == "dev  1 state would change: nginx-config\n"


def test_an_app_of_ones_own(port, type_in, clone):
    for path, settings in zip(("common.sls", "environments/dev.sls"), PILLAR, strict=True):
        file = clone / "pillar" / path
        file.write_text(yaml.safe_dump(overlaid(yaml.safe_load(file.read_text()), settings)))
    type_in("make release APP=../shop")
    type_in("make apply")
    config = next(iter(PILLAR[1]["app"].values()))["config"]
    done = subprocess.run(
        ["curl", "--fail", "-s", f"http://shop.localhost:{port}/environ"], capture_output=True, text=True, check=True
    )
    environ = json.loads(done.stdout)["environ"]
    assert {name: base64.b64decode(environ[name]).decode() for name in config} == config
    assert {"DATABASE_URL", "REDIS_URL"} <= environ.keys()


def test_the_message_about_a_mistake_is_the_one_shown(port, clone, reader):
    (shown,) = (text for language, text in BLOCKS if language == "" and "did you mean" in text)
    common = clone / "pillar/common.sls"
    right = common.read_text()
    common.write_text(right.replace("    formation:\n      web: 2\n      worker: 1", "    formaton:\n      web: 2"))
    assert common.read_text() != right
    done = subprocess.run(["make", "apply"], cwd=clone, env=reader, capture_output=True, text=True, check=False)
    common.write_text(right)
    assert done.returncode != 0
    assert shown.strip() in done.stdout


def test_a_build_for_production_is_declared(type_in, clone):
    type_in("bin/build-release ../shop --declare pillar/builds/production.sls --source https://builds.example.com")
    build = yaml.safe_load((clone / "pillar/builds/production.sls").read_text())["app"]["shop"]["build"]
    assert build["source"].startswith("https://builds.example.com/shop-")


@pytest.fixture
def operator():
    """The README's operator, with a key."""
    operator = Keyring("you@example.com")
    yield operator
    operator.close()


def test_a_server(ran, tmp_path, operator, monkeypatch):
    with Lab.temporary("server", environment="production") as lab:
        host = lab.boot("web1")
        for app in EXAMPLES:
            lab.release(ROOT / "examples" / app, host.python)

        def on_the_host(command: str) -> str:
            assert command in COMMANDS
            ran.add(command)
            return host.run("sh", "-c", command, env=machine.index_environment()).stdout

        def in_the_clone(command: str, value: str | None = None, **replaced: str) -> str:
            assert command in COMMANDS
            ran.add(command)
            for old, new in replaced.items():
                command = command.replace(old, new)
            environ = {**os.environ, "GNUPGHOME": str(operator.directory)}
            done = subprocess.run(
                ["sh", "-c", command],
                cwd=lab.tree,
                env=environ,
                input=value,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        said = on_the_host("/srv/saltern/bootstrap.sh --id web1")
        key = re.search(r"(?s)-----BEGIN PGP PUBLIC KEY.*PUBLIC KEY BLOCK-----\n", said)[0]
        assert "put it into pillar/keys/hosts/web1.asc" in said
        (lab.tree / "pillar/keys/hosts/web1.asc").write_text(key)
        in_the_clone("gpg --armor --export you@example.com >pillar/keys/operators/you.asc")
        secret = "make secret ENV=production NAME=app.tickets.config.SECRET_KEY"
        in_the_clone(secret, "a-key-of-tickets-0123456789-0123456789-0123456789\n")
        in_the_clone(secret, "a-key-of-faq-0123456789-0123456789-0123456789\n", tickets="faq")
        assert "0 of 2 values encrypted anew" in in_the_clone("make secrets-rekey")
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        assert "certificates/production/web1.sls: issued; " in in_the_clone("make certificates ENV=production")
        on_the_host("salt-call state.apply test=True")
        assert "Failed:     0" in on_the_host("salt-call state.apply")
        assert Client(host.address, "tickets.example.com").get("/healthz").status_code == 200

        in_the_clone(secret, "another-key-of-tickets-0123456789-0123456789-0123456789\n")
        host.sh("salt-call state.apply")
        for command in RELEASES:
            assert command in COMMANDS
            ran.add(command)
            host.sh(command)
        assert "v2" in host.sh("salt-call release.list tickets").stdout
        # It is no longer held.
        host.sh("salt-call state.apply")

        key = tmp_path / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        host.sh("apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq install openssh-server >/dev/null 2>&1")
        public = (tmp_path / "key.pub").read_text()
        host.run("sh", "-c", "umask 077; mkdir -p /root/.ssh; cat >/root/.ssh/authorized_keys", input=public)
        (tmp_path / "config").write_text(
            f"Host web1\n HostName {host.address}\n IdentityFile {key}\n IdentitiesOnly yes\n"
            f" StrictHostKeyChecking accept-new\n UserKnownHostsFile {tmp_path}/known_hosts\n"
        )
        command = "make verify HOST=ssh://root@web1"
        assert command in COMMANDS
        ran.add(command)
        done = subprocess.run(
            [*command.split(), f"SSH_CONFIG={tmp_path}/config"],
            cwd=lab.tree,
            env={**os.environ, "GNUPGHOME": str(operator.directory)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert " passed" in done.stdout


def test_make_down_leaves_nothing(type_in):
    type_in("make down")
    names = subprocess.run(["podman", "ps", "-a", "--format={{.Names}}"], capture_output=True, text=True, check=True)
    assert f"{LAB}-dev" not in names.stdout.split()


def test_every_command_of_the_readme_was_run(ran):
    assert set(COMMANDS) == ran
