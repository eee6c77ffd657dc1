"""Domains that several apps share: whose site they are, and what is refused."""

import pytest

from saltern import apps
from saltern.settings.defaults import with_defaults
from saltern.web import shared

BUILD = {"source": "/app.tar.gz", "sha256": "a" * 64}
DOMAIN = "example.com"


@pytest.fixture
def declared(schemas):
    """A function that returns the settings of apps at one domain, complete, each with what is said of it."""

    def make(**said):
        given = {
            app: {"build": BUILD, "port": 8000 + 100 * number, "domains": [DOMAIN]} | one
            for number, (app, one) in enumerate(said.items())
        }
        return with_defaults(schemas["app"], given)

    return make


def below(path, **site):
    return {"health": {"path": f"{path}up"}, "site": {"path": path} | site}


BLOG = below("/blog/")
HOLDERS = {
    "apps apart": ({"shop": {}, "blog": {"domains": ["b.example.com"]}}, {"shop": "shop", "blog": "blog"}),
    "the one that has the rest": ({"zoo": {}, "blog": BLOG}, {"zoo": "zoo", "blog": "zoo"}),
    "the first of those with paths": ({"shop": below("/s/"), "blog": BLOG}, {"blog": "blog", "shop": "blog"}),
}


@pytest.mark.parametrize("said, expected", HOLDERS.values(), ids=HOLDERS)
def test_one_app_holds_the_site_of_a_domain(declared, said, expected):
    made = declared(**said)
    assert shared.mistakes(made) == []
    assert shared.holders(made) == expected


MISTAKES = {
    "the whole domain twice": (
        {"blog": {}, "shop": {}},
        "app.shop.domains[0]: is also a domain of blog; expected it once, or a path of its own in app.shop.site.path, "
        "such as /shop/",
    ),
    "other domains beside it": (
        {"blog": BLOG, "shop": {"domains": ["www.example.com", DOMAIN]}},
        "app.shop.domains[1]: is also a domain of blog, which has others beside it; apps that share one share all; "
        "expected example.com for both, or no domain twice",
    ),
    "a path below another one": (
        {"blog": BLOG, "shop": below("/blog/shop/")},
        "app.shop.site.path: /blog/shop/ meets /blog/, the path of blog at the same domain; expected paths apart from "
        "each other",
    ),
    "a route of another app": (
        {"blog": BLOG, "shop": {"formation": {"web": 1, "asgi": 1}, "site": {"routes": {"/blog/ws/": "asgi"}}}},
        "app.shop.site.routes./blog/ws/: meets /blog/, which is app.blog.site.path at the same domain; expected paths "
        "apart from each other",
    ),
    "files above another app": (
        {"blog": below("/a/blog/"), "shop": {"site": {"serve": {"/a/": {"build": "static"}}}}},
        "app.shop.site.serve./a/: meets /a/blog/, which is app.blog.site.path at the same domain; expected paths apart "
        "from each other",
    ),
    "an API of another app": (
        {"blog": BLOG, "shop": {"provides": {"v1": {"path": "/blog"}}}},
        "app.shop.provides.v1.path: meets /blog/, which is app.blog.site.path at the same domain; expected paths apart "
        "from each other",
    ),
    "files outside of its path": (
        {"blog": below("/blog/", serve={"/static/": {"build": "static"}})},
        "app.blog.site.serve./static/: is not below app.blog.site.path, /blog/; expected a path below it",
    ),
    "its health outside of its path": (
        {"blog": {"site": {"path": "/blog/"}}},
        "app.blog.health.path: is not below app.blog.site.path, /blog/; expected a path below it",
    ),
    "a path of Saltern's": (
        {"blog": below("/.well-known/")},
        "app.blog.site.path: is where an authority asks for a certificate; expected another path",
    ),
    "a certificate of its own": (
        {"blog": below("/blog/", certificate="canary"), "shop": {}},
        "app.blog.site.certificate: counts for its domains as a whole, of which shop has the site; expected it in "
        "app.shop.site.certificate",
    ),
    "addresses of its own": (
        {"blog": below("/blog/", access={"allow": ["10.0.0.0/8"]}), "shop": {}},
        "app.blog.site.access: counts for its domains as a whole, of which shop has the site; expected it in "
        "app.shop.site.access",
    ),
    "limits of its own": (
        {"blog": below("/blog/", limits={"connections": 5}), "shop": {"site": {"access": {"allow": ["10.0.0.0/8"]}}}},
        "app.blog.site.limits: counts for its domains as a whole, of which shop has the site; expected it in "
        "app.shop.site.limits",
    ),
    "directives of its own": (
        {"blog": below("/blog/", extra="return 204;"), "shop": {}},
        "app.blog.site.extra: counts for its domains as a whole, of which shop has the site; expected it in "
        "app.shop.site.extra",
    ),
    "domains that lead there": (
        {"blog": below("/blog/", redirects={"domains": ["www.example.com"]}), "shop": {}},
        "app.blog.site.redirects.domains: lead to domains of which shop has the site; expected them in "
        "app.shop.site.redirects.domains",
    ),
}


