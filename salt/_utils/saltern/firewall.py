"""Which ports of a host are open and to whom, how nft is told, and whom new rules would shut out."""

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from saltern import etcd, inventory, services
from saltern.attachments.derived import attached
from saltern.networks import faults

Settings = Mapping[str, Any]
Hosts = Mapping[str, inventory.Row]
# A ``name``, ``protocol``, ``port`` and ``networks``.
Opening = Mapping[str, Any]

TABLE = "table inet saltern"
# Of Salt's master: what it publishes, and what it is asked; see `publish_port` and `ret_port` of its configuration.
MASTER_PORTS = {"publish": 4505, "request": 4506}
HTTP_PORTS = {"http": 80, "https": 443}
EVERYWHERE = ["0.0.0.0/0", "::/0"]
# How long a connection may be silent that was there before the table, and be known again.
BEFORE = "1d"


def mistakes(firewall: Settings) -> list[str]:
    """List the networks that are none.

    :param firewall: the formula's settings.
    :return: a message for each.
    """
    lists = {"firewall.ssh": firewall["ssh"]}
    lists |= {f"firewall.allow.{name}.networks": one["networks"] for name, one in sorted(firewall["allow"].items())}
    return [message for path, declared in lists.items() for message in faults(path, declared)]


def openings(settings: Settings, hosts: Hosts, minion_id: str) -> list[dict[str, Any]]:
    """List what is open on a host, from its roles, the inventory and the settings.

    :param settings: a mapping of formula to settings, with what follows from attachments.
    :param hosts: the inventory, rows by host id.
    :param minion_id: the host's id.
    :return: mappings of ``name``, ``protocol``, ``port`` and ``networks``. What is open to nobody is left out.
    """
    peers = {role: inventory.peers(hosts, minion_id, role) for role in ("app", "proxy", "etcd")}
    return opened(settings, hosts, minion_id, peers)


def opened(
    settings: Settings, hosts: Hosts, minion_id: str, peers: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """List what is open on a host; see ``openings``.

    :param peers: the ids of the environment's hosts by role.
    """
    firewall, roles = settings["firewall"], hosts[minion_id]["roles"]
    # From itself a host is reached over the loopback.
    of = {
        role: [f"{hosts[name]['address']}/32" for name in names if name != minion_id] for role, names in peers.items()
    }
    found = [("ssh", "tcp", firewall["ssh_port"], firewall["ssh"])]
    if "proxy" in roles:
        found += [(name, "tcp", port, EVERYWHERE) for name, port in HTTP_PORTS.items()]
        found += [("http3", "udp", HTTP_PORTS["https"], EVERYWHERE)] if settings["nginx"]["http3"] else []
    if "app" in roles:
        used = {target["service"] for _, _, target in attached(settings["app"], "service")}
        for app, one in sorted(settings["app"].items()):
            if one["formation"].get("web"):
                found.append((f"app {app}", "tcp", one["port"], of["proxy"] + (of["app"] if app in used else [])))
    if "master" in roles:
        # Of every environment: the inventory says whose master it may be.
        minions = [f"{row['address']}/32" for name, row in sorted(hosts.items()) if name != minion_id]
        found += [(f"master {name}", "tcp", port, minions) for name, port in MASTER_PORTS.items()]
    if "etcd" in roles:
        found += [("etcd", "tcp", etcd.PORT, of["app"]), ("etcd members", "tcp", etcd.MEMBERS_PORT, of["etcd"])]
    for service in services.on(roles):
        found += [(name, "tcp", port, of["app"]) for name, port in service.openings(settings[service.kind]).items()]
    for name, one in sorted(firewall["allow"].items()):
        found.append((f"allow {name}", one["protocol"], one["port"], one["networks"]))
    words = ("name", "protocol", "port", "networks")
    return [dict(zip(words, (*one, collapsed(networks)), strict=True)) for *one, networks in found if networks]


def collapsed(networks: Iterable[str]) -> list[str]:
    """Return the same addresses as networks that do not overlap, which nft asks for, IPv4 first.

    :param networks: in CIDR notation.
    """
    parsed = [ipaddress.ip_network(network) for network in networks]
    old = ipaddress.collapse_addresses(network for network in parsed if isinstance(network, ipaddress.IPv4Network))
    new = ipaddress.collapse_addresses(network for network in parsed if isinstance(network, ipaddress.IPv6Network))
    return [str(network) for network in (*old, *new)]


def rules(openings: Iterable[Opening]) -> list[str]:
    """Write nft's rules for what is open, IPv4 and IPv6 apart.

    :param openings: see ``openings``.
    :return: such as ``ip saddr { 10.0.0.4/32 } tcp dport 5432 accept comment "postgres"``.
    """
    found = []
    for one in openings:
        families: dict[str, list[str]] = {"ip": [], "ip6": []}
        for network in one["networks"]:
            families["ip6" if ":" in network else "ip"].append(network)
        sources = [f"{family} saddr {{ {', '.join(some)} }} " for family, some in families.items() if some]
        for source in [""] if one["networks"] == EVERYWHERE else sources:
            found.append(f'{source}{one["protocol"]} dport {one["port"]} accept comment "{one["name"]}"')
    return found


def before(connections: Iterable[tuple[str, int, int]]) -> str:
    """Write the elements of the table's sets of connections that are there already.

    The kernel keeps track of connections from the first rule on that asks for their state. One that has been silent
    since then, such as a minion's to its master, would be cut off by the next packet that comes.

    :param connections: triples of the other's address and port, and the own port.
    :return: a script of nft, empty where there are none.
    """
    families: dict[int, set[str]] = {4: set(), 6: set()}
    for text, port, own in connections:
        address = ipaddress.ip_address(text.partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if not address.is_loopback:
            families[address.version].add(f"{address} . {port} . {own} timeout {BEFORE}")
    return "".join(
        f"add element {TABLE.removeprefix('table ')} before{version} {{ {', '.join(sorted(some))} }}\n"
        for version, some in families.items()
        if some
    )


def shut_out(
    openings: Collection[Opening],
    port: int,
    listening: Collection[int] | None,
    connections: Iterable[tuple[int, str]],
) -> list[str]:
    """List whom the rules would shut out: everybody, where sshd listens elsewhere, and who is connected by ssh.

    :param openings: see ``openings``.
    :param port: at which ssh is expected.
    :param listening: the ports at which sshd listens to the network. None where it does not run by itself.
    :param connections: pairs of the port that was connected to, and the address that did.
    :return: a message for each.
    """
    found = []
    if listening and port not in listening:
        found.append(f"firewall.ssh_port: sshd listens at {', '.join(map(str, sorted(listening)))}; expected that port")
    for to, text in sorted(connections):
        address = ipaddress.ip_address(text.partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        networks = [one["networks"] for one in openings if (one["protocol"], one["port"]) == ("tcp", to)]
        if address.is_loopback or any(
            address in ipaddress.ip_network(network) for some in networks for network in some
        ):
            continue
        if to == port:
            found.append(
                f"firewall.ssh: {address} is connected by ssh and would not be let in again; expected a network that "
                "it is in. Otherwise end that session first"
            )
        else:
            found.append(f"firewall.ssh_port: {address} is connected by ssh to port {to}; expected that one")
    return found
