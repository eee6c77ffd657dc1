"""What nginx serves of builds: copies of the declared directories, found by release."""

import os
import re

import pytest
from salt.exceptions import CommandExecutionError

from saltern.releases import published, staging, store

BUILDS = {name: name[0] * 64 for name in ("a", "b", "c")}


@pytest.fixture
def app(tmp_path, monkeypatch):
    """A function that returns the settings of the app shop, whose builds a, b and c are there."""
    monkeypatch.setattr(store, "ROOT", str(tmp_path / "apps"))
    monkeypatch.setattr(published, "ROOT", str(tmp_path / "served"))
    monkeypatch.setattr(published, "SERVER", "root")
    monkeypatch.setattr(store, "current", lambda _: None)
    for name, sha256 in BUILDS.items():
        static = tmp_path / "apps/shop/builds" / sha256[:12] / "static"
        static.mkdir(parents=True)
        (static / "same.css").write_text("the same")
        (static / f"site.{name}.css").write_text(name)
        (static / "site.css").write_text(name)

    def settings(declared="c", keep=5, **serve):
        return {
            "build": {"sha256": BUILDS[declared]},
            "formation": {"web": 1},
            "keep_releases": keep,
            "site": {
                "serve": {f"/{path}/": {"build": one} for path, one in (serve or {"static": "static"}).items()},
                "errors": {},
            },
        }

    return settings


@pytest.fixture
def released(tmp_path, monkeypatch):
    """A function that makes a release of a build, which serves or was left."""

    def make(number, build):
        directory = tmp_path / f"apps/shop/releases/{number}"
        directory.mkdir(parents=True)
        (directory / "release.json").write_text(f'{{"build": "{BUILDS[build]}"}}')
        (directory / "outcome").write_text("serving")
        monkeypatch.setattr(store, "current", lambda _: number)

    return make


def first(name):
    """Return the content of the file that nginx would find."""
    for index in range(5):
        path = f"{published.ROOT}/shop/at/{index}/static/{name}"
        if os.path.isfile(path):
            with open(path) as stream:
                return stream.read()
    return None


def test_a_plan_is_what_is_done_and_then_nothing_is_left(app, released):
    settings = app()
    planned = published.plan("shop", settings)
    assert [os.path.basename(path)[:12] for path in planned] == ["c" * 12]
    published.publish("shop", settings)
    assert published.plan("shop", settings) == {}
    assert first("site.css") is None
    published.point("shop", settings, None)
    released(1, "c")
    published.point("shop", settings, 1)
    assert (first("site.css"), published.plan("shop", settings)) == ("c", {})


def test_a_file_is_looked_for_in_the_current_release_first(app, released):
    for number, build in enumerate("abc", 1):
        released(number, build)
    settings = app()
    published.publish("shop", settings)
    assert [first(name) for name in ("site.css", "site.a.css", "site.b.css")] == ["c", "a", "b"]
    # A rollback.
    published.point("shop", settings, 1)
    assert [first(name) for name in ("site.css", "site.c.css")] == ["a", "c"]
    # As many as releases are kept.
    published.point("shop", app(keep=2), 3)
    assert [first(name) for name in ("site.css", "site.b.css", "site.a.css")] == ["c", "b", None]


def test_a_build_that_is_gone_is_served_no_longer(app, released, tmp_path):
    released(1, "a")
    released(2, "b")
    published.publish("shop", app("b"))
    staging.discard("shop", 1)
    assert any(change["new"] is None for change in published.plan("shop", app("b")).values())
    published.publish("shop", app("b"))
    assert sorted(name[:2] for name in os.listdir(tmp_path / "served/shop")) == ["at", "bb"]
    assert published.plan("shop", app("b")) == {}
    nothing = app("b") | {"site": {"serve": {}}}
    assert published.plan("shop", nothing) == {f"{published.ROOT}/shop": {"old": "there", "new": None}}
    published.publish("shop", nothing)
    assert os.listdir(tmp_path / "served") == []


def test_what_is_the_same_in_two_builds_is_one_file_and_a_time_tells_contents_apart(app, released, tmp_path):
    released(1, "a")
    settings = app("b")
    published.publish("shop", settings)
    a, b = (next((tmp_path / "served/shop").glob(f"{name}*")) / "static" for name in ("a" * 12, "b" * 12))
    assert (a / "same.css").samefile(b / "same.css")
    assert (a / "site.css").stat().st_mtime != (b / "site.css").stat().st_mtime
    assert (tmp_path / "served/shop").stat().st_mode & 0o777 == 0o750
    assert (a / "site.css").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("link", "is_taken"),
    [("site.css", True), ("../secret.py", False), ("/etc/passwd", False), ("none", False), ("../static", False)],
)
def test_a_link_must_lead_to_a_file_that_is_served(app, tmp_path, link, is_taken):
    build = tmp_path / "apps/shop/builds" / BUILDS["c"][:12]
    (build / "secret.py").write_text("secret")
    (build / "static/link").symlink_to(link)
    if is_taken:
        published.publish("shop", app())
        [copy] = (tmp_path / "served/shop").glob("*/static/link")
        assert (copy.is_symlink(), copy.read_text()) == (False, "c")
    else:
        with pytest.raises(CommandExecutionError, match="static/link of the build is a link that leads to no file in"):
            published.publish("shop", app())
        assert os.listdir(tmp_path / "served/shop") == []


def test_a_directory_that_the_declared_build_lacks_is_refused_and_one_of_an_earlier_is_not(app, released):
    told = re.escape("app.shop.site.serve./x/.build: the declared build has no directory dist; expected one")
    with pytest.raises(CommandExecutionError, match=told):
        published.publish("shop", app(x="dist"))
    released(1, "a")
    os.makedirs(f"{store.build_directory('shop', BUILDS['c'])}/dist/deep")
    published.publish("shop", app(x="dist", y="dist/deep"))
    assert published.plan("shop", app(x="dist", y="dist/deep")) == {}


def test_a_page_of_an_error_that_the_declared_build_lacks_is_refused(app, tmp_path):
    settings = app()
    settings["site"]["errors"] = {"502": "static/down.html"}
    told = re.escape("app.shop.site.errors.502: the declared build has no file static/down.html; expected a page of ")
    with pytest.raises(CommandExecutionError, match=told):
        published.publish("shop", settings)
    page = tmp_path / "apps/shop/builds" / BUILDS["c"][:12] / "static/down.html"
    page.write_text("down")
    published.publish("shop", settings)
    published.check("shop", settings, ["static"], ["static/down.html"])
    with pytest.raises(CommandExecutionError, match=told):
        published.check("shop", settings, ["static"], [])
    assert published.plan("shop", settings) == {}


def test_a_link_of_an_earlier_build_stands_in_nobodys_way(app, released, tmp_path):
    released(1, "a")
    (tmp_path / "apps/shop/builds" / BUILDS["a"][:12] / "static/link").symlink_to("/etc/passwd")
    published.publish("shop", app())
    assert list((tmp_path / "served/shop").glob("*/static/link")) == []
