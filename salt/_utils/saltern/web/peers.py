"""The file of a site's peers: the app hosts among which nginx chooses, and which of them are out.

A converge writes the file, and so does saltern-peers. That service has Python's own library
alone, so formulas/nginx/files/peers.py has the same functions.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

# Until its first release an app has no process. nginx answers 502, and starts all the same.
NO_PROCESS = "server 127.0.0.1:1 down;\n"

PEER = re.compile(r"^(?:# )?server (\S+) .*; # (\S+)( is drained)?( is out)?$", re.MULTILINE)


def written(site: Mapping[str, Any]) -> str:
    """Write the app hosts of a site, all of them in but for those that are drained.

    :param site: the site's entry in the setting ``peers``.
    :return: the text of the file, which saltern-peers reads too.
    """
    lines = [f"# saltern-peers asks each of them whether it is ready: {site['status']} within {site['timeout']} s.\n"]
    for peer in site["servers"]:
        state = " is drained" if peer["drained"] else ""
        lines.append(f"server {peer['address']} down; # {peer['id']}{state}\n")
    return mark("".join(lines), set()) if site["servers"] else NO_PROCESS


def mark(text: str, out: Collection[str]) -> str:
    """Write which peers are out.

    The others are no servers at all to nginx, and one that is left alone is never passed over: among several, be they
    down, nginx would answer 502 where an open connection to it was just closed, or after it failed a few times.

    :param text: of the file with a site's peers.
    :param out: the ids of those that are out.
    :return: the text anew.
    """
    left = [name for _, name, is_drained, _ in PEER.findall(text) if not is_drained and name not in out]

    def line(match: re.Match[str]) -> str:
        address, name, state, _ = match.groups()
        rules = "max_fails=0" if left == [name] else "max_fails=2 fail_timeout=2s" if name in left else "down"
        start = "# server" if left and name not in left else "server"
        return f"{start} {address} {rules}; # {name}{state or ''}{' is out' if name in out else ''}"

    return PEER.sub(line, text)


def out(text: str) -> set[str]:
    """Return the ids of the peers that are out.

    :param text: of the file with a site's peers.
    """
    return {name for _, name, _, is_out in PEER.findall(text) if is_out}


def drained(text: str) -> set[str]:
    """Return the ids of the peers that the inventory drains.

    :param text: of the file with a site's peers.
    """
    return {name for _, name, is_drained, _ in PEER.findall(text) if is_drained}


def at(text: str) -> list[tuple[str, str]]:
    """Return the address and the id of each peer.

    :param text: of the file with a site's peers.
    """
    return [(address, name) for address, name, _, _ in PEER.findall(text)]


def serving(text: str) -> set[str]:
    """Return the ids of the peers that get requests.

    :param text: of the file with a site's peers.
    """
    return {name for _, name, is_drained, is_out in PEER.findall(text) if not is_drained and not is_out}
