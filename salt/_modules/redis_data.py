"""Whose the data of a Redis instance is: of one that runs by its configuration, of one that is kept by a note."""

import os
import re

__load__ = ["holder", "told"]

MANAGED = "Managed by Saltern"


def holder(instance, app, directory):
    """Return why an app cannot have an instance: it holds the data of another app. ``None`` where it can.

    :param instance: its name.
    :param app: the app that attaches it.
    :param directory: of the configuration, ``/etc/redis``.

    CLI Example:

    .. code-block:: bash

        salt-call redis_data.holder jobs helpdesk /etc/redis
    """
    owner = __salt__["kept.of"]("redis", instance).get("app") or told(instance, directory).get("app")
    if owner in (None, app):
        return None
    return (
        f"app.{app}.attach: the Redis instance {instance} holds the data of {owner}; expected a name of its own. "
        "Remove that data for good as salt-call app.orphans says, or hand it over: formulas/redis/README.md"
    )


def told(instance, directory):
    """Return whose an instance is and at which port, as its configuration says. Empty where that is not ours.

    :param instance: its name.
    :param directory: of the configuration, ``/etc/redis``.
    :return: ``app`` and ``port``, each text or ``None``.

    CLI Example:

    .. code-block:: bash

        salt-call redis_data.told jobs /etc/redis
    """
    try:
        path = f"{directory}/redis-{instance}.conf"
        with open(path, encoding="utf-8", errors="replace", opener=_carefully) as stream:
            text = stream.read()
    except OSError:
        return {}
    first, _, rest = text.partition("\n")
    if MANAGED not in first:
        return {}
    found = {
        "app": re.search(r"belongs to the app ([a-z0-9-]+)\.", first),
        # Before there was TLS it was the port.
        "port": re.search(r"(?m)^(?:tls-)?port ([1-9]\d*)$", rest),
    }
    return {key: match and match[1] for key, match in found.items()}


def _carefully(path, flags):
    """Open a file without going where a link leads, and without waiting for who writes into a fifo."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
