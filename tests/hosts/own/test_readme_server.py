"""Every command of the README and of docs/ that is for a server, as its operator would type it."""

import json
import os
import re
import shlex
import subprocess

import pytest

from lab import Lab, machine
from tests.hosts.client import Client
from tests.hosts.conftest import ROOT
from tests.hosts.examples import EXAMPLES, ROLES
from tests.hosts.readme import COMMANDS
from tests.hosts.rows import declare_hosts
from tests.keyring import Keyring

RELEASES = (
    "salt-call release.list tickets",
    "salt-call release.show tickets",
    "salt-call release.log tickets",
    "salt-call release.rollback tickets",
    "salt-call release.unhold tickets",
    "tickets-run python manage.py check",
    "salt-call app.orphans",
    "salt-call app.maintenance tickets on",
    "salt-call app.maintenance tickets",
    "salt-call app.maintenance tickets off",
)
TOKEN = 'a token "with" $SIGNS, 100 % \\ and spaces '
GREETING = "it's ${HOME} \\n, é"
ENVIRON = "import json, os; print(json.dumps(dict(os.environ)))"
DRIFT = "systemctl start saltern-drift"
JOURNAL = "journalctl -t saltern-drift _UID=0 -n 5"


@pytest.fixture
def operator():
    """The README's operator, with a key."""
    operator = Keyring("you@example.com")
    yield operator
    operator.close()


def test_a_server(tmp_path, operator, monkeypatch):
    with Lab.temporary("server", environment="production") as lab:
        declare_hosts(lab, {"web1": ROLES}, "production")
        host = lab.boot("web1")
        for app in EXAMPLES:
            lab.build(ROOT / "examples" / app, host.python)

        def on_the_host(command: str) -> str:
            assert command in COMMANDS
            return host.run("sh", "-c", command, env=machine.index_environment()).stdout

        def in_the_clone(command: str, value: str | None = None, **replaced: str) -> str:
            assert command in COMMANDS
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
        assert re.search(r"^Failed: +0$", on_the_host("salt-call state.apply"), re.MULTILINE)
        own = tmp_path / "authority.pem"
        own.write_text(host.sh("sed -n '/BEGIN CERT/,$p' /etc/ssl/saltern/authority.pem").stdout)
        assert Client(host.address, "tickets.example.com", str(own)).get("/healthz").status_code == 200

        generated = "make secret ENV=production NAME=app.shop.config.SECRET_KEY GENERATE=50"
        in_the_clone(generated, shop="tickets")
        (lab.tree / ".env").write_text(f"API_TOKEN='{TOKEN}'\n")
        in_the_clone("make config-import APP=shop ENV=production FILE=.env", shop="tickets")
        (tmp_path / "config.json").write_text(json.dumps({"GREETING": GREETING}))
        in_the_clone(
            "heroku config --json | make config-import APP=shop ENV=production FILE=-",
            **{"heroku config --json": f"cat {tmp_path}/config.json", "shop": "tickets"},
        )
        host.sh("salt-call state.apply")
        environ = json.loads(host.sh(f"tickets-run python -c {shlex.quote(ENVIRON)}").stdout)
        assert re.fullmatch("[A-Za-z0-9]{50}", environ["SECRET_KEY"])
        assert (environ["API_TOKEN"], environ["GREETING"]) == (TOKEN, GREETING)
        for command in RELEASES:
            assert command in COMMANDS
            host.sh(command)
        assert "v2" in host.sh("salt-call release.list tickets").stdout
        # The rollback's hold has ended.
        host.sh("salt-call state.apply")
        on_the_host(DRIFT)
        assert "nothing would change" in on_the_host(JOURNAL)

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
