"""The Redis instances of this host: whom each admits, and who is connected; see ``saltern.services.redis``."""

from saltern import services
from saltern.host import Host
from saltern.services import redis_connection

__load__ = ["admitted", "connected"]


def admitted(name, port):
    """Return whom an instance admits: the digests of a user's passwords by the user's name.

    :param name: the instance.
    :param port: its port.
    :raises CommandExecutionError: when no app attaches such an instance, or it does not answer, or it does not let the
        host in.

    CLI Example:

    .. code-block:: bash

        salt-call redis_connection.admitted tickets 8199
    """
    return redis_connection.admitted(_host(name), name, port)


def connected(name, port):
    """List from where clients are connected, by user.

    :param name: the instance.
    :param port: its port.
    :return: addresses, sorted, by user.
    :raises CommandExecutionError: when no app attaches such an instance, or it does not answer.

    CLI Example:

    .. code-block:: bash

        salt-call redis_connection.connected tickets 8199
    """
    return redis_connection.connected(_host(name), name, port)


def _host(name):
    """Return this host, where it has an instance of this name."""
    host = Host.of(__salt__, __pillar__, __opts__)
    host.resource(services.formulas()["redis"], name)
    return host
