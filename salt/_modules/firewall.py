"""The firewall: which ports are open and to whom, and the rules that are live; see ``saltern.ruleset``."""

from saltern import firewall as decided
from saltern import places, ruleset
from saltern.host import Host

__load__ = ["bound_rules", "confirm", "load", "plan", "rules"]


def rules(openings):
    """Write nft's rules for what is open, IPv4 and IPv6 apart.

    :param openings: mappings of ``name``, ``protocol``, ``port`` and ``networks``, as the pillar has them in
        ``firewall:openings``.
    :return: such as ``ip saddr { 10.0.0.4/32 } tcp dport 5432 accept comment "postgres"``.

    CLI Example:

    .. code-block:: bash

        salt-call firewall.rules '[{name: postgres, protocol: tcp, port: 5432, networks: [10.0.0.4/32]}]'
    """
    return decided.rules(openings)


def bound_rules(bounds):
    """Write nft's rules for how many connections each user may have to the services that apps attach.

    :param bounds: see ``places.derive``.
    :return: a rule for each.

    CLI Example:

    .. code-block:: bash

        salt-call firewall.bound_rules '[]'
    """
    return places.rules(bounds)


def plan(path, source):
    """Compare the rules that are live, and the file that is loaded at boot, with what is declared.

    :param path: the file.
    :param source: the template of the rules, a ``salt://`` address.
    :return: the ``text`` of the rules, and the ``changes``.
    :raises CommandExecutionError: when nft refuses the rules, or when they would shut out who is connected by ssh.

    CLI Example:

    .. code-block:: bash

        salt-call firewall.plan /etc/saltern/firewall.nft salt://firewall/files/firewall.nft.jinja
    """
    return ruleset.plan(Host.of(__salt__, __pillar__, __opts__), path, source)


def load(text):
    """Make rules live, until they are confirmed or a timer puts those back that were live before.

    :param text: a script of nft.
    :raises CommandExecutionError: when they cannot be, or the timer cannot be set. Nothing has changed then.

    CLI Example: none, it serves the state ``firewall.loaded``.
    """
    ruleset.load(text, __context__)


def confirm(path):
    """Keep the rules that were loaded: stop the timer, and write the file that is loaded at boot.

    :param path: the file.
    :raises CommandExecutionError: when the rules are no longer live: the timer was faster.

    CLI Example: none, it serves the state ``firewall.confirmed``.
    """
    ruleset.confirm(path, __context__)
