"""A storage of an app: what it uploads outlives it, is served by nginx alone, and is closed to everybody else.

``album`` (tests/apps/album) takes uploads. Its storage ``media`` is for everybody, ``invoices`` for whom it permits,
and ``scratch`` for itself. ``shelf`` (tests/apps/shelf) has files that its build makes.
"""

import shutil

import pytest
import yaml

from lab.worktree import commit
from tests.hosts.applied import apply, converged
from tests.hosts.client import Client, asked
from tests.hosts.conftest import ROOT
from tests.hosts.kept import kept

pytestmark = pytest.mark.alike("bookworm")

DOMAIN = "album.localhost"
ALBUM = {
    "port": 8400,
    "domains": [DOMAIN],
    "attach": {name: {"storage": name.lower().removesuffix("_root")} for name in ("MEDIA_ROOT", "INVOICES", "SCRATCH")},
    "site": {
        "serve": {"/media/": {"storage": "media"}, "/invoices/": {"storage": "invoices", "internal": True}},
    },
}
FILES = "/srv/storage/{}/files"
DIRECTORIES = {f"storage-directory-{name}" for name in ("media", "invoices", "scratch")}
HIDDEN = (".env", ".git/config", "%2eenv", ".well-known/x", "%0Ax/.env")
FRIEND = {"Authorization": "Bearer of-a-friend"}


@pytest.fixture(scope="module")
def album(host, lab, pillar):
    """A client of the app album, on a host that has the role storage too."""
    path = pillar.directory / "hosts.yaml"
    rows = yaml.safe_load(path.read_text())
    rows["dev"]["roles"].append("storage")
    path.write_text(yaml.safe_dump(rows))
    lab.build(ROOT / "tests/apps/album", host.python)
    pillar.merge(app={"album": ALBUM})
    assert {"storage-root", "app-release-album", "nginx-config", *DIRECTORIES} <= converged(host)
    yield Client(host.address, DOMAIN)
    pillar.restore()
    apply(host).succeeded()
    for one in kept(host).values():
        host.sh(one["remove"])
    host.sh("rmdir /srv/storage")


