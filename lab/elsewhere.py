"""Hosts that are not of the lab, asked over ssh: servers, and the virtual machines that Vagrant runs."""

import os
import subprocess
from pathlib import Path

import testinfra

from lab.podman import LabError
from lab.tree import ROOT


def machines(environment: str, config: Path) -> str:
    """Return testinfra's names of the virtual machines that Vagrant runs, and write a configuration of ssh for them.

    :param environment: the machines' environment.
    :param config: the file to write.
    :raises LabError: when there are none, with what Vagrant says.
    """
    environ = os.environ | {"SALTERN_ENV": environment}
    try:
        asked = subprocess.run(
            ["vagrant", "ssh-config"], cwd=ROOT, capture_output=True, text=True, check=False, env=environ
        )
    except FileNotFoundError:
        raise LabError("VAGRANT: Vagrant is not installed here") from None
    config.write_text(asked.stdout)
    names = [line.split()[1] for line in asked.stdout.splitlines() if line.startswith("Host ")]
    if not names:
        raise LabError(f"VAGRANT: no machine of {environment} runs: {' '.join(asked.stderr.split()) or 'vagrant up'}")
    return ",".join(f"ssh://{name}?sudo=true" for name in names)


def refuse_unreached(name: str, config: Path) -> None:
    """Ask a host elsewhere once whether it can be reached, and not in each test.

    :param name: testinfra's name of it.
    :param config: the configuration of ssh.
    :raises LabError: when it cannot, with the reason.
    """
    if "://" not in name:
        raise LabError(f"HOST: '{name}' is no address of a host; expected one as ssh://root@web1")
    try:
        asked = testinfra.get_host(name, ssh_config=str(config)).run("true")
    except (RuntimeError, ValueError, ImportError) as error:
        # When ssh itself fails, testinfra passes on ssh's exit code and message.
        asked = error.args[0] if error.args else error
    if getattr(asked, "rc", 1):
        said = str(getattr(asked, "stderr", "") or asked).strip().splitlines()[-1]
        raise LabError(f"HOST: {name} cannot be asked: {said}; expected a host that ssh reaches, as ssh://root@web1")


def ssh_config(own: str | None, directory: str) -> str:
    """Return a configuration of ssh that keeps one connection to a host, on top of the user's configuration.

    :param own: the user's configuration file; the usual ones if it is not given.
    :param directory: the directory for the connections' sockets.
    :raises LabError: when the given configuration does not exist.
    """
    if own and not Path(own).is_file():
        raise LabError(f"SSH_CONFIG: {own}: no such file; expected a configuration of ssh")
    included = [Path(own).resolve()] if own else [Path("~/.ssh/config").expanduser(), "/etc/ssh/ssh_config"]
    lines = ["Host *", "ControlMaster auto", f"ControlPath {directory}/%C", "ControlPersist 30", "BatchMode yes"]
    return "\n".join([*lines, *(f"Include {path}" for path in included)]) + "\n"
