"""nginx's tree, as the package renders it on hosts of each kind.

It is made of nginx/files/tree.jinja, which includes nginx/files/nginx.conf.jinja, nginx/files/forwarded.conf.jinja and
nginx/files/site.conf.jinja. The parts of a site are nginx/files/challenge.conf.jinja, nginx/files/errors.conf.jinja,
nginx/files/headers.conf.jinja, nginx/files/proxied.conf.jinja, nginx/files/redirects.conf.jinja,
nginx/files/routed.conf.jinja, nginx/files/routes.conf.jinja, nginx/files/access.conf.jinja,
nginx/files/limits.conf.jinja, nginx/files/served.conf.jinja and nginx/files/shared.conf.jinja. The second nginx has
nginx/files/http3.conf.jinja.
"""

import copy
import re

import pytest
from salt.exceptions import CommandExecutionError

from .everything import EVERYTHING
from .minion import BUILDS, UNWANTED, Host, certificates

PASSWORDS = {word: EVERYTHING[word] for word in ("postgres", "redis")}
# What is in the files of a host with every setting, by path.
NGINX = {
    "nginx.conf": [
        "set_real_ip_from 10.0.0.0/8;",
        "10.0.0.0/8 1;",
        "gzip on;",
        "listen 443 ssl http2 default_server;",
        'https "max-age=31536000; includeSubDomains; preload";',
    ],
    "forwarded.conf": [
        "# What a process is told",
        "proxy_set_header Host $forwarded_host;\n",
        "proxy_set_header X-Forwarded-Port '';\n",
    ],
    "sites/faq.conf": [
        "# faq. Managed",
        "upstream faq {",
        "listen 127.0.0.1:8200;",
        "listen [::]:443 ssl http2;",
        "include tls/faq.conf;",
        "location ^~ /.well-known/acme-challenge/ {",
        '"~^1: /healthz$" 1;',
        '"~^(80|443):1:0:/(?![.]saltern/errors/|[.]well-known/acme-challenge/)" 1;',
        "include maintenance/faq.conf;",
        "server_name faq.localhost;",
    ],
    "sites/tickets.conf": [
        "# tickets. Managed",
        "client_max_body_size 10m;",
        "proxy_read_timeout 60s;",
        "    location = /robots.txt {\n        return 204;\n    }",
    ],
}


def test_nginxs_tree_is_what_is_declared(everything):
    found = everything.nginx("faq", "tickets")
    assert found.keys() == NGINX.keys()
    for path, text in found.items():
        assert [one for one in NGINX[path] if one not in text] == []
        assert not UNWANTED.search(text)


def test_nginx_is_told_of_https_in_the_words_of_its_version(tmp_path):
    host = Host(tmp_path, "dev", "trixie")
    host.declare("builds/dev.sls", BUILDS)
    found = host.nginx("faq")
    main, site = found["nginx.conf"], found["sites/faq.conf"]
    assert "    http2 on;\n" in main
    assert "    listen 443 ssl;\n" in site
    # In dev, apps are served over HTTP, and no authority is asked for certificates.
    assert "acme-challenge/)" not in main
    assert "acme" not in site
    assert '"~^(80|443):1:0:/(?![.]saltern/errors/)" 1;' in site


def test_http3_has_an_nginx_of_its_own_that_hands_requests_on(tmp_path):
    host = Host(tmp_path, "dev", "trixie")
    host.declare("builds/dev.sls", BUILDS)
    off = host.nginx("faq")
    assert "http3/nginx.conf" not in off
    assert "http3.sock" not in str(off) and "h3=" not in str(off)
    host.merge({"nginx": {"http3": True}, "app": {"faq": {"site": {"redirects": REDIRECTS}}}})
    on = host.nginx("faq")
    front, socket = on.pop("http3/nginx.conf"), "unix:/var/lib/nginx/proxy/http3.sock;"
    # UDP is the second one's alone, with one socket for each worker, whatever sites there are.
    assert "quic" not in str(on)
    assert front.count("quic reuseport default_server;") == 2
    assert "server_name faq.localhost www.faq.localhost;" in front
    assert "ssl_early_data off;" in front
    assert front.count(f"proxy_pass http://{socket}") == front.count("ssl_certificate ") == 2
    assert on["nginx.conf"].count(f"listen {socket[:-1]} default_server;") == 1
    assert on["sites/faq.conf"].count(f"    listen {socket}") == 2
    assert on["sites/faq.conf"].count("add_header Alt-Svc $alt_svc always;") == 1


