"""HTTP/3: a second nginx in front of nginx itself, which releases do not reload."""

from collections.abc import Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

# In the tree of nginx.
CONFIG = "http3/nginx.conf"
PID_FILE = "/run/saltern-http3.pid"
# Where nginx itself takes what came by HTTP/3. nginx makes the directory, and only its own user may enter it.
SOCKET = "unix:/var/lib/nginx/proxy/http3.sock"


def is_served(nginx: Mapping[str, Any]) -> bool:
    """Tell whether a host serves by HTTP/3.

    :param nginx: the formula's settings, complete.
    """
    return bool(nginx["http3"] and nginx["sites"])


def judge(nginx: Mapping[str, Any], debian: Mapping[str, Any]) -> None:
    """Refuse HTTP/3 on a host whose nginx has none.

    :param nginx: the formula's settings, complete.
    :param debian: the host's row of ``debian.yaml``.
    :raises CommandExecutionError: where the settings ask for it.
    """
    if is_served(nginx) and not debian["http3"]:
        raise CommandExecutionError(
            f"nginx.http3: the nginx of Debian {debian['version']} has no HTTP/3; expected False, or a newer Debian"
        )
