"""Free networks, and free ports of this machine's loopback."""

import contextlib
import fcntl
import ipaddress
import json
import socket
import subprocess
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml

from lab.host import Host
from lab.podman import LabError, podman

# The pool of /24 networks for labs whose network no inventory gives.
POOL = ipaddress.ip_network("10.78.0.0/16")
PORT_LOCK = Path("/run/lock/saltern-lab-port")


def free_subnets(taken: Iterable[ipaddress.IPv4Network]) -> Iterator[ipaddress.IPv4Network]:
    """Yield, in order, the /24s of the pool that overlap none of these networks."""
    taken = list(taken)
    for subnet in POOL.subnets(new_prefix=24):
        if not any(subnet.overlaps(other) for other in taken):
            yield subnet


def taken_subnets() -> list[ipaddress.IPv4Network]:
    """Return the networks that this machine has a route to, and podman's."""
    found = []
    routes = subprocess.run(["ip", "-4", "-json", "route"], capture_output=True, text=True, check=False)
    for route in json.loads(routes.stdout or "[]"):
        if route["dst"] != "default":
            found.append(ipaddress.ip_network(route["dst"]))
    for network in json.loads(podman("network", "ls", "--format=json").stdout):
        found += [ipaddress.ip_network(each["subnet"]) for each in network.get("subnets") or []]
    return [network for network in found if network.version == 4]


@contextlib.contextmanager
def port_to_publish(wanted: int | None) -> Iterator[int]:
    """Reserve a port of this machine's loopback, found by :func:`free_port`, until a host has it.

    :param wanted: the only acceptable port, or ``None``.
    :raises LabError: when there is none.
    """
    with PORT_LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield free_port(wanted, taken=published_ports())


def published_ports() -> dict[int, str]:
    """Return the ports that podman knows of containers, with the containers' names.

    If a container's processes were killed together with podman's own, nobody listens on its port, but connections are
    still forwarded to it.
    """
    listed = json.loads(podman("ps", "--all", "--format=json").stdout)
    each = ((container["Names"][0], port) for container in listed for port in container["Ports"] or [])
    return {first: name for name, port in each for first in range(port["host_port"], port["host_port"] + port["range"])}


def free_port(
    wanted: int | None, first: int = 8080, last: int = 8179, taken: Mapping[int, str] = types.MappingProxyType({})
) -> int:
    """Return a port of this machine's loopback that nobody listens on.

    :param wanted: the only acceptable port, or ``None`` for the first free one from ``first`` to ``last``.
    :param taken: ports that are not free either, with the names of their containers.
    :raises LabError: when there is none.
    """
    if wanted in taken:
        raise LabError(f"SALTERN_PORT: port {wanted} is the container {taken[wanted]}'s; remove it or give another one")
    for port in [wanted] if wanted else range(first, last + 1):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            if port not in taken:
                return port
    if wanted:
        raise LabError(f"SALTERN_PORT: port {wanted} of 127.0.0.1 is in use; give another one")
    raise LabError(f"ports {first} to {last} of 127.0.0.1 are all in use; give a free one as SALTERN_PORT")


def published_port(host: Host) -> int | None:
    """Return the port of this machine's loopback that leads to the host's port 80."""
    listed = podman("inspect", "--format", "{{json .HostConfig.PortBindings}}", host.name).stdout
    bindings = (yaml.safe_load(listed) or {}).get("80/tcp")
    return int(bindings[0]["HostPort"]) if bindings else None


def asked_port(text: str) -> int | None:
    """Return the port that SALTERN_PORT asks for, or ``None`` where it is empty.

    :raises LabError: when it is no port.
    """
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise LabError(f"SALTERN_PORT: '{text}' is no port; expected a number from 1 to 65535")
    return int(text)
