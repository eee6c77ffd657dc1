"""The Redis instances of the apps, each a unit redis-server@<name>."""

import watching
from salt.exceptions import CommandExecutionError

from saltern import kept, services
from saltern.host import Host
from saltern.services import redis_closing, redis_connection, redis_instances, redis_users
from saltern.system import systemd


def _host():
    """Return Redis and this host."""
    return services.formulas()["redis"], Host.of(__salt__, __pillar__, __opts__)


@watching.failure_counts
def attached(name, app, directory):
    """Refuse an instance that holds the data of another app: that app's jobs would be found there.

    :param name: the instance.
    :param app: the app that attaches it.
    :param directory: of the configuration, ``/etc/redis``.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{app} has the instance {name}"}
    if another := redis_instances.holder(name, app, directory):
        return ret | {"result": False, "comment": another}
    if not kept.of("redis", name):
        return ret
    ret["changes"] = {name: {"old": "kept", "new": "attached"}}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{app} would have the instance {name} again"}
    kept.forget("redis", name)
    return ret | {"comment": f"{app} has the instance {name} again"}


@watching.failure_counts
def users(name, app, directory):
    """Write the file of an instance's users: its app, with today's password and with earlier ones.

    The file is apart from the configuration, so that a new password needs no restart.

    :param name: the instance.
    :param app: the app that attaches it.
    :param directory: of the configuration, ``/etc/redis``.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} has its users"}
    service, host = _host()
    changes, text = redis_users.plan(service, host, name, app, directory)
    if not changes:
        return ret
    ret["changes"] = changes
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{name} would have other users"}
    redis_users.write(name, text)
    return ret | {"comment": f"{name} has other users"}


@watching.failure_counts
def admitted(name, port):
    """Load the file of users into a running instance, without a restart.

    :param name: the instance.
    :param port: its port.
    """
    return _admitted(name, port, will_change=False)


def _admitted(name, port, will_change):
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} admits its users"}
    unit = redis_instances.unit(name)
    if not _stays_up(unit):
        return ret
    _, host = _host()
    text = redis_users.read(name) or ""
    wanted = redis_connection.admitted_by(text.splitlines())
    try:
        # Where the host has a new key by now, Redis refuses the host itself.
        admits = None if __opts__["test"] and will_change else redis_connection.admitted(host, name, port)
    except CommandExecutionError as error:
        if "WRONGPASS" not in str(error):
            return ret | {"result": False, "comment": str(error)}
        admits = {}
    if admits == wanted and not will_change:
        return ret
    ret["changes"] = {name: {"old": "other users", "new": "as declared"}}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{name} would admit other users"}
    try:
        if admits:
            rules = [line.split()[1:] for line in text.splitlines() if line.startswith("user ")]
            redis_connection.admit(host, name, port, rules, sorted(admits.keys() - wanted.keys()))
        else:
            systemd.restart(unit)
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"{name} admits other users"}


def _stays_up(unit):
    """Tell whether an instance runs and was not started in this run: a start reads the files."""
    is_restarted = any(one.get("name") == unit and one["changes"] for one in __running__.values())
    among = systemd.among(__context__, __opts__["test"], __instance_id__, __lowstate__, __running__)
    return systemd.started(unit, among=among) is not None and not is_restarted


@watching.failure_counts
def replaced(name, instances, ports):
    """Stop instances whose port another instance takes over. Their data stays.

    :param name: the directory of the configuration, ``/etc/redis``.
    :param instances: the instances that are attached.
    :param ports: their ports.
    """
    _, host = _host()
    return _retired(name, redis_instances.giving_way(host, name, instances, ports))


@watching.failure_counts
def retired(name, instances):
    """Stop instances that no app attaches and no release has in its config. Their data stays.

    Logins of replaced passwords that nobody uses any more are removed too.

    :param name: the directory of the configuration, ``/etc/redis``.
    :param instances: the instances that are attached.
    """
    (service, host), staying = _host(), watching.staying(__running__)
    used = {
        one: redis_closing.users_of(service, host, one, name, staying) for one in redis_instances.gone(name, instances)
    }
    ret = _retired(name, [one for one, by in used.items() if not by])
    said = [ret["comment"], *(f"{one} runs on for {', '.join(by)}" for one, by in used.items() if by)]
    try:
        closed, valid = redis_closing.close(service, host, instances, name, staying)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": "; ".join([*said, str(error)])}
    said += [f"the login {login} stays open for {', '.join(by)}" for login, by in valid.items()]
    if closed:
        would = "would be" if __opts__["test"] else "was"
        for old, why in (("replaced", "its password was replaced"), ("lent", "the instance is lent to it no more")):
            if logins := [login for login, change in closed.items() if change["old"] == old]:
                said += [f"the login {', '.join(logins)} {would} closed: {why}"]
        result = ret["result"] and (None if __opts__["test"] else True)
        ret = ret | {"changes": ret["changes"] | closed, "result": result}
    return ret | {"comment": "; ".join(said)}


def _retired(directory, gone):
    ret = {"name": directory, "changes": {}, "result": True, "comment": "No other instance is there"}
    if not gone:
        return ret
    ret["changes"] = {instance: {"old": "present", "new": None} for instance in gone}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{', '.join(gone)} would be stopped"}
    _, host = _host()
    try:
        for instance in gone:
            redis_closing.end(host, instance, directory)
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"{', '.join(gone)} no longer runs; salt-call app.orphans lists the data that is kept"}


@watching.failure_counts
def certificate_served(name, port, path):
    """Load the certificate on the disk into a running instance, without a restart.

    :param name: the instance.
    :param port: its port.
    :param path: its key and certificate.
    """
    return _certificate_served(name, port, path, will_change=False)


def mod_watch(name, port, path=None, sfun=None, **_):
    """Load the certificate after its file was written. In a dry run, tell that it would be loaded."""
    if sfun == "admitted":
        return _admitted(name, port, will_change=True)
    return _certificate_served(name, port, path, will_change=__opts__["test"])


def _certificate_served(name, port, path, will_change):
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} serves its certificate"}
    if not _stays_up(redis_instances.unit(name)):
        return ret
    try:
        if not will_change and redis_connection.serves(port, path):
            return ret
        ret["changes"] = {name: {"old": "another certificate", "new": "served"}}
        if __opts__["test"]:
            return ret | {"result": None, "comment": f"{name} would serve another certificate"}
        _, host = _host()
        redis_connection.read_certificate(host, name, port, path)
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"{name} serves another certificate"}
