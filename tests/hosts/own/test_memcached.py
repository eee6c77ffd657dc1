"""memcached: two apps with an instance each, asked by the clients that Python apps use."""

import json
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import yaml

from lab import Lab, bootstrapped
from lab.worktree import commit
from tests.hosts.applied import apply, converged
from tests.hosts.canary import Canaries
from tests.hosts.conftest import ROOT
from tests.hosts.rows import declare_hosts

DEV = {"ephemeral": True, "drift": {"interval": 0}}
APPS = {
    app: {"port": port, "formation": {"worker": 1}, "attach": {"CACHE_URL": {"memcached": app}}}
    for app, port in (("pages", 8000), ("stock", 8100))
}

# Where the canary of each secret setting belongs, and who may read it there besides root.
SETTINGS = {"memcached.instances.stock.password": "memcached"}
BELONGS = {
    r"/etc/saltern/memcached/stock\.logins": {"memcache"},
    r"/srv/apps/stock/releases/\d+/env/CACHE_URL": {"stock"},
    r"/proc/\d+/environ": {"stock"},
}


def declare(lab, apps, **more):
    """Declare apps, and take out the example apps."""
    (lab.tree / "pillar/common.sls").write_text(yaml.safe_dump({"app": apps}))
    (lab.tree / "pillar/environments/dev.sls").write_text(yaml.safe_dump(DEV | more))


@pytest.fixture(scope="module")
def served(suite, tmp_path_factory):
    """The lab, a host with both apps, and the results of its first dry run and its first converge."""
    with Lab.temporary(f"memcached-{suite}") as lab:
        declare_hosts(lab, {"dev": ["memcached", "app"]})
        # The developer's tree may have secrets of the example apps.
        (lab.tree / "pillar/secrets/dev.sls").unlink(missing_ok=True)
        declare(lab, APPS, memcached={"instances": {"pages": {"memory": "16mb"}}})
        host = lab.boot("dev", suite, image_name=bootstrapped.ensure(suite)[0])
        for app in APPS:
            code = tmp_path_factory.mktemp("apps") / app
            shutil.copytree(ROOT / "tests/apps/pages", code)
            commit(code)
            lab.build(code, host.python)
        host.bootstrap()
        yield SimpleNamespace(lab=lab, host=host, dry=apply(host, "test=True"), first=apply(host))


@pytest.fixture(scope="module")
def ask(served):
    """A function that asks a cache as an app's process would, with the app's URL or another one."""

    def asked(app, *words, url=""):
        change = ["env", f"CACHE_URL={url}"] if url else []
        return json.loads(served.host.run(f"{app}-run", *change, "python", "pages.py", *words).stdout)

    return asked


def url(host, app):
    return host.sh(f"cat /srv/apps/{app}/current/env/CACHE_URL").stdout


def pid(host, app):
    return host.sh(f"systemctl show -p MainPID --value memcached@{app}").stdout.strip()


def wait_until_it_answers(ask, app):
    """Wait until systemd has started an instance again."""
    deadline = time.monotonic() + 30
    while ask(app, "pymemcache", "set", "plain", "text") is not True:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_dry_run_tells_what_the_run_does_and_a_second_one_changes_nothing(served):
    assert served.dry.succeeded().changed == served.first.succeeded().changed
    assert "memcached-service-pages" in served.first.changed
    apply(served.host).changed_nothing()


def test_an_apps_process_reads_and_writes_through_its_url(served, ask):
    assert ask("pages", "django", "set", "greeting", "Größe") is None
    assert ask("pages", "django", "get", "greeting") == "Größe"
    # The worker stored its PID with Django's client; only that client can read it.
    assert ask("pages", "django", "get", "worker") > 1
    assert ask("pages", "pymemcache", "set", "plain", "text") is True
    assert ask("pages", "pymemcache", "get", "plain") == "text"


