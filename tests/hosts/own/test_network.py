"""Several hosts in one environment: attachments over the network, who is let in, and the hosts' certificates.

Two hosts of staging, with secrets and certificates encrypted to their keys: db1 has the databases, app1 the apps. A
third host and this machine are on the same network but not in staging.
"""

import concurrent.futures
import contextlib
import datetime
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import time
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from lab import Lab, bootstrapped
from lab.pillar import declare
from saltern.tls import certificate as certificates
from tests.hosts.applied import apply, as_told, converged
from tests.hosts.client import Client
from tests.hosts.conftest import ROOT
from tests.hosts.connect import CONNECT, STARTUP
from tests.hosts.examples import EXAMPLES, answered_ticket, published
from tests.hosts.load import Load
from tests.keyring import Keyring

pytestmark = pytest.mark.alike("bookworm")

ROWS = {"db1": ["database", "cache"], "app1": ["app", "proxy"]}
SECRETS = {
    "app.faq.config.SECRET_KEY": "faq-0123456789" * 5,
    "app.tickets.config.SECRET_KEY": "tickets-0123456789" * 5,
    "postgres.databases.faq.password": "faq/with@what:is?special",
    "postgres.databases.tickets.password": "tickets-0123456789-0123456789",
    "redis.instances.tickets.password": "redis/0123456789%0123456789",
}
OTHERS = "/etc/ssl/certs/ca-certificates.crt"
EXPORT = "gpg --homedir /etc/salt/gpgkeys --armor --export"


class Network:
    """The hosts, and an operator's commands."""

    def __init__(self, lab, suite, operator):
        self.lab, self.tree, self.operator = lab, lab.tree, operator
        addresses = {name: str(lab.subnet[10 + n]) for n, name in enumerate([*ROWS, "other"])}
        rows = {name: {"environment": "staging", "roles": roles} for name, roles in ROWS.items()}
        rows["other"] = {"environment": "dev", "roles": []}
        rows = {name: row | {"address": addresses[name]} for name, row in rows.items()}
        (self.tree / "pillar/hosts.yaml").write_text(yaml.safe_dump(rows))
        self.db1, self.app1, self.other = (
            lab.boot(name, suite, image_name=bootstrapped.ensure(suite)[0]) for name in rows
        )
        self.faq = Client(self.app1.address, "faq.staging.example.com")
        self.tickets = Client(self.app1.address, "tickets.staging.example.com")

    def secret(self, *arguments, value=""):
        """Run bin/secret as the operator."""
        command = [sys.executable, self.tree / "bin/secret", *arguments]
        environ = os.environ | {"GNUPGHOME": str(self.operator.directory)}
        done = subprocess.run(command, input=value, capture_output=True, text=True, env=environ, check=False)
        assert done.returncode == 0, done.stderr

    def encrypt(self, name, value):
        """Encrypt a setting of staging."""
        self.secret("set", "--environment", "staging", name, value=value)

    def verify(self, host):
        """Run the suite of ``make verify`` as the operator."""
        command = [sys.executable, "-m", "verify", "-q"]
        command += [f"--hosts=lab://{host.name}", f"--tree={self.tree}"]
        environ = os.environ | {"GNUPGHOME": str(self.operator.directory)}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environ, check=False)
        assert done.returncode == 0, done.stdout
        return done.stdout.splitlines()[-1]

    def connect(self, app, kind, **changes):
        """Connect from the app host as an app, with parts of its URL changed; return the outcome."""
        script = ("python", "-c", CONNECT, kind, json.dumps(changes))
        return self.app1.run(f"{app}-run", *script).stdout.strip()

    def url(self, app, variable):
        return urlsplit(self.app1.sh(f"cat /srv/apps/{app}/current/env/{variable}").stdout)

    def sql(self, database, statement):
        """Run SQL as PostgreSQL's operator."""
        command = ("psql", "-XAtq", "-d", database, "-c", statement)
        return self.db1.run("sh", "-c", 'cd / && exec runuser -u postgres -- "$@"', "sh", *command).stdout.strip()

    def serial(self, port=None):
        """Return the serial number of db1's certificate: Redis's where a port is given, or else PostgreSQL's."""
        context = ssl.create_default_context(cadata=self.said("db1")["authorities"][0])
        with open_to_all(self.db1), socket.create_connection((self.db1.address, port or 5432), 10) as plain:
            if not port:
                plain.sendall(struct.pack("!ii", 8, 80877103))
                assert plain.recv(1) == b"S"
            with context.wrap_socket(plain, server_hostname=self.db1.address) as connection:
                return int(connection.getpeercert()["serialNumber"], 16)

    def path(self, host_id):
        return self.tree / f"pillar/certificates/staging/{host_id}.sls"

    def said(self, host_id):
        """Return what the pillar says of a host's certificates."""
        return yaml.safe_load(self.path(host_id).read_text())["certificates"]

    def age(self, host_id, days):
        """Give a host a certificate that was issued ``days`` days ago."""
        authority = (self.tree.parent / f"{self.tree.name}-authority/authority.pem").read_text()
        issued = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
        text = certificates.issue(authority, host_id, self.db1.address, issued)
        key, certificate = certificates.parted(text)
        # The key is encrypted to the operator alone at first; ``bin/secret rekey`` then encrypts it to the host.
        its = self.said(host_id) | {"certificate": certificate, "key": self.operator.encrypt(key.rstrip("\n").encode())}
        self.path(host_id).write_text("#!yaml|gpg\n" + yaml.safe_dump({"certificates": its}))
        self.secret("rekey", "--environment", "staging")
        return certificate


