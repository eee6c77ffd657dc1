"""Draining an app host for a while. See ``saltern.fleet.drain``.

For longer than a run or a reboot, write ``drain: true`` into the inventory.
"""

from saltern.fleet import drain
from saltern.host import Host

__load__ = ["begin", "end", "is_drained", "undo", "wait"]


def _host():
    return Host.of(__salt__, __pillar__, __opts__)


def begin():
    """Drain this host: its apps get no requests. Their workers go on.

    A process that is alone in its environment ends, and another host runs it.

    :return: what was done, in words.
    :raises CommandExecutionError: when it is no app host.

    CLI Example:

    .. code-block:: bash

        salt-call drain.begin
    """
    return drain.begin(_host())


def end():
    """Let this host take requests again.

    :return: what was done, in words.

    CLI Example:

    .. code-block:: bash

        salt-call drain.end
    """
    return drain.end()


def undo():
    """End the drain where the same releases serve as before it.

    :return: what was done, in words.

    CLI Example:

    .. code-block:: bash

        salt-call drain.undo
    """
    return drain.undo(_host())


def is_drained():
    """Tell whether this host was drained with ``drain.begin``.

    CLI Example:

    .. code-block:: bash

        salt-call drain.is_drained
    """
    return drain.is_drained()


def wait(hosts, out=True, timeout=60):
    """Wait until this proxy sends some app hosts no requests and has all their answers; or until it uses them again.

    :param hosts: the app hosts' ids, or one of them.
    :param out: whether they are to get no requests. False to wait until they get some.
    :param timeout: seconds until the proxy must have turned.
    :return: the seconds until it turned, and what was still under way when the time of the apps' ``in_flight`` was
        over.
    :raises CommandExecutionError: when the host is no proxy, has no such app hosts, or has not turned in time, with the
        reason.

    CLI Example:

    .. code-block:: bash

        salt-call drain.wait app1
        salt-call drain.wait '[app1, app2]' out=False
    """
    return drain.wait(_host(), hosts, out, timeout)
