"""The time at which these tests issue certificates, and the domains."""

import datetime

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
DOMAINS = ["shop.example.com", "www.example.com"]


def after(**time):
    """Return a later moment.

    :param time: as ``datetime.timedelta`` takes it, such as ``days=2``.
    """
    return NOW + datetime.timedelta(**time)
