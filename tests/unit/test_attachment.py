"""The functions of the module ``attachment``, which state files and operators call."""

import pytest
from salt.exceptions import CommandExecutionError


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


def test_a_host_answers_for_its_own_pillar_and_roles(on_a_host):
    assert on_a_host.login("redis", "shop") == "shop_4deb37"
    assert on_a_host.requisites("shop") == [{"service_config": "redis-loaded-shop"}]
    assert on_a_host.replacing() == [{"redis_instance": "redis-replaced"}]
    assert on_a_host.targets("shop") == {"A": {"postgres": "shop"}, "B": {"redis": "shop"}}


def test_what_this_host_does_not_have_is_told_by_its_name(on_a_host):
    for ask, told in (
        (lambda: on_a_host.login("postgre", "shop"), "postgre: no service has this name; expected one of "),
        (lambda: on_a_host.holders("nosuch"), "nosuch: no service has this name; expected one of "),
        (lambda: on_a_host.login("postgres", "nosuch"), "nosuch: no database that an app attaches has this name; "),
        (lambda: on_a_host.requisites("nosuch"), "nosuch: no app of this host has this name; expected one of shop"),
        (lambda: on_a_host.targets("nosuch"), "nosuch: no app of this host has this name; expected one of shop"),
    ):
        with pytest.raises(CommandExecutionError) as refused:
            ask()
        assert str(refused.value).startswith(told)
