"""nginx's tree: what differs, what goes live, and nginx's error in one line.

The tests of whole hosts ask nginx itself.
"""

import os
import re
import socket
import subprocess

import pytest
from salt.exceptions import CommandExecutionError

from saltern.web import peers, tree, workers
from tests.unit.web.sites import site

SHOP = "upstream shop {\n    include upstreams/shop.conf;\n}\n"
FAQ = SHOP.replace("shop", "faq")


@pytest.fixture
def rendered(tmp_path):
    """A function that renders a template of this text."""

    def render(text: str) -> dict[str, str]:
        (tmp_path / "tree.jinja").write_text(text)

        def ask(name, *arguments):
            if name == "settings.debian":
                return {"http2": {"listen": "", "directive": "http2 on;"}}
            assert name == "cp.cache_file"
            return str(tmp_path / "tree.jinja") if arguments == ("salt://tree.jinja",) else ""

        nginx = {"peers": {}, "gzip": True, "http3": False, "tls": {"redirect": False, "hsts": {}}}
        return tree.rendered(ask, nginx, "salt://tree.jinja", ["faq", "shop"], str(tmp_path))

    return render


TREE = """{{ mark }}nginx.conf
{% if nginx.gzip %}gzip on; {{ http2.directive }}{% endif %}
{% for app in apps %}{{ mark }}sites/{{ app }}.conf
# {{ app }}
{% endfor %}"""


def test_one_template_renders_to_the_files_that_it_names(rendered):
    expected = {"nginx.conf": "gzip on; http2 on;\n", "sites/faq.conf": "# faq\n", "sites/shop.conf": "# shop\n"}
    assert rendered(TREE) == expected
    # What was compiled is kept, and not taken for another text.
    assert rendered(TREE) == expected
    assert rendered(TREE.replace("gzip on;", "gzip off;"))["nginx.conf"] == "gzip off; http2 on;\n"


WRONG = {
    "no such file": ("{% include 'salt://nosuch.jinja' %}", "salt://nosuch.jinja"),
    "not closed": ("one\n{% if nginx.gzip %}", "Unexpected end of template"),
    "no such setting": ("{{ nginx.zipped }}", "has no attribute 'zipped'"),
}


@pytest.mark.parametrize("text, expected", WRONG.values(), ids=WRONG)
def test_a_template_that_does_not_render_is_named(rendered, text, expected):
    said = rf"\Asalt://tree\.jinja: does not render: [^\n]*{expected}[^\n]*\Z"
    with pytest.raises(CommandExecutionError, match=said):
        rendered(text)


