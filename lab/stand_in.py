"""The tree that lab hosts of non-ephemeral environments see.

It is a copy of the tree. The real hosts' keys, secrets and certificates are not in it: the copy has its own, made for
the lab's hosts.
"""

import copy
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml

from lab.podman import LabError, reason
from saltern import environments
from saltern.attachments.derived import passwords

# Short links to the operators' keys: the path of gpg's agent's socket may have 107 bytes at most (unix(7)).
LINKS = Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}") if os.getuid() else "/run") / "saltern-lab"
PUBLIC_KEY = ("gpg", "--homedir", "/etc/salt/gpgkeys", "--armor", "--export")


class StandIn:
    """A copy of a tree for one environment's hosts in the lab.

    :param source: the tree.
    :param directory: holds the copy, as ``tree``, and beside it files that no host may see.
    :param environment: one that is not ephemeral.
    :param settings: settings by formula that its hosts have in place of the environment's.
    """

    def __init__(self, source: Path, directory: Path, environment: str, settings: Mapping | None = None):
        self.source, self.environment, self.settings = source, environment, settings or {}
        self.tree, self.operator = directory / "tree", directory / "operator"
        self.authority, self.hosts = directory / "authority", directory / "hosts"

    @property
    def own(self) -> tuple[str, ...]:
        """The paths that are the copy's own."""
        kinds = [f"pillar/{kind}/{self.environment}" for kind in ("builds", "secrets", "certificates")]
        return ("dist", "pillar/keys", f"{kinds[0]}.sls", f"{kinds[1]}.sls", kinds[2])

    def copy(self, names: Iterable[str]) -> None:
        """Update the copy from the tree, except for its own paths.

        :param names: the files of the tree, as :func:`lab.tree.tree_files` lists them.
        """
        wanted = {name for name in names if not self.is_own(name)}
        for path in sorted(self.tree.rglob("*"), reverse=True):
            name = str(path.relative_to(self.tree))
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()) and not self.is_own(name):
                    path.rmdir()
            elif name not in wanted and not self.is_own(name):
                path.unlink()
        for name in sorted(wanted):
            target = self.tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.source / name, target, follow_symlinks=False)
        for kind in ("hosts", "operators"):
            (self.tree / "pillar/keys" / kind).mkdir(parents=True, exist_ok=True)
        self.copy_builds()
        path = self.tree / f"pillar/environments/{self.environment}.sls"
        said = read(path)
        wanted = within(said)
        for formula, settings in self.settings.items():
            wanted[formula] = (wanted.get(formula) or {}) | settings
        if wanted != said:
            path.write_text("#!yaml\n" + yaml.safe_dump(wanted))

    def is_own(self, name: str) -> bool:
        """Tell whether a path of the tree is one of the copy's own."""
        return any(name == one or name.startswith(f"{one}/") for one in self.own)

    def copy_builds(self) -> None:
        """Copy the builds that are declared in the tree, with their declarations.

        The examples' builds are the copy's own. Apps that the pillar no longer declares have no build.
        """
        name = f"pillar/builds/{self.environment}.sls"
        declared, there = (read(root / name).get("app") or {} for root in (self.source, self.tree))
        said = [read(self.source / f"pillar/{one}.sls") for one in ("common", f"environments/{self.environment}")]
        known = {app for one in said for app in one.get("app") or {}}
        apps = there | {app: one for app, one in declared.items() if not (self.source / "examples" / app).is_dir()}
        apps = {app: one for app, one in (declared | apps).items() if app in known}
        (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
        (self.tree / name).write_text(yaml.safe_dump({"app": apps}))
        (self.tree / "dist").mkdir(exist_ok=True)
        for path in (self.source / "dist").glob("*"):
            if not (self.tree / "dist" / path.name).exists():
                shutil.copy2(path, self.tree / "dist" / path.name)

    @property
    def environ(self) -> dict[str, str]:
        """Variables with which a command uses the operator's keys, until ``stop_agent``."""
        if not self.link.is_symlink():
            LINKS.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.link.symlink_to(self.operator)
        return {"GNUPGHOME": str(self.link)}

    @property
    def link(self) -> Path:
        """The short path of the operator's keys for gpg."""
        return LINKS / hashlib.sha256(os.fsencode(self.operator)).hexdigest()[:12]

    def gpg(self, *arguments: str) -> str:
        """Run gpg as the operator."""
        return self.run("gpg", "--batch", "--quiet", *arguments)

    def run(self, *command: str, input: str = "") -> str:
        """Run a command as the operator and return its output.

        :raises LabError: with its reason.
        """
        done = subprocess.run(
            command, input=input, capture_output=True, text=True, check=False, env=os.environ | self.environ
        )
        if done.returncode:
            raise LabError(f"{self.environment}: {Path(command[0]).name}: {reason(done)}")
        return done.stdout

    def secret(self, *arguments: str, value: str = "") -> str:
        """Run the copy's bin/secret as the operator."""
        return self.run(sys.executable, str(self.tree / "bin/secret"), *arguments, input=value)

    def write_secrets(self, public_keys: Mapping[str, str]) -> str:
        """Encrypt the environment's secrets to these hosts; return in a few words what was done.

        :param public_keys: the keys of the environment's hosts, by id.
        """
        self.make_operator()
        keys = self.tree / "pillar/keys"
        public = {f"hosts/{host_id}.asc": key for host_id, key in public_keys.items()}
        public["operators/lab.asc"] = self.gpg("--armor", "--export")
        is_changed = {str(path.relative_to(keys)) for path in keys.rglob("*.asc")} != public.keys()
        for name, text in public.items():
            if not (keys / name).exists() or (keys / name).read_text() != text:
                is_changed = True
                (keys / name).write_text(text)
        for path in keys.rglob("*.asc"):
            if str(path.relative_to(keys)) not in public:
                path.unlink()
        written = self.tree / f"pillar/secrets/{self.environment}.sls"
        there = {".".join(path) for path in leaves(read(written))}
        values = substitutes(self.source / "pillar", self.environment)
        if there - values.keys():
            # Secrets of an app that has left the pillar.
            written.unlink()
            there = set()
        missing = {name: value for name, value in values.items() if name not in there}
        try:
            for name, value in sorted(missing.items()):
                self.secret("set", "--environment", self.environment, name, value=value)
            if is_changed and there:
                self.secret("rekey", "--environment", self.environment)
        finally:
            self.stop_agent()
        return f"{len(values)}, {len(missing)} new{', encrypted anew' if is_changed and there else ''}"

    def make_host_key(self, host_id: str) -> str:
        """Make the key of a future host as bootstrap.sh would, if there is none. Return the public key.

        :param host_id: the host's id.
        """
        directory = self.hosts / host_id
        if not (directory / "public.asc").exists():
            # An empty directory is Vagrant's, which makes the directories that it syncs.
            shutil.rmtree(directory, ignore_errors=True)
            new = self.hosts / f"{host_id}.new"
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True, mode=0o700)
            (new / "gpg.conf").write_text("trust-model always\nno-auto-check-trustdb\nlock-never\n")
            LINKS.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=LINKS) as scratch:
                link = Path(scratch) / "new"
                link.symlink_to(new)
                gpg = ("gpg", "--homedir", str(link), "--batch", "--quiet", "--passphrase", "")
                self.run(*gpg, "--quick-generate-key", host_id, "ed25519", "cert,sign", "never")
                listed = self.run("gpg", "--homedir", str(link), "--with-colons", "--list-keys").splitlines()
                fingerprint = next(line.split(":")[9] for line in listed if line.startswith("fpr"))
                self.run(*gpg, "--quick-add-key", fingerprint, "cv25519", "encr", "never")
                (new / "public.asc").write_text(self.run("gpg", "--homedir", str(link), "--armor", "--export"))
                self.run("gpgconf", "--homedir", str(link), "--kill", "gpg-agent")
            new.rename(directory)
        return (directory / "public.asc").read_text()

    def stop_agent(self) -> None:
        """End the agent that gpg has started and left running."""
        self.run("gpgconf", "--kill", "gpg-agent")
        self.link.unlink(missing_ok=True)

    def make_operator(self) -> None:
        """Make the operator's key, if there is none."""
        if self.operator.is_dir():
            return
        self.operator.mkdir(parents=True, mode=0o700)
        try:
            self.gpg("--passphrase", "", "--quick-generate-key", "lab", "future-default", "default", "never")
        except BaseException:
            shutil.rmtree(self.operator)
            raise


