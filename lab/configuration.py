"""The configuration of Salt that bootstrap.sh writes, from the same templates."""

from pathlib import Path

import yaml

# By a host's mode: its files in /etc/salt, and their templates in bootstrap/.
TEMPLATES = {
    "masterless": {"minion": "masterless"},
    "master": {"minion": "masterless", "master": "master"},
    "minion": {"minion": "minion"},
}
# The templates that are included in others.
PARTS = ("roots", "options")


def configuration(tree: Path, host_id: str, mode: str = "masterless", master: str = "", key: str = "") -> dict:
    """Return what bootstrap.sh writes into /etc/salt on a host, parsed, by the files' names.

    :param tree: the directory that bootstrap.sh lies in.
    :param host_id: the host's id.
    :param mode: ``masterless``, ``master`` or ``minion``.
    :param master: for a minion: the address of its master.
    :param key: for a minion: the fingerprint of the master's key.
    """
    values = {"tree": str(tree), "id": host_id, "master": master, "master_key": key}

    def filled(name: str) -> str:
        text = (Path(tree) / f"bootstrap/{name}.in").read_text()
        for part in PARTS:
            if f"@{part}@\n" in text:
                text = text.replace(f"@{part}@\n", filled(part))
        for value in values:
            text = text.replace(f"@{value}@", values[value])
        return text

    return {name: yaml.safe_load(filled(template)) for name, template in TEMPLATES[mode].items()}
