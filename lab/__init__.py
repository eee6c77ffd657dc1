"""The lab: throw-away hosts on this machine, each a real systemd in a podman container."""

from lab.host import Host
from lab.lab import Lab
from lab.podman import LabError

__all__ = ["Host", "Lab", "LabError"]
