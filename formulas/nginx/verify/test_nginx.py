"""nginx: what clients outside the host get."""

import re

import pytest

from saltern.web import routes
from verify import declared


@pytest.fixture(scope="module")
def sites(settings, roles):
    """The apps that the proxy serves, by name."""
    if not {"app", "proxy"} & set(roles):
        pytest.skip("the host has neither the role proxy nor the role app")
    return {app: settings["app"][app] for app in settings["nginx"]["sites"] | settings["nginx"]["guests"]}


def test_it_runs_now_and_at_every_boot(host, sites):
    assert host.service("nginx").is_running
    assert host.service("nginx").is_enabled


def test_its_configuration_is_valid(host, sites):
    assert host.run("nginx -t -q").stderr == ""


def test_every_domain_answers(outside, sites, healthy):
    for app, one in sites.items():
        for domain in declared.in_full(one["domains"]):
            answer = outside("GET", domain, one["health"]["path"])
            assert answer.status_code in healthy(app), domain
            is_told = answer.status_code in {429, 503} & healthy(app)
            assert ("Retry-After" in answer.headers) == is_told, domain


def test_every_answer_has_a_request_id_of_its_own(outside, sites):
    for one in sites.values():
        found = {outside("GET", one["domains"][0], one["health"]["path"]).headers["X-Request-ID"] for _ in range(3)}
        assert len(found) == 3
        assert all(re.fullmatch("[0-9a-f]{32}", request_id) for request_id in found)


def test_every_answer_has_the_headers_for_browsers(outside, sites):
    for one in sites.values():
        headers = outside("GET", one["domains"][0], one["health"]["path"]).headers
        # The app's own value counts, where it has one.
        assert [name for name, value in one["site"]["headers"].items() if value and name not in headers] == []


def test_each_route_leads_to_its_process_type(outside, sites, healthy):
    for app, one in sites.items():
        for path, route in one["site"]["routes"].items():
            health = routes.health(one, route["process"])
            asked = path[:-1] + health["path"] if route["strip"] else health["path"]
            is_known = routes.covers(path, asked.partition("?")[0])
            answer = outside("GET", one["domains"][0], asked if is_known else path)
            if healthy(app) != {one["health"]["status"]}:
                assert answer.status_code in healthy(app), f"{app}: {path}"
            elif is_known:
                assert answer.status_code == health["status"], f"{app}: {path}"
            else:
                # Only the app knows what it answers here. nginx does not answer in its place.
                assert answer.status_code not in (502, 504), f"{app}: {path}"


def test_a_path_of_a_domain_that_no_app_has_is_told_so(outside, settings, sites, healthy):
    for app, one in settings["nginx"]["sites"].items():
        if one["outside"] and 503 not in healthy(app):
            assert outside("GET", one["domains"][0], "/").status_code == 404, app


@pytest.fixture(scope="module")
def proxy(outside, roles):
    """The function ``outside``, on a host that is a proxy: the firewall of any other host lets nobody ask."""
    if "proxy" not in roles:
        pytest.skip("the host does not have the role proxy")
    return outside


def test_an_unknown_domain_is_told_so(proxy):
    answer = proxy("GET", "unknown.invalid", "/")
    assert (answer.status_code, answer.text) == (404, "No app has this domain.\n")


def test_no_version_is_told(proxy):
    assert proxy("GET", "unknown.invalid", "/").headers["Server"] == "nginx"


def test_domains_and_paths_lead_where_is_declared(proxy, settings, sites, healthy):
    for app, one in sites.items():
        scheme = "https" if settings["nginx"]["tls"]["redirect"] else "http"
        redirects = one["site"]["redirects"]
        for domain in redirects["domains"]:
            answer = proxy("GET", domain, "/a%2Fb?c=d", scheme=scheme)
            expected = (308, f"{scheme}://{one['domains'][0]}/a%2Fb?c=d")
            assert (answer.status_code, answer.headers.get("Location")) == expected, domain
        for path, redirect in redirects["paths"].items() if healthy(app) == {one["health"]["status"]} else ():
            answer = proxy("GET", one["domains"][0], path, scheme=scheme)
            target = redirect["to"]
            target = f"{scheme}://{one['domains'][0]}{target}" if target.startswith("/") else target
            assert (answer.status_code, answer.headers.get("Location")) == (redirect["status"], target), path


