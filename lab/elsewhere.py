"""Hosts that are not of the lab, asked over ssh: servers, and the virtual machines that Vagrant runs."""

import os
import subprocess
from pathlib import Path

import testinfra

from lab.podman import LabError
from lab.tree import ROOT


def machines(environment: str, config: Path) -> str:
    """Return testinfra's names of the virtual machines that Vagrant runs, and write how ssh reaches them.

    :param environment: whose they are.
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
    """Ask a host elsewhere whether it is there, once, and not in each test.

    :param name: testinfra's name of it.
    :param config: the configuration of ssh.
    :raises LabError: when it is not, with the reason.
    """
    if "://" not in name:
        raise LabError(f"HOST: '{name}' is no address of a host; expected one as ssh://root@web1")
    try:
        asked = testinfra.get_host(name, ssh_config=str(config)).run("true")
    except (RuntimeError, ValueError, ImportError) as error:
        # Of ssh's own failure testinfra hands on what ssh did.
        asked = error.args[0] if error.args else error
    if getattr(asked, "rc", 1):
        said = str(getattr(asked, "stderr", "") or asked).strip().splitlines()[-1]
        raise LabError(f"HOST: {name} cannot be asked: {said}; expected a host that ssh reaches, as ssh://root@web1")


def ssh_config(own: str | None, directory: str) -> str:
    """Return a configuration of ssh that asks a host over one connection, as the user's own configuration says.

    :param own: the user's configuration, the usual ones where it is not given.
    :param directory: where the connection's socket may lie.
    :raises LabError: when the configuration that is given is not there.
    """
    if own and not Path(own).is_file():
        raise LabError(f"SSH_CONFIG: {own}: no such file; expected a configuration of ssh")
    included = [Path(own).resolve()] if own else [Path("~/.ssh/config").expanduser(), "/etc/ssh/ssh_config"]
    lines = ["Host *", "ControlMaster auto", f"ControlPath {directory}/%C", "ControlPersist 30", "BatchMode yes"]
    return "\n".join([*lines, *(f"Include {path}" for path in included)]) + "\n"
