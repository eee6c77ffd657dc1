"""Rebooting a host from elsewhere: whether it should be, and which boot this is."""

import glob
import os
import platform
import re
import subprocess

from salt.exceptions import CommandExecutionError

__load__ = ["begin", "boot", "pending"]

# Written by packages that want a reboot, such as libc and dbus, where unattended-upgrades or the like is installed.
REQUIRED = "/run/reboot-required"
KERNELS = "/boot/vmlinuz-*"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
# Seconds in which the answer is on its way to whoever asked.
DELAY = 2


def pending():
    """Say why this host should be rebooted.

    :return: a list of reasons, empty where there is none.

    CLI Example:

    .. code-block:: bash

        salt-call reboot.pending
    """
    found = []
    if os.path.exists(REQUIRED):
        found.append(f"{REQUIRED} is there")
    if newer := newer_kernel(platform.release(), glob.glob(KERNELS)):
        found.append(f"kernel {newer} is installed, {platform.release()} runs")
    return found


def newer_kernel(running, files):
    """Find a kernel that the next boot would take in place of the one that runs.

    :param running: its release, as ``uname -r`` has it.
    :param files: of the kernels that are installed.
    :return: its release, or ``None``. A kernel that was removed meanwhile has a successor, too.
    """
    releases = sorted((path.partition("vmlinuz-")[2] for path in files), key=_by_version)
    # Where none is installed at all, as in a container, it is the machine's own affair.
    return releases[-1] if releases and releases[-1] != running else None


def _by_version(release):
    """Order 6.1.0-9-amd64 before 6.1.0-10-amd64, as the boot loader does."""
    return [(1, int(part)) if part.isdigit() else (0, part) for part in re.findall(r"\d+|[a-z]+", release)]


def boot():
    """Return the id of this boot, another one after each, and whether systemd has come to the end of it.

    :return: a mapping of ``id``, and ``state``: ``running``, ``degraded``, ``starting`` and others that systemd has.

    CLI Example:

    .. code-block:: bash

        salt-call reboot.boot
    """
    with open(BOOT_ID, encoding="ascii") as stream:
        number = stream.read().strip()
    # A container has the machine's; its own is that of its first process.
    with open("/proc/1/stat", encoding="ascii") as stream:
        number += f"-{stream.read().rpartition(')')[2].split()[19]}"
    state = __salt__["cmd.run_stdout"]("systemctl is-system-running", python_shell=False, ignore_retcode=True)
    return {"id": number, "state": state}


def begin():
    """Reboot this host, once the answer to this is on its way.

    :return: the id of the boot that ends, as ``reboot.boot`` has it.
    :raises CommandExecutionError: when systemd does not take the order.

    CLI Example:

    .. code-block:: bash

        salt-call reboot.begin
    """
    now = boot()["id"]
    command = ["systemd-run", "-q", f"--on-active={DELAY}", "--timer-property=AccuracySec=100ms", "systemctl", "reboot"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandExecutionError(f"{__opts__['id']}: cannot be rebooted: {done.stderr.strip()}")
    return now
