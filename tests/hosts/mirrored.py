"""The app mirror (tests/apps/mirror) as the tests of releases deploy it, and what they ask of it."""

import base64

from lab import Host
from tests.hosts.applied import apply
from tests.hosts.client import Client

DOMAIN = "mirror.localhost"
MIRROR = {
    "port": 8300,
    "domains": [DOMAIN],
    "formation": {"web": 2, "worker": 1},
    "health": {"grace": 30},
    # Shorter than an answer may take: a process gets SIGTERM only after it has answered.
    "grace": {"web": 5},
    "config": {"COLOUR": "red", "SECRET": "canary-0123456789"},
}


def colour(mirror: Client) -> str:
    """Return the variable COLOUR as the app's process has it."""
    return base64.b64decode(mirror.get("/environ").json()["environ"]["COLOUR"]).decode()


def nothing_is_left(host: Host) -> None:
    """Converge twice: the first run succeeds, the second changes nothing, and nothing half-made is left."""
    apply(host).succeeded()
    apply(host).changed_nothing()
    assert host.sh("find /srv/apps /etc/supervisor /etc/nginx -name '*.new' -o -path '*/releases/.*'").stdout == ""
    confs = host.sh("ls /etc/supervisor/conf.d | grep -c '^mirror'").stdout.strip()
    assert confs == "1"
    outcomes = host.sh("for n in /srv/apps/mirror/releases/*; do cat $n/outcome || echo none; done").stdout.split("\n")
    assert "none" not in outcomes
