"""Drift: the next converge mends what somebody changed on a host by hand."""

import time

import pytest

from tests.hosts.applied import apply
from tests.hosts.examples import serves, wait_until_served

# Names that the scripts below use.
SHELL = """
export DEBIAN_FRONTEND=noninteractive
psql() { cd / && runuser -u postgres -- psql -q "$@"; }
"""

# Each edit, and exactly the states that mend it. Another state in a dry run would be a fault of the converge before it.
EDITS = {
    "nginx.conf was edited": ("echo '# edited' >>/etc/nginx/nginx.conf", {"nginx-config"}),
    "a site was removed": ("rm /etc/nginx/sites/tickets.conf; systemctl reload nginx", {"nginx-config"}),
    "a site was added": (
        "echo 'server { listen 81; }' >/etc/nginx/sites/own.conf; systemctl reload nginx",
        {"nginx-config"},
    ),
    "the upstreams were edited": ("echo 'server 127.0.0.1:9;' >/etc/nginx/upstreams/faq.conf", {"app-release-faq"}),
    "the upstreams were removed": ("rm /etc/nginx/upstreams/faq.conf", {"nginx-config", "app-release-faq"}),
    "PostgreSQL was opened": (
        "echo 'host all all all trust' >>$(ls /etc/postgresql/*/main/pg_hba.conf); psql -c 'SELECT pg_reload_conf()'",
        {"postgres-access", "postgres-access-loaded"},
    ),
    "a certificate was removed": (
        "rm /etc/ssl/saltern/redis.pem",
        {"redis-certificate", "redis-certificate-served-tickets"},
    ),
    "a site's certificate was removed": (
        "rm /etc/ssl/saltern/sites/faq.pem",
        {"nginx-certificate-faq", "nginx-config"},
    ),
    "a key was opened": ("chmod a+r /etc/ssl/saltern/postgres.pem", {"postgres-certificate", "postgres-access-loaded"}),
    "an authority was added": ("cat /etc/ssl/certs/ACC*.pem >>/etc/ssl/saltern/ca.pem", {"certificates-authorities"}),
    "a database was opened": ("psql -c 'GRANT CONNECT ON DATABASE faq TO PUBLIC'", {"postgres-attachment-faq"}),
    "a role was given powers": (
        "psql -c 'ALTER ROLE faq SUPERUSER'",
        {"postgres-attachment-faq"},
    ),
    "a password was changed": (
        "psql -c \"ALTER ROLE $(psql -XAtqc \"SELECT rolname FROM pg_roles WHERE rolname ~ '^faq_'\") PASSWORD 'x'\"",
        {"postgres-attachment-faq"},
    ),
    "a database was given away": (
        "psql -c 'ALTER DATABASE faq OWNER TO postgres'",
        {"postgres-attachment-faq"},
    ),
    "nginx did not read its configuration": ("touch /etc/nginx/sites/faq.conf", {"nginx-config"}),
    "PostgreSQL did not read its access list": ("touch /etc/postgresql/*/main/pg_hba.conf", {"postgres-access-loaded"}),
    "a process was configured": (
        "sed -i s/8201/8250/ /etc/supervisor/conf.d/faq.v*.conf; supervisorctl update",
        {"app-release-faq"},
    ),
    "a release's processes were removed": (
        "rm /etc/supervisor/conf.d/faq.v*.conf; supervisorctl update",
        {"app-release-faq"},
    ),
    "a process was added": (
        "sed 's/web.1\\]/web.9]/; s/web.1 8201/web.9 8209/' /etc/supervisor/conf.d/faq.v*.conf >/tmp/own; "
        "cat /tmp/own >>$(ls /etc/supervisor/conf.d/faq.v*.conf); supervisorctl update",
        {"app-release-faq"},
    ),
    "the launcher was edited": ("echo '# edited' >>/usr/local/lib/saltern/process", {"app-process"}),
    "the launcher's modules were edited": (
        "cd /usr/local/lib/saltern/launcher; echo '# edited' >>first.py; touch gone.py",
        {"app-launcher", "app-launcher-compiled"},
    ),
    "the terminal was edited": ("echo '# edited' >>/usr/local/lib/saltern/terminal", {"app-terminal"}),
    "the check of contracts was edited": ("echo '# edited' >>/usr/local/lib/saltern/contract", {"app-contract"}),
    # Its processes ran in that directory.
    "a build was removed": ("rm -r /srv/apps/faq/builds/*", {"app-build-faq", "app-release-faq"}),
    "a build's environment was removed": ("rm -r /srv/apps/tickets/builds/*/.venv", {"app-build-tickets"}),
    "a build's directory was opened": ("chmod 777 /srv/apps/tickets/builds", {"app-build-tickets"}),
    "a module was removed": (
        "rm /srv/apps/tickets/builds/*/.venv/lib/python3*/site-packages/django/db/models/query.py",
        {"app-build-tickets"},
    ),
    "the link to a release was moved": ("ln -sfn /tmp /srv/apps/tickets/current", {"app-release-tickets"}),
    "a release's files were closed": ("chmod -R 0 /srv/apps/tickets/current/env", {"app-release-tickets"}),
    "a release's record was cut": (
        "truncate -s 9 /srv/apps/tickets/current/release.json",
        {"app-release-tickets"},
    ),
    "supervisor cannot read a release's file": (
        "echo x >$(ls /etc/supervisor/conf.d/tickets.v*.conf)",
        {"app-release-tickets"},
    ),
    "a variable was edited": ("printf x >>/srv/apps/faq/current/env/SECRET_KEY", {"app-release-faq"}),
    "a variable was removed": ("rm /srv/apps/faq/current/env/SECRET_KEY", {"app-release-faq"}),
    "an app's directory was opened": ("chmod 777 /srv/apps/faq; chown faq /srv/apps/faq", {"app-directory-faq"}),
    "nginx was disabled": ("systemctl disable -q nginx", {"nginx-service"}),
    "a process was stopped": (
        "supervisorctl stop $(supervisorctl avail | sed -n 's/^\\(faq[^ ]*\\).*/\\1/p')",
        {"app-release-faq"},
    ),
    "the firewall's rules were flushed": ("nft flush ruleset", {"firewall-rules"}),
    "the firewall's table was deleted": ("nft delete table inet saltern", {"firewall-rules"}),
    "a port was opened": ("nft insert rule inet saltern input tcp dport 9999 accept", {"firewall-rules"}),
    "a policy was changed": ("nft chain inet saltern input '{ policy accept; }'", {"firewall-rules"}),
    "the firewall's file was edited": ("echo '# edited' >>/etc/saltern/firewall.nft", {"firewall-rules"}),
    "the firewall's file was removed": ("rm /etc/saltern/firewall.nft", {"firewall-rules"}),
    "the firewall was disabled": ("systemctl disable -q saltern-firewall", {"firewall-service"}),
    "nginx's unit was edited": (
        "echo '# edited' >>/etc/systemd/system/nginx.service.d/saltern.conf",
        {"nginx-unit", "nginx-unit-read"},
    ),
    "an authority's certificate was left in the bundle's directory": (
        "ln -s /usr/local/share/ca-certificates/saltern/gone.crt /etc/ssl/certs/gone.pem",
        {"base-ca-certificates"},
    ),
    "an operator's tool was removed": ("apt-get -qq remove less", {"base-packages"}),
}
# Made one at a time: each restarts, stops or removes something that other states need and would notice.
ALONE = {
    "nginx did not read the upstreams": ("touch /etc/nginx/upstreams/faq.conf", {"app-release-faq"}),
    "PostgreSQL did not read its configuration": (
        "touch /etc/postgresql/*/main/conf.d/saltern.conf",
        {"postgres-loaded"},
    ),
    "Redis did not read its configuration": ("touch /etc/redis/redis-tickets.conf", {"redis-loaded-tickets"}),
    "PostgreSQL was configured": (
        "echo 'work_mem = 1MB' >>$(ls /etc/postgresql/*/main/conf.d/saltern.conf)",
        {"postgres-config", "postgres-loaded"},
    ),
    "Redis was configured": (
        "sed -i s/^maxmemory.*/maxmemory=1/ /etc/redis/redis-tickets.conf",
        {"redis-config-tickets", "redis-loaded-tickets"},
    ),
    "supervisor did not read its configuration": ("touch /etc/supervisor/supervisord.conf", {"supervisor-loaded"}),
    "supervisor was configured": (
        "echo '; edited' >>/etc/supervisor/supervisord.conf",
        {"supervisor-config", "supervisor-loaded"},
    ),
    "nginx was stopped": ("systemctl stop nginx", {"nginx-service"}),
    "Redis was stopped": ("systemctl stop redis-server@tickets", {"redis-service-tickets"}),
    "PostgreSQL was stopped": ("systemctl stop postgresql@$(ls /etc/postgresql)-main", {"postgres-service"}),
    "supervisor was stopped": ("systemctl stop supervisor", {"supervisor-service"}),
    "supervisor cannot start": (
        "systemctl stop supervisor; echo x >$(ls /etc/supervisor/conf.d/faq.v*.conf)",
        {"supervisor-programs", "supervisor-service", "app-release-faq"},
    ),
    "the firewall was stopped": ("systemctl stop saltern-firewall", {"firewall-service"}),
    "nftables was removed": ("apt-get -qq remove nftables", {"firewall-package"}),
    "nginx was removed": ("apt-get -qq remove nginx nginx-common", {"nginx-package"}),
    "nginx was purged": (
        "apt-get -qq purge nginx nginx-common; rm -rf /etc/nginx",
        {"nginx-package", "app-release-faq", "app-release-tickets", "nginx-config"},
    ),
    "Redis was removed": ("apt-get -qq remove redis-server", {"redis-package"}),
    "supervisor was removed": ("apt-get -qq remove supervisor", {"supervisor-package"}),
    "PostgreSQL was removed": ("apt-get -qq remove postgresql-$(ls /etc/postgresql)", {"postgres-package"}),
}


