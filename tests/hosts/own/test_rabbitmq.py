"""RabbitMQ: a Celery worker's jobs survive a release, a reboot and a killed broker; who is let in; what is kept.

A host with two apps, each with its own vhost: ``courier`` (tests/apps/courier), and ``express``, which has the same
code.
"""

import json
import shutil
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest

from lab import Lab, bootstrapped
from lab.pillar import Pillar
from lab.worktree import commit
from tests.hosts.applied import apply, converged
from tests.hosts.canary import Canaries
from tests.hosts.conftest import ROOT
from tests.hosts.rows import declare_hosts

APPS = {
    app: {"port": port, "formation": {"worker": 1}, "attach": {"CELERY_BROKER_URL": {"rabbitmq": app}}}
    for app, port in {"courier": 8000, "express": 8300}.items()
}

# Where the canary of each secret setting belongs, and who may read it there besides root. The broker has only digests.
SETTINGS = {"rabbitmq.vhosts.courier.password": "rabbitmq"}
BELONGS = {
    r"/srv/apps/courier/releases/\d+/env/CELERY_BROKER_URL": {"courier"},
    r"/proc/\d+/environ": {"courier"},
}
CANARIES = Canaries(*SETTINGS.values())
PASSWORD = f"{CANARIES.value('rabbitmq')}/:%@"

# Runs as the app, with the library that Celery uses. Arguments change parts of its URL; the rest stays as it is.
CONNECT = """
import json, os, ssl, sys
from kombu import Connection
changes = json.loads(sys.argv[1])
tls = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
tls["ca_certs"] = changes.pop("ca", "/etc/ssl/saltern/ca.pem")
plain = changes.pop("plain", False)
url = os.environ["CELERY_BROKER_URL"]
for old, new in changes.items():
    assert old in url
    url = url.replace(old, new)
try:
    with Connection(url.replace("amqps", "amqp") if plain else url, ssl=False if plain else tls) as connection:
        connection.connect()
        print("open")
except Exception as error:
    print(type(error).__name__, error)
"""
# Connects with the app's URL and no other option.
AS_IT_IS = """
import os
from kombu import Connection
try:
    with Connection(os.environ["CELERY_BROKER_URL"]) as connection:
        connection.connect()
        print("open")
except Exception as error:
    print(type(error).__name__, error)
"""


