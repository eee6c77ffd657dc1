"""The timer of the drift check."""

import os

from saltern.system import systemd


def switched(name, enabled, status):
    """Run the timer, now and after each boot; or stop it, and remove the status that it would keep up to date.

    Salt's ``service.dead`` will not do: in each dry run it tells that a unit which is not there would be stopped.

    :param name: the timer's unit.
    :param enabled: whether it is to run.
    :param status: the file that what it starts writes.
    """
    wanted = "running" if enabled else "off"
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} is {wanted}"}
    among = systemd.among(__context__, __opts__["test"], __instance_id__, __lowstate__, __running__)
    is_right = systemd.is_switched(name, enabled, among=among)
    if not is_right:
        ret["changes"][name] = {"old": "off" if enabled else "running", "new": wanted}
    if not enabled and os.path.exists(status):
        ret["changes"][status] = {"old": "present", "new": None}
    if not ret["changes"]:
        return ret
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{name} would be {wanted}"}
    steps = []
    if not is_right:
        steps += [(word, name) for word in (("enable", "start") if enabled else ("stop", "disable"))]
    if not enabled:
        # A run that the timer started may wait for this converge to end, and would write the status after it.
        steps.append(("stop", name.replace(".timer", ".service")))
    for word, unit in steps:
        if not __salt__[f"service.{word}"](unit):
            return ret | {"changes": {}, "result": False, "comment": f"{unit}: systemctl {word} fails"}
    if status in ret["changes"]:
        os.unlink(status)
    return ret
