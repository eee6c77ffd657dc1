"""The users of nginx's sites, and their passwords. No change and no comment shows a password or its hash."""

import watching
from salt.exceptions import CommandExecutionError

from saltern.web import users


@watching.failure_counts
def current(name):
    """Write the users of each site that asks for passwords to one file, which only root and nginx may read.

    nginx reads it at each request: nothing is reloaded.

    :param name: the directory.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "The users of the sites are as they should be"}
    declared = users.declared(__pillar__)
    changed = [app for app in declared if not users.is_right(name, app, declared[app])]
    if not changed:
        return ret
    ret["changes"] = {users.path(name, app): {"old": "another", "new": "written"} for app in changed}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"The users of {', '.join(changed)} would be written"}
    try:
        for app in changed:
            users.write(name, app, declared[app])
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"The users of {', '.join(changed)} were written"}


@watching.failure_counts
def retired(name):
    """Remove the users of apps whose sites ask for no password any more.

    :param name: the directory.
    """
    return watching.removed(name, users.unused(name, __pillar__), "No other users are there", __opts__["test"])
