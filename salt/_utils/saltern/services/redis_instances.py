"""The Redis instances of a host as their configuration says: whose each is, and which of them nobody attaches."""

import glob
import os
import re
from collections.abc import Collection

from saltern import kept
from saltern.host import Host

MANAGED = "Managed by Saltern"


def unit(name: str) -> str:
    """Return the unit of an instance."""
    return f"redis-server@{name}"


def path(directory: str, name: str) -> str:
    """Return the path of an instance's configuration.

    :param directory: of the configuration, ``/etc/redis``.
    :param name: the instance.
    """
    return f"{directory}/redis-{name}.conf"


def told(name: str, directory: str) -> dict[str, str | None]:
    """Return whose an instance is and at which port, as its configuration says. Empty where Saltern did not write it.

    :param name: the instance.
    :param directory: of the configuration, ``/etc/redis``.
    :return: ``app`` and ``port``, each text or ``None``.
    """
    try:
        with open(path(directory, name), encoding="utf-8", errors="replace", opener=_carefully) as stream:
            text = stream.read()
    except OSError:
        return {}
    first, _, rest = text.partition("\n")
    if MANAGED not in first:
        return {}
    found = {
        "app": re.search(r"belongs to the app ([a-z0-9-]+)\.", first),
        # Earlier versions had no TLS, and then the port is `port`.
        "port": re.search(r"(?m)^(?:tls-)?port ([1-9]\d*)$", rest),
    }
    return {key: match and match[1] for key, match in found.items()}


def _carefully(name: str, flags: int) -> int:
    """Open a file, but follow no link, and do not wait for a writer where the file is a fifo."""
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def holder(name: str, app: str, directory: str) -> str:
    """Say why an app cannot have an instance: it holds the data of another app. Empty where the app can have it.

    :param name: the instance.
    :param app: the app that attaches it.
    :param directory: of the configuration, ``/etc/redis``.
    """
    owner = kept.of("redis", name).get("app") or told(name, directory).get("app")
    if owner in (None, app):
        return ""
    return (
        f"app.{app}.attach: the Redis instance {name} holds the data of {owner}; expected a name of its own. "
        "Remove that data for good as salt-call app.orphans says, or hand it over: formulas/redis/README.md"
    )


def gone(directory: str, attached: Collection[str]) -> list[str]:
    """List the instances that Saltern configured and nobody attaches, sorted.

    :param directory: of the configuration, ``/etc/redis``.
    :param attached: the instances that are attached.
    """
    paths = sorted(glob.glob(path(glob.escape(directory), "*")))
    names = [os.path.basename(one).removeprefix("redis-").removesuffix(".conf") for one in paths]
    return [name for name in names if name not in attached and told(name, directory)]


def giving_way(host: Host, directory: str, attached: Collection[str], ports: Collection[int]) -> list[str]:
    """List the instances that nobody attaches and whose port another instance takes over.

    :param host: the host.
    :param directory: of the configuration, ``/etc/redis``.
    :param attached: the instances that are attached.
    :param ports: the ports of these.
    """
    declared = host.pillar["redis"]["instances"]
    leaving = {name: told(name, directory)["port"] for name in gone(directory, attached)}
    # The instance that takes over may be refused, and then nothing would serve.
    refused = {str(declared[one]["port"]) for one in attached if holder(one, declared[one]["owner"], directory)}
    taken = set(map(str, ports)) - refused
    return [name for name, port in leaving.items() if port in taken]
