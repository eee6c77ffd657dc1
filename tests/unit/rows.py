"""Rows of an inventory."""

ALL = ["database", "cache", "app", "proxy"]


def host(*roles, environment="dev", address="10.0.0.1"):
    """Return a row: of a host with all roles, where none is given."""
    return {"environment": environment, "roles": list(roles or ALL), "address": address}
