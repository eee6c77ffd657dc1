"""The firewall's rules: loaded under a timer that takes them back, and confirmed."""

from salt.exceptions import CommandExecutionError


def loaded(name, source, template):
    """Load the declared rules. Once they are confirmed, they are written to the file that is loaded at boot.

    nft checks all rules before any of them is live. Rules that would shut out somebody who is connected by ssh right
    now are refused.

    :param name: the file, ``/etc/saltern/firewall.nft``.
    :param source: its template.
    :param template: the template's kind, ``jinja``.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "The rules are live"}
    try:
        plan = __salt__["firewall.plan"](name, source)
        if not plan["changes"]:
            return ret
        ret["changes"] = plan["changes"]
        if __opts__["test"]:
            return ret | {"result": None, "comment": "The rules would be loaded"}
        __salt__["firewall.load"](plan["text"])
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": "The rules were loaded"}


def confirmed(name):
    """Confirm the rules that this run loaded. Without it a timer takes them back.

    :param name: the file that is loaded at boot.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "The rules are there to stay"}
    if __opts__["test"]:
        return ret
    try:
        __salt__["firewall.confirm"](name)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret
