"""A host's pillar holds no secret of a role that it does not have."""

import json
from pathlib import Path

import pytest
import trustme
import yaml

from saltern import services
from saltern.attachments.derived import with_services

from .minion import BUILDS, ROOT, Host, certificates

ROLES = {"data": ["database"], "cache": ["cache"], "web": ["app"], "front": ["proxy"], "idle": []}
ROWS = {
    name: {"environment": "dev", "roles": roles, "address": f"10.0.0.{number}"}
    for number, (name, roles) in enumerate(ROLES.items(), 1)
}

# Each text is unique, and none is a part of another.
SECRETS = {
    "faq's variable": "canary-0123456789-a",
    "tickets's variable": "canary-0123456789-b",
    "a foreign resource": "canary-0123456789-c",
    "faq's database": "canary-0123456789-d",
    "tickets's database": "canary-0123456789-e",
    "tickets's Redis instance": "canary-0123456789-f",
    "a user of tickets's site": "canary-0123456789-g",
}
SITE_KEY = "the key of tickets's site"
# Written by hand.
TOLD = {
    "data": {"faq's database", "tickets's database"},
    "cache": {"tickets's Redis instance"},
    "web": {*SECRETS} - {"a user of tickets's site"},
    "front": {SITE_KEY, "a user of tickets's site"},
    "idle": set(),
}


def declared(site):
    """Return settings with all these secrets.

    :param site: the certificate of the domain of tickets.
    """
    secret = SECRETS.__getitem__
    return {
        "app": {
            "faq": {"config": {"SECRET_KEY": secret("faq's variable")}},
            "tickets": {
                "config": {"SECRET_KEY": secret("tickets's variable")},
                "attach": {"MAIL_URL": {"url": f"smtp://user:{secret('a foreign resource')}@mail"}},
                "domains": ["tickets.example.com"],
                "site": {
                    "access": {"users": {"ada": secret("a user of tickets's site")}},
                    "key": site.private_key_pem.bytes().decode(),
                    "certificate": site.cert_chain_pems[0].bytes().decode(),
                },
            },
        },
        "postgres": {
            "databases": {app: {"password": secret(f"{app}'s database")} for app in ("faq", "tickets")},
        },
        "redis": {"instances": {"tickets": {"password": secret("tickets's Redis instance")}}},
    }


@pytest.mark.parametrize("name", ROWS)
def test_a_host_is_told_what_its_roles_need_and_no_more(tmp_path, name):
    site = trustme.CA().issue_cert("tickets.example.com")
    host = Host(tmp_path, name)
    host.declare("hosts.yaml", ROWS)
    host.declare("builds/dev.sls", BUILDS)
    own = certificates(name, ROWS[name]["address"])
    host.merge(declared(site) | {"certificates": own})
    told = json.dumps(host.ask("pillar.items", "unmask=True"))
    assert "_errors" not in told
    key = site.private_key_pem.bytes().decode().splitlines()[1]
    assert {what for what, text in (SECRETS | {SITE_KEY: key}).items() if text in told} == TOLD[name]
    assert own["key"].splitlines()[1] in told


def secrets_of(schema, path=(), roles=None):
    """Yield the path of each secret in a schema, and who needs it."""
    roles = schema.get("x-roles", roles)
    if schema.get("secret"):
        yield path, roles
    for word in ("properties", "patternProperties"):
        for name, part in schema.get(word, {}).items():
            yield from secrets_of(part, (*path, name if word == "properties" else "*"), roles)


def test_each_secret_says_for_whom_it_is():
    found = {}
    for file in sorted(Path(ROOT / "formulas").glob("*/settings.yaml")):
        schema = yaml.safe_load(file.read_text())
        schema = with_services(schema) if file.parent.name == "app" else schema
        found |= {(file.parent.name, *path): roles for path, roles in secrets_of(schema)}
    assert {path for path, roles in found.items() if not roles} == {("certificates", "key")}
    # Five secrets of apps, certificates and relays of mail, and the password of each service's resources.
    assert len(found) == 5 + sum(service.has_password for service in services.resources())