def together(edits):
    """Group edits that different states mend, so that one converge mends a group; return the groups.

    :param edits: names of ``EDITS``.
    """
    groups = []
    for what in edits:
        states = EDITS[what][1]
        group = next((group for group in groups if not any(states & EDITS[other][1] for other in group)), None)
        if group is None:
            groups.append(group := [])
        group.append(what)
    return groups


def put_right(host, edits):
    """Make edits and converge: exactly their states change something."""
    expected = set()
    for what in edits:
        script, states = (EDITS | ALONE)[what]
        host.sh(f"{SHELL}\n{{ {script}; }} </dev/null >/dev/null")
        expected |= states
    dry, real = apply(host, "test=True"), apply(host).succeeded()
    assert dry.changed == real.changed == expected
    assert serves(host)


@pytest.mark.alike
@pytest.mark.parametrize("edits", together(EDITS), ids=", ".join)
def test_the_next_converge_puts_it_right_when(host, edits):
    put_right(host, edits)


@pytest.mark.alike
@pytest.mark.parametrize("what", ALONE)
def test_the_next_converge_puts_it_right_also_when(host, what):
    put_right(host, [what])


def test_a_killed_process_is_back_at_once_and_a_converge_has_nothing_to_do(host):
    before = host.sh("supervisorctl pid all").stdout.split()
    host.sh(f"kill -9 {' '.join(before)}")
    host.sh("timeout 60 sh -c 'while supervisorctl status | grep -qv RUNNING; do sleep 0.5; done'")
    wait_until_served(host)
    after = host.sh("supervisorctl pid all").stdout.split()
    assert len(after) == len(before)
    assert not set(after) & set(before)
    apply(host).changed_nothing()
    assert serves(host)


