"""The functions of the module ``attachment``, which state files and operators call."""

import hashlib

import pytest


@pytest.fixture
def on_a_host(attachment, dunders, tmp_path):
    """The module on a host with a key and one app."""
    (tmp_path / "host.key").write_text("key\n")
    pillar = {
        "app": {"shop": {"config": {}, "attach": {"A": {"postgres": "shop"}, "B": {"redis": "shop"}}}},
        "postgres": {"databases": {"shop": {"owner": "shop"}}},
        "redis": {"instances": {"shop": {"owner": "shop", "password": "p/w@:#?%"}}},
        "hosts": {"one": {"roles": ["cache", "app"], "address": "10.0.0.1"}},
    }
    dunders(attachment, salt={}, pillar=pillar, opts={"conf_file": str(tmp_path / "minion"), "id": "one"})
    return attachment


def test_a_digest_is_of_the_apps_password_or_of_the_hosts_own(on_a_host):
    # Worked out with `printf 'p/w@:#?%%' | sha256sum`.
    assert on_a_host.digest("shop") == "0a7f65b8e1c28a2c49d4eccc26201b5cdd5a0f92e9cfc720a2e209544a562c98"
    own = on_a_host.operator_password("shop")
    assert own not in (on_a_host.password("redis", "shop"), on_a_host.password("postgres", "shop"))
    assert on_a_host.digest("shop", "operator") == hashlib.sha256(own.encode()).hexdigest()


def test_a_host_answers_for_its_own_pillar_and_roles(on_a_host):
    assert on_a_host.login("redis", "shop") == "shop_4deb37"
    assert on_a_host.requisites("shop") == [{"service_config": "redis-loaded-shop"}]
    assert on_a_host.replacing() == [{"redis_instance": "redis-replaced"}]
    assert on_a_host.targets("shop") == {"A": {"postgres": "shop"}, "B": {"redis": "shop"}}
