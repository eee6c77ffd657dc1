"""The firewall: connections between all hosts, and mistakes in the pillar that must lock nobody out."""

import contextlib
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from lab import Lab, bootstrapped, machine
from lab.pillar import declare
from lab.podman import podman
from tests.hosts.applied import apply
from tests.hosts.examples import PASSWORDS
from tests.hosts.probe import LISTEN, OUTSIDE, PORTS, UNIT, connected, told

pytestmark = pytest.mark.alike("bookworm")

ROLES = {"front": ["proxy"], "web1": ["app"], "web2": ["app"], "data": ["database", "cache"]}
# A host of another environment, on the same network.
OTHER = "other"
ALL = {*ROLES, OTHER, OUTSIDE}

# Who may connect to which port of which host, written by hand. Everything else is dropped.
OPEN = {
    "front": {22: ALL, 80: ALL, 443: ALL, 9100: {"data"}},
    # tickets listens at 8100, and faq at 8200: tickets attaches faq.
    "web1": {22: ALL, 8100: {"front"}, 8200: {"front", "web2"}, 9100: {"data"}},
    "web2": {22: ALL, 8100: {"front"}, 8200: {"front", "web1"}, 9100: {"data"}},
    "data": {22: ALL, 5432: {"web1", "web2"}, 8199: {"web1", "web2"}},
    OTHER: {22: ALL, 80: ALL, 443: ALL},
}


@pytest.fixture(scope="module")
def fleet(suite):
    """A lab with a host for each role and one of another environment, bootstrapped, and the hosts by id."""
    image = f"localhost/saltern-firewall:{suite}"
    with contextlib.ExitStack() as stack, Lab.temporary(f"firewall-{suite}") as lab:
        rows = {
            name: {"environment": "dev", "roles": ROLES.get(name), "address": str(lab.subnet[10 + index])}
            for index, name in enumerate([*ROLES, OTHER])
        }
        rows[OTHER] |= {"environment": "production", "roles": ["database", "cache", "app", "proxy"]}
        (lab.tree / "pillar/hosts.yaml").write_text(yaml.safe_dump(rows))
        build = {"source": "/none.tar.gz", "sha256": "0" * 64}
        builds = yaml.safe_dump({"app": {app: {"build": build} for app in ("faq", "tickets")}})
        for environment in ("dev", "production"):
            (lab.tree / f"pillar/builds/{environment}.sls").parent.mkdir(exist_ok=True)
            (lab.tree / f"pillar/builds/{environment}.sls").write_text(builds)
        allow = {"metrics": {"port": 9100, "networks": [f"{rows['data']['address']}/32"]}}
        declare(lab.tree / "pillar", "dev", PASSWORDS | {"firewall": {"allow": allow}})
        lab.issue_certificates()

        first = lab.boot("front", suite, image_name=bootstrapped.ensure(suite)[0])
        first.bootstrap()
        first.sh("DEBIAN_FRONTEND=noninteractive apt-get -qq install openssh-server nftables >/dev/null 2>&1")
        first.run("tee", "/root/listen.py", input=LISTEN)
        first.run("tee", "/etc/systemd/system/listen.service", input=UNIT)
        first.sh("systemctl -q enable --now listen")
        first.snapshot(image)
        # The image is removed after the hosts that use it.
        stack.callback(podman, "rmi", "--force", image)

        def booted(name):
            host = lab.boot(name, suite, image_name=image)
            host.run("/srv/saltern/bootstrap.sh", "--id", name, env=machine.index_environment())
            return name, host

        with ThreadPoolExecutor(2) as pool:
            hosts = {"front": first} | dict(pool.map(booted, [name for name in rows if name != "front"]))
        yield lab, hosts
        # One host at a time: on a busy machine podman does not remove several in time.
        for host in hosts.values():
            host.remove()


def assert_as_declared(hosts):
    """Compare each connection's outcome with the table OPEN."""
    found = connected(hosts)
    print(told(found))
    expected = {
        (name, port): {one: "open" if one in OPEN[name].get(port, ()) else "dropped" for one in ALL - {name}}
        for name, port in found
    }
    assert found == expected


