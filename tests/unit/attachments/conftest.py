"""A host with an app that attaches something of PostgreSQL and of Redis, and nothing of other services."""

import pytest

from saltern import services
from saltern.attachments.host import Host


@pytest.fixture
def on_a_host(tmp_path):
    """A host with a key and one app."""
    (tmp_path / "host.key").write_text("key\n")
    attach = {
        "DATABASE_URL": {"postgres": "shop", "address": "127.0.0.1", "port": 5432},
        "REDIS_URL": {"redis": "shop", "address": "127.0.0.1", "port": 8099},
        "FAQ_API": {"service": "faq", "version": "v1", "address": "127.0.0.1", "port": 8100, "path": "/v1"},
        "MAIL_URL": {"url": "smtp://mail.example.com"},
        "OLD_URL": {"postgres": "old", "url": "postgres://old.example.com/old"},
    }
    pillar = {kind: {service.plural: {}} for kind, service in services.formulas().items()} | {
        "app": {"shop": {"config": {"GREETING": "50 % off $PATH"}, "attach": attach}},
        "postgres": {"databases": {"shop": {"owner": "shop"}}},
        "redis": {"instances": {"shop": {"owner": "shop", "password": "p/w@:#?%", "port": 8099}}},
        "hosts": {"one": {"roles": ["database", "cache", "app"], "address": "10.0.0.1"}},
    }
    return Host.of({}, pillar, {"conf_file": str(tmp_path / "minion"), "id": "one"})
