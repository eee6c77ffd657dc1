"""What is done once in an environment of two app hosts, when one of them is drained, cut off or lost.

``mirror`` has a process that is alone. ``clock`` has a job, whose moments go on through all that the tests do.
"""

import concurrent.futures
import itertools
import subprocess
import sys
import time

import pytest
import yaml

from lab import Lab
from lab.pillar import declare
from lab.podman import podman
from saltern.jobs.runner import TTL as RUN
from tests.hosts.applied import apply, converged
from tests.hosts.conftest import ROOT
from tests.hosts.rows import boot_hosts, declare_hosts

pytestmark = pytest.mark.alike("trixie")

# Two of three members of etcd are enough, so that the loss of an app host is that of a member too.
ROLES = {"app1": ["app", "etcd"], "app2": ["app", "etcd"], "db1": ["etcd"]}
ETCD = "--endpoints https://127.0.0.1:2379 --cacert ca.pem --cert etcd.pem --key etcd.pem"
GRACE = 2
# What the launcher adds to the grace; see formulas/app/files/launcher/alone.py.
TTL = GRACE + 5 + 15
MIRROR = {
    "port": 8300,
    "domains": ["mirror.localhost"],
    "formation": {"web": 1, "beat": 1},
    "count": {"beat": "environment"},
    "grace": {"beat": GRACE},
}
EVERY = 5
CLOCK = {
    "port": 8900,
    "config": {"WORD": "a-word"},
    "jobs": {"tick": {"process": "tick", "every": f"{EVERY}s"}},
}
CUT = """
nft -f - <<RULES
add table inet cut
add chain inet cut dropped { type filter hook input priority -300; }
add rule inet cut dropped iifname != "lo" drop
RULES
"""


