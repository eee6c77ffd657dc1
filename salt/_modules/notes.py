"""What an operator must know of a host at each converge; see ``saltern.notes``."""

from saltern import notes as noted
from saltern.host import Host

__load__ = ["of_app", "of_host", "tell"]


def of_app(app):
    """Tell that an app is held, so that what the pillar declares need not serve.

    :param app: the app's name.
    :return: a list of sentences, empty where it is not held.

    CLI Example:

    .. code-block:: bash

        salt-call notes.of_app tickets
    """
    return noted.of_app(_host(), app)


def of_host(for_a_while=True):
    """List all that an operator must know of this host: apps that are held or in maintenance, a host that is drained, a
    certificate that ends soon.

    :param for_a_while: whether that the host was drained by ``drain.begin`` is one: an orchestration knows it.
    :return: a list of sentences.

    CLI Example:

    .. code-block:: bash

        salt-call notes.of_host
    """
    return noted.of_host(_host(), for_a_while)


def tell(notes):
    """Have notes be told, whatever is shown of the run that they are of.

    :param notes: a list of sentences.
    :return: what the state is to return of them.

    CLI Example: none, it serves states.
    """
    return noted.tell(__opts__, notes)


def _host():
    return Host.of(__salt__, __pillar__, __opts__)
