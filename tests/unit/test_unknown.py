"""Functions that an operator calls with an unknown name, or with a mistake in the pillar: each says so in one line."""

import pytest
from salt.exceptions import CommandExecutionError

APP = "nosuch: no app of this host has this name; expected one of shop"
KIND = (
    "nosuch: no data is kept by this name; expected one of app, extension, mail, memcached, package, postgres, "
    "rabbitmq, redis, storage"
)


@pytest.mark.parametrize(
    "module, function, arguments, told",
    [
        ("process", "info", ["nosuch"], APP),
        ("process", "pids", ["nosuch", 1, "web.1"], APP),
        ("site_certificate", "path", ["nosuch"], APP),
        ("site_certificate", "source", ["nosuch"], APP),
        ("kept", "of", ["nosuch", "shop"], KIND),
        ("kept", "list_", ["nosuch"], KIND),
        (
            "journal",
            "stream",
            ["shop", "first", "web.1", "0"],
            "first, 0: expected a release's number such as 12, and seconds since 1970",
        ),
    ],
)
def test_a_name_that_the_host_does_not_have_is_told(request, dunders, module, function, arguments, told):
    loaded = request.getfixturevalue(f"{module}_module")
    dunders(loaded, pillar={"app": {"shop": {}}}, salt={}, opts={})
    with pytest.raises(CommandExecutionError) as refused:
        getattr(loaded, function)(*arguments)
    assert str(refused.value) == told


@pytest.mark.parametrize(
    "module, function, arguments",
    [
        ("app_limits", "shown", ["shop"]),
        ("attachment", "units", []),
        ("certificate_module", "authorities", []),
        ("certificate_module", "expiring", []),
        ("notes", "of_host", []),
        ("process_module", "info", ["shop"]),
        ("process_module", "longest_grace", []),
        ("site_certificate_module", "by_acme", []),
        ("site_certificate_module", "path", ["shop"]),
        ("site_certificate_module", "source", ["shop"]),
    ],
)
def test_a_mistake_in_the_pillar_is_told(request, dunders, module, function, arguments):
    loaded = request.getfixturevalue(module)
    dunders(loaded, pillar={"_errors": ["ngnix: unknown setting"]}, salt={}, opts={"id": "one"})
    with pytest.raises(CommandExecutionError, match=r"^ngnix: unknown setting$"):
        getattr(loaded, function)(*arguments)
