"""Dry runs: what ``state.apply test=True`` says would change is what changes, state by state."""

import pytest
import trustme

from .applied import apply
from .client import Client
from .conftest import ROOT

MIRROR = {
    "port": 8300,
    "domains": ["mirror.localhost"],
    "formation": {"web": 1, "worker": 1},
    "health": {"settle": 1},
    "attach": {"DATABASE_URL": {"postgres": "mirror"}, "REDIS_URL": {"redis": "mirror"}},
}

CERTIFICATE = trustme.CA().cert_pem.bytes().decode()

# In this order: each is laid over those before it. With one of the states that it must change.
CHANGES = {
    "a config value": ({"app": {"faq": {"config": {"WEB_THREADS": "3"}}}}, "app-release-faq"),
    "a formation": ({"app": {"tickets": {"formation": {"web": 1, "worker": 2}}}}, "app-release-tickets"),
    "a setting of PostgreSQL": ({"postgres": {"work_mem": "8MB"}}, "postgres-loaded"),
    "a setting of Redis": ({"redis": {"maxmemory": "96mb"}}, "redis-loaded-tickets"),
    "a setting of nginx": ({"nginx": {"gzip": False}}, "nginx-config"),
    "a setting of the base": ({"base": {"packages": ["tree"]}}, "base-packages"),
    "a setting of the firewall": (
        {"firewall": {"allow": {"metrics": {"port": 9100, "networks": ["192.0.2.0/24", "2001:db8::/32"]}}}},
        "firewall-rules",
    ),
    "an authority": ({"base": {"ca_certificates": {"test": CERTIFICATE}}}, "base-ca-certificates"),
    "no authority": ({"base": {"ca_certificates": None}}, "base-ca-certificates"),
    "a new domain": ({"app": {"faq": {"domains": ["faq.localhost", "questions.localhost"]}}}, "nginx-config"),
    "a new app": ({"app": {"mirror": MIRROR}}, "app-release-mirror"),
    "a new attachment": ({"app": {"faq": {"attach": {"CACHE_URL": {"redis": "faq"}}}}}, "redis-service-faq"),
    "an attachment removed": ({"app": {"faq": {"attach": {"CACHE_URL": None}}}}, "redis-retired"),
    "a domain removed": ({"app": {"faq": {"domains": ["faq.localhost"]}}}, "nginx-config"),
    "a process type removed": ({"app": {"mirror": {"formation": {"worker": None}}}}, "app-release-mirror"),
    "an app removed": ({"app": {"mirror": None}}, "app-retired"),
    "all put back": (None, "app-release-tickets"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_dry_run_says_what_the_run_then_does_after(what, host, lab, pillar):
    settings, state = CHANGES[what]
    if settings is None:
        pillar.restore()
    else:
        pillar.merge(**settings)
    if what == "a new app":
        lab.release(ROOT / "tests/apps/mirror", host.python)
    dry = apply(host, "test=True").succeeded()
    real = apply(host).succeeded()
    print(f"{host.suite}: {what}: {len(dry.changed)} would change, {len(real.changed)} changed")
    assert dry.changed == real.changed
    assert state in real.changed
    apply(host).changed_nothing()
    for app in ("faq", "tickets"):
        assert Client(host.address, f"{app}.localhost").get("/healthz").status_code == 200
