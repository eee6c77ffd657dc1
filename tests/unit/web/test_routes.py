"""Routes: which process types listen, what nginx is told of a route, and which routes are refused."""

import pytest

from saltern.settings.defaults import with_defaults
from saltern.web import routes

APP = {"port": 8100, "build": {"source": "/shop.tar.gz", "sha256": "a" * 64}, "formation": {"web": 2, "asgi": 1}}


@pytest.fixture
def app(schemas):
    """A function that returns the settings of an app with some routes, complete."""

    def make(given, serve=(), redirects=(), **more):
        site = {"routes": given, "serve": {path: {"build": "static"} for path in serve}}
        site["redirects"] = {"paths": {path: {"to": "/"} for path in redirects}}
        return with_defaults(schemas["app"], {"shop": APP | {"site": site} | more})["shop"]

    return make


LIVE = {"process": "asgi", "health": {"path": "/live/up"}}
MISTAKES = {
    "a type without processes": (
        ({"/flower/": "flower"}, {}),
        "app.shop.site.routes./flower/: no process of the type flower runs; expected app.shop.formation.flower of 1 or "
        "more, or no route",
    ),
    "no web process": (
        ({"/ws/": "asgi"}, {"formation": {"web": 0, "asgi": 1}}),
        "app.shop.site.routes: app.shop.formation has no web process, to which all other paths go; expected web of 1 "
        "or more, or no routes",
    ),
    "files at the same path": (
        ({"/ws/": "asgi"}, {"serve": ["/ws/"]}),
        "app.shop.site.routes./ws/: is app.shop.site.serve./ws/ too; expected it in one of them",
    ),
    "a redirect before it": (
        ({"/live/ws": "asgi"}, {"redirects": ["/live/", "/"]}),
        "app.shop.site.routes./live/ws: app.shop.site.redirects.paths./live/ leads elsewhere before; expected one of "
        "them",
    ),
    "a path of Saltern's": (
        ({"/.saltern/x": "asgi"}, {}),
        "app.shop.site.routes./.saltern/x: is Saltern's own; expected another path",
    ),
    "what is above an authority's path": (
        ({"/.well-known/": "asgi"}, {}),
        "app.shop.site.routes./.well-known/: is where an authority asks for a certificate; expected another path",
    ),
    "an API of the app's": (
        ({"/api/": "asgi"}, {"provides": {"v1": {"path": "/api/v1"}}}),
        "app.shop.site.routes./api/: would hide app.shop.provides.v1; expected another path",
    ),
    "the health of web": (
        ({"/up/": "asgi"}, {"health": {"path": "/up/now?a=b"}}),
        "app.shop.site.routes./up/: would hide app.shop.health.path; expected another path",
    ),
    "a path that would be empty": (
        ({"/ws": {"process": "asgi", "strip": True}}, {}),
        "app.shop.site.routes./ws.strip: nothing of this path would be left; expected a path that ends with a slash",
    ),
    "another health of web": (
        ({"/up": {"process": "web", "health": {"status": 204}}}, {}),
        "app.shop.site.routes./up.health: the health of web processes is app.shop.health; expected it there",
    ),
    "two ways to ask one type": (
        ({"/a/": LIVE, "/b/": "asgi"}, {}),
        "app.shop.site.routes./b/.health: processes of the type asgi are asked in one way, and "
        "app.shop.site.routes./a/ has another; expected the same",
    ),
    "one process of the environment": (
        ({"/ws/": "asgi"}, {"count": {"asgi": "environment"}}),
        "app.shop.count.asgi: a route of app.shop.site.routes leads to asgi, and each app host answers it; expected "
        "host, or no count",
    ),
    "a job": (
        ({"/ws/": "asgi"}, {"jobs": {"sweep": {"process": "asgi", "every": "10m"}}}),
        "app.shop.jobs.sweep.process: a route of app.shop.site.routes leads to asgi; expected a process type without a "
        "port",
    ),
}


@pytest.mark.parametrize("given, told", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_by_its_path(app, given, told):
    made, more = given
    assert routes.mistakes("shop", app(made, **more)) == [told]


def test_routes_beside_files_and_redirects_are_no_mistake(app):
    made = {"/live/": "asgi", "/live/up": "web", "/media/live/": "asgi"}
    one = app(made, ["/media/", "/live/static/"], ["/", "/live/old", "/old/"], provides={"v1": {"path": "/v1"}})
    assert routes.mistakes("shop", one) == []


def test_the_longest_path_comes_first_and_has_what_the_site_has_where_it_says_nothing_else(app):
    found = routes.derived(app({"/a/": "asgi", "/a/b/": {"process": "web", "body_size": "2g", "buffering": False}}))
    assert found == [
        {"path": "/a/b/", "start": "/a/b", "process": "web", "body_size": "2g", "timeout": 60, "idle": 3600}
        | {"buffering": False, "strip": False},
        {"path": "/a/", "start": "/a", "process": "asgi", "body_size": "10m", "timeout": 60, "idle": 3600}
        | {"buffering": True, "strip": False},
    ]


def test_a_type_listens_where_a_route_names_it_and_is_asked_as_that_route_says(app):
    one = app({"/a/": LIVE, "/b/": LIVE, "/c": "web"}, health={"status": 204})
    assert (routes.listening(one), routes.others(one)) == (["web", "asgi"], ["asgi"])
    assert (routes.health(one, "web")["path"], routes.health(one, "asgi")["path"]) == ("/healthz", "/live/up")
    assert routes.health(one, "asgi")["status"] == 204
    assert routes.health_setting("shop", one, "asgi") == "app.shop.site.routes./a/.health.path"
    assert routes.health_setting("shop", one, "web") == "app.shop.health.path"


def test_the_longest_time_that_an_answer_may_take_is_told_with_its_setting(app):
    assert routes.timeout(app({"/a/": "asgi"})) == (60, "site.timeout")
    assert routes.timeout(app({"/a/": {"process": "asgi", "timeout": 600}})) == (600, "site.routes./a/.timeout")
