"""The certificates with which nginx serves apps' domains. See ``saltern.tls.site``."""

from saltern.apps import declared
from saltern.settings import load
from saltern.tls import site

__load__ = ["by_acme", "path", "source"]


def source(app):
    """Return where an app's certificate comes from.

    :param app: the app's name.
    :return: ``pillar``, ``acme`` or ``authority``.
    :raises CommandExecutionError: when no app of the host has this name.

    CLI Example:

    .. code-block:: bash

        salt-call site_certificate.source tickets
    """
    load.check(__pillar__)
    return site.source(__pillar__, app)


def by_acme():
    """List the apps of this host that get their certificate by ACME.

    :return: names, sorted.

    CLI Example:

    .. code-block:: bash

        salt-call site_certificate.by_acme
    """
    load.check(__pillar__)
    return site.by_acme(__pillar__)


def path(app):
    """Return the file from which nginx reads an app's key and certificates.

    :param app: the app's name.
    :raises CommandExecutionError: when no app of the host has this name.

    CLI Example:

    .. code-block:: bash

        salt-call site_certificate.path tickets
    """
    load.check(__pillar__)
    declared(__pillar__["app"], app)
    return site.path(app)
