"""What a schema cannot tell of the apps' settings, and what nginx serves of them."""

from collections.abc import Mapping, Sequence
from typing import Any

App = Mapping[str, Any]


def mistakes(app: str, one: App) -> list[str]:
    """List the mistakes inside one app's settings.

    :param app: its name.
    :param one: its settings, with defaults.
    """
    found = []
    if one["in_flight"]["requests"] < one["site"]["timeout"]:
        found.append(
            f"app.{app}.in_flight.requests: {one['in_flight']['requests']} s would cut off answers that "
            f"app.{app}.site.timeout allows; expected at least {one['site']['timeout']}"
        )
    for variable in sorted(set(one["attach"]) & set(one["config"])):
        found.append(f"app.{app}.config.{variable}: is also in app.{app}.attach; expected it in one of them")
    for variable, value in sorted(one["config"].items()):
        try:
            size = len(f"{variable}={value}".encode())
        except UnicodeEncodeError:
            found.append(f"app.{app}.config.{variable}: expected text that UTF-8 can encode")
            continue
        # Linux's MAX_ARG_STRLEN: one string of an environment, with its NUL; see execve(2).
        if size >= 131072:
            found.append(f"app.{app}.config.{variable}: {size} bytes with its name; expected less than 131072")
    return found


def duplicates(apps: Mapping[str, App]) -> list[str]:
    """List the ports and domains that two apps claim.

    :param apps: settings by app, with defaults.
    """
    found: list[str] = []
    ports: dict[int, str] = {}
    domains: dict[str, tuple[str, int]] = {}
    for app, one in sorted(apps.items()):
        first = ports.setdefault(one["port"], app)
        if first != app:
            found.append(f"app.{app}.port: is also the port of {first}; expected one of its own")
        for index, domain in enumerate(one["domains"]):
            owner = domains.setdefault(domain, (app, index))
            if owner != (app, index):
                found.append(f"app.{app}.domains[{index}]: is also a domain of {owner[0]}; expected it once")
    return found


def sites(apps: Mapping[str, App], roles: Sequence[str]) -> dict[str, Any]:
    """Return what nginx serves on a host: the sites of proxies, and the fronts of app hosts.

    :param apps: settings by app, with defaults.
    :param roles: the host's.
    :return: ``sites`` and ``fronts``, each by app, and the domains of apps that serve nothing, ``idle``.
    """
    web = {app: one for app, one in sorted(apps.items()) if one["formation"].get("web")}
    idle = [domain for app, one in sorted(apps.items()) if app not in web for domain in one["domains"]]
    return {
        "sites": {app: _site(one) for app, one in web.items() if one["domains"] and "proxy" in roles},
        "idle": idle if "proxy" in roles else [],
        "fronts": {app: _site(one) for app, one in web.items() if "app" in roles},
    }


def _site(one: App) -> dict[str, Any]:
    its = {word: value for word, value in one["site"].items() if word not in ("certificate", "key")}
    return {"domains": one["domains"], "port": one["port"], **its}
