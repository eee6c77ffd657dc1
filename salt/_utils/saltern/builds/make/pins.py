"""An app's locked requirements."""

import dataclasses
import re
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from saltern.refusal import Refusal

REQUIREMENTS = "requirements.txt"
# Those of what builds the app's requirements that have no wheel.
OF_BUILDS = "requirements-build.txt"


def lock_it(file: str = REQUIREMENTS) -> str:
    """Say how to lock requirements.

    :param file: the lock's name.
    """
    return f"lock them with `{command(file)}`"


def command(file: str) -> str:
    """Return the command that locks requirements; see ``lock_it``."""
    return f"uv pip compile --universal --generate-hashes {file.removesuffix('.txt')}.in -o {file}"


LOCK_IT = lock_it()


@dataclasses.dataclass(frozen=True)
class Pin:
    """One locked requirement."""

    name: str
    version: str
    hashes: frozenset[str]

    def line(self) -> str:
        """Return it as a line of a requirements file, without a marker."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{one}" for one in sorted(self.hashes))])


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line of a requirements file, continued lines joined, comments left out."""
    start, joined = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        start = start or number
        joined += re.sub(r"(^|\s)#.*", "", line)
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        if joined.strip():
            yield start, joined.strip()
        start, joined = 0, ""
    if joined.strip():
        yield start, joined.strip()


def read_pins(text: str, environment: dict[str, str], file: str = REQUIREMENTS) -> dict[str, Pin]:
    """Return the locked requirements that a host needs, by name.

    :param text: a requirements file in which every requirement is pinned and hashed.
    :param environment: what markers are asked.
    :param file: what to call it.
    :raises Refusal: naming the first line that is anything else, without the URL that it may hold.
    """
    pins: dict[str, Pin] = {}
    for number, line in logical_lines(text):
        where = f"{file} line {number}"
        if line.startswith("-"):
            option = re.split(r"[\s=]", line)[0]
            raise Refusal(f"{where}: {option}: expected pinned requirements only; pip.conf says where wheels are")
        head, *hashes = re.split(r"\s+--hash[=\s]\s*", line)
        try:
            requirement = Requirement(head)
        except InvalidRequirement as error:
            raise Refusal(f"{where}: not a requirement such as name==1.0; {lock_it(file)}") from error
        where = f"{where}: {requirement.name}"
        if requirement.url:
            raise Refusal(f"{where}: is a URL; expected a version that an index has, as in {requirement.name}==1.0")
        specifiers = list(requirement.specifier)
        if len(specifiers) != 1 or specifiers[0].operator != "==" or specifiers[0].version.endswith("*"):
            raise Refusal(f"{where}: not pinned; expected one version, as in {requirement.name}==1.0. {lock_it(file)}")
        if not hashes or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes):
            raise Refusal(f"{where}: expected one or more --hash=sha256:… and no other option; {lock_it(file)}")
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        name = canonicalize_name(requirement.name)
        if name in pins:
            raise Refusal(f"{where}: is there twice for Python {environment['python_version']}; {lock_it(file)}")
        digests = frozenset(one.removeprefix("sha256:") for one in hashes)
        pins[name] = Pin(requirement.name, specifiers[0].version, digests)
    return pins
