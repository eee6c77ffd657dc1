"""What a converge would change on this host."""

from saltern import services
from saltern.host import Host
from saltern.system import restarts

__load__ = ["states"]

# What is told of a host that is as declared, too: nothing in each of these.
LISTS = ("would_change", "failed", "expiring", "restarting", "full", "jobs")


def states():
    """Make a dry run, and tell its states by their IDs alone: a diff or a comment may show a secret.

    It neither keeps a converge from running nor waits for one: Salt refuses two state runs at once, and takes this for
    none. ``state_queue`` is no way: with a number, two that wait in Salt 3008.3 wait for each other for good.

    :return: whether a converge was ``busy`` meanwhile, so that the rest says nothing; the number of ``states``, and the
        IDs of those that ``would_change`` and that ``failed``, in order. No state at all means that none was reached.
        And the certificates that are ``expiring``: a converge goes on with them until the day. And the units that are
        ``restarting``, which systemd has started again and again. And what is ``full``: it holds more than its quota.
        And the ``jobs`` that failed at last, or that have not succeeded for longer than their schedule allows.

    CLI Example:

    .. code-block:: bash

        salt-call drift.states
    """
    nothing = {"busy": True, "states": 0} | {key: [] for key in LISTS}
    if __salt__["state.running"]():
        return nothing
    answer = __salt__["state.apply"](test=True, concurrent=True)
    if __salt__["state.running"]():
        return nothing
    # Where the pillar has a mistake, nothing is known of certificates.
    expiring = __salt__["certificate.expiring"]() if isinstance(answer, dict) else {}
    troubles = __salt__["job.troubles"]() if isinstance(answer, dict) else []
    return summary(answer, expiring, restarts.restarting(), _full() if isinstance(answer, dict) else [], troubles)


def _full():
    host = Host.of(__salt__, __pillar__, __opts__)
    return [f"{service.kind} {one}" for service in services.on(host.roles) for one in service.full(host)]


def summary(answer, expiring, restarting, full, jobs):
    """Tell what a dry run says; see ``states``.

    :param answer: what ``state.apply`` returned: a mapping of states, or the mistakes that stopped it.
    :param expiring: a mapping of path to the day.
    :param restarting: a list of units.
    :param full: what holds more than its quota.
    :param jobs: a sentence for each job that somebody must look at.
    """
    ran = sorted(answer.values(), key=lambda state: state["__run_num__"]) if isinstance(answer, dict) else []
    return {
        "busy": False,
        "states": len(ran),
        "would_change": [state["__id__"] for state in ran if state["result"] is not False and _would_change(state)],
        "failed": [state["__id__"] for state in ran if state["result"] is False],
        "expiring": [f"{path} on {day}" for path, day in sorted(expiring.items())],
        "restarting": restarting,
        "full": full,
        "jobs": jobs,
    }


def _would_change(state):
    return state["result"] is None or bool(state["changes"])
