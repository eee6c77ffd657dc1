"""Attachments: a service, bound to an app through one config variable. See ``saltern.attachments``."""

import hashlib

from saltern import services
from saltern.attachments import config, earlier
from saltern.attachments import users as users_
from saltern.host import OPERATOR, Host

__load__ = ["digest", "environ", "holders", "lent", "login", "operator_password", "password", "renewed", "replacing"]
__load__ += ["requisites", "shared", "targets", "units", "users"]


def _host():
    return Host.of(__salt__, __pillar__, __opts__)


def login(kind, name):
    """Return by which login an app comes to what it attaches, as declared.

    :param kind: a service, such as ``postgres``.
    :param name: the resource's name.
    :return: such as ``tickets_3f9a01``.
    :raises CommandExecutionError: when the host has no key.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.login postgres tickets
    """
    return _host().login(services.formulas()[kind], name)


def password(kind, name):
    """Return the password of a resource: the pillar's, or this host's own.

    :param kind: a service, such as ``postgres``.
    :param name: the resource's name.
    :return: the password.
    :raises CommandExecutionError: when the host has no key.

    CLI Example: none, it would print a secret.
    """
    return _host().password(services.formulas()[kind], name)


def digest(name, user=None):
    """Return by what a Redis instance knows the password of a user: its SHA-256.

    :param name: the instance.
    :param user: ``operator``, or the app where it is not given.
    :return: 64 hexadecimal digits.

    CLI Example: none, it serves a template.
    """
    secret = operator_password(name) if user == OPERATOR else password("redis", name)
    return hashlib.sha256(secret.encode()).hexdigest()


def lent(name):
    """List to whom a Redis instance is lent, and by what the instance knows the password of each: its SHA-256.

    :param name: the instance.
    :return: of each its ``app``, ``access``, ``login`` and ``digest``.
    :raises CommandExecutionError: when the host has no key.

    CLI Example: none, it serves the states of ``redis_instance``.
    """
    return [
        {
            "app": one.app,
            "access": one.access,
            "login": one.login,
            "digest": hashlib.sha256(one.password.encode()).hexdigest(),
        }
        for one in _host().lent(services.formulas()["redis"], name)
    ]


def operator_password(name):
    """Return the password by which this host asks one of its Redis instances.

    :param name: the instance.

    CLI Example: none, it would print a secret.
    """
    return _host().own_password(OPERATOR, name)


def requisites(app):
    """Return the states of this host that must have succeeded before an app can have what it attaches.

    :param app: the app's name.
    :return: requisites, as a state file says them.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.requisites tickets
    """
    return config.requisites(_host(), app)


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


def environ(app):
    """Return an app's whole config on this host: its variables and its attachments' URLs.

    :param app: the app's name.
    :return: a mapping of variable to value.

    CLI Example: none, it would print secrets.
    """
    return config.environ(_host(), app)


def targets(app):
    """Return what an app attaches, without what this host derives of it. What has a URL is not derived.

    :param app: the app's name.
    :return: by variable, such as ``{'DATABASE_URL': {'postgres': 'tickets'}}``.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.targets tickets
    """
    return config.targets(_host(), app)


def renewed(app, number, current):
    """Work out the attachments of an earlier release as they are today: its own may no longer be valid.

    :param app: the app's name.
    :param number: the release.
    :param current: the release that serves.
    :return: value by variable, and a sentence for each attachment that is not there any more.

    CLI Example: none, it would print secrets.
    """
    return earlier.renewed(_host(), app, number, current)


def shared(app, number):
    """List the variables by which a release has the same attachment as is declared, be its password another.

    :param app: the app's name.
    :param number: the release.
    :return: names.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.shared tickets 3
    """
    return earlier.shared(_host(), app, number)


def holders(kind, leaving=True, staying=()):
    """List which releases of this host log in to a service by which login.

    :param kind: a service, such as ``postgres``.
    :param leaving: ``False`` to pass over those that a converge would stop.
    :param staying: apps of which it would stop none; see ``users``.
    :return: releases, such as ``tickets v3``, by login.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.holders postgres
    """
    return users_.holders(_host(), services.formulas()[kind], leaving, staying)


def users(kind, name, staying=()):
    """List the releases of this host that run with a resource in their config, as ``tickets v3``.

    :param kind: a service, such as ``postgres``.
    :param name: by what URLs name it: a database, or the port of a Redis instance.
    :param staying: the apps whose release has failed in this run, and an empty name where the removal of apps has.
    :return: releases, sorted.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.users postgres tickets
    """
    return users_.users(_host(), services.formulas()[kind], str(name), staying)
