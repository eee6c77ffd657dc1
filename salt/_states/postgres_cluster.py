"""A PostgreSQL cluster, made with Debian's own tools.

Salt 3008 has a state of this name that never loads: the execution module that it needs is gone.
"""

import glob
import os


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
