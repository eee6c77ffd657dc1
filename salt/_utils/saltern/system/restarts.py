"""Units that systemd starts again and again: each restart hides that a service ends."""

import os
import subprocess
import time

from saltern import services
from saltern.system.systemd import properties

# Units that systemd restarts when they end, where they are on the host.
ALWAYS = (
    "nginx.service",
    "supervisor.service",
    "etcd.service",
    "systemd-journald.service",
    "saltern-*.service",
    "salt-*.service",
)
NAMES = ("Id", "NRestarts", "ActiveState", "StateChangeTimestampMonotonic")
# A unit counts as restarting after this many restarts, the last of them within these seconds.
RESTARTS = 3
RECENT = 3600


def restarting() -> list[str]:
    """List the units that systemd restarted again and again, the last time not long ago.

    :return: for each unit a text: its name, the number of restarts since its last ordinary start, and its state.
    """
    patterns = [*ALWAYS, *(service.relied_on for service in services.resources() if service.relied_on)]
    command = ["systemctl", "show", "--all", "-p", ",".join(NAMES), *patterns]
    environ = os.environ | {"LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    return again_and_again(done.stdout, time.monotonic())


def again_and_again(shown: str, monotonic: float) -> list[str]:
    """Find the units that were started again and again.

    :param shown: what ``systemctl show`` said of them.
    :param monotonic: seconds of the monotonic clock.
    :return: see ``restarting``.
    """
    found = []
    for unit in map(properties, shown.split("\n\n")):
        count = int(unit.get("NRestarts") or 0)
        is_recent = monotonic - int(unit.get("StateChangeTimestampMonotonic") or 0) / 1_000_000 < RECENT
        if count >= RESTARTS and (is_recent or unit["ActiveState"] != "active"):
            found.append(f"{unit['Id']} ({count} times, {unit['ActiveState']})")
    return sorted(found)