def substitutes(pillar: Path, environment: str) -> dict[str, str]:
    """Return values for an environment's secrets, by setting: those of an ephemeral environment, or random ones.

    :param pillar: the root of the tree's pillar.
    :param environment: one that is not ephemeral.
    """
    roots = [str(pillar)]
    others = (other for other in environments.names(roots) if environments.is_ephemeral(roots, other))
    in_clear = {name: value for other in others for name, value in leaf_values(read(pillar / f"secrets/{other}.sls"))}
    names = {".".join(path) for path in leaves(read(pillar / f"secrets/{environment}.sls"))} | in_clear.keys()
    apps: dict[str, dict] = {}
    for name in ("common.sls", f"environments/{environment}.sls"):
        for app, one in (read(pillar / name).get("app") or {}).items():
            apps.setdefault(app, {}).update((one or {}).get("attach") or {})
    # Passwords that several hosts must share; a single host would derive them from its key.
    names |= {".".join(path) for attach in apps.values() for path in passwords(attach)}
    # The lab leaves these out; see ``within``.
    names = {name for name in names if not name.endswith((".url", ".site.key"))}
    return {name: in_clear.get(name) or secrets.token_hex(20) for name in names}


def within(said: dict) -> dict:
    """Return an environment's settings without those that lead out of the lab or make sense only outside it.

    Left out are URLs in place of a declared resource, bought certificates, and the authority that issues others.

    :param said: the content of the environment's file.
    """
    said = copy.deepcopy(said)
    if ((said.get("nginx") or {}).get("tls") or {}).get("source") == "acme":
        said["nginx"]["tls"]["source"] = "authority"
    for one in (said.get("app") or {}).values():
        for target in ((one or {}).get("attach") or {}).values():
            if target.keys() - {"url"}:
                target.pop("url", None)
        ((one or {}).get("site") or {}).pop("certificate", None)
    return said


def leaf_values(said: Mapping) -> Iterator[tuple[str, str]]:
    """Yield each text with its setting's path."""
    for path in leaves(said):
        value = said
        for key in path:
            value = value[key]
        if isinstance(value, str):
            yield ".".join(path), value


def leaves(said: Mapping, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of each value that is no mapping."""
    for key, value in said.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key))


def read(path: Path) -> dict:
    """Return the content of a pillar file; empty if there is no file.

    :raises LabError: when the file would have to be rendered first.
    """
    try:
        return yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        return {}
    except yaml.YAMLError as error:
        raise LabError(f"{path}: {str(error).splitlines()[0]}; the lab reads it as YAML, without Jinja") from None