def test_http3_is_refused_where_debians_nginx_has_none(tmp_path):
    host = Host(tmp_path, "dev", "bookworm")
    host.declare("builds/dev.sls", BUILDS)
    host.merge({"nginx": {"http3": True}})
    with pytest.raises(CommandExecutionError, match=r"nginx\.http3: the nginx of Debian 12 has no HTTP/3; expected"):
        host.nginx("faq")


REDIRECTS = {
    "domains": ["www.faq.localhost"],
    "paths": {"/old": {"to": "/new"}, "/blog/": {"to": "https://blog.example.com/", "status": 308}},
}
LED = """map "$site_port $request_uri" $led_by_308_of_faq {
 default '';
 "~^(80|443) /blog/(?<rest_of_redirect>.*)$" "https://blog.example.com/$rest_of_redirect";
 "~^(80|443) /old([?]|$)" "";
}"""


def test_redirects_are_the_proxys(tmp_path):
    host = Host(tmp_path, "dev", "trixie")
    host.declare("builds/dev.sls", BUILDS)
    errors = {"serve": {"/static/": {"build": "static"}}, "errors": {"502": "static/502.html"}}
    host.merge({"app": {"faq": {"site": errors | {"redirects": REDIRECTS}, "keep_releases": 2}}})
    site = re.sub(r"\s*\n\s*", "\n ", host.nginx("faq")["sites/faq.conf"]).replace("\n }", "\n}")
    assert LED in site
    assert "if ($led_by_308_of_faq) {\n return 308 $led_by_308_of_faq;" in site
    assert "server_name www.faq.localhost;" in site
    assert "return 308 $forwarded_proto://faq.localhost$forwarded_port$request_uri;" in site
    assert "try_files /0/static/502.html /1/static/502.html =502;" in site
    (state,) = [one for one in host.states() if one["__id__"] == "nginx-certificate-faq"]
    assert state["app"] == "faq"


def test_a_domain_may_stand_for_many(tmp_path):
    host = Host(tmp_path, "dev", "trixie")
    host.declare("builds/dev.sls", BUILDS)
    host.merge({"app": {"faq": {"domains": ["faq.example.com", "*.faq.example.com"]}}})
    site = host.nginx("faq")["sites/faq.conf"]
    assert "    server_name faq.example.com *.faq.example.com;" in site
    assert '"is faq.example.com" site;' in site
    assert '"~^is [^.]+[.]faq[.]example[.]com$" site;' in site


ACCESS = """geo $access_by_address_of_faq {
 default password;
 192.0.2.0/24 refused;
 192.0.2.7/32 open;
}
 map "$site_port:$is_health_of_faq:$uri" $access_of_faq {
 default open;
 "~^[0-9]+:1:" open;
 "~^(80|443):0:/admin/hooks/" open;
 "~^(80|443):0:/admin(/|$)" $access_by_address_of_faq;
}"""


