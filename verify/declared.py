"""What a host is declared to be: its settings, compiled from the tree on the machine that verifies."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from lab.configuration import configuration
from saltern import services
from saltern.attachments import parts
from saltern.web import routes

# Variables that every process has besides its config; see formulas/app/files/launcher/release.py.
OWN_VARIABLES = {"HOME", "LANG", "LOGNAME", "PATH", "PYTHONUNBUFFERED", "SHELL", "TMPDIR", "USER"}
# Variables that a shell sets for the command that it becomes.
SHELLS_VARIABLES = {"PWD", "OLDPWD", "SHLVL", "_"}


def in_full(domains: list[str]) -> list[str]:
    """Return domains that a client can ask for: of those for which a star stands, one.

    :param domains: of an app.
    """
    return [domain.replace("*", "saltern-verify", 1) for domain in domains]


def settings(tree: Path, host_id: str) -> dict:
    """Compile a host's settings without asking the host. Secrets are decrypted with the operator's own key.

    :param tree: the tree with the inventory and the pillar.
    :param host_id: the host's id.
    :return: settings by formula, and the inventory as ``hosts``.
    :raises RuntimeError: with the messages of the settings' check.
    """
    with tempfile.TemporaryDirectory() as scratch:
        extra = {"root_dir": scratch, "cachedir": "cache", "pki_dir": "pki", "sock_dir": "run", "log_file": "log"}
        extra["gpg_keydir"] = os.environ.get("GNUPGHOME") or str(Path("~/.gnupg").expanduser())
        (Path(scratch) / "minion").write_text(yaml.safe_dump(configuration(tree, host_id)["minion"] | extra))
        command = [Path(sys.executable).parent / "salt-call", "--local", "-c", scratch, "-l", "quiet", "--out", "json"]
        command += ["--retcode-passthrough", "pillar.items", "unmask=True"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{host_id}: its settings do not compile: {done.stdout or done.stderr}")
    pillar = json.loads(done.stdout)["local"]
    if "_errors" in pillar:
        raise RuntimeError(f"{host_id}: its settings do not compile: {'; '.join(pillar['_errors'])}")
    for formula, service in services.formulas().items():
        pillar[formula][service.plural] = service.owned(pillar[formula])
    return pillar


def processes(app: dict) -> list[str]:
    """Name the processes of an app's formation, such as ``web.1``."""
    return [f"{kind}.{n}" for kind in sorted(app["formation"]) for n in range(1, app["formation"][kind] + 1)]


def variables(app: dict, process: str) -> set[str]:
    """Return the exact names of the environment variables that a process must have."""
    port = {"PORT"} if process.partition(".")[0] in routes.listening(app) else set()
    return OWN_VARIABLES | config(app) | port


def config(app: dict) -> set[str]:
    """Name the variables of an app's config: its own, and those of its attachments."""
    return {*app["config"], *(name for one in app["attach"].items() for name in parts.names(*one))}


def by_line(line: str) -> set[str]:
    """Return the names of the variables that a line of the Procfile may set for its command.

    :param line: the line, as the shell reads it.
    """
    return SHELLS_VARIABLES | set(re.findall(r"\b([A-Za-z_][A-Za-z0-9_]*)=", line))


def changes_directory(line: str) -> bool:
    """Tell whether a line of the Procfile may start its command outside the build's directory."""
    return bool(re.search(r"(^|[\s;&|(])(cd|pushd|chdir)\s|\s(--chdir|--directory|-C)\b", line))
