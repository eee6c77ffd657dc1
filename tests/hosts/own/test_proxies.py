"""A proxy over two app hosts: what happens to requests when an app host dies, is cut off, hangs or is drained."""

import concurrent.futures
import json
import re
import socket
import subprocess
import sys
import time

import pytest
import yaml
from websockets.sync.client import connect

from lab import Lab
from lab.pillar import declare
from lab.podman import podman
from tests.hosts.applied import apply, converged
from tests.hosts.client import Client, streams
from tests.hosts.conftest import ROOT
from tests.hosts.proxied import PEERS, ROLES, Fleet
from tests.hosts.rows import boot_hosts, declare_hosts

pytestmark = pytest.mark.alike("trixie")

APPS = ("examples/faq", "tests/apps/mirror", "tests/apps/shelf")
DECLARED = {
    "app": {
        "tickets": None,
        "faq": {"formation": {"web": 2}, "health": {"timeout": 2}, "site": {"timeout": 20}},
        "mirror": {
            "port": 8300,
            "domains": ["mirror.localhost"],
            "formation": {"web": 1},
            "site": {
                "timeout": 3,
                "body_size": "1m",
                "access": {"users": {"ada": "ada-0123456789"}, "paths": ["/large"]},
            },
        },
        "shelf": {
            "port": 8500,
            "domains": ["shelf.localhost"],
            "order": {"web": "stop-first"},
            "site": {
                "serve": {"/static/": {"build": "static"}},
                "errors": {status: f"static/below/{status}.html" for status in ("404", "502", "503")},
            },
        },
    },
    "postgres": {"databases": {"faq": {"password": "faq-0123456789-0123456789"}}},
}


@pytest.fixture(scope="module")
def fleet(suite):
    """The hosts, converged, and nothing to do any more."""
    with Lab.temporary(f"proxies-{suite}") as lab:
        declare_hosts(lab, ROLES)
        declare(lab.tree / "pillar", "dev", DECLARED)
        # tickets is not declared here, so its secrets must go too.
        path = lab.tree / "pillar/secrets/dev.sls"
        secrets = yaml.safe_load(path.read_text())
        del secrets["app"]["tickets"]
        path.write_text(yaml.safe_dump(secrets))
        lab.issue_certificates()
        hosts = boot_hosts(lab, ROLES, suite)
        for app in APPS:
            lab.build(ROOT / app, hosts["app1"].python)
        fleet = Fleet(lab, hosts)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            # The hosts that apps attach come first. Both app hosts migrate the same database at the same time.
            for names in (("db1", "proxy1"), ("app1", "app2")):
                for applied in pool.map(apply, [hosts[name] for name in names]):
                    applied.succeeded()
        fleet.await_peers(app1="in", app2="in")
        yield fleet
        # One host at a time: podman does not remove several in time.
        for host in hosts.values():
            host.remove()


def test_both_hosts_get_requests(fleet):
    before = {host.id: fleet.served(host) for host in (fleet.app1, fleet.app2)}
    with fleet.stream("two hosts"):
        time.sleep(3)
    share = {host.id: fleet.served(host) - before[host.id] for host in (fleet.app1, fleet.app2)}
    print(f"{fleet.proxy1.suite}: {share}")
    assert min(share.values()) > 0.3 * sum(share.values())


def test_what_the_proxy_says_of_a_request_reaches_the_app(fleet):
    forged = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example.com",
        "X-Request-ID": "0" * 32,
        "X-Real-IP": "203.0.113.9",
    }
    removed = dict.fromkeys(
        ("Forwarded", "Via", "Proxy", "X-Forwarded-Port", "X-Forwarded-Prefix", "Remote-User"), "evil"
    )
    mine = str(fleet.lab.subnet[1])
    for _ in range(4):
        answer = fleet.mirror.get("/request?a=%2Fb", headers=forged | removed)
        got = dict(answer.json()["headers"])
        assert "evil" not in got.values()
        assert {name: got[name.lower()] for name in forged if name != "X-Request-ID"} == {
            "X-Forwarded-For": mine,
            "X-Forwarded-Proto": "http",
            "X-Forwarded-Host": "mirror.localhost",
            "X-Real-IP": mine,
        }
        assert got["host"] == "mirror.localhost"
        assert re.fullmatch("[1-9a-f][0-9a-f]{31}|0[0-9a-f]{31}", got["x-request-id"])
        assert got["x-request-id"] != "0" * 32
        # The request has the same id at the client, at both hops and in the app.
        assert answer.headers["X-Request-ID"] == got["x-request-id"]
        assert answer.json()["query"] == "a=%2Fb"
    logs = [
        host.sh(f"grep -c request_id={got['x-request-id']} /var/log/nginx/access.log || true").stdout.strip()
        for host in fleet.hosts.values()
        if host is not fleet.db1
    ]
    assert sorted(logs) == ["0", "1", "1"]


