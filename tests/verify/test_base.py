"""What every host has."""


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