def test_who_may_open_a_site_is_the_proxys_to_decide(tmp_path):
    host = Host(tmp_path, "dev", "trixie")
    host.declare("builds/dev.sls", BUILDS)
    assert "access_of_faq" not in host.nginx("faq")["sites/faq.conf"]
    said = {"users": {"ada": "canary-ada"}, "allow": ["192.0.2.7"], "deny": ["192.0.2.0/24"]}
    said |= {"paths": ["/admin/"], "exempt_paths": ["/admin/hooks/"]}
    host.merge({"app": {"faq": {"site": {"access": said}}}})
    site = re.sub(r"\s*\n\s*", "\n ", host.nginx("faq")["sites/faq.conf"]).replace("\n }", "\n}")
    assert ACCESS in site
    # Before nginx answers in the app's place, and after it leads to HTTPS.
    asked = ["if ($is_led_to_https)", "if ($access_of_faq = refused)", "if ($is_closed_faq)"]
    assert sorted(asked, key=site.index) == asked
    assert "auth_basic $realm_of_faq;\n auth_basic_user_file users/faq;" in site
    assert "include forwarded.conf;\n proxy_set_header Authorization $authorization_of_faq;" in site
    assert "canary" not in str(host.states())


LIMITS = """geo $is_exempt_from_limits_of_faq {
 default 0;
 192.0.2.7/32 1;
}
 map "$site_port:$is_exempt_from_limits_of_faq:$is_health_of_faq:$uri" $limited_of_faq {
 default '';
 "~^(80|443):0:0:/hooks/" '';
 "~^(80|443):0:0:/static/" '';
 "~^(80|443):0:0:" $network_of_client;
}
 map "$limit_req_status:$limit_conn_status" $wait_of_faq {
 default '';
 "~^REJECTED:" 9;
 "~:REJECTED$" 1;
}
 limit_req_zone $limited_of_faq zone=requests_of_faq:10m rate=7r/m;
"""
LIMITED = """ limit_req zone=requests_of_faq burst=3 nodelay;
 limit_req_status 429;
"""


def test_limits_count_what_the_app_is_asked(tmp_path):
    host = Host(tmp_path, "dev", "trixie")
    host.declare("builds/dev.sls", BUILDS)
    assert "limit" not in host.nginx("faq")["sites/faq.conf"]
    said = {"rate": "7/m", "burst": 3, "exempt_addresses": ["192.0.2.7"], "exempt_paths": ["/hooks/"]}
    site = {"limits": said, "serve": {"/static/": {"build": "static"}}}
    host.merge({"app": {"faq": {"site": site}}})
    found = re.sub(r"\s*\n\s*", "\n ", host.nginx("faq")["sites/faq.conf"]).replace("\n }", "\n}")
    assert LIMITS in found
    assert LIMITED in found
    assert "limit_conn " not in found
    host.merge({"app": {"faq": {"site": {"limits": {"rate": None, "burst": None, "connections": 5}}}}})
    found = host.nginx("faq")["sites/faq.conf"]
    assert "limit_conn connections_of_faq 5;" in found
    assert "limit_req " not in found


HEADERS = """content_security_policy_of_faq {
    default '';
    "~^:(?!application/pdf)" "default-src 'self'; img-src data:";
}
"""


def test_headers_for_browsers_are_added_where_the_app_has_none(tmp_path):
    host = Host(tmp_path, "dev", "trixie")
    host.declare("builds/dev.sls", BUILDS)
    plain = host.nginx("faq")["sites/faq.conf"]
    assert re.findall(r"^    add_header (\S+) (\S+) always;$", plain, re.M) == [
        ("X-Request-ID", "$forwarded_id"),
        ("Retry-After", "$retry_after_of_faq"),
        ("Referrer-Policy", "$referrer_policy_of_faq"),
        ("X-Content-Type-Options", "$x_content_type_options_of_faq"),
        ("X-Frame-Options", "$x_frame_options_of_faq"),
    ]
    assert '"$upstream_http_x_frame_options:$sent_http_content_type"' in plain
    headers = {"Content-Security-Policy": "default-src 'self'; img-src data:", "Referrer-Policy": ""}
    site = {"serve": {"/static/": {"build": "static"}}, "headers": headers}
    host.merge({"app": {"faq": {"site": site}}})
    found = host.nginx("faq")["sites/faq.conf"]
    assert HEADERS in found
    assert 'map "$upstream_http_content_security_policy$served_of_faq:$sent_http_content_type"' in found
    assert 'map "$upstream_http_x_content_type_options$sniffing_of_faq:$sent_http_content_type"' in found
    assert "Referrer-Policy" not in found