def upload(album, name, content, **query):
    """Upload a file as a browser does; return the path at which it is."""
    answer = album.post(f"/upload/{name}", files={"file": (name, content)}, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["url"]


def permitted(album, path, headers=FRIEND, **query):
    return album.get("/permitted", params={"path": path} | query, headers=headers)


def reads(host, user, path):
    """Tell whether a user of the host can read a file."""
    return host.run("runuser", "-u", user, "--", "cat", path, check=False).returncode == 0


def test_an_upload_is_served_with_its_type_and_is_asked_for_again_only_if_it_changed(album):
    photo = bytes(range(256)) * 20
    assert upload(album, "2026/photo.jpg", photo) == "/media/2026/photo.jpg"
    found = album.get("/media/2026/photo.jpg")
    assert (found.status_code, found.content) == (200, photo)
    headers = found.headers
    assert (headers["Content-Type"], headers["Cache-Control"]) == ("image/jpeg", "no-cache")
    assert (headers["X-Content-Type-Options"], len(headers["X-Request-ID"])) == ("nosniff", 32)
    for condition in ({"If-None-Match": headers["ETag"]}, {"If-Modified-Since": headers["Last-Modified"]}):
        assert album.get("/media/2026/photo.jpg", headers=condition).status_code == 304
    part = album.get("/media/2026/photo.jpg", headers={"Range": "bytes=250-260"})
    assert (part.status_code, part.content) == (206, photo[250:261])
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert album.session.request(method, album.base + "/media/2026/photo.jpg", timeout=10).status_code == 405
    assert album.session.head(album.base + "/media/2026/photo.jpg", timeout=10).headers["Content-Length"] == "5120"
    # The app's own answers have none of that.
    assert {"Cache-Control", "X-Content-Type-Options"} & album.get("/healthz").headers.keys() <= {
        "X-Content-Type-Options"
    }


def test_an_uploaded_page_runs_nothing_in_the_sites_name(album):
    for name, content_type in (("page.html", "text/html"), ("drawing.svg", "image/svg+xml"), ("data.xml", "text/xml")):
        found = album.get(upload(album, name, b"<script>alert(1)</script>"))
        assert found.headers["Content-Type"].partition(";")[0] == content_type
        policy = found.headers["Content-Security-Policy"].split("; ")
        assert {"default-src 'none'", "sandbox"} <= set(policy)
    document = album.get(upload(album, "document.pdf", b"%PDF-1.4"))
    assert "Content-Security-Policy" not in document.headers
    assert album.get(upload(album, "program", b"\x7fELF")).headers["Content-Type"] == "application/octet-stream"


def test_nothing_is_listed_and_no_link_leads_elsewhere(host, album):
    upload(album, "2027/photo.jpg", b"x")
    inside = FILES.format("media")
    script = f"""
        cd {inside} && ln -s /etc/passwd passwd && ln -s /etc etc && ln -s 2027/photo.jpg photo.jpg
        ln -s {FILES.format("invoices")} invoices && mkfifo pipe && echo secret >unread && chmod 600 unread
        echo index >2027/index.html
        mkdir -p .git .well-known "$(printf '\\nx')"
        echo x | tee .env .git/config .well-known/x "$(printf '\\nx')/.env"
    """
    host.run("album-run", "sh", "-euc", script)
    for path in ("", "2027", "2027/", "passwd", "etc/passwd", "photo.jpg", "pipe", "unread", "none", *HIDDEN):
        found = album.get(f"/media/{path}")
        assert (path, found.status_code) == (path, 404)
    for path in (
        "/media/../owner",
        "/media/..%2fowner",
        "/media../owner",
        "/media/%2e%2e/owner",
        "/media/x/../../owner",
    ):
        assert asked(host, path, [("Host", DOMAIN)])[0] == 404, path
    assert album.get("/media/2027/index.html").text == "index\n"


def test_a_file_that_the_app_must_permit_comes_by_no_other_way(host, album):
    path = upload(album, "bill.txt", b"a bill", to="private")
    assert path == "/invoices/bill.txt"
    assert album.get(path).status_code == 404
    assert album.get(path, headers={"X-Accel-Redirect": path}).status_code == 404
    assert permitted(album, path, headers={}).status_code == 403
    found = permitted(album, path)
    assert (found.status_code, found.text) == (200, "a bill")
    assert found.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert (found.headers["Cache-Control"], found.headers["X-Content-Type-Options"]) == ("private, no-cache", "nosniff")
    assert "sandbox" in found.headers["Content-Security-Policy"]
    assert "X-Accel-Redirect" not in found.headers
    assert permitted(album, path, cache="private, max-age=60").headers["Cache-Control"] == "private, max-age=60"
    ranged = permitted(album, path, headers=FRIEND | {"Range": "bytes=2-"})
    assert (ranged.status_code, ranged.text) == (206, "bill")
    host.run("album-run", "ln", "-s", "/etc/passwd", f"{FILES.format('invoices')}/passwd")
    # The app's word opens nothing else.
    others = ("/invoices/passwd", "/invoices/../../scratch/files/x", "/invoices/..%2f..%2fowner", "/etc/passwd")
    for other in (*others, "/srv/storage/media/owner", "/invoices/none", "/invoices/"):
        assert permitted(album, other).status_code in (404, 500), other


def test_no_other_app_can_read_it_and_nginx_only_what_it_serves(host, album, verify):
    host.run("album-run", "sh", "-c", 'echo mine >"$SCRATCH/file" && echo all >"$MEDIA_ROOT/all" && ls -la "$SCRATCH"')
    scratch, media = (f"{FILES.format(name)}/{file}" for name, file in (("scratch", "file"), ("media", "all")))
    assert [reads(host, user, scratch) for user in ("album", "faq", "tickets", "www-data")] == [True, *[False] * 3]
    assert [reads(host, user, media) for user in ("album", "faq", "tickets", "www-data")] == [True, False, False, True]
    written = host.run("runuser", "-u", "www-data", "--", "touch", f"{FILES.format('media')}/x", check=False)
    assert written.returncode != 0
    verify(host, "storage", "app")


def test_data_outlives_the_app_closed_to_whoever_comes_and_is_given_back(host, album, pillar, lab):
    uid = host.run("id", "-u", "album").stdout.strip()
    pillar.merge(app={"album": None})
    assert "storage-retired" not in converged(host)
    found = kept(host)
    assert found.keys() == {"storage:media", "storage:invoices", "storage:scratch"}
    assert found["storage:media"]["app"] == "album"
    # Nothing else of the app is left. Somebody else may get the id of its user.
    assert host.run("id", "album", check=False).returncode != 0
    host.run("useradd", "--system", "--uid", uid, "stranger")
    for user in ("stranger", "faq", "www-data"):
        assert not reads(host, user, f"{FILES.format('media')}/all")
    pillar.merge(app={"faq": {"attach": {"MEDIA_ROOT": {"storage": "media"}}}})
    dry, failed = apply(host, "test=True").failed, apply(host).failed
    assert dry["storage-directory-media"] == failed["storage-directory-media"]
    assert failed["storage-directory-media"].startswith("app.faq.attach: the storage media holds the data of album; ")
    lab.build(ROOT / "tests/apps/album", host.python)
    pillar.merge(app={"faq": {"attach": {"MEDIA_ROOT": None}}, "album": ALBUM})
    assert {"app-release-album", *DIRECTORIES} <= apply(host).succeeded().changed
    assert host.run("id", "-u", "album").stdout.strip() != uid
    host.run("userdel", "stranger")
    assert kept(host) == {}
    assert album.get("/media/all").text == "all\n"
    assert upload(album, "again.txt", b"again") == "/media/again.txt"
    assert reads(host, "album", f"{FILES.format('scratch')}/file")


def test_one_that_is_no_longer_attached_is_closed_and_a_full_one_is_told(host, album, pillar, verify):
    pillar.merge(app={"album": {"attach": {"SCRATCH": None}}}, storage={"directories": {"media": {"quota": "1k"}}})
    assert converged(host) == {"app-release-album", "storage-retired"}
    assert host.sh("stat -c '%a %U %G' /srv/storage/scratch").stdout == "700 root root\n"
    assert kept(host).keys() == {"storage:scratch"}
    with pytest.raises(AssertionError, match="test_no_storage_holds_more_than_its_quota"):
        verify(host, "storage")
    found = host.run("/usr/local/lib/saltern/drift", check=False)
    assert (found.returncode, "1 quota exceeded: storage media (" in found.stdout) == (2, True)


PAGES = {status: f"static/below/{status}.html" for status in ("404", "502", "503")}
REDIRECTS = {
    "domains": ["www.shelf.localhost"],
    "paths": {"/old": {"to": "/new", "status": 301}, "/blog/": {"to": "https://blog.example.com/", "status": 308}},
}
HEADERS = {"Content-Security-Policy": "default-src 'self'", "Referrer-Policy": ""}
SITE = {"serve": {"/static/": {"build": "static"}}, "errors": PAGES, "redirects": REDIRECTS, "headers": HEADERS}
SHELF = {"port": 8500, "domains": ["shelf.localhost"], "site": SITE}


def test_static_files_of_a_build_are_served_by_release_and_go_with_it(host, album, lab, pillar, verify, tmp_path):
    code = tmp_path / "shelf"
    shutil.copytree(ROOT / "tests/apps/shelf", code)
    commit(code)
    lab.build(code, host.python)
    pillar.merge(app={"shelf": SHELF})
    assert {"app-served-shelf", "app-release-shelf", "nginx-config"} <= converged(host)
    shelf = Client(host.address, "shelf.localhost")
    first = shelf.get("/").text
    found = shelf.get(first, headers={"Accept-Encoding": "gzip"})
    assert (found.status_code, found.text) == (200, "body { color: black }\n" * 100)
    headers = found.headers
    assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert (headers["Content-Encoding"], headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert (headers["Content-Type"], headers["X-Content-Type-Options"]) == ("text/css", "nosniff")
    plain = shelf.get("/static/plain.css", headers={"Accept-Encoding": "identity"})
    assert (plain.text, plain.headers["Cache-Control"]) == (found.text, "no-cache")
    assert "Content-Encoding" not in plain.headers
    known = {"Accept-Encoding": "identity", "If-None-Match": plain.headers["ETag"]}
    for path, method, status in (
        ("/static/", "GET", 404),
        ("/static/below/", "GET", 404),
        ("/static/none.3f9a01b2.css", "GET", 404),
        ("/static/.env", "GET", 404),
        ("/static/.well-known/security.txt", "GET", 200),
        ("/static/link.txt", "GET", 200),
        ("/static/plain.css", "POST", 405),
        ("/static/plain.css", "HEAD", 200),
    ):
        answer = shelf.session.request(method, shelf.base + path, timeout=10)
        assert (path, answer.status_code) == (path, status)
        assert status == 200 or "Cache-Control" not in answer.headers
    assert "javascript" in shelf.get("/static/module.mjs").headers["Content-Type"]
    # Errors that nginx answers itself have the app's own pages, whatever was sent; nobody asks for such a page itself.
    for path in ("/static/nosuch", "/.saltern/errors/502", "/.saltern/errors/503.default"):
        assert (shelf.get(path).status_code, shelf.get(path).text) == (404, "<p>404 of the shelf\n")
    host.salt("app.maintenance", "shelf", "on", "message=Back soon.")
    closed = [shelf.get("/"), shelf.post("/", data=b"x"), shelf.get("/static/plain.css")]
    assert {(one.status_code, one.text, one.headers["Retry-After"]) for one in closed} == {
        (503, "<p>503 of the shelf\n", "300")
    }
    problem = shelf.get("/", headers={"Accept": "application/json"})
    assert problem.json() == {"title": "Service Unavailable", "status": 503, "detail": "Back soon."}
    host.salt("app.maintenance", "shelf", "off")
    own = "supervisorctl status | awk '/^shelf[.]/ {print $1}' | xargs supervisorctl"
    host.sh(f"{own} stop")
    down = [shelf.get("/"), shelf.post("/", data=b"x"), shelf.get("/", headers={"Accept": "text/event-stream"})]
    assert {(one.status_code, one.text) for one in down} == {(502, "<p>502 of the shelf\n")}
    host.sh(f"{own} start")
    for path, expected in {
        "/old?a=b": (301, "http://shelf.localhost/new?a=b"),
        "/blog//a%0D%0AX:y?q": (308, "https://blog.example.com//a%0D%0AX:y?q"),
        "/older": (200, None),
    }.items():
        answer = shelf.get(path, allow_redirects=False)
        assert (answer.status_code, answer.headers.get("Location")) == expected
    for path in ("/", "/static/plain.css", "/static/nosuch", "/old"):
        headers = shelf.get(path, allow_redirects=False).headers
        assert [headers.get(name) for name in ("X-Content-Type-Options", "X-Frame-Options", *HEADERS)] == [
            *("nosniff", "SAMEORIGIN", "default-src 'self'", None),
        ]
    # nginx reads what is served, and nothing else of the build; other apps read neither.
    served = host.sh("readlink -f /srv/served/shelf/at/0").stdout.strip()
    assert reads(host, "www-data", f"{served}/static/plain.css")
    for user, path in (("www-data", "/srv/apps/shelf/current/build/shelf.py"), ("faq", f"{served}/static/plain.css")):
        assert not reads(host, user, path)
    verify(host, "nginx", "app")
    # A page of the first release still finds what it names, whichever release serves.
    (code / "site.css").write_text("body { color: white }\n")
    commit(code)
    lab.build(code, host.python)
    assert converged(host) == {"app-build-shelf", "app-served-shelf", "app-release-shelf"}
    second = shelf.get("/").text
    changed = shelf.get("/static/plain.css", headers=known)
    assert (changed.status_code, changed.text[:20]) == (200, "body { color: white ")
    assert [shelf.get(path).text[14:19] for path in (first, second)] == ["black", "white"]
    host.salt("release.rollback", "shelf")
    assert shelf.get("/static/plain.css", headers=known).status_code == 304
    assert [shelf.get(path).text[14:19] for path in (first, second)] == ["black", "white"]
    apply(host).changed_nothing()
    # A directory that the build lacks is told before anything changes.
    page = {"502": "static/nosuch.html"}
    pillar.merge(app={"shelf": {"site": {"errors": page}}})
    for words in (["test=True"], []):
        failed = apply(host, *words).failed
        assert failed.keys() == {"app-served-shelf", "app-release-shelf"}
        assert failed["app-served-shelf"].startswith(
            "app.shelf.site.errors.502: the declared build has no file static/nosuch.html; expected a page "
        )
    pillar.merge(app={"shelf": {"site": {"serve": {"/static/": {"build": "dist"}}, "errors": None}}})
    dry, failed = apply(host, "test=True").failed, apply(host).failed
    assert dry["app-served-shelf"] == failed["app-served-shelf"]
    assert failed["app-served-shelf"].startswith(
        "app.shelf.site.serve./static/.build: the declared build has no directory dist; expected one of "
    )
    pillar.merge(app={"shelf": None})
    converged(host)
    assert host.run("ls", "/srv/served/shelf", check=False).returncode != 0
