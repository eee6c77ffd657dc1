"""The Redis instances of the apps, each a unit redis-server@<name>."""

import contextlib
import datetime
import glob
import grp
import os
import re

import watching
from salt.exceptions import CommandExecutionError

from saltern.system import files, systemd

MANAGED = "Managed by Saltern"
USERS = "/etc/saltern/redis"

# The rights of an app's users, and those of the host's own user.
APPS = "~* &* +@all -@admin +config|get"
READERS = "%R~* +@read +@connection -@admin"
OPERATORS = "~* &* +@all"
REPLACED = re.compile(r"(?m)^# (\S+) was replaced at (\S+)$")


@watching.failure_counts
def attached(name, app, directory):
    """Refuse an instance whose data is another app's: that app's jobs would be found there.

    :param name: the instance.
    :param app: the app that attaches it.
    :param directory: of the configuration, ``/etc/redis``.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{app} has the instance {name}"}
    another = __salt__["redis_data.holder"](name, app, directory)
    if another:
        return ret | {"result": False, "comment": another}
    if not __salt__["kept.of"]("redis", name):
        return ret
    ret["changes"] = {name: {"old": "kept", "new": "attached"}}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{app} would have the instance {name} again"}
    __salt__["kept.forget"]("redis", name)
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
    declared = _declared(name)
    others = _others(name, declared, directory)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    replaced = {user: (digest, since or now, rights) for user, (digest, since, rights) in others.items()}
    text = _text(name, app, declared, replaced)
    before = _read(_users_path(name))
    if before == text:
        return ret
    had = {*others, *(login for login in declared if _own(login, before))}
    ret["changes"] = {name: {"old": sorted(had) or None, "new": sorted({*others, *declared})}}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{name} would have other users"}
    _write_users(name, text)
    return ret | {"comment": f"{name} has other users"}


def _declared(name):
    """Return the logins of an instance's app and of those to whom it is lent, each with its digest and its rights."""
    lent = __salt__["attachment.lent"](name)
    others = {one["login"]: (one["digest"], READERS if one["access"] == "read" else APPS) for one in lent}
    return {__salt__["attachment.login"]("redis", name): (__salt__["attachment.digest"](name), APPS)} | others


def _own(login, text):
    return login in __salt__["redis_connection.admitted_by"]((text or "").splitlines())


def _users_path(name):
    return f"{USERS}/{name}.users"


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def _others(name, declared, directory):
    """Return the logins of apps that are not declared: of passwords that were replaced, or of who borrows no more.

    :param declared: logins.
    :return: of each its digest, since when it is replaced, where that is noted, and its rights.
    """
    text = _read(_users_path(name))
    if text is None:
        # Earlier versions had the app's user in the configuration.
        text = _read(_path(directory, name)) or ""
    since = dict(REPLACED.findall(text))
    found = __salt__["redis_connection.admitted_by"](text.splitlines())
    owner = __pillar__["redis"]["instances"][name]["owner"]
    its = re.compile(rf"{re.escape(owner)}|[a-z][a-z0-9-]*_[0-9a-f]{{6}}")
    reading = {line.split()[1] for line in text.splitlines() if line.startswith("user ") and line.endswith(READERS)}
    return {
        user: (digests[0], since.get(user), READERS if user in reading else APPS)
        for user, digests in sorted(found.items())
        if its.fullmatch(user) and user not in declared and len(digests) == 1
    }


def _text(name, app, declared, others):
    """Write the file of an instance's users.

    :param declared: digest and rights by login, that of the app first.
    :param others: digest, since when it is replaced, and rights, by login.
    """
    operator = __salt__["attachment.digest"](name, "operator")
    lines = [
        f"# Who may log in to the instance {name}, which belongs to the app {app}. {MANAGED} (formula redis).",
        # Nobody logs in as this user. But at a start Redis runs its append-only file as this user, and without rights
        # it would drop all that was written between MULTI and EXEC.
        "user default off resetpass ~* &* +@all",
        *(f"user {login} on #{digest} {rights}" for login, (digest, rights) in declared.items()),
        "# The host itself, which tells it of a new certificate and of other users.",
        f"user operator on #{operator} {OPERATORS}",
    ]
    for user, (digest, since, rights) in sorted(others.items()):
        lines += [f"# {user} was replaced at {since}", f"user {user} on #{digest} {rights}"]
    return "\n".join(lines) + "\n"


def _write_users(name, text):
    os.makedirs(USERS, mode=0o755, exist_ok=True)
    files.write(_users_path(name), text, 0o640, 0, grp.getgrnam("redis").gr_gid)


@watching.failure_counts
def admitted(name, port):
    """Load the file of users into a running instance, without a restart.

    :param name: the instance.
    :param port: its port.
    """
    return _admitted(name, port, will_change=False)


def _admitted(name, port, will_change):
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} admits its users"}
    unit = f"redis-server@{name}"
    if not _stays_up(unit):
        return ret
    text = _read(_users_path(name)) or ""
    wanted = __salt__["redis_connection.admitted_by"](text.splitlines())
    try:
        # Where the host has a new key by now, Redis refuses the host itself.
        admits = None if __opts__["test"] and will_change else __salt__["redis_connection.admitted"](name, port)
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
            gone = sorted(admits.keys() - wanted.keys())
            __salt__["redis_connection.admit"](name, port, rules, gone)
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


