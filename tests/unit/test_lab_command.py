"""The lab's commands say which environment they are for."""

import types

import pytest

from lab import __main__ as command
from lab.lab import RUN, Lab
from lab.podman import LabError

OPTIONS = {"host": None, "run": None, "images": False}


@pytest.fixture
def labs(monkeypatch):
    """A function that says which environments have a host that is up; none may be removed."""

    def up(*names):
        monkeypatch.setattr(Lab, "hosts", lambda lab: ["a host"] if lab.environment in names else [])

    monkeypatch.setattr(Lab, "host", lambda lab, host_id: None)
    monkeypatch.setattr(Lab, "remove", lambda lab: [])
    return up


def options(environment):
    return types.SimpleNamespace(environment=environment, **OPTIONS)


NONE_UP = {
    ("dev",): "no host of dev is up; run make up first",
    ("production",): "no host of production is up; run make up ENV=production first",
    ("dev", "production"): "no host of dev is up; run make up first, or give ENV=production, whose hosts are up",
}


@pytest.mark.parametrize("names", NONE_UP)
def test_where_no_host_is_up_the_environment_is_named_and_the_others_that_are(labs, capsys, names):
    labs(*names[1:])
    with pytest.raises(LabError) as refused:
        command.live(options(names[0]))
    assert str(refused.value) == NONE_UP[names]
    command.status(options(names[0]))
    assert capsys.readouterr().out == f"{NONE_UP[names]}\n"


def test_a_lab_that_is_not_there_is_not_removed_in_silence(labs, capsys):
    labs("staging", "production")
    command.down(options("dev"))
    up = "production's are up: make down ENV=production; staging's are up: make down ENV=staging"
    assert capsys.readouterr().out == f"nothing of dev to remove; {up}\n"
    labs("dev")
    command.down(options("staging"))
    assert capsys.readouterr().out == "nothing of staging to remove; dev's are up: make down\n"


def test_what_a_test_run_made_is_of_no_environment(labs, capsys, monkeypatch):
    labs("dev")
    of_runs = {"first": ["saltern-first"], "second": []}
    monkeypatch.setattr(command, "remove_labelled", lambda labels: of_runs[labels[RUN]])
    for run, told in (("first", "removed saltern-first"), ("second", "nothing of second to remove")):
        command.down(types.SimpleNamespace(**vars(options("staging")) | {"run": run}))
        assert capsys.readouterr().out == f"{told}\n"


def test_a_host_of_another_environment_is_refused_by_name(labs):
    asked = types.SimpleNamespace(**vars(options("production")) | {"host": "dev"})
    with pytest.raises(LabError) as refused:
        command.down(asked)
    listed = "make status ENV=production lists the hosts that are"
    assert str(refused.value) == f"HOST: 'dev' is not in the lab of production; {listed}"