@contextlib.contextmanager
def open_to_all(host):
    """Have the firewall of a host let everybody in."""
    host.sh("nft insert rule inet saltern input accept")
    try:
        yield
    finally:
        host.sh("nft -f /etc/saltern/firewall.nft")


@pytest.fixture(scope="module")
def network(suite):
    """The hosts, bootstrapped, with their keys and secrets in the pillar, and no certificates yet."""
    operator = Keyring("operator")
    try:
        with Lab.temporary(f"network-{suite}", "staging") as lab:
            network = Network(lab, suite, operator)
            hosts = (network.db1, network.app1)
            with concurrent.futures.ThreadPoolExecutor() as pool:
                list(pool.map(lambda host: host.bootstrap(), hosts))
            keys = {f"hosts/{host.id}": host.sh(EXPORT).stdout for host in hosts} | {"operators/me": operator.public}
            for name, public in keys.items():
                (lab.tree / f"pillar/keys/{name}.asc").write_text(public)
            for name, value in SECRETS.items():
                network.encrypt(name, value)
            for app in EXAMPLES:
                lab.build(ROOT / "examples" / app, network.app1.python)
            # Served over plain HTTP, as in dev.
            declare(lab.tree / "pillar", "staging", {"nginx": {"tls": {"redirect": False}}})
            yield network
    finally:
        operator.close()


@pytest.fixture(scope="module")
def live(network):
    """The hosts, with certificates, converged."""
    network.lab.issue_certificates()
    for host in (network.db1, network.app1):
        print(f"{host.suite}: {host.id}: {len(converged(host))} changed")
    return network


def test_without_certificates_nothing_is_touched(network):
    for host in (network.db1, network.app1):
        applied = apply(host)
        assert (applied.code != 0, applied.states) == (True, {})
        assert applied.mistakes == [
            "certificates: missing, and several hosts of staging must know each other; "
            "expected what bin/issue-certificates staging writes: run it"
        ]


