"""Addresses and networks that people declare."""

import ipaddress
from collections.abc import Iterable


def problem(text: str) -> str:
    """Say what is wrong with an address or a network, or nothing.

    :param text: such as ``10.0.0.0/8``, or an address alone.
    """
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return "is no network; expected one such as 10.0.0.0/8 or 2001:db8::/32"
    if str(network.network_address) != str(ipaddress.ip_address(text.partition("/")[0])):
        return "has an address inside the network; expected its first one, such as 10.0.0.0/8, or a prefix of one host"
    if network.version == 6 and network.network_address.ipv4_mapped:
        return "is a network of IPv4 in the form of IPv6; expected it as IPv4"
    return ""


def faults(path: str, texts: Iterable[str]) -> list[str]:
    """List what is wrong with the addresses and networks of a list.

    :param path: of the setting.
    :param texts: what is declared.
    :return: a message for each.
    """
    return [f"{path}[{index}]: {wrong}" for index, text in enumerate(texts) if (wrong := problem(text))]


def whole(text: str) -> str:
    """Write an address or a network in one way, with its prefix.

    :param text: one without a problem.
    """
    return str(ipaddress.ip_network(text))
