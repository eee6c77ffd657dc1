"""The image of a host that bootstrap.sh has prepared, from which `make up` and the tests boot theirs.

A bare host is booted and bootstrapped for it once. It has no keys and no configuration: each host that is booted from
it is bootstrapped like any other, in seconds.
"""

import fcntl
import hashlib

from lab import image
from lab.lab import Lab
from lab.podman import podman
from lab.tree import ROOT

LABEL = "saltern.bootstrapped"
# The files that decide what is installed.
FILES = ("bootstrap.sh", "bootstrap/*", "salt/debian.yaml", "requirements/salt.txt", "requirements/build.txt")


def ensure(suite: str) -> tuple[str, bool]:
    """Make the image of a suite where it is missing or another one would be made now.

    :param suite: its Debian.
    :return: the image's name, and whether it was made now.
    :raises LabError: when it cannot be made.
    """
    name = f"{image.BOOTSTRAPPED}:{suite}"
    with image.LOCKS.joinpath(f"saltern-bootstrapped-{suite}.lock").open("w") as lock:
        # Another run may be making the same image: then it is there when this one comes to look.
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = digest(suite)
        there = podman("image", "inspect", "--format", f'{{{{index .Labels "{LABEL}"}}}}', name, check=False)
        if there.stdout.strip() == wanted:
            return name, False
        make(suite, name, wanted)
    return name, True


def digest(suite: str) -> str:
    """Return the digest of an image made now: of the base image and of the files that decide what is installed.

    :param suite: its Debian.
    """
    base = podman("image", "inspect", "--format", "{{.Id}}", image.ensure(suite)[0]).stdout
    found = hashlib.sha256(base.encode())
    for path in (path for pattern in FILES for path in sorted(ROOT.glob(pattern))):
        found.update(path.read_bytes())
    return found.hexdigest()


def make(suite: str, name: str, known_by: str) -> None:
    """Make the image.

    :param suite: its Debian.
    :param name: its name.
    :param known_by: the digest that identifies it.
    """
    with Lab.temporary(f"bootstrapped-{suite}") as lab:
        host = lab.boot("dev", suite)
        host.bootstrap()
        host.sh("rm -rf /etc/salt /var/cache/apt/archives/*.deb")
        old = podman("image", "inspect", "--format", "{{.Id}}", name, check=False).stdout.strip()
        podman("commit", "-q", "--pause", f"--change=LABEL {LABEL}={known_by}", host.name, name)
    if old:
        # The image that this one replaces. One that a host still uses stays.
        podman("rmi", old, check=False)
