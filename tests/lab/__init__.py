"""The lab: throw-away hosts on this machine, each a real systemd in a podman container."""

from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.podman import LabError

__all__ = ["Host", "Lab", "LabError"]
