"""The Debian packages that apps ask for by an Aptfile."""

from saltern.apps import packages
from saltern.host import Host
from saltern.system import apt


def judged(name):
    """Refuse packages that apt cannot install for apps, or only in the place of others, before anything is changed.

    :param name: the ID of the state that installs them.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "No package is to be installed for an app"}
    host = Host.of(__salt__, __pillar__, __opts__)
    asked = packages.declared(host.pillar["app"])
    missing = set(asked) - set(apt.installed()) if asked else set()
    wanted = {one: asked[one] for one in sorted(missing)}
    others = []
    if wanted:
        others = __salt__["apt_lock.missing"]([chunk for chunk in __lowstate__ if chunk["__id__"] != name])
        if __opts__["test"] and not apt.has_lists():
            return ret | {"comment": "apt has no lists of packages yet: the converge fetches them, and asks it then"}
        version = f"Debian {__salt__['settings.debian']()['version']}"
        refused = packages.refusals(wanted, others, version)
        if refused and not __opts__["test"]:
            # Its lists may be older than the package.
            __salt__["pkg.refresh_db"]()
            refused = packages.refusals(wanted, others, version)
        if refused:
            return ret | {"result": False, "comment": "\n".join(refused)}
        ret["comment"] = f"apt can install {', '.join(wanted)}"
    if not __opts__["test"]:
        packages.note(host.pillar["app"], wanted.keys() - set(others))
    return ret
