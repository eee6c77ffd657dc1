"""Redis: an instance for the app that attaches it."""

import contextlib
import glob
import shlex
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import SplitResult

from salt.exceptions import CommandExecutionError

from saltern import kept
from saltern.host import Host
from saltern.services import redis_connection
from saltern.services.base import AUTHORITIES, Requisite, Settings, Target
from saltern.services.networked import Networked
from saltern.services.resource import is_attached
from saltern.system.sizes import megabytes, size_of

# The last of an app's hundred ports is its instance's, and those before it are its other instances'; see
# formulas/app/README.md.
OFFSETS = range(90, 100)
OFFSET = OFFSETS[-1]
# These ports of all apps that there can be. All of them have a bound, so that an instance that comes or goes changes no
# rule of the firewall: new rules begin to count again.
PORTS = frozenset(first + offset for first in range(8000, 30000, 100) for offset in OFFSETS)

DATA = "/var/lib/redis"


class Redis(Networked):
    """An instance of the environment's cache host."""

    kind = "redis"
    schema = {
        "redis": {
            "description": "A Redis instance of the environment's cache host, for this app alone.",
            "type": "string",
            "pattern": r"^[a-z][a-z0-9-]{0,30}\Z",
            "x-expected": "an instance's name of lower-case letters, digits and hyphens",
            "examples": ["shop"],
        }
    }
    role = "cache"
    noun = "Redis instance"
    plural = "instances"
    scheme = "rediss"
    # A release from before there was TLS has redis://.
    schemes = ("redis", "rediss")
    query = {"ssl_ca_certs": AUTHORITIES, "ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
    users = ("redis",)
    relied_on = "redis-server@*.service"
    notes_before = DATA
    is_lent = True

    def refused(self, name: str, app: str) -> str:
        """Refuse an app that would be Redis's own user."""
        return "default is Redis's own user; expected an app of another name" if app == "default" else ""

    def port(self, name: str, resource: Settings, app: Mapping[str, Any]) -> int:
        """Note the instance's port, which is one of the app's."""
        resource["port"] = app["port"] + resource.get("offset", OFFSET)
        return int(resource["port"])

    def listeners(self, settings: Settings) -> dict[str, int]:
        """Return the port of each instance."""
        return {f"redis {name}": instance["port"] for name, instance in sorted(self.owned(settings).items())}

    def allowed(self, settings: Settings, places: Callable[[int], int]) -> dict[str, tuple[list[int], int]]:
        """Return the connections of each instance that has a number of its own, and of all others, and note places."""
        found, others = {}, set(PORTS)
        for name, instance in sorted(settings[self.plural].items()):
            instance["places"] = places(instance.get("maxclients", settings["maxclients"]))
            # An instance that a URL replaces has no port.
            if "maxclients" in instance and "port" in instance:
                found[f"redis {name}"] = ([instance["port"]], instance["maxclients"])
                others.discard(instance["port"])
        return found | {"redis": (sorted(others), settings["maxclients"])}

    def complete(self, settings: Settings) -> list[str]:
        """Refuse two instances of an app at one port."""
        found: list[str] = []
        offsets: dict[str, dict[int, str]] = {}
        # One that says its offset comes first, so that the message names one that does not.
        for name, instance in sorted(self.owned(settings).items(), key=lambda item: ("offset" not in item[1], item[0])):
            taken, offset = offsets.setdefault(instance["owner"], {}), instance.get("offset", OFFSET)
            if offset in taken:
                free = max(set(OFFSETS) - taken.keys(), default=OFFSETS[0])
                found.append(
                    f"redis.instances.{name}.offset: {offset} is the offset of {taken[offset]} too, and "
                    f"{instance['owner']} attaches both; expected another for the newer of the two, such as {free}"
                )
            taken.setdefault(offset, name)
        return found

    def path(self, target: Target) -> str:
        """Return the number of the first database."""
        return "/0"

    def identity(self, url: SplitResult) -> str:
        """Return the port."""
        return str(url.port)

    def name(self, url: SplitResult, app: str, settings: Mapping[str, Any]) -> str:
        """Return the app's instance that has the URL's port today."""
        ports = {one["port"]: name for name, one in settings[self.plural].items() if one["owner"] == app}
        return str(ports.get(url.port, f"at port {url.port}"))

    def is_ready(self, host: Host, name: str, login: Callable[[], str]) -> bool:
        """Ask whether the instance lets the app in."""
        with contextlib.suppress(CommandExecutionError):
            return login() in redis_connection.admitted(host, name, host.resource(self, name)["port"])
        return False

    def made(self, name: str) -> Requisite:
        """Return the state after which the instance runs as declared."""
        return {"service_config": f"redis-loaded-{name}"}

    def claimed(self, name: str) -> Requisite:
        """Return the state that looks whose data the instance has."""
        return {"redis_instance": f"redis-data-{name}"}

    def replacing(self) -> list[Requisite]:
        """Return the state that frees the ports of instances that are replaced."""
        return [{"redis_instance": "redis-replaced"}]

    def units(self, settings: Mapping[str, Any]) -> list[str]:
        """Return the unit of each instance."""
        return [f"redis-server@{name}.service" for name in sorted(settings[self.plural])]

    def kept(self, host: Host) -> dict[str, dict[str, Any]]:
        """List the files of the instances that were stopped."""
        found, attached = {}, host.settings(self.kind)[self.plural]
        for name, what in kept.listed(self.kind).items():
            if is_attached(attached, name, what["app"]):
                continue
            # The notes last: they are what says that the rest is ours.
            data = [path for path in glob.glob(f"{DATA}/{glob.escape(name)}.*") if path not in what["notes"]]
            # What an instance of Redis called a file must not command the terminal of who reads this.
            data = [path for path in data if path.isprintable()]
            found[name] = {
                "app": what["app"],
                "size": megabytes(sum(map(size_of, data))),
                "since": what["since"],
                "remove": " ".join(["rm", "-r", *map(shlex.quote, [*sorted(data), *what["notes"]])]),
            }
        return found