@pytest.fixture
def root(tmp_path):
    """A live tree with one site."""
    for path, text in {
        "nginx.conf": "main\n",
        "sites/shop.conf": SHOP,
        "upstreams/shop.conf": "server 127.0.0.1:8001;\n",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


LIVE = {"nginx.conf": "main\n", "sites/shop.conf": SHOP}
NO_PROCESS = "server 127.0.0.1:1 down;\n"
CHANGES = {
    "nothing to do": (LIVE, {}),
    "another main file": (LIVE | {"nginx.conf": "new\n"}, {"nginx.conf": "new\n"}),
    "another site": (LIVE | {"sites/shop.conf": f"new {SHOP}"}, {"sites/shop.conf": f"new {SHOP}"}),
    "a new site has an upstream without processes": (
        LIVE | {"sites/faq.conf": FAQ},
        {"sites/faq.conf": FAQ, "upstreams/faq.conf": NO_PROCESS},
    ),
    "a site on other hosts has no processes here": (
        LIVE | {"sites/faq.conf": "include peers/faq.conf;\n", "peers/faq.conf": "server 10.0.0.1:8200;\n"},
        {"sites/faq.conf": "include peers/faq.conf;\n", "peers/faq.conf": "server 10.0.0.1:8200;\n"},
    ),
    "what is said of a certificate that nobody names goes": (
        LIVE | {"tls/shop.conf": "shop\n"},
        {"tls/shop.conf": "shop\n", "tls/gone.conf": None},
    ),
    "a site goes, and its upstream with it": (
        {"nginx.conf": "main\n"},
        {"sites/shop.conf": None, "upstreams/shop.conf": None},
    ),
}


@pytest.mark.parametrize("wanted, expected", CHANGES.values(), ids=CHANGES)
def test_changes_are_what_differs(root, wanted, expected):
    for path in (path for path, text in expected.items() if text is None and path.startswith("tls/")):
        (root / path).parent.mkdir()
        (root / path).write_text("old\n")
    found = tree.changes(str(root), wanted)
    assert {path: change["text"] for path, change in found.items()} == expected
    assert all(change["diff"].startswith("--- live\n+++ candidate\n@@") for change in found.values())


def test_on_a_bare_host_everything_is_new(tmp_path):
    found = tree.changes(str(tmp_path / "nginx"), LIVE)
    assert {path: change["text"] for path, change in found.items()} == LIVE | {"upstreams/shop.conf": NO_PROCESS}


def test_a_file_that_is_no_text_is_shown_as_text(root):
    (root / "nginx.conf").write_bytes(b"\xff\xfe\n")
    (change,) = tree.changes(str(root), LIVE).values()
    assert change["text"] == "main\n"
    assert change["diff"].encode().decode() == "--- live\n+++ candidate\n@@ -1 +1 @@\n-??\n+main"


@pytest.mark.parametrize(
    "ports, expected",
    [
        ([], NO_PROCESS),
        ([8002, 8001], "server 127.0.0.1:8001 max_fails=0;\nserver 127.0.0.1:8002 max_fails=0;\n"),
    ],
)
def test_an_upstream_has_a_server_for_each_process_or_says_that_there_is_none(ports, expected):
    assert tree.upstream(ports) == expected


DRIFT = {
    "one is out": (site(), {"app1"}, False),
    "one is out, another to be drained": (site("app2"), {"app1"}, True),
    "all are said to be out": (site(), {"app1", "app2", "app3"}, True),
    "one that is gone was out": (site(hosts=["app1", "app2"]), {"app3"}, True),
}


@pytest.mark.parametrize("wanted, out, is_change", DRIFT.values(), ids=DRIFT)
def test_who_is_out_is_no_difference_and_stays(tmp_path, wanted, out, is_change):
    (tmp_path / "peers").mkdir()
    live = peers.mark(peers.written(site()), out)
    (tmp_path / "peers/shop.conf").write_text(live)
    found = tree.changes(str(tmp_path), {"peers/shop.conf": peers.written(wanted)})
    assert found.keys() == ({"peers/shop.conf"} if is_change else set())
    text = found["peers/shop.conf"]["text"] if found else live
    kept = out & {one["id"] for one in wanted["servers"]}
    assert peers.out(text) == (kept if peers.serving(text) and len(kept) < 3 else set())
    assert peers.serving(text)


EDITS = {
    "another address": ("10.0.0.1", "10.0.0.9"),
    "a host is down": ("max_fails=2 fail_timeout=2s; # app2", "down; # app2"),
    "a host is gone": ("server 10.0.0.2:8100 max_fails=2 fail_timeout=2s; # app2\n", ""),
    "others rules": ("fail_timeout=2s; # app2", "fail_timeout=1h; # app2"),
    "a host is called drained": ("# app2", "# app2 is drained"),
}


@pytest.mark.parametrize("old, new", EDITS.values(), ids=EDITS)
def test_an_edit_of_the_peers_is_a_difference(tmp_path, old, new):
    (tmp_path / "peers").mkdir()
    declared = peers.mark(peers.written(site()), {"app3"})
    (tmp_path / "peers/shop.conf").write_text(declared.replace(old, new))
    assert old in declared
    found = tree.changes(str(tmp_path), {"peers/shop.conf": peers.written(site())})
    assert {path: change["text"] for path, change in found.items()} == {"peers/shop.conf": declared}


def test_a_drain_that_would_leave_nobody_who_is_in_is_refused(tmp_path):
    (tmp_path / "peers").mkdir()
    live = peers.mark(peers.written(site()), {"app1", "app3"})
    (tmp_path / "peers/shop.conf").write_text(live)
    with pytest.raises(CommandExecutionError) as raised:
        tree.changes(str(tmp_path), {"peers/shop.conf": peers.written(site("app2"))})
    assert str(raised.value) == (
        "shop: app1, app3 would be the last to serve and out; bring back one of them before another host is drained "
        "(journalctl -u saltern-peers)"
    )


REASONS = {
    "an error in a site": (
        '2026/01/01 00:00:00 [emerg] 7#7: unknown directive "x" in /tmp/c/sites/shop.conf:3\n'
        "nginx: configuration file /tmp/c/nginx.conf test failed\n",
        'unknown directive "x" in sites/shop.conf:3',
    ),
    "an error after a warning": (
        "nginx: [warn] conflicting server name\nnginx: [emerg] host not found in upstream\n",
        "host not found in upstream",
    ),
    "nothing in brackets": ("Segmentation fault\n", "Segmentation fault"),
    "nothing": ("", "nginx gave no reason"),
}


@pytest.mark.parametrize("output, expected", REASONS.values(), ids=REASONS)
def test_the_reason_is_one_line_without_the_candidates_directory(output, expected):
    assert tree.reason_of(output, "/tmp/c") == expected


@pytest.fixture
def judged(monkeypatch, tmp_path):
    """Give the module an ``nginx -t`` that refuses a tree with ``bad`` in a file; nginx does not run on this host."""
    checked = []

    def run(command, **_options):
        candidate = os.path.dirname(command[-1])
        checked.append(candidate)
        for path, _, names in sorted(os.walk(candidate)):
            for name in sorted(names):
                with open(os.path.join(path, name), errors="replace") as stream:
                    if re.search("bad", stream.read()):
                        said = f"nginx: [emerg] bad in {path}/{name}:1\n"
                        return subprocess.CompletedProcess(command, 1, "", said)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(tree.subprocess, "run", run)
    monkeypatch.setattr(workers, "PID_FILE", str(tmp_path / "none.pid"))
    return checked


def texts(root):
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


PROMOTED = {
    "all is well": ({"nginx.conf": "new\n", "sites/faq.conf": "faq\n", "upstreams/faq.conf": "up\n"}, {}),
    "a site goes": ({"sites/shop.conf": None}, {}),
    "one of two sites is bad": (
        {"nginx.conf": "new\n", "sites/faq.conf": "bad\n", "sites/shop.conf": "new\n"},
        {"sites/faq.conf": "bad in sites/faq.conf:1"},
    ),
    "what is said of a bad site's certificate stays with it": (
        {"sites/faq.conf": "bad\n", "tls/faq.conf": "faq\n", "sites/shop.conf": "new\n", "tls/shop.conf": None},
        {"sites/faq.conf": "bad in sites/faq.conf:1"},
    ),
    "all sites are bad": (
        {"sites/faq.conf": "bad\n", "sites/shop.conf": "bad\n"},
        {"sites/faq.conf": "bad in sites/faq.conf:1", "sites/shop.conf": "bad in sites/shop.conf:1"},
    ),
}


@pytest.mark.parametrize("changes, refused", PROMOTED.values(), ids=PROMOTED)
def test_what_nginx_accepts_goes_live_and_a_bad_site_stays_as_it_was(judged, root, changes, refused):
    before = texts(root)
    assert tree.promote(str(root), changes) == refused
    kept = {*refused, *(path.replace("sites/", "tls/") for path in refused)}
    live = before | {path: text for path, text in changes.items() if path not in kept}
    assert texts(root) == {path: text for path, text in live.items() if text is not None}
    assert not any(os.path.exists(candidate) for candidate in judged)


def test_a_bad_main_file_leaves_the_live_tree_alone(judged, root):
    before = texts(root)
    with pytest.raises(CommandExecutionError) as raised:
        tree.promote(str(root), {"nginx.conf": "bad\n", "sites/shop.conf": "new\n"})
    assert str(raised.value) == "nginx refuses the configuration; the live one stays: bad in nginx.conf:1"
    assert texts(root) == before


def test_a_site_whose_port_another_process_has_stays_as_it_was(judged, root):
    before = texts(root)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        bad = f"server {{\n    listen 127.0.0.1:{port};\n}}\n"
        refused = tree.promote(str(root), {"sites/faq.conf": bad, "sites/shop.conf": "new\n"})
    assert refused == {
        "sites/faq.conf": f"127.0.0.1:{port} is taken by another process; "
        "stop that (ss -ltnp) or give the app another port"
    }
    assert texts(root) == before | {"sites/shop.conf": "new\n"}


@pytest.mark.parametrize("live, changed", [("sites/shop.conf", "sites/faq.conf"), ("nginx.conf", "nginx.conf")])
def test_a_port_that_nginx_has_itself_is_not_taken(judged, root, live, changed):
    with socket.create_server(("127.0.0.1", 0)) as own:
        listen = f"listen 127.0.0.1:{own.getsockname()[1]};\n"
        (root / live).write_text(listen)
        assert tree.promote(str(root), {changed: f"{listen}# new\n", "sites/shop.conf": "new\n"}) == {}


def test_a_tree_that_nginx_refuses_does_not_stay(judged, root, monkeypatch):
    def reload():
        raise CommandExecutionError("nginx does not reload")

    monkeypatch.setattr(workers, "reload", reload)
    (root / "sites/shop.conf").write_bytes(b"damaged \xff\n")
    before = {path: (root / path).read_bytes() for path in ("nginx.conf", "sites/shop.conf")}
    with pytest.raises(CommandExecutionError, match=r"^nginx does not reload$"):
        tree.promote(str(root), {"nginx.conf": "new\n", "sites/shop.conf": None, "sites/faq.conf": "faq\n"})
    assert {path: (root / path).read_bytes() for path in before} == before
    assert not (root / "sites/faq.conf").exists()