def test_a_password_is_asked_for_by_the_proxy_and_by_no_app_host(fleet):
    assert fleet.mirror.get("/large").status_code == 401
    assert fleet.mirror.get("/large", auth=("ada", "ada-0123456789")).status_code == 200
    front = fleet.app1.run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:8300/large")
    assert front.stdout == "200"
    assert fleet.app1.sh("ls /etc/nginx/users 2>/dev/null || true").stdout == ""


def test_a_front_believes_none_but_the_proxies(fleet):
    forged = ["-H", "X-Forwarded-For: 203.0.113.9", "-H", "X-Forwarded-Proto: https", "-H", f"X-Request-ID: {'1' * 32}"]
    said = fleet.app1.run("curl", "-sS", *forged, "http://127.0.0.1:8300/request").stdout
    got = dict(json.loads(said)["headers"])
    assert (got["x-forwarded-for"], got["x-forwarded-proto"]) == ("127.0.0.1", "http")
    assert got["x-request-id"] != "1" * 32
    # A foreign Host header never reaches the app, not even in a request from a proxy's address.
    told = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: evil")
    assert fleet.app1.run(*told, "http://127.0.0.1:8300/request").stdout == "421"
    assert fleet.proxy1.run(*told, f"http://{fleet.app1.address}:8300/request").stdout == "421"
    # Only the proxies may ask whether a host is ready; a client that comes through them may not.
    assert fleet.mirror.get("/.saltern/ready").status_code == 404
    ask = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}")
    assert fleet.app1.run(*ask, "http://127.0.0.1:8300/.saltern/ready").stdout == "404"
    front = f"http://{fleet.app1.address}:8300/.saltern/ready"
    assert fleet.proxy1.run(*ask, front).stdout == "200"
    assert fleet.app2.run(*ask, "--max-time", "2", front, check=False).returncode == 28


def test_bodies_websockets_and_open_connections_pass_both_hops(fleet):
    assert fleet.mirror.post("/request", data=bytes(1 << 20)).json()["size"] == 1 << 20
    assert fleet.mirror.post("/request", data=bytes((1 << 20) + 1)).status_code == 413
    connection = socket.create_connection((fleet.proxy1.address, 80), timeout=10)
    with connect("ws://mirror.localhost/ws", sock=connection) as websocket:
        websocket.send("both hops")
        assert websocket.recv(timeout=10) == "both hops"
    assert len(fleet.mirror.get("/cookie?30000").headers["Set-Cookie"]) == 30008
    cookie = {"Cookie": f"session={'x' * 24000}"}
    assert dict(fleet.mirror.get("/request", headers=cookie).json()["headers"])["cookie"] == cookie["Cookie"]
    for accept in ("*/*", "text/event-stream"):
        assert streams(fleet.proxy1.address, "mirror.localhost", accept=accept)
        assert streams(fleet.proxy1.address, "mirror.localhost", tls=True, accept=accept)
    assert "X-Accel-Buffering" not in fleet.mirror.get("/events").headers
    for _ in range(4):
        fleet.mirror.get("/request")
    kept = [
        host.sh("ss -Htn state established sport = :8300 | grep -vc 127.0.0.1").stdout.strip()
        for host in (fleet.app1, fleet.app2)
    ]
    assert "0" not in kept


def test_an_app_that_is_slow_takes_no_host_out(fleet):
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        slow = [pool.submit(Client(fleet.proxy1.address, "mirror.localhost").get, "/slow?9") for _ in range(12)]
        deadline = time.monotonic() + 6
        while time.monotonic() < deadline:
            assert fleet.mirror.get("/request").status_code == 200
            time.sleep(0.1)
        # Each request goes to one host only and times out there.
        assert {one.result().status_code for one in slow} == {504}
    assert fleet.peers() == {"app1": "in", "app2": "in"}


