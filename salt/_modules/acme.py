"""Certificates by ACME, which certbot gets and renews. See ``saltern.tls.acme``."""

from saltern.host import Host
from saltern.tls import acme

__load__ = ["due", "issue", "refused"]


def _host():
    return Host.of(__salt__, __pillar__, __opts__)


def due(app):
    """Say why an app needs a new certificate.

    :param app: the app's name.
    :return: such as ``no certificate yet``. Empty where the app needs none.
    :raises CommandExecutionError: when no app of the host has this name, or its certificate comes from elsewhere.

    CLI Example:

    .. code-block:: bash

        salt-call acme.due tickets
    """
    return acme.due(_host(), app)


def issue(app):
    """Ask for a certificate, and have nginx serve it.

    :param app: the app's name.
    :raises CommandExecutionError: when there is none, with the reason in one line. nginx serves what it has.

    CLI Example:

    .. code-block:: bash

        salt-call acme.issue tickets
    """
    return acme.issue(_host(), app)


def refused(app):
    """Say that the authority refused the same request a short while ago.

    :param app: the app's name.
    :return: a sentence. Empty where the request may be made.
    :raises CommandExecutionError: when no app of the host has this name, or its certificate comes from elsewhere.

    CLI Example:

    .. code-block:: bash

        salt-call acme.refused tickets
    """
    return acme.refused(_host(), app)
