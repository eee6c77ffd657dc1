"""The states and the pillar of a tree, compiled for hosts that need not be there."""

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import salt.config
import salt.loader
import salt.pillar
import salt.utils.yaml
from salt.exceptions import CommandExecutionError

from saltern import environments, inventory, services
from saltern.attachments import derived
from saltern.paths import Roots
from saltern.secrets import files as secrets
from saltern.settings import undeclared
from saltern.settings.check import check
from saltern.settings.complete import completed
from saltern.settings.files import misplaced, unreadable
from saltern.settings.schema import parted, read_schemas

# Salt's execution modules, as a host has them.
Functions = Any

# What differs between the Debians, by code name; the first is the one that all else is compared on.
MAP = "debian.yaml"
# What a secret is taken to be, and a build where none is declared: any value of a setting that varies will do.
ENCRYPTED = "-----BEGIN PGP MESSAGE-----"
SECRET = "encrypted://on-the-hosts-alone"
BUILD = {"source": "/none", "sha256": "0" * 64}


class Tree:
    """The states and the pillar of a tree, compiled for hosts that need not be there.

    :param opts: Salt's options; of these the file roots and the pillar roots.
    :param directory: an empty directory for what is written meanwhile.
    :raises CommandExecutionError: when the inventory has a mistake.
    """

    def __init__(self, opts: Mapping[str, Any], directory: str) -> None:
        self.roots, self.pillar_roots = opts["file_roots"]["base"], opts["pillar_roots"]["base"]
        self.directory = directory
        # A host's passwords are derived from its key. No table shows them.
        with open(f"{directory}/host.key", "w", encoding="ascii") as stream:
            stream.write("0" * 64)
        path = next(path for path in (os.path.join(root, MAP) for root in self.roots) if os.path.exists(path))
        with open(path, encoding="utf-8") as stream:
            self.debians = salt.utils.yaml.safe_load(stream)
        self.suite = next(iter(self.debians))
        refuse(unreadable(self.pillar_roots, ["hosts.yaml"]))
        self.hosts = inventory.read(Roots.of(opts))
        self.schemas = read_schemas(self.roots)
        of_inventory = {"hosts": inventory.schema(self.schemas.pop("hosts"), Roots.of(opts))}
        refuse(check(of_inventory, {"hosts": self.hosts}))
        refuse(inventory.mistakes(self.hosts, min(self.hosts)))
        self.environments = [one for one in environments.names(self.pillar_roots) if self.ids(one)]
        self.declared = {minion_id: self.read(minion_id) for minion_id in sorted(self.hosts)}

    def ids(self, environment: str) -> list[str]:
        """Return the ids of an environment's hosts, sorted."""
        return sorted(name for name, row in self.hosts.items() if row["environment"] == environment)

    def debian(self, suite: str) -> str:
        """Return the name of a Debian release."""
        return f"Debian {self.debians[suite]['version']}"

    def functions(
        self,
        minion_id: str,
        suite: str | None = None,
        pillar: Mapping[str, Any] | None = None,
        roots: Sequence[str] = (),
    ) -> Functions:
        """Return Salt's execution modules as a host has them.

        :param pillar: its pillar, complete.
        :param roots: directories that come before the file roots.
        """
        opts = self.opts(minion_id, suite, roots) | {"pillar": pillar or {}}
        return salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))

    def opts(self, minion_id: str, suite: str | None = None, roots: Sequence[str] = ()) -> dict[str, Any]:
        """Return the options that a host has: one of the first Debian, where none is given."""
        suite = suite or self.suite
        return dict(salt.config.minion_config(None, role="minion").items()) | {
            "id": minion_id,
            "file_client": "local",
            "file_roots": {"base": [*roots, *self.roots]},
            "pillar_roots": {"base": [self.directory, *self.pillar_roots]},
            "module_dirs": [os.path.join(root, "_modules") for root in self.roots],
            "lazy_loader_strict_matching": True,
            "cachedir": f"{self.directory}/cache/{minion_id}",
            "conf_file": f"{self.directory}/minion",
            "grains": {
                "id": minion_id,
                "os": "Debian",
                "os_family": "Debian",
                "oscodename": suite,
                "osrelease": str(self.debians[suite]["version"]),
                "osmajorrelease": self.debians[suite]["version"],
                "kernel": "Linux",
                "init": "systemd",
                "virtual": "physical",
            },
            # What has Salt take the pillar that is there.
            "__cli": "salt-call",
        }

    def read(self, minion_id: str) -> dict[str, Any]:
        """Return what the pillar files say of the formulas to a host, with nothing decrypted.

        :raises CommandExecutionError: when they have a mistake.
        """
        environment = self.hosts[minion_id]["environment"]
        own = [f"{kind}/{environment}.sls" for kind in ("environments", "builds", "secrets")]
        own.append(secrets.certificates(environment, minion_id))
        refuse(unreadable(self.pillar_roots, ["common.sls", *own]))
        refuse(misplaced(self.schemas, self.pillar_roots, own))
        for name in own[-2:]:
            self.take_for_secrets(name)
        opts = self.opts(minion_id)
        pillar = salt.pillar.Pillar(opts, opts["grains"], minion_id, "base").compile_pillar()
        refuse(f"{minion_id}: {error}" for error in pillar.pop("_errors", []))
        partial = undeclared.apps(self.pillar_roots, environment, pillar)
        refuse(message for messages in partial.values() for message in messages)
        # Certificates are each host's own.
        declared = {
            key: value for key, value in pillar.items() if key not in ("hosts", "certificates", environments.KEY)
        }
        for one in (declared.get("app") or {}).values():
            if isinstance(one, dict):
                one.setdefault("build", BUILD)
        return dict(overlaid(passwords(declared), declared))

    def take_for_secrets(self, name: str) -> None:
        """Write a file of secrets with something in the place of each that is encrypted."""
        for root in self.pillar_roots:
            path = os.path.join(root, name)
            if os.path.exists(path):
                with open(path, encoding="utf-8") as stream:
                    said = unencrypted(salt.utils.yaml.safe_load(stream))
                os.makedirs(os.path.dirname(f"{self.directory}/{name}"), exist_ok=True)
                with open(f"{self.directory}/{name}", "w", encoding="utf-8") as stream:
                    stream.write("#!yaml\n")
                    salt.utils.yaml.safe_dump(said, stream)
                return

    def pillar(self, minion_id: str, declared: Mapping[str, Any], hosts: Mapping[str, Any]) -> dict[str, Any]:
        """Return a host's pillar, complete.

        :param declared: what is said of the formulas.
        :param hosts: the inventory.
        :raises CommandExecutionError: when that has a mistake.
        """
        roots = [self.directory, *self.pillar_roots]
        settings, mistakes = completed(self.schemas, copy.deepcopy(declared), hosts, minion_id, roots)
        refuse(f"{self.hosts[minion_id]['environment']}: {mistake}" for mistake in mistakes)
        return {**settings, "hosts": hosts, "_declared": sorted(declared)}

    def own(self, minion_id: str, suite: str | None = None, roots: Sequence[str] = ()) -> Functions:
        """Return the execution modules of a host as it is."""
        pillar = self.pillar(minion_id, self.declared[minion_id], self.hosts)
        return self.functions(minion_id, suite, pillar, roots)

    def like(self, minion_id: str, other: str) -> Functions:
        """Return the execution modules of a host with the settings that vary, and the place, of another."""
        same, _ = self.parted(minion_id)
        _, varying = self.parted(other)
        own, place = (self.hosts[name]["environment"] for name in (minion_id, other))
        # Whether its hosts are thrown away an environment's file says, so that it varies.
        said = {"environment": own, "ephemeral": environments.is_ephemeral(self.pillar_roots, place)}
        hosts = {
            minion_id if name == other else name: row | said
            for name, row in self.hosts.items()
            if row["environment"] == place
        }
        return self.functions(minion_id, None, self.pillar(minion_id, overlaid(same, varying), hosts))

    def parted(self, minion_id: str) -> tuple[Any, Any]:
        """Return what is declared for a host and does not vary, and what varies."""
        return parted({"properties": self.schemas}, self.declared[minion_id])


def refuse(mistakes: Iterable[str]) -> None:
    """Raise a CommandExecutionError with mistakes, where there are any."""
    if found := list(mistakes):
        raise CommandExecutionError("\n".join(found))


def unencrypted(value: Any) -> Any:
    """Return a value with something in the place of each encrypted message in it."""
    if isinstance(value, dict):
        return {key: unencrypted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unencrypted(item) for item in value]
    return SECRET if isinstance(value, str) and ENCRYPTED in value else value


def passwords(declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return something in the place of each password that several hosts must know, and that no file need say yet.

    :param declared: what is said of the formulas, which may have mistakes.
    """
    found: dict[str, Any] = {kind: {service.plural: {}} for kind, service in services.formulas().items()}
    apps = declared.get("app")
    for app in apps.values() if isinstance(apps, dict) else ():
        attach = app.get("attach") if isinstance(app, dict) else None
        for kind, plural, name, password in derived.passwords(attach if isinstance(attach, dict) else {}):
            found[kind][plural][name] = {password: SECRET}
    return found


def overlaid(below: Any, above: Any) -> Any:
    """Return a mapping with another laid over it, at every depth."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: overlaid(below.get(key), value) for key, value in above.items()}
