"""Mail: a relay that hands mail to a smart host over TLS, queues it meanwhile, or has a catcher get it all.

One host of dev has the relay and two apps: ``smarthost``, which is the smart host too, and ``inbox``, which catches.
"""

import datetime
import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from lab import Lab, bootstrapped
from lab.pillar import Pillar
from saltern.tls import certificate
from tests.hosts.applied import apply, converged
from tests.hosts.canary import Canaries
from tests.hosts.conftest import ROOT
from tests.hosts.rows import declare_hosts

pytestmark = pytest.mark.alike("bookworm")

NAME = "smart.example.com"
# Where the canary of the secret setting belongs, and who may read it there besides root. The smart host has it too.
SETTINGS = {"mail.relays.default.password": "mail"}
BELONGS = {
    r"/etc/postfix/saltern-password": {"root"},
    r"/srv/apps/smarthost/releases/\d+/env/SMTP_LOGIN": {"smarthost"},
    r"/proc/\d+/environ": {"smarthost"},
}
CANARIES = Canaries(*SETTINGS.values())
LOGIN = ("shop", f"{CANARIES.value('mail')}p/:%@word'\\$")
SMART = {"host": NAME, "port": 2525, "user": LOGIN[0], "password": LOGIN[1], "domain": "shop.example.com"}
SEND = """
import smtplib, sys
from urllib.parse import urlsplit
import os
url = urlsplit(os.environ["EMAIL_URL"])
text = f"From: shop@shop.example.com\\r\\nTo: somebody@example.net\\r\\nSubject: {sys.argv[1]}\\r\\n\\r\\nHello\\r\\n"
with smtplib.SMTP(url.hostname, url.port) as relay:
    relay.sendmail("shop@shop.example.com", ["somebody@example.net"], text)
"""
# A mail whose text seems to end, at a line without a carriage return, and to begin another mail.
SMUGGLE = """
import os, smtplib
from urllib.parse import urlsplit
url = urlsplit(os.environ["EMAIL_URL"])
inner = "MAIL FROM:<root@shop.example.com>\\r\\nRCPT TO:<x@example.net>\\r\\nDATA\\r\\nSubject: inner"
with smtplib.SMTP(url.hostname, url.port) as relay:
    relay.ehlo()
    relay.mail("shop@shop.example.com")
    relay.rcpt("somebody@example.net")
    relay.docmd("DATA")
    relay.send(f"Subject: outer\\r\\n\\r\\nHello\\n.\\r\\n{inner}\\r\\n\\r\\n\\r\\n.\\r\\n")
    print(relay.getreply())
"""
GREETED = "import socket; print(socket.create_connection(('127.0.0.1', 25)).recv(99).decode())"
PAGE = """
import urllib.request
asked = urllib.request.Request("http://127.0.0.1/messages/", headers={"Host": "mail.localhost"})
print(urllib.request.urlopen(asked, timeout=10).read().decode())
"""
READ = {"mail-config", "mail-password", "mail-served"}


@pytest.fixture(scope="module")
def mailing(suite):
    """The lab, the pillar, a host, and the results of its first dry run and its first converge."""
    now = datetime.datetime.now(datetime.UTC)
    authority = certificate.new_authority("mail", now)
    own = certificate.issue(authority, NAME, "127.0.0.1", now)
    with Lab.temporary(f"mail-{suite}") as lab:
        declare_hosts(lab, {"dev": ["mail", "app", "proxy"]})
        (lab.tree / "pillar/secrets/dev.sls").unlink()
        pillar = Pillar(lab.tree)
        apps = {
            "smarthost": {
                "port": 8000,
                "formation": {"worker": 1},
                "config": {"SMTP_LOGIN": ":".join(LOGIN), "SMTP_CERTIFICATE": own},
                "attach": {"EMAIL_URL": {"mail": "default"}},
            },
            "inbox": {
                "port": 8100,
                "domains": ["mail.localhost"],
                "formation": {"web": 1, "catch": 1},
                "order": {"catch": "stop-first"},
                "health": {"path": "/"},
            },
        }
        pillar.merge(
            app={"faq": None, "tickets": None, **apps},
            mail={"relays": {"default": SMART}},
            base={"ca_certificates": {"mail": certificate.parted(authority)[1]}},
        )
        host = lab.boot("dev", suite, image_name=bootstrapped.ensure(suite)[0])
        for code in ("tests/apps/smarthost", "formulas/mail/inbox"):
            lab.build(ROOT / code, host.python)
        host.bootstrap()
        found(host, "127.0.0.1")
        yield SimpleNamespace(lab=lab, pillar=pillar, host=host, dry=apply(host, "test=True"), first=apply(host))


def found(host, address):
    """Have the name of the smart host lead somewhere: nobody listens at 127.0.0.2."""
    others = f"grep -v {NAME} /etc/hosts > /tmp/hosts; echo '{address} {NAME}' >> /tmp/hosts"
    host.sh(f"{others}; cat /tmp/hosts > /etc/hosts")


def send(mailing, subject):
    mailing.host.run("smarthost-run", "python", "-c", SEND, subject)


def queued(mailing):
    """Return what Postfix says of each mail that is queued, once it has tried each."""
    deadline = time.monotonic() + 60
    while True:
        said = [json.loads(line) for line in mailing.host.run("postqueue", "-j").stdout.splitlines()]
        if all(one["queue_name"] == "deferred" for one in said):
            return said
        assert time.monotonic() < deadline, said
        time.sleep(0.2)


def taken(mailing):
    """Return what the smart host has taken."""
    return mailing.host.sh("journalctl -q -o cat -t 'smarthost[worker.1]' | grep ^took || true").stdout.splitlines()


def wait_for(ask, text):
    deadline = time.monotonic() + 60
    while text not in (said := ask()):
        assert time.monotonic() < deadline, said
        time.sleep(0.2)


def test_the_dry_run_on_a_bare_host_was_exact(mailing):
    assert mailing.dry.succeeded().changed == mailing.first.succeeded().changed
    apply(mailing.host).changed_nothing()


def test_mail_goes_to_the_smart_host_over_tls_with_its_login(mailing):
    assert mailing.host.sh("cat /srv/apps/smarthost/current/env/EMAIL_URL").stdout == "smtp://127.0.0.1:25"
    mailing.host.run("smarthost-run", "python", "-c", SMUGGLE)
    wait_for(lambda: "\n".join(taken(mailing)), "took Subject: outer")
    send(mailing, "first")
    wait_for(lambda: "\n".join(taken(mailing)), "took Subject: first from shop@shop.example.com over TLSv1.3")
    assert queued(mailing) == []
    assert not any("inner" in line for line in taken(mailing))


def test_mail_is_queued_while_the_smart_host_is_away_or_is_another(mailing):
    found(mailing.host, "127.0.0.2")
    send(mailing, "away")
    mailing.host.sh("systemctl kill -s KILL saltern-mail")
    wait_for(lambda: mailing.host.sh("systemctl is-active saltern-mail || true").stdout, "active")
    (mail,) = queued(mailing)
    assert "Connection refused" in mail["recipients"][0]["delay_reason"]
    found(mailing.host, "127.0.0.1")
    # The certificate has not this name.
    relays = {"default": {"host": "localhost.localdomain"}}
    mailing.pillar.merge(mail={"relays": relays, "settings": {"smtp_tls_loglevelx": "2", "smtpd_banner": "a secret"}})
    told = apply(mailing.host, "test=True").failed["mail-config-judged"]
    assert told.startswith("mail.settings.smtp_tls_loglevelx: no part of the relay knows it; expected")
    mailing.pillar.merge(mail={"settings": {"smtp_tls_loglevelx": None, "smtpd_client_restrictions": "permit_some"}})
    told = apply(mailing.host).failed["mail-config-judged"]
    assert told.startswith("mail.settings.smtpd_client_restrictions: Postfix refuses the value; expected")
    mailing.pillar.merge(mail={"settings": {"smtpd_client_restrictions": None, "smtpd_banner": "shop's relay"}})
    with CANARIES.watched(mailing.host) as titles:
        assert converged(mailing.host) == READ
    said = mailing.dry.output + mailing.first.output + mailing.host.sh("journalctl --no-pager --output=export").stdout
    assert (titles, CANARIES.in_text(said), CANARIES.strays(mailing.host, BELONGS)) == ([], [], [])
    assert mailing.host.run("python3", "-c", GREETED).stdout.strip() == "220 shop's relay"
    mailing.host.sh("grep -q localdomain /etc/hosts || echo 127.0.0.1 localhost.localdomain >> /etc/hosts")
    send(mailing, "another")
    assert any("certificate" in one["recipients"][0]["delay_reason"] for one in queued(mailing))
    assert not any("another" in line or "away" in line for line in taken(mailing))
    mailing.pillar.merge(mail={"relays": {"default": {"host": NAME}}, "settings": None})
    assert converged(mailing.host) == READ
    apply(mailing.host).changed_nothing()
    mailing.host.run("postqueue", "-f")
    for subject in ("away", "another"):
        wait_for(lambda: "\n".join(taken(mailing)), f"took Subject: {subject} ")


def test_the_host_is_what_was_declared(mailing):
    command = [sys.executable, "-m", "verify", "-q", f"--tree={mailing.lab.tree}", f"--hosts=lab://{mailing.host.name}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_catcher_gets_all_mail_and_shows_it(mailing):
    mailing.pillar.merge(mail={"relays": {"default": {"catch": True}}})
    assert converged(mailing.host) == READ
    send(mailing, "caught")
    wait_for(lambda: mailing.host.run("python3", "-c", PAGE).stdout, '"subject": "caught"')
    assert not any("caught" in line for line in taken(mailing))


def test_without_its_attachment_the_relay_is_gone_and_its_queue_is_kept(mailing):
    mailing.pillar.merge(mail={"relays": {"default": {"catch": False}}})
    converged(mailing.host)
    found(mailing.host, "127.0.0.2")
    send(mailing, "kept")
    queued(mailing)
    mailing.pillar.merge(mail={"relays": None}, app={"smarthost": {"attach": None}})
    dry = apply(mailing.host, "test=True").succeeded()
    assert "mail-retired" in dry.changed
    assert dry.changed == converged(mailing.host)
    apply(mailing.host).changed_nothing()
    assert (
        mailing.host.run("sh", "-c", "ss -Hltn 'sport = :25'; ls /etc/postfix/saltern-password", check=False).stdout
        == ""
    )
    (kept,) = (one for name, one in mailing.host.salt("app.orphans")["kept"].items() if name == "mail:default")
    mailing.host.sh(kept["remove"])
    assert "mail:default" not in mailing.host.salt("app.orphans")["kept"]
