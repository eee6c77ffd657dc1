"""How many requests a client may send to an app's site."""

import math
from collections.abc import Mapping
from typing import Any

from saltern import networks
from saltern.web import paths

Settings = Mapping[str, Any]

# Seconds of the units of a rate.
UNITS = {"s": 1, "m": 60}


def is_declared(limits: Settings) -> bool:
    """Tell whether anything is limited.

    :param limits: the setting ``app.<name>.site.limits``.
    """
    return "rate" in limits or "connections" in limits


def mistakes(app: str, one: Settings) -> list[str]:
    """List the mistakes in the limits of an app's site.

    :param app: its name.
    :param one: its settings, with defaults.
    """
    where, limits = f"app.{app}.site.limits", one["site"]["limits"]
    found = networks.faults(f"{where}.exempt_addresses", limits["exempt_addresses"])
    for word in ("exempt_addresses", "exempt_paths"):
        if limits[word] and not is_declared(limits):
            found.append(f"{where}.{word}: nothing is limited; expected rate or connections beside it")
    if "burst" in limits and "rate" not in limits:
        found.append(f"{where}.burst: nothing is limited; expected rate beside it")
    return found


def derived(one: Settings) -> dict[str, Any]:
    """Return what nginx needs of the limits of an app's site.

    :param one: the app's settings, without mistakes.
    :return: whether anything ``counts``; the ``rate`` in nginx's words, empty for none, and its ``burst``; how many
        ``connections`` at once, 0 for any number; the seconds that a refused client is told to ``wait``; and the
        ``networks`` and regular expressions of ``paths`` that do not count. Files that nginx serves by itself do not.
    """
    limits = one["site"]["limits"]
    number, unit = (limits.get("rate") or "1/s").split("/")
    exempt = sorted({*limits["exempt_paths"], *one["site"]["serve"]})
    return {
        "counts": is_declared(limits),
        "rate": f"{number}r/{unit}" if "rate" in limits else "",
        "burst": limits.get("burst", int(number)),
        "connections": limits.get("connections", 0),
        "wait": math.ceil(UNITS[unit] / int(number)),
        "networks": sorted({networks.whole(text) for text in limits["exempt_addresses"]}),
        "paths": [paths.covered(path) for path in exempt],
    }
