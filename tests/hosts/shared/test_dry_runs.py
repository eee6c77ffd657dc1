"""Dry runs: a converge changes exactly the states that ``state.apply test=True`` named."""

import pytest
import trustme

from tests.hosts.applied import apply
from tests.hosts.client import Client
from tests.hosts.conftest import ROOT
from tests.hosts.examples import SHARES, UNITS

MIRROR = {
    "port": 8300,
    "domains": ["mirror.localhost"],
    "formation": {"web": 1, "worker": 1},
    "health": {"settle": 1},
    # Names that no other test uses: another state would speak of data that an earlier test kept.
    "attach": {"DATABASE_URL": {"postgres": "mirror_dry"}, "REDIS_URL": {"redis": "mirror-dry"}},
}

CERTIFICATE = trustme.CA().cert_pem.bytes().decode()

# In this order, each on top of those before it, with exactly the states that it changes. Another state in a dry run
# would be a fault of the converge before it. One converge makes the changes of a group: they touch different states.
CHANGES = [
    {
        "a config value": ({"app": {"faq": {"config": {"WEB_THREADS": "3"}}}}, {"app-release-faq"}),
        "a formation": ({"app": {"tickets": {"formation": {"web": 1, "worker": 1}}}}, {"app-release-tickets"}),
        "a setting of PostgreSQL": ({"postgres": {"work_mem": "8MB"}}, {"postgres-config", "postgres-loaded"}),
        "a setting of Redis": ({"redis": {"maxmemory": "96mb"}}, {"redis-config-tickets", "redis-loaded-tickets"}),
        "a setting of nginx": ({"nginx": {"gzip": False}}, {"nginx-config"}),
        "a setting of the base": ({"base": {"packages": ["tree"]}}, {"base-packages"}),
        "a setting of the firewall": (
            {"firewall": {"allow": {"metrics": {"port": 9100, "networks": ["192.0.2.0/24", "2001:db8::/32"]}}}},
            {"firewall-rules"},
        ),
        "an authority": (
            {"base": {"ca_certificates": {"test": CERTIFICATE}}},
            {"base-ca-certificate-test", "base-ca-certificates"},
        ),
    },
    {
        "no authority": ({"base": {"ca_certificates": None}}, {"base-ca-retired", "base-ca-certificates"}),
        "a new domain": (
            {"app": {"faq": {"domains": ["faq.localhost", "questions.localhost"]}}},
            {"nginx-certificate-faq", "nginx-config"},
        ),
    },
    {
        "a new app": (
            {"app": {"mirror": MIRROR}},
            {
                *("app-user-mirror", "app-directory-mirror", "app-home-mirror", "app-tmp-mirror"),
                *("app-run-mirror", "app-psql-mirror"),
                *("app-dbus", "app-dbus-read", "app-limits-mirror", "app-build-mirror", "app-release-mirror"),
                *("postgres-access", "postgres-access-loaded", "postgres-attachment-mirror_dry"),
                *SHARES,
                *("redis-users-mirror-dry", "redis-config-mirror-dry", "redis-service-mirror-dry"),
                *UNITS,
                *("nginx-certificate-mirror", "nginx-config"),
            },
        ),
    },
    {
        "a new attachment": (
            {"app": {"faq": {"attach": {"CACHE_URL": {"redis": "faq"}}}}},
            {"redis-users-faq", "redis-config-faq", "redis-service-faq", *UNITS, "app-release-faq"},
        ),
        "a process type removed": ({"app": {"mirror": {"formation": {"worker": None}}}}, {"app-release-mirror"}),
    },
    {
        "an attachment removed": (
            {"app": {"faq": {"attach": {"CACHE_URL": None}}}},
            {"redis-retired", *UNITS, "app-release-faq"},
        ),
        "a domain removed": (
            {"app": {"faq": {"domains": ["faq.localhost"]}}},
            {"nginx-certificate-faq", "nginx-config"},
        ),
    },
    {
        "an app removed": (
            {"app": {"mirror": None}},
            {
                *("app-dbus", "app-dbus-read", "app-retired", "app-limits-retired"),
                *("postgres-retired", "redis-retired", "nginx-certificates-retired"),
                *SHARES,
                *UNITS,
                "nginx-config",
            },
        ),
    },
]
PUT_BACK = {
    *("postgres-config", "postgres-loaded", "redis-config-tickets", "redis-loaded-tickets", "nginx-config"),
    *("app-release-faq", "app-release-tickets", "firewall-rules"),
}


def a_dry_run_says_what_the_run_does(host, states):
    """Be sure that a dry run and the run after it change the same states, which are these, and that the apps serve."""
    dry, real = apply(host, "test=True").succeeded(), apply(host).succeeded()
    assert dry.changed == real.changed == states
    for app in ("faq", "tickets"):
        assert Client(host.address, f"{app}.localhost").get("/healthz").status_code == 200


# Each group needs those before it on its host.
@pytest.mark.alike("trixie")
@pytest.mark.parametrize("changes", CHANGES, ids=", ".join)
def test_a_dry_run_says_what_the_run_then_does_after(changes, host, lab, pillar):
    if "a new app" in changes:
        lab.build(ROOT / "tests/apps/mirror", host.python)
    expected = [states for _, states in changes.values()]
    assert len(set().union(*expected)) == sum(map(len, expected)), "a state of one is a state of another"
    for settings, _ in changes.values():
        pillar.merge(**settings)
    a_dry_run_says_what_the_run_does(host, set().union(*expected))


@pytest.mark.alike("trixie")
def test_a_dry_run_says_what_the_run_then_does_after_all_is_put_back(host, pillar):
    pillar.restore()
    a_dry_run_says_what_the_run_does(host, PUT_BACK)


@pytest.mark.alike
def test_a_file_that_only_gets_another_owner_restarts_nothing(host):
    host.run("sh", "-c", "chown postgres /etc/postgresql/*/main/pg_hba.conf /etc/postgresql/*/main/conf.d/saltern.conf")
    host.run("chown", "redis", "/etc/redis/redis-tickets.conf")
    dry, real = apply(host, "test=True").succeeded(), apply(host).succeeded()
    assert dry.changed == real.changed == {"postgres-config", "postgres-access", "redis-config-tickets"}


def test_nothing_is_left_after_all_that(host):
    apply(host).changed_nothing()
