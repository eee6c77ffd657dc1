"""A database and the role of the app that owns it."""

import functools

import watching
from salt.exceptions import CommandExecutionError

from saltern import services
from saltern.host import Host
from saltern.services import (
    postgres_closing,
    postgres_database,
    postgres_extensions,
    postgres_questions,
    postgres_server,
)
from saltern.system import systemd


def present(name, owner, connections):
    """Make a database that only its app may use, with its extensions, and the app's login with its password.

    :param name: the database.
    :param owner: the app; the role that owns the database has its name.
    :param connections: how many there may be to the database at once.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{owner} has the database {name}"}
    try:
        among = systemd.among(__context__, __opts__["test"], __instance_id__, __lowstate__, __running__)
        service, host = services.formulas()["postgres"], Host.of(__salt__, __pillar__, __opts__)
        changes, statements = postgres_database.plan(service, host, name, owner, connections, among)
        made, inside = postgres_extensions.plan(host, name)
        if not (changes or made):
            if not __opts__["test"]:
                postgres_extensions.note(host, name)
            return ret
        ret["changes"] = changes | made
        if __opts__["test"]:
            return ret | {"result": None, "comment": f"{owner} would be given the database {name}"}
        postgres_server.run([*statements, *inside])
        postgres_extensions.note(host, name, made["extensions"]["new"] if made else ())
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"{owner} was given the database {name}"}


def retired(name, databases, owners):
    """Close databases that no app attaches any more, and the logins of replaced passwords. The data stays.

    Only what Saltern made is closed. What the config of a running release names stays open: the app is held, or its
    new release was refused.

    :param name: the server's access list, ``pg_hba.conf``.
    :param databases: the databases that are attached.
    :param owners: their owners, in the same order.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "No other database is open"}
    try:
        staying = watching.staying(__running__)
        service, host = services.formulas()["postgres"], Host.of(__salt__, __pillar__, __opts__)
        attached = dict(zip(databases, owners, strict=True))
        among = systemd.among(__context__, __opts__["test"], __instance_id__, __lowstate__, __running__)
        others = postgres_questions.asked(host, service, among)
        ask = functools.partial(postgres_server.answer, among=among, others=others)
        changes, used = postgres_closing.close(service, host, name, attached, staying, ask)
        # What was closed may have taken logins with it.
        is_other = changes and not __opts__["test"]
        replaced, valid = postgres_closing.close_logins(
            service, host, staying, postgres_server.asked if is_other else ask
        )
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    said = [f"{database} stays open for {', '.join(by)}" for database, by in used.items()]
    said += [f"the login {login} stays open for {', '.join(by)}" for login, by in valid.items()]
    would = "would be" if __opts__["test"] else "was"
    if changes:
        said += [f"{', '.join(changes)} {would} closed; salt-call app.orphans lists the data that is kept"]
    if replaced:
        said += [f"the login {', '.join(replaced)} {would} closed: its password was replaced"]
    if changes or replaced:
        ret = ret | {"changes": changes | replaced, "result": None if __opts__["test"] else True}
    return ret | {"comment": "; ".join(said) or ret["comment"]}