@pytest.mark.parametrize("said, told", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_by_its_path(declared, said, told):
    assert shared.mistakes(declared(**said)) == [told]


def test_the_site_has_what_the_apps_of_its_domains_say(declared):
    headers = {"headers": {"Permissions-Policy": "camera=()"}}
    found = apps.sites(declared(shop={}, blog=below("/blog/", body_size="2g", **headers)), ["app", "proxy"])
    assert (found["sites"].keys(), found["guests"].keys(), found["idle"]) == ({"shop"}, {"blog"}, [])
    shop, blog = found["sites"]["shop"], found["guests"]["blog"]
    assert (shop["guests"], shop["open"], shop["closed"], shop["outside"]) == (["blog"], "|blog/", "", "")
    assert "Permissions-Policy" in shop["told"]
    assert (blog["closed"], blog["routes"]) == (
        "blog/",
        [shared.pseudo_route(declared(blog=BLOG)["blog"]) | {"body_size": "2g"}],
    )
    # At its own port an app has all paths.
    assert found["fronts"]["blog"]["routes"] == []


@pytest.mark.parametrize("away", [(), ("shop",), ("blog",)])
def test_a_site_answers_in_the_place_of_each_app_that_may_be_away(declared, away):
    said = {"shop": {}, "blog": BLOG}
    for app in away:
        said[app] = said[app] | {"order": {"web": "stop-first"}}
    found = apps.sites(declared(**said), ["app", "proxy"])
    assert found["sites"]["shop"]["can_be_away"] is bool(away)
    assert found["guests"]["blog"]["away"] == (["web"] if "blog" in away else [])
    assert {app for app, one in found["fronts"].items() if one["can_be_away"]} == {*away}


def test_what_is_left_of_a_shared_domain_is_served(declared):
    made = declared(shop={}, blog=BLOG)
    assert apps.sites({"shop": made["shop"]}, ["app", "proxy"])["sites"]["shop"]["guests"] == []
    left = apps.sites({"blog": made["blog"]}, ["app", "proxy"])
    assert (left["sites"]["blog"]["outside"], left["guests"]) == ("blog(/|$)", {})
    idle = made | {"shop": made["shop"] | {"formation": {"web": 0}}}
    assert (apps.sites(idle, ["proxy"])["sites"].keys(), apps.sites(idle, ["proxy"])["idle"]) == ({"blog"}, [])


def test_headers_are_those_of_the_app_whose_path_was_asked_for(declared):
    made = declared(zoo={}, blog=below("/a.b/", headers={"Referrer-Policy": "no-referrer", "X-Frame-Options": ""}))
    site = apps.sites(made, ["app", "proxy"])["sites"]["zoo"]
    assert site["by_path"]["page"] == {"holder": "$page_of_zoo", "guests": {"/a[.]b/": "$page_of_blog"}}
    assert site["by_path"]["x_frame_options"]["guests"] == {"/a[.]b/": "''"}
    assert site["by_path"]["referrer_policy"]["guests"] == {"/a[.]b/": "$referrer_policy_of_blog"}
