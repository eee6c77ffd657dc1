"""The apps of a host: maintenance, what is kept of apps that are gone, packages. See ``saltern.apps``."""

from salt.exceptions import CommandExecutionError

from saltern import leases as leased
from saltern.apps import left, removal, takes_leases
from saltern.apps import packages as asked
from saltern.host import Host
from saltern.system import terminal
from saltern.web import maintenance as closing

# `on` and `off`, as YAML reads them on a command line.
STATES = {"on": True, "true": True, "off": False, "false": False}

__load__ = ["awaited", "erase", "leases", "maintenance", "orphans", "packages"]


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


def leases():
    """Return what launchers of processes that are alone in their environment, and runners of jobs, must know.

    :return: a mapping; see ``saltern.leases.settings``. Empty where no app of the host has such a process or a job.
    :raises CommandExecutionError: when the pillar has a mistake.

    CLI Example:

    .. code-block:: bash

        salt-call app.leases
    """
    host = _host()
    if not any(map(takes_leases, host.pillar["app"].values())):
        return {}
    return leased.settings(host.pillar, host.id)


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


def maintenance(app, state=None, message=None, allow=None, until=None):
    """Have nginx answer 503 in an app's place, until it is ended; end it; or, without a state, say how it is.

    It counts for this proxy's site. Other apps still reach the app, and its processes go on.

    :param app: the app's name.
    :param state: ``on`` or ``off``.
    :param message: what visitors are told, in the place of words of Saltern's own.
    :param allow: addresses and networks whose clients get the app's own answers: a list, or text with commas.
    :param until: when it is expected to end: ``2026-11-30T06:00Z``, or ``+90m``, ``+2h``, ``+1d`` from now. Clients are
        told. It does not end by itself.
    :return: what was done, or how it is, in words.
    :raises CommandExecutionError: when the app has no site here, a value is not acceptable, or nginx refuses it.

    CLI Example:

    .. code-block:: bash

        salt-call app.maintenance tickets on message='Back at six.' allow=192.0.2.7,10.0.0.0/8 until=+2h
        salt-call app.maintenance tickets off
        salt-call app.maintenance tickets
    """
    given = [word for word, value in (("message", message), ("allow", allow), ("until", until)) if value is not None]
    if state is not None and str(state).lower() not in STATES:
        raise CommandExecutionError("state: expected on, off, or none to be told how it is")
    is_on = None if state is None else STATES[str(state).lower()]
    if given and not is_on:
        raise CommandExecutionError(f"{given[0]}: is said with `on` alone; expected app.maintenance {app} on")
    if isinstance(message, str) and "\n" in message:
        # Salt takes what has several lines for no keyword's.
        message = message.removeprefix("message=")
    host = _host()
    if is_on is None:
        return terminal.shown(closing.told(host, app))
    return terminal.shown(closing.begin(host, app, message, allow, until) if is_on else closing.end(host, app))
