"""Secrets stay where they belong: a production host has a canary in every secret setting, and is searched for them."""

import datetime
import json
import os
import re
import shutil
import subprocess
import sys
from unittest import mock

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lab.pillar import overlaid
from saltern.tls import certificate
from tests.hosts.applied import apply
from tests.hosts.canary import Canaries, settings_with_one
from tests.hosts.conftest import ROOT
from tests.keyring import Keyring

pytestmark = pytest.mark.alike("trixie")

MIRROR = {
    "port": 8300,
    "formation": {"web": 1, "worker": 1},
    "health": {"grace": 10, "settle": 2},
    "attach": {"DATABASE_URL": {"postgres": "mirror"}, "REDIS_URL": {"redis": "mirror"}},
    "site": {"access": {"paths": ["/private/"]}},
}

# The canary of each setting.
SETTINGS = {
    "app.faq.config.SECRET_KEY": "faq",
    "app.tickets.config.SECRET_KEY": "tickets",
    "app.mirror.config.TOKEN": "config",
    "app.mirror.attach.MAIL_URL.url": "url",
    # nginx has a hash of it alone, so it belongs to no file of its own.
    "app.mirror.site.access.users.ada": "config",
    "postgres.databases.mirror.password": "postgres",
    "redis.instances.mirror.password": "redis",
    # Both are private keys, which contain the mark as base64.
    "certificates.key": "certificate",
    "app.mirror.site.key": "certificate",
}
DOMAIN = "mirror.example.com"

# The files where canaries belong, and the users besides root who may read them.
RELEASE = r"/srv/apps/{app}/releases/\d+/env/\w+"
PLACES = {
    RELEASE.format(app="faq"): ({"faq"}, {"faq"}),
    RELEASE.format(app="tickets"): ({"tickets"}, {"tickets"}),
    RELEASE.format(app="mirror"): ({"config", "url", "postgres", "redis"}, {"mirror"}),
    # Redis has only digests of its passwords.
    r"/etc/ssl/saltern/postgres\.pem": ({"certificate"}, {"postgres"}),
    r"/etc/ssl/saltern/redis\.pem": ({"certificate"}, {"redis"}),
    r"/etc/ssl/saltern/sites/mirror\.pem": ({"certificate"}, set()),
}
# An app's processes have its config as their environment.
OWNERS = {"faq": {"faq"}, "tickets": {"tickets"}, "mirror": {"config", "url", "postgres", "redis"}}


@pytest.fixture(scope="module")
def canaries():
    """The canaries."""
    return Canaries(*SETTINGS.values())


@pytest.fixture(scope="module")
def production(host, lab, tree, pillar, canaries):
    """The host, moved to production, with a canary in each secret setting; and its pillar."""
    operator = Keyring("operator")
    row = yaml.safe_load((tree / "pillar/hosts.yaml").read_text())["dev"]
    hosts = {"dev": row | {"environment": "production"}, "web1": row | {"address": str(lab.subnet[99])}}
    (tree / "pillar/hosts.yaml").write_text(yaml.safe_dump(hosts))
    lab.build(ROOT / "tests/apps/mirror", host.python)
    shutil.copy(tree / "pillar/builds/dev.sls", tree / "pillar/builds/production.sls")
    common = tree / "pillar/common.sls"
    common.write_text(yaml.safe_dump(overlaid(yaml.safe_load(common.read_text()), {"app": {"mirror": MIRROR}})))
    for path, public in {
        "hosts/dev": host.sh("gpg --homedir /etc/salt/gpgkeys --armor --export").stdout,
        "operators/operator": operator.public,
    }.items():
        (tree / f"pillar/keys/{path}.asc").write_text(public)
    key, given, site = certified(canaries.mark, host.address)
    for setting, name in SETTINGS.items():
        write(tree, setting, key if name == "certificate" else canaries.value(name))
    environment = tree / "pillar/environments/production.sls"
    mirror = {"domains": [DOMAIN], "site": {"certificate": site}}
    given = {"certificates": given, "app": {"mirror": mirror}}
    said = overlaid(yaml.safe_load(environment.read_text()), given)
    environment.write_text(yaml.safe_dump(said))
    yield host
    operator.close()
    pillar.restore()
    apply(host).succeeded()