class Environment:
    """The hosts, and what they say of mirror's process beat."""

    def __init__(self, lab, hosts):
        self.lab, self.hosts, self.apps = lab, hosts, [hosts["app1"], hosts["app2"]]

    def spans(self):
        """Return when beat has run, by the clock that the hosts share: first and last moment, host and PID."""
        found = {}
        for host in self.apps:
            for line in host.sh("cat /srv/apps/mirror/home/beat || true").stdout.splitlines():
                moment, pid = line.split()
                first, _ = found.get((host.id, pid), (float(moment), 0))
                found[host.id, pid] = (first, float(moment))
        return sorted((first, last, *who) for who, (first, last) in found.items())

    def holder(self):
        """Return the host that runs beat, and the other one, once one does."""
        deadline = time.monotonic() + TTL
        while True:
            running = [host for host in self.apps if not self.said(host)]
            if len(running) == 1:
                return running[0], next(host for host in self.apps if host is not running[0])
            assert time.monotonic() < deadline, [self.said(host) for host in self.apps]
            time.sleep(0.5)

    def ticks(self, *hosts):
        """Return when runs of clock's job have begun on hosts, by the clock that the hosts share."""
        texts = [host.sh("cat /var/tmp/clock.log 2>/dev/null || true").stdout for host in hosts]
        lines = [line.split() for text in texts for line in text.splitlines()]
        return sorted(float(at) for _, word, at, *_ in lines if word == "begins")

    def verify(self):
        """Ask each host whether it is as declared."""
        command = [sys.executable, "-m", "verify", "-q", "app", "etcd"]
        hosts = ",".join(f"podman://{host.name}" for host in self.hosts.values())
        command += [f"--hosts={hosts}", f"--tree={self.lab.tree}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

    def whole(self):
        """Wait until each member of etcd has the others: one that was cut off or lost is back."""
        healthy = f"ETCDCTL_API=3 etcdctl endpoint health --cluster {ETCD}"
        wait = f"timeout 60 sh -c 'until {healthy}; do sleep 0.5; done'"
        self.hosts["app1"].sh(f"cd /etc/ssl/saltern; {wait} >/dev/null 2>&1")

    def said(self, host):
        """Return why beat stands by on a host, nothing where it runs."""
        return host.sh("cat /run/saltern/standby/mirror.*.beat.1 2>/dev/null || true").stdout

    def taken_over(self, host, what, seconds):
        """Wait until a host runs beat, and return by how many seconds it began after the end of the one before."""
        deadline = time.monotonic() + seconds
        while (spans := self.spans())[-1][2] != host.id:
            assert time.monotonic() < deadline, (what, spans, self.said(host))
            time.sleep(0.5)
        gap = spans[-1][0] - spans[-2][1]
        print(f"{host.suite}: {what}: {host.id} runs beat {gap:.1f} s after the end of the one before")
        return gap


@pytest.fixture(scope="module")
def environment(suite):
    """The hosts, converged."""
    with Lab.temporary(f"alone-{suite}") as lab:
        declare_hosts(lab, ROLES)
        declare(lab.tree / "pillar", "dev", {"app": {"tickets": None, "faq": None, "mirror": MIRROR, "clock": CLOCK}})
        path = lab.tree / "pillar/secrets/dev.sls"
        path.write_text(yaml.safe_dump({}))
        lab.issue_certificates()
        hosts = boot_hosts(lab, ROLES, suite)
        for app in ("mirror", "clock"):
            lab.build(ROOT / f"tests/apps/{app}", hosts["app1"].python)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            # etcd may come last: until it is there, all stand by.
            for applied in pool.map(apply, hosts.values()):
                applied.succeeded()
        yield Environment(lab, hosts)
        for host in hosts.values():
            host.remove()


def test_one_host_runs_it_and_the_other_one_says_which(environment):
    holder, other = environment.holder()
    assert environment.said(other) == f"{holder.id} runs it"
    told = other.run("salt-call", "--out", "yaml", "process.info", "mirror").stdout
    assert f"standby: {holder.id} runs it" in told and "state: RUNNING" in told
    lines = other.sh("journalctl -q -o cat -t 'mirror[beat.1]'").stdout.splitlines()
    assert len(lines) == len(set(lines)), "each reason is told once"


def test_all_hosts_are_as_declared(environment):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for applied in pool.map(apply, environment.hosts.values()):
            applied.changed_nothing()
    environment.verify()


def test_a_drained_host_hands_it_over_once_it_has_ended(environment):
    holder, other = environment.holder()
    holder.run("salt-call", "drain.begin")
    assert 0 < environment.taken_over(other, "drained", 15) < 10
    assert environment.said(holder) in ("this host is drained", "")
    # It takes none until it serves again.
    other.sh("supervisorctl restart mirror.v1.beat.1")
    assert environment.holder()[0] is other
    holder.run("salt-call", "drain.end")


def test_a_restart_of_etcd_stops_nothing(environment):
    before = environment.spans()
    environment.hosts["db1"].sh("systemctl kill --signal KILL etcd")
    time.sleep(6)
    after = environment.spans()
    assert [span[2:] for span in after] == [span[2:] for span in before]
    assert after[-1][1] > before[-1][1] + 5


def test_a_release_on_both_hosts_at_once_starts_no_second_one(environment):
    _, standby = environment.holder()
    before = len(environment.spans())
    declare(environment.lab.tree / "pillar", "dev", {"app": {"mirror": {"config": {"COLOUR": "blue"}}}})
    with concurrent.futures.ThreadPoolExecutor() as pool:
        done = [applied.succeeded() for applied in pool.map(apply, environment.apps)]
    assert [applied.changed for applied in done] == [{"app-release-mirror"}] * 2
    holder, other = environment.holder()
    told = [applied.states["app-release-mirror"]["comment"] for applied in done]
    assert any("beat.1 is in standby" in comment for comment in told), (told, standby.id, other.id)
    spans = environment.spans()
    assert len(spans) > before and spans[-1][2] == holder.id


def test_a_host_that_is_cut_off_has_ended_it_before_another_begins(environment):
    holder, other = environment.holder()
    holder.sh(CUT)
    try:
        gap = environment.taken_over(other, "cut off", 2 * TTL)
    finally:
        holder.sh("nft delete table inet cut")
    assert gap > 0
    said = holder.sh("journalctl -q -o cat -t 'mirror[beat.1]'").stdout
    assert "beat.1 ends here: its lease cannot be renewed: etcd does not answer: " in said


def test_another_host_takes_over_what_a_lost_host_ran(environment):
    environment.whole()
    holder, other = environment.holder()
    lost = time.clock_gettime(time.CLOCK_BOOTTIME)
    podman("kill", "--signal", "KILL", holder.name)
    deadline = time.monotonic() + 2 * TTL
    while environment.said(other):
        assert time.monotonic() < deadline, environment.said(other)
        time.sleep(0.5)
    # A run that was under way on the lost host has its lease, of another length, until that ends.
    ticks, deadline = len(environment.ticks(other)), lost + RUN + 4 * EVERY
    while len(environment.ticks(other)) < ticks + 2:
        assert time.clock_gettime(time.CLOCK_BOOTTIME) < deadline, other.salt("job.log", "clock", "tick")[-3:]
        time.sleep(0.5)
    podman("start", holder.name)
    holder.wait()
    assert environment.taken_over(other, "lost", 10) > 0
    # Not before the lease of the lost host has ended. It begins anew when the lost host was the one that led etcd.
    began = environment.spans()[-1][0]
    assert TTL - 5 < began - lost < TTL + 15
    assert environment.holder()[0] is other, "a host that is back stands by"


def test_a_launcher_that_is_killed_takes_its_process_along(environment):
    holder, _ = environment.holder()
    holder.sh("pkill -KILL -f 'process --first mirror [0-9]* beat.1'")
    last = environment.spans()[-1]
    deadline = time.monotonic() + 2 * TTL
    while environment.spans()[-1][3] == last[3]:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_it_has_never_run_twice_at_once(environment):
    spans = environment.spans()
    assert len(spans) > 5
    for (_, last, *before), (first, _, *after) in itertools.pairwise(spans):
        assert last < first, (before, after)


def test_each_moment_of_a_job_had_one_run_in_the_environment(environment):
    begun = environment.ticks(*environment.apps)
    # A run may begin late on a busy host, and the next one in time.
    moments = (begun[-1] - begun[0]) / EVERY
    assert 10 < len(begun) <= moments + 2
    # While etcd was killed, and the holder was cut off or lost, a moment may have had no run.
    assert len(begun) > moments / 2
    for host in environment.apps:
        (row,) = host.salt("job.list", "clock")
        assert row["status"] == "succeeded" or row["status"].startswith("running")
    environment.apps[0].salt("job.suspend", "clock", "tick")
    (row,) = environment.apps[1].salt("job.list", "clock")
    assert row["status"].startswith("suspended by "), row
    count = len(environment.ticks(*environment.apps))
    time.sleep(3 * EVERY)
    assert len(environment.ticks(*environment.apps)) <= count + 1


def test_what_is_alone_no_more_runs_on_each_host_and_nothing_is_left_of_jobs_that_are_gone(environment):
    declare(environment.lab.tree / "pillar", "dev", {"app": {"mirror": {"count": None}, "clock": {"jobs": None}}})
    with concurrent.futures.ThreadPoolExecutor() as pool:
        changed = list(pool.map(converged, environment.apps))
    assert changed == [{"app-release-mirror", "app-jobs-retired", "app-etcd-certificate-retired"}] * 2
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert {who for _, last, who, _ in environment.spans() if last > now - 5} == {"app1", "app2"}
    for host in environment.apps:
        assert environment.said(host) == ""
        assert host.sh("systemctl list-units --all --plain --no-legend 'saltern-job-*'").stdout == ""
        assert host.sh("find /etc/ssl/saltern -name 'etcd-client*'").stdout == ""
    environment.verify()
