"""A PostgreSQL cluster, made with Debian's own tools.

Salt 3008 has a state of this name that never loads: the execution module that it needs is gone.
"""

import glob
import os

from salt.exceptions import CommandExecutionError


def present(name, version):
    """Make a cluster where there is none, in UTF-8 and with checksums.

    Never beside one of another version: after an upgrade of Debian, an empty cluster would take the old one's place and
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


def access_loaded(name, version):
    """Have a running cluster read its access list again when that is newer than what it has read.

    Where a run is interrupted after it wrote the file, the next one finds the file as it should be, and the server
    would keep the old list for good.

    :param name: the cluster's name.
    :param version: PostgreSQL's major version.
    """
    return _access_loaded(name, version, will_change=False)


def mod_watch(name, version, sfun=None, **_):
    """Do so after the file was written; in a dry run, say so where it would be."""
    return _access_loaded(name, version, will_change=__opts__["test"])


def _access_loaded(name, version, will_change):
    ret = {"name": name, "changes": {}, "result": True, "comment": f"Cluster {version}/{name} has its access list"}
    # One that does not run will read it when it starts.
    if __salt__["service_config.started"](f"postgresql@{version}-{name}") is None:
        return ret
    try:
        if not will_change and __salt__["postgres_attachment.access_is_read"](version, name):
            return ret
        ret["changes"] = {"access": {"old": "older than pg_hba.conf", "new": "loaded"}}
        if __opts__["test"]:
            return ret | {"result": None, "comment": f"Cluster {version}/{name} would read its access list"}
        __salt__["postgres_attachment.run"](["SELECT pg_reload_conf();"])
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"Cluster {version}/{name} has read its access list"}