SPREAD = {
    "proxy1": {"environment": "dev", "roles": ["proxy"], "address": "10.0.0.1"},
    "app1": {"environment": "dev", "roles": ["app"], "address": "10.0.0.2", "drain": True},
    "app2": {"environment": "dev", "roles": ["app", "proxy"], "address": "10.0.0.3"},
    "db1": {"environment": "dev", "roles": ["database", "cache"], "address": "10.0.0.4"},
}
SITES = {
    "proxy1": (
        ["proxy_pass http://faq.hosts$once;", "listen 80;", "proxy_read_timeout 65s;"],
        ["listen 127", "listen 10", "upstreams/", "/.saltern/ready"],
    ),
    "app1": (
        [
            "listen 127.0.0.1:8200;",
            "listen 10.0.0.2:8200;",
            "proxy_pass http://faq$once;",
            "return 503;\n\n        # Somebody has drained",
            "proxy_pass http://faq/healthz;",
        ],
        ["listen 80", ".hosts", "location = /robots.txt"],
    ),
    "app2": (
        ["listen 10.0.0.3:8200;", "proxy_pass http://faq$once;", "proxy_pass http://faq.hosts$once;", "listen 80;"],
        ["return 503;\n\n        # Somebody has drained"],
    ),
}


ROUTES = {
    "/ws/": {"process": "asgi", "timeout": 90, "idle": 600},
    "/flower/": {"process": "flower", "strip": True, "health": {"path": "/flower/up"}},
    "/upload": {"process": "web", "body_size": "2g", "buffering": False},
}
ROUTED = {
    "proxy1": (
        ["location ^~ /ws/ {", "proxy_read_timeout 95s;", "proxy_read_timeout 605s;", "client_max_body_size 2g;"],
        ["upstreams/", ".route.", "X-Forwarded-Prefix", "location @events/upload", "/run/saltern-away", "@away"],
    ),
    "app1": (
        [
            "include upstreams/faq.asgi.conf;",
            "proxy_pass http://faq.route.asgi$once;",
            "proxy_pass http://faq.route.flower$once$stripped_of_faq;",
            "proxy_set_header X-Forwarded-Prefix /flower;",
            "location = /upload {",
            "error_page 418 = @events$route_of_faq;",
            "proxy_read_timeout 600s;",
            # Another host is asked while one has no process.
            "if (-f /run/saltern-away.faq.web) {",
            "location ^~ /flower/ {\n",
            "if (-f /run/saltern-away.faq.flower) {",
            "error_page 420 = @away;\n    location @away {\n",
            "if ($is_proxy) {\n            return 444;",
            "add_header Retry-After $wait_of_away always;",
        ],
        ["faq.hosts", "away.faq.asgi"],
    ),
}


@pytest.mark.parametrize("name", ROUTED)
def test_a_route_is_on_the_proxies_and_its_processes_on_the_app_hosts(tmp_path, name):
    host = Host(tmp_path, name)
    host.declare("hosts.yaml", SPREAD)
    builds = copy.deepcopy(BUILDS)
    builds["app"]["faq"]["build"].pop("processes", None)
    host.declare("builds/dev.sls", builds)
    faq = {"formation": {"web": 1, "asgi": 2, "flower": 1}, "site": {"routes": ROUTES}}
    faq["order"] = {"web": "stop-first", "flower": "stop-first"}
    host.merge({"app": {"faq": faq}, "certificates": certificates(name, SPREAD[name]["address"])} | PASSWORDS)
    text = host.nginx("faq")["sites/faq.conf"]
    expected, others = ROUTED[name]
    assert [one for one in expected if one not in text] == []
    assert [one for one in others if one in text] == []
    if name == "app1":
        # The page of who is away is a second error. In other locations that is said for events.
        host.merge({"app": {"faq": {"site": {"buffering": False}}}})
        found = host.nginx("faq")["sites/faq.conf"]
        told = r"location / \{\s+if [^}]+return 420;\s+\}\s+proxy_buffering off;\s+recursive_error_pages on;"
        assert re.search(told, found)


