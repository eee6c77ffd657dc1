"""Hosts and apps, as a pillar declares them."""

from tests.unit.rows import host

ONE = {"one": host()}
SPLIT = {
    "db": host("database", address="10.0.0.2"),
    "cache": host("cache", address="10.0.0.3"),
    "web1": host("app", address="10.0.0.4"),
    "web2": host("app", address="10.0.0.5"),
    "front": host("proxy", address="10.0.0.6"),
    "elsewhere": host(environment="production", address="10.0.0.7"),
}


def app(port=8000, **settings):
    return {"port": port, "build": {"source": "/a.tar.gz", "sha256": "0" * 64}} | settings


BOTH = {"shop": app(attach={"A": {"postgres": "shop"}, "B": {"redis": "shop"}})}
STOCK = {"B": {"postgres": "stock"}, "C": {"redis": "jobs"}}
