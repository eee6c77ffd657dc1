"""The firewall: which ports are open and to whom, and the rules that are live.

Rules come into force in two steps. ``load`` makes them live, after it has set a timer that puts those before back.
``confirm`` stops the timer and writes the file that is loaded at boot. A run that ends in between, or a host that does,
is back with the rules that it had.
"""

import contextlib
import difflib
import ipaddress
import os
import re
import shutil
import tempfile

from salt.exceptions import CommandExecutionError

from saltern import inventory, places, services
from saltern.attachments.derived import attached
from saltern.system import files

__load__ = ["bound_rules", "confirm", "load", "mistakes", "openings", "plan", "rules"]

TABLE = "table inet saltern"
UNIT = "saltern-firewall"

# Of Salt's master: what it publishes, and what it is asked; see `publish_port` and `ret_port` of its configuration.
MASTER_PORTS = {"publish": 4505, "request": 4506}
HTTP_PORTS = {"http": 80, "https": 443}
EVERYWHERE = ["0.0.0.0/0", "::/0"]

# What is loaded and not yet confirmed, and what was live before it. Gone after a reboot, as what was loaded is.
PENDING = "/run/saltern-firewall"
CANDIDATE, PREVIOUS = f"{PENDING}/candidate.nft", f"{PENDING}/previous.nft"

# What a set of the table has in it: of no matter to what is declared.
ELEMENTS = re.compile(r"^\t\telements = \{.*?\}\n", re.DOTALL | re.MULTILINE)
# How long a connection may be silent that was there before the table, and be known again.
BEFORE = "1d"

# The confirmation is the next state, and comes within a second. A host under load may be slower.
ROLLBACK_UNIT = f"{UNIT}-rollback"
ROLLBACK_SECONDS = 30
ROLLBACK = (
    f"nft -f {PREVIOUS} && rm -r {PENDING} && echo the rules were loaded and not confirmed: those before are back >&2"
)


# --- What is open ---------------------------------------------------------------------------------------------------


def mistakes(firewall):
    """List the networks that are none.

    :param firewall: the formula's settings.
    :return: a message for each.

    CLI Example: none, it serves ``settings.completed``.
    """
    lists = {"firewall.ssh": firewall["ssh"]}
    lists |= {f"firewall.allow.{name}.networks": one["networks"] for name, one in sorted(firewall["allow"].items())}
    return [
        f"{path}[{index}]: {problem}"
        for path, networks in lists.items()
        for index, network in enumerate(networks)
        if (problem := _problem(network))
    ]