def wait_until_reached(host):
    """Wait until this machine has learned the hardware address that a host got when it was rebooted."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((host.address, 22), 2):
            return
    raise AssertionError(f"{host.id}: no connection to port 22 after 60 s")


def rules(host):
    """Return the rules that are loaded, without the addresses that their sets have collected since."""
    return host.sh("nft --stateless --terse list table inet saltern").stdout


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_without_a_firewall_every_port_is_open(fleet, ipv6):
    _, hosts = fleet
    # On a busy machine a host that has just booted does not answer yet who asks for its IPv6 address.
    deadline = time.monotonic() + 60
    while (found := {outcome for by in connected(hosts, ipv6).values() for outcome in by.values()}) != {"open"}:
        assert time.monotonic() < deadline, found
        time.sleep(1)


def test_every_connection_is_allowed_or_dropped_as_declared(fleet):
    _, hosts = fleet

    dry = apply(hosts["data"], "firewall", "test=True").succeeded()
    with ThreadPoolExecutor(2) as pool:
        real = dict(zip(hosts, pool.map(lambda host: apply(host, "firewall").succeeded(), hosts.values()), strict=True))
    assert dry.changed == real["data"].changed
    apply(hosts["data"], "firewall", "test=True").changed_nothing()
    assert_as_declared(hosts)


def test_ipv6_is_open_for_what_is_open_to_all_and_for_nothing_else(fleet):
    _, hosts = fleet
    found = connected(hosts, ipv6=True)
    print(told(found))
    assert found == {
        (name, port): dict.fromkeys(set(hosts) - {name}, "open" if OPEN[name].get(port) == ALL else "dropped")
        for name, port in found
    }


def test_it_is_so_after_a_reboot(fleet):
    _, hosts = fleet
    for name in ("data", "web1"):
        before = rules(hosts[name])
        assert hosts[name].reboot() == "running"
        assert rules(hosts[name]) == before
        wait_until_reached(hosts[name])
    assert_as_declared(hosts)
    apply(hosts["data"], "firewall").changed_nothing()


def test_a_host_that_leaves_the_inventory_is_let_in_no_more(fleet):
    lab, hosts = fleet
    path = lab.tree / "pillar/hosts.yaml"
    before = path.read_text()
    rows = yaml.safe_load(before)
    del rows["web2"]
    path.write_text(yaml.safe_dump(rows))
    apply(hosts["data"], "firewall").succeeded()
    found = connected(hosts)
    assert [found["data", 5432][name] for name in ("web1", "web2")] == ["open", "dropped"]
    path.write_text(before)
    apply(hosts["data"], "firewall").succeeded()
    assert connected(hosts)["data", 5432]["web2"] == "open"


def test_what_others_have_loaded_stays(fleet):
    host = fleet[1]["front"]
    host.sh("nft add table inet theirs; nft add chain inet theirs x; nft add rule inet theirs x tcp dport 1 drop")
    theirs = host.sh("nft list table inet theirs").stdout
    host.sh("nft add rule inet saltern input tcp dport 9999 accept")
    assert apply(host, "firewall").succeeded().changed == {"firewall-rules"}
    assert host.sh("nft list table inet theirs").stdout == theirs
    assert "9999" not in rules(host)
    host.sh("nft delete table inet theirs")


# --- Mistakes -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ssh(fleet, tmp_path_factory):
    """A function that starts a command on the host front by ssh, from this machine."""
    host = fleet[1]["front"]
    directory = tmp_path_factory.mktemp("ssh")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / "key"], check=True)
    public = (directory / "key.pub").read_text()
    host.run("sh", "-c", "umask 077; mkdir -p /root/.ssh; cat >/root/.ssh/authorized_keys", input=public)
    options = ["-i", directory / "key", "-o", f"UserKnownHostsFile={directory}/known_hosts", "-o", "BatchMode=yes"]
    options += ["-o", "StrictHostKeyChecking=accept-new", "-o", "ConnectTimeout=3", "-F", "none"]

    def start(*command):
        return subprocess.Popen(
            ["ssh", *options, f"root@{host.address}", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def lets_in(ssh):
    """Tell whether a new ssh session can be opened."""
    with ssh("true") as session:
        session.communicate()
        return session.returncode == 0


@pytest.fixture
def pillar(fleet):
    """A function that changes settings of the firewall in dev; the pillar is put back after the test."""
    lab, hosts = fleet
    path = lab.tree / "pillar/environments/dev.sls"
    before = path.read_text()
    yield lambda **settings: declare(lab.tree / "pillar", "dev", {"firewall": settings})
    path.write_text(before)
    apply(hosts["front"], "firewall").succeeded()


@pytest.fixture
def tree(fleet):
    """The tree of these hosts, for the fixture ``edited``."""
    return fleet[0].tree


def test_rules_that_would_shut_out_who_is_connected_by_ssh_are_refused(fleet, ssh, pillar):
    lab, hosts = fleet
    host, before = hosts["front"], rules(hosts["front"])
    own = str(lab.subnet[1])
    with ssh("cat") as session:
        session.stdin.write("here\n")
        session.stdin.flush()
        assert session.stdout.readline() == "here\n"
        pillar(ssh=["192.0.2.0/24", "2001:db8::/32"])
        for arguments in (["test=True"], []):
            applied = apply(host, "firewall", *arguments)
            assert applied.failed["firewall-rules"].startswith(f"firewall.ssh: {own} is connected by ssh and would not")
            assert "firewall-rules" not in applied.changed
        pillar(ssh=["0.0.0.0/0"], ssh_port=2222)
        said = apply(host, "firewall").failed["firewall-rules"].splitlines()
        assert said == [
            "firewall.ssh_port: sshd listens at 22; expected that port",
            f"firewall.ssh_port: {own} is connected by ssh to port 22; expected that one",
        ]
        assert rules(host) == before
        assert lets_in(ssh)
        # A rule that lets this machine in, and nobody else, is accepted.
        pillar(ssh=[f"{own}/32"], ssh_port=22)
        apply(host, "firewall").succeeded()
        session.stdin.write("still here\n")
        session.stdin.flush()
        assert session.stdout.readline() == "still here\n"
        assert lets_in(ssh)
        session.stdin.close()
    found = connected(hosts)["front", 22]
    assert {one for one in found if found[one] == "open"} == {OUTSIDE}
    # Once nobody is connected, a rule that shuts everybody out is accepted too.
    pillar(ssh=["192.0.2.0/24"])
    deadline = time.monotonic() + 10
    while apply(host, "firewall").failed:
        assert time.monotonic() < deadline
    assert not lets_in(ssh)


def test_rules_that_nft_refuses_are_not_loaded(fleet, ssh, edited):
    host, before = fleet[1]["front"], rules(fleet[1]["front"])
    edited("formulas/firewall/files/firewall.nft.jinja", "policy drop", "policy dorp")
    for arguments in (["test=True"], []):
        applied = apply(host, "firewall", *arguments)
        assert "syntax error" in applied.failed["firewall-rules"]
    assert rules(host) == before
    assert lets_in(ssh)


LOADED = '__salt__["firewall.load"](plan["text"])\n'
KILLED = f'{LOADED}        __import__("os").kill(__import__("os").getpid(), 9)\n'


@pytest.fixture
def locks_out(edited):
    """A function that makes the next run load rules that drop everything, even ssh."""

    def lock():
        edited("formulas/firewall/files/firewall.nft.jinja", '        iifname "lo" accept\n', "        drop\n")

    return lock


def kill_after_load(host):
    """Converge; the run is killed right after it has loaded the rules."""
    done = host.run("salt-call", "--retcode-passthrough", "state.apply", "firewall", check=False)
    assert done.returncode == 137
    assert "iifname" not in rules(host)


def test_the_rules_of_a_run_that_was_killed_are_taken_back_by_themselves(fleet, ssh, edited, locks_out):
    host = fleet[1]["front"]
    before, file = rules(host), host.sh("cat /etc/saltern/firewall.nft").stdout
    edited("salt/_states/firewall.py", LOADED, KILLED)
    locks_out()
    started = time.monotonic()
    kill_after_load(host)
    assert not lets_in(ssh)
    while not lets_in(ssh):
        assert time.monotonic() - started < 90
    print(f"{host.suite}: locked out for at most {time.monotonic() - started:.0f} s")
    assert rules(host) == before
    assert host.sh("cat /etc/saltern/firewall.nft").stdout == file
    assert "those before are back" in host.sh("journalctl -q -u saltern-firewall-rollback").stdout


def test_the_next_converge_loads_what_a_killed_run_did_not_confirm(fleet, edited, pillar):
    host = fleet[1]["front"]
    pillar(allow={"more": {"port": 9999, "networks": ["0.0.0.0/0"]}})
    edited("salt/_states/firewall.py", LOADED, KILLED)
    host.run("salt-call", "state.apply", "firewall", check=False)
    assert "9999" in rules(host)
    assert "9999" not in host.sh("cat /etc/saltern/firewall.nft").stdout
    edited("salt/_states/firewall.py", KILLED, LOADED)
    assert apply(host, "firewall", "test=True").changed == {"firewall-rules"}
    assert apply(host, "firewall").succeeded().changed == {"firewall-rules"}
    assert "9999" in host.sh("cat /etc/saltern/firewall.nft").stdout
    assert host.sh("systemctl list-timers --all --no-legend saltern-firewall-rollback.timer").stdout == ""
    apply(host, "firewall").changed_nothing()


def test_a_host_that_is_switched_off_before_the_rules_are_confirmed_has_the_old_ones(fleet, ssh, edited, locks_out):
    host, before = fleet[1]["front"], rules(fleet[1]["front"])
    edited("salt/_states/firewall.py", LOADED, KILLED)
    locks_out()
    kill_after_load(host)
    assert host.reboot() == "running"
    assert rules(host) == before
    wait_until_reached(host)
    assert lets_in(ssh)


def test_a_run_that_confirms_too_late_says_so(fleet, edited):
    host, before = fleet[1]["front"], rules(fleet[1]["front"])
    edited("salt/_utils/saltern/ruleset.py", "ROLLBACK_SECONDS = 30", "ROLLBACK_SECONDS = 1")
    edited("salt/_states/firewall.py", LOADED, f'{LOADED}        __import__("time").sleep(6)\n')
    edited(
        "formulas/firewall/files/firewall.nft.jinja", "ct state invalid drop", "ct state invalid drop; udp dport 9 drop"
    )
    applied = apply(host, "firewall")
    assert "those before are back" in applied.failed["firewall-confirmed"]
    assert rules(host) == before


def test_a_file_that_is_broken_at_boot_leaves_ssh_alone_open_and_is_told(fleet, ssh):
    _, hosts = fleet
    host, before = hosts["front"], rules(hosts["front"])
    host.sh("echo '}' >>/etc/saltern/firewall.nft")
    assert host.reboot() == "degraded"
    assert host.failed_units() == ["saltern-firewall.service"]
    assert "only ssh is open" in host.sh("journalctl -q -b -u saltern-firewall").stdout
    wait_until_reached(host)
    assert lets_in(ssh)
    found = connected(hosts)
    assert {port for port in PORTS if "open" in found["front", port].values()} == {22}
    dry = apply(host, "firewall", "test=True")
    assert dry.changed == apply(host, "firewall").succeeded().changed == {"firewall-rules", "firewall-service"}
    assert host.failed_units() == []
    assert rules(host) == before


def test_after_all_that_it_is_as_declared(fleet):
    _, hosts = fleet
    assert_as_declared(hosts)
    apply(hosts["front"], "firewall").changed_nothing()
