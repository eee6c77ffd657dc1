"""Runs a step of a build in a container of the hosts' Debian.

    python -m lab.within --python 3.13 [--package NAME ...] DIRECTORY COMMAND [ARGUMENT ...]

The command runs as nobody, without network, and sees the directory at /mnt and its tmp at /tmp; all else is that
Debian's, which it cannot change. `make build` calls this where the machine's own Python does not fit a build.
"""

import argparse
import fcntl
import hashlib
import os
import sys

from lab import bootstrapped, image, machine
from lab.lab import RUN, Lab
from lab.podman import LabError, command, podman
from saltern.builds.make import sandbox

LABEL = "saltern.within"
# How many images with packages of Aptfiles are kept, of all apps.
KEPT = 4


def with_packages(suite: str, packages: list[str]) -> str:
    """Return the name of an image of a Debian that has packages; the image is made where it is missing.

    :param suite: the Debian.
    :param packages: Debian packages, none for a host's own image.
    :raises LabError: when it cannot be made.
    """
    base, _ = bootstrapped.ensure(suite)
    if not packages:
        return base
    identity = podman("image", "inspect", "--format", "{{.Id}}", base).stdout.strip()
    wanted = hashlib.sha256(" ".join([identity, *sorted(packages)]).encode()).hexdigest()[:12]
    name = f"{image.WITHIN}:{wanted}"
    with image.LOCKS.joinpath("saltern-within.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if podman("image", "exists", name, check=False).returncode:
            with Lab.temporary(f"within-{suite}") as lab:
                host = lab.boot("dev", suite, image_name=base)
                install = "apt-get -qq install --no-install-recommends"
                host.sh(f"apt-get -qq update; DEBIAN_FRONTEND=noninteractive {install} {' '.join(packages)} >/dev/null")
                host.sh("rm -rf /var/cache/apt/archives/*.deb")
                podman("commit", "-q", "--pause", f"--change=LABEL {LABEL}={wanted}", host.name, name)
            listed = podman("images", "-q", "--filter", f"label={LABEL}", "--sort", "created").stdout.split()
            for old in dict.fromkeys(listed[KEPT:]):
                podman("rmi", old, check=False)
    return name


def arguments(name: str, directory: str, words: list[str]) -> list[str]:
    """Return podman's command line for a step.

    :param name: the image.
    :param directory: what the step sees at /mnt.
    :param words: the step's.
    """
    flags = ["--rm", "--pull=never", "--network=none", "--read-only", "--read-only-tmpfs=false", *machine.limits()]
    flags += [f"--user={sandbox.NOBODY}:{sandbox.NOBODY}", "--cap-drop=all", "--security-opt=no-new-privileges"]
    flags += [f"--timeout={sandbox.LIMIT}", f"--workdir={sandbox.PLACE}/app"]
    flags += [f"--volume={directory}:{sandbox.PLACE}", f"--volume={directory}/tmp:/tmp"]
    flags += [f"--label={RUN}={run}"] if (run := os.environ.get("SALTERN_RUN")) else []
    return [*command(), "run", *flags, name, *words]


def main() -> None:
    """Run the command line; this process becomes podman's."""
    parser = argparse.ArgumentParser(prog="python -m lab.within", description=__doc__.partition("\n")[0])
    pythons = {debian["python"].rpartition(".")[0]: suite for suite, debian in machine.DEBIANS.items()}
    parser.add_argument("--python", required=True, choices=pythons, help="the hosts' Python")
    parser.add_argument("--package", action="append", default=[], help="a Debian package; once for each")
    parser.add_argument("directory", help="what the command sees at /mnt")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="the command")
    options = parser.parse_args()
    try:
        if os.geteuid():
            raise LabError("not root; expected root, for a container of the hosts' Debian")
        line = arguments(with_packages(pythons[options.python], options.package), options.directory, options.words)
    except LabError as error:
        sys.exit(f"lab: {error}")
    sys.stdout.flush()
    os.execvp(line[0], line)


if __name__ == "__main__":
    main()
