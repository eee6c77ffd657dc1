"""The settings of a formula, as a host's compiled pillar has them."""

import copy
from collections.abc import Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern import services

# In the compiled pillar: the formulas that the pillar files mention.
DECLARED_KEY = "_declared"
# In a pillar with mistakes: the messages, and nothing else.
ERRORS_KEY = "_errors"


def check(pillar: Mapping[str, Any]) -> None:
    """Refuse a pillar that has mistakes.

    :param pillar: the host's, compiled.
    :raises CommandExecutionError: with all mistakes.
    """
    if mistakes := pillar.get(ERRORS_KEY):
        raise CommandExecutionError("\n".join(mistakes))


def loaded(pillar: Mapping[str, Any], formula: str) -> dict[str, Any]:
    """Return the settings of a formula: defaults, overlaid by the pillar, checked.

    The resources that a URL replaces are left out.

    :param pillar: the host's, compiled.
    :param formula: the formula's name.
    :raises CommandExecutionError: when the pillar has a mistake or was not checked, or no formula has this name.
    """
    check(pillar)
    if DECLARED_KEY not in pillar:
        raise CommandExecutionError(
            "the pillar was not checked; expected ext_pillar in /etc/salt/minion: run bootstrap.sh"
        )
    if formula not in pillar:
        raise CommandExecutionError(f"{formula}: no formula has this name")
    return settings(pillar, formula)


def settings(pillar: Mapping[str, Any], formula: str) -> dict[str, Any]:
    """Return the settings of a formula, from a pillar that was checked; see ``loaded``.

    :param pillar: the host's, compiled.
    :param formula: the name of a formula.
    """
    found: dict[str, Any] = copy.deepcopy(pillar[formula])
    # Nothing can be taken out of a pillar: Salt lays what is compiled over what the files say.
    if service := services.formulas().get(formula):
        found[service.plural] = service.owned(found)
    return found
