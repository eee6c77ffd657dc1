"""The settings of a formula, as a host's compiled pillar has them."""

import copy
from collections.abc import Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern import services

# In the compiled pillar: the formulas that the pillar files mention.
DECLARED_KEY = "_declared"


def loaded(pillar: Mapping[str, Any], formula: str) -> dict[str, Any]:
    """Return the settings of a formula: defaults, overlaid by the pillar, checked.

    :param pillar: the host's, compiled.
    :param formula: the formula's name.
    :raises CommandExecutionError: when the pillar has a mistake, or no formula has this name.
    """
    if pillar.get("_errors"):
        raise CommandExecutionError("\n".join(pillar["_errors"]))
    if DECLARED_KEY not in pillar:
        raise CommandExecutionError(
            "the pillar was not checked; expected ext_pillar in /etc/salt/minion: run bootstrap.sh"
        )
    if formula not in pillar:
        raise CommandExecutionError(f"{formula}: no formula has this name")
    return settings(pillar, formula)


def settings(pillar: Mapping[str, Any], formula: str) -> dict[str, Any]:
    """Return the settings of a formula, from a pillar without mistakes.

    :param pillar: the host's, compiled.
    :param formula: the formula's name.
    """
    found: dict[str, Any] = copy.deepcopy(pillar[formula])
    # A pillar keeps the resources that a URL replaces: Salt lays what is compiled over what the files say.
    if service := services.formulas().get(formula):
        found[service.plural] = service.owned(found)
    return found