def test_another_app_is_refused_and_has_its_own(served, ask):
    assert ask("stock", "pymemcache", "get", "plain") is None
    theirs = url(served.host, "stock").replace(":8189/", ":8089/")
    assert ask("stock", "pymemcache", "get", "plain", url=theirs) == (
        "ConnectionError: memcached refuses the login of CACHE_URL"
    )


def test_the_host_is_as_declared(served):
    command = [sys.executable, "-m", "verify", "-q", "memcached", "base", "certificates", "firewall"]
    command += [f"--hosts=lab://{served.host.name}", f"--tree={served.lab.tree}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_an_instance_holds_no_more_than_its_limit(ask):
    there, size, limit, evictions = ask("pages", "pymemcache", "fill", "48")
    assert limit == 16 << 20
    assert size <= limit
    assert evictions > 0
    # The value that was stored last is still there.
    assert there > 10


def test_an_app_that_lifts_its_limit_takes_no_memory_of_others(served, ask):
    other = pid(served.host, "stock")
    assert ask("pages", "pymemcache", "limit", "4000") is True
    # It is killed at its memory limit, and systemd starts it again.
    assert isinstance(ask("pages", "pymemcache", "fill", "600"), str)
    wait_until_it_answers(ask, "pages")
    assert ask("pages", "pymemcache", "get", "page-0") is None
    assert pid(served.host, "stock") == other


def test_another_password_and_another_certificate_restart_no_instance(served, ask):
    host, before, old = served.host, pid(served.host, "stock"), url(served.host, "stock")
    assert ask("stock", "pymemcache", "set", "kept", "text") is True
    canaries = Canaries(*SETTINGS.values())
    more = {"pages": {"memory": "16mb"}, "stock": {"password": f"{canaries.value('memcached')}/:%@"}}
    declare(served.lab, APPS, memcached={"instances": more})
    host.sh("rm /etc/ssl/saltern/memcached.pem")
    with canaries.watched(host) as titles:
        dry, applied = apply(host, "test=True").succeeded(), apply(host).succeeded()
    assert dry.changed == applied.changed
    assert applied.changed == {
        *("memcached-certificate", "memcached-served-pages", "memcached-served-stock"),
        *("memcached-logins-stock", "app-release-stock", "memcached-retired"),
    }
    apply(host).changed_nothing()
    assert (pid(host, "stock"), ask("stock", "pymemcache", "get", "kept")) == (before, "text")
    assert ask("stock", "pymemcache", "get", "kept", url=old).startswith("ConnectionError: memcached refuses")
    said = dry.output + applied.output + host.sh("journalctl --no-pager --all --output=export").stdout
    assert (titles, canaries.in_text(said), canaries.strays(host, BELONGS)) == ([], [], [])


def test_an_instance_that_is_killed_comes_back_and_one_that_nobody_attaches_is_gone(served, ask):
    host, before = served.host, pid(served.host, "pages")
    host.sh(f"kill -9 {before}")
    wait_until_it_answers(ask, "pages")
    assert pid(host, "pages") != before
    assert ask("pages", "django", "set", "greeting", "again") is None
    assert ask("pages", "django", "get", "greeting") == "again"
    declare(served.lab, {"pages": APPS["pages"]}, memcached={"instances": {"pages": {"memory": "16mb"}}})
    (served.lab.tree / "pillar/builds/dev.sls").write_text(
        yaml.safe_dump(
            {"app": {"pages": yaml.safe_load((served.lab.tree / "pillar/builds/dev.sls").read_text())["app"]["pages"]}}
        )
    )
    assert "memcached-retired" in converged(host)
    gone = "/etc/saltern/memcached/stock.* /etc/systemd/system/memcached@stock* /etc/systemd/system/*/memcached@stock*"
    assert host.sh(f"ls -d {gone} 2>/dev/null || true").stdout == ""
    assert host.sh("systemctl is-active memcached@stock || true").stdout.strip() == "inactive"
    # A cache has no data to keep.
    orphans = json.loads(host.run("salt-call", "--out", "json", "app.orphans").stdout)["local"]
    assert not [name for name in orphans if "memcached" in str(name)]
