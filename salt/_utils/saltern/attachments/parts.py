"""Attachments in parts: variables of their own in place of a URL, for apps that take none.

Each part is worked out of the URL, and the URL again of the parts. So all else knows URLs alone.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from saltern import services
from saltern.services.base import Service, Target

# libpq's own variables have no underscore, such as PGHOST.
LIBPQ = "PG"


def is_in_parts(target: Mapping[str, Any]) -> bool:
    """Tell whether an app gets an attachment in parts.

    :param target: one entry of its ``attach``, or of what a release has attached.
    """
    return target.get("as") == "parts"


def recorded(target: Mapping[str, Any]) -> Target:
    """Return what the record of a release says of the form of an attachment: nothing of a URL."""
    return {"as": "parts"} if is_in_parts(target) else {}


def service_of(target: Mapping[str, Any]) -> Service | None:
    """Return the service whose parts an attachment has, also where a URL takes its place."""
    derived, _ = services.parted(target)
    return derived[0] if len(derived) == 1 else None


def names(variable: str, target: Mapping[str, Any]) -> list[str]:
    """Name the variables of an attachment of a service.

    :param variable: its name in ``attach``: the variable, or what the names of all parts begin with.
    :param target: the attachment.
    :raises ValueError: where it has a URL that is none.
    """
    service = service_of(target)
    if service is None or not is_in_parts(target):
        return [variable]
    if "url" in target:
        return list(variables(variable, target, target["url"]))
    return [_variable(variable, part) for part in service.parts()]


def variables(variable: str, target: Mapping[str, Any], url: str) -> dict[str, str]:
    """Return the variables of an attachment.

    :param variable: see ``names``.
    :param target: the attachment.
    :param url: its URL.
    :raises ValueError: where the URL is none.
    """
    service = service_of(target)
    if service is None or not is_in_parts(target):
        return {variable: url}
    return {_variable(variable, part): value for part, value in split(service, url).items()}


def read(variable: str, target: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """Return the URL of an attachment, as a config has it in whatever form; empty where the config lacks it.

    :param variable: see ``names``.
    :param target: the attachment.
    :param environ: value by variable.
    """
    service = service_of(target)
    if service is None or not is_in_parts(target):
        return environ.get(variable, "")
    found = {part: environ[name] for part in service.parts() if (name := _variable(variable, part)) in environ}
    return joined(service, found) if found.get("HOST") else ""


def urls(environ: Mapping[str, bytes], attached: Mapping[str, Target]) -> Iterator[tuple[str, str]]:
    """Yield what may be a URL in the config of a release: each value, and what parts say together.

    :param environ: value by variable.
    :param attached: what the release has attached, by variable, as its record says.
    :return: pairs of variable and text.
    """
    texts = {variable: value.decode("utf-8", "replace") for variable, value in environ.items()}
    yield from texts.items()
    for variable, target in attached.items():
        if is_in_parts(target) and (url := read(variable, target, texts)):
            yield variable, url


def split(service: Service, url: str) -> dict[str, str]:
    """Return the parts of a URL by name; what the URL lacks is no part.

    :param service: whose URL it is.
    :param url: text.
    :raises ValueError: where the URL is none.
    """
    where = urlsplit(url)
    path = unquote(where.path)
    found = {
        "HOST": where.hostname or "",
        "PORT": "" if where.port is None else str(where.port),
        "USER": unquote(where.username or ""),
        "PASSWORD": unquote(where.password or ""),
        service.part: path if service.part == "PATH" else path.removeprefix("/"),
    }
    for item in where.query.split("&"):
        key, _, value = item.partition("=")
        found[key.upper()] = unquote(value)
    known = service.parts()
    return {part: found[part] for part in known if found.get(part)}


def joined(service: Service, parts: Mapping[str, str]) -> str:
    """Return the URL that has some parts; see ``split``.

    :param service: whose URL it is.
    :param parts: value by part.
    """
    user, password = (quote(parts.get(part, ""), safe="") for part in ("USER", "PASSWORD"))
    host = f"[{parts['HOST']}]" if ":" in parts["HOST"] else parts["HOST"]
    at = f"{user}:{password}@" if user or password else ""
    port = f":{parts['PORT']}" if parts.get("PORT") else ""
    path = parts.get(service.part, "")
    path = path if service.part == "PATH" else f"/{quote(path, safe='')}"
    query = urlencode({key: parts[key.upper()] for key in service.query if key.upper() in parts}, safe="/")
    return f"{service.scheme}://{at}{host}{port}{path}" + (f"?{query}" if query else "")


def _variable(prefix: str, part: str) -> str:
    return f"{prefix}{part}" if prefix == LIBPQ else f"{prefix}_{part}"
