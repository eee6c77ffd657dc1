"""A service that makes something of a name for one app, such as a database."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import SplitResult

from saltern.services.base import Hosts, Requisite, Service, Settings, Target
from saltern.services.steps import Work

if TYPE_CHECKING:
    from saltern.host import Host


class Resource(Service):
    """A service that makes something of a name for one app, such as a database. Its formula is called as its kind.

    :cvar noun: what it makes, in messages.
    :cvar plural: the setting of its formula that holds what is said of each, by name.
    :cvar schemes: how its URLs began in any release.
    :cvar known_as: how URLs of such a service begin that is somebody else's, where apps have a command that asks it.
    :cvar has_certificate: whether it talks over TLS, by a certificate of its own in /etc/ssl/saltern.
    :cvar has_password: whether its apps log in, by the setting ``password`` of each resource.
    :cvar is_local: whether an app host's apps attach the one of their own host.
    :cvar has_readers: whether an app may attach what is its own to read alone, too.
    :cvar users: system users that its packages bring: no app can have their names.
    :cvar relied_on: its units, as a pattern of systemd's. They are started again when they end. Empty where it has
        none.
    :cvar notes_before: where the notes of data that is kept were in earlier versions.
    :cvar guarded: directories in which it keeps files of apps' users from everybody else, also when the app is gone.
    """

    noun: ClassVar[str]
    plural: ClassVar[str]
    schemes: ClassVar[tuple[str, ...]] = ()
    known_as: ClassVar[tuple[str, ...]] = ()
    has_certificate: ClassVar[bool] = False
    has_password: ClassVar[bool] = False
    is_local: ClassVar[bool] = False
    has_readers: ClassVar[bool] = False
    users: ClassVar[tuple[str, ...]] = ()
    relied_on: ClassVar[str] = ""
    notes_before: ClassVar[str] = ""
    guarded: ClassVar[tuple[str, ...]] = ()

    # --- What follows from an attachment ------------------------------------------------------------------------------

    @abc.abstractmethod
    def refused(self, name: str, app: str) -> str:
        """Say why an app cannot have a resource of a name; empty where it can."""

    def listeners(self, settings: Settings) -> dict[str, int]:
        """Return the ports at which the service listens on its host, by the name of their opening in the firewall.

        :param settings: the formula's, complete.
        """
        return {}

    def attach(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Complete an attachment, and the resource with its owner; see ``Service.attach``.

        Where the attachment says an ``access``, the resource is another app's, and is completed with who borrows it.
        The attachments of owners come before.
        """
        if "access" in target:
            return self.borrow(path, target, app, settings, hosts)
        name, its = target[self.kind], settings[self.kind][self.plural]
        if why := self.refused(name, app):
            return [f"{path}.{self.kind}: {why}"]
        resource = its.setdefault(name, {"owner": None})
        if resource["owner"] not in (None, app):
            owner = resource["owner"]
            return [f"{path}.{self.kind}: belongs to {owner}, which attaches it too; expected one of its own"]
        resource["owner"] = app
        return self.lead(path, target, app, settings, hosts)

    @abc.abstractmethod
    def lead(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Complete an attachment of the app's own resource with where the app reaches it; see ``Service.attach``."""

    def borrow(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Refuse an attachment of another app's resource, or complete it; see ``attach``."""
        return [f"{path}.access: a {self.noun} is of one app alone; expected one of its own, without an access"]

    def mistakes(self, settings: Settings, apps: Mapping[str, Any]) -> list[str]:
        """List the mistakes in what is said of resources.

        :param settings: the formula's.
        :param apps: settings by app.
        """
        return []

    def openings(self, settings: Settings) -> dict[str, int]:
        """Return the ports that the firewall opens to the app hosts, by the names of the openings.

        :param settings: the formula's, complete.
        """
        return {}

    def allowed(self, settings: Settings, places: Callable[[int], int]) -> dict[str, tuple[list[int], int]]:
        """Return how many connections the pillar allows, and note how many the service takes; see ``saltern.places``.

        :param settings: the formula's, which are completed.
        :param places: how many connections a service takes of which the pillar allows so many.
        :return: ports and connections, by the names of the firewall's rules.
        """
        return {}

    def complete(self, settings: Settings) -> list[str]:
        """Complete the formula's settings, once all that apps attach is known.

        :param settings: the formula's.
        :return: a list of mistakes.
        """
        return []

    def reach(self, settings: Settings, listen: list[str], clients: list[str]) -> None:
        """Complete the formula's settings with where the service listens, and to whom.

        :param settings: the formula's.
        :param listen: addresses beside the loopback.
        :param clients: networks from which apps come.
        """
        return None

    def owned(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of the resources that apps attach, by name; one that a URL replaced has no owner.

        :param settings: the formula's, complete.
        """
        return {name: resource for name, resource in settings[self.plural].items() if resource["owner"]}

    # --- What an app is told ------------------------------------------------------------------------------------------

    def login(self, app: str, secret: str) -> str:
        """Name the login by which an app is known with a password; empty where no service asks for one.

        :param app: the app's name.
        :param secret: the password.
        """
        return ""

    @abc.abstractmethod
    def identity(self, url: SplitResult) -> str:
        """Return by what a variable's value names a resource on its host: such as a database, or a port.

        :raises ValueError: where it does not.
        """

    @abc.abstractmethod
    def is_of(self, url: SplitResult, identity: str, own: str) -> bool:
        """Tell whether a variable's value leads to a resource of this host.

        :param url: the value.
        :param identity: see ``identity``.
        :param own: the host's address.
        :raises ValueError: where the value leads nowhere.
        """

    def told(self, url: SplitResult, app: str, settings: Mapping[str, Any]) -> str:
        """Tell the name of the resource to which a URL leads; empty where the URL was not derived for the app.

        :param url: of a variable of an earlier release.
        :param app: the app's name.
        :param settings: the formula's, complete.
        :raises ValueError: where the URL is none.
        """
        return ""

    # --- Releases -----------------------------------------------------------------------------------------------------

    def recorded(self, target: Mapping[str, Any]) -> Target:
        """Return what identifies an attachment, the access to another app's among it; see ``Service.recorded``."""
        return super().recorded(target) | ({"access": target["access"]} if "access" in target else {})

    def missing(self, target: Target, apps: Mapping[str, Any], today: Iterable[Target]) -> str:
        """Say that a resource is no longer attached; see ``Service.missing``."""
        is_there = any(self._is_same(target, one) for one in today)
        return "" if is_there else f"the {self.noun} {target[self.kind]} is no longer attached"

    def _is_same(self, target: Target, other: Target) -> bool:
        return all(target.get(word) == other.get(word) for word in (self.kind, "access"))

    def renewed(self, target: Target, today: Iterable[Target], apps: Mapping[str, Any]) -> Target:
        """Return today's attachment of the same resource; see ``Service.renewed``."""
        return next(one for one in today if self._is_same(target, one) and "url" not in one)

    @abc.abstractmethod
    def is_ready(self, host: Host, name: str, login: Callable[[], str]) -> bool:
        """Tell whether a resource of this host is as declared.

        :param host: the host.
        :param name: the resource's name.
        :param login: returns the login by which the app comes in as declared.
        """

    def lends(self, host: Host, name: str, login: Callable[[], str]) -> bool:
        """Tell whether a resource of this host lets a borrower in.

        :param host: the host.
        :param name: the resource's name.
        :param login: returns the login by which the borrower comes in as declared.
        """
        return self.is_ready(host, name, login)

    # --- States -------------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def made(self, name: str) -> Requisite:
        """Return the state that must have succeeded before an app can have a resource."""

    def lent(self, name: str) -> Requisite:
        """Return the state that must have succeeded before an app can have a resource of another one."""
        return self.made(name)

    def beside(self, target: Target) -> list[Requisite]:
        """Return what else must have succeeded before an app can have an attachment.

        :param target: as ``attach`` completes it.
        """
        return []

    @abc.abstractmethod
    def claimed(self, name: str) -> Requisite:
        """Return the state that refuses an app a resource with the data of another app."""

    def replacing(self) -> list[Requisite]:
        """Return the states that end a resource because another one takes its place."""
        return []

    def client(self, debian: Mapping[str, Any]) -> str:
        """Return the Debian package of the command that asks the service; empty where apps have no such command.

        :param debian: the host's row of ``debian.yaml``.
        """
        return ""

    def steps(self) -> Mapping[str, Work]:
        """Return by name what the service does on its host beside Salt's states; see the state ``resource.done``."""
        return {}

    def units(self, settings: Mapping[str, Any]) -> list[str]:
        """Return the units after which an app's processes are started at boot, where they are on the same host.

        :param settings: the formula's, complete.
        """
        return []

    # --- What is kept -------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def kept(self, host: Host) -> dict[str, dict[str, Any]]:
        """List the data that a host keeps though the data's app does not attach it.

        :param host: the host.
        :return: for each name, whose data it was (``app``), its ``size``, ``since`` when the host keeps it, and the
            command that ``remove``s it for good.
        """

    def disown(self, app: str) -> None:
        """Keep what an app that is gone has on this host from whoever gets the id of its user.

        :param app: the app's name. Nothing of it runs any more.
        """
        return None

    def full(self, host: Host) -> list[str]:
        """List the resources of a host that hold more than the pillar allows and that nothing keeps from it.

        :param host: the host.
        :return: for each a text such as ``media: 10.2 GB of 10.0 GB``.
        """
        return []

    def directory(self, name: str) -> str:
        """Return the directory of a resource whose files nginx can serve; empty where it has none.

        :param name: the resource's name.
        """
        return ""


def is_attached(resources: Mapping[str, Any], name: str, app: str) -> bool:
    """Tell whether a resource is attached by the app whose data it holds."""
    return name in resources and bool(resources[name]["owner"] == app)
