"""The jobs of a host's apps: their timers, and nothing of jobs that are no longer declared."""

from salt.exceptions import CommandExecutionError

from saltern.apps import removal
from saltern.host import Host
from saltern.jobs import declared, names, units
from saltern.system import systemd


def judged(name):
    """Refuse schedules that systemd of this host does not take, before anything is changed.

    :param name: what is judged, in words.
    """
    host = Host.of(__salt__, __pillar__, __opts__)
    mistakes = declared.mistakes(host.pillar["app"])
    return {"name": name, "changes": {}, "result": not mistakes, "comment": "\n".join(mistakes) or "systemd takes them"}


def scheduled(name, app, job):
    """Have a job run by the clock. Neither this nor a reload of systemd cuts or begins a run.

    :param name: the job's timer.
    :param app: the app's name.
    :param job: the job's name.
    """
    host = Host.of(__salt__, __pillar__, __opts__)
    texts, is_on = units.wanted(host, app, job), not host.app(app)["jobs"][job]["suspended"]
    ret = {"name": name, "changes": units.unlike(texts), "result": True}
    ret["comment"] = f"{name} is {'active' if is_on else 'off'}"
    among = systemd.among(__context__, __opts__["test"], __instance_id__, __lowstate__, __running__)
    if not systemd.is_switched(name, is_on, among=among):
        ret["changes"][name] = {"old": "off" if is_on else "active", "new": "active" if is_on else "off"}
    elif not ret["changes"] and not systemd.is_read(name, among=among):
        ret["changes"][name] = {"old": "older than its file", "new": "reloaded"}
    if not ret["changes"]:
        return ret
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{name} would be as declared"}
    try:
        units.schedule_job(host, app, job, texts)
    except (CommandExecutionError, OSError) as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"{name} is as declared"}


def retired(name):
    """Remove jobs that are no longer declared, with what is noted of their runs. Runs under way are ended.

    :param name: what is retired, in words.
    """
    apps = __pillar__["app"]
    wanted = {(app, job) for app, one in apps.items() for job in one["jobs"]}
    # What is gone with its app is removed with it, before this.
    removed = removal.gone(apps)
    gone = sorted(one for one in units.there() - wanted if one[0] not in removed)
    ret = {"name": name, "changes": {}, "result": True, "comment": "No other job is there"}
    ret["changes"] = {names.unit(*one): {"old": "present", "new": None} for one in gone}
    if not gone:
        return ret
    if __opts__["test"]:
        return ret | {"result": None, "comment": "Other jobs would be removed"}
    try:
        units.remove(gone)
    except (CommandExecutionError, OSError) as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": "Other jobs were removed"}
