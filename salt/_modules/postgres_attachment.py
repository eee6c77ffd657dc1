"""The databases of this host's PostgreSQL; see ``saltern.services.postgres``."""

from saltern.host import Host
from saltern.services import (
    postgres_access,
    postgres_closing,
    postgres_config,
    postgres_extensions,
    postgres_lent,
    postgres_pool,
    postgres_pool_config,
)

__load__ = ["admitted", "kept", "lent", "packages", "parameters", "pool_parameters", "pools", "ways"]


def kept(attached):
    """List the databases of Saltern that no app attaches.

    :param attached: the databases that are attached, in any order.
    :return: a mapping for each database; see ``saltern.services.postgres_closing.kept``.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.

    CLI Example:

    .. code-block:: bash

        salt-call postgres_attachment.kept '[tickets]'
    """
    return postgres_closing.kept(Host.of(__salt__, __pillar__, __opts__), attached)


def admitted(path, databases):
    """Return which app may connect to which database, for the server's access list.

    :param path: the path of the access list, ``pg_hba.conf``.
    :param databases: the settings of the databases that are attached, by name.
    :return: pairs of database and owner, sorted.

    CLI Example:

    .. code-block:: bash

        salt-call postgres_attachment.admitted /etc/postgresql/17/main/pg_hba.conf '{tickets: {owner: tickets}}'
    """
    return postgres_access.admitted(path, databases)


def lent(path, databases):
    """Say which groups of other apps the server lets in to what, for its access list.

    :param path: the path of the access list, ``pg_hba.conf``.
    :param databases: the settings of the databases that are attached, by name.
    :return: database, group and method, as the access list has them.

    CLI Example:

    .. code-block:: bash

        salt-call postgres_attachment.lent /etc/postgresql/17/main/pg_hba.conf '{tickets: {borrowers: {faq: read}}}'
    """
    return postgres_lent.admitted(path, databases)


def packages(version):
    """List the Debian packages of the extensions that databases of this host have, beside the server's own.

    :param version: PostgreSQL's major version.
    :return: names, sorted.
    :raises CommandExecutionError: when the pillar has a mistake.

    CLI Example:

    .. code-block:: bash

        salt-call postgres_attachment.packages 17
    """
    host = Host.of(__salt__, __pillar__, __opts__)
    return list(postgres_extensions.packages(host.pillar["postgres"], version))


def parameters():
    """Return the parameters of PostgreSQL beside those of the formula, for its configuration file.

    :return: quoted text by name: what the pillar sets, and what the extensions of databases need.
    :raises CommandExecutionError: when the pillar has a mistake.

    CLI Example:

    .. code-block:: bash

        salt-call postgres_attachment.parameters
    """
    return postgres_config.parameters(Host.of(__salt__, __pillar__, __opts__))


def pools(way):
    """Return the pools of one way, for PgBouncer's configuration file.

    :param way: ``transaction`` or ``session``.
    :return: for each the database, and how many connections to PostgreSQL there are at most: for a login, and in all.
    :raises CommandExecutionError: when the pillar has a mistake.

    CLI Example:

    .. code-block:: bash

        salt-call postgres_attachment.pools transaction
    """
    return [list(one) for one in postgres_pool.pools(Host.of(__salt__, __pillar__, __opts__).pillar["postgres"], way)]


def pool_parameters(way=None):
    """Return the parameters of PgBouncer beside those of the formula, for its configuration files.

    :param way: ``transaction`` or ``session``; without one, those that PgBouncer reads at its start alone.
    :return: text by name: what the pillar sets, and what is usual.
    :raises CommandExecutionError: when the pillar has a mistake.

    CLI Example:

    .. code-block:: bash

        salt-call postgres_attachment.pool_parameters transaction
    """
    settings = Host.of(__salt__, __pillar__, __opts__).pillar["postgres"]
    if way is None:
        return postgres_pool_config.at_start(settings)
    return postgres_pool_config.parameters(settings, way, __salt__["settings.debian"]()["version"])


def ways():
    """Return the ways in which apps pool their connections to this host, with their ports.

    :raises CommandExecutionError: when the pillar has a mistake.

    CLI Example:

    .. code-block:: bash

        salt-call postgres_attachment.ways
    """
    return postgres_pool.ways(Host.of(__salt__, __pillar__, __opts__).pillar["postgres"])
