"""The configuration of Salt that bootstrap.sh writes, as bootstrap.sh itself writes it."""

import re
import subprocess
from pathlib import Path

import yaml

SECTION = re.compile(r"^# --- Its configuration -+\n(.*?)^# The key from which ", re.DOTALL | re.MULTILINE)
# What the section does, done on nothing: each file is printed instead of written.
PRINTED = """
was=
mkdir() { :; }
rm() { :; }
chmod() { :; }
said() { :; }
install_file() { printf '\\0%s\\n' "$1"; cat; }
"""


def configuration(tree: Path, host_id: str, mode: str = "masterless", master: str = "", key: str = "") -> dict:
    """Return what bootstrap.sh writes into /etc/salt on a host, parsed, by the files' names.

    :param tree: the directory that bootstrap.sh lies in.
    :param host_id: the host's id.
    :param mode: ``masterless``, ``master`` or ``minion``.
    :param master: a minion's: where its master is.
    :param key: a minion's: the fingerprint of the master's key.
    """
    (section,) = SECTION.findall((Path(tree) / "bootstrap.sh").read_text())
    variables = {"tree": str(tree), "id": host_id, "mode": mode, "master": master, "master_key": key}
    command = ["sh", "-euc", PRINTED + section]
    done = subprocess.run(
        command, env=variables | {"PATH": "/usr/bin:/bin"}, check=True, capture_output=True, text=True
    )
    files = dict(part.split("\n", 1) for part in done.stdout.split("\0")[1:])
    return {Path(path).name: yaml.safe_load(text) for path, text in files.items() if path.startswith("/etc/salt/")}
