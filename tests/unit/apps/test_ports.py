"""The ports of an app's processes that listen."""

import pytest

from saltern import apps

PLACES = {
    "web alone": ({"web": 2, "worker": 1}, [], {"web.1": 1, "web.2": 2}),
    "one more type": ({"web": 1, "asgi": 2, "worker": 1}, ["asgi"], {"web.1": 1, "asgi.1": 39, "asgi.2": 38}),
    "two more types": (
        {"web": 1, "asgi": 2, "flower": 2},
        ["asgi", "flower"],
        {"web.1": 1, "asgi.1": 39, "asgi.2": 37, "flower.1": 38, "flower.2": 36},
    ),
}


@pytest.mark.parametrize("formation, others, expected", PLACES.values(), ids=PLACES)
def test_each_process_that_listens_has_a_place(formation, others, expected):
    assert apps.places(formation, others) == expected


def test_a_place_stays_where_the_formation_changes():
    small, large = ({"web": n, "asgi": n, "flower": n} for n in (2, 9))
    before, after = (apps.places(formation, ["flower", "asgi"]) for formation in (small, large))
    assert before == {name: after[name] for name in before}


def app(formation, *others):
    routes = {f"/{kind}/": {"process": kind} for kind in others}
    return {"port": 8000, "formation": formation, "site": {"routes": routes}}


CROWDED = {
    "web alone": (app({"web": 49}), {}, []),
    "as many as there are": (app({"web": 19, "asgi": 20}, "asgi"), {}, []),
    "one too many": (
        app({"web": 20, "asgi": 20}, "asgi"),
        {},
        [
            "app.shop.formation: there are 39 ports for the processes that listen (web, asgi), which take them in "
            "turn; expected fewer processes"
        ],
    ),
    "many of one type": (
        app({"web": 1, "asgi": 40}, "asgi"),
        {},
        [
            "app.shop.formation: there are 39 ports for the processes that listen (web, asgi), which take them in "
            "turn; expected fewer processes"
        ],
    ),
    "web meets a service": (
        app({"web": 40}),
        {8089: "memcached shop"},
        ["app.shop.formation.web: 40 processes need the port 8089, which memcached shop has; expected at most 39"],
    ),
    "another type meets a service": (
        app({"web": 1, "asgi": 1}, "asgi"),
        {8088: "redis jobs"},
        [
            "app.shop.formation.asgi: 1 processes need the port 8088, which redis jobs has; expected fewer, or another "
            "app.shop.port"
        ],
    ),
}


@pytest.mark.parametrize("one, taken, told", CROWDED.values(), ids=CROWDED)
def test_a_formation_that_has_no_room_is_told(one, taken, told):
    assert apps.crowded({"shop": one}, taken) == told
