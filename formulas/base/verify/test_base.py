"""What every host has."""

import fnmatch
import json

import pytest

from saltern import services

READS = """
import json, os, sys
found = []
for directory, _, names in os.walk(sys.argv[1] + "/"):
    found += [os.path.join(directory, name) for name in names if os.access(os.path.join(directory, name), os.R_OK)]
print(json.dumps(found[:10]))
"""


def test_the_locale_is_utf8(host):
    assert "LANG=C.UTF-8" in host.file("/etc/default/locale").content_string
    assert host.check_output("env -i LANG=C.UTF-8 locale charmap") == "UTF-8"


def test_the_operators_tools_are_there(host, settings):
    for package in settings["base"]["packages"]:
        assert host.package(package).is_installed, package


def test_a_name_below_localhost_is_the_hosts(host):
    assert host.check_output("getent ahostsv4 shop.localhost").split()[0] == "127.0.0.1"


def test_public_authorities_are_trusted(host):
    bundle = host.file("/etc/ssl/certs/ca-certificates.crt")
    assert bundle.content_string.count("BEGIN CERTIFICATE") > 100


def test_the_sites_authorities_are_trusted(host, settings):
    bundle = host.file("/etc/ssl/certs/ca-certificates.crt").content_string
    for name, certificate in settings["base"]["ca_certificates"].items():
        assert certificate.strip() in bundle, name


def test_the_clock_is_set_by_systemd_timesyncd(host):
    timesyncd = host.service("systemd-timesyncd")
    assert timesyncd.is_enabled
    # A container has the clock of its machine, and timesyncd skips it by itself (ConditionVirtualization).
    in_container = host.run("systemd-detect-virt --container --quiet").rc == 0
    assert timesyncd.is_running is not in_container


def test_journald_drops_no_line(host):
    # journald uses the configuration that it read at its start.
    started = host.check_output("systemctl show systemd-journald --property=ActiveEnterTimestamp --value")
    assert started
    config = host.check_output("systemd-analyze cat-config systemd/journald.conf")
    limits = [line.split("=")[1].strip() for line in config.splitlines() if line.startswith("RateLimitIntervalSec=")]
    assert limits[-1:] == ["0"]
    paths = "/etc/systemd/journald.conf.d/*.conf /etc/systemd/journald.conf"
    since = host.check_output("date --date=%s +%%s", started)
    newest = host.check_output(f"stat --format=%Y {paths} 2>/dev/null | sort -n | tail -n 1")
    assert int(newest) <= int(since), "journald runs since before its configuration changed"
    # journald's own message about lines dropped since then, SD_MESSAGE_JOURNAL_DROPPED. Nobody else can write it.
    dropped = "_TRANSPORT=driver MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e"
    assert host.check_output(f"journalctl -q -o cat --since=@{since} {dropped}") == ""


def test_the_journal_is_bounded(host):
    # journald's own message about its size, SD_MESSAGE_JOURNAL_USAGE.
    usage = "_TRANSPORT=driver MESSAGE_ID=ec387f577b844b8fa948f33cad9a75e6"
    said = host.check_output(f"journalctl -q -o json --output-fields=LIMIT,DISK_AVAILABLE -n 1 {usage}")
    found = json.loads(said)
    assert 0 < int(found["LIMIT"]) <= 4 << 30


def test_log_files_are_rotated(host):
    timer = host.service("logrotate.timer")
    assert (timer.is_running, timer.is_enabled) == (True, True)
    said = host.run("logrotate -d /etc/logrotate.conf").stderr
    rotated = {line.split()[-1] for line in said.splitlines() if line.startswith("considering log /")}
    ours = "/var/log/nginx /var/log/postgresql /var/log/salt /var/log/apt/*.log /var/log/dpkg.log"
    written = host.run(f"find {ours} -type f -name '*[!0-9z]' -size +0 2>/dev/null").stdout.split()
    assert {*written} <= rotated


def test_nothing_has_failed(host):
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""


@pytest.fixture(scope="module")
def units(host):
    """systemd's properties of the units that the host relies on, if the units exist."""
    names = ["nginx.service", "supervisor.service", "etcd.service", "saltern-peers.service", "systemd-journald.service"]
    names.append("saltern-http3.service")
    names += [service.relied_on for service in services.resources() if service.relied_on]
    properties = "Id,LoadState,ActiveState,Restart,StartLimitIntervalUSec,NRestarts,StateChangeTimestampMonotonic"
    command = f"systemctl show -p {properties} {' '.join(['%s'] * len(names))}"
    blocks = host.check_output(command, *names).split("\n\n")
    found = [dict(line.split("=", 1) for line in block.splitlines()) for block in blocks]
    return {unit["Id"]: unit for unit in found if unit["LoadState"] == "loaded"}


def test_what_the_host_relies_on_is_started_again_when_it_ends(units, roles, settings):
    units_of = {"app": "supervisor.service", "proxy": "nginx.service", "etcd": "etcd.service"}
    wanted = {unit for role, unit in units_of.items() if role in roles}
    wanted |= {one.relied_on for one in services.on(roles) if one.listeners(settings[one.kind])}
    for pattern in wanted:
        assert fnmatch.filter(units, pattern), pattern
    for name, unit in units.items():
        assert unit["Restart"] in ("always", "on-failure"), name
        # systemd never gives up restarting it.
        assert unit["StartLimitIntervalUSec"] == "0", name


def test_nothing_ends_again_and_again(host, units):
    now = float(host.check_output("cut -d ' ' -f 1 /proc/uptime"))
    for name, unit in units.items():
        # Three times or more, and the last time within an hour.
        is_recent = now - int(unit["StateChangeTimestampMonotonic"]) / 1_000_000 < 3600
        is_unwell = is_recent or unit["ActiveState"] != "active"
        assert int(unit["NRestarts"]) < 3 or not is_unwell, f"{name}: journalctl -u {name} says why"


def test_only_what_is_declared_listens_to_the_network(host, roles, settings):
    lines = host.check_output("ss -Hltn").splitlines()
    listening = {line.split()[3].rpartition(":") for line in lines}
    public = {int(port) for address, _, port in listening if not address.startswith(("127.", "[::1]"))}
    declared = {80, 443} if {"app", "proxy"} & set(roles) else set()
    # If other hosts are proxies.
    if settings["nginx"]["listen"]:
        declared |= {settings["app"][app]["port"] for app in settings["nginx"]["fronts"]}
    # If other hosts run apps.
    for service in services.on(roles):
        if settings[service.kind].get("listen"):
            declared |= set(service.openings(settings[service.kind]).values())
    # For app hosts, and for the other members.
    declared |= {2379, 2380} if "etcd" in roles else set()
    # A Salt master's two ports: for its jobs, and for requests.
    declared |= {4505, 4506} if "master" in roles else set()
    # 22 is for the operator's ssh, if sshd runs.
    assert public - {22} == declared


def test_nobody_but_root_reads_the_tree(python, apps):
    """It has the builds of all apps, and in dev their secrets."""
    for user in ("nobody", "www-data", *apps):
        assert python(READS, "/srv/saltern", user=user) == [], user


def test_nothing_is_open_to_be_written_by_everybody(host):
    # What lies in a directory that others may not pass is not open to them.
    closed = "-path /proc -o -path /sys -o -path /srv/saltern -o '(' -type d -not -perm -0001 ')'"
    find = f"find / -xdev '(' {closed} ')' -prune -o -perm -0002 -not -type l"
    # In a sticky directory such as /tmp, users cannot touch each other's files.
    assert host.check_output(f"{find} -not '(' -type d -perm -1000 ')' -print") == ""
