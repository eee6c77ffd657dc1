"""A database and the role of the app that owns it."""

from salt.exceptions import CommandExecutionError


def present(name, owner):
    """Make a database, owned by a role that may log in and closed to all others, with the password of the attachment.

    :param name: the database.
    :param owner: the app; its role has its name.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{owner} has the database {name}"}
    try:
        among = __salt__["service_config.among"](__instance_id__, __lowstate__, __running__)
        changes, statements = __salt__["postgres_attachment.plan"](name, owner, among)
        if not changes:
            return ret
        ret["changes"] = changes
        if __opts__["test"]:
            return ret | {"result": None, "comment": f"{owner} would be given the database {name}"}
        __salt__["postgres_attachment.run"](statements)
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"{owner} was given the database {name}"}


def retired(name, databases, owners):
    """Have the databases of ours that no app attaches any more closed to logins, and their owners too. The data stays.

    A database that a running release has in its config stays open: that of an app that is held, or whose new release
    was refused.

    :param name: the server's access list, ``pg_hba.conf``.
    :param databases: the databases that are attached.
    :param owners: their owners.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "No other database is open"}
    try:
        changes, used = __salt__["postgres_attachment.close"](name, databases, owners)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    said = [f"{database} stays open for {', '.join(by)}" for database, by in used.items()]
    if changes:
        would = "would be" if __opts__["test"] else "was"
        said += [f"{', '.join(changes)} {would} closed; salt-call app.orphans lists the data that is kept"]
        ret = ret | {"changes": changes, "result": None if __opts__["test"] else True}
    return ret | {"comment": "; ".join(said) or ret["comment"]}