def _problem(text):
    """Say what is wrong with a network, or nothing."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return "is no network; expected one such as 10.0.0.0/8 or 2001:db8::/32"
    if str(network.network_address) != str(ipaddress.ip_address(text.partition("/")[0])):
        return "has an address inside the network; expected its first one, such as 10.0.0.0/8, or a prefix of one host"
    if network.version == 6 and network.network_address.ipv4_mapped:
        return "is a network of IPv4 in the form of IPv6; expected it as IPv4"
    return ""


def openings(settings, hosts, minion_id):
    """List what is open on a host, from its roles, the inventory and the settings.

    :param settings: a mapping of formula to settings, with what follows from attachments.
    :param hosts: the inventory, rows by host id.
    :param minion_id: the host's id.
    :return: mappings of ``name``, ``protocol``, ``port`` and ``networks``. What is open to nobody is left out.

    CLI Example: none, it serves ``settings.completed``.
    """
    peers = {role: inventory.peers(hosts, minion_id, role) for role in ("app", "proxy")}
    return opened(settings, hosts, minion_id, peers)


def opened(settings, hosts, minion_id, peers):
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
    if "app" in roles:
        used = {target["service"] for _, _, target in attached(settings["app"], "service")}
        for app, one in sorted(settings["app"].items()):
            if one["formation"].get("web"):
                found.append((f"app {app}", "tcp", one["port"], of["proxy"] + (of["app"] if app in used else [])))
    if "master" in roles:
        # Of every environment: the inventory says whose master it may be.
        minions = [f"{row['address']}/32" for name, row in sorted(hosts.items()) if name != minion_id]
        found += [(f"master {name}", "tcp", port, minions) for name, port in MASTER_PORTS.items()]
    for service in services.on(roles):
        found += [(name, "tcp", port, of["app"]) for name, port in service.openings(settings[service.kind]).items()]
    for name, one in sorted(firewall["allow"].items()):
        found.append((f"allow {name}", one["protocol"], one["port"], one["networks"]))
    words = ("name", "protocol", "port", "networks")
    return [dict(zip(words, (*one, collapsed(networks)), strict=True)) for *one, networks in found if networks]


def collapsed(networks):
    """Return the same addresses as networks that do not overlap, which nft asks for, IPv4 first.

    :param networks: in CIDR notation.
    """
    parsed = [ipaddress.ip_network(network) for network in networks]
    versions = ([network for network in parsed if network.version == version] for version in (4, 6))
    return [str(network) for some in versions for network in ipaddress.collapse_addresses(some)]


def rules(openings):
    """Write nft's rules for what is open, IPv4 and IPv6 apart.

    :param openings: see ``openings``.
    :return: such as ``ip saddr { 10.0.0.4/32 } tcp dport 5432 accept comment "postgres"``.

    CLI Example: none, it serves the template of the rules.
    """
    found = []
    for one in openings:
        families = {"ip": [], "ip6": []}
        for network in one["networks"]:
            families["ip6" if ":" in network else "ip"].append(network)
        sources = [f"{family} saddr {{ {', '.join(some)} }} " for family, some in families.items() if some]
        for source in [""] if one["networks"] == EVERYWHERE else sources:
            found.append(f'{source}{one["protocol"]} dport {one["port"]} accept comment "{one["name"]}"')
    return found


def bound_rules(bounds):
    """Write nft's rules for how many connections each user may have to the services that apps attach.

    :param bounds: see ``places.derive``.
    :return: a rule for each.

    CLI Example: none, it serves the template of the rules.
    """
    return places.rules(bounds)


def before(connections):
    """Write the elements of the table's sets of connections that are there already.

    The kernel keeps track of connections from the first rule on that asks for their state. One that has been silent
    since then, such as a minion's to its master, would be cut off by the next packet that comes.

    :param connections: triples of the other's address and port, and the own port.
    :return: a script of nft, empty where there are none.
    """
    families = {4: set(), 6: set()}
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


def shut_out(openings, port, listening, connections):
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


# --- On the host ----------------------------------------------------------------------------------------------------


def plan(path, source):
    """Compare the rules that are live, and the file that is loaded at boot, with what is declared.

    :param path: the file.
    :param source: the template of the rules, a ``salt://`` address.
    :return: the ``text`` of the rules, and the ``changes``.
    :raises CommandExecutionError: when nft refuses the rules, or when they would shut out who is connected by ssh.

    CLI Example:

    .. code-block:: bash

        salt-call firewall.plan /etc/saltern/firewall.nft salt://firewall/files/firewall.nft.jinja
    """
    text = _rendered(source)
    changes = {}
    if (old := _read(path)) != text:
        changes[path] = _diff(old, text)
    if shutil.which("nft"):
        there, declared = _live(), _listed(text)
    else:
        # In a dry run, nft may be yet to come. What the unit has loaded is live without it.
        is_loaded = not changes and __salt__["service_config.started"](UNIT)
        there, declared = text if is_loaded else "", text
    if there != declared:
        changes[TABLE] = _diff(there, declared)
    if os.path.exists(PENDING):
        changes["confirmed"] = {"old": False, "new": True}
    if changes:
        firewall = __salt__["settings.load"]("firewall")
        if refused := shut_out(firewall["openings"], firewall["ssh_port"], *_of_sshd(firewall["ssh_port"])):
            raise CommandExecutionError("\n".join(refused))
    return {"text": text, "changes": changes}


def load(text):
    """Make rules live, until they are confirmed or a timer puts those back that were live before.

    :param text: a script of nft.
    :raises CommandExecutionError: when they cannot be, or the timer cannot be set. Nothing has changed then.

    CLI Example: none, it serves the state ``firewall.loaded``.
    """
    os.makedirs(PENDING, mode=0o700, exist_ok=True)
    # Of a run that was ended before it confirmed, what was there before it counts.
    if not os.path.exists(PREVIOUS):
        previous = f"{TABLE}\ndelete {TABLE}\n{_live()}"
        _listed(previous)
        files.write(PREVIOUS, previous)
    files.write(CANDIDATE, text)
    _run("systemctl", "stop", f"{ROLLBACK_UNIT}.timer", check=False)
    command = ["systemd-run", "--quiet", "--collect", f"--unit={ROLLBACK_UNIT}", f"--on-active={ROLLBACK_SECONDS}"]
    _run(*command, "--timer-property=AccuracySec=1s", "sh", "-c", ROLLBACK)
    __context__[PENDING] = True
    try:
        _run("nft", "-f", "-", stdin=text + before(_connections()))
    except CommandExecutionError:
        _end_rollback()
        shutil.rmtree(PENDING)
        raise


def confirm(path):
    """Keep the rules that were loaded: stop the timer, and write the file that is loaded at boot.

    :param path: the file.
    :raises CommandExecutionError: when the rules are no longer live: the timer was faster.

    CLI Example: none, it serves the state ``firewall.confirmed``.
    """
    if not (os.path.exists(PENDING) or __context__.get(PENDING)):
        return
    _end_rollback()
    text = _read(CANDIDATE)
    if text is None or _live() != _listed(text):
        raise CommandExecutionError(
            f"the rules were not confirmed within {ROLLBACK_SECONDS} seconds; those before are back"
        )
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    files.write(path, text)
    shutil.rmtree(PENDING)


def _end_rollback():
    """Stop the timer, and what it has started: whatever that has done is done in one transaction."""
    _run("systemctl", "stop", f"{ROLLBACK_UNIT}.timer", f"{ROLLBACK_UNIT}.service", check=False)


def _live():
    """Return the table that is live as nft lists it, with nothing in its sets. Empty where there is none."""
    return ELEMENTS.sub("", _run("nft", "--stateless", "list", *TABLE.split(), check=False))


def _listed(text):
    """Return a script's table as nft would list it, once it is loaded: in a network of its own, which has nothing else.

    :raises CommandExecutionError: with what nft says where it refuses the script.
    """
    script = f"nft -f - && {{ nft --stateless list {TABLE} 2>/dev/null || true; }}"
    return _run("unshare", "--net", "sh", "-c", script, stdin=text)


def _run(*command, stdin=None, check=True):
    """Run a command and return what it prints, or nothing where it fails and that is no error."""
    done = __salt__["cmd.run_all"](
        list(command), python_shell=False, stdin=stdin, ignore_retcode=not check, output_loglevel="quiet"
    )
    if done["retcode"]:
        if not check:
            return ""
        said = (done["stderr"] or done["stdout"] or f"exit code {done['retcode']}").strip()
        raise CommandExecutionError(f"{command[0]}: {said}")
    return f"{done['stdout']}\n"


def _connections():
    """Return the TCP connections that this host has; see ``before``."""
    import psutil

    there = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_ESTABLISHED]
    return [(one.raddr.ip, one.raddr.port, one.laddr.port) for one in there]


def _of_sshd(port):
    """Return the ports at which sshd listens to the network, and who is connected to it; see ``shut_out``."""
    import psutil

    found = [one for one in psutil.net_connections("tcp") if one.pid and _is_sshd(psutil, one.pid)]
    there = [one for one in found if one.status == psutil.CONN_LISTEN]
    listening = {one.laddr.port for one in there if not ipaddress.ip_address(one.laddr.ip).is_loopback}
    # Ports that it forwards are connections of its own.
    connections = {
        (one.laddr.port, one.raddr.ip)
        for one in found
        if one.status == psutil.CONN_ESTABLISHED and one.laddr.port in listening | {port}
    }
    # This run's own session, whoever serves it: the client's address and port, the host's address and port.
    own = os.environ.get("SSH_CONNECTION", "").split()
    return listening, connections | ({(int(own[3]), own[0])} if len(own) == 4 else set())


def _is_sshd(psutil, pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).name().startswith("sshd")
    return False


def _rendered(source):
    with tempfile.TemporaryDirectory() as directory:
        path = __salt__["cp.get_template"](source, os.path.join(directory, "rendered"), template="jinja")
        if not path:
            raise CommandExecutionError(f"{source}: does not render")
        return _read(path)


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def _diff(old, new):
    lines = difflib.unified_diff((old or "").splitlines(), new.splitlines(), "live", "declared", lineterm="", n=1)
    # A file that was damaged by hand may hold anything; the diff goes to people.
    return "\n".join(lines).encode("utf-8", "replace").decode()
