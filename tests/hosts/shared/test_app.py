"""An app of one's own, added to a host that serves others: its config, its formation, its site, its end.

``mirror`` (tests/apps/mirror) answers with what it has received.
"""

import base64
import contextlib
import json
import re
import socket
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import pytest
import yaml
from hypothesis import strategies
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.hosts.applied import apply, converged
from tests.hosts.client import Client, asked, streams
from tests.hosts.conftest import ROOT

DOMAIN = "mirror.localhost"

# Values that other tools damage.
CONFIG = {
    "PERCENT": "100% %(here)s %% %d %",
    "DOLLAR": "$HOME ${HOME} $(id) $$ `id`",
    "QUOTES": """'single' "double" `back` '""",
    "BACKSLASH": "\\ \\n \\\\ \\",
    "HASH": "# no comment ; nor this",
    "EQUALS": "=a=b==",
    "SPACES": "  leading, trailing  ",
    "LINES": "one\ntwo\n\nfour\n",
    "CONTROL": "".join(map(chr, range(1, 32))) + "\x7f",
    "UTF8": "Größe 日本 🧂 \u00a0\u202e\ufeff",
    "BREAKS": "one\x85two\u2028three\u2029four",
    "JINJA": "{{ 1 + 1 }} {% raw %} {# no comment #}",
    "YAML": "yes: [no, ~] &a *a !!int | >",
    "NUMBER": "0x1F",
    "EMPTY": "",
    "LONG": "x" * 100_000,
    "lower_case": "1",
}

# A domain of the greatest length.
LONG = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 51, "localhost"])

MIRROR = {
    "port": 8300,
    "domains": [DOMAIN, "www.mirror.localhost", LONG, "*.mirror.localhost"],
    "formation": {"web": 2, "worker": 1},
    "health": {"grace": 10, "settle": 5},
    "keep_releases": 3,
    "config": CONFIG,
}


@pytest.fixture(scope="module")
def added(host, lab, pillar, pids):
    """The converge that added mirror, and the PIDs of the other apps before it."""
    before = pids("faq") | pids("tickets")
    lab.build(ROOT / "tests/apps/mirror", host.python)
    pillar.merge(app={"mirror": MIRROR})
    return apply(host).succeeded(), before


@pytest.fixture
def mirror(added, host):
    return Client(host.address, DOMAIN)


def test_the_other_apps_go_on_as_they_were(added, pids):
    _, before = added
    assert pids("faq") | pids("tickets") == before


def test_config_reaches_every_process_byte_for_byte(host, mirror, pids):
    own = {"HOME", "LANG", "LOGNAME", "PATH", "PWD", "PYTHONUNBUFFERED", "SHELL", "TMPDIR", "USER"}
    # supervisor knows the launcher's PID; the app's process is its first child.
    read = "base64 -w0 /proc/$(pgrep -o -P $0)/environ"
    for name, pid in pids("mirror").items():
        raw = base64.b64decode(host.run("sh", "-c", read, str(pid)).stdout)
        environ = dict(item.split(b"=", 1) for item in raw.split(b"\0") if item)
        names = CONFIG.keys() | own | ({"PORT"} if ".web." in name else set())
        assert environ.keys() == {key.encode() for key in names}
        for variable, value in CONFIG.items():
            assert environ[variable.encode()] == value.encode(), f"{variable} of {name}"
    # The app itself sees the same.
    seen = mirror.get("/environ").json()["environ"]
    assert {name: base64.b64decode(seen[name]).decode() for name in CONFIG} == CONFIG


SCHEMA = yaml.safe_load((ROOT / "formulas/app/settings.yaml").read_text())
(VARIABLE,) = next(iter(SCHEMA["patternProperties"].values()))["properties"]["config"]["patternProperties"]
names = strategies.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,30}", fullmatch=True).filter(
    lambda name: re.search(VARIABLE, name) and name not in MIRROR["config"]
)
values = strategies.text(strategies.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300)
nasty = strategies.text("%$'\"\\#= \t\n\r;`{}[]&*!|>~,:@-\u00e9\u2028\U0001f9c2\x01\x7f", max_size=40)


@pytest.fixture
def as_before(host):
    """Converge with the pillar that the test leaves."""
    yield
    apply(host).succeeded()


