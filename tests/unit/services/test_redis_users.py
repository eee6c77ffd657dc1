"""The users of a Redis instance, by what Redis knows their passwords."""

from saltern import services
from saltern.host import OPERATOR
from saltern.services import redis_users

POSTGRES, REDIS = services.formulas()["postgres"], services.formulas()["redis"]


def test_a_digest_is_of_the_apps_password_or_of_the_hosts_own(on_a_host):
    ((login, user),) = redis_users.declared(REDIS, on_a_host, "shop").items()
    # Worked out with `printf 'p/w@:#?%%' | sha256sum`.
    assert user.digest == "0a7f65b8e1c28a2c49d4eccc26201b5cdd5a0f92e9cfc720a2e209544a562c98"
    assert login == on_a_host.login(REDIS, "shop")
    own = on_a_host.own_password(OPERATOR, "shop")
    assert own not in (on_a_host.password(REDIS, "shop"), on_a_host.password(POSTGRES, "shop"))
    text = redis_users.written(on_a_host, "shop", "shop", {login: user}, {})
    assert f"user operator on #{redis_users.digest(own)} " in text
