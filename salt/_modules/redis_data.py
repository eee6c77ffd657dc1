"""Whose the data of a Redis instance is: of one that runs by its configuration, of one that is kept by a note."""

import json
import re

__load__ = ["holder", "kept", "mark", "told"]

MANAGED = "Managed by Saltern"
DATA = "/var/lib/redis"


def holder(instance, app, directory):
    """Return why an app cannot have an instance: it holds the data of another app. ``None`` where it can.

    :param instance: its name.
    :param app: the app that attaches it.
    :param directory: of the configuration, ``/etc/redis``.

    CLI Example:

    .. code-block:: bash

        salt-call redis_data.holder jobs helpdesk /etc/redis
    """
    owner = kept(instance).get("app") or told(instance, directory).get("app")
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
        with open(f"{directory}/redis-{instance}.conf", encoding="utf-8", errors="replace") as stream:
            text = stream.read()
    except FileNotFoundError:
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


def mark(instance):
    """Return the path of the note that says whose the kept data of an instance is.

    :param instance: its name.

    CLI Example: none, it serves the states of ``redis_instance``.
    """
    return f"{DATA}/{instance}.kept"


def kept(instance):
    """Return whose the data of an instance is that is kept, and since when. Empty where none is.

    :param instance: its name.

    CLI Example:

    .. code-block:: bash

        salt-call redis_data.kept jobs
    """
    try:
        with open(mark(instance), encoding="utf-8") as stream:
            return json.load(stream)
    except FileNotFoundError:
        return {}