# Each example needs a converge: so there are few examples, each is large, and a failed one is not made smaller.
@pytest.mark.alike("trixie")
@hypothesis.settings(
    max_examples=4,
    deadline=None,
    database=None,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(config=strategies.dictionaries(names, values | nasty, min_size=60, max_size=90))
def test_any_config_reaches_the_process(config, as_before, host, mirror, pillar):
    pillar.merge(app={"mirror": {"config": config}})
    apply(host).succeeded()
    seen = mirror.get("/environ").json()["environ"]
    for name, value in config.items():
        assert base64.b64decode(seen[name]) == value.encode(), name
    pillar.merge(app={"mirror": {"config": dict.fromkeys(config)}})


def test_a_request_tells_the_app_where_it_came_from(mirror, lab):
    gateway = str(lab.subnet[1])
    spoofed = {"X-Forwarded-For": "1.2.3.4", "X-Real-IP": "1.2.3.4", "X-Forwarded-Proto": "https", "X-Request-ID": "me"}
    answer = mirror.get("/request?a=%2F&b=ü", headers=spoofed)
    headers = {name: value for name, value in answer.json()["headers"]}
    assert headers["host"] == DOMAIN
    assert headers["x-forwarded-for"] == headers["x-real-ip"] == gateway
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-request-id"] == answer.headers["X-Request-ID"] != "me"
    assert answer.json()["query"] == "a=%2F&b=%C3%BC"


def test_what_only_nginx_may_say_reaches_the_app_from_nobody_else(mirror):
    text = (ROOT / "formulas/nginx/files/forwarded.conf.jinja").read_text()
    listed = re.findall(r"'([A-Za-z][A-Za-z0-9-]+)'", text)
    assert {"Forwarded", "X-Forwarded-Port", "X-Forwarded-Server", "Proxy", "X-Rewrite-Url"} <= {*listed}
    spelled = ["X_Forwarded_For", "X_Forwarded_Proto", "X.Forwarded.For", "Content_Length", "REMOTE_USER"]
    for forged in (listed, spelled):
        answer = mirror.get("/request", headers=dict.fromkeys(forged, "evil") | {"X-Own": "passes"})
        headers = dict(answer.json()["headers"])
        assert "evil" not in headers.values()
        assert headers["x-own"] == "passes"


def test_the_host_that_an_app_is_told_is_the_one_that_nginx_went_by(mirror, host):
    for target, own, told in [
        ("/request", f"{DOMAIN}:8080", f"{DOMAIN}:8080"),
        ("/request", f"{DOMAIN.upper()}.:8080", DOMAIN),
        (f"http://{DOMAIN}/request", "evil:99", DOMAIN),
        (f"http://{DOMAIN}:81/request", DOMAIN, DOMAIN),
    ]:
        status, body = asked(host, target, [("Host", own)])
        headers = dict(json.loads(body)["headers"])
        assert (status, headers["host"], headers["x-forwarded-host"]) == (200, told, told), (target, own)


def test_a_host_that_is_not_the_apps_never_reaches_it(mirror, host):
    evil = [("Host", "evil")]
    assert asked(host, "/request", evil)[0] == asked(host, "http://evil/request", [("Host", DOMAIN)])[0] == 404
    assert asked(host, "/request", evil, 443, DOMAIN)[0] == 421
    assert asked(host, "/request", [("Host", "127.0.0.1:8300")], 443, DOMAIN)[0] == 421
    assert asked(host, "/request", [*evil, ("Host", DOMAIN)])[0] == 400
    front = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8300/request -H Host:"
    found = {name: host.sh(f"{front}{name}").stdout for name in ("evil", "127.0.0.1:8300", "localhost", DOMAIN)}
    assert found == {"evil": "421", "127.0.0.1:8300": "200", "localhost": "200", DOMAIN: "200"}


def test_nothing_but_a_websocket_is_an_upgrade(mirror, host):
    ask = [("Host", DOMAIN), ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMA")]
    status, body = asked(host, "/request", ask)
    headers = dict(json.loads(body)["headers"])
    assert status == 200
    assert headers.keys().isdisjoint({"upgrade", "connection", "http2-settings"})


def test_large_headers_pass_both_ways(mirror):
    assert len(mirror.get("/cookie?30000").headers["Set-Cookie"]) == 30008
    answer = mirror.get("/request", headers={"Cookie": f"session={'x' * 24000}"})
    assert len(dict(answer.json()["headers"])["cookie"]) == 24008


def test_server_sent_events_are_not_kept_back(mirror, host):
    assert streams(host.address, DOMAIN)
    assert streams(host.address, DOMAIN, accept="text/event-stream")
    assert streams(host.address, DOMAIN, tls=True, accept="text/event-stream")


def test_every_domain_of_the_app_is_served(mirror, host):
    for domain in [*MIRROR["domains"][:-1], "any.mirror.localhost"]:
        assert Client(host.address, domain).get("/healthz").status_code == 200
        assert asked(host, "/healthz", [("Host", domain)], 443, domain)[0] == 200
    # A star stands for one name.
    assert Client(host.address, "a.b.mirror.localhost").get("/healthz").status_code == 421


def test_requests_go_to_every_web_process(mirror):
    assert len({mirror.get("/healthz").json()["port"] for _ in range(20)}) == 2


def test_websockets_pass(mirror, host):
    connection = socket.create_connection((host.address, 80), timeout=10)
    with connect(f"ws://{DOMAIN}/ws", sock=connection) as websocket:
        websocket.send("Größe")
        assert websocket.recv(timeout=10) == "Größe"


def test_text_is_compressed(mirror):
    answer = mirror.get("/large", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.json()["text"].startswith("saltern")


def test_a_body_up_to_the_limit_passes_and_a_larger_one_does_not(mirror):
    assert mirror.post("/request", data=bytes(10 << 20)).json()["size"] == 10 << 20
    assert mirror.post("/request", data=bytes((10 << 20) + 1)).status_code == 413


@pytest.mark.alike("trixie")
def test_scaling_starts_and_stops_only_what_it_must(host, mirror, pillar, pids, release):
    number, before = release(), pids("mirror")
    for web, worker in ((4, 2), (1, 1), (2, 1)):
        pillar.merge(app={"mirror": {"formation": {"web": web, "worker": worker}}})
        assert apply(host).succeeded().changed == {"app-release-mirror"}
        after = pids("mirror")
        assert len(after) == web + worker
        stayed = before.keys() & after.keys()
        assert {name: after[name] for name in stayed} == {name: before[name] for name in stayed}
        ports = {int(mirror.get("/healthz").json()["port"]) for _ in range(40)}
        assert ports in ({8301 + i for i in range(web)}, {8350 + i for i in range(web)})
        before = after
    assert release() == number
    apply(host).changed_nothing()


@pytest.mark.alike("bookworm")
def test_a_config_change_is_a_new_release_and_nothing_else(host, mirror, pillar, pids, release):
    number, others, before = release(), pids("faq") | pids("tickets"), pids("mirror")
    pillar.merge(app={"mirror": {"config": {"PERCENT": "50%", "EMPTY": None}}})
    assert apply(host, "test=True").succeeded().changed == {"app-release-mirror"}
    assert release() == number
    assert apply(host).succeeded().changed == {"app-release-mirror"}
    assert release() == number + 1
    environ = mirror.get("/environ").json()["environ"]
    assert base64.b64decode(environ["PERCENT"]) == b"50%"
    assert "EMPTY" not in environ
    assert not set(pids("mirror").values()) & set(before.values())
    # Each process was started once, not twice.
    for process in ("web.1", "web.2", "worker.1"):
        lines = host.sh(f"journalctl -q -o cat -t 'mirror[{process}]'").stdout.splitlines()
        assert sum(line.startswith(f"v{number + 1} {process} starts") for line in lines) == 1
    assert pids("faq") | pids("tickets") == others
    # The earlier release keeps its config.
    old = f"/srv/apps/mirror/releases/{number}"
    assert host.sh(f"cat {old}/env/PERCENT; test -e {old}/env/EMPTY").stdout == CONFIG["PERCENT"]
    apply(host).changed_nothing()


# The two Debians differ in what systemd does when it reads the files again.
def test_limits_hold_at_once_and_without_a_restart(host, mirror, pillar, pids, release):
    before, number = pids("mirror"), release()
    pillar.merge(app={"mirror": {"limits": {"memory": "900m", "processes": {"web": {"memory": "300m"}}}}})
    assert apply(host).succeeded().changed == {"app-limits-mirror"}
    assert pids("mirror") == before
    shown = host.salt("release.show", "mirror")["limits"]
    assert shown["memory"].endswith(" of 900 MiB")
    assert shown["processes"][f"v{number} web.1"]["memory"].endswith(" of 300 MiB")
    apply(host).changed_nothing()


@pytest.mark.alike("trixie")
def test_only_so_many_releases_are_kept(host, mirror, pillar, release):
    for value in ("1", "2", "3"):
        pillar.merge(app={"mirror": {"config": {"COUNT": value}}})
        before = set(host.sh("ls /srv/apps/mirror/releases").stdout.split())
        changes = apply(host).succeeded().states["app-release-mirror"]["changes"]
    after = set(host.sh("ls /srv/apps/mirror/releases").stdout.split())
    assert changes["pruned"] == {"releases": sorted(f"v{number}" for number in before - after)}
    kept = sorted(map(int, host.sh("ls /srv/apps/mirror/releases").stdout.split()))
    assert kept == [release() - 2, release() - 1, release()]


FAILURES = {
    "boot": (r"health: w(eb|orker)\.[12] ended by itself", "ImportError: mirror was told to fail at its boot"),
    "release": (r"release: exit status 1", "mirror was told to fail in its release"),
    # On a busy machine it may take longer to fail than health.settle: then a later step sees it.
    "worker": (r"(health|running): worker\.1 ended by itself", "mirror's worker was told to fail"),
    "redirect": (r"health: /healthz answered 302, which leads to /login; expected 200 from itself", "Uvicorn running"),
    "health": (r"health: web\.[12] is not healthy within 10 s: /healthz answered 503, not 200", "Uvicorn running"),
}


@contextlib.contextmanager
def said_meanwhile(mirror, text):
    """Have the serving processes log a line again and again while the block runs."""
    over = threading.Event()

    def say():
        while not over.wait(0.05):
            assert mirror.get("/say?" + urllib.parse.quote(text)).status_code == 200

    with ThreadPoolExecutor() as pool:
        saying = pool.submit(say)
        try:
            yield
        finally:
            over.set()
        saying.result()


@pytest.mark.alike
@pytest.mark.parametrize("step", FAILURES)
def test_a_release_that_fails_is_refused_and_the_one_before_serves_on(step, host, mirror, pillar, pids, release):
    number, before = release(), pids("mirror")
    secret = f"canary-{step}-0123456789"
    pillar.merge(app={"mirror": {"config": {"FAIL": step, "SECRET": secret}}})
    with said_meanwhile(mirror, "the one that serves"):
        applied = apply(host)
    assert applied.code != 0
    assert applied.failed.keys() == {"app-release-mirror"}
    comment = applied.failed["app-release-mirror"]
    reason, logged = FAILURES[step]
    assert re.search(f"was refused at the step {reason}", comment)
    assert f"v{number} goes on serving" in comment
    assert logged in comment
    assert secret not in applied.output
    # Only the refused release's own lines are shown, without characters that command a terminal.
    said = comment.partition("logged last:\n")[2]
    assert "the one that serves" not in said
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", comment)
    assert ("\\x1b[2J\\x9b31m" in said) is (step == "boot")
    assert (release(), pids("mirror")) == (number, before)
    assert mirror.get("/healthz").status_code == 200
    failed = max(map(int, host.sh("ls /srv/apps/mirror/releases").stdout.split()))
    outcome = host.sh(f"cat /srv/apps/mirror/releases/{failed}/outcome").stdout
    assert re.match(f"refused: v{failed} was refused at the step {reason}", outcome)
    pillar.merge(app={"mirror": {"config": {"FAIL": None, "SECRET": None}}})
    apply(host).changed_nothing()


@pytest.mark.alike("trixie")
def test_one_apps_bad_site_takes_no_other_app_down(host, mirror, pillar):
    # A new domain writes the certificate in the same run, and nginx-config watches the certificate: salt#43008.
    mirrors = {"site": {"extra": "nonsense on;"}, "domains": [*MIRROR["domains"], "shop.localhost"]}
    pillar.merge(app={"mirror": mirrors, "faq": {"site": {"body_size": "1m"}}})
    applied = apply(host)
    # The states after nginx-config do not run: a certificate may still be in use.
    waiting = {"nginx-certificates-retired", "nginx-users-retired", "nginx-acme-retired", "nginx-peers"}
    waiting |= {"nginx-peers-loaded", "nginx-http3"}
    assert applied.failed.keys() == {"nginx-config"} | waiting
    assert "nginx-certificate-mirror" in applied.changed
    assert 'sites/mirror.conf stays as it was: unknown directive "nonsense"' in applied.failed["nginx-config"]
    # The other change is live, and mirror serves as before.
    faq = Client(host.address, "faq.localhost")
    assert faq.post("/v1/create", data=bytes((1 << 20) + 1)).status_code == 413
    assert mirror.get("/healthz").status_code == 200
    host.sh("nginx -t -q")
    pillar.merge(app={"mirror": {"site": None, "domains": MIRROR["domains"]}, "faq": {"site": None}})
    apply(host).succeeded()
    apply(host).changed_nothing()


LIVE = {"process": "asgi", "health": {"path": "/live/healthz"}}
ROUTES = {
    "/live/": LIVE | {"body_size": "20m", "idle": 2},
    "/bare/": {"process": "asgi", "strip": True, "health": LIVE["health"]},
}


@pytest.mark.alike("trixie")
def test_a_route_leads_to_processes_of_another_type(host, mirror, pillar, release, verify):
    formation, before = {"web": 2, "worker": 1, "asgi": 2}, release()
    pillar.merge(app={"mirror": {"formation": formation, "site": {"routes": ROUTES}, "keep_releases": 6}})
    assert converged(host) == {"nginx-config", "app-release-mirror"}
    web, asgi = ({port(mirror, path) for _ in range(20)} for path in ("/request", "/live/request"))
    assert (len(web), len(asgi), web & asgi) == (2, 2, set())
    # The path stays as the client has written it, but where the route is stripped of it.
    status, body = asked(host, "/live/%72equest?a=%2Fb", [("Host", DOMAIN)])
    assert (status, json.loads(body)["path"]) == (200, "/live/%72equest")
    said = mirror.get("/bare/request?a=%2Fb").json()
    headers = dict(said["headers"])
    assert (said["path"], said["query"], headers["x-forwarded-prefix"]) == ("/request", "a=%2Fb", "/bare")
    assert (headers["x-forwarded-proto"], headers["x-forwarded-host"]) == ("http", DOMAIN)
    assert asked(host, "/b%61re/request", [("Host", DOMAIN)])[0] == 404
    assert "x-forwarded-prefix" not in dict(mirror.get("/live/request").json()["headers"])
    led = mirror.get("/live?a=b", allow_redirects=False)
    assert (led.status_code, led.headers["Location"]) == (301, "/live/?a=b")
    assert mirror.post("/live/request", data=bytes(11 << 20)).json()["size"] == 11 << 20
    assert mirror.post("/request", data=bytes(11 << 20)).status_code == 413
    connection = socket.create_connection((host.address, 80), timeout=10)
    with connect(f"ws://{DOMAIN}/live/ws", sock=connection) as websocket:
        websocket.send("Größe")
        assert websocket.recv(timeout=10) == "Größe"
        with pytest.raises(ConnectionClosed):
            websocket.recv(timeout=10)
    print(verify(host, "app", "nginx").splitlines()[-1])
    number = release()
    assert port(mirror, "/live/request") in asgi
    # One that ends before its successor starts is away, and comes back where that is refused. All else is served.
    pillar.merge(app={"mirror": {"config": {"FAIL": "live"}, "order": {"asgi": "stop-first"}}})
    reason = r"succeed: asgi\.[12] is not healthy within 10 s: /live/healthz answered 503, not 200; v\d+ serves again, "
    with asked_meanwhile(mirror, "/live/request", "/request") as answers:
        assert re.search(f"{reason}with asgi started once more", apply(host).failed["app-release-mirror"])
    assert [{status for status, _ in answers[which::2]} for which in (0, 1)] == [{200, 503}, {200}]
    assert port(mirror, "/live/request") in asgi
    # A release under load: no request is lost, and the processes that serve beside each other have ports of their own.
    pillar.merge(app={"mirror": {"config": {"FAIL": None, "COLOUR": "blue"}, "order": None}})
    with asked_meanwhile(mirror, "/live/request", "/bare/request", "/request") as answers:
        assert apply(host).succeeded().changed == {"nginx-config", "app-release-mirror"}
    assert {answer for answer, _ in answers} == {200}
    assert len({at for _, at in answers}) == 8
    assert release() > number
    # A release from before the routes has the type. So its processes listen too, once it serves again.
    host.salt("release.rollback", "mirror", str(before))
    assert (release(), mirror.get("/live/healthz").status_code) == (before, 200)
    assert port(mirror, "/live/request") != port(mirror, "/request")
    apply(host).changed_nothing()
    formation = MIRROR["formation"] | {"asgi": None}
    pillar.merge(app={"mirror": {"formation": formation, "site": None, "keep_releases": MIRROR["keep_releases"]}})
    assert converged(host) == {"nginx-config", "app-release-mirror"}
    assert mirror.get("/live/request").json()["port"] in {port(mirror, "/request") for _ in range(20)}
    assert host.sh("ls /etc/nginx/upstreams | grep '^mirror'").stdout.split() == ["mirror.conf"]


@pytest.mark.alike("trixie")
def test_two_apps_share_a_domain_by_path(host, mirror, pillar, verify):
    tickets = Client(host.address, "tickets.localhost")
    redirects = {"paths": {"/live/old": {"to": "/live/request"}}}
    site = {
        "path": "/live/",
        "body_size": "20m",
        "redirects": redirects,
        "headers": {"Permissions-Policy": "camera=()"},
    }
    shares = {"domains": ["tickets.localhost"], "health": {"path": "/live/healthz"}, "site": site}
    pillar.merge(app={"mirror": shares})
    assert converged(host) == {"nginx-config", "nginx-certificates-retired"}
    said = tickets.get("/live/request")
    assert (said.json()["path"], said.headers["Permissions-Policy"]) == ("/live/request", "camera=()")
    assert dict(said.json()["headers"])["host"] == "tickets.localhost"
    said = tickets.get("/healthz")
    assert (said.status_code, "Permissions-Policy" in said.headers) == (200, False)
    assert tickets.get("/live", allow_redirects=False).headers["Location"] == "/live/"
    led = tickets.get("/live/old", allow_redirects=False).headers["Location"]
    assert led == "http://tickets.localhost/live/request"
    assert tickets.post("/live/request", data=bytes(11 << 20)).json()["size"] == 11 << 20
    assert mirror.get("/live/request").text == "No app has this domain.\n"
    assert host.sh("ls /etc/ssl/saltern/sites").stdout.split() == ["faq.pem", "tickets.pem"]
    print(verify(host, "app", "nginx").splitlines()[-1])
    # Each of the two is closed by itself.
    for closed, others in (("mirror", "tickets"), ("tickets", "mirror")):
        paths = {"mirror": "/live/healthz", "tickets": "/healthz"}
        host.salt("app.maintenance", closed, "on", f"message={closed} is away")
        assert f"{closed} is away" in tickets.get(paths[closed]).text
        assert tickets.get(paths[others]).status_code == 200
        host.salt("app.maintenance", closed, "off")
    # The one that had the rest of the domain serves no more, and the other is served as before.
    pillar.merge(app={"tickets": {"formation": {"web": 0}}})
    changed = {"nginx-config", "nginx-certificate-mirror", "nginx-certificates-retired", "app-release-tickets"}
    assert apply(host).succeeded().changed == changed
    assert (tickets.get("/live/request").status_code, tickets.get("/").status_code) == (200, 404)
    assert host.sh("ls /etc/ssl/saltern/sites").stdout.split() == ["faq.pem", "mirror.pem"]
    before = {"domains": MIRROR["domains"], "health": {"path": None}, "site": None}
    pillar.merge(app={"mirror": before, "tickets": {"formation": {"web": 2}}})
    apply(host).succeeded()
    apply(host).changed_nothing()


def port(client, path):
    """Return the port of the process that answers."""
    return client.get(path).json()["port"]


@contextlib.contextmanager
def asked_meanwhile(client, *paths):
    """Ask for paths again and again while the block runs; yield the list of statuses and ports."""
    over, answers = threading.Event(), []

    def ask():
        while not over.wait(0.02):
            for path in paths:
                answer = client.get(path)
                answers.append((answer.status_code, answer.json()["port"] if answer.ok else None))

    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask)
        try:
            yield answers
        finally:
            over.set()
        asking.result()


# Of a user of mirror's site.
PASSWORD = "canary: pä ss$wörd"


@pytest.fixture(scope="module")
def site(added, host, pillar):
    """The converge that gave mirror's site settings of its own."""
    extra = "location = /hello { return 200 hello; }"
    access = {"users": {"ada": PASSWORD}, "deny": ["127.0.0.3"], "paths": ["/request"]}
    access["exempt_paths"] = ["/request/x"]
    clients = [f"{host.address.rpartition('.')[0]}.0/24", "127.0.0.0/30"]
    limits = {"rate": "1/m", "burst": 2, "exempt_addresses": clients, "exempt_paths": ["/large"]}
    own = {"extra": extra, "timeout": 1, "access": access, "limits": limits}
    pillar.merge(app={"mirror": {"site": own}}, nginx={"trusted_proxies": ["127.0.0.2/32"]})
    would = apply(host, "test=True").succeeded()
    done = apply(host).succeeded()
    assert would.changed == done.changed == {"nginx-config", "nginx-users"}
    return [would, done]


def test_the_settings_of_a_site_are_its_own(site, mirror):
    assert mirror.get("/hello").text == "hello"
    assert mirror.get("/slow?3").status_code == 504
    assert mirror.get("/slow?0.5").status_code == 200


def test_a_site_asks_for_a_password_where_it_is_declared(site, host, mirror, verify):
    word = PASSWORD.encode()
    said = mirror.get("/request", auth=(b"ada", word))
    assert "authorization" not in dict(said.json()["headers"])
    refused = mirror.get("/request", auth=(b"ada", b"wrong"))
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="mirror"')
    assert mirror.get("/healthz").status_code == 200
    assert mirror.get("/request/x").status_code == 404
    ask = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Host: {DOMAIN}")
    paths = {"/request": "401", "/%72equest": "401", "//x/../request": "401", "/request/x%0a": "401", "/healthz": "200"}
    found = {path: host.run(*ask, "--path-as-is", f"http://127.0.0.1{path}").stdout for path in paths}
    assert found == paths
    # A denied address, and one that a load balancer says.
    for source in (["127.0.0.3"], ["127.0.0.2", "-H", "X-Forwarded-For: 127.0.0.3"]):
        assert host.run(*ask, "--interface", *source, "http://127.0.0.1/request").stdout == "403"
    # Another app asks at the app's own port.
    assert host.run(*ask, "http://127.0.0.1:8300/request").stdout == "200"
    print(verify(host, "nginx").splitlines()[-1])


def test_a_client_that_asks_too_often_is_told_when_to_ask_again(site, host):
    told = "%{http_code} %header{retry-after}"
    ask = ("curl", "-sS", "-o", "/dev/null", "-w", told, "-H", f"Host: {DOMAIN}", "--interface")

    def found(source, path="/healthz", port=80):
        return host.run(*ask, source, f"http://127.0.0.1:{port}{path}").stdout.strip()

    assert [found("127.0.0.4") for _ in range(5)] == ["200"] * 3 + ["429 60"] * 2
    # Another client, a path that does not count, and another app that asks at the app's own port.
    assert [found("127.0.0.5"), found("127.0.0.4", "/large"), found("127.0.0.4", port=8300)] == ["200"] * 3


def test_nobody_is_shown_the_password_of_a_site(site, host):
    line = host.sh("cat /etc/nginx/users/mirror").stdout
    shown = [str(applied.states) for applied in site]
    shown.append(host.sh("cat /var/log/salt/minion /var/log/nginx/error.log; journalctl --no-pager -n 5000").stdout)
    assert [text for text in shown if "canary: p" in text or line.strip().partition(":")[2] in text] == []
    assert host.sh("runuser -u faq -- cat /etc/nginx/users/mirror 2>&1 || true").stdout.endswith("Permission denied\n")


def test_an_app_that_is_no_longer_declared_is_gone(host, mirror, pillar, pids):
    pillar.restore()
    changed = {"nginx-config", "nginx-certificates-retired", "nginx-users-retired", "app-retired"}
    changed |= {"app-limits-retired", "app-dbus", "app-dbus-read"}
    assert apply(host, "test=True").succeeded().changed == changed
    assert apply(host).succeeded().changed == changed
    assert pids("mirror") == {}
    assert mirror.get("/healthz").text == "No app has this domain.\n"
    assert host.sh("ls /srv/apps").stdout.split() == ["faq", "tickets"]
    apply(host).changed_nothing()
