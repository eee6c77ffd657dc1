"""A resource that is somebody else's, which the pillar gives as a URL."""

from saltern.services.base import Hosts, Service, Settings, Target


class Url(Service):
    """A URL as it stands in the pillar, alone or in the place of what would be derived."""

    kind = "url"
    schema = {
        "url": {
            "description": (
                "The address of a resource that is somebody else's, in place of the address that Saltern would derive."
            ),
            "secret": True,
            "x-roles": ["app"],
            "type": "string",
            "pattern": r"^[a-z][a-z0-9+.-]*://[^\x00-\x20]+\Z",
            "x-expected": "a URL",
            "examples": ["postgres://shop:password@db.example.com/shop"],
        }
    }
    replaces = True

    def attach(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Nothing follows from a URL."""
        return []

    def url(self, target: Target, app: str, secret: str) -> str:
        """Return it as it is."""
        return str(target["url"])

    def path(self, target: Target) -> str:
        """Return nothing: the URL is whole."""
        return ""