class Broker:
    """The host, and its operator's commands."""

    def __init__(self, lab, host, pillar):
        self.lab, self.host, self.pillar = lab, host, pillar

    def python(self, code, *arguments, app="courier", **variables):
        """Run Python as an app; return what it prints."""
        script = (*(f"{name}={value}" for name, value in variables.items()), "python", "-c", code, *arguments)
        return self.host.run(f"{app}-run", "env", *script).stdout.strip()

    def connect(self, **changes):
        """Connect as courier, with parts of its URL changed; return the outcome."""
        return self.python(CONNECT, json.dumps(changes))

    def queue(self, *jobs):
        """Have courier queue jobs, given as name, seconds, name, seconds."""
        self.host.run("courier-run", "python", "courier.py", *map(str, jobs))

    def said(self, line, app="courier"):
        """Return how often an app's worker has said a line."""
        said = self.host.sh(f"journalctl -q -o cat -t '{app}[worker.1]'").stdout
        return said.splitlines().count(line)

    def wait(self, line, app="courier"):
        """Wait until an app's worker has said a line."""
        deadline = time.monotonic() + 180
        while not self.said(line, app):
            assert time.monotonic() < deadline, self.host.sh("journalctl -q -n 60 -o cat").stdout
            time.sleep(0.5)

    def url(self, app):
        """Return the URL that an app has."""
        return urlsplit(self.host.sh(f"cat /srv/apps/{app}/current/env/CELERY_BROKER_URL").stdout)

    def process(self, app):
        """Return supervisor's name of an app's worker."""
        return f"{app}.v{self.host.sh(f'basename $(readlink /srv/apps/{app}/current)').stdout.strip()}.worker.1"

    def orphans(self):
        """Return the data that is kept; see ``app.orphans``."""
        return self.host.salt("app.orphans")["kept"]

    def verify(self):
        """Run the suite of ``make verify``."""
        command = [sys.executable, "-m", "verify", "-q", f"--hosts=lab://{self.host.name}", f"--tree={self.lab.tree}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

    def users(self):
        """Return the broker's users."""
        listed = json.loads(self.host.sh("rabbitmqctl -q list_users --formatter json").stdout)
        return {user["user"] for user in listed}


@pytest.fixture(scope="module")
def broker(suite, tmp_path_factory):
    """The host, bootstrapped, with both apps declared."""
    with Lab.temporary(f"rabbitmq-{suite}") as lab:
        declare_hosts(lab, {"dev": ["broker", "app"]})
        host = lab.boot("dev", suite, image_name=bootstrapped.ensure(suite)[0])
        express = tmp_path_factory.mktemp("apps") / "express"
        shutil.copytree(ROOT / "tests/apps/courier", express)
        commit(express)
        for code in (ROOT / "tests/apps/courier", express):
            lab.build(code, host.python)
        # The host does not have the example apps, so their secrets must go.
        (lab.tree / "pillar/secrets/dev.sls").unlink()
        pillar = Pillar(lab.tree)
        pillar.merge(app={"faq": None, "tickets": None, **APPS})
        host.bootstrap()
        yield Broker(lab, host, pillar)


@pytest.fixture(scope="module")
def live(broker):
    """The host, converged as its dry run said."""
    changed = converged(broker.host)
    assert {"rabbitmq-service", "rabbitmq-vhost-courier", "rabbitmq-vhost-express"} <= changed
    return broker


def test_the_host_is_what_was_declared(live):
    live.verify()


def test_another_app_and_no_login_are_refused_and_so_is_what_the_app_cannot_trust(live):
    own, other = live.url("courier"), live.url("express")
    assert live.connect() == "open"
    for changes, expected in (
        ({own.password: other.password}, "ACCESS_REFUSED"),
        ({f"{own.username}:{own.password}": "guest:guest"}, "ACCESS_REFUSED"),
        # The app's own login, with another app's vhost.
        ({":5671/courier": ":5671/express"}, "access to vhost 'express' refused"),
        ({"ca": "/etc/ssl/certs/ca-certificates.crt"}, "certificate verify failed"),
        ({"@127.0.0.1": "@mq.localhost"}, "certificate is not valid for 'mq.localhost'"),
        ({"plain": True}, "Error"),
        ({"plain": True, ":5671": ":5672"}, "Connection refused"),
    ):
        assert expected in live.connect(**changes), changes


@pytest.mark.alike("bookworm")
def test_the_url_as_it_is_trusts_nobody_unless_the_environment_says_whom(live):
    assert "certificate verify failed" in live.python(AS_IT_IS)
    assert live.python(AS_IT_IS, SSL_CERT_FILE="/etc/ssl/saltern/ca.pem") == "open"


@pytest.mark.alike("bookworm")
def test_a_job_that_was_queued_before_a_release_is_done_once(live):
    live.queue("release-1", 8, "release-2", 0)
    live.wait("release-1 begins")
    live.pillar.merge(app={"courier": {"config": {"GREETING": "hello"}}})
    assert "app-release-courier" in converged(live.host)
    live.wait("release-2 is done")
    assert [live.said(f"release-{n} is done") for n in (1, 2)] == [1, 1]


def test_a_job_that_was_queued_before_the_broker_is_killed_is_done_once(live):
    live.queue("kill-1", 5, "kill-2", 0)
    live.wait("kill-1 begins")
    live.host.sh("kill -9 $(pgrep -u rabbitmq beam.smp)")
    # The worker reconnects by itself.
    live.wait("kill-2 is done")
    assert live.said("kill-2 is done") == 1
    # The broker was killed during a job, so it never learned that the job was done, and hands it out again.
    assert live.said("kill-1 is done") in (1, 2)
    assert live.host.sh("systemctl show -p NRestarts --value rabbitmq-server").stdout.strip() == "1"


def test_a_job_that_was_queued_before_a_reboot_is_done_once(live):
    live.host.run("supervisorctl", "stop", live.process("courier"))
    live.queue("reboot", 0)
    assert live.said("reboot begins") == 0
    assert live.host.reboot() == "running"
    live.wait("reboot is done")
    assert live.said("reboot is done") == 1
    apply(live.host).changed_nothing()


@pytest.mark.alike("bookworm")
def test_another_password_has_another_login_and_the_one_before_is_closed(live):
    before = live.url("courier").username
    live.pillar.merge(rabbitmq={"vhosts": {"courier": {"password": PASSWORD}}})
    with CANARIES.watched(live.host) as titles:
        dry, applied = apply(live.host, "test=True").succeeded(), apply(live.host).succeeded()
    assert dry.changed == applied.changed
    assert {"rabbitmq-vhost-courier", "app-release-courier", "rabbitmq-retired"} <= applied.changed
    apply(live.host).changed_nothing()
    after = live.url("courier").username
    assert (after != before, live.users() & {before, after}) == (True, {after})
    live.queue("password", 0)
    live.wait("password is done")
    said = dry.output + applied.output + live.host.sh("journalctl --no-pager --all --output=export").stdout
    assert (titles, CANARIES.in_text(said), CANARIES.strays(live.host, BELONGS)) == ([], [], [])


@pytest.mark.alike("trixie")
def test_a_user_whose_password_everybody_knows_and_other_drift_are_seen_and_mended(live):
    live.host.sh("rabbitmqctl -q add_user guest guest; rabbitmqctl -q clear_vhost_limits -p courier")
    assert converged(live.host) == {"rabbitmq-guest", "rabbitmq-vhost-courier"}
    assert "guest" not in live.users()


@pytest.mark.alike("trixie")
def test_another_certificate_is_served_without_a_restart(live):
    started = live.host.sh("systemctl show -p ActiveEnterTimestampMonotonic rabbitmq-server").stdout
    live.host.sh("rm /etc/ssl/saltern/rabbitmq.pem")
    assert converged(live.host) == {"rabbitmq-certificate", "rabbitmq-certificate-served"}
    assert live.host.sh("systemctl show -p ActiveEnterTimestampMonotonic rabbitmq-server").stdout == started


@pytest.mark.alike("trixie")
def test_a_vhost_that_nobody_attaches_is_kept_told_and_removed_for_good(live):
    live.host.run("supervisorctl", "stop", live.process("express"))
    live.host.run("express-run", "python", "courier.py", "kept", "0")
    live.pillar.merge(app={"express": {"attach": {"CELERY_BROKER_URL": None}, "formation": {"worker": 0}}})
    assert "rabbitmq-retired" in converged(live.host)
    assert not {user for user in live.users() if user.startswith("express")}
    kept = live.orphans()["rabbitmq:express"]
    assert (kept["app"], kept["size"]) == ("express", "0.0 MB")
    # Another app must not get it: it would find somebody else's jobs.
    before = {"vhosts": {"courier": {"password": PASSWORD}}}
    live.pillar.merge(
        app={"courier": {"attach": {"CELERY_BROKER_URL": {"rabbitmq": "express"}}}}, rabbitmq={"vhosts": None}
    )
    refused = apply(live.host)
    assert refused.failed["rabbitmq-vhost-express"].startswith(
        "app.courier.attach: the vhost express holds the data of express; expected a name of its own. "
    )
    live.pillar.merge(app={"courier": {"attach": APPS["courier"]["attach"]}}, rabbitmq=before)
    # After it is attached again, the job is still there.
    live.pillar.merge(app={"express": APPS["express"]})
    apply(live.host).succeeded()
    live.wait("kept is done", "express")
    assert "rabbitmq:express" not in live.orphans()
    live.pillar.merge(app={"express": None})
    assert "rabbitmq-retired" in apply(live.host).succeeded().changed
    live.host.sh(live.orphans()["rabbitmq:express"]["remove"])
    assert "rabbitmq:express" not in live.orphans()
    assert "express" not in live.host.sh("rabbitmqctl -q list_vhosts name").stdout.split()
    apply(live.host).changed_nothing()