def certified(mark, address):
    """Return a private key with the mark in one line of its PEM, and the pillar's text beside it.

    The key is the host's own and also a domain's: that text is the domain's certificate.
    """
    now = datetime.datetime.now(datetime.UTC)
    authority = certificate.new_authority("production", now)
    key = ec.derive_private_key(int.from_bytes(f"canary--{mark}".encode()), ec.SECP256R1())
    with mock.patch.object(ec, "generate_private_key", lambda curve: key):
        own = certificate.parted(certificate.issue(authority, "dev", address, now))[1]
        site = certificate.parted(certificate.issue_for(authority, "mirror", [DOMAIN], now))[1]
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return text.decode(), {"authorities": [certificate.parted(authority)[1]], "certificate": own}, site


def write(tree, setting, value):
    """Encrypt a setting of production."""
    value = f"smtp://user:{value}@mail.example.com:587" if setting.endswith(".url") else value
    command = [sys.executable, tree / "bin/secret", "set", "--environment", "production", setting]
    subprocess.run(
        command, input=value.rstrip("\n").encode(), check=True, env=os.environ | {"GNUPGHOME": "/nonexistent"}
    )


def declare(tree, **config):
    """Set config variables of mirror in production."""
    path = tree / "pillar/environments/production.sls"
    now = overlaid(yaml.safe_load(path.read_text()), {"app": {"mirror": {"config": config}}})
    path.write_text(yaml.safe_dump(now))


@pytest.fixture(scope="module")
def ran(production, tree, canaries):
    """Each command's output, and the titles of processes that contained a canary meanwhile."""
    host, printed = production, {}

    def run(what, command, code=0):
        done = host.sh(command, check=False)
        assert (done.returncode != 0) == bool(code), done.stdout + done.stderr
        printed[what] = done.stdout + done.stderr

    with canaries.watched(host) as titles:
        run("a dry run of a change", "salt-call state.apply test=True")
        run("a dry run in JSON", "salt-call --out json state.apply test=True")
        run("a change", "salt-call --retcode-passthrough state.apply")
        run("nothing to do", "salt-call --retcode-passthrough state.apply")
        declare(tree, AGAIN="another release")
        run("a change in JSON", "salt-call --out json --retcode-passthrough state.apply")
        run("nothing to do in JSON", "salt-call --out json --retcode-passthrough state.apply")
        declare(tree, FAIL="release")
        run("a failure of a migration", "salt-call --retcode-passthrough state.apply", code=1)
        declare(tree, FAIL="boot")
        run("a failure in JSON", "salt-call --out json --retcode-passthrough state.apply", code=1)
        declare(tree, FAIL=None)
        run("the end", "salt-call --retcode-passthrough state.apply")
        for app in OWNERS:
            run(f"the list of {app}'s releases", f"salt-call release.list {app}")
            run(f"the log of {app}'s release", f"salt-call release.log {app}")
        run("a rollback", "salt-call release.rollback mirror")
        run("the end of the hold", "salt-call release.unhold mirror")
        run("the processes", "supervisorctl status")
    return printed, titles


@pytest.fixture(scope="module")
def found(ran, production, canaries):
    """The places on the host where canaries are after those commands."""
    places, files = canaries.places(production)
    assert files > 10_000
    print(f"{files} files read; canaries in {len(places)} places: {sorted({place.path for place in places})}")
    return places


