"""The minions of a master, asked all at once."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError, SaltClientError

# Seconds in which a minion must answer.
TIMEOUT = 10

# Asks minions, as ``ask`` does with the options of a master.
Asks = Callable[..., dict[str, Any]]


def ask(
    options: Mapping[str, Any],
    names: Collection[str],
    function: str,
    *arguments: Any,
    timeout: int = TIMEOUT,
    **named: Any,
) -> dict[str, Any]:
    """Ask minions, all at once.

    :param options: ``__opts__`` of the master.
    :param names: the minions' ids.
    :param function: of an execution module.
    :param arguments: the function's.
    :param timeout: seconds in which they must answer.
    :param named: options of Salt's ``LocalClient.cmd``.
    :return: an answer by id, of each minion that gave one.
    :raises CommandExecutionError: when no master runs here.
    """
    if not names:
        return {}
    # A minion, which imports this module for other functions, need not wait for it.
    import salt.client

    try:
        with salt.client.get_local_client(mopts=options) as client:
            answers: dict[str, Any] = client.cmd(
                list(names), function, arguments, tgt_type="list", timeout=timeout, **named
            )
            return answers
    except SaltClientError as error:
        raise CommandExecutionError(
            "The master does not run here; expected a host with the role master: systemctl start salt-master"
        ) from error


def silent(asks: Asks, names: Collection[str]) -> str:
    """Ask minions whether they are there.

    :param asks: asks minions.
    :param names: their ids.
    :return: a message that names those which do not answer. Empty where all do.
    :raises CommandExecutionError: when no master runs here.
    """
    answered = asks(names, "test.ping", gather_job_timeout=TIMEOUT // 2)
    missing = [name for name in sorted(names) if answered.get(name) is not True]
    if not missing:
        return ""
    return (
        f"{', '.join(missing)}: no answer within {TIMEOUT} s; nothing was touched. Start salt-minion there, and run "
        "this again"
    )
