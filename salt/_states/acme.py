"""Certificates by ACME; see the module ``acme``."""

from salt.exceptions import CommandExecutionError

from saltern.host import Host
from saltern.tls import acme, certbot


def issued(name):
    """Get nginx a certificate of the declared authority for all domains of an app.

    Where the authority gives none, this state alone fails. nginx goes on with the certificate that it has.

    :param name: the app.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} has its certificate"}
    host = Host.of(__salt__, __pillar__, __opts__)
    reason = acme.due(host, name)
    if not reason:
        return ret
    ret["changes"] = {name: {"old": reason, "new": "issued"}}
    if said := acme.refused(host, name):
        return ret | {"changes": {}, "result": False, "comment": said}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"A certificate would be asked for: {reason}"}
    try:
        acme.issue(host, name)
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"{name} has a new certificate"}


def retired(name, apps):
    """Remove certbot's renewals for apps that no longer get their certificate by ACME.

    :param name: certbot's directory.
    :param apps: the apps that get their certificate by ACME.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "certbot renews what is declared"}
    gone = certbot.gone(apps)
    if not gone:
        return ret
    ret["changes"] = {app: {"old": "renewed", "new": None} for app in gone}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"The certificates of {', '.join(gone)} would be removed"}
    try:
        acme.remove(Host.of(__salt__, __pillar__, __opts__), gone)
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"The certificates of {', '.join(gone)} were removed"}
