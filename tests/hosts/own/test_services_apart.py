"""RabbitMQ and memcached on another host than the apps that attach them.

Two hosts of dev: ``services1`` has the broker and the cache, ``app1`` the apps ``courier``, which queues jobs, and
``pages``, which caches.
"""

import json
import socket
import subprocess
import sys
import time
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from lab import Lab, bootstrapped
from lab.pillar import Pillar
from tests.hosts.applied import apply, converged
from tests.hosts.conftest import ROOT
from tests.hosts.rows import declare_hosts

pytestmark = pytest.mark.alike("trixie")

ROLES = {"services1": ["broker", "memcached"], "app1": ["app"]}
APPS = {
    "courier": {"port": 8000, "formation": {"worker": 1}, "attach": {"CELERY_BROKER_URL": {"rabbitmq": "courier"}}},
    "pages": {"port": 8100, "formation": {"worker": 1}, "attach": {"CACHE_URL": {"memcached": "pages"}}},
}


def passwords(number):
    """Return the settings by which both hosts know the passwords; those of another number are others."""
    return {
        "rabbitmq": {"vhosts": {"courier": {"password": f"courier-{number}/:%@-0123456789"}}},
        "memcached": {"instances": {"pages": {"password": f"pages-{number}/:%@-0123456789"}}},
    }


@pytest.fixture(scope="module")
def apart(suite):
    """The hosts, converged, and the pillar."""
    with Lab.temporary(f"apart-{suite}") as lab:
        declare_hosts(lab, ROLES)
        # Those of the example apps, which no host here has.
        (lab.tree / "pillar/secrets/dev.sls").unlink()
        pillar = Pillar(lab.tree)
        pillar.merge(app={"faq": None, "tickets": None, **APPS}, **passwords(1))
        lab.issue_certificates()
        services1, app1 = (lab.boot(name, suite, image_name=bootstrapped.ensure(suite)[0]) for name in ROLES)
        for host in (services1, app1):
            host.bootstrap()
        for app in APPS:
            lab.build(ROOT / "tests/apps" / app, app1.python)
        for host in (services1, app1):
            print(f"{suite}: {host.id}: {len(converged(host))} changed")
        yield SimpleNamespace(lab=lab, pillar=pillar, services1=services1, app1=app1)


def cached(apart, *words, url=""):
    """Ask the cache as a process of pages, maybe with another URL."""
    change = ["env", f"CACHE_URL={url}"] if url else []
    return json.loads(apart.app1.run("pages-run", *change, "python", "pages.py", "pymemcache", *words).stdout)


def delivered(apart, job):
    """Queue a job, and wait until the worker has done it."""
    apart.app1.run("courier-run", "python", "courier.py", job, "0")
    deadline = time.monotonic() + 120
    while True:
        said = apart.app1.sh("journalctl -q -o cat -t 'courier[worker.1]'").stdout.splitlines()
        if f"{job} is done" in said:
            return said.count(f"{job} is done")
        assert time.monotonic() < deadline, said[-40:]
        time.sleep(0.5)


def url(apart, app, variable):
    """Return the URL that an app has."""
    return apart.app1.sh(f"cat /srv/apps/{app}/current/env/{variable}").stdout


def test_the_apps_use_both_over_the_network(apart):
    assert delivered(apart, "first") == 1
    assert cached(apart, "set", "greeting", "hello") is True
    assert cached(apart, "get", "greeting") == "hello"
    for app, variable in (("courier", "CELERY_BROKER_URL"), ("pages", "CACHE_URL")):
        assert urlsplit(url(apart, app, variable)).hostname == apart.services1.address
    # And nothing of them is on the app host.
    assert apart.app1.run("sh", "-c", "ss -Hltn | grep -E ':(5671|8189) '", check=False).stdout == ""


def test_no_other_host_is_let_in(apart):
    for app, variable in (("courier", "CELERY_BROKER_URL"), ("pages", "CACHE_URL")):
        port = urlsplit(url(apart, app, variable)).port
        with pytest.raises(TimeoutError):
            socket.create_connection((apart.services1.address, port), 2)


def test_both_hosts_are_what_was_declared(apart):
    command = [sys.executable, "-m", "verify", "-q", f"--tree={apart.lab.tree}"]
    command += [f"--hosts=lab://{apart.services1.name},lab://{apart.app1.name}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_with_another_password_neither_is_ever_shut_out(apart):
    before = url(apart, "pages", "CACHE_URL")
    apart.pillar.merge(**passwords(2))
    assert {"rabbitmq-vhost-courier", "memcached-logins-pages"} <= converged(apart.services1)
    # The app host has the passwords of before until it converges.
    assert delivered(apart, "between") == 1
    assert cached(apart, "get", "greeting") == "hello"
    assert converged(apart.app1) == {"app-release-courier", "app-release-pages"}
    assert url(apart, "pages", "CACHE_URL") != before
    assert delivered(apart, "after") == 1
    assert cached(apart, "get", "greeting") == "hello"
    # Another app host could have them still.
    assert cached(apart, "get", "greeting", url=before) == "hello"
    apply(apart.services1).changed_nothing()
