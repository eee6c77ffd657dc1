"""Rows of an inventory."""

ALL = ["database", "cache", "app", "proxy"]


def host(*roles, environment="dev", address="10.0.0.1"):
    """Return the row of a host; without roles it has all of them."""
    return {"environment": environment, "roles": list(roles or ALL), "address": address}