def test_the_apps_work_over_the_network(live):
    number = answered_ticket(live.tickets, "Over the network?")
    assert published(live.faq, f"tickets:{number}")["question"] == "Over the network?"
    assert live.sql("faq", f"SELECT count(*) FROM questions_question WHERE source = 'tickets:{number}'") == "1"
    # Neither PostgreSQL nor Redis listens on the app host.
    assert live.app1.run("sh", "-c", "ss -Hltn | grep -E ':(5432|8199) '", check=False).stdout == ""


def test_both_hosts_are_what_was_declared(live):
    for host in (live.db1, live.app1):
        print(f"{host.suite}: {host.id}: {live.verify(host)}")


def test_each_host_has_its_own_private_key_and_no_others(live):
    # authority.pem is left out: it signs the host's own sites and is not the environment's.
    cat = "cat /etc/ssl/saltern/[!a]*.pem"
    keys = {host.id: host.sh(cat).stdout for host in (live.db1, live.app1)}
    assert certificates.parted(keys["app1"])[0] == ""
    assert live.said("db1")["certificate"] in keys["db1"]
    decrypt = "gpg --homedir /etc/salt/gpgkeys --batch --quiet --decrypt"
    for reader, refused in ((live.db1, live.app1), (live.app1, live.db1)):
        message = live.said(reader.id)["key"]
        assert "PRIVATE KEY" in reader.run("sh", "-c", decrypt, input=message).stdout
        assert refused.run("sh", "-c", decrypt, input=message, check=False).returncode != 0
    for host in (live.db1, live.app1):
        host.sh("gpgconf --homedir /etc/salt/gpgkeys --kill gpg-agent")
        assert host.sh("grep -rlF 'BEGIN PRIVATE KEY' /srv/saltern/pillar || true").stdout == ""


POSTGRES = {
    "as it is": ({}, "tickets@tickets"),
    "a wrong password": ({"password": "wrong"}, 'password authentication failed for user "LOGIN"'),
    "another app's database": (
        {"dbname": "faq"},
        'no pg_hba.conf entry for host "APP1", user "LOGIN", database "faq"',
    ),
    "another app's user": ({"user": "faq"}, 'no pg_hba.conf entry for host "APP1", user "faq", database "tickets"'),
    "the operator's": ({"user": "postgres", "dbname": "postgres"}, "no pg_hba.conf entry"),
    "plaintext": ({"sslmode": "disable"}, "no encryption"),
    "another authority": ({"sslrootcert": OTHERS}, "certificate verify failed"),
    "another name": ({"host": "elsewhere.example.com", "hostaddr": "DB1"}, "does not match host name"),
}


@pytest.mark.parametrize("what", POSTGRES)
def test_postgres_lets_an_app_in_to_its_own_database_over_tls_alone(what, live):
    changes, expected = POSTGRES[what]
    changes = {key: value.replace("DB1", live.db1.address) for key, value in changes.items()}
    expected = expected.replace("LOGIN", live.url("tickets", "DATABASE_URL").username)
    assert expected.replace("APP1", live.app1.address) in live.connect("tickets", "postgres", **changes)


REDIS = {
    "as it is": ({}, "True"),
    "a wrong password": ({"password": "wrong"}, "invalid username-password pair"),
    "another user": ({"username": "faq"}, "invalid username-password pair"),
    "no password": ({"password": None, "username": None}, "AuthenticationError"),
    "plaintext": ({"plain": True}, "ConnectionError"),
    "another authority": ({"ssl_ca_certs": OTHERS}, "certificate verify failed"),
}


@pytest.mark.parametrize("what", REDIS)
def test_redis_lets_an_app_in_over_tls_alone(what, live):
    changes, expected = REDIS[what]
    assert expected in live.connect("tickets", "redis", **changes)


