"""The service that asks a proxy's app hosts whether they are ready."""

from saltern.system import systemd


def watched(name):
    """Run the service, now and after each boot, where a site is balanced over app hosts. Elsewhere stop it.

    :param name: the service's unit.
    """
    is_wanted = bool(__pillar__["nginx"]["peers"])
    wanted = "running" if is_wanted else "off"
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} is {wanted}"}
    among = systemd.among(__context__, __opts__["test"], __instance_id__, __lowstate__, __running__)
    if systemd.is_switched(name, is_wanted, among=among):
        return ret
    ret["changes"][name] = {"old": "off" if is_wanted else "running", "new": wanted}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{name} would be {wanted}"}
    for word in ("enable", "start") if is_wanted else ("stop", "disable"):
        if not __salt__[f"service.{word}"](name):
            return ret | {"changes": {}, "result": False, "comment": f"{name}: systemctl {word} fails"}
    return ret
