"""The work tree: its files, and the hosts that its inventory has."""

import ipaddress
import os
import shutil
import subprocess
from pathlib import Path

import yaml

from lab.podman import LabError, reason

ROOT = Path(__file__).resolve().parents[1]
INVENTORY = "pillar/hosts.yaml"
PILLAR = [str(ROOT / "pillar")]
# The environment that make up boots unless told otherwise.
DEFAULT = "dev"


def inventory(tree: Path) -> dict[str, dict]:
    """Return the inventory of a tree: rows by host id.

    :raises LabError: when the file is missing, is no YAML, or lacks what the lab needs.
    """
    try:
        rows = yaml.safe_load((tree / INVENTORY).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise LabError(f"{INVENTORY}: {str(error).splitlines()[0]}") from None
    rows = rows if isinstance(rows, dict) else {}
    for host_id, row in rows.items():
        try:
            ipaddress.IPv4Address(row["address"])
            row["environment"], row["roles"]
        except (KeyError, TypeError, ValueError):
            raise LabError(f"{INVENTORY}: {host_id}: expected environment, roles and an IPv4 address") from None
    return rows


def subnet_of(rows: dict[str, dict], environment: str) -> ipaddress.IPv4Network:
    """Return the /24 of an environment's hosts.

    :raises LabError: when there are none, or they lie in several.
    """
    subnets = {
        ipaddress.ip_network(f"{row['address']}/24", strict=False)
        for row in rows.values()
        if row["environment"] == environment
    }
    if not subnets:
        raise LabError(f"{INVENTORY}: no host is in the environment {environment}; add one")
    if len(subnets) > 1:
        listed = ", ".join(map(str, sorted(subnets)))
        raise LabError(f"{INVENTORY}: the hosts of {environment} lie in {listed}; the lab needs them in one /24")
    return subnets.pop()


def copy_tree(source: Path, target: Path) -> None:
    """Copy every file of a git work tree that git knows or would add.

    :raises LabError: when it is no git work tree.
    """
    for name in tree_files(source):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, target / name, follow_symlinks=False)


def tree_files(source: Path) -> list[str]:
    """Return the paths of the files of a git work tree that git knows or would add.

    :raises LabError: when it is no git work tree.
    """
    listed = subprocess.run(
        ["git", "-C", str(source), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        raise LabError(f"{source}: {reason(listed)}")
    # A file that was removed and not committed yet is still listed.
    return [name for name in filter(None, listed.stdout.split("\0")) if os.path.lexists(source / name)]