def test_postgres_lets_in_no_host_but_the_app_hosts(live):
    live.other.sh("apt-get -qq update; apt-get -qq install --no-install-recommends python3 >/dev/null 2>&1")
    command = [sys.executable, "-c", STARTUP, live.db1.address]
    # The firewall would drop these connections. With it open, PostgreSQL refuses them itself.
    with open_to_all(live.db1):
        for host in (live.db1, live.other):
            answer = host.run("python3", "-c", STARTUP, live.db1.address).stdout
            assert f'no pg_hba.conf entry for host "{host.address}", user "tickets", database "tickets"' in answer
        mine = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "no pg_hba.conf entry for host" in mine
    assert live.app1.run("python3", "-c", STARTUP, live.db1.address).stdout.startswith("R")


def test_a_password_is_replaced_on_the_database_host_first_and_nobody_is_shut_out(live):
    old = live.url("tickets", "DATABASE_URL")
    for name in ("postgres.databases.tickets.password", "redis.instances.tickets.password"):
        live.encrypt(name, "rotated-0123456789-abcdef")
    assert as_told(live.db1) == {"postgres-attachment-tickets", "redis-users-tickets", "redis-admitted-tickets"}
    # The app host's release still has the old passwords.
    assert (live.connect("tickets", "postgres"), live.connect("tickets", "redis")) == ("tickets@tickets", "True")
    answered_ticket(live.tickets, "With the old password?")
    assert as_told(live.app1) == {"app-release-tickets"}
    assert live.url("tickets", "DATABASE_URL").username != old.username
    answered_ticket(live.tickets, "With the new password?")
    # The old login stays open: an app host that is not connected now may still use it.
    states = apply(live.db1).changed_nothing().states
    for kind in ("postgres", "redis"):
        assert re.search(r"the login tickets_\w{6} stays open for ", states[f"{kind}-retired"]["comment"]), kind
    common = live.tree / "pillar/common.sls"
    text = common.read_text()
    try:
        common.write_text(f"{text}\npostgres: {{overlap: 0}}\nredis: {{overlap: 0}}\n")
        assert as_told(live.db1) == {"postgres-retired", "redis-retired"}
    finally:
        common.write_text(text)
    changes = {"user": old.username, "password": unquote(old.password)}
    assert "no pg_hba.conf entry" in live.connect("tickets", "postgres", **changes)
    answered_ticket(live.tickets, "And still?")


def test_a_database_of_somebody_else_is_attached_and_the_old_one_left_untouched(live):
    script = """
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq update
        apt-get -qq install --no-install-recommends postgresql ssl-cert >/dev/null 2>&1
        cd /
        runuser -u postgres -- psql -qc "CREATE ROLE managed LOGIN PASSWORD 'managed-0123456789'" \\
            -c 'CREATE DATABASE managed OWNER managed' -c "ALTER SYSTEM SET listen_addresses = '*'"
        echo 'hostssl managed managed all scram-sha-256' >>$(ls /etc/postgresql/*/main/pg_hba.conf)
        systemctl restart postgresql
    """
    live.other.sh(script)
    setting = "app.faq.attach.DATABASE_URL.url"
    live.faq.post("/v1/create", json={"question": "Before?", "source": "test:before"}).raise_for_status()
    before = live.sql("faq", "SELECT json_agg(q ORDER BY id) FROM questions_question AS q")
    live.encrypt(setting, f"postgres://managed:managed-0123456789@{live.other.address}/managed?sslmode=require")

    # The database host converges first. The app is connected and stays connected.
    live.faq.get("/v1/questions").raise_for_status()
    applied = apply(live.db1).succeeded()
    # Its limit is every connection that no declared database takes.
    assert applied.changed == {"postgres-attachment-tickets"}
    comment = applied.states["postgres-retired"]["comment"]
    assert comment == f"faq stays open for {live.app1.address}, which is connected"
    assert live.faq.get("/v1/questions").json()["questions"]

    assert as_told(live.app1) == {"app-release-faq"}
    assert live.faq.get("/v1/questions").json()["questions"] == []
    live.faq.post("/v1/create", json={"question": "Meanwhile?", "source": "test:meanwhile"}).raise_for_status()
    assert converged(live.db1) == {"postgres-retired"}
    assert live.db1.salt("app.orphans")["kept"].keys() == {"postgres:faq"}
    assert live.sql("faq", "SELECT json_agg(q ORDER BY id) FROM questions_question AS q") == before

    # Back again: the database host converges first.
    path = live.tree / "pillar/secrets/staging.sls"
    said = yaml.safe_load(path.read_text())
    del said["app"]["faq"]["attach"]
    path.write_text("#!yaml|gpg\n" + yaml.safe_dump(said))
    assert "postgres-attachment-faq" in converged(live.db1)
    assert converged(live.app1) == {"app-release-faq"}
    sources = {one["source"] for one in live.faq.get("/v1/questions?limit=100").json()["questions"]}
    assert "test:before" in sources
    assert "test:meanwhile" not in sources
    assert live.sql("faq", "SELECT json_agg(q ORDER BY id) FROM questions_question AS q") == before


