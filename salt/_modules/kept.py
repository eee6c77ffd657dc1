"""Notes about data that is kept after its app or instance was removed; see ``saltern.kept``."""

from salt.exceptions import CommandExecutionError

from saltern import kept, services

__load__ = ["list_", "of"]
__func_alias__ = {"list_": "list"}


def of(kind, name):
    """Return the note about data that is kept.

    :param kind: whose data it is: a service such as ``redis``, or ``app``; ``package`` for what was installed for apps.
    :param name: the instance or the app.
    :return: a mapping of ``app``, ``since`` and further facts: empty where nothing is kept.
    :raises CommandExecutionError: when there is no such service.

    CLI Example:

    .. code-block:: bash

        salt-call kept.of redis tickets
    """
    _check(kind)
    return kept.of(kind, name)


def list_(kind):
    """List what is kept.

    :param kind: see ``of``.
    :return: what ``of`` says of each, and the paths of its ``notes``, by name.
    :raises CommandExecutionError: when there is no such service.

    CLI Example:

    .. code-block:: bash

        salt-call kept.list redis
    """
    _check(kind)
    return kept.listed(kind)


def _check(kind):
    known = sorted({"app", "extension", "package", *services.formulas()})
    if kind not in known:
        raise CommandExecutionError(f"{kind}: no data is kept by this name; expected one of {', '.join(known)}")
