"""What a host knows of its attachments: passwords that it derives, and passwords that the pillar gives it."""

import pytest
from salt.exceptions import CommandExecutionError

from saltern import services
from saltern.host import Host, derive_password
from saltern.settings.check import check

POSTGRES, REDIS = services.formulas()["postgres"], services.formulas()["redis"]


def test_a_derived_password_is_the_same_each_time_and_unlike_any_other():
    # Worked out with `printf postgres/shop | openssl dgst -sha256 -hmac key`.
    assert derive_password("key", "postgres", "shop") == "5b3b3ad27e74566ffa19f3f44db6b5011a96e95c"
    others = {
        derive_password(key, kind, name)
        for key in ("key", "key2")
        for kind in ("postgres", "redis")
        for name in ("shop", "stock")
    }
    assert len(others) == 8


def test_a_derived_password_is_one_that_the_settings_would_accept(schemas):
    password = derive_password("key", "redis", "shop")
    assert check(schemas, {"redis": {"instances": {"shop": {"password": password}}}}) == []


def test_a_password_is_the_pillars_or_this_hosts_own(on_a_host):
    assert on_a_host.password(REDIS, "shop") == "p/w@:#?%"
    assert on_a_host.password(POSTGRES, "shop") == derive_password("key", "postgres", "shop")


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_host_without_a_key_makes_no_password(on_a_host, tmp_path, content):
    (tmp_path / "host.key").unlink()
    if content is not None:
        (tmp_path / "host.key").write_text(content)
    with pytest.raises(CommandExecutionError, match=r"host\.key: missing; expected this host's key"):
        on_a_host.password(POSTGRES, "shop")


def test_a_command_is_run_without_a_shell_and_without_a_word_in_the_log():
    ran = []
    salt = {"cmd.run_stdout": lambda command, **options: ran.append((command, options)) or "said"}
    assert Host.of(salt, {}, {}).run(["journalctl", "--sync"]) == "said"
    options = {"python_shell": False, "ignore_retcode": True, "output_loglevel": "quiet"}
    assert ran == [(["journalctl", "--sync"], options)]


def test_what_no_app_of_the_host_has_is_told_by_its_name(on_a_host):
    for ask, what in (
        (lambda: on_a_host.attach("nosuch"), "app of this host has this name"),
        (lambda: on_a_host.login(POSTGRES, "nosuch"), "database that an app attaches has this name"),
        (lambda: on_a_host.password(REDIS, "nosuch"), "Redis instance that an app attaches has this name"),
    ):
        with pytest.raises(CommandExecutionError) as refused:
            ask()
        assert str(refused.value) == f"nosuch: no {what}; expected one of shop"
