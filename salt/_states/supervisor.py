"""Supervisor, as far as its files go."""

from salt.exceptions import CommandExecutionError

from saltern.releases import supervisor


def readable(name):
    """Have no file of a release that keeps supervisor from starting: it reads all of them, or does not start.

    What such a file is to say is written anew by its release. Where supervisor runs there is nothing to do: it goes on
    with what it has read.

    :param name: the directory of these files.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "Nothing in it keeps supervisor from starting"}
    try:
        path = supervisor.unreadable()
        if not path:
            return ret
        ret["changes"] = {path: {"old": "not readable by supervisor", "new": None}}
        if __opts__["test"]:
            return ret | {"result": None, "comment": f"{path} would be removed, and written anew by its release"}
        supervisor.tidy()
    except (CommandExecutionError, OSError) as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"{path} was removed; its release writes it anew"}
