"""A resource that apps reach at a port of its host, by a login and a URL."""

from __future__ import annotations

import abc
import functools
import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import SplitResult, quote, unquote, urlencode

from saltern.services.base import AUTHORITIES, LOOPBACK, Hosts, Settings, Target
from saltern.services.resource import Resource

# The digits of the tag that tells an app's logins apart, in hexadecimal, and what it costs to make one.
TAG = 6
ITERATIONS = 4096


class Networked(Resource):
    """A resource that apps reach at a port of its host, by a login and a URL.

    :cvar schemes: how its URLs began in any release.
    :cvar greeting: what is sent in clear before TLS begins, and how the service answers it.
    :cvar is_lent: whether other apps may attach one that its owner shares, by the setting ``share``.
    """

    part: ClassVar[str] = "DATABASE"
    has_certificate: ClassVar[bool] = True
    has_password: ClassVar[bool] = True
    greeting: ClassVar[tuple[bytes, bytes]] = (b"", b"")
    is_lent: ClassVar[bool] = False

    # --- What follows from an attachment ------------------------------------------------------------------------------

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

    def lead(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Complete an attachment with the address and the port; see ``Resource.lead``."""
        name = target[self.kind]
        resource = settings[self.kind][self.plural][name]
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

    def borrow(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Complete an attachment of another app's resource, and the resource with who borrows it."""
        name, access = target[self.kind], target["access"]
        if not self.is_lent:
            return super().borrow(path, target, app, settings, hosts)
        resource = settings[self.kind][self.plural].get(name, {"owner": None})
        owner, setting = resource["owner"], f"{self.kind}.{self.plural}.{name}.share"
        is_reader = target.get("as") == "reader"
        if owner is None:
            which = "one that this app attaches as its own, too" if is_reader else "one that its app shares"
            return [f"{path}.{self.kind}: no app has the {self.noun} {name} as its own; expected {which}"]
        if owner == app and not is_reader:
            way = ", or as: reader" if self.has_readers else ""
            return [f"{path}.access: the {self.noun} {name} is the app's own; expected no access{way}"]
        if owner != app and is_reader:
            return [f"{path}.as: the {self.noun} {name} is {owner}'s; expected access: read, as {owner} shares it"]
        shared = access if is_reader else resource.get("share", {}).get(app)
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
        """Return the ports at which the service listens; see ``Resource.openings``."""
        return self.listeners(settings)

    def reach(self, settings: Settings, listen: list[str], clients: list[str]) -> None:
        """Note where the service listens; see ``Resource.reach``."""
        settings["listen"] = listen

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

    def is_of(self, url: SplitResult, identity: str, own: str) -> bool:
        """Tell whether a URL leads to a resource of this host; see ``Resource.is_of``."""
        is_here = url.scheme in self.schemes and url.hostname in (LOOPBACK, own)
        return is_here and self.identity(url) == identity

    def told(self, url: SplitResult, app: str, settings: Mapping[str, Any]) -> str:
        """Tell the name of the resource by the URL's authority and login; see ``Resource.told``."""
        is_ours = AUTHORITIES in unquote(url.query) and (url.username or "").partition("_")[0] == app
        return self.name(url, app, settings) if is_ours and url.scheme == self.scheme else ""

    @abc.abstractmethod
    def name(self, url: SplitResult, app: str, settings: Mapping[str, Any]) -> str:
        """Return the name of the resource to which a derived URL leads; see ``told``."""

    def recorded(self, target: Mapping[str, Any]) -> Target:
        """Return what identifies an attachment, the access to another app's among it; see ``Service.recorded``."""
        return super().recorded(target) | ({"access": target["access"]} if "access" in target else {})


@functools.cache
def _tag(app: str, kind: str, secret: str) -> str:
    digest = hashlib.pbkdf2_hmac("sha256", secret.encode(), f"{kind}/{app}".encode(), ITERATIONS)
    return digest.hex()[:TAG]