SHARED = {
    "proxy1": (
        [
            "location ^~ /faq/ {",
            "proxy_pass http://faq.hosts$once;",
            "client_body_temp_path /var/lib/nginx/body-faq;",
            "if ($is_closed_faq) {",
            "~^(80|443):1:0:/(?![.]saltern/errors/|faq/)",
            '"~^/faq/" $x_frame_options_of_faq;',
            "proxy_pass http://tickets.hosts$once;",
        ],
        ["listen 80;", "tls/", "location /", "if ($is_closed"],
    ),
    "app1": (
        ["proxy_pass http://tickets$once;", "listen 10.0.0.2:8100;"],
        ["listen 80;", "location ^~ /faq/", "$is_closed"],
    ),
}


@pytest.mark.parametrize("name", SHARED)
def test_a_domain_of_several_apps_has_one_site(tmp_path, name):
    host = Host(tmp_path, name)
    host.declare("hosts.yaml", SPREAD)
    host.declare("builds/dev.sls", BUILDS)
    faq = {"domains": ["tickets.localhost"], "health": {"path": "/faq/healthz"}, "site": {"path": "/faq/"}}
    host.merge({"app": {"faq": faq}, "certificates": certificates(name, SPREAD[name]["address"])} | PASSWORDS)
    found = host.nginx("faq", "tickets")
    expected, others = SHARED[name]
    assert [one for one in expected if one not in found["sites/tickets.conf"]] == []
    assert [one for one in others if one in found["sites/faq.conf"]] == []
    made = {state["__id__"] for state in host.states()}
    assert ({"nginx-certificate-tickets", "nginx-certificate-faq"} & made) == (
        {"nginx-certificate-tickets"} if name == "proxy1" else set()
    )


NOT_WAITED_FOR = {
    "proxy1": "db1: no app host of this proxy has this name; expected one of app1, app2",
    "app1": "app1: does not have the role proxy; expected a proxy",
}


@pytest.mark.parametrize("name", NOT_WAITED_FOR)
def test_a_drain_is_waited_for_on_a_proxy_and_of_its_app_hosts(tmp_path, name):
    host = Host(tmp_path, name)
    host.declare("hosts.yaml", SPREAD)
    host.declare("builds/dev.sls", BUILDS)
    host.merge({"certificates": certificates(name, SPREAD[name]["address"])} | PASSWORDS)
    code, output = host.call("drain.wait", "db1")
    assert code != 0
    assert NOT_WAITED_FOR[name] in output
    assert "Traceback" not in output


@pytest.mark.parametrize("name", SITES)
def test_a_site_is_on_the_proxies_and_its_front_on_the_app_hosts(tmp_path, name):
    host = Host(tmp_path, name)
    host.declare("hosts.yaml", SPREAD)
    host.declare("builds/dev.sls", BUILDS)
    extra = {"site": {"extra": "location = /robots.txt {\n    return 204;\n}\n"}}
    host.merge({"app": {"faq": extra}, "certificates": certificates(name, SPREAD[name]["address"])} | PASSWORDS)
    found = host.nginx("faq")
    text = found["sites/faq.conf"]
    expected, others = SITES[name]
    assert [one for one in expected if one not in text] == []
    assert [one for one in others if one in text] == []
    # Each server that listens to the public on port 80 has robots.txt, and no other server has it.
    assert text.count("location = /robots.txt") == text.count("listen 80;")
    text = found["nginx.conf"]
    believed = [] if name == "proxy1" else ["10.0.0.1/32", "10.0.0.3/32"]
    assert sorted(re.findall(r"set_real_ip_from (.*);", text)) == believed
    (watched,) = [state for state in host.states() if state["state"] == "peers"]
    assert watched["fun"] == "watched"
