"""Files that nginx serves: which paths are refused, and what becomes of the others."""

import re

import pytest

from saltern.web import served


def app(serve, attach=None, errors=None, **more):
    complete = {path: {"internal": False} | one for path, one in serve.items()}
    attach = {"MEDIA_ROOT": {"storage": "media"}} if attach is None else attach
    site = {"serve": complete, "errors": errors or {}}
    return {"site": site, "attach": attach, "provides": {}, "formation": {"web": 1}} | more


MEDIA = {"storage": "media"}
MISTAKES = {
    "a storage of another app": (
        app({"/media/": {"storage": "photos"}}),
        ["/media/.storage: shop attaches no storage of this name; expected one of media"],
    ),
    "no storage at all": (
        app({"/media/": MEDIA}, attach={}),
        ["/media/.storage: shop attaches no storage of this name; expected one that shop attaches"],
    ),
    "one path below another": (
        app({"/media/": MEDIA, "/media/small/": MEDIA}),
        ["/media/small/: is below /media/, which is served too; expected paths apart from each other"],
    ),
    "a path of Saltern's": (
        app({"/.saltern/x/": MEDIA}),
        ["/.saltern/x/: is Saltern's own; expected another path"],
    ),
    "the path of an authority": (
        app({"/.well-known/acme-challenge/": MEDIA}),
        ["/.well-known/acme-challenge/: is where an authority asks for a certificate; expected another path"],
    ),
    "a path of an API": (
        app({"/api/": MEDIA}, provides={"v1": {"path": "/api/v1"}, "v2": {"path": "/v2"}}),
        ["/api/: would hide app.shop.provides.v1; expected another path"],
    ),
    "no place at all": (
        app({"/media/": {}}),
        ["/media/: expected one place of files, such as {build: static} or {storage: media}"],
    ),
    "two places": (
        app({"/media/": MEDIA | {"build": "static"}}),
        ["/media/: expected one place of files, such as {build: static} or {storage: media}"],
    ),
    "files of a build that the app must permit": (
        app({"/static/": {"build": "static", "internal": True}}),
        ["/static/.internal: what a build has is for everybody; expected it beside a storage"],
    ),
    "a cache of what the app permits": (
        app({"/media/": MEDIA | {"internal": True, "cache": 60}}),
        ["/media/.cache: is the app's to say, in the answer that permits a file; expected none"],
    ),
}


@pytest.mark.parametrize("one, told", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_by_its_path(one, told):
    assert served.mistakes("shop", one) == [f"app.shop.site.serve.{message}" for message in told]
    assert served.mistakes("shop", app({"/media/": MEDIA, "/mediax/": MEDIA | {"internal": True}})) == []


def test_what_nginx_serves_follows():
    found = served.locations(app({"/b/": MEDIA | {"cache": 60}, "/a/": MEDIA, "/c/": MEDIA | {"internal": True}}))
    assert [(one["path"], one["internal"], one["cache"]) for one in found] == [
        ("/a/", False, "no-cache"),
        ("/b/", False, "public, max-age=60"),
        ("/c/", True, "private, no-cache"),
    ]
    assert {one["directory"] for one in found} == {"/srv/storage/media/files"}


def test_nginx_serves_nothing_of_what_is_somebody_elses():
    one = app({"/media/": MEDIA}, attach={"MEDIA_ROOT": MEDIA | {"url": "s3://bucket"}})
    assert (served.mistakes("shop", one), served.locations(one)) == ([], [])


def test_files_of_a_build_are_those_of_as_many_releases_as_are_kept():
    one = app({"/static/": {"build": "static"}, "/a/": {"build": "dist", "cache": 60}}, attach={}, keep_releases=7)
    assert served.mistakes("shop", one) == []
    assert [{**location, "hidden": ""} for location in served.locations(one)] == [
        {"path": path, "directory": name, "internal": False, "cache": cache, "hidden": "", "releases": 7}
        for path, name, cache in (("/a/", "dist", "public, max-age=60"), ("/static/", "static", "no-cache"))
    ]


# Whether a path is hidden: among uploads, and among files of a build.
HIDDEN = {
    "/m.d/a.txt": (False, False),
    "/m.d/.git/config": (True, True),
    "/m.d/a/b/.env": (True, True),
    "/m.d/a\n/.env": (True, True),
    "/m.d/.well-known/x": (True, False),
    "/m.d/a/.well-known/x": (True, False),
    "/m.d/.well-known": (True, True),
    "/m.d/.well-known/.git": (True, True),
    "/m.d/...": (True, True),
    "/m.d/a./b.": (False, False),
    "/mxd/.git/config": (False, False),
}


@pytest.mark.parametrize("path, expected", HIDDEN.items())
def test_a_name_that_begins_with_a_dot_is_hidden(path, expected):
    of_uploads = served.locations(app({"/m.d/": MEDIA}))
    of_builds = served.locations(app({"/m.d/": {"build": "static"}}, attach={}, keep_releases=1))
    found = tuple(bool(re.search(one["hidden"], path)) for one in (*of_uploads, *of_builds))
    assert found == expected


PAGES = {
    "no directory is served": ({}, "expected one and its directory in app.shop.site.serve"),
    "a directory of another name": ({"/a/": {"build": "a"}, "/b/": {"build": "b"}}, "expected one below a or b"),
    "a directory that begins alike": ({"/a/": {"build": "static/err"}}, "expected one below static/err"),
}


@pytest.mark.parametrize("serve, told", PAGES.values(), ids=PAGES)
def test_a_page_of_an_error_is_where_nginx_reads_it(serve, told):
    errors = {"502": "static/errors/502.html", "404": "static/errors/404.html"}
    assert served.mistakes("shop", app(serve, errors=errors)) == [
        f"app.shop.site.errors.{status}: nginx reads no such file of the build; {told}" for status in ("404", "502")
    ]
    one = app({"/static/": {"build": "static"}}, errors=errors, keep_releases=3)
    assert served.mistakes("shop", one) == []
    assert [(page["status"], page["releases"]) for page in served.pages(one)] == [(404, 3), (502, 3)]


PATHS = {
    "/healthz": "/healthz",
    "/a.b/?c=(d+e)*": "/a[.]b/[?]c=[(]d[+]e[)][*]",
    '/"$x{1}\\': "/%22%24x%7B1%7D%5C",
    "/[^a]|b": "/%5B%5Ea%5D%7Cb",
}


@pytest.mark.parametrize("path, expected", PATHS.items())
def test_a_path_is_no_expression_to_nginx(path, expected):
    assert served.pattern(path) == expected
    assert re.fullmatch(expected, served.encoded(path))
