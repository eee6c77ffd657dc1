"""A lab: hosts of one environment, on a network of their own, over one tree."""

import dataclasses
import fcntl
import hashlib
import ipaddress
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from lab import image, machine
from lab.host import PRIVATE, TREE, Host
from lab.network import POOL, free_subnets, taken_subnets
from lab.podman import LabError, podman, reason, remove_containers
from lab.stand_in import StandIn
from lab.tree import DEFAULT, INVENTORY, PILLAR, ROOT, copy_tree, inventory, subnet_of, tree_files
from saltern import environments

NETWORK_LOCK = Path("/run/lock/saltern-lab-network")
# The labels by which a lab knows its own containers, networks and images.
LAB, OWNER, RUN, ID, SUITE = "saltern.lab", "saltern.tree", "saltern.run", "saltern.id", "saltern.suite"


@dataclasses.dataclass
class Lab:
    """Hosts that belong together.

    ``Lab.of_tree()`` is the lab of ``make up``: the hosts of an environment, with their own names and addresses. Hosts
    of an ephemeral environment see the tree itself, others see a stand-in for it. ``Lab.temporary(name)`` is for tests:
    it has a copy of the tree that a test may edit, a free network, and containers named ``<name>-<id>``. Its name ends
    in four digits of this checkout's, so that any number of such labs can run side by side.

    :param name: the lab's name.
    :param environment: the environment whose hosts it boots.
    :param tree: the directory that its hosts see as /srv/saltern.
    :param prefix: what the containers' names begin with.
    :param subnet: its network's addresses, or ``None`` for free ones.
    :param stand_in: the stand-in that the hosts see, or ``None`` if they see the tree itself.
    :param temporary_directory: the directory with a temporary lab's copy of the tree.
    :param lock: the open lock file of a temporary lab, which belongs to this run until the process ends.
    """

    name: str
    environment: str
    tree: Path
    prefix: str = ""
    subnet: ipaddress.IPv4Network | None = None
    temporary_directory: tempfile.TemporaryDirectory | None = None
    lock: IO | None = None
    stand_in: StandIn | None = None

    @classmethod
    def of_tree(cls, environment: str = DEFAULT, name: str = "", settings: Mapping | None = None) -> "Lab":
        """Return the lab of ``make up`` for an environment.

        If SALTERN_LAB is set, it is a second lab of that name, which can be up at the same time.

        :param environment: the environment of its hosts.
        :param name: the lab's name, if it is not for ``make up``.
        :param settings: settings that the hosts of a stand-in have in place of the declared ones; see :class:`StandIn`.
        :raises LabError: when the inventory has no such hosts.
        """
        known = environments.names(PILLAR)
        if environment not in known:
            raise LabError(f"ENV: '{environment}' is no environment; expected one of {', '.join(known)}")
        other = "" if name else os.environ.get("SALTERN_LAB")
        new = cls(
            name=f"{name or other or 'up'}-{environment}",
            environment=environment,
            tree=ROOT,
            prefix=f"{other}-" if other else "",
            subnet=subnet_of(inventory(ROOT), environment),
        )
        if not environments.is_ephemeral(PILLAR, environment):
            new.stand_in = StandIn(ROOT, ROOT / ".lab" / new.name, environment, settings)
            new.tree = new.stand_in.tree
        return new

    @classmethod
    def temporary(cls, name: str, environment: str = DEFAULT) -> "Lab":
        """Return a new lab over a copy of the tree: every file that git knows or would add.

        The copy's inventory gives the environment's hosts addresses of the lab's own network. Leftovers of a killed run
        with this lab's name are removed first.

        :param name: what it is for. A lab of another checkout may have the same name.
        :param environment: the environment of its hosts.
        :raises LabError: when another run of this checkout has it.
        """
        name = f"{name}-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:4]}"
        lock = (ROOT / ".lab" / f"{name}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"{name}: another run in {ROOT} has this lab; wait for its end") from None
        remove_labelled({LAB: name, OWNER: str(ROOT)})
        directory = tempfile.TemporaryDirectory(prefix=f"saltern-{name}-")
        tree = Path(directory.name)
        tree.chmod(0o755)
        copy_tree(ROOT, tree)
        lab = cls(name, environment, tree, prefix=f"{name}-", temporary_directory=directory, lock=lock)
        try:
            lab.open_network()
            lab.readdress()
        except BaseException:
            lab.remove()
            raise
        return lab

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_) -> None:
        self.remove()

    @property
    def network(self) -> str:
        """The name of its network in podman."""
        return f"saltern-{self.name.removeprefix('up-')}"

    @property
    def labels(self) -> dict[str, str]:
        """The labels that mark its containers and its network."""
        labels = {LAB: self.name, OWNER: str(ROOT)}
        if run := os.environ.get("SALTERN_RUN"):
            labels[RUN] = run
        return labels

    def refresh(self) -> None:
        """Update the stand-in from the tree, if there is one."""
        if self.stand_in:
            self.stand_in.copy(tree_files(ROOT))

    @property
    def ids(self) -> list[str]:
        """The ids of the environment's hosts, sorted."""
        return sorted(id for id, row in inventory(self.tree).items() if row["environment"] == self.environment)

    def open_network(self) -> None:
        """Create the network where it is missing.

        :raises LabError: when its name or its addresses are somebody else's.
        """
        # podman picks a free bridge name, so that one of two creations at the same time would fail.
        with NETWORK_LOCK.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._open_network()

    def _open_network(self) -> None:
        there = podman("network", "inspect", self.network, check=False)
        if there.returncode == 0:
            self.refuse_foreign("network", self.network, json.loads(there.stdout)[0].get("labels") or {})
            self.subnet = ipaddress.ip_network(json.loads(there.stdout)[0]["subnets"][0]["subnet"])
            return
        candidates = [self.subnet] if self.subnet else free_subnets(taken_subnets())
        flags = [f"--label={key}={value}" for key, value in self.labels.items()]
        refused = None
        for subnet in candidates:
            refused = podman("network", "create", *flags, f"--subnet={subnet}", self.network, check=False)
            if refused.returncode == 0:
                self.subnet = subnet
                return
            # Another lab may just have taken the subnet: then the next one is tried. Other errors are final.
            if "subnet" not in refused.stderr:
                break
        said = reason(refused) if refused else "every /24 of it is taken"
        where = candidates[0] if self.subnet else POOL
        raise LabError(f"network {self.network} on {where}: {said}; remove what is there, see podman network ls")

    def readdress(self) -> None:
        """Give the environment's hosts addresses of this lab's network, in its copy of the inventory."""
        path = self.tree / INVENTORY
        text = path.read_text()
        for row in inventory(self.tree).values():
            if row["environment"] == self.environment:
                last = int(ipaddress.ip_address(row["address"])) & 0xFF
                text = text.replace(f"address: {row['address']}\n", f"address: {self.subnet[last]}\n")
        path.write_text(text)

    def host(self, host_id: str) -> Host | None:
        """Return a host of this lab, running or not, or ``None`` if it does not exist.

        :raises LabError: when a container of its name is somebody else's.
        """
        name = f"{self.prefix}{host_id}"
        there = podman("container", "inspect", name, check=False)
        if there.returncode:
            return None
        container = json.loads(there.stdout)[0]
        labels = container["Config"].get("Labels") or {}
        self.refuse_foreign("container", name, labels)
        address = container["NetworkSettings"]["Networks"].get(self.network, {}).get("IPAddress")
        return Host(name=name, id=host_id, address=address or self.address(host_id), suite=labels[SUITE])

    def hosts(self) -> list[Host]:
        """Return the existing hosts of this lab, sorted by id."""
        listed = podman(
            "ps", "-a", f"--filter=label={LAB}={self.name}", f"--filter=label={OWNER}={ROOT}", "--format=json"
        )
        ids = sorted(container["Labels"][ID] for container in json.loads(listed.stdout))
        return [host for host_id in ids if (host := self.host(host_id))]

    def address(self, host_id: str) -> str:
        """Return the address of a host, from the inventory.

        :raises LabError: when the inventory has no such host.
        """
        row = inventory(self.tree).get(host_id)
        if not row:
            raise LabError(f"{host_id}: not in {INVENTORY}; add a row for it")
        return row["address"]

    def boot(
        self,
        host_id: str,
        suite: str = machine.SUITES[0],
        image_name: str | None = None,
        port: int | None = None,
        reboots: bool = False,
    ) -> Host:
        """Boot a new host and wait for its systemd.

        :param host_id: its id in the inventory.
        :param suite: its Debian.
        :param image_name: the image to boot, from :meth:`Host.snapshot`; the bare base image where it is not given.
        :param port: a port of this machine's loopback that leads to the host's port 80, or ``None``.
        :param reboots: whether it comes back by itself after ``reboot``, or after its first process has died.
        :raises LabError: when it cannot be booted; then nothing of it is left.
        """
        self.open_network()
        image_name = image_name or image.ensure(suite)[0]
        host = Host(name=f"{self.prefix}{host_id}", id=host_id, address=self.address(host_id), suite=suite)
        labels = self.labels | {ID: host_id, SUITE: suite}
        arguments = ["--detach", f"--name={host.name}", f"--hostname={host_id}"]
        arguments += [f"--label={key}={value}" for key, value in labels.items()]
        arguments += [f"--network={self.network}", f"--network-alias={host_id}", f"--ip={host.address}"]
        arguments += [f"--publish=127.0.0.1:{port}:80"] if port else []
        arguments += ["--restart=always"] if reboots else []
        # Control groups of its own: without them a systemd on version 1 has no controllers and enforces no limits.
        arguments += ["--cgroupns=private", "--privileged", "--systemd=always", *machine.limits()]
        arguments += [f"--volume={self.tree}:{PRIVATE}/tree:ro"]
        started = podman("run", *arguments, image_name, *machine.init_command(suite), check=False)
        if started.returncode:
            # podman keeps a container that it created and could not start. A container that already had the name is not
            # ours.
            if f'name "{host.name}" is already in use' not in started.stderr:
                podman("rm", "--force", "--time", "0", host.name, check=False)
            raise LabError(f"{host_id}: podman could not start it: {reason(started)}")
        host.wait()
        # The lab must not change permissions of this machine's tree, so the directory above it is closed to all but
        # root.
        host.sh(f"chmod 700 {PRIVATE}; rmdir {TREE} 2>/dev/null || true; ln -sfn {PRIVATE}/tree {TREE}")
        return host

    def revive(self, host: Host) -> bool:
        """Start a host that exists and does not answer: this machine was rebooted, or somebody stopped the host.

        :return: whether it is up again. If not, only a new host helps.
        """
        if podman("restart", "--time", "2", host.name, check=False).returncode:
            return False
        try:
            host.wait()
        except LabError:
            return False
        return True

    def build(self, app: Path, python: str, source: str = f"{TREE}/dist") -> dict:
        """Build an app's working tree and declare the build in this lab's environment.

        :param app: the app's directory.
        :param python: the version of the hosts' Python, such as ``3.11``.
        :param source: where the hosts find the build.
        :return: bin/build's answer: app, version, path and sha256.
        :raises LabError: with its reason.
        """
        result = subprocess.run(
            [
                *(str(ROOT / "bin/build"), str(app), "--worktree", "--python", python),
                *("--output", str(self.tree / "dist")),
                *("--declare", str(self.tree / f"pillar/builds/{self.environment}.sls"), "--source", source),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise LabError(f"{app.name}: {reason(result)}")
        return json.loads(result.stdout)

    def issue_certificates(self, *options: str, environ: Mapping[str, str] | None = None) -> str:
        """Issue the certificates of the environment's hosts; return the command's output.

        :param options: of bin/issue-certificates.
        :param environ: variables to add to its environment.
        :raises LabError: with its reason.
        """
        command = [sys.executable, str(self.tree / "bin/issue-certificates"), self.environment, *options]
        if self.temporary_directory:
            command += ["--authority", f"{self.tree}-authority"]
        if self.stand_in:
            command += ["--authority", str(self.stand_in.authority)]
            environ = self.stand_in.environ
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | dict(environ or {})
        )
        if done.returncode:
            raise LabError(f"certificates of {self.environment}: {reason(done)}")
        return done.stdout

    def remove(self) -> list[str]:
        """Remove the hosts, the network and the copy of the tree, and return the names of what was removed."""
        removed = remove_labelled({LAB: self.name, OWNER: str(ROOT)})
        if self.temporary_directory:
            self.temporary_directory.cleanup()
            self.lock.close()
            shutil.rmtree(f"{self.tree}-authority", ignore_errors=True)
        if self.stand_in:
            shutil.rmtree(self.tree.parent, ignore_errors=True)
        return removed

    def refuse_foreign(self, kind: str, name: str, labels: dict[str, str]) -> None:
        """Refuse a container or a network that another tree or lab made, or that no lab made.

        :raises LabError: when the labels are not this lab's.
        """
        owner = labels.get(OWNER)
        if owner == str(ROOT) and labels.get(LAB) == self.name:
            return
        whose = f"the lab's of {owner}; run make down there" if owner else "not the lab's; rename or remove it"
        raise LabError(f"{kind} {name} is {whose}")


def remove_labelled(labels: dict[str, str]) -> list[str]:
    """Remove the containers and the networks that have all these labels, and return their names."""
    filters = [f"--filter=label={key}={value}" for key, value in labels.items()]
    containers = podman("ps", "-a", *filters, "--format={{.Names}}").stdout.split()
    if containers:
        remove_containers(*containers)
    networks = podman("network", "ls", *filters, "--format={{.Name}}").stdout.split()
    if networks:
        podman("network", "rm", *networks)
    return containers + networks
