"""The journal, and what of it may be believed."""

from salt.exceptions import CommandExecutionError

from saltern.releases import store
from saltern.system import journal

__load__ = ["lines", "stream", "users"]


def users(text=None):
    """Return which app a user of this host is of.

    :param text: that of another host, as ``getent passwd`` gives it.
    :return: the app's name by UID, as text. Not every app of it need be declared any more.

    CLI Example:

    .. code-block:: bash

        salt-call journal.users
    """
    return journal.users(text)


def lines(matches, raw=False, **options):
    """Read the journal.

    :param matches: a list of those of ``journalctl``, such as ``_UID=0``: what is no trusted field says nothing of who
        wrote a line.
    :param raw: leave the messages as they are: whoever asks looks for something in them, and escapes them then.
    :param options: of ``journalctl``, such as ``since='@1700000000'``, or ``lines=10`` for the last ten.
    :return: the entries, oldest first, as text by field.

    CLI Example:

    .. code-block:: bash

        salt-call journal.lines '[_UID=0, SYSLOG_IDENTIFIER=saltern-drift]' lines=1
    """
    given = {name: value for name, value in options.items() if not name.startswith("__")}
    return journal.lines(_run, matches, raw, **given)


def stream(app, release, process, since):
    """Find the stream by which one process of a release has logged, from its start to its end.

    :param app: the app's name.
    :param release: its release's number.
    :param process: such as ``web.1``.
    :param since: seconds since 1970. Of several starts since then the first counts; where there is none, the last one
        before.
    :return: the stream's number, or ``None`` where the process was never started.

    CLI Example:

    .. code-block:: bash

        salt-call journal.stream tickets 12 web.1 1700000000
    """
    try:
        number, moment = int(str(release).removeprefix("v")), float(since)
    except ValueError:
        raise CommandExecutionError(
            f"{release}, {since}: expected a release's number such as 12, and seconds since 1970"
        ) from None
    return journal.stream(_run, app, number, process, moment, store.created(app, number))


def _run(command):
    return __salt__["cmd.run_stdout"](command, python_shell=False, ignore_retcode=True, output_loglevel="quiet")
