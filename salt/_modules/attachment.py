"""Attachments: a service, bound to an app through one config variable; see ``saltern.attachments``."""

from saltern import services
from saltern.attachments import config
from saltern.attachments import users as using
from saltern.host import Host

__load__ = ["clients", "holders", "left", "login", "replacing", "requisites", "targets", "units", "users"]


def _host():
    return Host.of(__salt__, __pillar__, __opts__)


def login(kind, name):
    """Return the login by which an app comes to what it attaches, as declared.

    :param kind: a service, such as ``postgres``.
    :param name: the resource's name.
    :return: such as ``tickets_3f9a01``.
    :raises CommandExecutionError: when there is no such service, no app attaches such a resource, or the host has no
        key.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.login postgres tickets
    """
    return _host().login(services.formula(kind), name)


def requisites(app):
    """Return the states of this host that must have succeeded before an app can have what it attaches.

    :param app: the app's name.
    :return: requisites, as a state file says them.
    :raises CommandExecutionError: when no app of this host has the name.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.requisites tickets
    """
    return config.requisites(_host(), app)


def left():
    """Return the services whose role this host has lost, and which have files of apps here.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.left
    """
    return config.left(_host())


def replacing():
    """Return the states of this host that end a resource because another one takes its place.

    :return: requisites, as a state file says them.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.replacing
    """
    return config.replacing(_host())


def units():
    """Return the units after which an app's processes are started at boot, where they are on this host.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.units
    """
    return config.units(_host())


def clients():
    """Return the Debian packages of the commands by which an operator asks what apps attach, such as psql.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.clients
    """
    return config.clients(_host())


def targets(app):
    """Return what an app attaches, without what this host derives of it. What has a URL is not derived.

    :param app: the app's name.
    :return: by variable, such as ``{'DATABASE_URL': {'postgres': 'tickets'}}``.
    :raises CommandExecutionError: when no app of this host has the name.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.targets tickets
    """
    return config.targets(_host(), app)


def holders(kind):
    """List which releases of this host log in to a service by which login.

    :param kind: a service, such as ``postgres``.
    :return: releases, such as ``tickets v3``, by login.
    :raises CommandExecutionError: when there is no such service.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.holders postgres
    """
    return using.holders(_host(), services.formula(kind))


def users(kind, name):
    """List the releases of this host that run with a resource in their config, as ``tickets v3``.

    :param kind: a service, such as ``postgres``.
    :param name: by what URLs name it: a database, or the port of a Redis instance.
    :return: releases, sorted.
    :raises CommandExecutionError: when there is no such service, or no app attaches such a resource and no release has
        one.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.users postgres tickets
    """
    return using.asked(_host(), services.formula(kind), str(name))
