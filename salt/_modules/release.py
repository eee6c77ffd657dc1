"""Releases: a build and a config, numbered and immutable, and the one that serves. See ``saltern.releases``.

What is declared is compared with what is on the host (``plan``), and what differs is done (``deploy``), in steps.
Whatever fails before the step ``switch`` leaves the serving release as it is; whatever is interrupted is put right by
the next converge, since each step first looks at what is there.
"""

from saltern.host import Host
from saltern.releases import deploy as deploying
from saltern.releases import plan as planning
from saltern.releases import report
from saltern.releases import rollback as going_back
from saltern.releases import verify as verifying

__load__ = ["deploy", "hold", "list_", "log", "migrate", "migrated", "movable", "plan", "rollback", "show", "unhold"]
__load__ += ["verify"]
__func_alias__ = {"list_": "list"}
# By the functions' own names: Salt does not look for their aliases.
__outputter__ = {"list_": "rows", "log": "rows"}


def _host():
    return Host.of(__salt__, __pillar__, __opts__)


def plan(app):
    """Compare what is declared for an app with what serves.

    :param app: the app's name.
    :return: ``number`` of the release that is to serve, whether it is ``new``, the ``ports`` of its processes, what is
        ``held``, the ``changes`` as a state reports them, and what would ``stay`` though it is old: a sentence for
        each release. Without changes there is nothing to do.
    :raises CommandExecutionError: when the app is not declared, the formation asks for what the build does not have, or
        the build takes away what other apps attach.

    CLI Example:

    .. code-block:: bash

        salt-call release.plan tickets
    """
    return planning.plan(_host(), app)


def deploy(app):
    """Bring the declared release of an app to serve.

    :param app: the app's name.
    :return: the number of the ``release`` that serves, the releases and builds that were ``pruned``, and what was
        ``told`` of the move to it: a sentence for each thing, such as a request that was cut off.
    :raises CommandExecutionError: when it was refused, with the step, the reason and what its processes logged last.

    CLI Example:

    .. code-block:: bash

        salt-call release.deploy tickets
    """
    return deploying.deploy(_host(), app, __context__)


def migrate(app, sha256=None):
    """Run the process type ``release`` of what is declared, as a release does, and leave what serves as it is.

    :param app: the app's name.
    :param sha256: the digest of the build that whoever asks takes for the declared one.
    :return: what was done.
    :raises CommandExecutionError: when this host is told of another build, the app is held, the build is not on the
        host yet, or it failed, with what it logged last.

    CLI Example:

    .. code-block:: bash

        salt-call release.migrate tickets
    """
    return deploying.migrate(_host(), app, sha256)


def migrated(app, sha256):
    """Take note that another host has run the process type ``release`` of a build: this one's next release does not.

    :param app: the app's name.
    :param sha256: the build's digest.
    :raises CommandExecutionError: when this host is told of another build, or the app is held.

    CLI Example:

    .. code-block:: bash

        salt-call release.migrated tickets 3a7bd3e2360a…
    """
    return deploying.migrated(_host(), app, sha256)


def movable(app, sha256=None):
    """Tell that a release would bring an app on to what is declared, on this host. Nothing is done.

    :param app: the app's name.
    :param sha256: the digest of the build that whoever asks takes for the declared one.
    :return: true.
    :raises CommandExecutionError: when this host is told of another build, or the app is held.

    CLI Example:

    .. code-block:: bash

        salt-call release.movable tickets
    """
    return deploying.movable(_host(), app, sha256)


def verify(*apps):
    """Ask the releases that serve whether they are as declared, healthy, as their contracts say, and without errors.

    :param apps: the apps' names, all of this host's where none is given.
    :return: what serves, by app.
    :raises CommandExecutionError: with what is wrong, and what its processes logged of it.

    CLI Example:

    .. code-block:: bash

        salt-call release.verify
        salt-call release.verify tickets
    """
    return verifying.verify(_host(), apps, __context__)


def rollback(app, number=None, force=False, declared=False):
    """Go back to an earlier release, its config included, and hold the app there.

    What it attaches it reaches as the release that serves does: the passwords of before may be closed by now. It holds
    until the pillar asks for another build or config than the one that was left.

    :param app: the app's name.
    :param number: the release to go back to. Without it, the last one that served before the current one and was
        not itself left for an earlier one.
    :param force: go back across a migration, to a build without a version that is attached, or to a release that has
        attached what is not there any more.
    :param declared: go back from what is declared alone, as for a fleet: a host that has gone back already stays, and
        one on which what is declared never came to serve stays too, and is held.
    :return: what was done.
    :raises CommandExecutionError: when there is no such release, a migration lies between, a version is not in it, or
        what it has attached is not there any more.

    CLI Example:

    .. code-block:: bash

        salt-call release.rollback tickets
        salt-call release.rollback tickets 11 force=True
    """
    return going_back.rollback(_host(), app, number, force, declared)


def hold(app):
    """Hold an app at its current release, whatever the pillar asks for, until ``release.unhold``.

    :param app: the app's name.
    :return: what was done.
    :raises CommandExecutionError: when no release serves.

    CLI Example:

    .. code-block:: bash

        salt-call release.hold tickets
    """
    return going_back.hold(_host(), app)


def unhold(app):
    """Let the next converge move an app on again.

    :param app: the app's name.
    :return: what was done.

    CLI Example:

    .. code-block:: bash

        salt-call release.unhold tickets
    """
    return going_back.unhold(_host(), app)


def list_(app):
    """List an app's releases on this host, newest first.

    :param app: the app's name.
    :return: a mapping for each.

    CLI Example:

    .. code-block:: bash

        salt-call release.list tickets
        salt-call release.list tickets --out json
    """
    return report.listed(_host(), app)


def show(app, number=None):
    """Show a release: its build, its process types and the names of its variables.

    :param app: the app's name.
    :param number: the release, the current one where it is not given.
    :return: a mapping.
    :raises CommandExecutionError: when there is no such release.

    CLI Example:

    .. code-block:: bash

        salt-call release.show tickets 11
    """
    return report.show(_host(), app, number)


def log(app):
    """Show what happened to an app's releases: who, when, what changed. Never a value of a variable.

    :param app: the app's name.
    :return: a mapping for each event, oldest first.

    CLI Example:

    .. code-block:: bash

        salt-call release.log tickets
    """
    return report.log(_host(), app)
