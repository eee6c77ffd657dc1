"""A PostgreSQL cluster, made with Debian's own tools.

Salt 3008 has a state of this name that never loads: the execution module that it needs is gone.
"""

import glob
import os
import time

import watching
from salt.exceptions import CommandExecutionError

from saltern import services
from saltern.host import Host
from saltern.services import postgres_access, postgres_config, postgres_questions, postgres_server
from saltern.system import systemd


@watching.failure_counts
def present(name, version):
    """Make a cluster where there is none, in UTF-8 and with checksums.

    No cluster is made beside one of another version: after an upgrade of Debian, the empty one would take its place and
    its port, and the apps would find no data.

    :param name: the cluster's name, such as ``main``.
    :param version: PostgreSQL's major version.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"Cluster {version}/{name} is there"}
    if os.path.exists(f"/var/lib/postgresql/{version}/{name}/PG_VERSION"):
        return ret
    others = sorted(path.split("/")[4] for path in glob.glob(f"/var/lib/postgresql/*/{name}/PG_VERSION"))
    if others:
        ret["result"] = False
        ret["comment"] = (
            f"Cluster {others[-1]}/{name} holds data, and Debian's version is {version} now. An empty cluster beside "
            f"it would hide that data from the apps. Upgrade it: pg_upgradecluster -v {version} {others[-1]} {name}; "
            f"when the apps work, pg_dropcluster {others[-1]} {name}"
        )
        return ret
    ret["changes"] = {f"{version}/{name}": {"old": None, "new": "present"}}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"Cluster {version}/{name} would be made"}
    command = ["pg_createcluster", "--locale", "C.UTF-8", "--encoding", "UTF8", str(version), name]
    command += ["--", "--data-checksums", "--auth-local=peer", "--auth-host=scram-sha-256"]
    made = __salt__["cmd.run_all"](command, python_shell=False)
    if made["retcode"]:
        return ret | {"changes": {}, "result": False, "comment": made["stderr"] or made["stdout"]}
    return ret | {"comment": f"Cluster {version}/{name} was made"}


@watching.failure_counts
def access_loaded(name, version, certificate):
    """Reload a running cluster whose access list or certificate is newer than what the cluster has read.

    A run may be interrupted after it wrote a file. The next run then finds the file as it should be, and without this
    state the server would keep the old one for good.

    :param name: the cluster's name.
    :param version: PostgreSQL's major version.
    :param certificate: the certificate's path.
    """
    return _access_loaded(name, version, certificate, will_change=False)


@watching.failure_counts
def loaded(name, path):
    """Have a running cluster run with its configuration: by a reload, or by a restart where a parameter asks for one.

    A run may be interrupted after it wrote the file, or after the reload. The next run then goes on from there.

    :param name: the cluster's unit.
    :param path: the configuration file.
    """
    return _loaded(name, path, will_change=False)


def _loaded(name, path, will_change):
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} has its configuration"}
    among = systemd.among(__context__, __opts__["test"], __instance_id__, __lowstate__, __running__)
    # A server that does not run reads its files when it starts.
    if systemd.started(name, among=among) is None:
        return ret
    try:
        service, host = services.formulas()["postgres"], Host.of(__salt__, __pillar__, __opts__)
        at, pending = postgres_questions.loaded(host, service, among)
        is_older = will_change or (os.path.exists(path) and at <= os.stat(path).st_mtime_ns // 1000)
        if not (is_older or pending):
            return ret
        if __opts__["test"]:
            new = "restarted" if pending or postgres_config.waits(host, path) else "reloaded"
            ret["changes"] = {name: {"old": "older than its configuration", "new": new}}
            return ret | {"result": None, "comment": f"{name} would be {new}"}
        if is_older:
            postgres_server.run(["SELECT pg_reload_conf();"])
            pending = _read_since(host, service, at)
        if pending:
            systemd.restart(name)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    new = "restarted" if pending else "reloaded"
    ret["changes"] = {name: {"old": "older than its configuration", "new": new}}
    return ret | {"comment": f"{name} was {', for '.join([new, *filter(None, [', '.join(pending)])])}"}


def _read_since(host, service, before):
    """Wait until the server has read its files anew, and return the parameters that wait for a restart."""
    for _ in range(50):
        at, pending = postgres_questions.loaded(host, service, None)
        if at > before:
            return pending
        time.sleep(0.1)
    raise CommandExecutionError("PostgreSQL does not read its configuration; see its log in /var/log/postgresql")


def mod_watch(name, version=None, certificate=None, path=None, sfun=None, **_):
    """Act after a file was written. In a dry run, tell what would be done."""
    if sfun == "loaded":
        return _loaded(name, path, will_change=__opts__["test"] and watching.would_write(__running__, (path,)))
    paths = (f"/etc/postgresql/{version}/{name}/pg_hba.conf", certificate)
    is_written = __opts__["test"] and watching.would_write(__running__, paths)
    return _access_loaded(name, version, certificate, will_change=is_written)


def _access_loaded(name, version, certificate, will_change):
    ret = {"name": name, "changes": {}, "result": True, "comment": f"Cluster {version}/{name} has its access list"}
    # A server that does not run reads its files when it starts.
    unit = f"postgresql@{version}-{name}"
    # A server that the run would restart has read its files by then.
    is_restarted = any(one.get("name") == unit and one["changes"] for one in __running__.values())
    among = systemd.among(__context__, __opts__["test"], __instance_id__, __lowstate__, __running__)
    if systemd.started(unit, among=among) is None or (will_change and is_restarted):
        return ret
    try:
        service, host = services.formulas()["postgres"], Host.of(__salt__, __pillar__, __opts__)
        if not will_change and postgres_access.is_read(service, host, version, name, certificate, among):
            return ret
        ret["changes"] = {"access": {"old": "older than pg_hba.conf", "new": "loaded"}}
        if __opts__["test"]:
            return ret | {"result": None, "comment": f"Cluster {version}/{name} would read its access list"}
        postgres_server.run(["SELECT pg_reload_conf();"])
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"Cluster {version}/{name} has read its access list"}
