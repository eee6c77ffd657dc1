"""The Redis instances of the apps, each a unit redis-server@<name>."""

import glob
import os

MANAGED = "Managed by Saltern"


def retired(name, instances):
    """Have no instance that no app attaches any more. Its data stays.

    It would hold the port of an instance that takes its place.

    :param name: the directory of the configuration, ``/etc/redis``.
    :param instances: the instances that are attached.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "No other instance is there"}
    gone = [instance for instance in _managed(name) if instance not in instances]
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
        # Last, so that a run that is interrupted is taken up by the next one.
        os.unlink(_path(name, instance))
    return ret | {"comment": f"{', '.join(gone)} no longer runs; the data is in /var/lib/redis"}


def _path(directory, instance):
    return f"{directory}/redis-{instance}.conf"


def _managed(directory):
    """List the instances whose configuration is ours, sorted."""
    found = []
    for path in sorted(glob.glob(_path(glob.escape(directory), "*"))):
        with open(path, encoding="utf-8", errors="replace") as stream:
            if MANAGED in stream.readline():
                found.append(os.path.basename(path).removeprefix("redis-").removesuffix(".conf"))
    return found
