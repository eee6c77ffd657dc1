"""supervisor's configuration of the processes."""

import configparser

import pytest

from saltern.releases import process
from saltern.services import redis


def supervisors_parser(text):
    """Read a file as supervisor's parser does: without interpolation, and with comments after values cut off."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=True)
    parser.read_string(text)
    return parser


FORMATIONS = {
    "nothing": ({}, 0, {}),
    "none of a type": ({"web": 0, "worker": 0}, 0, {}),
    "the first slot": (
        {"worker": 2, "web": 2},
        0,
        {"web.1": 8101, "web.2": 8102, "worker.1": None, "worker.2": None},
    ),
    "the second slot": ({"web": 2}, 1, {"web.1": 8150, "web.2": 8151}),
}


def test_a_type_that_a_route_names_has_ports_of_its_own_in_each_slot():
    formation = {"web": 1, "asgi": 1, "beat": 1}
    slots = [process.ports(formation, 8100, slot, {"beat"}, ["asgi"]) for slot in (0, 1)]
    assert slots == [
        {"asgi.1": 8139, "beat.1": process.ALONE, "web.1": 8101},
        {"asgi.1": 8188, "beat.1": process.ALONE, "web.1": 8150},
    ]


@pytest.mark.parametrize("formation, slot, expected", FORMATIONS.values(), ids=FORMATIONS)
def test_web_processes_have_a_port_each(formation, slot, expected):
    assert process.ports(formation, 8100, slot) == expected


def test_two_full_releases_and_redis_stay_inside_the_hundred_ports_of_an_app(schemas):
    (one,) = schemas["app"]["patternProperties"].values()
    (kind,) = one["properties"]["formation"]["patternProperties"].values()
    full = {"web": kind["maximum"]}
    used = [*process.ports(full, 8100, 0).values(), *process.ports(full, 8100, 1).values()]
    used += [8100, 8100 + redis.OFFSET]
    assert sorted(used) == sorted(set(used))
    assert min(used) == 8100
    assert max(used) < 8200


PORTS = {"web.1": 8101, "web.2": 8102, "worker.1": None, "send_mail-now.1": None}


def test_what_is_rendered_reads_back_as_it_was_meant():
    text = process.rendered("my-shop", 12, PORTS, {"worker": 90})
    parser = supervisors_parser(text)
    assert parser.sections() == [f"program:my-shop.v12.{name}" for name in sorted(PORTS)]
    web = dict(parser["program:my-shop.v12.web.1"])
    assert web == {
        "command": "/usr/local/lib/saltern/process my-shop 12 web.1 8101",
        "autostart": "true",
        "autorestart": "true",
        "startsecs": "1",
        "startretries": "1000",
        "stopsignal": "TERM",
        "stopwaitsecs": "35",
        "killasgroup": "true",
        "stdout_logfile": "NONE",
        "stderr_logfile": "NONE",
    }
    worker = parser["program:my-shop.v12.worker.1"]
    assert worker["command"] == "/usr/local/lib/saltern/process my-shop 12 worker.1"
    assert worker["stopwaitsecs"] == "95"
    assert "%" not in text


def test_a_process_that_is_alone_is_said_to_be_so_where_others_have_a_port():
    ports = process.ports({"web": 1, "beat": 1, "worker": 1}, 8000, 0, {"beat"})
    assert ports == {"beat.1": process.ALONE, "web.1": 8001, "worker.1": None}
    text = process.rendered("shop", 3, ports, {})
    parser = supervisors_parser(text)
    commands = [parser[f"program:shop.v3.{name}.1"]["command"].split()[1:] for name in ("beat", "web", "worker")]
    assert commands == [["shop", "3", "beat.1", "alone"], ["shop", "3", "web.1", "8001"], ["shop", "3", "worker.1"]]
    assert process.parse({name: dict(parser[name]) for name in parser.sections()}, "shop", 3) == ports


def test_what_is_not_started_any_more_can_be_started_again():
    text = process.rendered("shop", 3, PORTS, {})
    told = process.without_start(text, ["shop.v3.worker.1", "shop.v3.web.2"])
    assert told.count("autostart=false\nautorestart=false\n") == 2
    assert process.without_start(told, ["shop.v3.worker.1"]) == told
    assert process.with_start(told) == process.with_start(text) == text


def test_a_release_without_processes_is_a_file_without_sections():
    assert supervisors_parser(process.rendered("shop", 1, {}, {})).sections() == []


@pytest.fixture
def configuration(monkeypatch, tmp_path):
    """A directory that stands in for supervisor's own."""
    monkeypatch.setattr(process, "CONFIG", str(tmp_path))
    return tmp_path


def test_what_supervisor_is_to_run_is_read_back(configuration):
    (configuration / "shop.v3.conf").write_text(process.rendered("shop", 3, PORTS, {}))
    assert process.configured("shop", 3) == PORTS
    assert process.configured("shop", 4) == {}


def test_what_was_told_to_end_is_read_back(configuration):
    text = process.rendered("shop", 3, PORTS, {})
    (configuration / "shop.v3.conf").write_text(process.without_start(text, ["shop.v3.worker.1", "shop.v3.web.2"]))
    assert process.ended("shop", 3) == {"worker.1", "web.2"}
    assert process.configured("shop", 3) == PORTS
    # Also of a file from before it had the line.
    (configuration / "shop.v3.conf").write_text(text.replace("autostart=true\n", ""))
    assert process.ended("shop", 3) == set()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no section\n",
        b"\xff\xfe",
        b"[program:shop.v3.web.1]\n",
        b"[program:shop.v3.web.1]\ncommand=/bin/sh -c evil\n",
        b"[program:x]\ncommand=/usr/local/lib/saltern/process other 3 web.1 8101\n",
        b"[program:x]\ncommand=/usr/local/lib/saltern/process shop 4 web.1 8101\n",
        b"[program:x]\ncommand=/usr/local/lib/saltern/process shop 3\n",
        b"[program:x]\ncommand=/usr/local/lib/saltern/process shop 3 web.1 8101 more\n",
    ],
)
def test_a_file_that_was_edited_runs_nothing_of_the_release(configuration, content):
    (configuration / "shop.v3.conf").write_bytes(content)
    assert process.configured("shop", 3) == {}


def test_releases_are_known_by_their_files(configuration):
    for name in ("shop.v10.conf", "shop.v9.conf", "my-shop.v1.conf", "shop.v1.conf.new", "other.conf", "shop.vx.conf"):
        (configuration / name).write_text("")
    assert process.releases() == [("my-shop", 1), ("shop", 9), ("shop", 10)]
    assert process.releases("shop") == [("shop", 9), ("shop", 10)]


@pytest.mark.parametrize(
    "graces, expected",
    [({}, 30), ({"shop": {"web": 5}}, 30), ({"shop": {"worker": 60}, "faq": {"worker": 120, "web": 10}}, 120)],
)
def test_the_longest_grace_is_that_of_all_apps_and_the_default(process_module, dunders, graces, expected):
    apps = {app: {"grace": grace} for app, grace in graces.items()}
    assert process.longest_grace(apps) == expected
    dunders(process_module, pillar={"app": apps}, salt={}, opts={})
    assert process_module.longest_grace() == expected
