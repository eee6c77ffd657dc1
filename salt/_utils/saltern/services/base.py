"""What the rest of Saltern asks of a service."""

import abc
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from saltern import inventory

LOOPBACK = "127.0.0.1"

# An app verifies by this file that a service is its environment's, on its own host too.
AUTHORITIES = "/etc/ssl/saltern/ca.pem"


# Calls a function of Salt: ``ask("service.stop", "nginx")``.
Ask = Callable[..., Any]
Settings = dict[str, Any]
Target = dict[str, Any]
Requisite = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Hosts:
    """The inventory, as one host sees it.

    :param rows: rows by host id.
    :param own: the host's id.
    """

    rows: Mapping[str, Mapping[str, Any]]
    own: str

    def peers(self, role: str) -> list[str]:
        """Return the ids of the hosts of the environment that have a role, sorted."""
        return inventory.peers(self.rows, self.own, role)  # type: ignore[arg-type]

    def reached(self, candidates: Sequence[str]) -> str:
        """Return where the host reaches the first of some hosts: at itself, if it is one of them."""
        return LOOPBACK if self.own in candidates else str(self.rows[candidates[0]]["address"])

    @property
    def environment(self) -> str:
        """The host's environment."""
        return str(self.rows[self.own]["environment"])

    def lacking(self, path: str, role: str) -> str:
        """Say that the environment has no host with a role, which the setting at a path needs."""
        return f"{path}: no host of {self.environment} has the role {role}; expected one in pillar/hosts.yaml"


class Service(abc.ABC):
    """A service that an app can attach.

    :cvar kind: the word for it in an app's ``attach``.
    :cvar schema: what an app may say of an attachment: JSON Schemas by word, ``kind`` first.
    :cvar role: which role provides it. Empty where none does.
    :cvar scheme: how its URLs begin.
    :cvar replaces: whether it may stand beside another service, and then takes that one's place.
    :cvar part: what its URL's path is called as a part.
    :cvar query: what its URLs say for TLS. An app verifies its authority and its address.
    """

    kind: ClassVar[str]
    schema: ClassVar[Mapping[str, Any]]
    role: ClassVar[str] = ""
    scheme: ClassVar[str] = ""
    replaces: ClassVar[bool] = False
    part: ClassVar[str] = "PATH"
    query: ClassVar[Mapping[str, str]] = {}

    @abc.abstractmethod
    def attach(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Complete an attachment with where the app reaches it.

        :param path: of the attachment, such as ``app.shop.attach.DATABASE_URL``.
        :param target: what the app says of it, which is completed.
        :param app: the app's name.
        :param settings: a mapping of formula to settings, which may be completed.
        :param hosts: the inventory.
        :return: a list of mistakes.
        """

    @abc.abstractmethod
    def path(self, target: Target) -> str:
        """Return the path of an attachment's URL.

        :param target: as ``attach`` completes it.
        """

    def url(self, target: Target, app: str, secret: str) -> str:
        """Return the URL that the app gets.

        :param target: as ``attach`` completes it.
        :param app: the app's name.
        :param secret: the password, empty where there is none.
        """
        return f"{self.scheme}://{target['address']}:{target['port']}{self.path(target)}"

    def parts(self) -> list[str]:
        """Name the parts that an app gets in place of a URL, where it asks for parts."""
        return ["HOST", "PORT", self.part, *(key.upper() for key in self.query)]

    def replaced(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """List the mistakes in an attachment that a URL replaces; see ``attach``."""
        return []

    def recorded(self, target: Mapping[str, Any]) -> Target:
        """Return what identifies an attachment in the record of a release."""
        return {word: target[word] for word in self.schema if word in target}

    def missing(self, target: Target, apps: Mapping[str, Any], today: Iterable[Target]) -> str:
        """Say what is no longer there of an attachment of an earlier release; empty where all is.

        :param target: as ``recorded``.
        :param apps: settings by app.
        :param today: what the app attaches now, as ``recorded``.
        """
        return ""

    def renewed(self, target: Target, today: Iterable[Target], apps: Mapping[str, Any]) -> Target:
        """Return an attachment of an earlier release as ``attach`` would complete it today.

        :param target: as ``recorded``.
        :param today: what the app attaches now, as ``attach`` completes it.
        :param apps: settings by app.
        """
        return target
