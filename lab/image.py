"""The base image of a suite: Debian's smallest system that boots, from this machine's own mirrors."""

import dataclasses
import fcntl
import hashlib
import json
import shlex
import subprocess
import tempfile
from pathlib import Path

from lab import machine
from lab.podman import LabError, command, podman

REPOSITORY = "localhost/saltern-lab"
# The image of a bootstrapped host; see bootstrapped.py.
BOOTSTRAPPED = f"{REPOSITORY}-bootstrapped"
# Images in which steps of builds run, with packages of Aptfiles; see within.py.
WITHIN = f"{REPOSITORY}-within"
RECIPE_LABEL = "saltern.recipe"
LOCKS = Path("/run/lock")
# The packages of a bare host: it boots, has a network and can check certificates. It has no Python.
PACKAGES = ("systemd", "systemd-sysv", "dbus", "ca-certificates", "iproute2")
# A container shares this machine's kernel, so it must not load modules.
MASKED = ("systemd-modules-load.service",)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that an image is made from."""

    suite: str
    mirrors: tuple[str, ...]
    apt_options: tuple[str, ...] = ()
    authorities: tuple[tuple[str, bytes], ...] = ()
    packages: tuple[str, ...] = PACKAGES
    masked: tuple[str, ...] = MASKED

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with every part of the recipe."""
        fields = json.dumps(dataclasses.asdict(self), sort_keys=True, default=bytes.hex)
        return hashlib.sha256(fields.encode()).hexdigest()[:12]


def recipe(suite: str) -> Recipe:
    """Return this machine's recipe for a suite.

    :raises LabError: when apt knows of no Debian mirror.
    """
    mirrors = machine.mirrors(suite)
    if not mirrors:
        subprocess.run(["apt-get", "-q", "update"], capture_output=True, check=False)
        mirrors = machine.mirrors(suite)
    if not any(mirror.suite == suite for mirror in mirrors):
        raise LabError("apt's sources name no Debian mirror over http or https; mend them, then run apt-get update")
    return Recipe(
        suite=suite,
        mirrors=tuple(str(mirror) for mirror in mirrors),
        apt_options=tuple(machine.apt_options()),
        authorities=tuple(machine.authorities().items()),
    )


def ensure(suite: str) -> tuple[str, bool]:
    """Make the base image of a suite where it is missing or its recipe has changed.

    :return: the image's name, and whether it was made now.
    :raises LabError: when it cannot be made.
    """
    wanted = recipe(suite)
    with LOCKS.joinpath(f"saltern-image-{suite}.lock").open("w") as lock:
        # Another run may be making the same image: then it is there when this one comes to look.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _ensure(wanted)


def _ensure(wanted: Recipe) -> tuple[str, bool]:
    name = f"{REPOSITORY}:{wanted.suite}"
    template = f'{{{{.Id}}}} {{{{index .Labels "{RECIPE_LABEL}"}}}}'
    old = podman("image", "inspect", "--format", template, name, check=False)
    identity, _, digest = old.stdout.strip().partition(" ")
    if digest == wanted.digest:
        return name, False
    build(wanted, name)
    if identity:
        # Remove the replaced image, unless a host still uses it.
        podman("rmi", identity, check=False)
    return name, True


def build(wanted: Recipe, name: str) -> None:
    """Build an image.

    :param wanted: its recipe.
    :param name: its name in podman.
    :raises LabError: with the first reason that apt or podman gives.
    """
    with tempfile.TemporaryDirectory(prefix="saltern-lab-") as scratch:
        log = Path(scratch) / "log"
        files = []
        for file_name, content in wanted.authorities:
            path = Path(scratch) / file_name
            path.write_bytes(content)
            files.append(path)
        with log.open("w") as errors:
            bootstrap = subprocess.Popen(
                ["mmdebstrap", *mmdebstrap_options(wanted, files), wanted.suite, "-", *wanted.mirrors],
                stdout=subprocess.PIPE,
                stderr=errors,
            )
            load = subprocess.run(
                [*command(), "import", "--change", f"LABEL {RECIPE_LABEL}={wanted.digest}", "-", name],
                stdin=bootstrap.stdout,
                capture_output=True,
                text=True,
                check=False,
            )
        bootstrap.stdout.close()
        if bootstrap.wait():
            podman("rmi", name, check=False)
            raise LabError(f"mmdebstrap could not make {wanted.suite}: {first_error(log.read_text())}")
        if load.returncode:
            raise LabError(f"podman import of {name}: {first_error(load.stderr)}")


def remove() -> list[str]:
    """Remove the images of all suites, and return the names of what was removed."""
    listed = podman("images", "--format", "{{.Repository}}:{{.Tag}}", WITHIN, check=False).stdout.split()
    there = listed + [f"{repository}:{suite}" for repository in (BOOTSTRAPPED, REPOSITORY) for suite in machine.SUITES]
    return [name for name in there if podman("rmi", name, check=False).returncode == 0]


def mmdebstrap_options(wanted: Recipe, authorities: list[Path]) -> list[str]:
    """Return mmdebstrap's options for a recipe.

    :param wanted: the recipe.
    :param authorities: files with this site's certificate authorities.
    """
    options = ["--mode=root", "--format=tar", "--variant=minbase", f"--include={','.join(wanted.packages)}"]
    options += [f"--aptopt={option.rstrip(';')}" for option in wanted.apt_options]
    options.append(f'--customize-hook=chroot "$1" systemctl mask {" ".join(wanted.masked)}')
    if authorities:
        target = "/usr/local/share/ca-certificates"
        sources = " ".join(shlex.quote(str(path)) for path in authorities)
        options.append(f'--customize-hook=mkdir -p "$1{target}"')
        options.append(f"--customize-hook=copy-in {sources} {target}")
        options.append('--customize-hook=chroot "$1" update-ca-certificates')
    return options


def first_error(log: str) -> str:
    """Return the line of a log that gives the reason, or else a hint what to do."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for line in lines:
        if line.startswith(("E: ", "Error: ", "Err:")):
            return line.removeprefix("E: ").removeprefix("Error: ")
    return lines[-1] if lines else "no reason given; check the disk and the apt sources"
