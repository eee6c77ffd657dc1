"""Domains of an app, of which one may stand for many."""

import re

import pytest

from saltern.web import domains

COVERED = [
    ("shop.example.com", ["shop.example.com"], True),
    ("shop.example.com", ["Shop.Example.com"], True),
    ("shop.example.com", ["*.example.com"], True),
    ("a.shop.example.com", ["*.example.com"], False),
    ("example.com", ["*.example.com"], False),
    ("localhost", ["*."], False),
    ("shop.example.com", [], False),
    ("*.example.com", ["*.example.com"], True),
    ("*.example.com", ["a.example.com", "*.com"], False),
]


@pytest.mark.parametrize("domain, names, expected", COVERED)
def test_a_name_covers_a_domain(domain, names, expected):
    assert domains.is_covered(domain, names) is expected


def test_the_first_domain_is_one_in_full():
    assert domains.mistakes("shop", {"domains": []}) == []
    assert domains.mistakes("shop", {"domains": ["shop.example.com", "*.shop.example.com"]}) == []
    assert domains.mistakes("shop", {"domains": ["*.shop.example.com", "shop.example.com"]}) == [
        "app.shop.domains[0]: stands for many domains, and redirects and health checks go to the first one; expected "
        "one domain before it, such as shop.example.com"
    ]


HOSTS = {
    "shop.example.com": True,
    "a.shop.example.com": True,
    "a-b.shop.example.com": True,
    "a.b.shop.example.com": False,
    ".shop.example.com": False,
    "a.shopxexample.com": False,
    "ashop.example.com": False,
    "a.shop.example.com.evil.example": False,
    "example.com": False,
}


@pytest.mark.parametrize("host, expected", HOSTS.items())
def test_a_star_stands_for_one_name(host, expected):
    found = domains.patterns(["shop.example.com", "*.shop.example.com"])
    matches = [re.search(one[1:], f"is {host}") if one.startswith("~") else one == f"is {host}" for one in found]
    assert any(matches) is expected
