"""The Redis instances of the apps, each a unit redis-server@<name>."""

import datetime
import glob
import json
import os
import re

import watching
from salt.exceptions import CommandExecutionError

MANAGED = "Managed by Saltern"
DATA = "/var/lib/redis"


@watching.failure_counts
def attached(name, app, directory):
    """Have an instance's data be that of the app that attaches it, kept from earlier or not yet there.

    Another app would find somebody else's jobs.

    :param name: the instance.
    :param app: the app that attaches it.
    :param directory: of the configuration, ``/etc/redis``.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{app} has the instance {name}"}
    kept = _kept(name)
    owner = kept.get("app") or _told(directory, name).get("app")
    if owner not in (None, app):
        ret["result"] = False
        ret["comment"] = (
            f"app.{app}.attach: the Redis instance {name} holds the data of {owner}; expected a name of its own. "
            "Remove that data for good as salt-call app.orphans says, or hand it over: formulas/redis/README.md"
        )
        return ret
    if not kept:
        return ret
    ret["changes"] = {name: {"old": "kept", "new": "attached"}}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{app} would have the instance {name} again"}
    os.unlink(_mark(name))
    return ret | {"comment": f"{app} has the instance {name} again"}


@watching.failure_counts
def replaced(name, instances, ports):
    """Have no instance on the port of one that takes its place. Its data stays.

    :param name: the directory of the configuration, ``/etc/redis``.
    :param instances: the instances that are attached.
    :param ports: their ports.
    """
    gone = _gone(name, instances)
    return _retired(name, [one for one in gone if _told(name, one)["port"] in map(str, ports)])


@watching.failure_counts
def retired(name, instances):
    """Have no instance that no app attaches any more, and that no release has in its config. Its data stays.

    :param name: the directory of the configuration, ``/etc/redis``.
    :param instances: the instances that are attached.
    """
    gone = _gone(name, instances)
    users = {one: _users(_told(name, one)["port"]) for one in gone}
    ret = _retired(name, [one for one in gone if not users[one]])
    used = [f"{one} runs on for {', '.join(users[one])}" for one in gone if users[one]]
    return ret | {"comment": "; ".join([ret["comment"], *used])}


def _users(port):
    """List who has an instance: releases of this host, or else the other hosts that are connected to it."""
    others = __salt__["redis_connection.remote"](int(port)) if port else []
    return __salt__["attachment.users"]("redis", port) or [f"{one}, which is connected" for one in others]


@watching.failure_counts
def certificate_served(name, port, path):
    """Have a running instance serve the certificate that is on the disk, without a restart.

    :param name: the instance.
    :param port: its port.
    :param path: its key and certificate.
    """
    return _certificate_served(name, port, path, will_change=False)


def mod_watch(name, port, path, sfun=None, **_):
    """Do so after the file was written; in a dry run, say so where it would be."""
    return _certificate_served(name, port, path, will_change=__opts__["test"])


def _certificate_served(name, port, path, will_change):
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} serves its certificate"}
    unit = f"redis-server@{name}"
    # One that does not run, or that this run restarts, reads it when it starts.
    is_restarted = any(one.get("name") == unit and one["changes"] for one in __running__.values())
    among = __salt__["service_config.among"](__instance_id__, __lowstate__, __running__)
    if __salt__["service_config.started"](unit, among=among) is None or (__opts__["test"] and is_restarted):
        return ret
    try:
        if not will_change and __salt__["redis_connection.serves"](port, path):
            return ret
        ret["changes"] = {name: {"old": "another certificate", "new": "served"}}
        if __opts__["test"]:
            return ret | {"result": None, "comment": f"{name} would serve another certificate"}
        __salt__["redis_connection.read_certificate"](name, port, path)
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"{name} serves another certificate"}


def _retired(directory, gone):
    ret = {"name": directory, "changes": {}, "result": True, "comment": "No other instance is there"}
    if not gone:
        return ret
    ret["changes"] = {instance: {"old": "present", "new": None} for instance in gone}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{', '.join(gone)} would be stopped"}
    for instance in gone:
        unit = f"redis-server@{instance}"
        if not (__salt__["service.stop"](unit) and __salt__["service.disable"](unit)):
            return ret | {
                "changes": {},
                "result": False,
                "comment": f"{unit} does not stop; see systemctl status {unit}",
            }
        _keep(instance, _told(directory, instance).get("app"))
        # Last, so that a run that is interrupted is taken up by the next one.
        os.unlink(_path(directory, instance))
    return ret | {"comment": f"{', '.join(gone)} no longer runs; salt-call app.orphans lists the data that is kept"}


def _gone(directory, attached):
    """List the instances whose configuration is ours and that are not attached, sorted."""
    paths = sorted(glob.glob(_path(glob.escape(directory), "*")))
    names = [os.path.basename(path).removeprefix("redis-").removesuffix(".conf") for path in paths]
    return [name for name in names if name not in attached and _told(directory, name)]


def _path(directory, instance):
    return f"{directory}/redis-{instance}.conf"


def _told(directory, instance):
    """Return whose an instance is and at which port, as its configuration says. Empty where that is not ours."""
    try:
        with open(_path(directory, instance), encoding="utf-8", errors="replace") as stream:
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


def _mark(instance):
    return f"{DATA}/{instance}.kept"


def _kept(instance):
    """Return whose the data of an instance is that is kept, empty where none is."""
    try:
        with open(_mark(instance), encoding="utf-8") as stream:
            return json.load(stream)
    except FileNotFoundError:
        return {}


def _keep(instance, app):
    """Note whose the data of an instance is, and since when it is kept."""
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with open(f"{_mark(instance)}.new", "w", encoding="utf-8") as stream:
        json.dump({"app": app, "since": since}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(f"{_mark(instance)}.new", _mark(instance))
