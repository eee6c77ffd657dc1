"""Limits of a site: which declarations are refused, what nginx is told, and who counts as one client."""

import re
from pathlib import Path

import pytest

from saltern.web import rates

ROOT = Path(__file__).parents[3]
NONE = {"exempt_addresses": [], "exempt_paths": []}


def app(serve=(), **said):
    return {"site": {"limits": NONE | said, "serve": {path: {} for path in serve}}}


UNLIMITED = "nothing is limited; expected"
MISTAKES = {
    "no address": (
        app(rate="1/s", exempt_addresses=["1.2.3.256"]),
        ["exempt_addresses[0]: is no network; expected one such as 10.0.0.0/8 or 2001:db8::/32"],
    ),
    "what does not count of nothing": (
        app(exempt_addresses=["10.0.0.0/8"], exempt_paths=["/a"]),
        [f"{word}: {UNLIMITED} rate or connections beside it" for word in ("exempt_addresses", "exempt_paths")],
    ),
    "a burst of nothing": (app(connections=1, burst=2), [f"burst: {UNLIMITED} rate beside it"]),
}


@pytest.mark.parametrize("one, told", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_by_its_path(one, told):
    assert rates.mistakes("shop", one) == [f"app.shop.site.limits.{message}" for message in told]
    assert rates.mistakes("shop", app()) == []
    assert rates.mistakes("shop", app(connections=1, rate="1/m", exempt_paths=["/a"])) == []


# What nginx is told: the rate, the burst, the connections at once, and the seconds to wait.
TOLD = {
    "nothing": (app(), (False, "", 1, 0, 1)),
    "a rate": (app(rate="10/s"), (True, "10r/s", 10, 0, 1)),
    "a rate by the minute": (app(rate="100/m", burst=0), (True, "100r/m", 0, 0, 1)),
    "a slow one": (app(rate="7/m", burst=3), (True, "7r/m", 3, 0, 9)),
    "the slowest one": (app(rate="1/m"), (True, "1r/m", 1, 0, 60)),
    "connections": (app(connections=5), (True, "", 1, 5, 1)),
}


@pytest.mark.parametrize("one, expected", TOLD.values(), ids=TOLD)
def test_what_nginx_is_told_follows(one, expected):
    found = rates.derived(one)
    assert tuple(found[word] for word in ("counts", "rate", "burst", "connections", "wait")) == expected


PATHS = {"/": False, "/static/a.css": True, "/static": False, "/hooks/a": True, "/healthz": True, "/healthz/a": False}


@pytest.mark.parametrize("path, exempt", PATHS.items())
def test_files_and_exempt_paths_do_not_count(path, exempt):
    found = rates.derived(app(["/static/"], rate="1/s", exempt_paths=["/healthz", "/hooks/"]))
    assert any(re.match(pattern, path) for pattern in found["paths"]) is exempt


CLIENTS = {
    "192.0.2.7": "192.0.2.7",
    "2001:db8:1:2:3:4:5:6": "2001:db8:1:2:",
    "2001:db8:1:2::6": "2001:db8:1:2:",
    "2001:db8:1:2:3::": "2001:db8:1:2:",
    "2001:db8::1": "2001:db8::",
    "2001:db8::a:b:c:d": "2001:db8::",
    "2001:db8::7:a:b:c:d": "2001:db8::7:",
    "2001::8:7:a:b:c:d": "2001::8:7:",
    "::1": "::",
    "::": "::",
}


@pytest.mark.parametrize("address, expected", CLIENTS.items())
def test_a_network_of_64_bits_of_ipv6_is_one_client(address, expected):
    text = (ROOT / "formulas/nginx/files/nginx.conf.jinja").read_text()
    (block,) = re.findall(r"map \$remote_addr \$network_of_client \{\n(.*?)\}\n\n", text, re.DOTALL)
    for pattern, name in re.findall(r'"~(.*)" \$(\w+);', block):
        if match := re.search(pattern.replace("?<", "?P<"), address):
            assert match[name] == expected
            return
    assert address == expected
