"""A service that makes something of a name for one app, such as a database."""

from __future__ import annotations

import abc
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import SplitResult, quote, unquote, urlencode

from saltern.services.base import AUTHORITIES, LOOPBACK, Hosts, Requisite, Service, Settings, Target
from saltern.services.steps import Work

if TYPE_CHECKING:
    from saltern.host import Host

# The digits of the tag that tells an app's logins apart, in hexadecimal, and what it costs to make one.
TAG = 6
ITERATIONS = 4096


class Resource(Service):
    """A service that makes something of a name for one app, such as a database. Its formula is called as its kind.

    :cvar noun: what it makes, in messages.
    :cvar plural: the setting of its formula that holds what is said of each, by name.
    :cvar schemes: how its URLs began in any release.
    :cvar has_certificate: whether it talks over TLS, by a certificate of its own in /etc/ssl/saltern.
    :cvar users: system users that its packages bring: no app can have their names.
    :cvar relied_on: its units, as a pattern of systemd's. They are started again when they end.
    :cvar greeting: what is sent in clear before TLS begins, and how the service answers it.
    :cvar notes_before: where the notes of data that is kept were in earlier versions.
    :cvar is_lent: whether other apps may attach one that its owner shares, by the setting ``share``.
    """

    noun: ClassVar[str]
    plural: ClassVar[str]
    schemes: ClassVar[tuple[str, ...]]
    part: ClassVar[str] = "DATABASE"
    has_certificate: ClassVar[bool] = True
    users: ClassVar[tuple[str, ...]] = ()
    relied_on: ClassVar[str] = ""
    greeting: ClassVar[tuple[bytes, bytes]] = (b"", b"")
    notes_before: ClassVar[str] = ""
    is_lent: ClassVar[bool] = False

    # --- What follows from an attachment ------------------------------------------------------------------------------

    @abc.abstractmethod
    def refused(self, name: str, app: str) -> str:
        """Say why an app cannot have a resource of a name; empty where it can."""

    @abc.abstractmethod
    def port(self, name: str, resource: Settings, app: Mapping[str, Any]) -> int:
        """Return the port of a resource.

        :param name: the resource's name.
        :param resource: its settings.
        :param app: the settings of the app that attaches it.
        """

    @abc.abstractmethod
    def listeners(self, settings: Settings) -> dict[str, int]:
        """Return the ports at which the service listens on its host, by the name of their opening in the firewall.

        :param settings: the formula's, complete.
        """

    def attach(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Complete an attachment, and the resource with its owner; see ``Service.attach``.

        Where the attachment says an ``access``, the resource is another app's, and is completed with who borrows it.
        The attachments of owners come before.
        """
        if "access" in target:
            return self._borrow(path, target, app, settings, hosts)
        name, its = target[self.kind], settings[self.kind][self.plural]
        if why := self.refused(name, app):
            return [f"{path}.{self.kind}: {why}"]
        resource = its.setdefault(name, {"owner": None})
        if resource["owner"] not in (None, app):
            owner = resource["owner"]
            return [f"{path}.{self.kind}: belongs to {owner}, which attaches it too; expected one of its own"]
        resource["owner"] = app
        port = self.port(name, resource, settings["app"][app])
        providers = hosts.peers(self.role)
        if not providers:
            return [hosts.lacking(path, self.role)]
        if "password" not in resource and {*providers, *hosts.peers("app")} != {hosts.own}:
            return [
                f"{self.kind}.{self.plural}.{name}.password: missing; expected text, in pillar/secrets: several hosts "
                "must know it, so that none can make it for itself"
            ]
        target["address"], target["port"] = hosts.reached(providers), port
        return []

    def _borrow(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Complete an attachment of another app's resource, and the resource with who borrows it."""
        name, access = target[self.kind], target["access"]
        if not self.is_lent:
            return [f"{path}.access: a {self.noun} is of one app alone; expected one of its own, without an access"]
        resource = settings[self.kind][self.plural].get(name, {"owner": None})
        owner, setting = resource["owner"], f"{self.kind}.{self.plural}.{name}.share"
        if owner is None:
            return [
                f"{path}.{self.kind}: no app has the {self.noun} {name} as its own; expected one that its app shares"
            ]
        if owner == app:
            return [f"{path}.access: the {self.noun} {name} is the app's own; expected no access"]
        shared = resource.get("share", {}).get(app)
        if shared is None:
            return [f"{path}.{self.kind}: {owner} does not share it; expected {setting}: {{{app}: {access}}}"]
        if access != shared:
            return [f"{path}.access: {owner} shares it to {shared}; expected {shared}, or {setting}.{app}: {access}"]
        if why := self.refused(name, app):
            return [f"{path}.{self.kind}: {why}"]
        providers = hosts.peers(self.role)
        if not providers:
            return [hosts.lacking(path, self.role)]
        resource.setdefault("borrowers", {})[app] = access
        target["address"] = hosts.reached(providers)
        target["port"] = self.port(name, resource, settings["app"][owner])
        return []

    def mistakes(self, settings: Settings, apps: Mapping[str, Any]) -> list[str]:
        """List the mistakes in what is shared.

        :param settings: the formula's.
        :param apps: settings by app.
        """
        return [
            f"{self.kind}.{self.plural}.{name}.share.{app}: no other app has this name; expected one of "
            f"{', '.join(sorted(apps.keys() - {resource['owner']})) or 'none'}"
            for name, resource in sorted(settings[self.plural].items())
            for app in sorted(resource.get("share", {}))
            if app not in apps or app == resource["owner"]
        ]

    def openings(self, settings: Settings) -> dict[str, int]:
        """Return the ports that the firewall opens to the app hosts, by the names of the openings.

        :param settings: the formula's, complete.
        """
        return self.listeners(settings)

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
        settings["listen"] = listen

    def owned(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of the resources that apps attach, by name; one that a URL replaced has no owner.

        :param settings: the formula's, complete.
        """
        return {name: resource for name, resource in settings[self.plural].items() if resource["owner"]}

    # --- URLs ---------------------------------------------------------------------------------------------------------

    def url(self, target: Target, app: str, secret: str) -> str:
        """Return the URL that the app gets; see ``Service.url``."""
        at = f"{self.login(app, secret)}:{quote(secret, safe='')}@{target['address']}:{target['port']}"
        return f"{self.scheme}://{at}{self.path(target)}?{urlencode(self.query, safe='/')}"

    def parts(self) -> list[str]:
        """Name the parts; see ``Service.parts``."""
        host, port, *others = super().parts()
        return [host, port, "USER", "PASSWORD", *others]

    def login(self, app: str, secret: str) -> str:
        """Name the login by which an app is known with a password.

        Each password has a login of its own: the one before stays valid beside it, and who is connected by it is seen.
        All hosts find the same name without asking each other, since it follows from the password; of that it tells 24
        bits, by a function that is slow to try.

        :param app: the app's name.
        :param secret: the password.
        :return: such as ``tickets_3f9a01``, which no app can be called.
        """
        return f"{app}_{_tag(app, self.kind, secret)}"

    @abc.abstractmethod
    def identity(self, url: SplitResult) -> str:
        """Return by what a URL names a resource on its host: such as a database, or a port.

        :raises ValueError: where it does not.
        """

    def is_of(self, url: SplitResult, identity: str, own: str) -> bool:
        """Tell whether a URL leads to a resource of this host.

        :param url: of a variable.
        :param identity: see ``identity``.
        :param own: the host's address.
        :raises ValueError: where the URL is none.
        """
        is_here = url.scheme in self.schemes and url.hostname in (LOOPBACK, own)
        return is_here and self.identity(url) == identity

    def told(self, url: SplitResult, app: str, settings: Mapping[str, Any]) -> str:
        """Tell the name of the resource to which a URL leads; empty where the URL was not derived for the app.

        :param url: of a variable of an earlier release.
        :param app: the app's name.
        :param settings: the formula's, complete.
        :raises ValueError: where the URL is none.
        """
        is_ours = AUTHORITIES in unquote(url.query) and (url.username or "").partition("_")[0] == app
        return self.name(url, app, settings) if is_ours and url.scheme == self.scheme else ""

    @abc.abstractmethod
    def name(self, url: SplitResult, app: str, settings: Mapping[str, Any]) -> str:
        """Return the name of the resource to which a derived URL leads; see ``told``."""

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

    @abc.abstractmethod
    def claimed(self, name: str) -> Requisite:
        """Return the state that refuses an app a resource with the data of another app."""

    def replacing(self) -> list[Requisite]:
        """Return the states that end a resource because another one takes its place."""
        return []

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


def is_attached(resources: Mapping[str, Any], name: str, app: str) -> bool:
    """Tell whether a resource is attached by the app whose data it holds."""
    return name in resources and bool(resources[name]["owner"] == app)


@functools.cache
def _tag(app: str, kind: str, secret: str) -> str:
    digest = hashlib.pbkdf2_hmac("sha256", secret.encode(), f"{kind}/{app}".encode(), ITERATIONS)
    return digest.hex()[:TAG]
