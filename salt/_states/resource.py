"""What a service does on its host for what apps attach; see ``saltern.services.steps``."""

import watching
from salt.exceptions import CommandExecutionError

from saltern import services
from saltern.host import Host
from saltern.services.steps import Run


@watching.failure_counts
def done(name, kind, step):
    """Have a step of a service done: the service's class compares, and acts where something differs.

    :param name: the resource, such as a database; or what the step is about, where that is no single one.
    :param kind: the service, such as ``postgres``.
    :param step: one of the ``steps`` of its class.
    """
    ret = {"name": name, "changes": {}, "result": True}
    run = Run(Host.of(__salt__, __pillar__, __opts__), watching.staying(__running__), _changed)
    try:
        todo = services.formulas()[kind].steps()[step](run, name)
        if todo.changes and not __opts__["test"]:
            todo.act()
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    result = None if todo.changes and __opts__["test"] else True
    return ret | {"changes": dict(todo.changes), "result": result, "comment": todo.comment}


def _changed(name):
    return any(one.get("name") == name and one.get("changes") for one in __running__.values())
