"""Who may open a site: which declarations are refused, and what becomes of a client."""

import ipaddress
import re

import pytest

from saltern.web import access

NONE = {"users": {}, "allow": [], "deny": [], "satisfy": "any", "paths": [], "exempt_paths": []}


def app(**said):
    return {"site": {"access": NONE | said}}


EXPECTED = "expected one such as 10.0.0.0/8 or 2001:db8::/32"
MISTAKES = {
    "no address": (app(allow=["10.0.0.0/8", "1.2.3"]), [f"allow[1]: is no network; {EXPECTED}"]),
    "no prefix": (app(deny=["::1/129"]), [f"deny[0]: is no network; {EXPECTED}"]),
    "an address inside a network": (
        app(allow=["10.1.0.0/8"]),
        [
            "allow[0]: has an address inside the network; expected its first one, such as 10.0.0.0/8, or a prefix of "
            "one host"
        ],
    ),
    "one in both lists, written in two ways": (
        app(allow=["2001:db8:0::1"], deny=["10.0.0.0/8", "2001:DB8::1/128"]),
        ["deny[1]: is in app.shop.site.access.allow too; expected it in one of them"],
    ),
    "paths of nothing": (
        app(paths=["/admin/"], exempt_paths=["/healthz"]),
        [f"{word}: nobody is kept out; expected users, allow or deny beside it" for word in ("paths", "exempt_paths")],
    ),
    "passwords that nobody could log in with": (
        app(users={"ada": "\u20ac" * 171, "bob": "\u20ac" * 170, "cleo": "a\ud800"}),
        [
            "users.ada: is too long in UTF-8; expected at most 511 bytes",
            "users.cleo: expected text that UTF-8 can encode",
        ],
    ),
    "exempt paths that leave nothing of a path": (
        app(users={"ada": "x"}, paths=["/admin", "/shop/"], exempt_paths=["/admin/", "/shop/hooks/", "/shop"]),
        ["exempt_paths[0]: would open all of /admin, which is in app.shop.site.access.paths; expected a path below it"],
    ),
}


@pytest.mark.parametrize("one, told", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_by_its_path(one, told):
    assert access.mistakes("shop", one) == [f"app.shop.site.access.{message}" for message in told]
    assert access.mistakes("shop", app()) == []
    right = app(users={"ada": "x"}, allow=["10.0.0.0/8", "::1"], deny=["10.1.0.0/16", "10.0.0.1"], paths=["/admin/"])
    assert access.mistakes("shop", right) == []


ADA = {"ada": "secret-0123456789"}
# What becomes of a client whose address is allowed, denied, and in neither list.
ANSWERS = {
    "everybody": (app(), ("open", "open", "open")),
    "users alone": (app(users=ADA), ("password", "password", "password")),
    "an allowed address": (app(allow=["10.1.0.0/16"]), ("open", "refused", "refused")),
    "a denied address": (app(deny=["10.2.0.0/16"]), ("open", "refused", "open")),
    "an allowed one in a denied network": (
        app(allow=["10.1.0.0/16"], deny=["10.0.0.0/8"]),
        ("open", "refused", "refused"),
    ),
    "either": (app(users=ADA, allow=["10.1.0.0/16"]), ("open", "password", "password")),
    "either, and denied": (
        app(users=ADA, allow=["10.1.0.0/16"], deny=["10.2.0.0/16"]),
        ("open", "refused", "password"),
    ),
    "both": (
        app(users=ADA, allow=["10.1.0.0/16"], deny=["10.2.0.0/16"], satisfy="all"),
        ("password", "refused", "refused"),
    ),
    "users, but denied": (app(users=ADA, deny=["10.2.0.0/16"]), ("password", "refused", "password")),
    "users, with all and no list": (app(users=ADA, satisfy="all"), ("password", "password", "password")),
}


def answer(found, address):
    """Return what nginx's geo says of an address: the longest prefix counts."""
    networks = [ipaddress.ip_network(one) for one in found["networks"]]
    within = [one for one in networks if ipaddress.ip_address(address) in one]
    return found["networks"][str(max(within, key=lambda one: one.prefixlen))] if within else found["others"]


@pytest.mark.parametrize("one, expected", ANSWERS.values(), ids=ANSWERS)
def test_what_becomes_of_a_client_follows_from_its_address(one, expected):
    found = access.derived(one)
    assert tuple(answer(found, address) for address in ("10.1.0.1", "10.2.0.1", "192.0.2.1")) == expected
    assert found["counts"] is (one != app())
    assert found["asks"] is bool(one["site"]["access"]["users"])


def test_no_password_is_among_what_nginx_needs():
    assert "secret" not in str(access.derived(app(users=ADA)))


# Whether access counts for a path: of a site with paths, and with exempt ones.
PATHS = {
    "/": (False, True),
    "/admin": (True, True),
    "/admin/": (True, True),
    "/admin/a": (True, True),
    "/admin\n": (True, True),
    "/administrator": (False, True),
    "/x/admin/": (False, True),
    "/a.b/c": (True, True),
    "/axb/c": (False, True),
    "/healthz": (False, False),
    "/healthz\n": (False, True),
    "/healthz/": (False, True),
    "/hooks": (False, True),
    "/hooks/a": (False, False),
    "/v1.0/x": (False, False),
    "/v1x0/x": (False, True),
}


@pytest.mark.parametrize("path, expected", PATHS.items(), ids=map(repr, PATHS))
def test_a_path_counts_as_it_is_declared(path, expected):
    some = access.derived(app(users=ADA, paths=["/admin/", "/a.b"]))
    but = access.derived(app(users=ADA, exempt_paths=["/healthz", "/hooks/", "/v1.0/"]))

    def counts(found):
        exempt, own = (any(re.match(one, path) for one in found[word]) for word in ("exempt", "paths"))
        return own and not exempt

    assert tuple(map(counts, (some, but))) == expected
