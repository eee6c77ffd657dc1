"""What state modules share. This module has no state of its own.

Where a watched state has changed something, Salt calls ``mod_watch`` after a state that changed nothing itself, and
keeps only that second result: a state that failed would end green (salt#43008).
"""

import functools
import os
import traceback
import types

__load__ = []

# Attributes of a file that may change without a change for its readers.
OWNERSHIP = {"user", "group", "mode", "attrs", "cuser", "cgroup", "cmode"}


def staying(running):
    """Name the apps whose release or removal failed or was not tried. What their processes use stays in use.

    So a failing dry run tells the same of their attachments as the run would.

    :param running: the results so far; Salt's ``__running__``.
    :return: names, sorted. An empty one stands for every app that is not declared any more.
    """
    found = set()
    for tag, one in running.items():
        state, _, name, function = (*tag.split("_|-"), "", "", "")[:4]
        if one.get("result") is False and (state, function) == ("release", "current"):
            found.add(name)
        if one.get("result") is False and (state, function) == ("app", "retired"):
            found.add("")
    return sorted(found)


def would_write(running, paths):
    """Tell whether a dry run would write files. A new owner alone does not count: no service reads a file again for it.

    :param running: the results so far; Salt's ``__running__``.
    :param paths: of the files that are watched.
    :return: ``True`` also where no state of these files would change anything: then something else would.
    """
    changes = [one["changes"] for one in running.values() if one.get("name") in paths and one.get("changes")]
    return not changes or any(not OWNERSHIP.issuperset(one) for one in changes)


def removed(name, paths, none, is_dry):
    """Remove files that are of no use any more, and return what a state returns.

    :param name: the state's name.
    :param paths: of the files, which are there.
    :param none: what to say where there is none.
    :param is_dry: whether this is a dry run.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": none}
    if not paths:
        return ret
    ret["changes"] = {path: {"old": "present", "new": None} for path in paths}
    if is_dry:
        return ret | {"result": None, "comment": f"{', '.join(paths)} would be removed"}
    try:
        for path in paths:
            os.unlink(path)
    except OSError as error:
        return ret | {"changes": {}, "result": False, "comment": f"{error.filename}: {error.strerror}"}
    return ret | {"comment": f"{', '.join(paths)} was removed"}


def failure_counts(state):
    """Keep the failure of a state, also where a state that it watches changed something.

    :param state: a function of a state module.
    :return: the function to be used in its place. An exception counts as Salt counts it: as a failure, with its
        traceback.
    """
    reason = traceback.format_exc

    def kept(name, *arguments, **options):
        try:
            ret = state(name, *arguments, **options)
        except Exception:
            comment = f"An exception occurred in this state: {reason()}"
            ret = {"name": name, "changes": {}, "result": False, "comment": comment}
        return ret | {"skip_watch": True} if ret["result"] is False else ret

    # Salt puts `__running__` and other names into the globals of the function that it calls. These must be the globals
    # of the state's own module.
    own = types.FunctionType(kept.__code__, state.__globals__, state.__name__, None, kept.__closure__)
    return functools.wraps(state)(own)
