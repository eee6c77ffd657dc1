"""Hosts that exist only as a minion's configuration: Salt compiles the tree for them and applies nothing."""

import datetime
import json
import re
import shutil
from pathlib import Path

import yaml

from lab import machine, pillar
from lab.configuration import configuration
from saltern.tls import certificate
from saltern.web import tree

from .warm import SaltCall

ROOT = Path(__file__).parents[2]
CALL = SaltCall()
SUITES = sorted(machine.SUITES)

# Values that a template writes by mistake.
UNWANTED = re.compile(r"\{\{|\{%|Undefined|\bNone\b|\bTrue\b(?!-)|\bFalse\b")
BUILD = {"source": "/srv/builds/app.tar.gz", "sha256": "0" * 64}
BUILDS = {"app": {"faq": {"build": BUILD}, "tickets": {"build": BUILD}}}


def certificates(minion_id, address):
    """Return the pillar's certificates of a host that is one of several."""
    now = datetime.datetime.now(datetime.UTC)
    authority = certificate.new_authority("dev", now)
    key, own = certificate.parted(certificate.issue(authority, minion_id, address, now))
    return {"authorities": [certificate.parted(authority)[1]], "certificate": own, "key": key}


# Passwords that several hosts of an environment must share.
PASSWORDS = {
    "postgres": {
        "databases": {"faq": {"password": "of-faq-0123456789"}, "tickets": {"password": "of-tickets-0123456789"}}
    },
    "redis": {"instances": {"tickets": {"password": "of-redis-0123456789"}}},
}
# An inventory in which each host is alone in its environment.
ALONE = {
    name: {"environment": environment, "roles": ["database", "cache", "app", "proxy"], "address": f"10.77.{n}.10"}
    for n, (name, environment) in enumerate({"dev": "dev", "staging1": "staging", "web1": "production"}.items())
}


class Host:
    """A host in a directory, with a copy of the tree's pillar that a test may change."""

    def __init__(self, directory, minion_id, suite="bookworm"):
        self.id, self.directory, self.pillar = minion_id, directory, directory / "pillar"
        # The developer's own builds and secrets are left out.
        shutil.copytree(ROOT / "pillar", self.pillar, ignore=shutil.ignore_patterns("builds", "secrets"))
        config = configuration(ROOT, minion_id)["minion"] | {
            "pillar_roots": {"base": [str(self.pillar)]},
            "root_dir": str(directory / "root"),
            "gpg_keydir": str(directory / "gpgkeys"),
            "grains": {"oscodename": suite},
        }
        (directory / "minion").write_text(yaml.safe_dump(config))
        (directory / "host.key").write_text("0123456789abcdef")

    def declare(self, name, content):
        """Write a pillar file.

        :param name: below the pillar's root, such as ``builds/dev.sls``.
        :param content: text, or a value to be written as YAML.
        """
        path = self.pillar / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))

    def merge(self, settings, environment="dev"):
        """Lay settings over the declared ones, each in the file where it belongs."""
        pillar.declare(self.pillar, environment, settings)

    def introduce(self, keyring):
        """Declare what several hosts need: passwords, and the host's certificate encrypted to its key."""
        row = yaml.safe_load((self.pillar / "hosts.yaml").read_text())[self.id]
        config = yaml.safe_load((self.directory / "minion").read_text())
        # The keyring's own path is short enough for the socket of gpg's agent.
        config["gpg_keydir"] = str(keyring.directory)
        (self.directory / "minion").write_text(yaml.safe_dump(config))
        given = certificates(self.id, row["address"])
        given["key"] = keyring.encrypt(given["key"].encode())
        files = {
            f"secrets/{row['environment']}.sls": encrypted(PASSWORDS, keyring),
            f"certificates/{row['environment']}/{self.id}.sls": {"certificates": given},
        }
        for name, said in files.items():
            self.declare(name, "#!yaml|gpg\n" + yaml.safe_dump(said))

    def call(self, *arguments):
        """Run salt-call, and return its exit code and all that it printed."""
        return CALL.run("--local", "--config-dir", self.directory, *arguments)

    def ask(self, *arguments):
        """Run salt-call, which must work, and return its answer."""
        code, output = self.call("--out", "json", *arguments)
        assert code == 0, output
        return json.loads(output)["local"]

    def nginx(self, *apps):
        """Return nginx's tree with the sites of these apps, as the package renders it: text by path."""
        settings = self.ask("settings.load", "nginx")
        return tree.rendered(self.ask, settings, "salt://nginx/files/tree.jinja", apps, str(self.directory))

    def states(self):
        """Return the host's states, in the order in which they would run."""
        answer = self.ask("state.show_lowstate")
        # If states do not compile, Salt answers with the reasons.
        assert all(isinstance(state, dict) for state in answer), "\n".join(map(str, answer))
        return answer


def encrypted(said, keyring):
    """Return settings with each text encrypted."""
    if isinstance(said, dict):
        return {key: encrypted(value, keyring) for key, value in said.items()}
    return keyring.encrypt(said.encode())
