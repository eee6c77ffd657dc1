"""An image of a host that bootstrap.sh has prepared, made once for all modules whose hosts are their own.

It has no keys and no configuration yet: each host that is booted from it is bootstrapped like any other, in seconds.
"""

import fcntl
import hashlib
from pathlib import Path

from lab import Lab, image
from lab.podman import podman
from tests.hosts.conftest import ROOT

LABEL = "saltern.bootstrapped"
# What decides what is installed.
FILES = ("bootstrap.sh", "bootstrap/*", "salt/debian.yaml", "requirements/salt.txt", "requirements/build.txt")


def bootstrapped(suite: str) -> str:
    """Return the name of the image, made where it is missing or another one would be made now.

    :param suite: its Debian.
    """
    name = f"{image.BOOTSTRAPPED}:{suite}"
    with Path(f"/run/lock/saltern-bootstrapped-{suite}.lock").open("w") as lock:
        # The other process of the tests may be making it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        base = podman("image", "inspect", "--format", "{{.Id}}", image.ensure(suite)[0]).stdout
        digest = hashlib.sha256(base.encode())
        for path in (path for pattern in FILES for path in sorted(ROOT.glob(pattern))):
            digest.update(path.read_bytes())
        there = podman("image", "inspect", "--format", f'{{{{index .Labels "{LABEL}"}}}}', name, check=False)
        if there.stdout.strip() != digest.hexdigest():
            make(suite, name, digest.hexdigest())
    return name


def make(suite: str, name: str, digest: str) -> None:
    """Make the image.

    :param suite: its Debian.
    :param name: its name.
    :param digest: what it is known by.
    """
    with Lab.temporary(f"bootstrapped-{suite}") as lab:
        host = lab.boot("dev", suite)
        host.bootstrap()
        host.sh("rm -rf /etc/salt /var/cache/apt/archives/*.deb")
        podman("rmi", "--force", name, check=False)
        podman("commit", "-q", "--pause", f"--change=LABEL {LABEL}={digest}", host.name, name)