def test_a_certificate_that_was_forgotten_is_drift(live):
    old = live.age("db1", 330)
    assert "postgres-access-loaded" in converged(live.db1)
    assert live.serial() == live.serial(8199) == serial(old)
    (line,) = live.db1.sh("/usr/local/lib/saltern/drift || [ $? -eq 2 ]").stdout.splitlines()
    assert line.startswith("2 certificates not renewed in time: /etc/ssl/saltern/postgres.pem on ")
    with pytest.raises(AssertionError, match="it ends on"):
        live.verify(live.db1)


def test_a_renewed_certificate_reaches_what_listens_and_no_request_fails(live):
    said = live.lab.issue_certificates()
    assert "certificates/staging/db1.sls: renewed: 34 days were left; " in said
    assert "certificates/staging/app1.sls: unchanged; " in said
    pids = {unit: pid(live.db1, unit) for unit in ("postgresql@*-main", "redis-server@tickets")}
    load = Load(live.app1, "faq.staging.example.com", "/v1/questions", requests=1000, rate=50)
    try:
        changed = converged(live.db1)
    finally:
        answers = load.finish()
    assert changed == {
        *("postgres-certificate", "postgres-access-loaded"),
        *("redis-certificate", "redis-certificate-served-tickets"),
    }
    assert {unit: pid(live.db1, unit) for unit in pids} == pids
    assert live.serial() == live.serial(8199) == serial(live.said("db1")["certificate"])
    print(f"{live.db1.suite}: {[(one.requests, one.statuses, one.errors) for one in answers]} while it was renewed")
    for one in answers:
        assert (one.statuses.keys(), one.errors) == ({200}, {})
    assert live.connect("tickets", "postgres") == "tickets@tickets"
    assert "nothing would change" in live.db1.sh("/usr/local/lib/saltern/drift").stdout
    converged(live.app1)


def test_a_certificate_that_has_expired_stops_the_run(live):
    text = live.path("db1").read_text()
    day = certificates.until(live.age("db1", 400))
    mistakes = apply(live.db1).mistakes
    live.path("db1").write_text(text)
    command = "expected what bin/issue-certificates staging writes: run it"
    assert mistakes == [f"certificates.certificate: expired on {day:%Y-%m-%d}; {command}"]
    apply(live.db1).changed_nothing()


def test_everything_is_there_again_after_a_reboot_of_both(live):
    for host in (live.db1, live.app1):
        assert host.reboot() == "running"
    deadline = time.monotonic() + 120
    while live.tickets.get("/healthz").status_code != 200 or live.faq.get("/healthz").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    number = answered_ticket(live.tickets, "After the reboot?")
    published(live.faq, f"tickets:{number}")
    for host in (live.db1, live.app1):
        apply(host).changed_nothing()


def pid(host, unit):
    return host.run("systemctl", "show", "-p", "Id,MainPID", unit).stdout


def serial(certificate):
    (one,) = certificates.read(certificate)
    return one.serial_number