def test_a_host_that_loses_its_power_takes_along_what_it_was_doing_and_no_more(fleet):
    with fleet.stream("app1 loses its power") as seen:
        podman("kill", "--signal", "KILL", fleet.app1.name)
        seen.happens()
        time.sleep(6)
    # Only requests in flight on that host that may not be repeated are lost.
    assert {one.method for one in seen.failed} <= {"POST"}
    assert seen.since(0) == []
    assert fleet.peers() == {"app1": "out", "app2": "in"}
    assert re.search(r"^faq: app1 is out: it takes no connection.*; in: app2$", fleet.journal(), re.MULTILINE)


def test_the_proxy_boots_and_serves_while_a_host_is_down(fleet):
    # A host that is out counts as no drift.
    apply(fleet.proxy1).changed_nothing()
    assert fleet.proxy1.reboot() == "running"
    for _ in range(20):
        assert fleet.mirror.get("/healthz").status_code == 200
    assert fleet.peers() == {"app1": "out", "app2": "in"}


def test_a_host_that_is_back_gets_requests_again(fleet):
    with fleet.stream("app1 comes back") as seen:
        podman("start", fleet.app1.name)
        fleet.app1.wait()
        fleet.await_peers(120, app1="in", app2="in")
        before = fleet.served(fleet.app1)
        time.sleep(2)
    assert seen.failed == []
    assert fleet.served(fleet.app1) > before


CUT = """
nft -f - <<RULES
add table inet cut
add chain inet cut dropped { type filter hook input priority -300; }
add rule inet cut dropped iifname != "lo" drop
RULES
"""


def test_a_host_that_is_cut_off_is_out_within_three_seconds(fleet):
    with fleet.stream("app1 is cut off, nothing refuses") as seen:
        fleet.app1.sh(CUT)
        seen.happens()
        time.sleep(8)
        assert fleet.peers() == {"app1": "out", "app2": "in"}
        fleet.app1.sh("nft delete table inet cut")
        fleet.await_peers(app1="in", app2="in")
    # Requests that it had begun may fail, since it was cut off from its database too; later ones may not.
    assert seen.since(0) == []


def test_a_host_whose_processes_hang_is_out(fleet):
    with fleet.stream("the processes of app1 hang") as seen:
        fleet.app1.sh("pkill -STOP -u faq")
        seen.happens()
        fleet.await_peers(app1="out", app2="in")
        gone = time.time()
        time.sleep(2)
        fleet.app1.sh("pkill -CONT -u faq")
        fleet.await_peers(app1="in", app2="in")
    print(f"{fleet.proxy1.suite}: out after {gone - seen.at:.1f} s")
    assert [one for one in seen.failed if one.start > gone] == []
    assert "faq: app1 is out: it does not answer within 3 s; in: app2" in fleet.journal()
    # The host's other app stays in.
    assert "mirror: app1" not in fleet.journal().rpartition("faq: app1 is out")[2]


def test_a_host_without_a_process_is_out_and_says_so_itself(fleet):
    program = "faq.v1.web.1 faq.v1.web.2"
    with fleet.stream("app1 has no process") as seen:
        seen.happens()
        # One process is killed with requests in flight, the other one is stopped. The proxy repeats on the other host
        # what it may.
        fleet.app1.sh(f"pkill -KILL -u faq -f :8201; supervisorctl stop {program}")
        fleet.await_peers(5, app1="out", app2="in")
        gone = time.time()
        fleet.app1.sh(f"supervisorctl start {program}")
        fleet.await_peers(app1="in", app2="in")
    # Only POST requests may fail: those in flight, and those that came before the host was out.
    assert {one.method for one in seen.failed} <= {"POST"}
    assert [one for one in seen.failed if one.start > gone] == []


def test_a_host_whose_web_process_is_away_leaves_requests_to_another_one(fleet):
    shelf, mark = Client(fleet.proxy1.address, "shelf.localhost"), "/run/saltern-away.shelf.web"
    fleet.app1.sh(f"touch {mark}")
    assert {shelf.get("/").status_code for _ in range(10)} == {200}
    # Whoever attaches the app is answered by the app's page, and told when to ask again.
    said = fleet.app1.sh("curl -si http://127.0.0.1:8500/").stdout
    assert (said.split()[1], "Retry-After: 10" in said, "<p>503 of the shelf" in said) == ("503", True, True)
    assert fleet.app1.sh("curl -si http://127.0.0.1:8500/static/plain.css").stdout.split()[1] == "200"
    fleet.app1.sh(f"rm {mark}")