RUN_AGAIN = """
for unit in nginx supervisor redis-server@tickets postgresql@$(ls /etc/postgresql)-main; do
    timeout 60 sh -c "until systemctl -q is-active $unit; do sleep 0.1; done" || echo $unit
done
"""
KILLED = {
    "all of them": "pkill -9 -x nginx; pkill -9 -x redis-server; pkill -9 -x supervisord; pkill -9 -x postgres || true",
    # Child processes hold the ports, and PostgreSQL's also hold its shared memory.
    "nginx's master and PostgreSQL's": "kill -9 $(cat /run/nginx.pid) $(cat /run/postgresql/*-main.pid)",
    "nginx's master once more": "kill -9 $(cat /run/nginx.pid)",
}


@pytest.mark.parametrize("what", KILLED)
def test_a_service_that_is_killed_comes_back_by_itself(host, what):
    host.sh(KILLED[what])
    time.sleep(0.5)
    assert host.sh(RUN_AGAIN).stdout == ""
    wait_until_served(host)
    apply(host).changed_nothing()


def test_a_service_that_ends_again_and_again_is_told(host):
    said = host.run("/usr/local/lib/saltern/drift", check=False)
    assert said.returncode == 2
    assert "1 service ended again and again: nginx.service (3 times, active)" in said.stdout
    # Started by hand, so that systemd counts its starts from zero.
    host.sh("systemctl restart nginx")
    assert host.run("/usr/local/lib/saltern/drift").stdout.startswith("nothing would change in ")


def test_the_host_is_what_was_declared_after_all_that(host, verify):
    verify(host)
