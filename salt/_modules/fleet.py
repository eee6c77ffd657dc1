"""The plans of a master's orchestrations. See ``saltern.fleet.plans``."""

from saltern.fleet import plans
from saltern.fleet.master import Master

__load__ = ["converge", "reboot", "release", "verify"]


def release(asked):
    """Plan a rolling release of an app, or a rollback.

    :param asked: the orchestration's pillar: ``app`` and ``environment``; ``batch`` in place of the setting
        ``master.batch``; ``force`` for a rollback across a migration; ``drain``, false where hosts are to be moved
        while they serve.
    :return: ``mistakes``, or the app hosts (``apps``), their ``batches``, the ``proxies`` that turn away from each
        batch, all ``hosts`` of both, and the declared ``build``.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd fleet.release '{app: tickets, environment: production}'
    """
    return plans.release(Master.of(__opts__), asked)


def converge(asked):
    """Plan in which order the hosts of an environment converge.

    :param asked: the orchestration's pillar: ``environment``.
    :return: ``mistakes``, or all ``hosts``, and their ``order``: lists of those that converge at once.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd fleet.converge '{environment: production}'
    """
    return plans.converge(Master.of(__opts__), asked)


def verify(asked):
    """Plan which hosts are asked whether they are what is declared.

    :param asked: the orchestration's pillar: ``environment``.
    :return: ``mistakes``, or the minions as ``hosts``, and ``own``: the id of this master, where it is in the
        environment too.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd fleet.verify '{environment: production}'
    """
    return plans.verify(Master.of(__opts__), asked)


def reboot(asked):
    """Plan in which order hosts are rebooted: one after the other, and app hosts a batch at a time.

    :param asked: the orchestration's pillar: ``environment``; ``batch`` in place of the setting ``master.batch``;
        ``all`` for hosts too that need no reboot.
    :return: ``mistakes``, or the ``reasons`` by host, who comes ``before`` the app hosts, their ``batches``, the
        ``proxies`` that turn away from each batch, and who comes ``after``.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd fleet.reboot '{environment: production}'
    """
    return plans.reboot(Master.of(__opts__), asked)
