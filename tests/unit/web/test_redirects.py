"""Redirects: which are refused, and what nginx matches and answers."""

import re

import pytest

from saltern.web import redirects

DOMAINS = ["shop.example.com", "shop.example.net"]


def app(paths=None, domains=(), own=DOMAINS):
    complete = {
        path: {"status": 302} | (one if isinstance(one, dict) else {"to": one}) for path, one in (paths or {}).items()
    }
    return {"domains": [*own], "site": {"redirects": {"domains": [*domains], "paths": complete}}}


MISTAKES = {
    "no domain to lead to": (
        app(domains=["www.example.com"], own=[]),
        ["domains: there is no domain to lead to; expected one in app.shop.domains"],
    ),
    "itself": (app({"/a": "/a"}), ["paths./a: leads from one redirect to the next (/a -> /a); expected an end"]),
    "itself with a query": (
        app({"/a": "/a?x=1"}),
        ["paths./a: leads from one redirect to the next (/a -> /a); expected an end"],
    ),
    "itself at another domain of its own": (
        app({"/a": "http://www.example.com/a"}, ["www.example.com"]),
        ["paths./a: leads from one redirect to the next (/a -> /a); expected an end"],
    ),
    "itself at a domain for which a star stands": (
        app({"/a": "http://x.example.com/a"}, own=["example.com", "*.example.com"]),
        ["paths./a: leads from one redirect to the next (/a -> /a); expected an end"],
    ),
    "one to another and back": (
        app({"/a": "/b", "/b": "https://shop.example.net/a"}),
        [
            f"paths./{one}: leads from one redirect to the next (/{one} -> /{two} -> /{one}); expected an end"
            for one, two in ("ab", "ba")
        ],
    ),
    "what is below it": (
        app({"/a/": "/a/b"}),
        ["paths./a/: leads from one redirect to the next (/a/ -> /a/b -> /a/b); expected an end"],
    ),
    "what is below it, deeper and deeper": (
        app({"/a/": "/a/b/"}),
        ["paths./a/: leads from one redirect to the next (/a/ -> /a/b/ -> /a/b/b/ -> /a/b/b/b/); expected an end"],
    ),
    "what follows makes it come back": (
        app({"/a/": "/", "/b/": "/a/b/"}),
        ["paths./b/: leads from one redirect to the next (/b/ -> /a/b/ -> /b/); expected an end"],
    ),
    "the first page": (
        app({"/": "/x/", "/x/": "/"}),
        [
            "paths./: leads from one redirect to the next (/ -> /x/ -> /); expected an end",
            "paths./x/: leads from one redirect to the next (/x/ -> / -> /x/); expected an end",
        ],
    ),
    "paths of Saltern's and of an authority": (
        app({"/.saltern/x": "/y", "/.well-known/acme-challenge/": "/z"}),
        [
            "paths./.saltern/x: is Saltern's own; expected another path",
            "paths./.well-known/acme-challenge/: is where an authority asks for a certificate; expected another path",
        ],
    ),
    "a path after a query": (
        app({"/a/": "/b?c=/"}),
        ["paths./a/: what is below it cannot follow a ? or #; expected an address without"],
    ),
}


@pytest.mark.parametrize("one, told", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_by_its_path(one, told):
    assert sorted(redirects.mistakes("shop", one)) == sorted(f"app.shop.site.redirects.{message}" for message in told)


def test_what_leads_on_to_an_end_is_no_mistake():
    one = app(
        {"/a": "/b", "/b": "/c/", "/d/": "/", "/": "/start", "/e": "https://elsewhere.example.com/e"}, ["www.a.b"]
    )
    assert redirects.mistakes("shop", one) == []
    assert redirects.names(one) == [*DOMAINS, "www.a.b"]


def leads(one, target):
    """Return the status and the address by which nginx answers a request's target, as it reads its map."""
    found = {}
    for status, paths in redirects.derived(one)["paths"].items():
        for path in paths:
            if match := re.match(path["pattern"].replace("?<", "?P<"), target):
                rest = match.groupdict().get("rest_of_redirect", "")
                query = target.partition("?")
                address = (
                    path["target"].replace("$rest_of_redirect", rest).replace("$is_args$args", query[1] + query[2])
                )
                found[status] = address.removeprefix("$forwarded_proto://$forwarded_host")
                break
    (answer,) = [(status, address) for status, address in found.items() if address] or [None]
    return answer


PATHS = {
    "/old": "/new",
    "/o.d": {"to": "/new?x=1", "status": 301},
    "/blog/": {"to": "https://blog.example.com/", "status": 308},
    "/blog/in/": {"to": "/", "status": 301},
    "/gone/": "/sorry",
    "/": "/start",
}
LED = {
    "/old": (302, "/new"),
    "/old?a=b": (302, "/new?a=b"),
    "/older": None,
    "/old/": None,
    "/o.d?a=b": (301, "/new?x=1"),
    "/oxd": None,
    "/blog": None,
    "/blog/": (308, "https://blog.example.com/"),
    "/blog/a/b%0d%0aX:y?q=$host": (308, "https://blog.example.com/a/b%0d%0aX:y?q=$host"),
    "/blog/in/c": (301, "/c"),
    "/gone/a/b?c": (302, "/sorry?c"),
    "/?a": (302, "/start?a"),
    "/x": None,
}


@pytest.mark.parametrize("target, expected", LED.items())
def test_the_longest_path_counts_and_what_is_below_a_slash_follows(target, expected):
    assert leads(app(PATHS), target) == expected
