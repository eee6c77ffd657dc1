"""A database and the role of the app that owns it."""

from salt.exceptions import CommandExecutionError


def present(name, owner):
    """Make a database, owned by a role that may log in and closed to all others, with the password of the attachment.

    :param name: the database.
    :param owner: the app; its role has its name.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{owner} has the database {name}"}
    try:
        changes, statements = __salt__["postgres_attachment.plan"](name, owner)
        if not changes:
            return ret
        ret["changes"] = changes
        if __opts__["test"]:
            return ret | {"result": None, "comment": f"{owner} would be given the database {name}"}
        __salt__["postgres_attachment.run"](statements)
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"{owner} was given the database {name}"}