def test_a_site_that_has_users_asks_for_their_passwords(host, proxy, settings, sites, healthy):
    for app, one in sites.items():
        access = one["site"]["access"]
        if not access["users"]:
            continue
        file = host.file(f"/etc/nginx/users/{app}")
        assert (file.user, file.group, file.mode) == ("root", "www-data", 0o640)
        assert [line.split(":")[0] for line in file.content_string.splitlines()] == sorted(access["users"])
        # An address may decide in place of a password, and so may a limit.
        if {403, 429, 503} & healthy(app):
            continue
        path = f"{min(access['paths'], default='/').rstrip('/')}/saltern-verify"
        for auth in ((b"", b""), (min(access["users"]).encode(), b"wrong")):
            answer = proxy("GET", one["domains"][0], path, auth=auth)
            assert (answer.status_code, answer.headers.get("WWW-Authenticate")) == (401, f'Basic realm="{app}"'), app
        assert proxy("GET", one["domains"][0], path).status_code not in (401, 403), app


def test_nginx_has_the_limits_of_each_site(host, settings, sites):
    # To reach them would refuse clients of the same address.
    text = host.check_output("nginx -T -q 2>/dev/null")
    for app, one in sites.items():
        key, nginx = app.replace("-", "_"), settings["nginx"]
        limits = (nginx["sites"] | nginx["guests"])[app]["limits"]
        zones = {f"limit_req_zone $limited_of_{key} zone=requests_of_{key}:10m rate={limits['rate']};"}
        zones = zones if "rate" in one["site"]["limits"] else set()
        if "connections" in one["site"]["limits"]:
            zones |= {f"limit_conn_zone $limited_of_{key} zone=connections_of_{key}:10m;"}
        assert set(re.findall(rf"^limit_\w+_zone \$limited_of_{key} .*$", text, re.M)) == zones, app


def test_a_body_over_the_limit_is_refused(outside, sites, healthy):
    units = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    for one in (one for app, one in sites.items() if not {403, 429, 503} & healthy(app)):
        number, unit = re.fullmatch("([0-9]+)([kmg]?)", one["site"]["body_size"]).groups()
        size = int(number) * units[unit]
        if 0 < size <= 64 << 20:
            answer = outside("PUT", one["domains"][0], one["health"]["path"], data=bytes(size + 1))
            assert answer.status_code == 413


def test_fronts_are_served_to_this_host_and_to_the_proxies_alone(host, settings, sites):
    for app in settings["nginx"]["fronts"]:
        port = settings["app"][app]["port"]
        listening = {text for text in host.socket.get_listening_sockets() if text.endswith(f":{port}")}
        addresses = {"127.0.0.1", *settings["nginx"]["listen"]}
        assert listening == {f"tcp://{address}:{port}" for address in addresses}, app


READY = """
import http.client, json, sys
found = {}
for where in sys.argv[1:]:
    connection = http.client.HTTPConnection(where, timeout=30)
    connection.request("GET", "/.saltern/ready")
    found[where] = connection.getresponse().status
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def peers(settings, sites):
    """The app hosts of each balanced site, by app. Empty on a host that is no proxy or has no other app host."""
    return settings["nginx"]["peers"]


def test_each_app_host_that_is_not_drained_says_that_it_is_ready(python, peers):
    for app, one in peers.items():
        asked = [peer["address"] for peer in one["servers"] if not peer["drained"]]
        assert python(READY, *asked) == dict.fromkeys(asked, one["status"]), app


def test_all_app_hosts_that_are_not_drained_get_requests(host, peers):
    for app, one in peers.items():
        text = host.file(f"/etc/nginx/peers/{app}.conf").content_string
        live = re.findall(r"^server (\S+) (?!down;)", text, re.MULTILINE)
        assert live == [peer["address"] for peer in one["servers"] if not peer["drained"]], app


def test_what_asks_the_app_hosts_runs_where_there_are_any(host, settings, sites):
    is_wanted = bool(settings["nginx"]["peers"])
    assert host.service("saltern-peers").is_running == is_wanted
    assert host.service("saltern-peers").is_enabled == is_wanted
