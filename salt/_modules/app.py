"""Apps that are no longer declared, and the data that is kept of them; see ``saltern.apps``."""

from saltern.apps import left, removal
from saltern.apps import packages as asked
from saltern.host import Host

__load__ = ["awaited", "erase", "orphans", "packages"]


def _host():
    return Host.of(__salt__, __pillar__, __opts__)


def awaited(apps):
    """Return the states that must have succeeded before anything of an app that is gone is taken down.

    :param apps: the apps that are declared.
    :return: requisites, as a state file says them. None where no app is gone.
    :raises CommandExecutionError: when an app of these is not declared.

    CLI Example:

    .. code-block:: bash

        salt-call app.awaited '[faq, tickets]'
    """
    return removal.awaited(_host(), apps)


def orphans():
    """List what is kept of apps and attachments that are no longer declared: data, and packages installed for them.

    :return: a mapping of ``comment`` and ``kept``. By kind and name, such as ``postgres:tickets``, ``kept`` has whose
        data it was (``app``), its ``size``, ``since`` when it is kept, and the command that ``remove``s it for good.
    :raises CommandExecutionError: when the pillar has a mistake, or a service cannot be asked.

    CLI Example:

    .. code-block:: bash

        salt-call app.orphans
    """
    return left.orphans(_host())


def erase(app):
    """Remove for good the files that are kept of an app that is gone, and then its user.

    What other users have in the app's directories stays. Root alone has these directories from then on.

    :param app: the app's name.
    :return: what was done.
    :raises CommandExecutionError: when nothing is kept of such an app, or not all of it may be removed from here.

    CLI Example:

    .. code-block:: bash

        salt-call app.erase shop
    """
    return left.erase(_host(), app)


def packages():
    """List the Debian packages that the apps of this host ask for by an Aptfile.

    The builds of the releases to which an app can go back count too.

    :return: a mapping of name to the ``apps`` that ask for it and the ``installed`` version, ``None`` where it is not
        installed.
    :raises CommandExecutionError: when the pillar has a mistake.

    CLI Example:

    .. code-block:: bash

        salt-call app.packages
    """
    return asked.listed(_host().pillar["app"])
