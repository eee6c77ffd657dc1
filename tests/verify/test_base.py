"""What every host has."""

import json


def test_the_locale_is_utf8(host):
    assert "LANG=C.UTF-8" in host.file("/etc/default/locale").content_string
    assert host.check_output("env -i LANG=C.UTF-8 locale charmap") == "UTF-8"


def test_the_operators_tools_are_there(host, settings):
    for package in settings["base"]["packages"]:
        assert host.package(package).is_installed, package


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
    # What it runs with is what it read at its start.
    started = host.check_output("systemctl show systemd-journald --property=ActiveEnterTimestamp --value")
    assert started
    config = host.check_output("systemd-analyze cat-config systemd/journald.conf")
    limits = [line.split("=")[1].strip() for line in config.splitlines() if line.startswith("RateLimitIntervalSec=")]
    assert limits[-1:] == ["0"]
    paths = "/etc/systemd/journald.conf.d/*.conf /etc/systemd/journald.conf"
    since = host.check_output("date --date=%s +%%s", started)
    newest = host.check_output(f"stat --format=%Y {paths} 2>/dev/null | sort -n | tail -n 1")
    assert int(newest) <= int(since), "journald runs since before its configuration changed"
    # Its own word on lines that it dropped since then: SD_MESSAGE_JOURNAL_DROPPED. Nobody else can give it.
    dropped = "_TRANSPORT=driver MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e"
    assert host.check_output(f"journalctl -q -o cat --since=@{since} {dropped}") == ""


def test_the_journal_is_bounded(host):
    # Its own word on its size: SD_MESSAGE_JOURNAL_USAGE.
    usage = "_TRANSPORT=driver MESSAGE_ID=ec387f577b844b8fa948f33cad9a75e6"
    said = host.check_output(f"journalctl -q -o json --output-fields=LIMIT,DISK_AVAILABLE -n 1 {usage}")
    found = json.loads(said)
    assert 0 < int(found["LIMIT"]) <= 4 << 30


def test_nothing_has_failed(host):
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""


def test_only_what_is_declared_listens_to_the_network(host, roles, settings):
    lines = host.check_output("ss -Hltn").splitlines()
    listening = {line.split()[3].rpartition(":") for line in lines}
    public = {int(port) for address, _, port in listening if not address.startswith(("127.", "[::1]"))}
    declared = {80, 443} if {"app", "proxy"} & set(roles) else set()
    # Where there are proxies on other hosts.
    if settings["nginx"]["listen"]:
        declared |= {settings["app"][app]["port"] for app in settings["nginx"]["fronts"]}
    # Where there are apps on other hosts.
    if "database" in roles and settings["postgres"]["listen"]:
        declared |= {5432}
    if "cache" in roles and settings["redis"]["listen"]:
        declared |= {instance["port"] for instance in settings["redis"]["instances"].values()}
    # What a Salt master publishes, and what it is asked.
    declared |= {4505, 4506} if "master" in roles else set()
    # 22 is the operator's way in, where there is one.
    assert public - {22} == declared
