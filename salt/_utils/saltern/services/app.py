"""Another app as a service, in a version of its API that it provides."""

from collections.abc import Iterable, Mapping
from typing import Any

from saltern.services.base import LOOPBACK, Hosts, Service, Settings, Target


class App(Service):
    """Another app of the environment, which nginx serves on each app host."""

    kind = "service"
    schema = {
        "service": {"description": "Another app of the environment.", "type": "string", "examples": ["faq"]},
        "version": {
            "description": "The version of the service, from its `provides`.",
            "type": "string",
            "examples": ["v1"],
        },
    }
    role = "app"
    scheme = "http"

    def attach(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Complete an attachment with where the app's version is; see ``Service.attach``."""
        apps, name, version = settings["app"], target["service"], target.get("version")
        if name not in apps:
            return [f"{path}.service: no app has this name; expected one of {', '.join(sorted(apps))}"]
        versions = apps[name]["provides"]
        if version not in versions:
            known = ", ".join(sorted(versions)) or "none"
            return [f"{path}.version: {name} does not provide it; expected one of {known} (app.{name}.provides)"]
        app_hosts = hosts.peers(self.role)
        if not app_hosts:
            return [hosts.lacking(path, self.role)]
        target["address"] = hosts.reached(app_hosts)
        target["port"] = apps[name]["port"]
        target["path"] = versions[version]["path"]
        return []

    def replaced(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Check what a URL replaces: its app and its version must be there all the same."""
        return self.attach(path, target, app, settings, hosts)

    def path(self, target: Target) -> str:
        """Return the version's path."""
        return str(target["path"])

    def missing(self, target: Target, apps: Mapping[str, Any], today: Iterable[Target]) -> str:
        """Say that there is no such app, or no such version; see ``Service.missing``."""
        name, version = target["service"], target["version"]
        if name not in apps:
            return f"there is no app {name}"
        return "" if version in apps[name]["provides"] else f"{name} no longer provides {version}"

    def renewed(self, target: Target, today: Iterable[Target], apps: Mapping[str, Any]) -> Target:
        """Return where the version is today. Releases are on app hosts, which reach a service at themselves."""
        service = apps[target["service"]]
        path = service["provides"][target["version"]]["path"]
        return target | {"address": LOOPBACK, "port": service["port"], "path": path}
