"""The firewall: everything that is not declared is dropped, now and at every boot."""

import asyncio
import ipaddress
import json
import re
import socket

import pytest

# The ports that an attacker tries first, besides those of the apps and their services.
TRIED = (21, 23, 25, 111, 3306, 5432, 6379, 9001, 9100, 11211, 27017)


@pytest.fixture(scope="module")
def chains(host):
    """The table's chains in nft, by name."""
    listed = json.loads(host.check_output("nft --json list table inet saltern"))["nftables"]
    return {one["chain"]["name"]: one["chain"] for one in listed if "chain" in one}


@pytest.fixture(scope="module")
def openings(settings):
    """What is declared to be open."""
    return settings["firewall"]["openings"]


def test_the_policy_is_to_drop(chains, settings):
    for name in ("input",) if settings["firewall"]["forward"] else ("input", "forward"):
        assert (chains[name]["hook"], chains[name]["policy"]) == (name, "drop")


def test_what_is_open_is_what_is_declared(host, openings):
    listed = host.check_output("nft --json list chain inet saltern input")
    rules = [one["rule"] for one in json.loads(listed)["nftables"] if "rule" in one]
    found = set()
    for rule in rules:
        for part in rule["expr"]:
            left = part.get("match", {}).get("left", {}).get("payload", {})
            if left.get("field") == "dport":
                found.add((left["protocol"], part["match"]["right"], rule.get("comment")))
    # Answers of DHCPv6 come to this port.
    assert found == {("udp", 546, None)} | {(one["protocol"], one["port"], one["name"]) for one in openings}


def test_no_user_takes_all_places_of_a_service(host, settings):
    listed = host.check_output("nft --json list table inet saltern")
    rules = [one["rule"] for one in json.loads(listed)["nftables"] if one.get("rule", {}).get("chain") == "output"]
    found = []
    for rule in rules:
        where, ports = (part["match"]["right"] for part in rule["expr"][:2])
        counted = next(part["set"] for part in rule["expr"] if "set" in part)
        assert counted["elem"] == {"concat": [{"meta": {"key": "skuid"}}, rule["expr"][1]["match"]["left"]]}
        (limit,) = (part["ct count"] for part in counted["stmt"])
        assert limit["inv"] is True
        ports = ports.get("set", [ports]) if isinstance(ports, dict) else [ports]
        ports = [one["range"] if isinstance(one, dict) else one for one in ports]
        found.append((rule["comment"], "" if where == "lo" else where, ports, limit["val"]))
    keys = ("name", "address", "ports", "connections")
    assert found == [tuple(bound[key] for key in keys) for bound in settings["firewall"]["bounds"]]


def test_the_rules_are_those_of_the_next_boot(host):
    loaded = "nft --stateless list table inet saltern"
    live = host.check_output(loaded)
    # The table lets in older connections for a while.
    live = re.sub(r"^\t\telements = \{.*?\}\n", "", live, flags=re.DOTALL | re.MULTILINE)
    assert host.check_output(f"unshare --net sh -c 'nft -f /etc/saltern/firewall.nft && {loaded}'") == live


def test_it_is_loaded_at_every_boot_before_there_is_a_network(host):
    assert host.service("saltern-firewall").is_enabled
    assert host.service("saltern-firewall").is_running
    order = host.check_output("systemctl show saltern-firewall --property=Before")
    assert "network-pre.target" in re.split("[ =]", order)


def test_no_rules_wait_to_be_confirmed(host):
    assert not host.file("/run/saltern-firewall").exists


async def outcome(address, port):
    """Say what becomes of a connection: ``open``, ``refused``, ``dropped`` or an error's name."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 2)
    except TimeoutError:
        return "dropped"
    except ConnectionRefusedError:
        return "refused"
    except OSError as error:
        return type(error).__name__
    writer.close()
    return "open"


def test_ports_that_are_not_open_to_this_machine_answer_nothing(address, settings, openings):
    if ipaddress.ip_address(socket.gethostbyname(address)).is_loopback:
        pytest.skip("the host verifies itself, and loopback is open: verify it from another machine")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Sends nothing: it only finds the address from which this machine reaches the host.
        probe.connect((address, 9))
        own = ipaddress.ip_address(probe.getsockname()[0])
    mine = {
        one["port"]
        for one in openings
        if one["protocol"] == "tcp" and any(own in ipaddress.ip_network(network) for network in one["networks"])
    }
    of_apps = {one["port"] + offset for one in settings["app"].values() for offset in (0, 1, 50, *range(90, 100))}

    async def outcomes(ports):
        return dict(zip(ports, await asyncio.gather(*(outcome(address, port) for port in ports)), strict=True))

    found = asyncio.run(outcomes(sorted({*TRIED, *of_apps} - mine)))
    # The firewall lets a port through that refuses; nobody listens there.
    assert {port: what for port, what in found.items() if what in ("open", "refused")} == {}
