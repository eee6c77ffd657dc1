"""The form of a build, as its maker and its hosts know it."""

import hashlib
import itertools
import os
import posixpath
from collections.abc import Mapping
from typing import Any

# What a build says of itself, in its build.json.
Build = dict[str, Any]
# How many ``megabytes`` and ``files`` a build may have.
Limits = Mapping[str, int]
# What was found in a tarball or in wheels.
Found = dict[str, Any]

FORMAT = 1
MEGABYTE = 1_000_000
# Of a path in a build.
MAX_PATH, MAX_NAME, MAX_DEPTH = 1000, 255, 100
# Seconds since 1970 that each file system can keep.
MAX_TIME = 1 << 32
# Bytes of a build.json, and of an OpenAPI document.
MAX_MANIFEST, MAX_DOCUMENT = 1 << 20, 8_000_000
# Debian packages that a build may ask for.
MAX_PACKAGES = 500
# Seconds for reading a tarball or wheels, and memory in MB for what reads them.
READING, MEMORY = 900, 768


def shown(name: str) -> str:
    """Return the name of a member as it can stand in a message.

    :param name: whatever a tarball says.
    """
    name = name if name.isprintable() else ascii(name)
    return name if len(name) <= 100 else f"{name[:60]}...{name[-30:]}"


def leads_out(path: str, link: str) -> bool:
    """Tell whether a symbolic link leads out of the build.

    :param path: the link's own, in the build.
    :param link: where it leads.
    """
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    return link.startswith("/") or target == ".." or target.startswith("../")


def goes_back(link: str) -> bool:
    """Tell whether a symbolic link leads through a name and back: where `name` is a link, `name/..` is elsewhere.

    :param link: where it leads.
    """
    parts = [part for part in link.split("/") if part not in ("", ".")]
    return ".." in itertools.dropwhile(lambda part: part == "..", parts)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the digest of a file, in hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
