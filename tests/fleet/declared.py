"""The pillar of a master's tests: two environments with secrets, each with a text of its own to search for."""

from pathlib import Path

import yaml

from tests.keyring import Keyring
from tests.render.minion import BUILD, certificates

HOSTS = {
    "master1": {"environment": "production", "roles": ["master"], "address": "10.0.0.1"},
    "db1": {"environment": "production", "roles": ["database", "cache"], "address": "10.0.0.2"},
    "app1": {"environment": "production", "roles": ["app"], "address": "10.0.0.3"},
    "proxy1": {"environment": "production", "roles": ["proxy"], "address": "10.0.0.4"},
    "staging1": {
        "environment": "staging",
        "roles": ["database", "cache", "app", "proxy"],
        "address": "10.0.1.1",
    },
}

# By name: the owner, and the text.
APP, DATABASE, CACHE = "an app's variable", "a database's password", "a Redis instance's password"
SECRETS = {
    (environment, what): f"canary-{environment}-{number}-0123456789"
    for environment in ("production", "staging")
    for number, what in enumerate((APP, DATABASE, CACHE))
}
# Written by hand.
TOLD = {
    "master1": set(),
    "db1": {("production", DATABASE), ("production", CACHE)},
    "app1": {("production", APP), ("production", DATABASE), ("production", CACHE)},
    "proxy1": set(),
    "staging1": {("staging", APP), ("staging", DATABASE), ("staging", CACHE)},
}


def write_pillar(pillar: Path, keyring: Keyring) -> None:
    """Write the inventory, builds, secrets and certificates of both environments.

    :param pillar: the pillar's root.
    :param keyring: the master's keys.
    """
    files = {"hosts.yaml": (HOSTS, "")}
    for environment in ("production", "staging"):
        builds = {app: {"build": BUILD} for app in ("faq", "tickets")}
        files[f"builds/{environment}.sls"] = ({"app": builds}, "")

        def secret(what, environment=environment):
            return keyring.encrypt(SECRETS[environment, what].encode())

        secrets = {
            "app": {app: {"config": {"SECRET_KEY": secret(APP)}} for app in ("faq", "tickets")},
            "postgres": {"databases": {app: {"password": secret(DATABASE)} for app in ("faq", "tickets")}},
            "redis": {"instances": {"tickets": {"password": secret(CACHE)}}},
        }
        files[f"secrets/{environment}.sls"] = (secrets, "#!yaml|gpg\n")
    for name, row in HOSTS.items():
        own = certificates(name, row["address"])
        own["key"] = keyring.encrypt(own["key"].encode())
        files[f"certificates/{row['environment']}/{name}.sls"] = ({"certificates": own}, "#!yaml|gpg\n")
    for name, (content, first) in files.items():
        (pillar / name).parent.mkdir(parents=True, exist_ok=True)
        (pillar / name).write_text(first + yaml.safe_dump(content))
