"""Settings: what the pillar says of each formula, checked and completed; see ``saltern.settings``."""

import salt.utils.yaml

from saltern.settings import load as loading

__load__ = ["debian", "load", "loadable"]


def debian():
    """Return what differs between the Debian releases, as this host has it: a row of ``debian.yaml``.

    An ``import_yaml`` would have Jinja compile that file again in each state file.

    :return: a mapping, such as of ``postgres`` to the version of PostgreSQL.

    CLI Example:

    .. code-block:: bash

        salt-call settings.debian
    """
    if "saltern.debian" not in __context__:
        with open(__salt__["cp.cache_file"]("salt://debian.yaml"), encoding="utf-8") as stream:
            __context__["saltern.debian"] = salt.utils.yaml.safe_load(stream)[__grains__["oscodename"]]
    return __context__["saltern.debian"]


def load(formula):
    """Return the settings of a formula on this host: defaults, overlaid by the pillar, checked.

    :param formula: the formula's name, such as ``nginx``.
    :return: a mapping of its settings, complete.
    :raises CommandExecutionError: when the pillar has a mistake or no formula has this name.

    CLI Example:

    .. code-block:: bash

        salt-call settings.load nginx
    """
    return loading.loaded(__pillar__, formula)


def loadable(environment, minion_id):
    """List the pillar files of a host that Salt can load, for ``pillar/top.sls``.

    Salt says little about a file that it cannot load. So Salt does not get such a file, and the external pillar says
    what is wrong with it.

    :param environment: the host's. Empty where the inventory does not say it.
    :param minion_id: the host's id.
    :return: names as a top file has them, such as ``environments.dev``.

    CLI Example:

    .. code-block:: bash

        salt-call settings.loadable dev dev
    """
    # On a minion of a master, the states need only what is loaded.
    from saltern.settings import pillar

    def rendered(path):
        return __salt__["slsutil.renderer"](path, default_renderer="jinja|yaml")

    return pillar.loadable(environment, minion_id, __opts__["pillar_roots"]["base"], rendered)