def test_every_secret_setting_has_a_canary():
    marked = set()

    def walk(schema, path):
        if schema.get("secret"):
            marked.add(".".join(path))
        for key, part in schema.get("properties", {}).items():
            walk(part, (*path, key))
        for part in schema.get("patternProperties", {}).values():
            walk(part, (*path, "*"))

    for file in (ROOT / "formulas").glob("*/settings.yaml"):
        walk(yaml.safe_load(file.read_text()), (file.parent.name,))
    # The schema does not mark config as secret, since not every variable is one.
    marked.add("app.*.config.*")
    named = settings_with_one()
    assert named >= SETTINGS.keys()
    for pattern in marked:
        assert any(re.fullmatch(pattern.replace(".", r"\.").replace("*", r"\w+"), name) for name in named), pattern


def test_the_canaries_are_in_use(found):
    # A search that misses the canaries where they belong would prove nothing elsewhere.
    seen = {name for place in found if belongs(place) for name in named(place)}
    assert seen == set(SETTINGS.values())
    assert "/etc/ssl/saltern/sites/mirror.pem" in {place.path for place in found}


def test_no_output_holds_a_canary(ran, canaries):
    printed, _ = ran
    assert {what: canaries.in_text(text) for what, text in printed.items() if canaries.in_text(text)} == {}


def test_no_title_of_a_process_showed_a_canary(ran):
    _, titles = ran
    assert titles == []


def test_the_journal_holds_no_canary(ran, production, canaries):
    assert canaries.in_text(production.sh("journalctl --no-pager --all --output=export").stdout) == []


def test_a_canary_is_in_no_file_but_where_it_belongs(found):
    strays = [place for place in found if not place.path.startswith("/proc/") and not belongs(place)]
    assert strays == []


def named(place):
    """Return the names of the canaries in a place. The one found as base64 is the certificate's."""
    return {name if name in SETTINGS.values() else "certificate" for name in place.canaries}


def belongs(place):
    """Tell whether a file may hold canaries, holds only its own, and can be read only by its own users."""
    for pattern, (names, readers) in PLACES.items():
        if re.fullmatch(pattern, place.path):
            return named(place) <= names and place.readers <= readers | {"root"}
    return False


def test_a_canary_is_in_the_environment_of_no_process_but_its_apps(found):
    for place in found:
        if place.path.startswith("/proc/"):
            assert place.path.endswith("/environ")
            [owner] = place.readers - {"root"}
            assert place.canaries <= OWNERS[owner]


def test_the_search_finds_what_is_planted(production, canaries):
    host, value = production, canaries.value("redis")
    put = "import sys; open('/var/tmp/planted', 'w').write('password=' + sys.stdin.read())"
    host.run("python3", "-c", put, input=value)
    host.run(
        "python3",
        "-c",
        "import base64, sys; open('/var/tmp/encoded', 'wb').write(base64.b64encode(b'x:' + sys.stdin.buffer.read()))",
        input=value,
    )
    host.run("systemd-cat", "--identifier=planted", input=value)
    with canaries.watched(host) as titles:
        host.run("sh", "-c", f"sleep 1; : {value}")
    places, _ = canaries.places(host)
    host.sh("rm /var/tmp/planted /var/tmp/encoded")
    planted = {place.path: place for place in places}
    assert planted["/var/tmp/planted"].canaries == {"redis"}
    assert {"nobody", "www-data", "faq", "mirror"} <= planted["/var/tmp/planted"].readers
    assert not belongs(planted["/var/tmp/planted"])
    assert "/var/tmp/encoded" in planted
    assert any("sleep 1" in title for title in titles)
    assert canaries.in_text(host.sh("journalctl --no-pager --all --output=export --identifier=planted").stdout)


@pytest.mark.parametrize("port, told", [(9999, DOMAIN), (80, DOMAIN), (443, f"{DOMAIN}:443")])
def test_an_app_is_told_no_port_but_one_that_leads_to_it(ran, production, port, told):
    url = f"https://{DOMAIN}/request"
    asked = ("curl", "-sSk", "--resolve", f"{DOMAIN}:443:127.0.0.1", "-H", f"Host: {DOMAIN}:{port}", url)
    headers = dict(json.loads(production.run(*asked).stdout)["headers"])
    assert headers["host"] == headers["x-forwarded-host"] == told
