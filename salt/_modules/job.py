"""Jobs: process types of apps that run by the clock; see ``saltern.jobs``."""

from saltern.host import Host
from saltern.jobs import hand, report

__load__ = ["list_", "log", "resume", "run", "successes", "suspend", "troubles"]
__func_alias__ = {"list_": "list"}
# By the functions' own names: Salt does not look for their aliases.
__outputter__ = {"list_": "rows", "log": "rows"}


def _host():
    return Host.of(__salt__, __pillar__, __opts__)


def list_(app=None):
    """List the jobs of this host's apps: when each runs, and how its last run on any host ended.

    :param app: one app's only.
    :return: a mapping for each. Of a failed run ``reason`` has the last lines.
    :raises CommandExecutionError: when no app of this host has the name.

    CLI Example:

    .. code-block:: bash

        salt-call job.list
        salt-call job.list tickets
    """
    return report.listed(_host(), app)


def log(app, job):
    """List the last runs of a job on this host, oldest first.

    :param app: the app's name.
    :param job: the job's name.
    :return: a mapping for each.
    :raises CommandExecutionError: when there is no such job.

    CLI Example:

    .. code-block:: bash

        salt-call job.log tickets clearsessions
    """
    return report.log(_host(), app, job)


def run(app, job):
    """Run a job now, on this host, and wait for its end. Its lines come on standard error.

    It takes no scheduled moment. Where whoever waits is interrupted, the run goes on.

    :param app: the app's name.
    :param job: the job's name.
    :return: how it ended. ``salt-call --retcode-passthrough`` ends with its exit status.
    :raises CommandExecutionError: when there is no such job here, or it did not begin: another run is under way.

    CLI Example:

    .. code-block:: bash

        salt-call job.run tickets clearsessions
    """
    found, __context__["retcode"] = hand.run(_host(), app, job)
    return found


def suspend(app, job):
    """Suspend a job on all hosts of the environment, until ``job.resume``. A run under way goes on.

    :param app: the app's name.
    :param job: the job's name.
    :return: what was done.
    :raises CommandExecutionError: when there is no such job, or nobody can be asked for all hosts.

    CLI Example:

    .. code-block:: bash

        salt-call job.suspend tickets clearsessions
    """
    return report.suspend(_host(), app, job)


def resume(app, job):
    """Have a job run by the clock again. What was missed meanwhile is not made up.

    :param app: the app's name.
    :param job: the job's name.
    :return: what was done.
    :raises CommandExecutionError: when there is no such job, or nobody can be asked for all hosts.

    CLI Example:

    .. code-block:: bash

        salt-call job.resume tickets clearsessions
    """
    return report.resume(_host(), app, job)


def successes():
    """Tell when a run of each job succeeded last, on any host of the environment.

    :return: seconds since 1970, by app and job. 0 where none has.
    :raises CommandExecutionError: when the pillar has a mistake.

    CLI Example:

    .. code-block:: bash

        salt-call job.successes
    """
    return report.successes(_host())


def troubles():
    """List the jobs that somebody must look at: the last run failed, or none has succeeded for too long.

    :return: a sentence for each.
    :raises CommandExecutionError: when the pillar has a mistake.

    CLI Example:

    .. code-block:: bash

        salt-call job.troubles
    """
    return report.troubles(_host())