def _closed(instances, directory):
    """Plan, or close, the logins of replaced passwords that nobody uses any more.

    :return: the changes as a state reports them, and why each login that stays does.
    """
    changes, stays = {}, {}
    for name, one in sorted(__pillar__["redis"]["instances"].items()):
        if name not in instances or not one["owner"]:
            continue
        declared = _declared(name)
        others = _others(name, declared, directory)
        # The file is missing in a dry run, or where its state failed.
        if not others or (_read(_users_path(name)) is None and not __opts__["test"]):
            continue
        apps = {login.rpartition("_")[0] for login in declared}
        reasons = _valid(name, one["port"], others, apps)
        closing = [user for user in others if not reasons[user]]
        stays |= {user: reasons[user] for user in others if reasons[user]}
        was = {user: "replaced" if user.partition("_")[0] in apps else "lent" for user in closing}
        changes |= {user: {"old": old, "new": "closed to logins"} for user, old in was.items()}
        if closing and not __opts__["test"]:
            left = {user: others[user] for user in others if user not in closing}
            text = _text(name, one["owner"], declared, left)
            _write_users(name, text)
            __salt__["redis_connection.admit"](name, one["port"], [], closing)
    return changes, stays


def _valid(name, port, others, apps):
    """Say of each login that is not declared why it stays valid; empty lists where it does not.

    :param apps: those that have a login which is declared.
    """
    users, now = (
        __salt__["attachment.holders"]("redis", leaving, watching.staying(__running__))
        for leaving in (not __opts__["test"], True)
    )
    connected = __salt__["redis_connection.connected"](name, port)
    own = {"127.0.0.1", "::1", __pillar__["hosts"][__opts__["id"]]["address"]}
    hours = __pillar__["redis"]["overlap"] if __pillar__["redis"]["listen"] else 0
    found, today = {}, datetime.datetime.now(datetime.UTC)
    for user, (_, since, _) in others.items():
        until = datetime.datetime.fromisoformat(since) if since else today
        # Who borrows no more has no other password to converge to.
        until += datetime.timedelta(hours=hours if user.partition("_")[0] in apps else 0)
        # In a dry run the connections of a release that would be stopped are still open.
        ending = own if __opts__["test"] and user in now and user not in users else ()
        clients = [f"{one}, which is connected" for one in connected.get(user, []) if one not in ending]
        waits = [f"other app hosts until {until.isoformat(timespec='minutes')}"] if until > today else []
        found[user] = users.get(user) or clients or waits
    return found


@watching.failure_counts
def replaced(name, instances, ports):
    """Stop instances whose port another instance takes over. Their data stays.

    :param name: the directory of the configuration, ``/etc/redis``.
    :param instances: the instances that are attached.
    :param ports: their ports.
    """
    gone = [one for one in _gone(name, instances) if _told(name, one)["port"] in map(str, ports)]
    declared = __pillar__["redis"]["instances"]
    # The instance that takes over may be refused, and then nothing would serve.
    refused = {
        str(declared[one]["port"])
        for one in instances
        if __salt__["redis_data.holder"](one, declared[one]["owner"], name)
    }
    return _retired(name, [one for one in gone if _told(name, one)["port"] not in refused])


@watching.failure_counts
def retired(name, instances):
    """Stop instances that no app attaches and no release has in its config. Their data stays.

    Logins of replaced passwords that nobody uses any more are removed too.

    :param name: the directory of the configuration, ``/etc/redis``.
    :param instances: the instances that are attached.
    """
    gone = _gone(name, instances)
    users = {one: _users(_told(name, one)["port"]) for one in gone}
    ret = _retired(name, [one for one in gone if not users[one]])
    said = [ret["comment"], *(f"{one} runs on for {', '.join(users[one])}" for one in gone if users[one])]
    try:
        closed, valid = _closed(instances, name)
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


def _users(port):
    """List who uses an instance: releases of this host, or else other hosts that are connected to it."""
    others = __salt__["redis_connection.remote"](int(port)) if port else []
    return __salt__["attachment.users"]("redis", port, watching.staying(__running__)) or [
        f"{one}, which is connected" for one in others
    ]


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
    if not _stays_up(f"redis-server@{name}"):
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
        __salt__["kept.note"]("redis", instance, _told(directory, instance).get("app"))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_users_path(instance))
        # Last, so that the next run completes an interrupted one.
        os.unlink(_path(directory, instance))
    return ret | {"comment": f"{', '.join(gone)} no longer runs; salt-call app.orphans lists the data that is kept"}


def _gone(directory, attached):
    """List the instances that Saltern configured and nobody attaches, sorted."""
    paths = sorted(glob.glob(_path(glob.escape(directory), "*")))
    names = [os.path.basename(path).removeprefix("redis-").removesuffix(".conf") for path in paths]
    return [name for name in names if name not in attached and _told(directory, name)]


def _path(directory, instance):
    return f"{directory}/redis-{instance}.conf"


def _told(directory, instance):
    return __salt__["redis_data.told"](instance, directory)
