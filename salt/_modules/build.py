"""Builds: an app's tarball, fetched, judged and unpacked with its virtual environment. See ``saltern.builds``."""

from saltern.builds import declared

__load__ = ["damage", "is_first", "unpack"]


def _host():
    return declared.Host.of(__salt__, __pillar__, __opts__)


def damage(app, sha256=None, deeply=False):
    """Say what of a build is missing or other than it was unpacked.

    :param app: the app's name.
    :param sha256: the build's digest, the declared one's where it is not given.
    :param deeply: look at each file.
    :return: such as ``.venv/bin/python is missing``, empty where it is whole.

    CLI Example:

    .. code-block:: bash

        salt-call build.damage tickets deeply=True
    """
    return declared.damage(_host(), app, sha256, deeply)


def is_first(app):
    """Tell whether the declared build of an app can be unpacked early: it waits for no other app.

    Where apps serve, a build is judged by what the others run when it is its turn. Where the host is to trust
    authorities of its own, one of them may be the server's that has the build.

    :param app: the app's name.
    :return: a boolean.

    CLI Example:

    .. code-block:: bash

        salt-call build.is_first tickets
    """
    return declared.is_first(_host(), app)


def unpack(app, deeply=False):
    """Bring the declared build of an app onto the host, and have one that was damaged there as it was.

    Where another process is at it, which a run that was killed may have left behind, it waits for what that one makes.

    :param app: the app's name.
    :param deeply: look at each file of a build that is there.
    :raises CommandExecutionError: with the step that failed, the reason and what to do. Nothing is left behind.

    CLI Example:

    .. code-block:: bash

        salt-call build.unpack tickets
        salt-call build.unpack tickets deeply=True
    """
    declared.unpack(_host(), app, deeply)
