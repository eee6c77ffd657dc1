"""An app's build, on the host."""

import os

from salt.exceptions import CommandExecutionError

from saltern.builds import declared
from saltern.releases import published, store

# The answer of declared.damage for a build that was never unpacked.
ABSENT = "it is not there"


def unpacked(name):
    """Fetch an app's declared build, check its sha256, unpack it and make its virtual environment.

    A build with missing or changed files is unpacked again, and only those files are replaced. Processes run on
    meanwhile.

    :param name: the app.
    """
    ret = {"name": name, "changes": {}, "result": True}
    host = declared.Host.of(__salt__, __pillar__, __opts__)
    build = __pillar__["app"][name]["build"]["sha256"][:12]
    damage, misowned = declared.damage(host, name), declared.misowned(host, name)
    if not damage and not misowned:
        return ret | {"comment": f"Build {build} is there"}
    ret["changes"] = {path: {"old": "open to others, or closed to its app", "new": "as it was"} for path in misowned}
    what = "put right"
    if damage:
        is_there = damage != ABSENT
        what = "unpacked again" if is_there else "unpacked"
        ret["changes"]["build"] = {"old": damage if is_there else None, "new": build}
    try:
        if __opts__["test"]:
            if damage:
                declared.foresee(host, name)
            return ret | {"result": None, "comment": f"Build {build} would be {what}"}
        declared.unpack(host, name)
    except OSError as error:
        reason = f"{name}: {error.filename}: {error.strerror}; expected a directory of root's, with room"
        return ret | {"changes": {}, "result": False, "comment": reason}
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"Build {build} was {what}"}


def served(name):
    """Have copies of what nginx serves of an app's builds, ``site.serve``, where it can read them, and no others.

    The release that serves is looked into first. Each release moves that by itself.

    :param name: the app.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "What nginx serves of builds is there"}
    settings = declared.Host.of(__salt__, __pillar__, __opts__).app(name)
    directory = store.build_directory(name, settings["build"]["sha256"])
    try:
        if os.path.isdir(directory):
            published.check_unpacked(name, settings, directory)
        changes = published.plan(name, settings)
        if not changes:
            return ret
        if __opts__["test"]:
            return ret | {"changes": changes, "result": None, "comment": "What nginx serves of builds would change"}
        published.publish(name, settings)
    except (CommandExecutionError, OSError) as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": changes, "comment": "What nginx serves of builds was changed"}