def test_an_apps_own_pages_of_errors_are_there_when_no_host_has_a_process_or_answers(fleet):
    shelf = Client(fleet.proxy1.address, "shelf.localhost")
    apps = (fleet.app1, fleet.app2)
    own = "supervisorctl status | awk '/^shelf[.]/ {print $1}' | xargs supervisorctl"
    assert (shelf.get("/static/no").status_code, shelf.get("/static/no").text) == (404, "<p>404 of the shelf\n")
    fleet.proxy1.salt("app.maintenance", "shelf", "on")
    assert {(one.status_code, one.text) for one in (shelf.get("/"), shelf.post("/"))} == {
        (503, "<p>503 of the shelf\n")
    }
    # No host is out for it.
    assert fleet.peers() == {"app1": "in", "app2": "in"}
    assert " is out" not in fleet.proxy1.sh("cat /etc/nginx/peers/shelf.conf").stdout
    fleet.proxy1.salt("app.maintenance", "shelf", "off")
    for host in apps:
        host.sh(f"{own} stop")
    for answer in (shelf.get("/"), shelf.post("/")):
        assert (answer.status_code, answer.text) == (502, "<p>502 of the shelf\n")
    for host in apps:
        host.sh("systemctl stop nginx")
    for answer in (shelf.get("/"), shelf.post("/")):
        assert (answer.status_code, answer.text) == (502, "<p>502 of the shelf\n")
    for host in apps:
        host.sh(f"systemctl start nginx; {own} start")
    fleet.await_peers(app1="in", app2="in")


def test_a_host_is_drained_rebooted_and_put_back_without_a_failed_request(fleet):
    with fleet.stream("app1 is drained, rebooted and put back") as seen:
        fleet.inventory(drained=["app1"])
        assert converged(fleet.proxy1) == {"nginx-config"}
        assert fleet.peers()["app1"].startswith("drained")
        assert apply(fleet.app1).succeeded().changed == {"nginx-config"}
        time.sleep(1)
        before = fleet.served(fleet.app1)
        assert fleet.app1.reboot() == "running"
        apply(fleet.app1).changed_nothing()
        assert fleet.served(fleet.app1) == before
        fleet.inventory()
        # The proxy converges first. The host stays out until it says itself that it is ready.
        assert apply(fleet.proxy1).succeeded().changed == {"nginx-config"}
        assert fleet.peers() == {"app1": "out", "app2": "in"}
        assert apply(fleet.app1).succeeded().changed == {"nginx-config"}
        fleet.await_peers(app1="in", app2="in")
        time.sleep(1)
    assert seen.failed == []
    assert fleet.served(fleet.app1) > before


def test_the_last_host_is_not_drained(fleet):
    fleet.inventory(drained=["app1", "app2"])
    try:
        applied = apply(fleet.proxy1)
    finally:
        fleet.inventory()
    assert (applied.code != 0, applied.states) == (True, {})
    assert applied.mistakes == [
        f"hosts.{name}.drain: is set on every app host of dev; expected one that serves" for name in ("app1", "app2")
    ]


def test_an_edit_of_the_peers_is_drift_and_put_right(fleet):
    before = fleet.proxy1.sh(f"cat {PEERS}").stdout
    fleet.proxy1.sh(f"sed -i 's/max_fails=2 fail_timeout=2s; # app2/down; # app2/' {PEERS}; systemctl reload nginx")
    assert fleet.proxy1.sh(f"cat {PEERS}").stdout != before
    assert converged(fleet.proxy1) == {"nginx-config"}
    assert fleet.proxy1.sh(f"cat {PEERS}").stdout == before


def test_a_release_on_both_hosts_at_once_drops_no_request(fleet):
    declare(fleet.lab.tree / "pillar", "dev", {"app": {"faq": {"config": {"ANOTHER": "value"}}}})
    with (
        fleet.stream("a release on both hosts at once") as seen,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        changed = [applied.succeeded().changed for applied in pool.map(apply, (fleet.app1, fleet.app2))]
    assert changed == [{"app-release-faq"}] * 2
    assert seen.failed == []


def test_all_hosts_are_as_declared(fleet):
    for host in fleet.hosts.values():
        apply(host).changed_nothing()
    command = [sys.executable, "-m", "verify", "-q", "nginx"]
    hosts = ",".join(f"podman://{fleet.hosts[name].name}" for name in ("proxy1", "app1", "app2"))
    command += [f"--hosts={hosts}", f"--tree={fleet.lab.tree}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    print(f"{fleet.proxy1.suite}: {done.stdout.splitlines()[-1]}")
