"""Settings: what the pillar says of each formula, checked and completed; see ``saltern.settings``."""

from saltern.settings import load as loading

__load__ = ["load", "loadable"]


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
