"""Rebooting hosts: whether one should be, which boot it is in, and when it is back."""

import glob
import os
import platform
import re
import subprocess
import time
from collections.abc import Collection, Iterable
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.fleet.minions import Asks, silent
from saltern.host import Host

# Packages such as libc and dbus write this file where unattended-upgrades or the like is installed.
REQUIRED = "/run/reboot-required"
KERNELS = "/boot/vmlinuz-*"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
# Seconds before the reboot, in which the answer reaches the master.
DELAY = 2

# Seconds in which a host must be back, and between two questions.
REBOOT = 600
POLL = 2
# What systemd says when it has started all that it should.
BACK = ("running", "degraded")


# --- On a host --------------------------------------------------------------------------------------------------------


def pending() -> list[str]:
    """Say why this host should be rebooted.

    :return: reasons. Empty where there is none.
    """
    found = []
    if os.path.exists(REQUIRED):
        found.append(f"{REQUIRED} is there")
    if newer := newer_kernel(platform.release(), glob.glob(KERNELS)):
        found.append(f"kernel {newer} is installed, {platform.release()} runs")
    return found


def newer_kernel(running: str, files: Iterable[str]) -> str | None:
    """Find the kernel that the next boot would take, where it is not the one that runs.

    :param running: the release of the kernel that runs, as ``uname -r`` has it. Its file may have been removed.
    :param files: of the kernels that are installed.
    :return: the other kernel's release, or ``None``.
    """
    releases = sorted((path.partition("vmlinuz-")[2] for path in files), key=_by_version)
    # A container has no kernel of its own: that is the machine's affair.
    return releases[-1] if releases and releases[-1] != running else None


def _by_version(release: str) -> list[tuple[int, int | str]]:
    """Order 6.1.0-9-amd64 before 6.1.0-10-amd64, as the boot loader does."""
    return [(1, int(part)) if part.isdigit() else (0, part) for part in re.findall(r"\d+|[a-z]+", release)]


def boot(host: Host) -> dict[str, str]:
    """Return the id of this boot, which no other boot has, and how far systemd has come.

    :param host: the host.
    :return: ``id``, and ``state``: ``running``, ``degraded``, ``starting`` or another one of systemd's.
    """
    with open(BOOT_ID, encoding="ascii") as stream:
        number = stream.read().strip()
    # A container has the machine's id. When its first process was started tells its own boots apart.
    with open("/proc/1/stat", encoding="ascii") as stream:
        number += f"-{stream.read().rpartition(')')[2].split()[19]}"
    return {"id": number, "state": host.run(["systemctl", "is-system-running"])}


def begin(host: Host) -> str:
    """Reboot a host, once the answer to this is on its way.

    :param host: the host.
    :return: the id of the boot that ends; see ``boot``.
    :raises CommandExecutionError: when systemd does not take the order.
    """
    now = boot(host)["id"]
    command = ["systemd-run", "-q", f"--on-active={DELAY}", "--timer-property=AccuracySec=100ms", "systemctl", "reboot"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandExecutionError(f"{host.id}: cannot be rebooted: {done.stderr.strip()}")
    return now


# --- On a master ------------------------------------------------------------------------------------------------------


def reasons(asks: Asks, names: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """Ask minions why they should be rebooted.

    :param asks: asks minions.
    :param names: their ids.
    :return: a list of reasons by id, and mistakes. With mistakes the reasons are of no use.
    :raises CommandExecutionError: when no master runs here.
    """
    if missing := silent(asks, names):
        return {}, [missing]
    answers = asks(names, "reboot.pending")
    mistakes = [
        f"{name}: cannot tell whether it is to be rebooted; expected a host that has converged from this master"
        for name in names
        if not isinstance(answers.get(name), list) or not all(isinstance(one, str) for one in answers[name])
    ]
    return answers, mistakes


def reboot(asks: Asks, names: Collection[str], timeout: float) -> tuple[dict[str, str], dict[str, str]]:
    """Reboot minions at once, and wait until they are back and systemd has started all that it should.

    :param asks: asks minions.
    :param names: their ids.
    :param timeout: seconds in which they must be back.
    :return: two mappings by id: what systemd says on each host that is back, and what failed.
    :raises CommandExecutionError: when no master runs here.
    """
    started = time.monotonic()
    answers = asks(names, "reboot.begin", full_return=True)
    failed = {name: "did not answer" for name in names if name not in answers}
    failed |= {name: str(answer["ret"]) for name, answer in answers.items() if answer.get("retcode")}
    before = {name: answer["ret"] for name, answer in answers.items() if name not in failed}
    now: dict[str, str] = {}
    while before.keys() - now.keys() and time.monotonic() < started + timeout:
        time.sleep(POLL)
        missing = sorted(before.keys() - now.keys())
        for name, told in asks(missing, "reboot.boot").items():
            if is_back(told, before[name]):
                now[name] = told["state"]
    failed |= {name: f"is not back after {timeout} s" for name in before.keys() - now.keys()}
    failed |= {
        name: f"is back, but systemd is {state}; systemctl --failed says why"
        for name, state in now.items()
        if state != "running"
    }
    return now, failed


def is_back(boot: Any, before: str) -> bool:
    """Tell whether a host is back from a reboot.

    :param boot: what the host answers to ``reboot.boot``. While it goes down, that may be anything.
    :param before: the id of the boot before.
    """
    return isinstance(boot, dict) and boot.get("id") != before and boot.get("state") in BACK
